"""Merging the batches of callers that wait for one network at the same time."""

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

_Row = TypeVar("_Row")
_Result = TypeVar("_Result")


@dataclass(slots=True, eq=False)
class _Ticket(Generic[_Row, _Result]):
    """One caller's batch. The caller's thread runs it, or another caller's thread does, together with its own batch."""

    rows: Sequence[_Row]
    results: list[_Result] | None = None
    alone: bool = False  # run it alone, because a shared batch failed: the error may be of other rows
    woken: threading.Event = field(default_factory=threading.Event)


class Merging(Generic[_Row, _Result]):
    """Runs batches; waiting batches that fit into one are joined.

    If nothing is running, a caller runs its batch at once. Otherwise it waits, and the next caller's thread also runs
    the waiting batches that fit. Each caller gets its own rows, and only errors of its own rows: if a shared batch
    fails, each caller's rows run again separately. If a caller is interrupted, the other callers go on.

    Args:
        run: encodes a batch, and returns a result per row.
        fits: whether rows fit into one batch.
        kind: batches of the same kind are joined first; the others join if there is room left.
        capacity: number of batches that may run at the same time.
    """

    def __init__(
        self,
        run: Callable[[Sequence[_Row]], list[_Result]],
        fits: Callable[[Sequence[_Row]], bool],
        *,
        kind: Callable[[Sequence[_Row]], Hashable] = lambda _: None,
        capacity: int = 1,
    ) -> None:
        self._run, self._fits, self._kind, self._capacity = run, fits, kind, capacity
        self._lock = threading.Lock()
        self._leaders: set[_Ticket[_Row, _Result]] = set()
        self._waiting: list[_Ticket[_Row, _Result]] = []

    def __call__(self, rows: Sequence[_Row]) -> list[_Result]:
        """Encode one batch, alone or with the batches of other callers."""
        ticket: _Ticket[_Row, _Result] = _Ticket(rows)
        guests: list[_Ticket[_Row, _Result]] = []
        try:
            with self._lock:
                (self._leaders.add if len(self._leaders) < self._capacity else self._waiting.append)(ticket)
            if ticket not in self._leaders:
                ticket.woken.wait()
            if ticket.results is None:
                self._lead(ticket, guests)
        finally:
            self._leave(ticket, guests)
        assert ticket.results is not None, "a batch that was not run has raised"
        return ticket.results

    def _lead(self, ticket: _Ticket[_Row, _Result], guests: list[_Ticket[_Row, _Result]]) -> None:
        with self._lock:
            guests += self._fitting(ticket)
            self._waiting = [other for other in self._waiting if other not in guests]
        tickets = [ticket, *guests]
        try:
            results = iter(self._run([row for each in tickets for row in each.rows]))
        except Exception:
            if not guests:
                raise
            for each in tickets:
                each.alone = True
            results, tickets = iter(self._run(ticket.rows)), [ticket]
        for each in tickets:
            each.results = [next(results) for _ in each.rows]

    def _leave(self, ticket: _Ticket[_Row, _Result], guests: Sequence[_Ticket[_Row, _Result]]) -> None:
        """Wake the guests that are done, let the others wait again, and pass the turn on."""
        with self._lock:
            if ticket not in self._leaders:
                if ticket in self._waiting:  # interrupted while it waited
                    self._waiting.remove(ticket)
                return
            self._leaders.remove(ticket)
            self._waiting = [guest for guest in guests if guest.results is None] + self._waiting
            if self._waiting:
                successor = self._waiting.pop(0)
                self._leaders.add(successor)
                successor.woken.set()
        for guest in guests:
            if guest.results is not None:
                guest.woken.set()

    def _fitting(self, ticket: _Ticket[_Row, _Result]) -> list[_Ticket[_Row, _Result]]:
        """The waiting tickets that fit into one batch with this one: of the same kind first, then of any."""
        guests: list[_Ticket[_Row, _Result]] = []
        if ticket.alone:
            return guests
        rows, kind = list(ticket.rows), self._kind(ticket.rows)
        for same in (True, False):
            for other in self._waiting:
                if other.alone or other in guests or (self._kind(other.rows) == kind) is not same:
                    continue
                if self._fits([*rows, *other.rows]):
                    guests.append(other)
                    rows += other.rows
        return guests
