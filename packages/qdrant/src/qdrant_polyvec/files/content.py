"""The units of files: texts, images and pages that are each worth a search result."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from PIL import Image

from polyvec import Failure, Task
from polyvec.images import check_regular, image_pages, n_image_pages, open_image, suffixes
from polyvec.markdown import Heading
from polyvec.pdf import pages
from polyvec.pictures import Picture
from polyvec.types import Page, UnreadablePages
from qdrant_polyvec.characters import shortened
from qdrant_polyvec.checks import TEXT
from qdrant_polyvec.files import cutting, folders, html_text, kinds, notebooks, office
from qdrant_polyvec.files.kinds import LeftOut
from qdrant_polyvec.files.office import NamedSection
from qdrant_polyvec.files.reading import Reading
from qdrant_polyvec.pictures import page_picture, page_unit

_log = logging.getLogger(__name__)
_OUTLINERS: dict[str, cutting.Outliner] = {
    ".md": cutting.markdown_sections, ".markdown": cutting.markdown_sections,
    ".txt": cutting.prose, ".rst": cutting.prose, ".adoc": cutting.prose, ".org": cutting.prose, ".tex": cutting.prose,
    ".py": cutting.definitions, ".pyi": cutting.definitions,
    ".csv": cutting.table, ".tsv": cutting.table,
}  # fmt: skip
SEPARATOR = " › "  # of the names in a context, of which the first is that of the file
_MOST_NAME_CHARS = 100  # of a heading in a context
_IMAGE, _PAGE, _SECTION = "image", "page ", "section "  # names of units that have no lines
_USUAL = Reading()
OnGuess = Callable[[Path, str], object]


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """One part of a file.

    Attributes:
        content: a text, the path of an image file of one page, or the image of a page or notebook.
        source: the path of the file, beginning with the path that `find` was called with.
        unit: the lines, as in `L10-42` (both included, counted from 1), `section 3`, `slide 3`, `sheet Budget`,
            `page 3`, `image`, or the part of a notebook, as in `cell 3`, `cell 3 output` and `cell 3 image 1`.
        task: `code` for code, otherwise `retrieval`.
        text: the text layer of a page, if it has one.
        context: where a text comes from: the name of its file and the headings above it, or its class and function, or
            the header row of its table.
        document: the whole text of the file that a text is part of.
        start: position of a text in that document.
        picture: of a page, at the resolution that it was drawn at.
    """

    content: str | Path | Image.Image
    source: str
    unit: str
    task: Task
    text: str | None = None
    context: str | None = None
    document: str | None = None
    start: int = 0
    picture: Picture | None = None


def units(
    files: Iterable[Path | Failure],
    *,
    reading: Reading = _USUAL,
    on_left_out: Callable[[Path, LeftOut], object] = lambda *_: None,
    on_guess: OnGuess = lambda *_: None,
) -> Iterator[Unit | Failure]:
    """Read files unit by unit, and report unreadable files and pages. A page is rendered when it is reached.

    Args:
        files: the result of `find`.
        reading: how to read them.
        on_left_out: is called with each file that has no units, and why.
        on_guess: is called with each file whose encoding was guessed, and the name of that encoding.
    """
    for file in files:
        if isinstance(file, Failure):
            yield file
            continue
        n_units = 0
        for n_units, unit in enumerate(_guarded(file, reading, on_guess), start=1):  # noqa: B007 — counted
            yield unit
        if not n_units:
            on_left_out(file, "without text")


def load(source: str, unit: str, *, reading: Reading = _USUAL) -> str | Path | Image.Image:
    """Return the image of a unit as `load_image` does, or the whole text that a unit is part of.

    Raises:
        OSError: the file cannot be read.
        ValueError: the image or text is no longer there.
    """
    path = Path(source)
    is_text = kinds.is_text(path) or path.suffix.lower() in (*kinds.HTML_SUFFIXES, *office.SUFFIXES)
    if not is_text or unit == _IMAGE or unit.startswith(_PAGE) or not path.is_file():
        return load_image(source, unit, reading=reading)
    return _document(path, reading, path.stat().st_mtime_ns)


def load_image(source: str, unit: str, *, reading: Reading = _USUAL) -> Path | Image.Image:
    """Return the image of a unit: the path of an image file, or a page of a PDF or image file, read again.

    Raises:
        ValueError: the image is no longer there.
    """
    path = Path(source)
    if not path.is_file():
        raise ValueError(f"{source!r} is gone")
    if unit == _IMAGE:
        return path
    if path.suffix.lower() == kinds.NOTEBOOK_SUFFIX:
        return _picture_of(path, unit)
    number = unit.removeprefix(_PAGE)
    if not (unit.startswith(_PAGE) and number.isdecimal() and kinds.is_of_pages(path)):
        raise ValueError(f"{unit!r} of {source!r} is no image")
    try:
        page = next(_pages(path, reading, first=int(number)), None)
    except UnreadablePages as error:
        raise ValueError(f"{unit} of {source!r} cannot be read: {error}") from error
    if page is None or page.number != int(number):
        raise ValueError(f"{source!r} has no readable {unit} any more")
    return page.image


@lru_cache(maxsize=1)
def _document(file: Path, reading: Reading, modified: int) -> str:  # noqa: ARG001 — a changed file is read again
    for unit in _units_of_file(file, reading, lambda *_: None):
        if isinstance(unit, Unit) and unit.document is not None:
            return unit.document
    raise ValueError(f"{file.as_posix()!r} has no text any more")


def _picture_of(notebook: Path, unit: str) -> Image.Image:
    for part in notebooks.parts(notebook.read_bytes()):
        if part.name == unit and isinstance(part.content, bytes):
            return open_image(part.content)
    raise ValueError(f"{notebook.as_posix()!r} has no picture {unit!r}")


def _guarded(file: Path, reading: Reading, on_guess: OnGuess) -> Iterator[Unit | Failure]:
    """The units of a file. What a bad file can cause is a failure, and so is a fault of this package, by its name."""
    try:
        yield from _units_of_file(file, reading, on_guess)
    except UnreadablePages as error:
        for number, reason in error.reasons.items():
            yield folders.failure(file, ValueError(f"page {number}: {reason}"))
    except _OwnFault as error:
        _log.error("%r: %s", file.as_posix(), error, exc_info=error.__cause__)
        yield folders.failure(file, ValueError(str(error)))
    except (OSError, ValueError) as error:
        yield folders.failure(file, error)


def _units_of_file(file: Path, reading: Reading, on_guess: OnGuess) -> Iterator[Unit | Failure]:
    check_regular(file, "it")  # also reports a missing image, which is otherwise opened only when it is encoded
    source, suffix = file.as_posix(), file.suffix.lower()
    if suffix in suffixes() and n_image_pages(file) == 1:
        yield Unit(file, source, _IMAGE, "retrieval")
    elif kinds.is_of_pages(file):
        for page in _pages(file, reading, labels=True):
            name, text = page_unit(page.number), page.text.strip() or None
            picture = page_picture(source, name, dpi=reading.dpi, label=page.label)
            yield Unit(page.image, source, name, "retrieval", text, picture=picture)
    elif suffix in kinds.HTML_SUFFIXES:
        markup, guess = kinds.decode_page(file.read_bytes(), reading.encoding)
        if guess is not None:
            on_guess(file, guess)
        yield from _units_of_sections(map(NamedSection, html_text.sections(markup)), file)
    elif suffix in office.SUFFIXES:
        yield from _units_of_sections(office.sections(file), file)
    elif suffix == kinds.NOTEBOOK_SUFFIX:
        above: Sequence[Heading] = ()
        for cell in notebooks.parts(file.read_bytes()):
            yield from _units_of_part(cell, file, above)
            if cell.kind == "markdown" and isinstance(cell.content, str):
                above = cutting.headings_below(cell.content, above)
    else:
        text, guess = kinds.decode(file.read_bytes(), reading.encoding)
        if guess is not None:
            on_guess(file, guess)
        is_code = kinds.is_code(file, text)
        outliner = _OUTLINERS.get(suffix, cutting.blocks if is_code else cutting.whole)
        for part in _cut(text, outliner):
            task: Task = "code" if is_code else "retrieval"
            yield Unit(part.text, source, part.name, task, None, _context(file, part.path, part.head), text, part.start)


def _units_of_part(part: notebooks.Part, file: Path, above: Sequence[Heading]) -> Iterator[Unit | Failure]:
    source, path = file.as_posix(), cutting.names(above)
    match part:
        case notebooks.Part(content=bytes() as picture):
            try:
                yield Unit(open_image(picture), source, part.name, "retrieval")
            except ValueError as error:
                yield folders.failure(file, ValueError(f"{part.name}: {error}"))
        case notebooks.Part(kind="output", content=str() as text):
            beginning = text[: 2 * cutting.MAX_UNIT_CHARS]  # an output may have megabytes
            yield from islice(_named_units(beginning, file, part.name, path), 1)
        case notebooks.Part(kind="code", content=str() as text):
            outliner = cutting.definitions if part.language == "python" else cutting.blocks
            yield from _named_units(text, file, part.name, path, outliner=outliner, task="code")
        case notebooks.Part(content=str() as text):
            if part.kind == "markdown":
                yield from _named_units(
                    text, file, part.name, outliner=lambda lines: cutting.markdown_sections(lines, above)
                )
            else:
                yield from _named_units(text, file, part.name, path)


def _cut(text: str, outliner: cutting.Outliner) -> list[cutting.Part]:
    """Cut any text. An error is one of this package, for which no file is blamed."""
    lines = text.split("\n")
    try:
        return list(cutting.parts(lines, outliner(lines)))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise _OwnFault(error) from error


class _OwnFault(Exception):  # noqa: N818 — a fault of this package
    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"cannot be cut: a fault of polyvec, not of the file. Please report {type(error).__name__}: {error}"
        )


def _pages(file: Path, reading: Reading, *, first: int = 1, labels: bool = False) -> Iterator[Page]:
    if file.suffix.lower() != kinds.PDF_SUFFIX:
        return image_pages(file, first=first)
    try:
        with reading.naming_options():
            return pages(file, dpi=reading.dpi, password=reading.password, first=first, labels=labels)
    except ImportError as error:
        raise ValueError("PDFs are read with pypdfium2; install it with `pip install 'qdrant-polyvec[pdf]'`") from error


def _units_of_sections(sections: Iterable[NamedSection], file: Path) -> Iterator[Unit]:
    sections = list(sections)
    document, start = "\n\n".join(named.section.text for named in sections), 0
    for number, named in enumerate(sections, start=1):
        section, place = named.section, named.name or f"{_SECTION}{number}"
        parts = _cut(section.text, _outliner(section))
        for part in parts:
            name = place if len(parts) == 1 else f"{place} {part.name}"
            context = _context(file, part.path, part.head)
            yield Unit(part.text, file.as_posix(), name, "retrieval", None, context, document, start + part.start)
        start += len(section.text) + 2


def _outliner(section: html_text.Section) -> cutting.Outliner:
    heads = {index: line.head for index, line in enumerate(section.lines) if line.head}
    outline = cutting.Outline({0: section.path}, heads=heads)
    return lambda _: outline


def _context(file: Path, path: Sequence[str], head: str = "") -> str:
    names = [shortened(name, _MOST_NAME_CHARS) for name in (file.name, *path)]
    if head:  # the header rows of a table, on one line
        names.append(head.replace("\t", " | ").replace("\n", " / "))
    return SEPARATOR.join(names).replace(TEXT, "")


def _named_units(
    text: str,
    file: Path,
    name: str,
    path: tuple[str, ...] = (),
    *,
    outliner: cutting.Outliner = cutting.whole,
    task: Task = "retrieval",
) -> Iterator[Unit]:
    """Cut a part of a file below a path of headings. The lines follow the name if there are several units."""
    parts = _cut(text, outliner)
    for part in parts:
        unit = name if len(parts) == 1 else f"{name} {part.name}"
        yield Unit(part.text, file.as_posix(), unit, task, None, _context(file, (*path, *part.path)))
