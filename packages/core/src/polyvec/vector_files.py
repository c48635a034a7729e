"""Arrays in one safetensors file, written whole or not at all. Nothing here knows what they mean."""

import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

__all__ = ["read", "write"]


def write(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write arrays and texts. A file at `path` is replaced once the new one is complete.

    Raises:
        OSError: the file cannot be written.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    partial.touch()
    try:
        mode = partial.stat().st_mode  # which safetensors would not keep
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, partial, dict(metadata))
        partial.chmod(mode)
        partial.replace(path)
    except SafetensorError as error:
        raise OSError(f"{str(path)!r} cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path, *, format: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:  # noqa: A002 — the key in the file
    """Read the arrays and texts of a file whose text `format` is this one. Nothing stays connected to the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such file, or damaged.
    """
    if not path.is_file():
        path.stat()  # raises if there is none
        raise ValueError(f"{str(path)!r} is no file.")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != format:
                written = metadata.get("format", "unknown")
                raise ValueError(f"{str(path)!r} holds something else: its format is {written!r}, not {format!r}.")
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 — it is no mapping
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is no safetensors file, or damaged: {error}.") from error
