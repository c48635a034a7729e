"""The queries of a run until its end, when they can be compared: in a temporary file, not in memory."""

import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from polyvec.data.building.questions.checks import normal
from polyvec.data.near_duplicates import Features, Sketches, features

__all__ = ["Drafts", "Kept"]

_NEAR = 0.9  # Jaccard similarity
_ROW = "SELECT row, id, text, kind, pages FROM drafts"


@dataclass(frozen=True, slots=True)
class Kept:
    """A query and the ids of its pages."""

    row: int
    id: str
    text: str
    kind: str
    pages: tuple[str, ...]


class Drafts:
    """Collects queries, each text once."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("", check_same_thread=False)  # a temporary file that SQLite deletes
        self._file.execute(
            "CREATE TABLE drafts "
            "(row INTEGER PRIMARY KEY, normal TEXT UNIQUE, id TEXT, text TEXT, kind TEXT, pages TEXT)"
        )
        self._sketches = Sketches(_NEAR)

    def add(self, *, id: str, text: str, kind: str, page: str) -> Kept | None:  # noqa: A002 — as in `Query`
        """Add a query. If its words are there already, its page is added to theirs, and that query is returned."""
        key = normal(text)
        known = self._file.execute(f"{_ROW} WHERE normal = ?", (key,)).fetchone()
        if known is not None:
            same = _kept(known)
            if page not in same.pages:
                pages = json.dumps([*same.pages, page])
                self._file.execute("UPDATE drafts SET pages = ? WHERE row = ?", (pages, same.row))
            return same
        values = (key, id, text, kind, json.dumps([page]))
        row = self._file.execute("INSERT INTO drafts VALUES (NULL, ?, ?, ?, ?, ?)", values).lastrowid
        assert row is not None
        self._sketches.add(row, [features(text)])
        return None

    def __iter__(self) -> Iterator[Kept]:
        return map(_kept, self._file.execute(f"{_ROW} ORDER BY row"))

    def near_duplicates(self) -> dict[int, str]:
        """Return the ids of earlier queries by the rows of later ones that say nearly the same, with equal numbers."""
        originals = {row: self._get(other) for row, other in self._sketches.duplicates(self._features).items()}
        return {
            row: original.id
            for row, original in originals.items()
            if _digits(original.text) == _digits(self._get(row).text)
        }

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def _features(self, row: int) -> list[Features]:
        return [features(self._get(row).text)]

    def _get(self, row: int) -> Kept:
        return _kept(self._file.execute(f"{_ROW} WHERE row = ?", (row,)).fetchone())


def _kept(values: tuple[int, str, str, str, str]) -> Kept:
    row, identity, text, kind, pages = values
    return Kept(row, identity, text, kind, tuple(json.loads(pages)))


def _digits(text: str) -> list[str]:
    return re.findall(r"\d+", text)
