"""Requests that are repeated until the store answers: after 429, 408, 5xx and a lost connection, and nothing else."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import httpx
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from polyvec.alarms import pass_alarm
from qdrant_polyvec.items import Report

T = TypeVar("T")

_AGAIN = {grpc.StatusCode[name] for name in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "INTERNAL", "UNKNOWN")}
# What qdrant-client wraps because of the connection or the answer. It wraps every other `Exception`, too.
_OF_ANSWERS = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError)


class StoreUnavailableError(ConnectionError):
    """The store did not answer, or refused to work, for too long.

    Attributes:
        report: what became of the items until then, if items were added.
    """

    report: Report | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a store."""

    attempts: int = 7  # of one request
    # Seconds before the second attempt; doubled each time, and up to half as long again by chance, so that several
    # clients do not come back at once.
    first_wait: float = 0.5
    longest_wait: float = 30.0  # seconds between two attempts at most, whatever the server asks for

    def wait(self, n_failed: int, retry_after: float | None) -> float:
        """Seconds until the next attempt; `retry_after` is the server's wish."""
        usual = self.first_wait * 2.0 ** (n_failed - 1) * random.uniform(1, 1.5)  # noqa: S311 — no secret
        return min(max(usual, retry_after or 0.0), self.longest_wait)


PATIENCE = Patience()


def pause(seconds: float) -> None:
    time.sleep(seconds)


def patiently(call: Callable[[], T], *, patience: Patience = PATIENCE, sleep: Callable[[float], None] = pause) -> T:
    """Call, and call again while it may yet succeed, at last with a StoreUnavailableError. Calls may be done twice.

    An error that the caller's own signal handler raised, and qdrant-client took for one of the connection, is raised.
    """
    for n_failed in range(1, patience.attempts + 1):
        try:
            return call()
        except (UnexpectedResponse, ResponseHandlingException, QdrantException, grpc.RpcError) as error:
            if isinstance(error, ResponseHandlingException):
                pass_alarm(error.source)
                if not isinstance(error.source, _OF_ANSWERS):
                    raise error.source from error
            if not _may_pass(error):
                raise
            if n_failed == patience.attempts:
                raise StoreUnavailableError(
                    f"the store did not take a request in {n_failed} attempts; the last answer was: {reason(error)}. "
                    "What it has acknowledged is stored; call again to go on."
                ) from error
            sleep(patience.wait(n_failed, getattr(error, "retry_after_s", None)))
    raise ValueError(f"`attempts` is {patience.attempts}; it must be at least 1.")


def reason(error: Exception) -> str:
    """Put a server's answer in one line."""
    if isinstance(error, UnexpectedResponse):
        try:
            message = str(error.structured()["status"]["error"])
        except (ValueError, KeyError, TypeError):
            message = error.reason_phrase
        return f"{error.status_code} {message}"[:300]
    if isinstance(error, ResponseHandlingException):
        return f"{type(error.source).__name__}: {error.source}"[:300]
    if (status := code(error)) is not None:
        answer: Any = error  # grpc is not annotated
        return f"{status.name} {answer.details()}"[:300]
    return str(error)[:300]


def _may_pass(error: Exception) -> bool:
    if isinstance(error, UnexpectedResponse):
        status = error.status_code or 0
        return status in (408, 429) or status >= 500
    if isinstance(error, grpc.RpcError):
        # An answer that is exhausted for good says that a message is larger than allowed.
        exhausted = code(error) is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than" not in reason(error)
        return code(error) in _AGAIN or exhausted
    if isinstance(error, ResponseHandlingException):
        # A ValueError: the answer came and was not understood.
        return not isinstance(error.source, ValueError | httpx.UnsupportedProtocol | httpx.InvalidURL)
    return True  # 429, as qdrant-client tells it


def code(error: Exception) -> Any:  # Any: grpc is not annotated
    """The status of an answer over gRPC; None if it is none."""
    return error.code() if isinstance(error, grpc.RpcError) and hasattr(error, "code") else None
