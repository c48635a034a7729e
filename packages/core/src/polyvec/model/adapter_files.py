"""LoRA adapters that users trained: a stock PEFT directory, or the layout of jinaai/jina-embeddings-v4."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from polyvec.alarms import pass_alarm
from polyvec.model.checkpoint import CheckpointError, check_floats
from polyvec.model.config import read_lora

RECORD = "training.json"  # beside what polyvec trained: where it comes from

_KEY = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(?:\.(?P<adapter>[^.]+))?\.weight")


@dataclass(frozen=True, slots=True, eq=False)
class AdapterFile:
    """One adapter as read from its files.

    Attributes:
        path: the directory of the files.
        config: PEFT's configuration, limited to the modules that have tensors.
        tensors: `{module}.lora_A` and `{module}.lora_B`, under the network's own names.
        digest: sixteen hexadecimal digits that differ when the adapter differs.
    """

    path: Path
    config: LoraConfig
    tensors: Mapping[str, Tensor] = field(repr=False)
    digest: str

    @property
    def modules(self) -> set[str]:
        """Names of the network's modules that the adapter changes."""
        return {key.rpartition(".")[0] for key in self.tensors}


@dataclass(frozen=True, slots=True)
class UserAdapter:
    """An adapter that a user loaded: its directory, its task, and the task whose prefixes its texts carry."""

    path: Path
    task: str
    adapter: str | None
    base_task: str
    digest: str

    @property
    def name(self) -> str:
        """Its name in PEFT. It is not the task: embedders that share a network may use one task for two adapters."""
        return f"user_{self.digest}"

    def read(self) -> AdapterFile:
        """Read the adapter from its files again.

        Raises:
            polyvec.CheckpointError: the files hold another adapter than at the first load.
        """
        file = read_adapter(self.path, task=self.task, adapter=self.adapter)
        if file.digest != self.digest:
            raise CheckpointError(
                f"{self.path} holds another adapter than when it was loaded for {self.task!r}: its digest is "
                f"{file.digest}, not {self.digest}. Unload {self.task!r} and load the new files, in a new embedder if "
                "this one cannot be made."
            )
        return file


def read_adapter(path: str | Path, *, task: str, adapter: str | None = None) -> AdapterFile:
    """Read an adapter for `task`.

    `path` is a directory with `adapter_config.json` and `adapter_model.safetensors`, or a checkpoint's directory, which
    has those two under `adapters/`. If the file holds several adapters, `adapter` is read, by default `task`.

    Raises:
        CheckpointError: there is no adapter, it cannot be read, or its weights are not finite.
    """
    folder = Path(path)
    if (folder / "adapters" / "adapter_config.json").is_file():
        folder /= "adapters"
    try:
        config = read_lora(folder)
        raw = load((folder / "adapter_model.safetensors").read_bytes())  # no mapping of the file, which may change
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder / 'adapter_model.safetensors'} is missing. Only safetensors are read; pickled weights are never "
            "opened."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError, OSError) as error:
        pass_alarm(error)
        raise CheckpointError(f"{folder} holds no LoRA adapter that can be read: {error}") from error
    own = _tensors_of(raw, folder, adapter or task, named=adapter is not None)
    tensors = {_network_name(key): tensor for key, tensor in own.items()}
    check_floats({key: tensor.dtype for key, tensor in tensors.items()}, folder)
    not_finite = sorted(key for key, tensor in tensors.items() if not torch.isfinite(tensor).all())
    if not_finite:
        raise CheckpointError(f"{folder} has weights that are not finite: {', '.join(not_finite[:5])}.")
    modules = sorted({key.rpartition(".")[0] for key in own})
    exact = replace(
        config,
        target_modules=f"({'|'.join(re.escape(_network_name(module)) for module in modules)})",
        exclude_modules=None,
        rank_pattern=_by_module(config.rank_pattern, modules),
        alpha_pattern=_by_module(config.alpha_pattern, modules),
    )
    settings = {name: getattr(exact, name) for name in ("r", "lora_alpha", "rank_pattern", "alpha_pattern")}
    if config.use_rslora:
        settings["use_rslora"] = True
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())  # of all that changes vectors
    for key in sorted(tensors):
        digest.update(f"{key}{list(tensors[key].shape)}".encode())
        digest.update(tensors[key].float().numpy().tobytes())
    return AdapterFile(folder, exact, tensors, digest.hexdigest()[:16])


def trained_task(path: str | Path, name: str) -> str | None:
    """Return the task that an adapter was trained as, by training.json under `path`; None if that does not say.

    Beside an exported adapter it names one task. Beside a checkpoint it names those that were trained; `name` is that
    of the adapter.
    """
    try:
        record = json.loads((Path(path) / RECORD).read_text(encoding="utf-8"))
        exported: str | None = record.get("task")
        tasks = [stage["task"] for stage in record["stages"]]
    except (FileNotFoundError, ValueError, AttributeError, KeyError, TypeError):  # it may be another program's
        return None
    return exported or (name if name in tasks else None)


def _network_name(name: str) -> str:
    """Return the network's name of a module or tensor that an adapter of the backbone alone names without `model.`."""
    return f"model.{name}" if name.startswith("language_model.") else name


def _by_module(setting_by_pattern: Mapping[str, Any], modules: Iterable[str]) -> dict[str, Any]:  # Any: as in the file
    """Resolve patterns by PEFT's rule under the file's own names of modules; return patterns for the network's names.

    Names differ where the adapter was trained on the backbone alone, so a pattern with `^` matches only the file's.
    """
    names_by_setting: dict[Any, list[str]] = {}
    for module in modules:
        key = get_pattern_key(list(setting_by_pattern), module)
        if key in setting_by_pattern:
            names_by_setting.setdefault(setting_by_pattern[key], []).append(re.escape(_network_name(module)))
    return {"|".join(names): setting for setting, names in names_by_setting.items()}


def _tensors_of(raw: Mapping[str, Tensor], folder: Path, name: str, *, named: bool) -> dict[str, Tensor]:
    """Return the tensors of one adapter under the file's own names."""
    by_adapter: dict[str | None, dict[str, Tensor]] = {}
    for key, tensor in raw.items():
        match = _KEY.fullmatch(key.removeprefix("base_model.model."))
        if match is None:
            raise CheckpointError(
                f"{folder} holds {key}, which is no LoRA weight. Only plain LoRA can be read: train without "
                "`modules_to_save`, `bias` and `use_dora`."
            )
        by_adapter.setdefault(match["adapter"], {})[f"{match['module']}.lora_{match['side']}"] = tensor
    if name in by_adapter:
        return by_adapter[name]
    if len(by_adapter) == 1 and not named:
        return next(iter(by_adapter.values()))
    if by_adapter.keys() == {None}:
        raise CheckpointError(f"{folder} holds one adapter, without a name; leave out `adapter` (here {name!r}).")
    names = ", ".join(map(repr, sorted(key for key in by_adapter if key is not None))) or "none"
    raise CheckpointError(
        f"{folder} holds the adapters {names}; name one with `adapter=…` (not {name!r}), "
        "or write one into a folder of its own with `polyvec train export --form peft`."
    )
