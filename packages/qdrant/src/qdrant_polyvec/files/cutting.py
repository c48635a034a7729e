"""Cut texts into parts that are each worth a search result. A part is named by its lines."""

import ast
import warnings
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import reduce
from itertools import accumulate, pairwise

import regex

from polyvec import markdown
from qdrant_polyvec import characters

MAX_UNIT_CHARS = 1200

_BLANK_LINES = regex.compile(r"(?:[^\S\n]*\n)+")
_CLOSING = r"""[\p{Pe}\p{Pf}"'*_`]*"""
# East Asian writing has no space after a sentence. A fullwidth full stop needs one: it also separates decimals.
_ANY_SENTENCE_END = regex.compile(rf"[\p{{Sentence_Terminal}}…]{_CLOSING}(?=\s)|[。！？｡]{_CLOSING}")
# Full stops that rather belong to a word or number, as in "Dr. Müller", "z. B. Katzen" and "am 3. Mai".
_ABBREVIATED = r"\b(?:\p{L}|\d+|Abb|Bd|Dr|Fig|Fr|Hr|Mme|Mr|Mrs|Ms|No|Nr|Prof|Sr|Sra|St|Vol)\."
_SENTENCE_END = regex.compile(
    rf"[\p{{Sentence_Terminal}}…](?<!{_ABBREVIATED}){_CLOSING}(?=\s+[^\s\p{{Ll}}\d])|[。！？｡]{_CLOSING}"
)
_WORD_END = regex.compile(r"(?<=\S)(?=[\s--[\u00a0\u202f]])", regex.V1)  # no-break spaces are within words


@dataclass(frozen=True, slots=True)
class Outline:
    """Where a text may be cut. Lines are counted from 0.

    Attributes:
        starts: the lines that begin a part, ascending, each with the path of its part: the headings above its text, or
            the class and function that it belongs to. The first is line 0.
        joined: lines that continue what the previous line says. All others begin something of their own.
        heads: the header rows of a table, for each row below them.
    """

    starts: Mapping[int, tuple[str, ...]]
    joined: Set[int] = frozenset()
    heads: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a text.

    Attributes:
        name: its lines, as in `L10-42`; `L10:5-80` are columns of a line, `L10:1-12:34` begins and ends within lines.
        text: at most `MAX_UNIT_CHARS` code points, without blank lines around it.
        start: its position in the whole text.
        path: as in `Outline.starts`.
        head: as in `Outline.heads`, if the part begins with a row of a table.
    """

    name: str
    text: str
    start: int
    path: tuple[str, ...]
    head: str = ""


Outliner = Callable[[Sequence[str]], Outline]


def whole(lines: Sequence[str]) -> Outline:  # noqa: ARG001 — the signature of all outliners
    """Do not cut; `parts` bounds the length."""
    return Outline({0: ()})


def prose(lines: Sequence[str]) -> Outline:
    """Do not cut. Sentences go on over the line breaks of a paragraph, which is one as in Markdown."""
    return Outline({0: ()}, markdown.outline("\n".join(lines)).joined)


def markdown_sections(lines: Sequence[str], above: Sequence[markdown.Heading] = ()) -> Outline:
    """Cut Markdown at headings, below those `above` it. A heading without text joins the next heading."""
    outline = markdown.outline("\n".join(lines))
    starts = {0: names(above)}
    joined = set(outline.joined)
    start = end = 0
    for heading in outline.headings:
        if any(line.strip() for line in lines[end : heading.first]):
            start = heading.first
        above = _with(above, heading)
        starts[start] = names(above)
        end = heading.end
        text = next((index for index in range(end, len(lines)) if lines[index].strip()), end)
        joined.update(range(end, text + 1))  # a heading stays with the text below it
    return Outline(starts, joined)


def headings_below(text: str, above: Sequence[markdown.Heading]) -> Sequence[markdown.Heading]:
    """Return the headings that hold for what follows a Markdown text, which stands below those `above` it."""
    return reduce(_with, markdown.outline(text).headings, above)


def table(lines: Sequence[str]) -> Outline:
    """Cut CSV between its rows. The first line is the header row, if it is not too long."""
    joined: set[int] = set()
    is_quoted = False
    for index, line in enumerate(lines):
        if is_quoted:
            joined.add(index)
        is_quoted ^= line.count('"') % 2 == 1
    head = lines[0].strip()
    heads = dict.fromkeys(range(1, len(lines)), head) if len(head) <= MAX_UNIT_CHARS // 2 and 1 not in joined else {}
    return Outline({0: ()}, joined, heads)


def names(headings: Sequence[markdown.Heading]) -> tuple[str, ...]:
    """Return the texts of headings that have any."""
    return tuple(heading.text for heading in headings if heading.text)


def _with(above: Sequence[markdown.Heading], heading: markdown.Heading) -> Sequence[markdown.Heading]:
    return [*(other for other in above if other.level < heading.level), heading]


def definitions(lines: Sequence[str]) -> Outline:
    """Cut Python before and after functions and classes, and at the methods of a class that is too long for one part.

    Decorators and the comments directly above belong to a definition. A file that does not parse is not cut.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old escapes and numbers in other people's code
            tree = ast.parse("\n".join(lines))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # ValueError: null bytes; the last two: deep nesting
        return whole(lines)
    starts: dict[int, tuple[str, ...]] = {0: ()}
    _add_definitions(tree.body, 0, (), lines, starts)
    return Outline({start: starts[start] for start in sorted(starts) if start < len(lines)})


