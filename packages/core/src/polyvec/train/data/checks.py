"""What makes a row good: a query, documents that exist, and negatives that are none of its positives."""

import reprlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from polyvec import pdf
from polyvec.images import file_stamp
from polyvec.inputs import check_text
from polyvec.train.data.bad_rows import RowError
from polyvec.train.data.examples import Document, PdfPage
from polyvec.train.data.fields import DocumentId, Reference
from polyvec.train.data.formats import Row
from polyvec.types import ImageText

__all__ = ["check_document", "clean"]


def clean(row: Row, is_image: Callable[[Reference], bool]) -> tuple[Row, list[RowError]]:
    """Leave out the documents of a row that cannot be used, and say why.

    `is_image` tells images from texts, and raises a `RowError` if a corpus does not have an id.

    Raises:
        RowError: nothing to train on is left.
    """
    check_document(row.query, "the query")
    dropped: list[RowError] = []

    def check_positive(reference: Reference) -> None:
        _check_reference(reference, "a positive", is_image)

    def check_kind(reference: Reference) -> None:
        if is_image(reference) != is_image(positives[0]):
            raise RowError("some positives are texts and some are images; only those like the first are used")

    def check_negative(reference: Reference) -> None:
        _check_reference(reference, "a negative", is_image)
        if _identity(reference) in answers:
            raise RowError("a negative is a positive of the same row", _shown(reference))

    positives = _usable(row.positives, check_positive, dropped)
    if not positives:
        raise dropped[0] if dropped else RowError("the row has no positive")
    positives = _usable(positives, check_kind, dropped)
    answers = set(map(_identity, positives)) if row.negatives else set()
    negatives = _usable(row.negatives, check_negative, dropped)
    return (replace(row, positives=positives, negatives=negatives) if dropped else row), dropped


def _usable(
    references: Sequence[Reference], check: Callable[[Reference], None], dropped: list[RowError]
) -> Sequence[Reference]:
    usable = []
    for reference in references:
        try:
            check(reference)
        except RowError as error:
            dropped.append(error)
        else:
            usable.append(reference)
    return usable


def _check_reference(reference: Reference, name: str, is_image: Callable[[Reference], bool]) -> None:
    if isinstance(reference, DocumentId):
        is_image(reference)
    else:
        check_document(reference, name)


def check_document(document: Document, name: str) -> None:
    """Refuse a blank text, a file that does not exist, and a page that a PDF does not have. No image is opened.

    Raises:
        RowError: the message begins with the document's name.
    """
    if isinstance(document, ImageText):
        raise RowError(f"{name} is an ImageText; training takes texts, images and pages of PDFs")
    if isinstance(document, str):
        if not document.strip():
            raise RowError(f"{name} is empty")
        try:
            check_text(document)
        except ValueError as error:
            raise RowError(f"{name} is no Unicode text", str(error)) from error
    elif isinstance(document, bytes):
        if not document:
            raise RowError(f"{name} is empty")
    elif isinstance(document, Path | PdfPage):
        path = document if isinstance(document, Path) else document.path
        stamp = file_stamp(path)
        if stamp is None or not path.is_file():
            raise RowError(f"the file of {name} does not exist", str(path))
        if isinstance(document, PdfPage) and document.number > (total := _n_pages(path, stamp)):
            raise RowError(f"the PDF of {name} has fewer pages", f"{path} has {total}, not {document.number}")


@lru_cache(maxsize=4096)
def _n_pages(path: Path, stamp: tuple[int, ...]) -> int:  # noqa: ARG001 — a file that was written again is read again
    try:
        return pdf.n_pages(path)
    except ValueError as error:
        raise RowError("a PDF cannot be read", str(error)) from error


def _identity(reference: Reference) -> Hashable:
    """Return what equal documents share; pixels are not compared."""
    return reference if isinstance(reference, str | bytes | Path | PdfPage | DocumentId) else id(reference)


def _shown(reference: Reference) -> str:
    return reprlib.repr(reference.identity if isinstance(reference, DocumentId) else reference)
