"""Folders in the layout of BEIR as training data: a row for each query and each of its relevant documents."""

import sys
from collections.abc import Iterator
from pathlib import Path

from polyvec.data.rows import each_line, each_row
from polyvec.train.data.bad_rows import RowError
from polyvec.train.data.tables import RawRow, digest_of, open_table

__all__ = ["FolderPairs", "corpus_file", "is_folder"]


def corpus_file(path: Path) -> Path:
    """Return the file of the documents of a folder."""
    return path / "corpus.jsonl"


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder in the layout of BEIR."""
    return corpus_file(path).is_file()


class FolderPairs:
    """The relevant pairs of `qrels/train.tsv`, or else of `qrels/test.tsv`, as a table of rows of format `polyvec`.

    A row has the group of its document. In memory are ids and groups, and where queries stand.
    """

    def __init__(self, path: Path, *, show_progress: bool = False) -> None:
        """Read ids, groups and grades.

        Raises:
            ValueError: a file is missing or malformed.
        """
        self.folder, self.name = path, str(path)
        queries = path / "queries.jsonl"
        grades = [file for name in ("train", "test") if (file := path / "qrels" / f"{name}.tsv").is_file()]
        if not grades or not queries.is_file():
            raise ValueError(f"{self.name!r} has no queries.jsonl, or neither qrels/train.tsv nor qrels/test.tsv.")
        self._grades = grades[0]
        self.digest = digest_of([queries, self._grades])
        self._queries = open_table(queries, show_progress=show_progress)
        self._index_by_query = {
            str(row.get("_id")): index
            for index, row in enumerate(self._queries.rows())
            if row is not None and not isinstance(row, RowError)
        }
        self._group_by_document = {
            str(row.get("_id")): sys.intern(group)
            for _, row in each_row(corpus_file(path))
            if isinstance(group := row.get("group"), str)
        }
        self._pairs = [pair for _, pair in each_line(self._grades, _pair) if pair is not None]

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> RawRow:
        query, document, _ = self._pairs[index]
        if query not in self._index_by_query:
            raise RowError("queries.jsonl has no good row with the id of a query", repr(query))
        row = {"query": self._queries[self._index_by_query[query]].get("text"), "document_id": document}
        group = self._group_by_document.get(document)
        return row if group is None else row | {"group": group}

    def rows(self) -> Iterator[RawRow | RowError | None]:
        """Yield all rows in order, or what is wrong with them."""
        for index in range(len(self)):
            try:
                yield self[index]
            except RowError as error:
                yield error

    def place(self, index: int) -> str:
        """Say where a pair stands."""
        return f"{self._grades}:{self._pairs[index][2]}"


def _pair(number: int, line: str) -> tuple[str, str, int] | None:
    """Return the query, the document and the line of a relevant pair."""
    if number == 1:
        return None
    query, document, grade = line.rstrip("\r\n").split("\t")
    return (sys.intern(query), sys.intern(document), number) if float(grade) > 0 else None
