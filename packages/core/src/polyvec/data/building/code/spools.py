"""Functions in a temporary file, so that many of them are looked at twice without staying in memory."""

import json
import tempfile
from array import array
from collections.abc import Iterator
from dataclasses import asdict

from polyvec.data.building.code.functions import Function

__all__ = ["Spool"]


class Spool:
    """A list of functions on disk. It takes eight bytes of memory for each."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 — closed with the spool
        self._starts = array("Q")

    def append(self, function: Function) -> None:
        """Add a function."""
        self._file.seek(0, 2)
        self._starts.append(self._file.tell())
        self._file.write(json.dumps(asdict(function)).encode() + b"\n")

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Function:
        self._file.seek(self._starts[index])
        return _function(self._file.readline())

    def __iter__(self) -> Iterator[Function]:
        for index in range(len(self)):
            yield self[index]

    def __del__(self) -> None:
        self._file.close()


def _function(line: bytes) -> Function:
    row = json.loads(line)
    return Function(**row | {"shadowed": tuple(row["shadowed"])})
