"""The sections of office files and e-books: DOCX, PPTX and XLSX (extra: `office`), and EPUB."""

import datetime
import importlib.util
import posixpath
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.parsers import expat

from turbohtml import Element, parse_xml

from polyvec.html.encoding import decode
from qdrant_polyvec.files import html_text
from qdrant_polyvec.files.cutting import MAX_UNIT_CHARS
from qdrant_polyvec.files.html_text import Line, Section

INSTALL = "pip install 'qdrant-polyvec[office]'"

# Limits for hostile files. A book of a thousand pages has a tenth of them.
_MOST_XML_BYTES = 100_000_000
_MOST_BYTES = 1_000_000_000
_MOST_TAGS = 4_000_000  # of DOCX and PPTX, whose readers keep all of them in memory
_MOST_CELLS = 5_000_000

_CHUNK = 65_536
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # what formats before 2007 and encrypted files begin with
_XML_SUFFIXES = (".xml", ".rels", ".opf", ".ncx", ".vml")
_FONT_SCRAMBLING = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
# What the readers raise for damaged files: they do not check what they read.
_FAULTS = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, RuntimeError, SyntaxError,
    TypeError, ValueError, expat.ExpatError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NamedSection:
    """A section, and the name of its place: `slide 3`, `slide 3 notes`, `sheet Budget`; None if it has none."""

    section: Section
    name: str | None = None


def is_readable(suffix: str) -> bool:
    """True if files with this suffix can be read: it is an office file or e-book, and its reader is installed."""
    reader = _READERS.get(suffix)
    return reader is not None and all(importlib.util.find_spec(module) for module in reader.modules)


def sections(file: Path) -> list[NamedSection]:
    """Read an office file or e-book.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is damaged, encrypted, or too large when it is unpacked, or its reader is not installed.
    """
    suffix = file.suffix.lower()
    reader, kind = _READERS[suffix], suffix.removeprefix(".").upper()
    if not is_readable(suffix):
        raise ValueError(f"{kind} files are read with {reader.modules[0]}; install it with `{INSTALL}`")
    with file.open("rb") as stream:
        if stream.read(len(_OLE)) == _OLE:
            is_encrypted = "EncryptedPackage".encode("utf-16-le") in stream.read()
            reason = "is encrypted: save it without a password" if is_encrypted else "has the format before 2007"
            raise ValueError(reason)
        try:
            with zipfile.ZipFile(stream) as archive, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what the readers leave out
                _check(archive, most_tags=_MOST_TAGS if reader.keeps_tags else None)
                return [named for named in reader.read(archive, stream) if named.section.lines]
        except _Refused:
            raise
        except _FAULTS as error:
            raise ValueError(f"cannot be read as {kind}: {str(error) or type(error).__name__}") from error


class _Refused(ValueError):  # noqa: N818 — a reason that is shown as it is
    pass


def _check(archive: zipfile.ZipFile, *, most_tags: int | None) -> None:
    """Unpack everything once, piece by piece, before a reader does it in memory."""
    members = archive.infolist()
    if any(member.flag_bits & 1 for member in members):
        raise _Refused("is encrypted: save it without a password")
    if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
        raise _Refused("is packed in a way that office files and e-books are not")
    n_bytes = sum(member.file_size for member in members)
    n_xml = sum(member.file_size for member in members if _is_xml(member.filename))
    for size, most, what in ((n_xml, _MOST_XML_BYTES, " of XML"), (n_bytes, _MOST_BYTES, "")):
        if size > most:
            raise _Refused(f"unpacks to {size / 1e6:,.0f} MB{what}; at most {most / 1e6:,.0f} MB are read")
    n_tags = 0
    for member in members:
        declarations = _Declarations() if _is_xml(member.filename) else None
        with archive.open(member) as unpacked:
            while piece := unpacked.read(_CHUNK):  # at the end it checks the declared size and the checksum
                if declarations:
                    declarations.feed(piece)
                    n_tags += piece.count(b"<")
                if most_tags is not None and n_tags > most_tags:
                    raise _Refused(f"has more than {most_tags:,} XML tags, which are too many to be read")


def _is_xml(name: str) -> bool:
    return name.lower().endswith(_XML_SUFFIXES)


class _Declarations:
    """Looks for declarations of entities, which office files never have, and which can grow without end."""

    def __init__(self) -> None:
        self._parser: expat.XMLParserType | None = expat.ParserCreate()
        self._parser.EntityDeclHandler = self._refuse

    def feed(self, piece: bytes) -> None:
        if self._parser is None:
            return
        try:
            self._parser.Parse(piece, False)  # noqa: FBT003 — takes no keywords
        except expat.ExpatError:
            self._parser = None  # its reader will say what is wrong, if it needs this member

    @staticmethod
    def _refuse(name: str, *_: object) -> None:
        raise _Refused(f"declares the XML entity {name[:40]!r}, as attacks do")


def _docx(_: zipfile.ZipFile, stream: Any) -> Iterator[NamedSection]:  # Any: a binary file
    import mammoth

    page = mammoth.convert_to_html(
        stream,
        include_embedded_style_map=False,
        style_map="p[style-name='Title'] => h1:fresh",
        convert_image=mammoth.images.img_element(lambda _: {}),  # only its `alt`; no file is opened
        external_file_access=False,
    ).value
    yield from map(NamedSection, html_text.sections(page))


