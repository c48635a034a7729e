"""Documents as they are passed around: what an encoder takes, or a page of a PDF that is rendered when it is needed."""

from dataclasses import dataclass
from pathlib import Path

from polyvec import pdf
from polyvec.types import Input

__all__ = ["Document", "PdfPage", "image_in", "loaded", "page_text"]

_SMALL = 18  # dots per inch: a text layer comes with a picture, which is not needed


@dataclass(frozen=True, slots=True)
class PdfPage:
    """A page of a PDF file, counted from 1. It is rendered when it is needed."""

    path: Path
    number: int


Document = Input | PdfPage


def loaded(document: Document, *, dpi: float = 150) -> Input:
    """Return what an encoder takes: the document itself, or the image of its page.

    Raises:
        ValueError: the page does not exist or cannot be read.
    """
    return _page(document, dpi).image if isinstance(document, PdfPage) else document


def page_text(page: PdfPage) -> str:
    """Return the text layer of a page; empty if it has none. Raises as `loaded`."""
    return _page(page, _SMALL).text


def image_in(folder: Path, name: str) -> Path:
    """Return the path of an image file that a dataset names. Whether it exists shows when it is read.

    Raises:
        ValueError: it lies outside the folder.
    """
    path = folder / name
    inside = path.resolve().is_relative_to(folder.resolve())
    if Path(name).is_absolute() or ".." in Path(name).parts or not inside:
        raise ValueError(f"image path {name!r} leaves the folder; give one relative to it, without `..`")
    return path


def _page(page: PdfPage, dpi: float) -> pdf.Page:
    read = next(pdf.pages(page.path, dpi=dpi, first=page.number), None)
    if read is None or read.number != page.number:
        raise ValueError(f"page {page.number} of {str(page.path)!r} does not exist or cannot be read.")
    return read
