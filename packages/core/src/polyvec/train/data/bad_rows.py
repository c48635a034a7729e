"""Rows that cannot be used: why, and how many of them."""

from collections import Counter
from dataclasses import dataclass, field

from polyvec.paths import printable

__all__ = ["Report", "RowError", "TooManyBadRowsError"]

_SHOWN = 3  # examples of each reason


class RowError(ValueError):
    """A row that cannot be used. Rows with one `reason` are counted together; `detail` names this row's value."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


@dataclass
class Report:
    """What became of the rows of a source.

    Attributes:
        name: of the source.
        max_bad_rows: more bad rows than these are an error.
        n_rows: rows that were read, blank lines not counted.
        n_examples: rows to train on.
        n_negatives: hard negatives of these rows.
        n_documents: rows that are documents for other rows, without a query.
        bad: number of rows that are left out, by reason.
        dropped: number of documents that are left out of good rows, by reason.
        places: where each reason was met first, with the value.
        bad_places: what is wrong with each row that is left out, by its place; of the first `max_bad_rows` rows alone.
    """

    name: str
    max_bad_rows: int = 100
    n_rows: int = 0
    n_examples: int = 0
    n_negatives: int = 0
    n_documents: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)
    bad_places: dict[str, str] = field(default_factory=dict)

    @property
    def n_bad(self) -> int:
        """Count the rows that are left out."""
        return self.bad.total()

    def add_bad(self, error: RowError, place: str) -> None:
        """Count a row that is left out."""
        self.bad[error.reason] += 1
        if len(self.bad_places) < self.max_bad_rows:
            self.bad_places[place] = str(error)
        self._note(error, place)

    def add_dropped(self, error: RowError, place: str) -> None:
        """Count a document that is left out of a good row."""
        self.dropped[error.reason] += 1
        self._note(error, place)

    def _note(self, error: RowError, place: str) -> None:
        places = self.places.setdefault(error.reason, [])
        if len(places) < _SHOWN:
            places.append(f"{place}: {error.detail}" if error.detail else place)

    def check(self) -> None:
        """Raise an error if no row is good, or too many rows are bad.

        Raises:
            TooManyBadRowsError: the message has the reasons.
        """
        reasons = "; ".join(self.reasons) or "it is empty"
        if not self.n_examples + self.n_documents:
            raise TooManyBadRowsError(self, f"{self.name} has no good row: {reasons}")
        if self.n_bad > self.max_bad_rows:
            raise TooManyBadRowsError(
                self,
                f"{self.name} has {self.n_bad:,} bad rows among {self.n_rows:,}, and `max_bad_rows` is "
                f"{self.max_bad_rows:,}; correct the rows or allow more: {reasons}",
            )

    @property
    def summary(self) -> str:
        """What there is, in one line."""
        counts = {"examples": self.n_examples, "negatives": self.n_negatives, "documents": self.n_documents}
        good = "".join(f"{n:,} {what}, " for what, n in counts.items() if n)
        return printable(f"{self.name}: {self.n_rows:,} rows, {good}{self.n_bad:,} bad rows")

    @property
    def reasons(self) -> list[str]:
        """A line for each reason why rows or documents are left out, with the first places."""
        return [
            printable(f"{n:,} {what}: {reason} ({'; '.join(self.places[reason])})")
            for counts, what in ((self.bad, "rows"), (self.dropped, "documents left out"))
            for reason, n in counts.most_common()
        ]

    def __str__(self) -> str:
        return "\n  ".join([self.summary, *self.reasons])


class TooManyBadRowsError(ValueError):
    """A source has more bad rows than are allowed, or no other: see `report`."""

    def __init__(self, report: Report, message: str) -> None:
        super().__init__(message)
        self.report = report
