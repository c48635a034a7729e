"""Read a written dataset a row at a time; in memory are ids, grades and where each row stands."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polyvec.data.building.output.folder import CORPUS, QRELS, QUERIES, check_dataset
from polyvec.data.rows import each_line, each_row

__all__ = ["Row", "Written", "text_of"]

Row = dict[str, Any]  # Any: values of JSON


class Written:
    """A dataset in a folder. It does not change meanwhile.

    Attributes:
        grades: by the ids of queries and documents.
        language_by_document: empty if unknown.
    """

    def __init__(self, folder: Path) -> None:
        """Read ids, languages and grades.

        Raises:
            ValueError: a file is missing or malformed.
        """
        check_dataset(folder)
        self.folder = folder
        self.grades: dict[str, dict[str, int]] = {}
        self._offsets: dict[str, int] = {}
        self.language_by_document: dict[str, str] = {}
        for offset, row in each_row(folder / CORPUS):
            self._offsets[row["_id"]] = offset
            self.language_by_document[row["_id"]] = row.get("language", "")
        for _, (number, line) in each_line(folder / QRELS, lambda number, line: (number, line)):
            if number > 1:
                query, document, grade = line.rstrip("\r\n").split("\t")
                self.grades.setdefault(query, {})[document] = int(float(grade))

    def queries(self) -> Iterator[Row]:
        """Yield the rows of queries that have a relevant document."""
        return (row for _, row in each_row(self.folder / QUERIES) if row["_id"] in self.grades)

    def documents(self) -> Iterator[Row]:
        """Yield the rows of documents."""
        return (row for _, row in each_row(self.folder / CORPUS))

    def has(self, document: str) -> bool:
        """Tell whether there is a document with an id."""
        return document in self._offsets

    def document(self, identity: str) -> Row:
        """Read the row of a document that exists."""
        with (self.folder / CORPUS).open("rb") as file:
            file.seek(self._offsets[identity])
            row: Row = json.loads(file.readline())
        return row


def text_of(row: Row) -> str:
    """Return the title and text of a document, or what its image says."""
    return f"{row.get('title') or ''} {row.get('text') or ''}".strip()
