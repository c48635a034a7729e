"""Row formats: a row of a data set becomes the query, the positives and the negatives that it means."""

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from polyvec.paths import path_of
from polyvec.train.bad_rows import RowError
from polyvec.train.examples import Document, PdfPage
from polyvec.train.tables import RawRow

__all__ = ["FORMATS", "DocumentId", "Format", "Reference", "Row", "check_format", "corpus_row", "present", "recognise"]


@dataclass(frozen=True, slots=True)
class DocumentId:
    """A document that the corpus has under this id."""

    identity: str


Reference = Document | DocumentId


@dataclass(frozen=True, slots=True)
class Row:
    """What a row means. Its documents may be ids; nothing was checked that takes a look at a file."""

    query: Document
    positives: tuple[Reference, ...]
    negatives: tuple[Reference, ...] = ()
    score: float | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """A published form of rows.

    Attributes:
        columns: a row has one column of each of these groups.
        read: makes a `Row` of the columns that are not null, and of the folder where relative paths start; None if the
            row is only a document for other rows.
        own_corpus: ids are those of rows of the same file.
    """

    columns: tuple[frozenset[str], ...]
    read: Callable[[RawRow, Path], Row | None]
    own_corpus: bool = False


def recognise(columns: Iterable[str], where: str) -> str:
    """Return the name of the first format whose columns are there.

    Raises:
        ValueError: there is none; the message lists all formats.
    """
    present = set(columns)
    for name, form in FORMATS.items():
        if all(present & group for group in form.columns):
            return name
    known = "; ".join(f"{name} ({_described(form)})" for name, form in FORMATS.items())
    raise ValueError(
        f"{where} has the columns {', '.join(sorted(present)) or 'of no row'}, which no known format has. Rename them, "
        f"or set `format`. Known are: {known}."
    )


def check_format(name: str) -> None:
    """Raise a `ValueError` that lists all formats if there is none of this name."""
    if name not in FORMATS:
        raise ValueError(f"`format` is {name!r}; known are {', '.join(FORMATS)}.")


def _described(form: Format) -> str:
    return ", ".join("|".join(sorted(group)) for group in form.columns)


def corpus_row(row: RawRow, folder: Path) -> tuple[str, Document]:
    """Return the id and the content of a row of a corpus: an image or a page if it has one, or its title and text."""
    row = present(row)
    names = [name for name in ("docid", "document_id", "_id", "id") if name in row]
    if not names:
        raise RowError("the row has no id, which is `docid`, `document_id`, `_id` or `id`", _keys(row))
    identity = row[names[0]]
    if not isinstance(identity, str | int):
        raise RowError(f"`{names[0]}` is neither a text nor a whole number", reprlib.repr(identity))
    return str(identity), _content(row, folder)


def present(row: RawRow) -> RawRow:
    """Leave out the columns that are null: formats with fixed columns write so what others leave out."""
    return {name: value for name, value in row.items() if value is not None}


def _polyvec(row: RawRow, folder: Path) -> Row:
    group = _optional_text(row, "group")
    if "first" in row or "second" in row:
        return Row(
            _value(row, "first", folder), (_value(row, "second", folder),), score=_score(row, "score"), group=group
        )
    if "score" in row:
        raise RowError("`score` stands beside `query`; a gold similarity is that of `first` and `second`", _keys(row))
    query = _one_of(row, "query", "query_image")
    documents = _one_of(row, "document", "image", "document_id", "pdf")
    positive: Reference
    if documents == "document_id":
        positive = _identity(row[documents], documents)
    elif documents == "pdf":
        positive = _page(row, folder)
        group = group or positive.path.as_posix()
    else:
        positive = _value(row, documents, folder)
    negatives = [_document(value, "negatives", folder, image=documents == "image") for value in _list(row, "negatives")]
    ids = [_identity(value, "negative_ids") for value in _list(row, "negative_ids")]
    scores = _list(row, "negative_scores")
    if scores and len(scores) != len(negatives) + len(ids):
        raise RowError(
            "`negative_scores` and the negatives differ in number", f"{len(scores)} and {len(negatives) + len(ids)}"
        )
    return Row(_value(row, query, folder), (positive,), (*negatives, *ids), group=group)


