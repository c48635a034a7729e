"""Merging the batches of callers that wait for one network at the same time."""

import os
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from polyvec import forking

_Row = TypeVar("_Row")
_Result = TypeVar("_Result")
# What a batch raises because of its rows or of too little memory. Any other error may be the leader's own, such as one
# that a signal handler raises: then the batch does not run again, and its guests wait for another leader.
_OF_ROWS = (ArithmeticError, AssertionError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


@dataclass(slots=True, eq=False)
class _Ticket(Generic[_Row, _Result]):
    """One caller's batch. Its own thread runs it, or another caller's thread does, together with its own batch."""

    rows: Sequence[_Row]
    results: list[_Result] | None = None
    abandoned: bool = False  # its caller was interrupted
    alone: bool = False  # after a shared batch failed, so that its error reaches only the caller of the bad rows
    woken: threading.Event = field(default_factory=threading.Event)


class Merging(Generic[_Row, _Result]):
    """Runs batches, and joins waiting batches that fit into one.

    A caller runs its batch at once while fewer than `capacity` batches run. Otherwise it waits; the next caller to run
    also runs the waiting batches that fit. Each caller gets its own rows, and only errors of its own rows: if a shared
    batch fails, each caller's rows run again separately. If a caller is interrupted, the other callers go on.

    `run` returns a result per row of a batch. Batches of the same `kind` are joined first, batches of other kinds if
    they still fit.
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
        self._lock = forking.lock()
        self._process = os.getpid()
        self._leaders: set[_Ticket[_Row, _Result]] = set()
        self._waiting: list[_Ticket[_Row, _Result]] = []

    def __call__(self, rows: Sequence[_Row]) -> list[_Result]:
        """Encode one batch, alone or with the batches of other callers."""
        ticket: _Ticket[_Row, _Result] = _Ticket(rows)
        guests: list[_Ticket[_Row, _Result]] = []
        try:
            with self._lock:
                if self._process != os.getpid():  # a forked child has no callers of its parent
                    self._process, self._leaders, self._waiting = os.getpid(), set(), []
                (self._leaders.add if len(self._leaders) < self._capacity else self._waiting.append)(ticket)
            if ticket not in self._leaders:
                ticket.woken.wait()
            if ticket.results is None:
                self._lead(ticket, guests)
        finally:
            try:
                self._leave(ticket, guests)
            except BaseException:  # of a signal handler; all other callers would wait for ever
                self._leave(ticket, guests)
                raise
        assert ticket.results is not None, "the batch has run, or an error was raised"
        return ticket.results

    def _lead(self, ticket: _Ticket[_Row, _Result], guests: list[_Ticket[_Row, _Result]]) -> None:
        with self._lock:
            guests += self._fitting(ticket)
            self._waiting = [other for other in self._waiting if other not in guests]
        tickets = [ticket, *guests]
        try:
            results = iter(self._run([row for member in tickets for row in member.rows]))
        except _OF_ROWS:
            if not guests:
                raise
            for member in tickets:
                member.alone = True
            results, tickets = iter(self._run(ticket.rows)), [ticket]
        for member in tickets:
            member.results = [next(results) for _ in member.rows]

    def _leave(self, ticket: _Ticket[_Row, _Result], guests: Sequence[_Ticket[_Row, _Result]]) -> None:
        """Wake the guests that are done, let the other guests wait again, and choose the next leader.

        It may be interrupted anywhere and run again: what it has done is done once.
        """
        with self._lock:
            if ticket in self._leaders:
                unfinished = [guest for guest in guests if guest.results is None]
                unfinished += [other for other in self._waiting if other not in unfinished]
                waiting = [other for other in unfinished if not other.abandoned]
                leaders = self._leaders - {ticket} | set(waiting[:1])
                self._leaders, self._waiting = leaders, waiting[1:]
            else:
                ticket.abandoned = True  # or done, which makes no difference
                self._waiting = [other for other in self._waiting if other is not ticket]
            for leader in self._leaders:
                leader.woken.set()  # no matter to those that run already
        for guest in guests:
            if guest.results is not None:
                guest.woken.set()

    def _fitting(self, ticket: _Ticket[_Row, _Result]) -> list[_Ticket[_Row, _Result]]:
        """Return waiting tickets that fit into a batch with this ticket: first of the same kind, then of any."""
        guests: list[_Ticket[_Row, _Result]] = []
        if ticket.alone:
            return guests
        rows, kind = list(ticket.rows), self._kind(ticket.rows)
        for same_kind in (True, False):
            for other in self._waiting:
                if (
                    other.alone
                    or other.abandoned
                    or other in guests
                    or (self._kind(other.rows) == kind) is not same_kind
                ):
                    continue
                if self._fits([*rows, *other.rows]):
                    guests.append(other)
                    rows += other.rows
        return guests
