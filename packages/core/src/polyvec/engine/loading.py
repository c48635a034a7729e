"""Load options, and loading the same checkpoint in this process and in others."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self, TypedDict, get_args

import torch

from polyvec.encoders.cached import VectorCache
from polyvec.engine.encoding import Engine
from polyvec.model.adapter_files import UserAdapter
from polyvec.model.ambient import computes_bfloat16
from polyvec.model.checkpoint import Checkpoint, CheckpointError, locate
from polyvec.model.processing import ImageBackend, Processor
from polyvec.model.replica import Replica
from polyvec.types import Dtype

logger = logging.getLogger(__name__)

_LICENSE_NOTICE = (
    "The weights of %s come under the Qwen Research License: research and evaluation, no commercial use without a "
    "separate licence from the Qwen team. polyvec's own code is Apache-2.0."
)
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_license_shown: set[str] = set()

Device = str | torch.device


class LoadOptions(TypedDict, total=False):
    """Options of `Embedder.from_pretrained`."""

    revision: str | None
    """Branch, tag or commit on the hub, for base weights and adapters alike."""
    device: Device | Sequence[Device] | None
    """By default the first accelerator, else the CPU. A list spreads each call over one process per entry,
    `["cuda:0", "cuda:1"]` or `["cpu", "cpu"]`; such a script needs `if __name__ == "__main__":`."""
    dtype: torch.dtype | Dtype
    """`"auto"` is bfloat16 where the device computes it natively, else float32."""
    max_pixels: int | None
    """Largest area in pixels at which an image is encoded; by default the checkpoint's own limit."""
    image_backend: ImageBackend
    """`"pil"`, or `"torchvision"` for exactly the pixels of transformers' torchvision processor on a CPU, which the
    reference uses. torchvision need not be installed. Do not mix the two in one index."""
    token_budget: int | None
    """Tokens per forward pass, of texts and images alike. The default suits most machines; memory grows with it."""
    vector_cache: str | Path | VectorCache | None
    """An SQLite file that keeps vectors between calls and processes, or a `polyvec.encoders.cached.VectorCache`, which
    also has a size limit, statistics and `clear`. The file is made if missing."""
    cache_dir: str | Path | None
    """Directory for the hub's files."""
    local_files_only: bool
    """Never contact the hub."""
    token: str | None
    """Access token for the hub."""