FORMATS: Mapping[str, Format] = {
    "polyvec": Format(
        (
            frozenset({"query", "query_image", "first"}),
            frozenset({"document", "image", "document_id", "pdf", "second"}),
        ),
        _polyvec,
    ),
}


def _value(row: RawRow, name: str, folder: Path) -> Document:
    """Return the content of a column; a string in a column of images is a path."""
    if name not in row:
        raise RowError(f"the row has no `{name}`", _keys(row))
    return _document(row[name], name, folder, image=name.endswith("image"))


def _document(value: Any, name: str, folder: Path, *, image: bool = False) -> Document:  # Any: not checked yet
    if isinstance(value, str):
        return _path(value, folder) if image else value
    if isinstance(value, Path):
        return folder / value
    if isinstance(value, bytes | Image.Image | np.ndarray):
        return value
    if isinstance(value, Mapping):
        return _content(present(value), folder)
    raise RowError(f"`{name}` is neither a text nor an image", reprlib.repr(value))


def _content(row: RawRow, folder: Path) -> Document:
    """Return what a mapping contains: bytes or a path as `datasets` has them, an image, a page, or a title and text."""
    if "bytes" in row:
        return _document(row["bytes"], "bytes", folder)
    if "image" in row:
        return _value(row, "image", folder)
    if "pdf" in row:
        return _page(row, folder)
    if "path" in row:
        return _path(_text(row, "path"), folder)
    text = _text(row, "text")
    return f"{_optional_text(row, 'title') or ''} {text}".strip()


def _page(row: RawRow, folder: Path) -> PdfPage:
    number = row.get("page")
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise RowError("`page`, which is counted from 1, is missing or no whole number of 1 or more", repr(number))
    return PdfPage(_path(_text(row, "pdf"), folder), number)


def _path(name: str, folder: Path) -> Path:
    try:
        return folder / path_of(name)
    except ValueError as error:
        raise RowError("an image is not a local file", str(error)) from error


def _identity(value: Any, name: str) -> DocumentId:  # Any: not checked yet
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowError(f"`{name}` is no id, which is a text or a whole number", reprlib.repr(value))
    return DocumentId(str(value))


def _text(row: RawRow, name: str) -> str:
    if name not in row:
        raise RowError(f"the row has no `{name}`", _keys(row))
    value = row[name]
    if not isinstance(value, str):
        raise RowError(f"`{name}` is no text", reprlib.repr(value))
    return value


def _optional_text(row: RawRow, name: str) -> str | None:
    return _text(row, name) if name in row else None


def _list(row: RawRow, name: str) -> Sequence[Any]:  # Any: not checked yet
    value = row.get(name, ())
    if not isinstance(value, list | tuple):
        raise RowError(f"`{name}` is no list", reprlib.repr(value))
    return value


def _score(row: RawRow, name: str) -> float | None:
    """Return a gold similarity; files of values between tabs have it as a text."""
    if name not in row:
        return None
    try:
        score = float(row[name])
    except (TypeError, ValueError) as error:
        raise RowError(f"`{name}` is no number", reprlib.repr(row[name])) from error
    if not math.isfinite(score):
        raise RowError(f"`{name}` is not finite", str(score))
    return score


def _one_of(row: RawRow, *names: str) -> str:
    """Return which of some columns a row has."""
    there = [name for name in names if name in row]
    if len(there) != 1:
        one = " or ".join(f"`{name}`" for name in names)
        raise RowError(f"the row has {'more than one of' if there else 'no'} {one}", _keys(row))
    return there[0]


def _keys(row: RawRow) -> str:
    return f"it has {', '.join(map(str, row)) or 'nothing'}"
