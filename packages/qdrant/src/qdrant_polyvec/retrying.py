"""How long calls to a server are repeated: after 429, 408, 5xx and a lost connection, up to one limit of time."""

import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TypeVar

from qdrant_client.http.exceptions import ResponseHandlingException

from polyvec.alarms import pass_alarm
from qdrant_polyvec.errors import FAILURES, StoreUnavailableError, is_answer, may_pass, reason, refusal, shows_key

T = TypeVar("T")

SHORTEST = 1.0  # seconds; an attempt has at least this long, even if the limit is nearly over
_READS = {
    "collection_exists", "count", "facet", "get_aliases", "get_collection", "get_collection_aliases", "get_collections",
    "info", "query_batch_points", "query_points", "query_points_groups", "retrieve", "scroll",
}  # fmt: skip
_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)  # of the running attempt
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for a server that does not answer or is overloaded.

    Attributes:
        reads: seconds that a search or another reading call may take, all of its attempts together; one attempt has
            half of them. `add`, `reindex` and `copy_to` read with the patience of writes.
        writes: the same for a writing call.
        first_wait: seconds before the second attempt. The pause is doubled each time, and up to half as long again by
            chance, so that several clients do not come back at once.
        longest_wait: seconds between two attempts at most, whatever the server asks for by `Retry-After`.

    An attempt ends when nothing arrives for that long; an answer that trickles in is waited for.
    """

    reads: float = 30.0
    writes: float = 300.0
    first_wait: float = 0.5
    longest_wait: float = 30.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` is {getattr(self, name)!r}; it is a number of seconds above 0.")

    def limit(self, method: str) -> float:
        """Seconds that a call of this method of `QdrantClient` may take."""
        return self.reads if method in _READS else self.writes

    def of_writes(self) -> "Patience":
        """Return the patience of calls that read in order to write."""
        return replace(self, reads=self.writes)

    def wait(self, n_failed: int, retry_after: float | None) -> float:
        """Seconds until the next attempt; `retry_after` is the server's wish."""
        usual = self.first_wait * 2.0 ** min(n_failed - 1, 30) * random.uniform(1, 1.5)  # noqa: S311 — no secret
        return min(max(usual, retry_after or 0.0), self.longest_wait)


class Attempts:
    """The attempts of one call."""

    def __init__(self, url: str, limit: float, patience: Patience) -> None:
        self._url, self._limit, self._patience = url, limit, patience
        self._end = time.monotonic() + limit
        self._n_failed = 0

    @contextmanager
    def one(self) -> Iterator[float]:
        """Make one attempt, with the seconds that it may take; they bound its requests over REST.

        It has half of the limit at most, so that one answer that never comes does not use up all.
        """
        left = max(min(self._end - time.monotonic(), self._limit / 2), SHORTEST)
        token = _deadline.set(time.monotonic() + left)
        try:
            yield left
        finally:
            _deadline.reset(token)

    def pause(self, error: Exception) -> float:
        """Return the seconds until the next attempt, or raise what the failure of the last one means.

        An error that the caller's own signal handler raised, and qdrant-client took for one of the connection, is
        raised as it is.
        """
        self._n_failed += 1
        if isinstance(error, ResponseHandlingException):
            pass_alarm(error.source)
            if not is_answer(error):
                raise error.source from error
        if not may_pass(error):
            raise refusal(error, self._url) from (None if shows_key(error) else error)
        left = self._end - time.monotonic()
        if left <= 0:
            raise StoreUnavailableError(
                f"the Qdrant server at {self._url} did not do what it was asked for in {self._limit:g} s "
                f"({self._n_failed} attempt{'s' if self._n_failed > 1 else ''}); the last answer was: "
                f"{reason(error)}.{_advice(reason(error))} What it has acknowledged is stored; call again to go on."
            ) from error
        if self._n_failed == 1:
            _logger.warning(
                "the Qdrant server at %s does not answer (%s); trying again for %.0f s", self._url, reason(error), left
            )
        wait = self._patience.wait(self._n_failed, getattr(error, "retry_after_s", None))
        return min(wait, left)


def seconds_left() -> float | None:
    """Seconds until the end of the running attempt; None outside of one."""
    end = _deadline.get()
    return None if end is None else max(end - time.monotonic(), SHORTEST)


def patiently(call: Callable[[float], T], attempts: Attempts, sleep: Callable[[float], None]) -> T:
    """Call with the seconds that it may take, and call again while it may yet succeed. Calls may be done twice.

    Raises:
        StoreError: what the last failure means.
    """
    while True:
        try:
            with attempts.one() as left:
                return call(left)
        except FAILURES as error:
            seconds = attempts.pause(error)
        sleep(seconds)


async def apatiently(
    call: Callable[[float], Awaitable[T]], attempts: Attempts, sleep: Callable[[float], Awaitable[None]]
) -> T:
    """`patiently` for asynchronous calls."""
    while True:
        try:
            with attempts.one() as left:
                return await call(left)
        except FAILURES as error:
            seconds = attempts.pause(error)
        await sleep(seconds)


def _advice(answer: str) -> str:
    if "read operations failed" in answer:
        return " `Cluster(read_consistency=…)` asks for more copies than answer."
    return " Does it run, and is the URL right? Patience(reads=…, writes=…) waits longer."
