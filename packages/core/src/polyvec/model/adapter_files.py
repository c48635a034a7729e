"""LoRA adapters that users trained: a stock PEFT directory, or the layout of jinaai/jina-embeddings-v4."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from polyvec.model.checkpoint import CheckpointError
from polyvec.model.config import read_lora
from polyvec.types import Task

_KEY = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(?:\.(?P<adapter>[^.]+))?\.weight")


@dataclass(frozen=True, slots=True, eq=False)
class AdapterFile:
    """One adapter, read.

    Attributes:
        path: the directory it came from.
        config: how PEFT is to build it, for exactly the modules it has tensors for.
        tensors: `{module}.lora_A` and `{module}.lora_B`, under the network's own names.
        digest: sixteen hexadecimal digits that differ when the adapter differs.
    """

    path: Path
    config: LoraConfig
    tensors: Mapping[str, Tensor] = field(repr=False)
    digest: str

    @property
    def modules(self) -> set[str]:
        """The network's modules that are adapted."""
        return {key.rpartition(".")[0] for key in self.tensors}


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


def read_adapter(path: str | Path, *, task: str, adapter: str | None = None) -> AdapterFile:
    """Read an adapter for `task`.

    Args:
        path: a directory with `adapter_config.json` and `adapter_model.safetensors`, or a checkpoint's directory,
            which has those two under `adapters/`.
        task: the name it will be known by; where the file holds several adapters, the one called so is taken.
        adapter: which one to take, where the file holds several.

    Raises:
        CheckpointError: no adapter is there, it is none that can be read, or its weights are not finite.
    """
    folder = Path(path)
    if (folder / "adapters" / "adapter_config.json").is_file():
        folder /= "adapters"
    try:
        config = read_lora(folder)
        raw = load_file(folder / "adapter_model.safetensors")
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder / 'adapter_model.safetensors'} is missing. Only safetensors are read; pickled weights are never "
            "opened."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError, OSError) as error:
        raise CheckpointError(f"{folder} holds no LoRA adapter that can be read: {error}") from error
    tensors = _chosen(raw, folder, adapter or task, named=adapter is not None)
    broken = sorted(key for key, tensor in tensors.items() if not torch.isfinite(tensor).all())
    if broken:
        raise CheckpointError(f"{folder} has weights that are not finite: {', '.join(broken[:5])}.")
    modules = sorted({key.rpartition(".")[0] for key in tensors})
    exact = "(" + "|".join(map(re.escape, modules)) + ")"
    digest = hashlib.sha256(json.dumps(_numbers(config), sort_keys=True).encode())
    for key in sorted(tensors):
        digest.update(f"{key}{list(tensors[key].shape)}".encode())
        digest.update(tensors[key].float().numpy().tobytes())
    return AdapterFile(
        folder, replace(config, target_modules=exact, exclude_modules=None), tensors, digest.hexdigest()[:16]
    )


def _chosen(raw: Mapping[str, Tensor], folder: Path, name: str, *, named: bool) -> dict[str, Tensor]:
    """The tensors of one adapter under the network's names."""
    found: dict[str | None, dict[str, Tensor]] = {}
    for key, tensor in raw.items():
        match = _KEY.fullmatch(key.removeprefix("base_model.model."))
        if match is None:
            raise CheckpointError(f"{folder} holds {key}, which is no LoRA weight; only plain LoRA can be read.")
        module = match["module"]
        if module.startswith("language_model."):  # trained on the backbone alone, without the projector beside it
            module = f"model.{module}"
        found.setdefault(match["adapter"], {})[f"{module}.lora_{match['side']}"] = tensor
    if name in found:
        return found[name]
    if len(found) == 1 and not named:
        return next(iter(found.values()))
    if found.keys() == {None}:
        raise CheckpointError(f"{folder} holds one adapter, without a name; leave out `adapter` (here {name!r}).")
    names = ", ".join(repr(one) for one in found if one is not None) or "none"
    raise CheckpointError(f"{folder} holds the adapters {names}; say which with `adapter=…` (not {name!r}).")


def _numbers(config: LoraConfig) -> dict[str, object]:
    """What of a configuration changes vectors."""
    return {name: getattr(config, name) for name in ("r", "lora_alpha", "rank_pattern", "alpha_pattern")}
