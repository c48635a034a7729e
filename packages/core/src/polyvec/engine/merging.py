"""Callers that wait for one network at the same time share its batches."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from polyvec.model.processing import Encoded
from polyvec.outcomes import Encoding

Forward = Callable[[Sequence["Row"]], list[Encoding]]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One prepared item of a batch, its adapter, and whether its multi-vector is requested."""

    item: Encoded
    adapter: str
    multivector: bool


@dataclass(slots=True, eq=False)
class _Ticket:
    """One caller's batch. It is run by its own thread, or by another one along with that thread's batch."""

    rows: Sequence[Row]
    encodings: list[Encoding] | None = None
    alone: bool = False  # a shared batch failed: which caller's rows were to blame must show
    woken: threading.Event = field(default_factory=threading.Event)

    @property
    def adapters(self) -> set[str]:
        return {row.adapter for row in self.rows}


class Merging:
    """Runs batches one at a time; batches that wait meanwhile are joined as far as they fit into one.

    A caller that meets nobody runs its batch at once. Otherwise it waits; the caller whose turn is next takes along
    the batches of others. Each caller gets its own rows, and only errors of its own rows: a shared batch that fails is
    run again, each caller's rows apart. A caller that is interrupted leaves the others undisturbed.

    Args:
        forward: encodes a batch.
        token_budget: tokens per shared batch; padding counts where rows differ in their adapters.
    """

    def __init__(self, forward: Forward, token_budget: int) -> None:
        self._forward, self._token_budget = forward, token_budget
        self._lock = threading.Lock()
        self._leader: _Ticket | None = None
        self._waiting: list[_Ticket] = []

    def __call__(self, rows: Sequence[Row]) -> list[Encoding]:
        """Encode one batch, alone or along with others."""
        ticket = _Ticket(rows)
        guests: list[_Ticket] = []
        try:
            with self._lock:
                if self._leader is None:
                    self._leader = ticket
                else:
                    self._waiting.append(ticket)
            if self._leader is not ticket:
                ticket.woken.wait()
            if ticket.encodings is None:
                self._lead(ticket, guests)
        finally:
            self._leave(ticket, guests)
        assert ticket.encodings is not None, "every way through sets or raises"
        return ticket.encodings

    def _lead(self, ticket: _Ticket, guests: list[_Ticket]) -> None:
        with self._lock:
            guests += self._fitting(ticket)
            self._waiting = [other for other in self._waiting if other not in guests]
        tickets = [ticket, *guests]
        try:
            encodings = iter(self._forward([row for each in tickets for row in each.rows]))
        except Exception:
            if not guests:
                raise
            for each in tickets:
                each.alone = True
            encodings, tickets = iter(self._forward(ticket.rows)), [ticket]
        for each in tickets:
            each.encodings = [
                encoding if row.multivector else Encoding(encoding.dense, None, encoding.grid, encoding.cut_from)
                for row, encoding in zip(each.rows, encodings)  # noqa: B905 — the others' encodings come after
            ]

    def _leave(self, ticket: _Ticket, guests: Sequence[_Ticket]) -> None:
        """Wake the guests that are done, let the others wait again, and pass the turn on."""
        with self._lock:
            if self._leader is not ticket:
                if ticket in self._waiting:  # interrupted while it waited
                    self._waiting.remove(ticket)
                return
            self._waiting = [guest for guest in guests if guest.encodings is None] + self._waiting
            self._leader = self._waiting.pop(0) if self._waiting else None
            if self._leader is not None:
                self._leader.woken.set()
        for guest in guests:
            if guest.encodings is not None:
                guest.woken.set()

    def _fitting(self, ticket: _Ticket) -> list[_Ticket]:
        """The waiting tickets that fit into one batch with this one: of the same adapter first, then of any."""
        guests: list[_Ticket] = []
        if ticket.alone:
            return guests
        rows = list(ticket.rows)
        for same in (True, False):
            for other in self._waiting:
                if other.alone or other in guests or (other.adapters == ticket.adapters) is not same:
                    continue
                if self._fits([*rows, *other.rows]):
                    guests.append(other)
                    rows += other.rows
        return guests

    def _fits(self, rows: Sequence[Row]) -> bool:
        lengths = [len(row.item.input_ids) for row in rows]
        mixed = len({row.adapter for row in rows}) > 1
        return (max(lengths) * len(lengths) if mixed else sum(lengths)) <= self._token_budget
