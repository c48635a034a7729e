"""What it takes to load a checkpoint here, and to load the same again in another process."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch

from polyvec.encoding import Engine
from polyvec.model.adapter_files import AdapterFile, read_adapter
from polyvec.model.checkpoint import Checkpoint, CheckpointError, locate
from polyvec.model.processing import ImageBackend, Processor
from polyvec.model.replica import Replica
from polyvec.types import Task

logger = logging.getLogger(__name__)

_LICENSE_NOTICE = (
    "The weights of %s come under the Qwen Research License: research and evaluation, no commercial use without a "
    "separate licence from the Qwen team. polyvec's own code is Apache-2.0."
)
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_noticed: set[str] = set()


@dataclass(frozen=True, slots=True)
class UserAdapter:
    """An adapter that a user loaded: where it is, and whose prefixes its texts carry."""

    path: Path
    task: str
    adapter: str | None
    base_task: Task
    digest: str

    @property
    def name(self) -> str:
        """What PEFT knows it by: embedders that share a network may use one task name for two adapters."""
        return f"user_{self.digest}"

    def read(self) -> AdapterFile:
        """The adapter from its files.

        Raises:
            polyvec.CheckpointError: it is not what it was when it was loaded first.
        """
        file = read_adapter(self.path, task=self.task, adapter=self.adapter)
        if file.digest != self.digest:
            raise CheckpointError(
                f"{self.path} holds another adapter than when it was loaded for {self.task!r}: its digest is "
                f"{file.digest}, not {self.digest}. Load what is there now as an adapter of its own."
            )
        return file


@dataclass(frozen=True, slots=True)
class Setup:
    """A checkpoint and how it is to run, small enough to be sent anywhere. An access token is not part of it."""

    model: str
    revision: str | None
    cache_dir: str | None
    local_files_only: bool
    dtype: torch.dtype | Literal["auto"]
    image_backend: ImageBackend
    token_budget: int | None
    adapters: tuple[UserAdapter, ...] = ()
    weights: str | None = None  # the checkpoint's fingerprint, where it has been opened before

    def __post_init__(self) -> None:
        backends = get_args(ImageBackend)
        if self.image_backend not in backends:
            raise ValueError(
                f"`image_backend` is {self.image_backend!r}; it may be {' or '.join(map(repr, backends))}."
            )
        if self.dtype != "auto" and self.dtype not in _DTYPES:
            known = ", ".join(map(str, _DTYPES))
            raise ValueError(f"`dtype` is {self.dtype!r}; it may be 'auto', {known}.")
        if self.token_budget is not None and (type(self.token_budget) is not int or self.token_budget < 1):
            raise ValueError(f"`token_budget` is {self.token_budget!r}; it is a whole number of tokens, at least 1.")

    def checkpoint(self, token: str | None = None) -> Checkpoint:
        """The files, downloaded where they are not here.

        Raises:
            polyvec.CheckpointError: there is no such checkpoint, or it is not the one that was opened before.
        """
        path = locate(
            self.model,
            revision=self.revision,
            cache_dir=self.cache_dir,
            local_files_only=self.local_files_only,
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
        return Processor(checkpoint.path, checkpoint.config, image_backend=self.image_backend)

    def engine(self, device: str) -> Engine:
        """The checkpoint on a device, adapters included; weights that are loaded there already are shared."""
        checkpoint = self.checkpoint()
        return self.engine_of(checkpoint, self.processor(checkpoint), torch.device(device))

    def engine_of(self, checkpoint: Checkpoint, processor: Processor, device: torch.device) -> Engine:
        """As `engine`, from files that are open already."""
        engine = Engine(Replica.shared(checkpoint, device, self.dtype_on(device)), processor, self.budget_on(device))
        for adapter in self.adapters:
            engine.replica.add_adapter(adapter.name, adapter.read(), engine)
        return engine

    def pinned(self, checkpoint: Checkpoint, device: torch.device) -> "Setup":
        """The same for other processes, which are to load these very files, in the dtype of this device."""
        return replace(self, model=str(checkpoint.path), dtype=self.dtype_on(device), weights=checkpoint.fingerprint())

    def budget_on(self, device: torch.device) -> int:
        """On a CPU small batches keep activations in the cache: 512 encodes faster than 4096, in half the memory."""
        return self.token_budget or (512 if device.type == "cpu" else 16_384)

    def dtype_on(self, device: torch.device) -> torch.dtype:
        """`"auto"` is bfloat16 where the device computes it natively, else float32."""
        if self.dtype != "auto":
            return self.dtype
        return torch.bfloat16 if _computes_bfloat16(device) else torch.float32


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