def _add_definitions(
    body: Sequence[ast.stmt], end: int, path: tuple[str, ...], lines: Sequence[str], starts: dict[int, tuple[str, ...]]
) -> None:
    """Add the definitions in a body below the line with number `end`."""
    for node in body:
        last = node.end_lineno or node.lineno
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
            while first > end and lines[first - 1].expandtabs(1).startswith(" " * node.col_offset + "#"):
                first -= 1
            starts[first] = (*path, node.name)
            if isinstance(node, ast.ClassDef) and _n_chars(lines[first:last]) > MAX_UNIT_CHARS:
                _add_definitions(node.body, node.lineno, starts[first], lines, starts)
            starts[last] = path
        end = last


def blocks(lines: Sequence[str]) -> Outline:
    """Cut code in any language where a line without indentation follows a blank line, as between functions.

    Short neighbours stay together while they fit into one part.
    """
    starts = [0]
    edges = [
        index
        for index in range(1, len(lines))
        if not lines[index - 1].strip() and lines[index][:1].strip() and lines[index][0] not in ")]}"
    ]
    for index, next_edge in pairwise([*edges, len(lines)]):
        if _n_chars(lines[starts[-1] : next_edge]) > MAX_UNIT_CHARS:
            starts.append(index)
    return Outline(dict.fromkeys(starts, ()))


def parts(lines: Sequence[str], outline: Outline) -> Iterator[Part]:
    """Cut a text into its parts.

    Whatever is too long for one part is cut at the last blank line that fits; if there is none, at the end of a line,
    else of a sentence, of a word, of a character as readers count them. Only if a single such character has more than
    `MAX_UNIT_CHARS` code points, it is cut itself.
    """
    text = "\n".join(lines)
    begins = [0, *accumulate(len(line) + 1 for line in lines)]
    for (first, path), (last, _) in pairwise([*outline.starts.items(), (len(lines), ())]):
        end = next((begins[line + 1] - 1 for line in reversed(range(first, last)) if lines[line].strip()), 0)
        start = _after_space(text, begins[first])
        while start < end:
            cut = end if end - start <= MAX_UNIT_CHARS else _cut(text, start, lines, begins, outline.joined)
            if text[start:cut].strip():
                head = outline.heads.get(bisect(begins, start) - 1, "")
                yield Part(_name(start, cut, begins), text[start:cut], start, path, head)
            start = _after_space(text, cut)


def _n_chars(lines: Sequence[str]) -> int:
    return sum(map(len, lines)) + len(lines)


def _after_space(text: str, start: int) -> int:
    """Skip blank lines, and spaces within a line. The indentation of a line is no such space."""
    if blank := _BLANK_LINES.match(text, start):
        return int(blank.end())
    if start == 0 or text[start - 1] == "\n" or not text[start : start + 1].isspace():
        return start
    return next((begin for begin, character in characters.each(text, start) if not character.isspace()), len(text))


def _cut(text: str, start: int, lines: Sequence[str], begins: Sequence[int], joined: Set[int]) -> int:
    """Return the best end of a part that begins at `start` and is followed by more than fits."""
    most = start + MAX_UNIT_CHARS
    line = bisect(begins, start)
    ends_of_lines, ends_of_paragraphs = [0], [0]
    while line < len(lines) and (end := begins[line] - 1) <= most:
        if line not in joined and lines[line - 1].strip():
            (ends_of_lines if lines[line].strip() else ends_of_paragraphs).append(end)
        line += 1
    if end := ends_of_paragraphs[-1] or ends_of_lines[-1]:
        return end
    window = text[start : most + 1]
    fitting = [end for end in characters.ends(window) if end <= MAX_UNIT_CHARS] or [MAX_UNIT_CHARS]
    for pattern in (_SENTENCE_END, _ANY_SENTENCE_END, _WORD_END):
        ends: set[int] = {match.end() for match in pattern.finditer(window)}.intersection(fitting)
        if ends:
            return start + max(ends)
    return start + fitting[-1]


def _name(start: int, end: int, begins: Sequence[int]) -> str:
    first, last = bisect(begins, start), bisect(begins, end - 1)
    if start == begins[first - 1] and end == begins[last] - 1:
        return f"L{first}-{last}"
    column, last_column = start - begins[first - 1] + 1, end - begins[last - 1]
    return f"L{first}:{column}-{last_column}" if first == last else f"L{first}:{column}-{last}:{last_column}"
