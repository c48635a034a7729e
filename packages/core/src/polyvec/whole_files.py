"""Files that are written whole or not at all."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["check_replaceable", "replaced", "write_text"]


def check_replaceable(path: Path) -> None:
    """Refuse, before long work, a name that no file can be written to.

    Raises:
        OSError: it is a folder, or no file can be made beside it.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        if not _is_special(path):
            with tempfile.TemporaryFile(dir=_target(path).parent):
                pass
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{str(path)!r} cannot be written; name a file in a folder that exists: {reason}") from error


@contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name when the block ends. After an error nothing of it is left.

    A symbolic link stays, and its target is replaced. Devices and pipes are written directly.

    Raises:
        OSError: the file cannot be written.
    """
    if _is_special(path):
        with path.open("wb") as file:
            yield file
        return
    target = _target(path)
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8.

    Raises:
        OSError: the file cannot be written, such as for lack of space.
    """
    try:
        with replaced(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise OSError(f"{str(path)!r} cannot be written: {error.strerror}") from error


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _target(path: Path) -> Path:
    return Path(os.path.realpath(path))