def _pptx(_: zipfile.ZipFile, stream: Any) -> Iterator[NamedSection]:  # Any: a binary file
    import pptx

    for number, slide in enumerate(pptx.Presentation(stream).slides, start=1):
        if slide.element.get("show") in ("0", "false"):
            continue
        title = slide.shapes.title
        heading = " ".join(title.text_frame.text.split()) if title is not None else ""
        path = (heading,) if heading else ()
        lines = list(chain([Line(heading)] if heading else [], _lines_of_shapes(slide.shapes, title)))
        yield NamedSection(Section(lines, path), f"slide {number}")
        notes = slide.notes_slide.notes_text_frame if slide.has_notes_slide else None
        if notes is not None:
            yield NamedSection(Section(list(_lines(notes.text)), path), f"slide {number} notes")


def _lines_of_shapes(shapes: Iterable[Any], title: Any) -> Iterator[Line]:  # Any: python-pptx is not annotated
    stack = list(shapes)[::-1]
    while stack:
        shape = stack.pop()
        if hasattr(shape, "shapes"):  # a group
            stack += list(shape.shapes)[::-1]
        elif shape.has_text_frame and (title is None or shape.shape_id != title.shape_id):
            yield from _lines(shape.text_frame.text)
        elif getattr(shape, "has_table", False):
            rows = [[cell.text for cell in row.cells] for row in shape.table.rows]
            yield from _table(rows, has_head=bool(shape.table.first_row))


def _lines(text: str) -> Iterator[Line]:
    return (Line(line.rstrip()) for line in text.replace("\v", "\n").split("\n") if line.strip())


def _table(rows: Iterable[Sequence[str]], *, has_head: bool) -> Iterator[Line]:
    """A line for each row, with tabs between its cells."""
    head = ""
    for index, cells in enumerate(rows):
        text = "\t".join(" ".join(cell.split()) for cell in cells).rstrip()
        if not text:
            continue
        yield Line(text, head)
        if has_head and index == 0 and len(text) <= MAX_UNIT_CHARS // 2:
            head = text


def _xlsx(_: zipfile.ZipFile, stream: Any) -> Iterator[NamedSection]:  # Any: a binary file
    import openpyxl

    n_cells = 0
    book = openpyxl.load_workbook(stream, read_only=True, data_only=True, keep_links=False)
    for sheet in book.worksheets:
        if sheet.sheet_state != "visible":
            continue
        sheet.reset_dimensions()  # what the file says of them may be wrong, and as large as a sheet can be
        rows: list[Sequence[Any]] = []  # Any: the value of a cell
        for row in sheet.iter_rows(values_only=True):
            n_cells += len(row)
            if n_cells > _MOST_CELLS:
                raise _Refused(f"has more than {_MOST_CELLS:,} cells, which are too many to be read")
            if any(value is not None for value in row):
                rows.append(row)
        # A title may stand above the table. Its header row is the first with several cells, if they are texts.
        first = next((i for i, row in enumerate(rows) if sum(value is not None for value in row) > 1), len(rows))
        above, below = ([[_shown(value) for value in row] for row in part] for part in (rows[:first], rows[first:]))
        has_head = first < len(rows) and all(value is None or isinstance(value, str) for value in rows[first])
        lines = [*_table(above, has_head=False), *_table(below, has_head=has_head)]
        yield NamedSection(Section(lines, (sheet.title,)), f"sheet {sheet.title}")


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).upper()
        case float() if value.is_integer():
            return f"{value:.0f}"
        case datetime.datetime() if value.time() == datetime.time():
            return value.date().isoformat()
        case datetime.datetime():
            return value.isoformat(" ", "seconds")
    return str(value)


def _epub(archive: zipfile.ZipFile, _: object) -> Iterator[NamedSection]:
    """The chapters in their order."""
    if "META-INF/encryption.xml" in archive.namelist():
        methods = _elements(archive, "META-INF/encryption.xml", "EncryptionMethod")
        if any(method.attr("Algorithm") not in _FONT_SCRAMBLING for method in methods):
            raise _Refused("is encrypted: it can be read with the program of its shop alone")
    package = _elements(archive, "META-INF/container.xml", "rootfile")[0].attr("full-path") or ""
    hrefs = {item.attr("id"): item.attr("href") or "" for item in _elements(archive, package, "item")}
    for reference in _elements(archive, package, "itemref"):
        href = unquote(hrefs[reference.attr("idref")])
        page = decode(archive.read(posixpath.normpath(posixpath.join(posixpath.dirname(package), href))))
        yield from map(NamedSection, html_text.sections(page))


def _elements(archive: zipfile.ZipFile, name: str, tag: str) -> list[Element]:
    """The elements of an XML member with a tag, whatever its prefix."""
    document = parse_xml(archive.read(name).decode("utf-8-sig"))
    return [element for element in document.iter_elements() if element.tag.rpartition(":")[2] == tag]


@dataclass(frozen=True, slots=True)
class _Reader:
    read: Callable[[zipfile.ZipFile, Any], Iterator[NamedSection]]  # Any: a binary file
    modules: tuple[str, ...] = ()
    keeps_tags: bool = False


_READERS = {
    ".docx": _Reader(_docx, ("mammoth",), keeps_tags=True),
    ".pptx": _Reader(_pptx, ("pptx",), keeps_tags=True),
    ".xlsx": _Reader(_xlsx, ("openpyxl",)),
    ".epub": _Reader(_epub),
}
SUFFIXES = tuple(_READERS)
