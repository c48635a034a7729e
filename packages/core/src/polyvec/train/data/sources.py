"""Sources of training data: files of rows, opened once and read a row at a time."""

import logging
import math
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from polyvec.train.data.bad_rows import Report, RowError
from polyvec.train.data.checks import clean
from polyvec.train.data.corpora import Corpus, documents
from polyvec.train.data.examples import Example
from polyvec.train.data.fields import DocumentId, Reference, present
from polyvec.train.data.folders import FolderPairs, corpus_file, is_folder
from polyvec.train.data.formats import FORMATS, Row, check_format, recognise
from polyvec.train.data.tables import Table, first_columns, open_table, read_all, table_of

logger = logging.getLogger(__name__)

__all__ = ["Source", "SourceSettings", "open_rows", "open_source"]


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """A source of a run.

    Attributes:
        path: JSON Lines, values between tabs, a Parquet file or a folder of them, or what `save_to_disk` of `datasets`
            wrote. Paths in its rows are relative to its folder. Or a folder in the layout of BEIR, such as
            `polyvec data` writes, which has its corpus in itself.
        format: a name of `polyvec.train.data.formats.FORMATS`; recognised from the columns of the first row by default.
        corpus: a file or folder as above, with the documents that rows name by id.
        weight: how often the source is drawn, relative to the others; by its size by default.
        name: for messages and logs; the path by default.
    """

    path: str | Path
    format: str | None = None
    corpus: str | Path | None = None
    weight: float | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.format is not None:
            check_format(self.format)
        if self.weight is not None and not 0 <= self.weight < math.inf:
            raise ValueError(f"`weight` of {str(self.path)!r} is {self.weight}; it must be 0 or more, and finite.")


def open_source(settings: SourceSettings, *, max_bad_rows: int = 100, show_progress: bool = False) -> "Source":
    """Open a source: read all its rows once, and keep where the good ones are.

    Raises:
        ValueError: a file is missing or of no known kind, or no known format has its columns.
        TooManyBadRowsError: more rows than `max_bad_rows` are bad, or all, in the source or in its corpus.
        ImportError: the extra `data` or `pdf` is needed and not installed.
    """
    path, corpus_path = Path(settings.path), settings.corpus
    table: Table
    if is_folder(path):
        if corpus_path is not None:
            raise ValueError(f"{str(path)!r} has its own corpus; leave out `corpus`, which is {str(corpus_path)!r}.")
        table, corpus_path = FolderPairs(path, show_progress=show_progress), corpus_file(path)
    else:
        table = open_table(path, show_progress=show_progress)
    corpus = None if corpus_path is None else open_table(Path(corpus_path), show_progress=show_progress)
    name = settings.name or table.name
    return Source(table, corpus, name, settings.format, max_bad_rows=max_bad_rows, show_progress=show_progress)


def open_rows(
    rows: Sequence[Mapping[str, Any]],  # Any: values are checked when they are read
    settings: SourceSettings | None = None,
    *,
    corpus: Sequence[Mapping[str, Any]] | None = None,  # Any: as above
    max_bad_rows: int = 100,
    show_progress: bool = False,
) -> "Source":
    """Open rows in memory, or a `datasets.Dataset`, as a source. `corpus` has the documents that they name by id.

    The `path` of the settings is the folder that paths in the rows are relative to; the working directory by default.

    Raises:
        ValueError: no known format has the columns of the rows.
        TooManyBadRowsError: more rows than `max_bad_rows` are bad, or all, in the source or in its corpus.
    """
    settings = settings or SourceSettings(".")
    name, folder = settings.name or "rows", Path(settings.path)
    documents = None if corpus is None else table_of(corpus, name=f"{name} (corpus)", folder=folder)
    table = table_of(rows, name=name, folder=folder)
    return Source(table, documents, name, settings.format, max_bad_rows=max_bad_rows, show_progress=show_progress)


class Source(Sequence[Example]):
    """The examples of a file. A row is read and parsed each time when it is indexed; in memory are 5 bytes of it.

    Attributes:
        name: for messages, and of the scale of its scores.
        format: the name of the format of its rows.
        report: how many rows are good and bad, and why.
        digest: SHA-256 of the files; empty for rows in memory.
        corpus_digest: SHA-256 of the files of its corpus; empty without a corpus.
        is_image: for each example, whether its documents are images.
    """

    def __init__(
        self,
        table: Table,
        corpus: Table | None,
        name: str,
        form: str | None,
        *,
        max_bad_rows: int,
        show_progress: bool,
    ) -> None:
        """Read all rows once; `open_source` and `open_rows` do it for users."""
        self.name, self.digest, self.corpus_digest = name, table.digest, "" if corpus is None else corpus.digest
        self.format = form or recognise(first_columns(table), table.name)
        self._table, self._form = table, FORMATS[self.format]
        if self._form.own_corpus and corpus is None:
            corpus = table
        self._corpus = (
            None if corpus is None else Corpus(corpus, max_bad_rows=max_bad_rows, show_progress=show_progress)
        )
        if self._corpus is not None:
            _check(self._corpus.report)
        self.report = Report(name, max_bad_rows)
        indices, kinds = array("I"), array("B")
        for index, raw in read_all(table, self.report, show_progress=show_progress):
            try:
                read = self._read(raw)
                if read is None:
                    self.report.n_documents += 1
                    continue
                row, dropped = clean(read, self._is_image)
            except RowError as error:
                self.report.add_bad(error, table.place(index))
                continue
            for reason in dropped:
                self.report.add_dropped(reason, table.place(index))
            self.report.n_negatives += len(row.negatives)
            indices.append(index)
            kinds.append(self._is_image(row.positives[0]))
        self._indices, self.is_image = np.asarray(indices), np.asarray(kinds).astype(bool)
        self.report.n_examples = len(self._indices)
        _check(self.report)

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[position] for position in range(len(self))[index]]
        number = int(self._indices[range(len(self))[index]])
        row = self._read(self._table[number])
        assert row is not None, "only rows with a query have an index"
        with suppress(RowError):  # of a file that is missing since the source was opened; the collator says so
            row, _ = clean(row, self._is_image)
        return Example(
            row.query,
            documents(row.positives, self._corpus),
            documents(row.negatives, self._corpus),
            score=row.score,
            group=row.group,
            place=self._table.place(number),
        )

    def _read(self, raw: Mapping[str, Any]) -> Row | None:  # Any: as above
        return self._form.read(present(raw), self._table.folder)

    def _is_image(self, reference: Reference) -> bool:
        if not isinstance(reference, DocumentId):
            return not isinstance(reference, str)
        if self._corpus is None:
            raise RowError("a row names documents by id, and the source has no `corpus`", repr(reference.identity))
        return self._corpus.is_image(reference.identity)


def _check(report: Report) -> None:
    report.check()
    if report.bad or report.dropped:
        logger.warning("%s", report)
