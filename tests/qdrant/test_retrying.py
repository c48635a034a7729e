import grpc
import httpx
import pytest
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from qdrant_polyvec import StoreUnavailableError
from qdrant_polyvec.retrying import Patience, patiently, reason


def answer(status, text="busy"):
    return UnexpectedResponse(status, "reason", b'{"status": {"error": "%s"}}' % text.encode(), httpx.Headers())


class RpcError(grpc.RpcError):
    def __init__(self, code, details="told"):
        self._code, self._details = code, details

    def code(self):
        return self._code

    def details(self):
        return self._details


def failing(*errors):
    """A call that fails so, then gives 'done'; and what was waited for."""
    left, waits = list(errors), []

    def call():
        if left:
            raise left.pop(0)
        return "done"

    return call, waits


PASSING = [
    *(answer(status) for status in (408, 429, 500, 502, 503, 504)),
    ResponseHandlingException(httpx.ReadTimeout("slow")),
    ResponseHandlingException(httpx.RemoteProtocolError("reset")),
    ResponseHandlingException(httpx.ConnectError("refused")),
    ResourceExhaustedResponse("too many", 1),
    *(RpcError(code) for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)),
    RpcError(grpc.StatusCode.RESOURCE_EXHAUSTED),
    RpcError(grpc.StatusCode.INTERNAL),
    QdrantException("Retry-After header value is not a valid integer: Fri, 27 Nov 2026 07:00:00 GMT"),
]
LASTING = [
    *(answer(status) for status in (400, 401, 403, 404, 409, 413, 422)),
    RpcError(grpc.StatusCode.INVALID_ARGUMENT),
    RpcError(grpc.StatusCode.UNAUTHENTICATED),
    RpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, "Sent message larger than max (5 vs. 4)"),
    ResponseHandlingException(httpx.UnsupportedProtocol("no http")),
    ResponseHandlingException(ValueError("the answer is not understood")),
    ValueError("a bug"),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass_is_tried_again(error):
    call, waits = failing(error, error)
    assert patiently(call, sleep=waits.append) == "done"
    assert len(waits) == 2


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_lasts_is_raised_at_once(error):
    call, waits = failing(error)
    with pytest.raises(type(error)) as raised:
        patiently(call, sleep=waits.append)
    assert raised.value is error
    assert waits == []


def test_pauses_grow_and_are_bounded():
    call, waits = failing(*[answer(503)] * 9)
    patiently(call, patience=Patience(attempts=10, first_wait=1, longest_wait=20), sleep=waits.append)
    for number, wait in enumerate(waits):
        assert min(2**number, 20) <= wait <= min(1.5 * 2**number, 20)
    assert waits[-1] == 20


@pytest.mark.parametrize(("asked", "waited"), [(9, 9), (100, 30)])
def test_a_server_may_ask_for_a_longer_pause_but_not_for_any(asked, waited):
    call, waits = failing(ResourceExhaustedResponse("too many", asked))
    patiently(call, sleep=waits.append)
    assert waits == [waited]


@pytest.mark.parametrize("error", [LookupError("of a signal handler"), TimeoutError("of a signal handler")])
def test_an_error_of_the_callers_signal_handler_is_raised(error):
    call, waits = failing(ResponseHandlingException(error))
    with pytest.raises(type(error), match="of a signal handler"):
        patiently(call, sleep=waits.append)
    assert waits == []


def test_patience_ends():
    call, waits = failing(*[answer(503, "overloaded")] * 5)
    with pytest.raises(StoreUnavailableError, match="in 3 attempts; the last answer was: 503 overloaded") as raised:
        patiently(call, patience=Patience(attempts=3), sleep=waits.append)
    assert len(waits) == 2
    assert isinstance(raised.value.__cause__, UnexpectedResponse)
    assert isinstance(raised.value, ConnectionError)


def test_reasons_are_short():
    assert reason(answer(422, "x" * 1000)) == ("422 " + "x" * 1000)[:300]
    assert reason(UnexpectedResponse(502, "Bad Gateway", b"<html>", httpx.Headers())) == "502 Bad Gateway"
    assert reason(ResponseHandlingException(httpx.ReadTimeout("slow"))) == "ReadTimeout: slow"
    assert reason(RpcError(grpc.StatusCode.UNAVAILABLE)) == "UNAVAILABLE told"
