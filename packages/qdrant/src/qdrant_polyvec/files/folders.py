"""The files of folders: known kinds, without hidden and ignored files."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from pathspec import GitIgnoreSpec

from polyvec import Failure
from polyvec.alarms import pass_alarm
from polyvec.images import suffixes
from polyvec.paths import check_name, normal, printable

PDF_SUFFIX = ".pdf"
HTML_SUFFIXES = (".html", ".htm", ".xhtml")
TEXT_SUFFIXES = (".md", ".markdown", ".txt", ".rst", ".adoc", ".org", ".tex", ".toml", ".yaml", ".yml", ".ini", ".cfg")
CODE_SUFFIXES = (
    ".py", ".pyi", ".js", ".mjs", ".cjs", ".jsx", ".ts", ".tsx", ".java", ".kt", ".scala", ".go", ".rs", ".c", ".h",
    ".cc", ".cpp", ".cxx", ".hpp", ".cs", ".swift", ".m", ".rb", ".php", ".pl", ".lua", ".r", ".jl", ".sh", ".bash",
    ".sql", ".css", ".vue", ".dart", ".ex", ".exs", ".hs", ".clj", ".zig",
)  # fmt: skip
_SKIPPED_FOLDERS = {"node_modules", "__pycache__", "build", "dist"}  # and hidden folders, such as .git and .venv


def find(
    paths: Iterable[str | Path],
    *,
    exclude: Sequence[str] = (),
    on_unknown: Callable[[Path], object] = lambda _: None,
) -> list[Path | Failure]:
    """List the given files, and all files of known kinds in the given folders, in a fixed order.

    Folders are searched as git does: hidden files, and files that a `.gitignore` there or above excludes, are left out.
    A file in `paths` is always listed, but must be of a known kind. A file that is reached twice is listed once.

    Args:
        paths: files and folders; `.`, `//` and `folder/..` are left out of them.
        exclude: patterns as in `.gitignore`, relative to each path. They win over `.gitignore` and `paths`.
        on_unknown: is called with each file in a folder that is not listed because its kind is unknown.

    Raises:
        ValueError: a pattern is invalid.
    """
    excluded = _spec(exclude, "`exclude`")
    files: list[Path | Failure] = []
    seen: set[str] = set()
    for file in _files(map(normal, paths), excluded, on_unknown):
        if isinstance(file, Failure):
            files.append(file)
        elif (resolved := os.path.realpath(file)) not in seen:
            seen.add(resolved)
            files.append(_named(file))
    return files


def known_suffixes() -> tuple[str, ...]:
    """Return the suffixes of all files that are read. Plugins of Pillow may add some."""
    return (*TEXT_SUFFIXES, *HTML_SUFFIXES, *CODE_SUFFIXES, *suffixes(), PDF_SUFFIX)


def is_of_pages(file: Path) -> bool:
    """True for a PDF or an image, by the suffix."""
    return file.suffix.lower() in (*suffixes(), PDF_SUFFIX)


def failure(file: str | Path, error: ImportError | OSError | ValueError) -> Failure:
    """Describe why a file or folder cannot be read."""
    pass_alarm(error)
    reason = str(error)
    if isinstance(error, ImportError):
        reason = "PDFs are read with pypdfium2; install it with `pip install 'qdrant-polyvec[pdf]'`"
    elif isinstance(error, UnicodeDecodeError):
        reason = f"is not {error.encoding.upper()} text: {error.reason} at byte {error.start}"
    elif isinstance(error, OSError) and error.strerror:
        reason = f"cannot be read: {error.strerror}"
    return Failure(-1, printable(Path(file).as_posix()), reason)


def _named(file: Path) -> Path | Failure:
    """The file, or a failure if no index can keep its name."""
    try:
        check_name(file.as_posix())
    except ValueError as error:
        return failure(file, error)
    return file


def _files(
    paths: Iterable[Path], excluded: GitIgnoreSpec, on_unknown: Callable[[Path], object]
) -> Iterator[Path | Failure]:
    for path in paths:
        if path.is_dir():
            yield from _files_in(path, excluded, on_unknown)
        elif not excluded.match_file(path.name) and not excluded.match_file(path.as_posix()):
            yield path


def _files_in(top: Path, excluded: GitIgnoreSpec, on_unknown: Callable[[Path], object]) -> Iterator[Path | Failure]:
    failures: list[Failure] = []
    specs = _specs_above(top)
    known = known_suffixes()
    for here, folders, names in os.walk(top, onerror=lambda error: failures.append(failure(error.filename, error))):
        folder = Path(here)
        try:
            specs[folder] = _gitignore(folder)
        except (OSError, ValueError) as error:
            failures.append(failure(folder / ".gitignore", error))

        def is_left_out(path: Path, *, is_folder: bool) -> bool:
            inside = path.relative_to(top).as_posix() + "/" * is_folder
            hidden = path.name.startswith(".")
            return hidden or excluded.match_file(inside) or _is_ignored(path, specs, is_folder=is_folder)

        folders[:] = sorted(
            name for name in folders if name not in _SKIPPED_FOLDERS and not is_left_out(folder / name, is_folder=True)
        )
        for name in sorted(names):
            if is_left_out(folder / name, is_folder=False):
                continue
            if name.lower().endswith(known):
                yield folder / name
            else:
                on_unknown(folder / name)
    yield from failures


def _is_ignored(path: Path, specs: dict[Path, GitIgnoreSpec], *, is_folder: bool) -> bool:
    """True if the nearest `.gitignore` with a pattern for the path ignores it."""
    for spec, inside in _positions(path, specs):
        ignored = spec.check_file(inside.as_posix() + "/" * is_folder).include
        if ignored is not None:
            return ignored
    return False


def _positions(path: Path, specs: dict[Path, GitIgnoreSpec]) -> Iterator[tuple[GitIgnoreSpec, Path]]:
    """The `.gitignore` of each folder above the path, nearest first, with the path relative to it."""
    for folder in path.parents:
        if folder in specs:
            yield specs[folder], path.relative_to(folder)
    for folder, spec in specs.items():  # the folders above the searched folder, which are absolute
        if folder.is_absolute() and not path.is_absolute() and path.resolve().is_relative_to(folder):
            yield spec, path.resolve().relative_to(folder)


def _specs_above(top: Path) -> dict[Path, GitIgnoreSpec]:
    """The `.gitignore` files between a folder and the root of its repository; empty outside a repository."""
    specs: dict[Path, GitIgnoreSpec] = {}
    if (top / ".git").exists():
        return specs
    inside = Path(os.path.realpath(top))
    for folder in inside.parents:
        try:
            specs[folder] = _gitignore(folder)
        except (OSError, ValueError) as error:  # the caller did not ask for this file
            pass_alarm(error)
        if (folder / ".git").exists():
            # An ignored folder is searched if the caller names it.
            return {} if _is_ignored(inside, specs, is_folder=True) else specs
    return {}


def _gitignore(folder: Path) -> GitIgnoreSpec:
    file = folder / ".gitignore"
    lines = file.read_text("utf-8", "replace").splitlines() if file.is_file() else []
    return _spec([line for line in lines if _is_pattern(line)], str(file))


def _is_pattern(line: str) -> bool:
    """False for an invalid line, which git skips, too."""
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
        raise ValueError(f"{origin} has an invalid pattern: {error}.") from error
