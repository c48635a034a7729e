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
        n_rows: rows that were read, blank lines not counted.
        n_examples: rows to train on.
        n_documents: rows that are documents for other rows, without a query.
        bad: number of rows that are left out, by reason.
        dropped: number of documents that are left out of good rows, by reason.
        places: where each reason was met first, with the value.
        bad_places: what is wrong with each row that is left out, by its place.
    """

    name: str
    n_rows: int = 0
    n_examples: int = 0
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

    def __str__(self) -> str:
        """One line for the source, then one line for each reason with its first places."""
        counts = {"examples": self.n_examples, "documents": self.n_documents}
        good = "".join(f"{n:,} {what}, " for what, n in counts.items() if n)
        lines = [f"{self.name}: {self.n_rows:,} rows, {good}{self.n_bad:,} bad rows"]
        for reasons, what in ((self.bad, "rows"), (self.dropped, "documents left out")):
            for reason, n in reasons.most_common():
                lines.append(f"  {n:,} {what}: {reason} ({'; '.join(self.places[reason])})")
        return printable("\n".join(lines))


class TooManyBadRowsError(ValueError):
    """A source has more bad rows than are allowed: see `report`."""

    def __init__(self, report: Report, max_bad_rows: int) -> None:
        super().__init__(
            f"{report.name} has {report.n_bad:,} bad rows, and `max_bad_rows` is {max_bad_rows:,}; correct the rows or "
            f"allow more.\n{report}"
        )
        self.report = report
