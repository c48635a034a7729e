"""The units of files: texts, images and pages that are each worth a search result."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image

from polyvec import Failure, Task
from polyvec.html.encoding import decode
from polyvec.images import check_regular, image_pages, n_image_pages, suffixes
from polyvec.pdf import pages
from polyvec.types import Page, UnreadablePages
from qdrant_polyvec.characters import shortened
from qdrant_polyvec.files import cutting, folders, html_text

_OUTLINERS: dict[str, cutting.Outliner] = {
    ".md": cutting.markdown_sections, ".markdown": cutting.markdown_sections,
    ".txt": cutting.prose, ".rst": cutting.prose, ".adoc": cutting.prose, ".org": cutting.prose, ".tex": cutting.prose,
    ".py": cutting.definitions, ".pyi": cutting.definitions,
}  # fmt: skip
_MOST_NAME_CHARS = 100  # of a heading in a context
_IMAGE, _PAGE, _SECTION = "image", "page ", "section "  # names of units that have no lines


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """One part of a file.

    Attributes:
        content: a text, the path of an image file of one page, or the image of a page.
        source: the path of the file, beginning with the path that `find` was called with.
        unit: the lines, as in `L10-42` (both included, counted from 1), `section 3`, `page 3` or `image`.
        task: `code` for code, otherwise `retrieval`.
        text: the text layer of a page, if it has one.
        context: where a text comes from: the name of its file and the headings above it, or its class and function.
        document: the whole text of the file that a text is part of.
        start: position of a text in that document.
    """

    content: str | Path | Image.Image
    source: str
    unit: str
    task: Task
    text: str | None = None
    context: str | None = None
    document: str | None = None
    start: int = 0


def units(files: Iterable[Path | Failure], *, dpi: float = 150) -> Iterator[Unit | Failure]:
    """Read files unit by unit, and report unreadable files and pages. A page is rendered when it is reached.

    Args:
        files: the result of `find`.
        dpi: resolution of PDF pages.
    """
    for file in files:
        if isinstance(file, Failure):
            yield file
            continue
        try:
            yield from _units_of_file(file, dpi)
        except UnreadablePages as error:
            for number, reason in error.reasons.items():
                yield folders.failure(file, ValueError(f"page {number}: {reason}"))
        except (ImportError, OSError, ValueError) as error:
            yield folders.failure(file, error)


def load(source: str, unit: str, *, dpi: float = 150) -> str | Path | Image.Image:
    """Return the image of a unit as `load_image` does, or the whole text that a unit is part of.

    Raises:
        OSError: the file cannot be read.
        ValueError: the image or text is no longer there.
    """
    path = Path(source)
    if unit == _IMAGE or unit.startswith(_PAGE) or folders.is_of_pages(path) or not path.is_file():
        return load_image(source, unit, dpi=dpi)
    return _document(path, path.stat().st_mtime_ns)


def load_image(source: str, unit: str, *, dpi: float = 150) -> Path | Image.Image:
    """Return the image of a unit: the path of an image file, or a page of a PDF or image file, read again.

    Raises:
        ValueError: the image is no longer there.
    """
    path = Path(source)
    if not path.is_file():
        raise ValueError(f"{source!r} is gone")
    if unit == _IMAGE:
        return path
    number = unit.removeprefix(_PAGE)
    if not (unit.startswith(_PAGE) and number.isdecimal() and folders.is_of_pages(path)):
        raise ValueError(f"{unit!r} of {source!r} is no image")
    try:
        page = next(_pages(path, dpi=dpi, first=int(number)), None)
    except UnreadablePages as error:
        raise ValueError(f"{unit} of {source!r} cannot be read: {error}") from error
    if page is None or page.number != int(number):
        raise ValueError(f"{source!r} has no readable {unit} any more")
    return page.image


@lru_cache(maxsize=1)
def _document(file: Path, modified: int) -> str:  # noqa: ARG001 — a changed file is read again
    documents = (unit.document for unit in _units_of_file(file, 150) if unit.document is not None)
    if (document := next(documents, None)) is None:
        raise ValueError(f"{file.as_posix()!r} has no text any more")
    return document


def _units_of_file(file: Path, dpi: float) -> Iterator[Unit]:
    check_regular(file, "it")  # also reports a missing image, which is otherwise opened only when it is encoded
    source, suffix = file.as_posix(), file.suffix.lower()
    if suffix in suffixes() and n_image_pages(file) == 1:
        yield Unit(file, source, _IMAGE, "retrieval")
    elif folders.is_of_pages(file):
        for page in _pages(file, dpi=dpi):
            yield Unit(page.image, source, f"{_PAGE}{page.number}", "retrieval", page.text.strip() or None)
    elif suffix in folders.HTML_SUFFIXES:
        yield from _units_of_sections(html_text.sections(decode(file.read_bytes())), file)
    elif suffix in folders.TEXT_SUFFIXES + folders.CODE_SUFFIXES:
        is_code = suffix in folders.CODE_SUFFIXES
        outliner = _OUTLINERS.get(suffix, cutting.blocks if is_code else cutting.whole)
        document = _text(file)
        lines = document.split("\n")
        for part in cutting.parts(lines, outliner(lines)):
            task: Task = "code" if is_code else "retrieval"
            yield Unit(part.text, source, part.name, task, None, _context(file, part.path), document, part.start)
    else:
        raise ValueError(f"suffix {suffix!r} is not one of {', '.join(folders.known_suffixes())}")


def _pages(file: Path, *, dpi: float, first: int = 1) -> Iterator[Page]:
    if file.suffix.lower() == folders.PDF_SUFFIX:
        return pages(file, dpi=dpi, first=first)
    return image_pages(file, first=first)


def _units_of_sections(sections: Sequence[html_text.Section], file: Path) -> Iterator[Unit]:
    document, start = "\n\n".join(section.text for section in sections), 0
    for number, section in enumerate(sections, start=1):
        heads = {index: line.head for index, line in enumerate(section.lines) if line.head}
        outline = cutting.Outline({0: section.path}, heads=heads)
        parts = list(cutting.parts([line.text for line in section.lines], outline))
        for part in parts:
            name = f"{_SECTION}{number}" if len(parts) == 1 else f"{_SECTION}{number} {part.name}"
            context = _context(file, part.path, part.head)
            yield Unit(part.text, file.as_posix(), name, "retrieval", None, context, document, start + part.start)
        start += len(section.text) + 2


def _context(file: Path, path: Sequence[str], head: str = "") -> str:
    names = [shortened(name, _MOST_NAME_CHARS) for name in (file.name, *path)]
    if head:  # the header rows of a table, on one line
        names.append(head.replace("\t", " | ").replace("\n", " / "))
    return " › ".join(names)


def _text(file: Path) -> str:
    content = file.read_bytes()
    text = content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    if "\0" in text:
        raise ValueError("is binary: it holds null bytes")
    return text.replace("\r\n", "\n").replace("\r", "\n")
