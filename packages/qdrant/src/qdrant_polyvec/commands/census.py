"""What became of each file that `polyvec index` met."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyvec import Failure
from polyvec.paths import absolute
from qdrant_polyvec.files import LeftOut


@dataclass(frozen=True, slots=True)
class Guess:
    """Files whose encoding was guessed: their number, and the source of the first."""

    files: int
    example: str


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of files. A folder that was left out as a whole counts as one.

    Attributes:
        read: files that are in the index.
        failed: files and folders of which something failed.
        removed: files of the folders that were in the index, and are gone or left out now.
        left_out: the others, by the reason.
        other_kinds: by suffix, those of `left_out` that are of other kinds; the most frequent first.
        guessed: by encoding, those of `read` whose encoding was guessed; the most frequent first.
    """

    read: int
    failed: int
    removed: int
    left_out: dict[LeftOut, int]
    other_kinds: dict[str, int]
    guessed: dict[str, Guess]


class Census:
    """The files that were left out. Each is counted once, whatever paths lead to it."""

    def __init__(self) -> None:
        self._left_out: dict[Path, tuple[str, LeftOut]] = {}
        self._guesses: dict[str, list[str]] = {}  # sources by encoding
        self.paths: set[Path] = set()  # absolute; links keep their names

    def leave_out(self, path: Path, reason: LeftOut) -> None:
        """Note a file or folder that is not indexed."""
        self._left_out[_key(path)] = path.as_posix(), reason
        self.paths.add(absolute(path))

    def guess(self, file: Path, encoding: str) -> None:
        """Note a file whose encoding was guessed."""
        self._guesses.setdefault(encoding, []).append(file.as_posix())

    @property
    def hidden(self) -> set[Path]:
        """The hidden files and folders, as absolute paths."""
        return {absolute(source) for source, reason in self._left_out.values() if reason == "hidden"}

    @property
    def without_text(self) -> list[str]:
        """The sources of the files that were read and have no text."""
        return [source for source, reason in self._left_out.values() if reason == "without text"]

    def counts(self, located: Sequence[Path | Failure], failed: Iterable[str], removed: int) -> Counts:
        """Count all files: those that were `located`, of which some `failed`, those left out, and those `removed`."""
        files = {_key(file): file.as_posix() for file in located if isinstance(file, Path)}
        failures = {*failed, *(file.source for file in located if isinstance(file, Failure))}
        empty = self.without_text
        # A file may be left out of a folder and be named itself.
        others = [about for key, about in self._left_out.items() if key not in files or about[1] == "without text"]
        suffixes = [Path(source).suffix.lower() for source, reason in others if reason == "of other kinds"]
        read = set(files.values()).difference(failures, empty)
        guesses = {encoding: [source for source in of if source in read] for encoding, of in self._guesses.items()}
        most_first = sorted(guesses.items(), key=lambda guess: -len(guess[1]))
        return Counts(
            read=len(read),
            failed=len(failures),
            removed=removed,
            left_out=dict(sorted(Counter(reason for _, reason in others).items())),
            other_kinds=dict(Counter(suffix or "no suffix" for suffix in sorted(suffixes)).most_common()),
            guessed={encoding: Guess(len(of), of[0]) for encoding, of in most_first if of},
        )


def _key(path: Path) -> Path:
    """The path of a file or link without links that lead to it."""
    return Path(os.path.realpath(path.parent), path.name)
