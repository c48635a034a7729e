"""Tables from CSV, TSV and Parquet files, every cell as the text that pages show."""

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyvec.data.building.material import Rejection

__all__ = ["Table", "clean", "read_table"]

_DELIMITERS = ",;\t|"
_LARGEST_CELL = 2**27  # characters; the csv module refuses cells over 2**17 unless it is told so
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")  # marks that turn or hide text
_MISSING = frozenset({"", "-", "–", "—", "n/a", "na", "nan", "none", "null", "#n/a", "..."})


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it was read.

    Attributes:
        name: of the file, without its ending, in words.
        columns: headers, all different.
        rows: cells, cleaned; an empty cell is an empty text.
        lines: of the file, where each row ends (of a Parquet file: the number of the row).
        rejections: rows that cannot be used.
    """

    file: Path
    name: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    lines: list[int]
    rejections: tuple[Rejection, ...] = ()


def clean(cell: str) -> str:
    """Return a cell in one line and in NFC, without control characters and marks of direction."""
    if cell.isascii() and cell.isprintable():
        return cell.strip()
    text = _INVISIBLE.sub("", unicodedata.normalize("NFC", cell))
    visible = "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text)
    return " ".join(visible.split())


def read_table(file: Path, *, encoding: str = "utf-8") -> Table:
    """Read a file by its ending: `.parquet`, or else a text with delimiters, which are told from its header.

    A byte order mark of UTF-8 or UTF-16 counts more than `encoding`.

    Raises:
        ValueError: the file is no table, has no header or no row, or two columns of one name.
        ImportError: pyarrow is not installed, for Parquet.
    """
    name = " ".join(clean(file.stem.replace("_", " ")).split())
    parquet = file.suffix.lower() in (".parquet", ".pq")
    header, numbered = _parquet(file) if parquet else _delimited(file, encoding)
    columns = tuple(" ".join(clean(cell).replace("_", " ").split()) for cell in header)
    if not any(columns):
        raise ValueError(f"{file} has no header; the first line must name the columns.")
    if empty := [str(number) for number, column in enumerate(columns, 1) if not column]:
        raise ValueError(f"{file}: column {', '.join(empty)} has no name in the header.")
    if twice := [column for column, n in Counter(columns).items() if n > 1]:
        raise ValueError(f"{file}: the header has {twice[0]!r} twice; columns need different names.")
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    rejections: list[Rejection] = []
    for line, cells in numbered:
        row = tuple(_cell(cell) for cell in cells)
        if not any(row):
            continue
        if len(row) != len(columns):
            detail = f"{len(row)} cells, the header has {len(columns)}"
            rejections.append(Rejection("ragged row", f"{file}:{line}", detail=detail))
            continue
        rows.append(row)
        lines.append(line)
    if not rows:
        raise ValueError(f"{file} has a header but no rows{' that fit it' if rejections else ''}.")
    return Table(file, name, columns, rows, lines, tuple(rejections))


def _cell(cell: str) -> str:
    text = clean(cell)
    return "" if len(text) < 5 and text.lower() in _MISSING else text


def _delimited(file: Path, encoding: str) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    content = file.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif content.startswith(b"\xef\xbb\xbf"):
        encoding = "utf-8-sig"
    try:
        text = content.decode(encoding)
    except LookupError as error:
        raise ValueError(
            f"`encoding` is {encoding!r}, which is unknown; examples: utf-8, cp1252, shift_jis."
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is no {encoding}: {error.reason} at byte {error.start}; choose another `encoding`, such as cp1252."
        ) from error
    first = text.lstrip("\r\n").partition("\n")[0]
    outside = re.sub(r'"[^"]*"', "", first)  # delimiters in quoted names do not count
    delimiter = max(_DELIMITERS, key=outside.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines = _lines(file, reader)
    return next((cells for _, cells in lines if any(cells)), []), lines


def _lines(file: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:  # Any: csv's reader has no public type
    with _large_cells():
        try:
            for cells in reader:
                yield reader.line_num, cells
        except csv.Error as error:
            raise ValueError(f"{file}:{reader.line_num}: {error}; a quotation mark may lack its second.") from error


@contextmanager
def _large_cells() -> Iterator[None]:
    before = csv.field_size_limit(_LARGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _parquet(file: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    try:
        import pyarrow as pa  # an optional extra
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(
            "Parquet files are read by pyarrow; install it with `pip install 'polyvec[build]'`."
        ) from error
    try:
        source = pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{file} is no Parquet file: {error}") from error
    schema = source.schema_arrow
    singles = [pa.types.is_float32(field.type) or pa.types.is_float16(field.type) for field in schema]

    def rows() -> Iterator[tuple[int, list[str]]]:
        number = 0
        for batch in source.iter_batches():
            for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                number += 1
                yield number, [_written(cell, single=single) for cell, single in zip(cells, singles, strict=True)]

    return list(schema.names), rows()


def _written(value: object, *, single: bool) -> str:
    if value is None:
        return ""
    if single and isinstance(value, float):
        return f"{value:.7g}"  # what float32 knows
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text.removesuffix(" 00:00:00") if hasattr(value, "hour") else text
