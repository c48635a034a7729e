"""Texts cut into parts that are worth a search result of their own. A part is known by its lines."""

import ast
import re
from collections.abc import Callable, Iterator, Sequence

MAX_UNIT_CHARS = 1200

Starts = Callable[[Sequence[str]], list[int]]  # lines → where parts begin, counted from 0

_HEADING = re.compile(r"#{1,6}\s")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


def whole(lines: Sequence[str]) -> list[int]:  # noqa: ARG001 — one of several ways to cut
    return [0]


def sections(lines: Sequence[str]) -> list[int]:
    """Where Markdown sections begin: at headings outside code fences. A heading with no text joins the next one."""
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
    """Where Python's functions and classes begin and end, and the methods of a class that is too long for one part.

    The whole of a file that is not Python.
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
    """Where code in any language goes on after a blank line at the margin: there one function ends, another begins.

    Short neighbours stay together, as far as a part has room for them.
    """
    starts, n_chars = [0], 0
    edges = [
        index
        for index in range(1, len(lines))
        if not lines[index - 1].strip() and lines[index][:1].strip() and lines[index][0] not in ")]}"
    ]
    for index, following in zip(edges, [*edges[1:], len(lines)], strict=True):
        n_chars = _n_chars(lines[starts[-1] : index])
        if n_chars + _n_chars(lines[index:following]) > MAX_UNIT_CHARS:
            starts.append(index)
    return starts


def parts(lines: Sequence[str], starts: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Name and text of each part, at most `MAX_UNIT_CHARS` long; a name is like `L10-42`, counted from 1."""
    for first, last in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield from _parts(lines, first, last)


def _n_chars(lines: Sequence[str]) -> int:
    return sum(map(len, lines)) + len(lines)


def _parts(lines: Sequence[str], first: int, last: int) -> Iterator[tuple[str, str]]:
    while first < last:
        end = _end_of_part(lines, first, last)
        if end == first:
            yield from _pieces(lines[first], first + 1)
            end = first + 1
        else:
            yield from _trimmed(lines, first, end)
        first = end


def _end_of_part(lines: Sequence[str], first: int, last: int) -> int:
    """The last blank line before the part gets too long, else the last line; `first` if that is too long itself."""
    n_chars, blank = -1, None  # no line break after the last line
    for index in range(first, last):
        n_chars += len(lines[index]) + 1
        if n_chars > MAX_UNIT_CHARS:
            return blank or index
        if index > first and not lines[index].strip():
            blank = index
    return last


def _trimmed(lines: Sequence[str], first: int, last: int) -> Iterator[tuple[str, str]]:
    while first < last and not lines[first].strip():
        first += 1
    while first < last and not lines[last - 1].strip():
        last -= 1
    if first < last:
        yield f"L{first + 1}-{last}", "\n".join(lines[first:last])


def _pieces(line: str, number: int) -> Iterator[tuple[str, str]]:
    """A line that is too long, cut at spaces where there are any."""
    start = 0
    while start < len(line):
        end = min(start + MAX_UNIT_CHARS, len(line))
        space = line.rfind(" ", start + 1, end)
        if end < len(line) and space > start:
            end = space
        if text := line[start:end].strip():
            yield f"L{number}:{start + 1}-{end}", text
        start = end
