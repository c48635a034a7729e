"""Folders that appear when they are complete."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

__all__ = ["check_output", "check_room", "gigabytes", "staged"]

_MARGIN = 4 << 20  # bytes of the small files, such as a tokenizer


@contextmanager
def staged(output: Path, *, n_bytes: int, source: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder that becomes `output` when the block ends. After an error nothing of it is left.

    Args:
        output: the folder to make; its parents are made, too.
        n_bytes: expected size of the tensors, for which there must be room on the disk.
        source: the folder that is read, which is never replaced.
        overwrite: replace what is at `output`; it stays until the new folder is complete.

    Raises:
        ValueError: `output` is there already, or is (a parent of) `source`.
        OSError: the disk is too small, or writing fails.
    """
    check_output(output, source=source, overwrite=overwrite)
    check_room(output, n_bytes)
    parent = output.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=parent) as folder:
        staging = Path(folder) / "new"  # not `folder` itself, which only its owner may read
        staging.mkdir()
        try:
            yield staging
        except SafetensorError as error:
            raise OSError(f"{output} could not be written: {error}") from error
        if output.exists():
            output.rename(Path(folder) / "old")
        staging.rename(output)


def check_output(output: Path, *, source: Path, overwrite: bool = False) -> None:
    """Check that a folder may be made, or replaced.

    Raises:
        ValueError: it may not; the message says what to do.
    """
    if source.resolve().is_relative_to(output.resolve()):
        raise ValueError(f"{output} holds what is read, {source}; choose another output.")
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file; choose another output.")
    if output.exists() and any(output.iterdir()) and not overwrite:
        raise ValueError(f"{output} is there already, and it is not empty; choose another output.")


def check_room(output: Path, n_bytes: int) -> None:
    """Check that there is room for tensors of this size, and for a few small files.

    Raises:
        OSError: there is too little.
    """
    folder = next(folder for folder in (output, *output.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(folder).free
    if free < n_bytes + _MARGIN:
        raise OSError(
            f"{output} needs {gigabytes(n_bytes + _MARGIN)} and {folder} has {gigabytes(free)} free; make room or "
            "choose another disk."
        )


def gigabytes(n_bytes: float) -> str:
    """Write a number of bytes for people."""
    return f"{n_bytes / 1e9:.2f} GB"
