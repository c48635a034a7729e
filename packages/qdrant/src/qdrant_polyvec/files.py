"""Files and folders, cut into units that are worth a search result of their own."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec
from PIL import Image

from polyvec.pdf import UnreadablePages, pages
from polyvec.types import Failure, Task
from qdrant_polyvec import cutting, html_text

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif")
PDF_SUFFIX = ".pdf"
HTML_SUFFIXES = (".html", ".htm", ".xhtml")
TEXT_SUFFIXES = (".md", ".markdown", ".txt", ".rst", ".adoc", ".org", ".tex", ".toml", ".yaml", ".yml", ".ini", ".cfg")
CODE_SUFFIXES = (
    ".py", ".pyi", ".js", ".mjs", ".cjs", ".jsx", ".ts", ".tsx", ".java", ".kt", ".scala", ".go", ".rs", ".c", ".h",
    ".cc", ".cpp", ".cxx", ".hpp", ".cs", ".swift", ".m", ".rb", ".php", ".pl", ".lua", ".r", ".jl", ".sh", ".bash",
    ".sql", ".css", ".vue", ".dart", ".ex", ".exs", ".hs", ".clj", ".zig",
)  # fmt: skip
SUFFIXES = (*TEXT_SUFFIXES, *HTML_SUFFIXES, *CODE_SUFFIXES, *IMAGE_SUFFIXES, PDF_SUFFIX)
SKIPPED_FOLDERS = {"node_modules", "__pycache__", "build", "dist"}  # and hidden ones, such as .git and .venv

_CUTS: dict[str, cutting.Starts] = {
    ".md": cutting.sections, ".markdown": cutting.sections, ".py": cutting.definitions, ".pyi": cutting.definitions,
}  # fmt: skip
_IMAGE, _PAGE, _SECTION = "image", "page ", "section "  # how units are called that have no lines


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """One part of a file.

    Attributes:
        content: a text, the path of an image, or the picture of a page.
        source: the file, as it was reached from the path that was asked for.
        unit: the lines, as in `L10-42` (both included, counted from 1), `section 3`, `page 3` or `image`.
        task: `code` for code, otherwise `retrieval`.
        text: the text layer of a page, if it has one.
    """

    content: str | Path | Image.Image
    source: str
    unit: str
    task: Task
    text: str | None = None


def find(paths: Iterable[str | Path], *, exclude: Sequence[str] = ()) -> list[Path | Failure]:
    """The files, and all of the known kinds in folders, in a fixed order.

    Folders are searched as git sees them: what a `.gitignore` there or above names is left out, and so are hidden
    files. A file that is named itself is taken anyway, but must be of a known kind. One that is reached twice counts
    once.

    Args:
        paths: files and folders.
        exclude: patterns as in `.gitignore`, relative to each path; they win over everything.

    Raises:
        ValueError: a pattern is none.
    """
    excluded = _spec(exclude, "`exclude`")
    found: list[Path | Failure] = []
    seen: set[str] = set()
    for file in _files(map(Path, paths), excluded):
        if isinstance(file, Failure):
            found.append(file)
        elif (resolved := os.path.realpath(file)) not in seen:
            seen.add(resolved)
            found.append(file)
    return found


def units(files: Iterable[Path | Failure], *, dpi: float = 150) -> Iterator[Unit | Failure]:
    """The units of files, one by one, and what could not be read; pages are drawn as they are reached.

    Args:
        files: as `find` gives them.
        dpi: of the pages of a PDF.
    """
    for file in files:
        if isinstance(file, Failure):
            yield file
            continue
        try:
            yield from _units(file, dpi)
        except UnreadablePages as error:
            yield from (
                Failure(-1, file.as_posix(), f"page {number}: {reason}") for number, reason in error.reasons.items()
            )
        except (ImportError, OSError, ValueError) as error:
            yield _failure(file, error)


def load(source: str, unit: str, *, dpi: float = 150) -> Path | Image.Image:
    """The picture of a unit again: an image file, or a page of a PDF.

    Raises:
        ValueError: it is not there any more.
    """
    path = Path(source)
    if not path.is_file():
        raise ValueError(f"{source!r} is gone")
    if unit == _IMAGE:
        return path
    number = unit.removeprefix(_PAGE)
    if not (unit.startswith(_PAGE) and number.isdecimal() and path.suffix.lower() == PDF_SUFFIX):
        raise ValueError(f"{unit!r} of {source!r} is no picture")
    try:
        page = next(pages(path, dpi=dpi, first=int(number)), None)
    except UnreadablePages as error:
        raise ValueError(f"{unit} of {source!r} cannot be read: {error}") from error
    if page is None or page.number != int(number):
        raise ValueError(f"{source!r} has no {unit} that can be read any more")
    return page.image


def _files(paths: Iterable[Path], excluded: GitIgnoreSpec) -> Iterator[Path | Failure]:
    for path in paths:
        if path.is_dir():
            yield from _in_folder(path, excluded)
        elif not excluded.match_file(path.name) and not excluded.match_file(path.as_posix()):
            yield path


def _in_folder(top: Path, excluded: GitIgnoreSpec) -> Iterator[Path | Failure]:
    failed: list[Failure] = []
    ignored = _above(top)
    for here, folders, names in os.walk(top, onerror=lambda error: failed.append(_failure(error.filename, error))):
        folder = Path(here)
        try:
            ignored[folder] = _read(folder)
        except (OSError, ValueError) as error:
            failed.append(_failure(folder / ".gitignore", error))

        def left_out(path: Path, *, is_folder: bool) -> bool:
            inside = path.relative_to(top).as_posix() + ("/" if is_folder else "")
            return path.name.startswith(".") or excluded.match_file(inside) or _is_ignored(path, is_folder, ignored)

        folders[:] = sorted(
            name for name in folders if name not in SKIPPED_FOLDERS and not left_out(folder / name, is_folder=True)
        )
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES) and not left_out(folder / name, is_folder=False):
                yield folder / name
    yield from failed


def _is_ignored(path: Path, is_folder: bool, specs: dict[Path, GitIgnoreSpec]) -> bool:  # noqa: FBT001 — one caller
    """What the nearest `.gitignore` says that says anything."""
    for folder in path.parents:
        if spec := specs.get(folder):
            inside = path.relative_to(folder).as_posix() + ("/" if is_folder else "")
            told = spec.check_file(inside).include
            if told is not None:
                return told
    for folder, spec in specs.items():  # those above the path that was asked for
        if folder.is_absolute() and not path.is_absolute() and path.resolve().is_relative_to(folder):
            inside = path.resolve().relative_to(folder).as_posix() + ("/" if is_folder else "")
            if (told := spec.check_file(inside).include) is not None:
                return told
    return False


def _above(top: Path) -> dict[Path, GitIgnoreSpec]:
    """The `.gitignore` files between a folder and the root of its repository; none outside of one."""
    specs: dict[Path, GitIgnoreSpec] = {}
    if (top / ".git").exists():
        return specs
    inside = Path(os.path.realpath(top))
    for folder in inside.parents:
        with contextlib.suppress(OSError, ValueError):  # it is not one of the files that were asked for
            specs[folder] = _read(folder)
        if (folder / ".git").exists():
            # Who names a folder that is ignored wants it all the same.
            return {} if _is_ignored(inside, True, specs) else specs  # noqa: FBT003
    return {}


def _read(folder: Path) -> GitIgnoreSpec:
    file = folder / ".gitignore"
    lines = file.read_text("utf-8", "replace").splitlines() if file.is_file() else []
    return _spec([line for line in lines if _is_pattern(line)], str(file))


def _is_pattern(line: str) -> bool:
    """Git, too, passes over lines that are none."""
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True


def _spec(patterns: Sequence[str], origin: str) -> GitIgnoreSpec:
    if isinstance(patterns, str):
        raise ValueError(f"{origin} is a list of patterns, not {patterns!r}.")  # noqa: TRY004 — as for a bad pattern
    try:
        return GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise ValueError(f"{origin} has a pattern that is none: {error}.") from error


def _units(file: Path, dpi: float) -> Iterator[Unit]:
    file.stat()  # a missing file is told now; what is in an image, when it is encoded
    if not file.is_file():  # to read a pipe may take forever
        raise ValueError("is no regular file")
    source, suffix = file.as_posix(), file.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        yield Unit(file, source, _IMAGE, "retrieval")
    elif suffix == PDF_SUFFIX:
        for page in pages(file, dpi=dpi):
            yield Unit(page.image, source, f"{_PAGE}{page.number}", "retrieval", page.text.strip() or None)
    elif suffix in HTML_SUFFIXES:
        sections = html_text.sections(html_text.decoded(file.read_bytes()))
        for number, section in enumerate(sections, start=1):
            yield from _of_section(section, source, f"{_SECTION}{number}")
    elif suffix in TEXT_SUFFIXES + CODE_SUFFIXES:
        lines = _text(file).split("\n")
        is_code = suffix in CODE_SUFFIXES
        starts = _CUTS.get(suffix, cutting.blocks if is_code else cutting.whole)(lines)
        for unit, text in cutting.parts(lines, starts):
            yield Unit(text, source, unit, "code" if is_code else "retrieval")
    else:
        raise ValueError(f"suffix {suffix!r} is not one of {', '.join(SUFFIXES)}")


def _of_section(section: str, source: str, name: str) -> Iterator[Unit]:
    lines = section.split("\n")
    parts = list(cutting.parts(lines, [0]))
    for unit, text in parts:
        yield Unit(text, source, name if len(parts) == 1 else f"{name} {unit}", "retrieval")


def _text(file: Path) -> str:
    content = file.read_bytes()
    text = content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    if "\0" in text:
        raise ValueError("is binary: it holds null bytes")
    return text.replace("\r\n", "\n")


def _failure(file: str | Path, error: ImportError | OSError | ValueError) -> Failure:
    reason = str(error)
    if isinstance(error, ImportError):
        reason = "PDFs are read with pypdfium2; install it with `pip install 'qdrant-polyvec[pdf]'`"
    elif isinstance(error, UnicodeDecodeError):
        reason = f"is not {error.encoding.upper()} text: {error.reason} at byte {error.start}"
    elif isinstance(error, OSError) and error.strerror:
        reason = f"cannot be read: {error.strerror}"
    return Failure(-1, Path(file).as_posix(), reason)
