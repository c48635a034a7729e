"""Files and folders, cut into units that are worth a search result of their own."""

import ast
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyvec.types import Task
from qdrant_polyvec.items import Failure

MAX_UNIT_CHARS = 1200
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".bmp", ".gif")
TEXT_SUFFIXES = (".md", ".py", ".rst", ".toml", ".txt")
SKIPPED_FOLDERS = {"node_modules", "__pycache__", "build", "dist"}  # and hidden ones, such as .git and .venv

_HEADING = re.compile(r"#{1,6}\s")
_FENCE = re.compile(r" {0,3}(```|~~~)")


@dataclass(frozen=True, slots=True)
class Unit:
    """One part of a file.

    Attributes:
        content: a text, or the path of an image.
        source: the file, as it was reached from the path that was asked for.
        unit: the lines, as in `L10-42` (both included, counted from 1), or `image`.
        task: `code` for Python, otherwise `retrieval`.
    """

    content: str | Path
    source: str
    unit: str
    task: Task


def units(paths: Iterable[str | Path]) -> tuple[list[Unit], list[Failure]]:
    """The units of files and of everything in folders, in a fixed order, and the files that could not be read.

    Folders are searched for the known suffixes; a file that is named itself must have one. A file that is reached
    twice counts once.
    """
    found: list[Unit] = []
    failed: list[Failure] = []
    seen: set[Path] = set()
    for file in _files(paths, failed):
        if (resolved := file.resolve()) in seen:
            continue
        seen.add(resolved)
        try:
            found += _units(file)
        except (OSError, ValueError) as error:
            failed.append(_failure(file, error))
    return found, failed


def _files(paths: Iterable[str | Path], failed: list[Failure]) -> Iterator[Path]:
    for path in map(Path, paths):
        if not path.is_dir():
            yield path
            continue
        for folder, folders, names in os.walk(
            path, onerror=lambda error: failed.append(_failure(error.filename, error))
        ):
            folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS and not name.startswith("."))
            files = (Path(folder, name) for name in sorted(names))
            yield from (file for file in files if file.suffix.lower() in IMAGE_SUFFIXES + TEXT_SUFFIXES)


def _units(file: Path) -> Iterator[Unit]:
    file.stat()  # a missing file is told now; what is in an image, when it is encoded
    source, suffix = file.as_posix(), file.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        yield Unit(file, source, "image", "retrieval")
        return
    if suffix not in TEXT_SUFFIXES:
        raise ValueError(f"suffix {suffix!r} is not one of {', '.join(TEXT_SUFFIXES + IMAGE_SUFFIXES)}")
    lines = file.read_text("utf-8-sig").split("\n")
    starts = {".md": _sections, ".py": _definitions}.get(suffix, _whole)(lines)
    for first, last in zip(starts, [*starts[1:], len(lines)], strict=True):
        for unit, text in _parts(lines, first, last):
            yield Unit(text, source, unit, "code" if suffix == ".py" else "retrieval")


def _failure(file: str | Path, error: OSError | ValueError) -> Failure:
    reason = str(error)
    if isinstance(error, UnicodeDecodeError):
        reason = f"is not UTF-8 text: {error.reason} at byte {error.start}"
    elif isinstance(error, OSError) and error.strerror:
        reason = f"cannot be read: {error.strerror}"
    return Failure(None, Path(file).as_posix(), reason)


def _whole(lines: Sequence[str]) -> list[int]:  # noqa: ARG001 — one of three ways to cut
    return [0]


def _sections(lines: Sequence[str]) -> list[int]:
    """Where Markdown sections begin: at headings outside code fences. A heading with no text joins the next one."""
    starts, fence, has_text = [0], None, False
    for index, line in enumerate(lines):
        heading = fence is None and _HEADING.match(line)
        if mark := _FENCE.match(line):
            fence = mark[1] if fence is None else None if fence == mark[1] else fence
        if heading and has_text:
            starts.append(index)
            has_text = False
        elif not heading and line.strip():
            has_text = True
    return starts


def _definitions(lines: Sequence[str]) -> list[int]:
    """Where top-level functions and classes begin and end; the whole of a file that is not Python."""
    try:
        tree = ast.parse("\n".join(lines))
    except (SyntaxError, ValueError):  # ValueError: null bytes
        return _whole(lines)
    starts = {0}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            starts.add(min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1)
            starts.add(node.end_lineno or node.lineno)
    return sorted(start for start in starts if start < len(lines))


def _parts(lines: Sequence[str], first: int, last: int) -> Iterator[tuple[str, str]]:
    """Unit and text of the lines, in parts of at most `MAX_UNIT_CHARS`."""
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
