"""The files of folders, without hidden and ignored files and those that nobody can read."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyvec import Failure
from polyvec.alarms import pass_alarm
from polyvec.paths import check_name, normal, printable
from qdrant_polyvec.files.ignoring import NO_RULES, Patterns, Rules, rules_of
from qdrant_polyvec.files.kinds import LeftOut, unfit


def find(
    paths: Iterable[str | Path],
    *,
    exclude: Sequence[str] = (),
    skip: Iterable[Path] = (),
    on_left_out: Callable[[Path, LeftOut], object] = lambda *_: None,
) -> list[Path | Failure]:
    """List the given files, and the files in the given folders, in a fixed order. A file is listed once.

    Of several paths to one file, the one with the fewest symbolic links is listed. Left out of folders are: what git
    ignores (`ignoring.rules_of`); hidden files and folders, whose names begin with a dot; links to folders (a link to a
    file is the file); and files that are no text, PDF, image, HTML or notebook, or text that nobody reads
    (`kinds.unfit`). A file or folder in `paths` is listed, whatever it is.

    Args:
        paths: files and folders; `.`, `//` and `folder/..` are left out of them.
        exclude: patterns as in `.gitignore`, relative to each path. They win over `.gitignore` and `paths`.
        skip: folders to leave out.
        on_left_out: is called with each file that is left out, and why. A folder stands for all its files; empty
            folders are passed over.

    Raises:
        ValueError: a pattern is invalid.
    """
    excluded = _patterns(exclude)
    skipped = {os.path.realpath(folder) for folder in skip}
    files: list[Path | Failure] = []
    seen: dict[str, int] = {}  # by the path without links, the position in `files`
    for file in _files(map(normal, paths), excluded, skipped, on_left_out):
        if isinstance(file, Failure):
            files.append(file)
            continue
        resolved = os.path.realpath(file)
        if resolved not in seen:
            seen[resolved] = len(files)
            files.append(_named(file))
        elif isinstance(before := files[seen[resolved]], Path) and _n_links(file) < _n_links(before):
            files[seen[resolved]] = _named(file)  # its own name, whatever links are added beside it
    return files


def failure(file: str | Path, error: OSError | ValueError) -> Failure:
    """Describe why a file or folder cannot be read."""
    pass_alarm(error)
    reason = str(error)
    if isinstance(error, UnicodeDecodeError):
        reason = f"is not {error.encoding.upper()} text: {error.reason} at byte {error.start}"
    elif isinstance(error, OSError) and error.strerror:
        reason = f"cannot be read: {error.strerror}"
    return Failure(-1, printable(Path(file).as_posix()), reason)


def _n_links(file: Path) -> int:
    """Count the symbolic links on the way to a file."""
    return sum(place.is_symlink() for place in (file.absolute(), *file.absolute().parents))


def _named(file: Path) -> Path | Failure:
    """The file, or a failure if no index can keep its name."""
    try:
        check_name(file.as_posix())
    except ValueError as error:
        return failure(file, error)
    return file


def _files(
    paths: Iterable[Path], excluded: Patterns, skipped: set[str], on_left_out: Callable[[Path, LeftOut], object]
) -> Iterator[Path | Failure]:
    for path in paths:
        if path.is_dir():
            yield from _files_in(path, excluded, skipped, on_left_out)
        elif excluded.match(Path(path.name)) or excluded.match(path.relative_to(path.anchor)):
            on_left_out(path, "ignored")
        else:
            yield path


def _files_in(
    top: Path, excluded: Patterns, skipped: set[str], on_left_out: Callable[[Path, LeftOut], object]
) -> Iterator[Path | Failure]:
    failures: list[Failure] = []
    absolute = Path(os.path.realpath(top))
    rules_by_folder: dict[Path, Rules] = {}
    for here, folders, names in os.walk(top, onerror=lambda error: failures.append(failure(error.filename, error))):
        folder = Path(here)
        inside = folder.relative_to(top)
        above = rules_by_folder.get(folder.parent)
        try:
            rules = above.within(absolute / inside) if above else rules_of(absolute)
        except OSError as error:
            failures.append(failure(error.filename, error))
            rules = above or NO_RULES
        rules_by_folder[folder] = rules

        within = _Folder(folder, inside, absolute / inside, rules, excluded, skipped)
        for name in sorted(names):
            if reason := within.reason(name, is_folder=False):
                on_left_out(folder / name, reason)
            else:
                yield folder / name
        folders.sort()
        left_out = {name: reason for name in folders if (reason := within.reason(name, is_folder=True))}
        folders[:] = [name for name in folders if name not in left_out]
        for name, reason in left_out.items():
            if any(files for _, _, files in os.walk(folder / name)):
                on_left_out(folder / name, reason)
    yield from failures


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder that is searched: its path, also from the top and without links, and what is left out of it."""

    path: Path
    inside: Path
    absolute: Path
    rules: Rules
    excluded: Patterns
    skipped: set[str]

    def reason(self, name: str, *, is_folder: bool) -> LeftOut | None:
        """Say why an entry is left out; None if it is not."""
        is_link = is_folder and (self.path / name).is_symlink()
        absolute, is_own = self.absolute / name, is_folder and not is_link
        if name.startswith("."):
            return "hidden"
        if str(absolute) in self.skipped or self.excluded.decision(self.inside / name, is_folder=is_own):
            return "ignored"
        if self.rules.ignores(absolute, is_folder=is_own):
            return "ignored"
        if is_link:
            return "linked folders"
        return None if is_folder else unfit(self.path / name)


def _patterns(exclude: Sequence[str]) -> Patterns:
    if isinstance(exclude, str):
        raise ValueError(f"`exclude` is a list of patterns, not {exclude!r}.")  # noqa: TRY004 — as for a bad pattern
    try:
        return Patterns.of(exclude)
    except ValueError as error:
        raise ValueError(f"`exclude` has an invalid pattern: {error}.") from error
