"""Which files of a folder are ignored: git says it, or the `.gitignore` files where git cannot."""

import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Protocol

from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from polyvec.alarms import pass_alarm

# Git runs no program that the configuration of a repository names, and follows no variable to another repository, as a
# hook of git has them. Names are compared as the file system has them.
_GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.precomposeUnicode=false")
_OF_ANOTHER = re.compile(r"GIT_(DIR|WORK_TREE|INDEX_FILE|PREFIX|COMMON_DIR|NAMESPACE|(ALTERNATE_)?OBJECT_DIRECTOR)")


class Rules(Protocol):
    """Says which files and folders below a folder are ignored, of those whose parents are not."""

    def ignores(self, path: Path, *, is_folder: bool) -> bool:
        """Tell whether an absolute path without links is ignored."""

    def within(self, folder: Path) -> "Rules":
        """Return the rules for what a folder holds. May raise an OSError."""


def rules_of(folder: Path) -> Rules:
    """Return the rules for what a folder holds, which is named by an absolute path without links.

    A folder that is ignored itself is searched all the same: only the `.gitignore` files within it count.

    Raises:
        OSError: a `.gitignore` cannot be read.
    """
    return _listing(folder) or _ignore_files(folder)


@dataclass(frozen=True, slots=True)
class Patterns:
    """Patterns as in a `.gitignore`: the last one that matches decides.

    Pathspec translates each pattern. Its own `GitIgnoreSpec` decides about files from their whole paths, which differs
    from git where a pattern takes a folder in again, as `!*/` does.
    """

    rules: tuple[tuple[re.Pattern[str], bool], ...]

    @classmethod
    def of(cls, lines: Iterable[str]) -> "Patterns":
        """Translate patterns.

        Raises:
            ValueError: a pattern is invalid.
        """
        return cls(tuple(rule for line in lines if (rule := _rule(line))))

    def decision(self, inside: PurePath, *, is_folder: bool) -> bool | None:
        """Tell whether a path, relative to the place of the patterns, is ignored; None if no pattern matches."""
        name = inside.as_posix() + "/" * is_folder
        return next((ignored for regex, ignored in reversed(self.rules) if regex.fullmatch(name)), None)

    def match(self, inside: PurePath) -> bool:
        """True if a file or a folder above it is ignored."""
        folders = [parent for parent in inside.parents if parent.name]
        return bool(self.decision(inside, is_folder=False)) or any(
            self.decision(folder, is_folder=True) for folder in folders
        )


@dataclass(frozen=True, slots=True)
class _Listing:
    """What git lists below a folder: files and repositories of their own, and the folders that lead to them."""

    entries: frozenset[Path]
    folders: frozenset[Path]

    def ignores(self, path: Path, *, is_folder: bool) -> bool:
        return path not in self.entries and not (is_folder and path in self.folders)

    def within(self, folder: Path) -> Rules:
        return rules_of(folder) if _is_repository(folder) else self


@dataclass(frozen=True, slots=True)
class _IgnoreFiles:
    """The patterns of `.gitignore` files by their folders. The last file with a pattern for a path decides."""

    patterns: tuple[tuple[Path, Patterns], ...] = ()

    def ignores(self, path: Path, *, is_folder: bool) -> bool:
        for folder, patterns in reversed(self.patterns):
            ignored = patterns.decision(path.relative_to(folder), is_folder=is_folder)
            if ignored is not None:
                return ignored
        return False

    def within(self, folder: Path) -> Rules:
        return rules_of(folder) if _is_repository(folder) else self.and_those_in(folder)

    def and_those_in(self, folder: Path) -> "_IgnoreFiles":
        return _IgnoreFiles((*self.patterns, *_patterns_in(folder, ".gitignore")))


NO_RULES: Rules = _IgnoreFiles()


def _is_repository(folder: Path) -> bool:
    """True if a repository begins at this folder: no rules from above count in it."""
    return os.path.lexists(folder / ".git")


def _listing(folder: Path) -> _Listing | None:
    """What git lists below a folder; None if git is not installed or refuses, or if the folder is in no repository.

    Git refuses repositories that belong to other users, and those that are broken.
    """
    names = _git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if names is None or _git(folder, "check-ignore", "--quiet", ".") is not None:
        return None
    # With `core.worktree`, git may list files elsewhere.
    entries = {folder / name for name in os.fsdecode(names).split("\0") if name and not name.startswith("../")}
    folders: set[Path] = set()
    for entry in entries:
        for parent in entry.parents:
            if parent in folders or parent == folder:
                break
            folders.add(parent)
    return _Listing(frozenset(entries), frozenset(folders))


def _git(folder: Path, *arguments: str) -> bytes | None:
    """The output of a git command in a folder; None if it fails."""
    variables = {name: value for name, value in os.environ.items() if not _OF_ANOTHER.match(name)}
    try:
        done = subprocess.run(  # noqa: S603 — the arguments are constants
            [*_GIT, *arguments], cwd=folder, env=variables, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError as error:  # git is not installed, or the folder cannot be entered
        pass_alarm(error)
        return None
    return done.stdout if done.returncode == 0 else None


def _ignore_files(folder: Path) -> _IgnoreFiles:
    """The `.gitignore` files that count in a folder: its own, and those above it up to the root of its repository."""
    chain = [folder, *folder.parents]
    root = next((place for place in chain if _is_repository(place)), folder)
    rules = _IgnoreFiles(_patterns_in(root, ".git/info/exclude"))
    for place in reversed(chain[: chain.index(root) + 1]):
        if place != root and rules.ignores(place, is_folder=True):
            return _IgnoreFiles().and_those_in(folder)
        rules = rules.and_those_in(place)
    return rules


def _patterns_in(folder: Path, name: str) -> tuple[tuple[Path, Patterns], ...]:
    """The patterns of a file, if it is there. As git does, follow no link and pass over invalid lines."""
    file = folder / name
    if file.is_symlink() or not file.is_file():
        return ()
    lines = file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return ((folder, Patterns.of(filter(_is_valid, (os.fsdecode(line.removesuffix(b"\r")) for line in lines)))),)


def _is_valid(line: str) -> bool:
    try:
        _rule(line)
    except ValueError:
        return False
    return True


def _rule(line: str) -> tuple[re.Pattern[str], bool] | None:
    """A pattern, which matches whole paths, and whether it ignores them; None for a comment.

    Pathspec also matches whatever is below a path that a pattern names. Here, a folder decides about that.
    """
    try:
        pattern = GitIgnoreSpecPattern(re.sub(r"/\*\*$", "/**/*", line))
    except re.error as error:
        raise ValueError(f"{line!r}: {error}") from error
    if pattern.regex is None or pattern.include is None:
        return None
    return re.compile(f"(?s:.*)(?:{pattern.regex.pattern})", pattern.regex.flags), pattern.include
