"""Cut texts into parts that are each worth a search result. A part is named by its lines."""

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

MAX_UNIT_CHARS = 1200

Starts = Callable[[Sequence[str]], list[int]]  # lines → where parts begin, counted from 0

_HEADING = re.compile(r"#{1,6}\s")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


def whole(lines: Sequence[str]) -> list[int]:  # noqa: ARG001 — the signature of all `Starts`
    """Do not cut; `parts` bounds the length."""
    return [0]


def markdown_sections(lines: Sequence[str]) -> list[int]:
    """Cut Markdown at headings outside code fences. A heading without text joins the next heading."""
    starts, fence, has_text = [0], None, False
    for index, line in enumerate(lines):
        heading = fence is None and _HEADING.match(line)
        if mark := _FENCE.match(line):
            closes = fence is not None and mark[1].startswith(fence) and not mark[2].strip()
            fence = mark[1] if fence is None else None if closes else fence
        if heading and has_text:
            starts.append(index)
            has_text = False
        elif not heading and line.strip():
            has_text = True
    return starts


def definitions(lines: Sequence[str]) -> list[int]:
    """Cut Python before and after functions and classes, and at the methods of a class that is too long for one part.

    A file that does not parse is not cut.
    """
    try:
        tree = ast.parse("\n".join(lines))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # ValueError: null bytes; the last two: deep nesting
        return whole(lines)
    starts = {0}
    for node in tree.body:
        _add_definition(node, lines, starts)
    return sorted(start for start in starts if start < len(lines))


def _add_definition(node: ast.stmt, lines: Sequence[str], starts: set[int]) -> None:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    last = node.end_lineno or node.lineno
    starts |= {first, last}
    if isinstance(node, ast.ClassDef) and _n_chars(lines[first:last]) > MAX_UNIT_CHARS:
        for inner in node.body:
            _add_definition(inner, lines, starts)


def blocks(lines: Sequence[str]) -> list[int]:
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
    return starts


def parts(lines: Sequence[str], starts: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Yield the name and text of each part, at most `MAX_UNIT_CHARS` long. A name is like `L10-42`, counted from 1."""
    for first, last in zip(starts, [*starts[1:], len(lines)], strict=True):
        while first < last:
            end = _end_of_part(lines, first, last)
            if end == first:
                yield from _pieces_of_line(lines[first], first + 1)
                end = first + 1
            else:
                yield from _part(lines, first, end)
            first = end


def _n_chars(lines: Sequence[str]) -> int:
    return sum(map(len, lines)) + len(lines)


def _end_of_part(lines: Sequence[str], first: int, last: int) -> int:
    """Index of the last blank line, else of the last line, that fits; `first` if the first line is too long."""
    n_chars, blank = -1, None  # no line break after the last line
    for index in range(first, last):
        n_chars += len(lines[index]) + 1
        if n_chars > MAX_UNIT_CHARS:
            return blank or index
        if index > first and not lines[index].strip():
            blank = index
    return last


def _part(lines: Sequence[str], first: int, last: int) -> Iterator[tuple[str, str]]:
    """The lines as a part without blank lines around it; no part if all are blank."""
    while first < last and not lines[first].strip():
        first += 1
    while first < last and not lines[last - 1].strip():
        last -= 1
    if first < last:
        yield f"L{first + 1}-{last}", "\n".join(lines[first:last])


def _pieces_of_line(line: str, number: int) -> Iterator[tuple[str, str]]:
    """Cut a line that is too long, at spaces if possible."""
    start = 0
    while start < len(line):
        end = min(start + MAX_UNIT_CHARS, len(line))
        space = line.rfind(" ", start + 1, end)
        if end < len(line) and space > start:
            end = space
        if text := line[start:end].strip():
            yield f"L{number}:{start + 1}-{end}", text
        start = end
