"""Corpora: documents that rows name by their ids."""

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

from polyvec.train.data.bad_rows import Report, RowError
from polyvec.train.data.checks import check_document
from polyvec.train.data.examples import Document
from polyvec.train.data.fields import DocumentId, Reference
from polyvec.train.data.formats import corpus_row
from polyvec.train.data.tables import Table, read_all

__all__ = ["Corpus", "documents", "identities"]


class Corpus:
    """Documents by id. In memory are 13 bytes for each of them: a hash of its id, its row, and its kind.

    Attributes:
        report: which rows are not used, and why.
    """

    def __init__(self, table: Table, *, max_bad_rows: int = 100, show_progress: bool = False) -> None:
        self._table = table
        self.report = Report(table.name, max_bad_rows)
        hashes, rows, kinds = array("Q"), array("I"), array("B")
        for index, row in read_all(table, self.report, show_progress=show_progress):
            try:
                identity, document = corpus_row(row, table.folder)
                check_document(document, "the document")
            except RowError as error:
                self.report.add_bad(error, table.place(index))
            else:
                hashes.append(_hash(identity))
                rows.append(index)
                kinds.append(not isinstance(document, str))
        order = np.argsort(np.asarray(hashes), kind="stable")
        first = np.ones(len(order), bool)
        self._hashes = np.asarray(hashes)[order]
        first[1:] = self._hashes[1:] != self._hashes[:-1]
        self._rows, self._is_image = np.asarray(rows)[order], np.asarray(kinds)[order]
        for row_index in self._rows[~first].tolist():
            identity, _ = corpus_row(table[row_index], table.folder)
            self.report.add_bad(RowError("an earlier row has the same id", repr(identity)), table.place(row_index))
        self._hashes, self._rows, self._is_image = self._hashes[first], self._rows[first], self._is_image[first]
        self.report.n_documents = len(self._rows)

    @property
    def digest(self) -> str:
        """SHA-256 of the corpus's files."""
        return self._table.digest

    def is_image(self, identity: str) -> bool:
        """Say whether a document is an image or a page, without reading it.

        Raises:
            RowError: there is no such document.
        """
        return bool(self._is_image[self._position(identity)])

    def __getitem__(self, identity: str) -> Document:
        """Read a document."""
        same, document = corpus_row(self._table[int(self._rows[self._position(identity)])], self._table.folder)
        if same != identity:
            raise RowError("two ids of a corpus have the same hash; rename one of them", f"{same!r} and {identity!r}")
        return document

    def entries(self) -> Iterator[tuple[str, str | None]]:
        """Yield the id of each document and the group that its row names, in the order of the file."""
        for index in np.sort(self._rows).tolist():
            row = self._table[index]
            identity, _ = corpus_row(row, self._table.folder)
            group = row.get("group")
            yield identity, group if isinstance(group, str) else None

    def _position(self, identity: str) -> int:
        key = np.uint64(_hash(identity))
        position = int(np.searchsorted(self._hashes, key))
        if position == len(self._hashes) or self._hashes[position] != key:
            raise RowError(f"the corpus {self._table.name} has no good row with a document's id", repr(identity))
        return position


def documents(references: Sequence[Reference], corpus: Corpus | None) -> Sequence[Document]:
    """Return the documents of an example. Those of the corpus are read each time when they are indexed."""
    known = tuple([reference for reference in references if not isinstance(reference, DocumentId)])
    return known if len(known) == len(references) else _Documents(references, corpus)


def identities(documents: Sequence[Document]) -> Sequence[str | None]:
    """Return the ids by which a row names its documents; None where it has their contents."""
    if not isinstance(documents, _Documents):
        return [None] * len(documents)
    references = documents.references
    return [reference.identity if isinstance(reference, DocumentId) else None for reference in references]


class _Documents(Sequence[Document]):
    def __init__(self, references: Sequence[Reference], corpus: Corpus | None) -> None:
        self.references, self._corpus = references, corpus

    def __len__(self) -> int:
        return len(self.references)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | Sequence[Document]:
        if isinstance(index, slice):
            return documents(self.references[index], self._corpus)
        reference = self.references[index]
        if not isinstance(reference, DocumentId):
            return reference
        assert self._corpus is not None, "rows with ids are bad without a corpus"
        return self._corpus[reference.identity]


def _hash(identity: str) -> int:
    return int.from_bytes(hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
