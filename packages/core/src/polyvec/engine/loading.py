"""What it takes to load a checkpoint here, and to load the same again in another process."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self, TypedDict, get_args

import torch

from polyvec.engine.encoding import Engine
from polyvec.model.adapter_files import UserAdapter
from polyvec.model.checkpoint import Checkpoint, CheckpointError, locate
from polyvec.model.processing import ImageBackend, Processor
from polyvec.model.replica import Replica

logger = logging.getLogger(__name__)

_LICENSE_NOTICE = (
    "The weights of %s come under the Qwen Research License: research and evaluation, no commercial use without a "
    "separate licence from the Qwen team. polyvec's own code is Apache-2.0."
)
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_noticed: set[str] = set()

Device = str | torch.device
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class LoadOptions(TypedDict, total=False):
    """How a checkpoint is loaded."""

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
    """`"pil"`, or `"torchvision"` for exactly the pixels that transformers' torchvision processor, the reference's,
    makes on a CPU. It needs no torchvision: the kernel is torch's. Do not mix the two in one index."""
    token_budget: int | None
    """Tokens per forward pass, of texts and images alike. The default suits most machines; memory grows with it."""
    vector_cache: str | Path | None
    """An SQLite file that keeps vectors between calls and processes; see `polyvec.encoders.cached`. Made if missing."""
    cache_dir: str | Path | None
    """Where the hub's files are kept."""
    local_files_only: bool
    """Never ask the hub."""
    token: str | None
    """Access token for the hub."""


