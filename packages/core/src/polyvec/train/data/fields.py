"""The values of a row's columns: contents, ids, scores and lists, checked one at a time."""

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from polyvec.paths import path_of
from polyvec.train.data.bad_rows import RowError
from polyvec.train.data.examples import Document, PdfPage
from polyvec.train.data.tables import RawRow

__all__ = [
    "DocumentId", "Reference", "content", "described", "document", "identity", "items", "number", "one_of", "page",
    "present", "text", "value",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class DocumentId:
    """A document that the corpus has under this id."""

    identity: str


Reference = Document | DocumentId


def present(row: RawRow) -> RawRow:
    """Leave out the columns that are null: files with fixed columns have them where others leave them out."""
    return {name: value for name, value in row.items() if value is not None}


def value(row: RawRow, name: str, folder: Path) -> Document:
    """Return the content of a column. A string in a column of images is a path."""
    return document(_cell(row, name), name, folder, image=name.endswith("image"))


def document(cell: Any, name: str, folder: Path, *, image: bool = False) -> Document:  # Any: not checked yet
    """Return a text or an image. With `image`, a string is a path."""
    if isinstance(cell, str):
        return _path(cell, folder) if image else cell
    if isinstance(cell, Path):
        return folder / cell
    if isinstance(cell, bytes | Image.Image | np.ndarray):
        return cell
    if isinstance(cell, Mapping):
        return content(present(cell), folder)
    raise RowError(f"`{name}` is neither a text nor an image", reprlib.repr(cell))


def content(row: RawRow, folder: Path) -> Document:
    """Return what a mapping contains: bytes or a path as `datasets` has them, an image, a page, or a title and text."""
    if "bytes" in row:
        return document(row["bytes"], "bytes", folder, image=True)
    if "image" in row:
        return value(row, "image", folder)
    if "pdf" in row:
        return page(row, folder)
    if "path" in row:
        return _path(text(row, "path"), folder)
    title = f"{text(row, 'title')} " if "title" in row else ""
    return f"{title}{text(row, 'text')}".strip()


def page(row: RawRow, folder: Path) -> PdfPage:
    """Return the page that `pdf` and `page` name. Files of values between tabs have its number as a text."""
    n = row.get("page")
    if isinstance(n, str) and n.isdecimal():
        n = int(n)
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise RowError("`page` is missing, or no whole number of 1 or more; write a row for each page", repr(n))
    return PdfPage(_path(text(row, "pdf"), folder), n)


def identity(cell: Any, name: str) -> DocumentId:  # Any: not checked yet
    """Return an id of a document; a whole number is an id, too."""
    if isinstance(cell, bool) or not isinstance(cell, str | int):
        raise RowError(f"`{name}` is no id, which is a text or a whole number", reprlib.repr(cell))
    return DocumentId(str(cell))


def text(row: RawRow, name: str) -> str:
    """Return a text."""
    cell = _cell(row, name)
    if not isinstance(cell, str):
        raise RowError(f"`{name}` is no text", reprlib.repr(cell))
    return cell


def items(row: RawRow, name: str) -> Sequence[Any]:  # Any: not checked yet
    """Return a list, which is empty if the column is not there."""
    cell = row.get(name, ())
    if not isinstance(cell, list | tuple):
        raise RowError(f"`{name}` is no list", reprlib.repr(cell))
    return cell


def number(row: RawRow, name: str) -> float:
    """Return a finite number. Files of values between tabs have it as a text."""
    cell = _cell(row, name)
    try:
        parsed = float(cell)
    except (TypeError, ValueError) as error:
        raise RowError(f"`{name}` is no number", reprlib.repr(cell)) from error
    if not math.isfinite(parsed):
        raise RowError(f"`{name}` is not finite", str(parsed))
    return parsed


def one_of(row: RawRow, *names: str) -> str:
    """Return which of some columns a row has."""
    there = [name for name in names if name in row]
    if len(there) != 1:
        choice = " or ".join(f"`{name}`" for name in names)
        raise RowError(f"the row has {'more than one of' if there else 'no'} {choice}", described(row))
    return there[0]


def described(row: RawRow) -> str:
    """Name the columns of a row, for messages."""
    return f"it has {', '.join(map(str, row)) or 'nothing'}"


def _cell(row: RawRow, name: str) -> Any:  # Any: not checked yet
    if name not in row:
        raise RowError(f"the row has no `{name}`", described(row))
    return row[name]


def _path(name: str, folder: Path) -> Path:
    try:
        return folder / path_of(name)
    except ValueError as error:
        raise RowError("a file is not local", str(error)) from error
