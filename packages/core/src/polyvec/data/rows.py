"""Rows of JSON Lines files, and cells between tabs. Every error names the file and the line."""

import json
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from polyvec.alarms import pass_alarm

__all__ = ["each_line", "each_row", "read_lines", "read_rows", "tab_cells", "text_field"]

_Parsed = TypeVar("_Parsed")
_CELL = re.compile(r'"(?P<quoted>(?:[^"]|"")*)"')


def read_rows(path: Path, parse: Callable[[dict[str, Any]], _Parsed]) -> list[_Parsed]:
    """Parse the JSON object on each line of a file. Otherwise as `read_lines`."""
    return read_lines(path, lambda _, line: parse(_json_object(line)))


def read_lines(path: Path, parse: Callable[[int, str], _Parsed]) -> list[_Parsed]:
    r"""Parse each line of a file by its number, from 1, and its text. Only `\n` ends a line; blank lines are skipped.

    Raises:
        ValueError: `parse` raised a `ValueError`, `TypeError` or `OSError`.
    """
    return [parsed for _, parsed in each_line(path, parse)]


def each_row(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the JSON object on each line of a file, with the offset of the line. Otherwise as `each_line`."""
    return each_line(path, lambda _, line: _json_object(line))


def each_line(path: Path, parse: Callable[[int, str], _Parsed]) -> Iterator[tuple[int, _Parsed]]:
    """Yield the offset of each line of a file in bytes, and what it was parsed to. Otherwise as `read_lines`."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                parsed = (offset, parse(number, line.decode("utf-8-sig"))) if line.strip() else None
            except (ValueError, TypeError, OSError, RecursionError) as error:
                pass_alarm(error)
                raise ValueError(f"{path}:{number}: {error}") from error
            if parsed is not None:
                yield parsed
            offset += len(line)


def tab_cells(line: str) -> list[str]:
    """Split a line at tabs. Cells lose the quotation marks that spreadsheets put around them, and no others."""
    return [
        quoted["quoted"].replace('""', '"') if (quoted := _CELL.fullmatch(cell)) else cell
        for cell in line.rstrip("\r\n").split("\t")
    ]


def text_field(row: Mapping[str, Any], name: str) -> str:
    """Return the field `name` of a row, or raise a TypeError if it is not a text."""
    value = row.get(name)
    if not isinstance(value, str):
        raise TypeError(f"`{name}` is {reprlib.repr(value)}; it must be a text")
    return value


def _json_object(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(value, dict):
        raise TypeError(f"no JSON object: {reprlib.repr(value)}")
    return value
