"""Rows of CSV, TSV, JSON, JSON Lines and Parquet files, read one after another."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from polyvec.data.building.material import Rejection
from polyvec.paths import printable

__all__ = ["Row", "read_table", "table_files"]

_SUFFIXES = (".csv", ".json", ".jsonl", ".ndjson", ".parquet", ".tsv")
_ROWS_AT_A_TIME = 8  # of Parquet: rows hold images


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A row of a file.

    Attributes:
        place: the file and the row's number, from 1, for people.
        folder: of the file.
    """

    place: str
    folder: Path
    fields: Mapping[str, Any]  # Any: what a file holds, not checked yet


def table_files(paths: Sequence[Path]) -> list[Path]:
    """Return files of rows: those that are named, and all in folders, in the order of their names.

    Raises:
        ValueError: a path does not exist, its suffix is unknown, or a folder has no such file.
    """
    files = []
    for path in paths:
        inside = [path] if path.is_file() else sorted(path.rglob("*"))
        rows = [file for file in inside if file.suffix.lower() in _SUFFIXES]
        if not rows:
            known = ", ".join(_SUFFIXES)
            raise ValueError(f"there are no rows in {str(path)!r}; give files, or a folder of them. Suffixes: {known}.")
        files += rows
    return files


def read_table(path: Path) -> Iterator[Row | Rejection]:
    """Yield the rows of a file; a malformed row is a rejection.

    Raises:
        ValueError: the file as a whole cannot be read.
        ImportError: pyarrow, which reads Parquet, is not installed.
    """
    suffix = path.suffix.lower()
    read = {".parquet": _parquet, ".json": _json, ".csv": _csv, ".tsv": _csv}.get(suffix, _json_lines)
    name = printable(str(path))
    try:
        for number, fields in enumerate(read(path), start=1):
            if isinstance(fields, Mapping):
                yield Row(f"{name}, row {number}", path.parent, fields)
            else:
                yield Rejection("malformed row", f"{name}, row {number}", detail=fields)
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8.") from error


def _csv(path: Path) -> Iterator[Mapping[str, Any] | str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=_delimiter(file))
        header = next(reader, [])
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield str(error)
                continue
            if len(cells) > len(header):
                yield f"{len(cells)} cells where the header has {len(header)}"
            elif cells:
                yield dict(zip(header, [*cells, *[""] * (len(header) - len(cells))], strict=True))


def _delimiter(file: IO[str]) -> str:
    header = file.readline()
    file.seek(0)
    return max(",;\t", key=header.count)


def _json_lines(path: Path) -> Iterator[Mapping[str, Any] | str]:
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                try:
                    row = json.loads(line.decode("utf-8-sig"))
                except (ValueError, RecursionError) as error:
                    yield f"no JSON: {error}"
                    continue
                yield row if isinstance(row, dict) else "no JSON object"


def _json(path: Path) -> Iterator[Mapping[str, Any] | str]:
    """Yield the rows of a list, which may stand below `data`, as DocVQA has it."""
    try:
        rows = json.loads(path.read_text("utf-8-sig"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}; a file with a row on each line ends in .jsonl.") from error
    rows = rows.get("data") if isinstance(rows, dict) else rows
    if not isinstance(rows, list):
        raise ValueError(f"{path} has no list of rows; give a list, or an object with a list at `data`.")  # noqa: TRY004
    yield from (row if isinstance(row, dict) else "no JSON object" for row in rows)


def _parquet(path: Path) -> Iterator[Mapping[str, Any] | str]:
    try:
        from pyarrow import parquet  # an optional extra
    except ImportError as error:
        raise ImportError("Parquet files are read with pyarrow: `pip install 'polyvec[build]'`.") from error
    try:
        for batch in parquet.ParquetFile(path).iter_batches(_ROWS_AT_A_TIME):
            yield from batch.to_pylist()
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as a Parquet file: {error}") from error