@dataclass(frozen=True, slots=True)
class Setup:
    """A checkpoint and its checked load options. It is small, pickles, and holds no access token."""

    model: str
    options: LoadOptions
    weights: str | None = None  # fingerprint of the checkpoint, if it was opened before

    @classmethod
    def of(cls, model: object, options: LoadOptions) -> Self:
        """Check the model and the options of a user.

        Raises:
            TypeError: `model` is neither text nor path, or an option is unknown.
            ValueError: a `revision` of a directory, no device or an unusable device, an unknown dtype or backend, an
                invalid token budget.
        """
        if not isinstance(model, str | Path):
            raise TypeError(f"`model` is a {type(model).__name__}; give 'demo', a directory or a hub id.")
        if unknown := sorted(options.keys() - LoadOptions.__annotations__.keys()):
            raise TypeError(f"there is no option {unknown[0]!r}; it may be {', '.join(LoadOptions.__annotations__)}.")
        unset = {name for name, value in options.items() if value is None and name not in ("dtype", "image_backend")}
        valid: LoadOptions = {name: value for name, value in options.items() if name not in unset}  # type: ignore[assignment]  # its items
        valid.pop("token", None)
        cache = valid.get("vector_cache")
        if isinstance(cache, str | Path):
            valid["vector_cache"] = str(Path(cache).absolute())
        if "device" in valid:
            device = valid["device"]
            devices = [*device] if isinstance(device, list | tuple) else [device]
            if not devices:
                raise ValueError("`device` is an empty list; name at least one device.")
            valid["device"] = [checked_device(device) for device in devices]
        valid["dtype"] = _checked_dtype(valid.get("dtype", "auto"))
        backends = get_args(ImageBackend)
        if valid.setdefault("image_backend", "pil") not in backends:
            allowed = " or ".join(map(repr, backends))
            raise ValueError(f"`image_backend` is {valid['image_backend']!r}; it may be {allowed}.")
        budget = valid.get("token_budget")
        if budget is not None and (type(budget) is not int or budget < 1):
            raise ValueError(f"`token_budget` is {budget!r}; it is a whole number of tokens, at least 1.")
        path = Path(model)
        is_folder = isinstance(model, Path) or (model not in ("demo", "") and path.is_dir())
        if "revision" in valid and (is_folder or model == "demo"):
            raise ValueError(
                f"`revision` is {valid['revision']!r}, but `model` is {str(model)!r}, whose files are here; only a "
                "hub id has revisions."
            )
        return cls(str(path.absolute() if is_folder else model), valid)

    @property
    def devices(self) -> list[str]:
        """Names of the devices to run on; by default the first accelerator, else the CPU."""
        if devices := self.options.get("device"):
            return list(devices)  # type: ignore[arg-type]  # checked: a list
        return [str(torch.accelerator.current_accelerator(check_available=True) or "cpu")]

    def checkpoint(self, token: str | None = None) -> Checkpoint:
        """Open the checkpoint, after downloading its files if they are missing.

        Raises:
            polyvec.CheckpointError: there is no such checkpoint, or it has changed since it was opened before.
        """
        path = locate(
            self.model,
            revision=self.options.get("revision"),
            cache_dir=None if (folder := self.options.get("cache_dir")) is None else str(folder),
            local_files_only=self.options.get("local_files_only", False),
            token=token,
        )
        checkpoint = Checkpoint(path)
        if self.weights is not None:
            if checkpoint.fingerprint() != self.weights:
                raise CheckpointError(f"{path} has changed since the embedder was made; load it again.")
        elif checkpoint.config.license is None and self.model not in _license_shown:
            _license_shown.add(self.model)
            logger.warning(_LICENSE_NOTICE, self.model)
        return checkpoint

    def processor(self, checkpoint: Checkpoint) -> Processor:
        """Load the checkpoint's tokenizer and image rules."""
        return Processor(checkpoint.path, checkpoint.config, image_backend=self.options["image_backend"])

    def engine(self, device: str, adapters: Sequence[UserAdapter] = ()) -> Engine:
        """Load the checkpoint and user adapters on a device; weights that are already loaded there are shared."""
        checkpoint = self.checkpoint()
        engine = self.engine_of(checkpoint, self.processor(checkpoint), torch.device(device))
        engine.use(adapters)
        return engine

    def engine_of(self, checkpoint: Checkpoint, processor: Processor, device: torch.device) -> Engine:
        """Make an engine of a checkpoint that is open."""
        return Engine(Replica.shared(checkpoint, device, self.dtype_on(device)), processor, self.budget_on(device))

    def pinned(self, checkpoint: Checkpoint, device: torch.device) -> Self:
        """Return a setup for other processes to load the same files, in the dtype of this device."""
        options = self.options.copy()
        options["dtype"] = self.dtype_on(device)
        options.pop("vector_cache", None)
        return replace(self, model=str(checkpoint.path), options=options, weights=checkpoint.fingerprint())

    def budget_on(self, device: torch.device) -> int:
        """Return the tokens per forward pass. On a CPU, 512 encode faster than 4096, in half the memory."""
        return self.options.get("token_budget") or (512 if device.type == "cpu" else 16_384)

    def dtype_on(self, device: torch.device) -> torch.dtype:
        """Return the dtype; `"auto"` is bfloat16 where the device computes it natively, else float32."""
        dtype = self.options["dtype"]
        if isinstance(dtype, torch.dtype):
            return dtype
        return torch.bfloat16 if computes_bfloat16(device) else torch.float32


def _checked_dtype(dtype: object) -> torch.dtype | Literal["auto"]:
    if dtype == "auto" or dtype in _DTYPES.values():
        return dtype  # type: ignore[return-value]  # it is one of these
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"`dtype` is {dtype!r}; it may be 'auto', {', '.join(map(repr, _DTYPES))}, or torch's own.")
    return _DTYPES[dtype]


def checked_device(device: object) -> str:
    """Check that a device can be used, and return its name.

    Raises:
        ValueError: torch cannot use the device here.
    """
    try:
        if not isinstance(device, str | torch.device):
            raise TypeError(f"it is a {type(device).__name__}")  # noqa: TRY301 — one message for all
        resolved = torch.device(device)
        if resolved.type == "meta":
            raise TypeError("it holds no numbers")  # noqa: TRY301
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"`device` is {device!r}, which cannot be used here ({reason}); it may be 'cpu', 'cuda', 'cuda:1', "
            "'mps' or another device of torch, or a list of devices."
        ) from error
    return str(resolved)
