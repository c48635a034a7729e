"""The safetensors files of a checkpoint: which there are, and the tensors in them, read one at a time."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from polyvec.alarms import pass_alarm
from polyvec.images import file_stamp

INDEX = "model.safetensors.index.json"


class CheckpointError(ValueError):
    """A directory holds no checkpoint of this kind, or its tensors do not fit the model."""


@dataclass(frozen=True, slots=True)
class TensorSource:
    """Where a tensor lies."""

    file: Path
    stamp: tuple[int, ...] | None  # of the file when it was opened
    key: str
    shape: tuple[int, ...]
    dtype: str
    span: tuple[int, int]  # where its bytes begin and end in the file


def base_name(key: str) -> str:
    """Return the network's name of the tensor `key` of hub files, which use either of two naming schemes."""
    if key.startswith("multi_vector_projector."):
        return key
    suffix = key.removeprefix("model.")
    if suffix.startswith(("language_model.", "visual.")):
        return f"model.{suffix}"
    return f"model.language_model.{suffix}" if key.startswith("model.") else key


def hub_name(name: str) -> str:
    """Return the key that files of the hub have for a base tensor of the network."""
    if name.startswith("model.language_model."):
        return "model." + name.removeprefix("model.language_model.")
    return name.removeprefix("model.") if name.startswith("model.visual.") else name


def shard_files(path: Path) -> list[Path]:
    """Return the files of the base weights under `path`: those of the index, or else all `model*.safetensors`.

    Raises:
        CheckpointError: there are none, or the index is damaged.
    """
    index = path / INDEX
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
            elsewhere = [name for name in names if Path(name).name != name]
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise CheckpointError(f"{index} is no shard index: {error!r}") from error
        if elsewhere:
            raise CheckpointError(f"{index} names {elsewhere[0]!r}; shards must lie beside their index.")
        return [path / name for name in names]
    shards = sorted(path.glob("model*.safetensors"))
    if not shards:
        raise CheckpointError(
            f"{path} holds no model*.safetensors. Only safetensors are read; pickled weights are never opened."
        )
    return shards


def tensor_sources(files: Iterable[Path]) -> dict[str, TensorSource]:
    """Return where each tensor of the files lies, by its key.

    Raises:
        CheckpointError: a file is missing or damaged, or two files hold one key.
    """
    sources: dict[str, TensorSource] = {}
    for file in files:
        try:
            stamp = file_stamp(file)
            with safe_open(file, framework="pt"):  # it detects damage
                start, header = _header(file)
        except FileNotFoundError as error:
            raise CheckpointError(f"{file} is missing.") from error
        except (SafetensorError, OSError) as error:
            pass_alarm(error)
            raise CheckpointError(f"{file} is no safetensors file, or it is cut short: {error}") from error
        for key, tensor in header.items():
            if key in sources:
                raise CheckpointError(f"tensor {key} stands in both {sources[key].file} and {file}.")
            begin, end = tensor["data_offsets"]
            span = (start + begin, start + end)
            sources[key] = TensorSource(file, stamp, key, tuple(tensor["shape"]), tensor["dtype"], span)
    return sources


def write_index(path: Path) -> None:
    """Write the index of all safetensors files that lie in the folder `path` itself.

    Raises:
        CheckpointError: a file is damaged, or two files hold one key.
    """
    sources = tensor_sources(sorted(path.glob("*.safetensors")))
    total = sum(end - begin for begin, end in (source.span for source in sources.values()))
    files = {key: source.file.name for key, source in sorted(sources.items())}
    index = {"metadata": {"total_size": total}, "weight_map": files}
    (path / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _header(file: Path) -> tuple[int, dict[str, dict[str, Any]]]:  # Any: any JSON value
    """Read from a safetensors file where its data begin, and the description of each tensor."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header: dict[str, dict[str, Any]] = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return 8 + length, header


def read_tensor(source: TensorSource) -> Tensor:
    """Read a tensor.

    Raises:
        CheckpointError: its file is gone or has changed since it was opened.
    """
    stamp = file_stamp(source.file)
    if stamp != source.stamp:
        state = "is gone" if stamp is None else "changed since it was loaded"
        raise CheckpointError(f"{source.file} {state}, and it is still needed; load the model again.")
    with safe_open(source.file, framework="pt") as tensors:
        tensor: Tensor = tensors.get_tensor(source.key)
    return tensor
