"""What a store answered, as errors of one family, the same over REST and gRPC."""

import errno
import json
import re
from typing import Any

import grpc
import httpx
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from polyvec.terminal import escaped
from qdrant_polyvec.items import Report

__all__ = ["CollectionChangedError", "NoRoomError", "StoreError", "StoreRefusedError", "StoreUnavailableError"]

# All that qdrant-client raises of a server. JSONDecodeError: the answer is none of Qdrant.
FAILURES = (ApiException, QdrantException, grpc.RpcError, json.JSONDecodeError)
MISSING, TOO_LARGE = 404, 413
_STATUS_BY_CODE = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": MISSING,
    "DEADLINE_EXCEEDED": 408,
    "ALREADY_EXISTS": 409,
    "OUT_OF_RANGE": TOO_LARGE,  # the server's answer to a message above its limit
    "FAILED_PRECONDITION": 412,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": MISSING,
    "UNAVAILABLE": 503,
}
_OF_CONNECTIONS = (httpx.HTTPError, OSError)
_OF_REQUESTS = (  # they would fail again
    httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.DecodingError, httpx.TooManyRedirects,
)  # fmt: skip


class StoreError(Exception):
    """A Qdrant server, or the embedded engine for want of room, did not do what it was asked for.

    Attributes:
        report: what became of the items until then, if items were added.
    """

    report: Report | None = None


class StoreUnavailableError(StoreError, ConnectionError):
    """The server did not answer, or was not able to work, for as long as `Patience` says."""


class StoreRefusedError(StoreError):
    """The server answered that it will not do it.

    Attributes:
        status: HTTP's number of the answer, also over gRPC; 0 if the answer was none of Qdrant.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status

    @property
    def most(self) -> int | None:
        """The largest `limit` that the server takes, if it refused a larger one."""
        limit = re.search(r'Limit exceeded \d+ > (\d+) for "limit"', str(self))
        return None if limit is None else int(limit[1])


class NoRoomError(StoreError, OSError):
    """The disk of a folder is full, or nearly so. The call changed nothing that others can see."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.errno = errno.ENOSPC


class CollectionChangedError(StoreError):
    """The collection was exchanged or deleted by somebody else. Open it again."""


def status_of(error: Exception) -> int:
    """Return HTTP's number of an answer; 0 if there was no answer, or none of Qdrant."""
    if isinstance(error, UnexpectedResponse):
        status = error.status_code or 0
        return TOO_LARGE if status == 400 and "larger than allowed" in reason(error) else status
    if isinstance(error, QdrantException):  # qdrant-client's own for 429 with `Retry-After`
        return 429
    if isinstance(error, grpc.RpcError):
        answer: Any = error  # grpc is not annotated
        name = answer.code().name
        if name == "RESOURCE_EXHAUSTED" and "larger than" in reason(error):
            return TOO_LARGE
        if "nvalid metadata" in reason(error):  # a header that cannot be sent, such as a key with a line break
            return 401
        return _STATUS_BY_CODE.get(name, 500)
    return 0


def reason(error: Exception) -> str:
    """Put a server's answer in one line, without characters that change what is around it."""
    return escaped(" ".join(_answer(error).split()))[:300]


def _answer(error: Exception) -> str:
    if isinstance(error, UnexpectedResponse):
        try:
            message = str(error.structured()["status"]["error"])
        except (ValueError, KeyError, TypeError):  # plain text, a page of a proxy
            text = error.content.decode("utf-8", "replace").strip()
            message = error.reason_phrase if not text or text.startswith("<") else text
        return f"{error.status_code} {message}"
    if isinstance(error, ResponseHandlingException):
        if isinstance(error.source, httpx.LocalProtocolError):  # its text would show the key
            return "a header cannot be sent: is there a line break in the API key?"
        return f"{type(error.source).__name__}: {error.source}"
    if isinstance(error, grpc.RpcError):
        answer: Any = error  # grpc is not annotated
        return f"{answer.code().name} {answer.details()}"
    if isinstance(error, json.JSONDecodeError):
        return f"an answer that is no JSON: {error.doc[:100]!r}"
    return f"429 {error}"


def refusal(error: Exception, url: str) -> StoreError:
    """Translate an answer that is final, with what to do about it."""
    answer, status = reason(error), status_of(error)
    if status == MISSING and re.search(r"[Cc]ollection .* doesn't exist|[Cc]ollection .* not found", answer):
        return CollectionChangedError(
            f"a collection is gone from the Qdrant server at {url}: it was deleted, or exchanged by a `reindex`, "
            f"meanwhile ({answer}). Open it again."
        )
    return StoreRefusedError(f"the Qdrant server at {url} refused: {answer}.{_advice(answer, status)}", status)


def _advice(answer: str, status: int) -> str:
    if field := re.search(r'Index required but not found for "(?:metadata\.)?([^"]+)"', answer):
        kinds = re.search(r"one of the following types: \[(\w+)", answer)
        kind = kinds[1] if kinds else "keyword"
        return (
            f" This server filters by indexed fields only: `collection.create_index({field[1]!r}, {kind!r})`, or "
            f"Schema(indexed={{{field[1]!r}: {kind!r}}}), or --index-field {field[1]}:{kind} on the command line."
        )
    if status == 401:
        return (
            " Give its API key: open_client(url, api_key=…), or the environment variable QDRANT_API_KEY. If a key was "
            "given, it is a wrong one."
        )
    if status == 403:
        return " The API key does not allow this; it may be a key that only reads."
    if status in (0, MISSING):
        return " Is this the URL of a Qdrant server?"
    if status == TOO_LARGE:
        return " Send less at a time: a smaller `limit`, fewer queries or ids."
    return ""


def may_pass(error: Exception) -> bool:
    """True if the same call may succeed later."""
    if isinstance(error, ResponseHandlingException):
        source = error.source
        if "[SSL" in str(source):  # a certificate, or no TLS at the other end
            return False
        return isinstance(source, _OF_CONNECTIONS) and not isinstance(source, _OF_REQUESTS)
    status = status_of(error)
    return status in (408, 429) or status >= 500


def shows_key(error: Exception) -> bool:
    """True if an error, or its traceback, may show the API key."""
    return isinstance(error, ResponseHandlingException) and isinstance(error.source, httpx.LocalProtocolError)


def is_answer(error: ResponseHandlingException) -> bool:
    """True if qdrant-client wrapped what the connection or the answer raised. It wraps every other error, too."""
    return isinstance(error.source, (*_OF_CONNECTIONS, httpx.InvalidURL, ValueError))
