"""Read the pages of a PDF as images with their text, one at a time (extra: `pdf`)."""

import ctypes
import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from polyvec import forking
from polyvec.images import MAX_ASPECT_RATIO, MAX_IMAGE_PIXELS, check_regular
from polyvec.pdf_labels import open_document, page_labels
from polyvec.pdf_text import text_of
from polyvec.types import Page, UnreadablePages

__all__ = ["Page", "PasswordError", "UnreadablePages", "n_pages", "pages"]

# PDFium is not thread-safe: every call holds this lock. It is re-entrant, because an abandoned iterator may be garbage
# collected, and so close its file, in a thread that holds the lock.
_PDFIUM = forking.lock()
_PAGES_PER_OPENING = 16  # PDFium frees the memory of pages only when the document is closed
_POINTS_PER_INCH = 72


class PasswordError(ValueError):
    """A PDF is encrypted, and no password or a wrong one was given."""


def pages(
    path: str | Path | bytes, *, dpi: float = 150, password: str | None = None, first: int = 1, labels: bool = False
) -> Iterator[Page]:
    """Read a PDF page by page: memory does not grow with the document. Threads may read several at once.

    Args:
        path: a file, which must not change meanwhile, or the content of a file.
        dpi: pixels per inch of the images; A4 has 1241×1754 at 150.
        password: for an encrypted PDF; any other PDF ignores it.
        first: number of the first page to read; beyond the last page, nothing is handed out.
        labels: also read the labels of the pages. If there may be any, another Python process does it, which takes
            some tenths of a second for a file.

    Yields:
        The pages in order, without those that cannot be read.

    Raises:
        PasswordError: at once: the PDF is encrypted, and the password is missing or wrong.
        ValueError: at once: the file is missing or no PDF, or `dpi` or `first` is impossible.
        UnreadablePages: after the last page, with all pages that could not be read.
        ImportError: pypdfium2 is not installed.
    """
    if not 0 < dpi < math.inf:
        raise ValueError(f"`dpi` is {dpi}; it must be positive and finite. 150 suits printed pages.")
    if first < 1:
        raise ValueError(f"`first` is {first}; pages are counted from 1.")
    total = n_pages(path, password=password)
    return _rendered(_source(path), dpi, password, range(first - 1, total), labels=labels)


def n_pages(path: str | Path | bytes, *, password: str | None = None) -> int:
    """Count the pages that a PDF declares, without rendering. Arguments and errors are those of `pages`."""
    with _opened(_source(path), password) as document, _PDFIUM:
        return len(document)


def _rendered(
    source: Path | bytes, dpi: float, password: str | None, indices: range, *, labels: bool
) -> Iterator[Page]:
    pdfium = _pypdfium2()
    label_by_number = page_labels(source, password) if labels else {}
    reasons: dict[int, str] = {}
    for start in range(0, len(indices), _PAGES_PER_OPENING):
        with _opened(source, password) as document:
            for index in indices[start : start + _PAGES_PER_OPENING]:
                try:
                    page = _page(document, index, dpi)
                except (pdfium.PdfiumError, ValueError) as error:
                    reasons[index + 1] = str(error).rstrip(".")
                else:
                    yield replace(page, label=label_by_number.get(page.number))
    if reasons:
        raise UnreadablePages(_describe(source), reasons, len(indices) - len(reasons))


def _page(document: Any, index: int, dpi: float) -> Page:  # Any: pypdfium2 ships no annotations
    with _PDFIUM, closing(document.get_page(index)) as page:
        _check_page_size(page.get_size(), dpi)
        with closing(page.get_textpage()) as layer, closing(page.render(scale=dpi / _POINTS_PER_INCH)) as bitmap:
            parts = [text_of(page, layer, _pypdfium2().raw), *dict.fromkeys(_form_values(page))]
            text = "\n".join(part for part in parts if part).replace("\r\n", "\n").replace("\r", "\n")
            return Page(index + 1, bitmap.to_pil(), text)


