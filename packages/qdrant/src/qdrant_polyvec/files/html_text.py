"""The visible text of an HTML page, in lines and sections."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice, pairwise

from turbohtml import CData, Element, HTMLParseError, Node, Text, parse, parse_xml

from polyvec.html.encoding import check_roots
from qdrant_polyvec.files.cutting import MAX_UNIT_CHARS
from qdrant_polyvec.files.html_styles import INITIAL, Style, Styles, is_block, is_verbatim, is_visible, tag_of

_HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
_APART = {"button", "img", "input", "meter", "object", "optgroup", "option", "progress", "select", "svg", "tspan"}
_STACKED = {"mfrac", "mover", "mroot", "munder", "munderover"}  # their children are apart, too
_WITHOUT_TEXT = {"checkbox", "color", "file", "hidden", "password", "radio", "range"}  # types of <input>
_SPACES = re.compile(r"[ \t\n\f\r]+")  # that collapse; others, such as the no-break space, do not


@dataclass(slots=True)
class Line:
    """A line of a page.

    Attributes:
        text: without a line break.
        head: the header rows of its table, if it is a row below them.
    """

    text: str
    head: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """The lines up to the next heading.

    Attributes:
        path: the headings above, from the highest level to its own.
    """

    lines: list[Line]
    path: tuple[str, ...]

    @property
    def text(self) -> str:
        """The lines as one text."""
        return "\n".join(line.text for line in self.lines)


def sections(page: str) -> list[Section]:
    """Return the visible text, cut before each heading. A heading without text joins the next. The title comes first.

    Visible is what a browser shows before a script runs, and what a click on `<details>` or `<select>` opens. An image
    is its `alt`. A row of a table is a line with tabs between its cells, unless a cell holds a heading, verbatim text
    or another table, or the row is too long for a part.

    Raises:
        ValueError: the page is binary, or has very many `<html>` or `<body>` tags with attributes.
    """
    if "\0" in page:
        raise ValueError("is binary: it holds null bytes")
    check_roots(page.encode("utf-8", "replace"))  # pages in outputs of notebooks were never bytes
    try:
        document = parse_xml(page) if page.startswith("<?xml") else parse(page, scripting=True)
    except HTMLParseError:
        document = parse(page, scripting=True)
    writer = _Writer(Styles(document))
    if title := document.select_one("title:not(svg *, math *, template *)"):
        writer.write(title.text)
    if document.root is not None:
        writer.walk(document.root)
    return writer.sections()


@dataclass(slots=True)
class _Table:
    head: list[str] = field(default_factory=list)
    repeated: str | None = None  # the head, once the body has begun


@dataclass(slots=True)
class _Row:
    first: int  # line
    is_line: bool = True
    is_head: bool = True
    cells: list[int] = field(default_factory=list)  # their first lines


class _Writer:
    """Turns elements into lines, in the order of the page."""

    def __init__(self, styles: Styles) -> None:
        self._styles = styles
        self._lines: list[Line] = []
        self._pieces: list[str] = []  # of the line that is being written
        self._headings: list[tuple[int, int, int]] = []  # their first lines, the lines after them, and their levels
        self._open: list[Style] = [INITIAL]
        self._tables: list[_Table] = []
        self._rows: list[_Row] = []

    def walk(self, root: Element) -> None:
        """Write an element and all it holds. Pages nest deeper than calls can."""
        stack: list[Node | Callable[[], object]] = [root]
        while stack:
            node = stack.pop()
            if isinstance(node, Element):
                style = self._styles.style(node, self._open[-1])
                if style["display"] != "none":
                    stack += self._begin(node, style)
                    stack += reversed(node.flattened_children)
            elif isinstance(node, Text | CData):
                self.write(node.data)
            elif not isinstance(node, Node):
                node()

    def sections(self) -> list[Section]:
        """Cut the lines before each heading that follows a text."""
        self._end_line()
        starts: dict[int, tuple[str, ...]] = {0: ()}
        above: dict[int, str] = {}  # headings by their level
        begin, end_before = 0, -1
        for first, end, level in sorted(self._headings):
            if first != end_before:
                begin = first
            end_before = end
            above = {of: heading for of, heading in above.items() if of < level}
            above[level] = " ".join(line.text.strip() for line in self._lines[first:end])
            starts[begin] = tuple(above.values())
        bounds = [*starts.items(), (len(self._lines), ())]
        cut = (Section(_trimmed(self._lines[start:end]), path) for (start, path), (end, _) in pairwise(bounds))
        return [section for section in cut if section.lines]

    def write(self, text: str) -> None:
        """Continue the line."""
        style = self._open[-1]
        if not is_visible(style):
            return
        text = text.replace("\u00ad", "")  # soft hyphens
        keeps_lines = is_verbatim(style) or style["white-space"] == "pre-line"
        for number, piece in enumerate(text.split("\n") if keeps_lines else [text]):
            if number:
                self._end_line(is_kept=True)
            if is_verbatim(style):
                self._pieces.append(piece)
            else:
                words = _SPACES.sub(" ", piece)
                is_first = not self._pieces or self._pieces[-1].endswith(" ")
                self._pieces += filter(None, [words.removeprefix(" ") if is_first else words])

    def _end_line(self, *, is_kept: bool = False) -> None:
        """End the line. A blank one is left out unless `is_kept`."""
        if not (self._pieces or is_kept):
            return
        text = "".join(self._pieces).replace("\u00a0", " ").rstrip()
        self._pieces.clear()
        if text or is_kept:
            self._lines.append(Line(text))

    def _begin(self, element: Element, style: Style) -> list[Callable[[], object]]:
        """Begin an element, and return what ends it, the last step first."""
        tag, display, outer = element.tag, style["display"], self._open[-1]
        if self._rows and (tag in _HEADINGS or is_verbatim(style) or display in ("table", "table-row")):
            self._rows[-1].is_line = False
        ends: list[Callable[[], object]] = []
        if is_block(style):
            self._end_line(is_kept=tag == "br" and is_verbatim(outer))
            ends.append(self._end_line)
        elif (tag in _APART or tag_of(element.parent) in _STACKED) and not is_verbatim(outer):
            self.write(" ")
            ends.append(lambda: self.write(" "))
        self._open.append(style)
        ends.append(self._open.pop)
        first = len(self._lines)
        if display == "table" or (tag == "table" and is_block(style)):
            self._tables.append(_Table())
            ends.insert(0, self._tables.pop)
        elif display == "table-row":
            self._rows.append(_Row(first))
            ends.insert(0, self._end_row)
        elif display == "table-cell" and self._rows:
            self._rows[-1].cells.append(first)
            if tag == "td" and not _is_in_head(element):
                ends.insert(0, lambda: self._end_cell(first))
        if tag in _HEADINGS:
            ends.insert(0, lambda: self._end_heading(first, int(tag[1])))
        if shown := _shown_value(element):
            self.write(shown)
        return ends

    def _end_heading(self, first: int, level: int) -> None:
        if first < len(self._lines):
            self._headings.append((first, len(self._lines), level))

    def _end_cell(self, first: int) -> None:
        """End a cell of the body. If it has text, its row is no header row."""
        if first < len(self._lines):
            self._rows[-1].is_head = False

    def _end_row(self) -> None:
        """Make a row one line if it can be, and give it the header rows of its table."""
        row, lines = self._rows.pop(), self._lines
        if not row.is_line or row.cells[:1] != [row.first]:
            return
        if len(row.cells) > 1 and sum(len(line.text) for line in lines[row.first :]) < MAX_UNIT_CHARS:
            cells = [
                " ".join(line.text.strip() for line in lines[start:end])
                for start, end in pairwise([*row.cells, len(lines)])
            ]
            lines[row.first :] = [Line("\t".join(cells).rstrip())] if any(cells) else []
        if len(lines) == row.first or not self._tables:
            return
        table = self._tables[-1]
        if row.is_head and table.repeated is not None and len(row.cells) > 1:
            table.head, table.repeated = [], None  # other columns from here on
        if row.is_head and table.repeated is None:
            table.head += [line.text for line in lines[row.first :]]
            return
        if table.repeated is None:
            head = "\n".join(table.head)
            table.repeated = head if len(head) <= MAX_UNIT_CHARS // 2 else ""
        for line in lines[row.first :]:
            line.head = table.repeated


def _shown_value(element: Element) -> str:
    """Return the text that an element without children shows."""
    tag = element.tag
    if tag == "img" or (tag == "input" and element.attr("type") == "image"):
        return element.attr("alt") or ""
    if tag == "input" and (element.attr("type") or "").lower() not in _WITHOUT_TEXT:
        return element.attr("value") or element.attr("placeholder") or ""
    return (element.attr("label") or "") if tag == "optgroup" else ""


def _is_in_head(cell: Element) -> bool:
    return any(tag_of(around) == "thead" for around in islice(cell.ancestors, 2))


def _trimmed(lines: list[Line]) -> list[Line]:
    """Leave out blank lines at both ends."""
    shown = [index for index, line in enumerate(lines) if line.text]
    return lines[shown[0] : shown[-1] + 1] if shown else []
