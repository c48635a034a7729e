"""Pages in PDF and image files: found, identified by content, and read one at a time."""

import hashlib
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from polyvec import pdf
from polyvec.data.building.material import Content
from polyvec.data.documents import PdfPage
from polyvec.images import check_regular, image_pages, n_image_pages, open_image, suffixes
from polyvec.types import Failure, Page

__all__ = ["PageFile", "bounded", "files", "is_blank", "pages_in", "read_page"]

_CELL = 4  # pixels on each side that are averaged before ink is looked for, against noise
_INK = 16  # of 255: smallest difference between the darkest and the brightest cell of a page with ink
_STEM = 40  # characters of a file's name in ids


@dataclass(frozen=True, slots=True)
class PageFile:
    """A page and the file that has it.

    Attributes:
        name: the path below the folder that was searched, for people.
        number: of the page, from 1.
        n_pages: of the file.
        digest: SHA-256 of the file.
    """

    path: Path
    name: str
    number: int
    n_pages: int
    digest: str

    @property
    def is_pdf(self) -> bool:
        """Whether the page is rendered from a PDF."""
        return _is_pdf(self.path)

    @property
    def file_id(self) -> str:
        """A name for the file that follows its content when the file is moved."""
        stem = re.sub(r"[^\w.]+", "-", self.path.stem).strip("-.")[:_STEM]
        return f"{stem or 'file'}-{self.digest[:12]}"

    @property
    def id(self) -> str:
        """A name for the page; it can be the name of a file."""
        return f"{self.file_id}-{self.number}" if self.is_pdf or self.n_pages > 1 else self.file_id

    @property
    def source(self) -> str:
        """The file and the page, for people."""
        return f"{self.name}#page={self.number}" if self.is_pdf or self.n_pages > 1 else self.name

    @property
    def content(self) -> Content:
        """The page as datasets take it."""
        if self.is_pdf:
            return PdfPage(self.path, self.number)
        return partial(_image_page, self.path, self.number) if self.n_pages > 1 else self.path


def files(paths: Iterable[str | Path]) -> Iterator[tuple[Path, str]]:
    """Yield PDF and image files with their names, each once: given files, and those in given folders, sorted.

    Files of folders count by their suffix. Hidden files and folders are left out.

    Raises:
        ValueError: a path does not exist, or there is no file at all.
    """
    roots = [Path(path) for path in paths]
    for root in roots:
        if not root.exists():
            raise ValueError(f"{str(root)!r} does not exist; give PDF files, image files, or folders of them.")
    seen: set[Path] = set()
    known = (".pdf", *suffixes())
    for root in roots:
        for path in _below(root, known) if root.is_dir() else [root]:
            if path.resolve() not in seen:
                seen.add(path.resolve())
                yield path, path.relative_to(root).as_posix() if root.is_dir() else path.name
    if not seen:
        shown = ", ".join(repr(str(root)) for root in roots)
        raise ValueError(f"there is no page in {shown}; files are known by the suffixes {', '.join(known)}.")


def pages_in(path: Path, name: str) -> list[PageFile]:
    """Return the pages of a file, without reading them.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror or error}") from error
    try:
        n_pages = pdf.n_pages(path) if _is_pdf(path) else n_image_pages(path)
    except pdf.PasswordError as error:
        raise ValueError("it is encrypted; give a copy without a password") from error
    return [PageFile(path, name, number, n_pages, digest) for number in range(1, n_pages + 1)]


def read_page(page: PageFile, *, dpi: float) -> Page:
    """Return the picture and the text layer of a page.

    Raises:
        ValueError: it cannot be read.
    """
    first = page.number
    if not page.is_pdf and page.n_pages == 1:
        return Page(1, open_image(page.path), "")
    reader = pdf.pages(page.path, dpi=dpi, first=first) if page.is_pdf else image_pages(page.path, first=first)
    try:
        read = next(reader, None)
    except ValueError as error:
        failures: tuple[Failure, ...] = getattr(error, "failures", ())
        raise ValueError(failures[0].reason if failures else str(error)) from error
    finally:
        reader.close()  # type: ignore[attr-defined]  # both are generators
    if read is None or read.number != first:
        raise ValueError("it cannot be read")
    return read


def bounded(image: Image.Image, max_pixels: int) -> Image.Image:
    """Shrink an image that has more pixels; its shape stays."""
    n_pixels = image.width * image.height
    if n_pixels <= max_pixels:
        return image
    scale = math.sqrt(max_pixels / n_pixels)
    size = max(1, int(image.width * scale)), max(1, int(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)


def is_blank(page: Page) -> bool:
    """Whether a page has neither text nor ink: all of it has one shade, but for noise."""
    shades = page.image.convert("L").reduce(_CELL).getextrema()
    darkest, brightest = shades  # of one band
    assert isinstance(darkest, int | float)
    assert isinstance(brightest, int | float)
    return not page.text.strip() and brightest - darkest < _INK


def _below(folder: Path, known: tuple[str, ...]) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.suffix.lower() in known and path.is_file():
            yield path


def _is_pdf(path: Path) -> bool:
    return path.suffix.lower() == ".pdf"


def _image_page(path: Path, number: int) -> Image.Image:
    return next(image_pages(path, first=number)).image