def _form_values(page: Any) -> Iterator[str]:  # Any: as above
    """Yield the values of visible form fields that hold text, which are not in the text layer, without passwords."""
    raw = _pypdfium2().raw
    if page.formenv is None:
        return
    form = page.formenv.raw
    with_text = (raw.FPDF_FORMFIELD_TEXTFIELD, raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX)
    for index in range(raw.FPDFPage_GetAnnotCount(page.raw)):
        field = raw.FPDFPage_GetAnnot(page.raw, index)
        if not field:
            continue
        try:
            hidden = raw.FPDFAnnot_GetFlags(field) & (raw.FPDF_ANNOT_FLAG_HIDDEN | raw.FPDF_ANNOT_FLAG_NOVIEW)
            secret = raw.FPDFAnnot_GetFormFieldFlags(form, field) & raw.FPDF_FORMFLAG_TEXT_PASSWORD
            if hidden or secret or raw.FPDFAnnot_GetFormFieldType(form, field) not in with_text:
                continue
            n_bytes = raw.FPDFAnnot_GetFormFieldValue(form, field, None, 0)
            value = ctypes.create_string_buffer(n_bytes)
            raw.FPDFAnnot_GetFormFieldValue(form, field, ctypes.cast(value, ctypes.POINTER(raw.FPDF_WCHAR)), n_bytes)
            yield value.raw.decode("utf-16-le", "ignore").rstrip("\0")
        finally:
            raw.FPDFPage_CloseAnnot(field)


def _check_page_size(size: tuple[float, float], dpi: float) -> None:
    """Refuse a page, measured in points, whose image would be refused."""
    sides = [side * dpi / _POINTS_PER_INCH for side in size]  # PDFium rounds them up to whole pixels
    shown = f"{sides[0]:,.0f}×{sides[1]:,.0f} pixels at {dpi:g} dpi"
    if max(sides) > MAX_IMAGE_PIXELS or math.prod(map(math.ceil, sides)) > MAX_IMAGE_PIXELS:
        # One per cent less than the exact limit, so that rounding cannot exceed it.
        max_dpi = 0.99 * _POINTS_PER_INCH * math.sqrt(MAX_IMAGE_PIXELS / math.prod(size))
        raise ValueError(f"it has {shown}; at most {MAX_IMAGE_PIXELS:,} are rendered: pass `dpi={max_dpi:.1f}` or less")
    longer, shorter = max(map(math.ceil, sides)), min(map(math.ceil, sides))
    if longer > MAX_ASPECT_RATIO * shorter:
        raise ValueError(f"it has {shown}; no side may be {MAX_ASPECT_RATIO} times the other")


@contextmanager
def _opened(source: Path | bytes, password: str | None) -> Iterator[Any]:  # Any: as above
    """Open a document with its forms, and close it at the end."""
    pdfium, name = _pypdfium2(), _describe(source)
    if isinstance(source, Path):
        if not source.exists():
            raise ValueError(f"{name} does not exist.")
        check_regular(source, name)
    if not (source if isinstance(source, bytes) else source.stat().st_size):
        raise ValueError(f"{name} is empty.")
    # A lone surrogate is no character, so no password has one. The error of pypdfium2 would show it.
    password = None if password is None else password.encode("utf-8", "replace").decode()
    with _PDFIUM:
        try:
            document = open_document(source, password)
        except pdfium.PdfiumError as error:
            if error.err_code == pdfium.raw.FPDF_ERR_PASSWORD:
                problem = "is encrypted" if password is None else "does not open with this password"
                raise PasswordError(f"{name} {problem}; pass `password=`.") from error
            raise ValueError(f"{name} cannot be read as a PDF. {error}") from error
    try:
        with _PDFIUM:
            document.init_forms()
        yield document
    finally:
        with _PDFIUM:
            document.close()


def _source(path: str | Path | bytes) -> Path | bytes:
    """Make a path absolute, so that a change of the working directory does not matter."""
    if isinstance(path, bytes):
        return path
    if not isinstance(path, str | Path):
        raise TypeError(f"`path` is {type(path).__name__}; give a str or pathlib.Path, or the PDF itself as bytes.")
    return Path(path).absolute()


def _describe(source: Path | bytes) -> str:
    return f"PDF file {str(source)!r}" if isinstance(source, Path) else f"PDF of {len(source)} bytes"


def _pypdfium2() -> Any:  # Any: as above
    try:
        import pypdfium2  # an optional extra
    except ImportError as error:
        raise ImportError("PDFs are read with pypdfium2; install it with `pip install 'polyvec[pdf]'`.") from error
    return pypdfium2