@dataclass(frozen=True, slots=True)
class Setup:
    """A checkpoint and how it is to run, checked, and small enough to be sent anywhere. It holds no access token."""

    model: str
    options: LoadOptions
    weights: str | None = None  # the checkpoint's fingerprint, where it has been opened before

    @classmethod
    def of(cls, model: object, options: LoadOptions) -> Self:
        """Check what a user asks for.

        Raises:
            TypeError: `model` is no name, or there is no such option.
            ValueError: no device or none that is here, an unknown dtype or backend, no whole number of tokens.
        """
        if not isinstance(model, str | Path):
            raise TypeError(f"`model` is a {type(model).__name__}; give 'demo', a directory or a hub id.")
        if unknown := sorted(options.keys() - LoadOptions.__annotations__.keys()):
            raise TypeError(f"there is no option {unknown[0]!r}; it may be {', '.join(LoadOptions.__annotations__)}.")
        checked = LoadOptions(
            **{
                name: value
                for name, value in options.items()
                if value is not None or name in ("dtype", "image_backend")
            }
        )  # type: ignore[typeddict-item]  # its own items
        checked.pop("token", None)
        for name in ("vector_cache", "cache_dir"):
            if name in checked:
                checked[name] = str(Path(checked[name]).absolute())
        if "device" in checked:
            device = checked["device"]
            devices = [*device] if isinstance(device, list | tuple) else [device]
            if not devices:
                raise ValueError("`device` is an empty list; name at least one device.")
            checked["device"] = [checked_device(place) for place in devices]
        checked["dtype"] = _checked_dtype(checked.get("dtype", "auto"))
        backends = get_args(ImageBackend)
        if checked.setdefault("image_backend", "pil") not in backends:
            allowed = " or ".join(map(repr, backends))
            raise ValueError(f"`image_backend` is {checked['image_backend']!r}; it may be {allowed}.")
        budget = checked.get("token_budget")
        if budget is not None and (type(budget) is not int or budget < 1):
            raise ValueError(f"`token_budget` is {budget!r}; it is a whole number of tokens, at least 1.")
        path = Path(model)
        return cls(str(path.absolute()) if str(model) != "demo" and path.is_dir() else str(model), checked)

    @property
    def devices(self) -> list[str]:
        """Names of the devices to run on."""
        return list(self.options.get("device") or [str(best_device())])  # type: ignore[arg-type]  # checked: a list

    def checkpoint(self, token: str | None = None) -> Checkpoint:
        """The files, downloaded where they are not here.

        Raises:
            polyvec.CheckpointError: there is no such checkpoint, or it is not the one that was opened before.
        """
        path = locate(
            self.model,
            revision=self.options.get("revision"),
            cache_dir=self.options.get("cache_dir"),
            local_files_only=self.options.get("local_files_only", False),
            token=token,
        )
        checkpoint = Checkpoint(path)
        if self.weights is not None:
            if checkpoint.fingerprint() != self.weights:
                raise CheckpointError(f"{path} has changed since the embedder was made; make another.")
        elif checkpoint.config.license is None and self.model not in _noticed:
            _noticed.add(self.model)
            logger.warning(_LICENSE_NOTICE, self.model)
        return checkpoint

    def processor(self, checkpoint: Checkpoint) -> Processor:
        """The checkpoint's tokenizer and image rules."""
        return Processor(checkpoint.path, checkpoint.config, image_backend=self.options["image_backend"])

    def engine(self, device: str, adapters: Sequence[UserAdapter] = ()) -> Engine:
        """The checkpoint and user adapters on a device; weights that are loaded there already are shared."""
        checkpoint = self.checkpoint()
        engine = self.engine_of(checkpoint, self.processor(checkpoint), torch.device(device))
        engine.use(adapters)
        return engine

    def engine_of(self, checkpoint: Checkpoint, processor: Processor, device: torch.device) -> Engine:
        """As `engine`, from files that are open already."""
        return Engine(Replica.shared(checkpoint, device, self.dtype_on(device)), processor, self.budget_on(device))

    def pinned(self, checkpoint: Checkpoint, device: torch.device) -> Self:
        """The same for other processes, which are to load these very files, in the dtype of this device."""
        options = LoadOptions(**self.options)
        options["dtype"] = self.dtype_on(device)
        return replace(self, model=str(checkpoint.path), options=options, weights=checkpoint.fingerprint())

    def budget_on(self, device: torch.device) -> int:
        """On a CPU small batches keep activations in the cache: 512 encodes faster than 4096, in half the memory."""
        return self.options.get("token_budget") or (512 if device.type == "cpu" else 16_384)

    def dtype_on(self, device: torch.device) -> torch.dtype:
        """`"auto"` is bfloat16 where the device computes it natively, else float32."""
        dtype = self.options["dtype"]
        if isinstance(dtype, torch.dtype):
            return dtype
        return torch.bfloat16 if _computes_bfloat16(device) else torch.float32


def _checked_dtype(dtype: object) -> torch.dtype | Literal["auto"]:
    if dtype == "auto" or dtype in _DTYPES.values():
        return dtype  # type: ignore[return-value]  # it is one of these
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"`dtype` is {dtype!r}; it may be 'auto', {', '.join(map(repr, _DTYPES))}, or torch's own.")
    return _DTYPES[dtype]


def best_device() -> torch.device:
    """The first accelerator, else the CPU."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator if accelerator is not None else torch.device("cpu")


def checked_device(device: object) -> str:
    """The name of a device that is there.

    Raises:
        ValueError: torch knows no such device, or has none here.
    """
    try:
        if not isinstance(device, str | torch.device):
            raise TypeError(f"it is a {type(device).__name__}")  # noqa: TRY301 — one message for all
        place = torch.device(device)
        if place.type == "meta":
            raise TypeError("it holds no numbers")  # noqa: TRY301
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"`device` is {device!r}, which cannot be used here ({reason}); it is 'cpu', 'cuda', 'cuda:1', 'mps' or "
            "another that torch has, or a list of such."
        ) from error
    return str(place)


def _computes_bfloat16(device: torch.device) -> bool:
    """Natively, not by emulation. On a CPU False also where torch is too old to tell."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return True
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(has) for name, has in capabilities.items() if name.endswith("bf16"))
