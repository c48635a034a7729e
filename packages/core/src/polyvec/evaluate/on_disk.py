"""Multi-vectors in a temporary file, seen through a memory map, so that those of a corpus need not fit in memory."""

import mmap
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

import numpy as np

__all__ = ["OnDisk", "on_disk"]


class OnDisk:
    """A temporary file that multi-vectors are appended to. `with` closes it; the arrays stay.

    It lies in the folder of the system's temporary files (`TMPDIR`), and is gone when the last array is.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 — `with` closes it
        self._lengths: list[int] = []
        self._width, self._dtype = 0, np.dtype(np.float32)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(OSError):  # a full disk was noticed before, and what is left to write is of no use
            self._file.close()

    def extend(self, multivectors: Iterable[np.ndarray]) -> None:
        """Append multi-vectors. All have rows of one length and dtype."""
        for rows in multivectors:
            self._lengths.append(len(rows))
            self._width, self._dtype = rows.shape[1], rows.dtype
            with _told():
                self._file.write(np.ascontiguousarray(rows).data)

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return all multi-vectors. Their numbers are read from the file when they are used, and cannot be changed."""
        with _told():
            self._file.flush()
        numbers = np.zeros(0, self._dtype)
        if any(self._lengths) and self._width:
            numbers = np.frombuffer(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ), self._dtype)
        rows = numbers.reshape(-1, self._width) if self._width else numbers.reshape(0, 0)
        ends = np.cumsum(self._lengths, dtype=np.int64).tolist()
        return tuple(rows[start:end] for start, end in zip([0, *ends], ends, strict=False))


@contextmanager
def _told() -> Iterator[None]:
    """Say of an error which folder it is about, and how to choose another."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"multi-vectors cannot be kept in the folder of temporary files, {tempfile.gettempdir()!r}: "
            f"{error.strerror}. Set TMPDIR to a folder with more room."
        ) from error


def on_disk(multivectors: Iterable[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Write multi-vectors to a file, one at a time, and return them as arrays of a memory map."""
    with OnDisk() as file:
        file.extend(multivectors)
        return file.arrays()
