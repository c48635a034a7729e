import asyncio
import logging
import time

import grpc
import httpx
import pytest
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from qdrant_polyvec import CollectionChangedError, Patience, StoreError, StoreRefusedError, StoreUnavailableError
from qdrant_polyvec.errors import reason
from qdrant_polyvec.retrying import Attempts, apatiently, patiently, seconds_left

URL = "http://server:6333"


def answer(status, text="busy"):
    return UnexpectedResponse(status, "reason", b'{"status": {"error": "%s"}}' % text.encode(), httpx.Headers())


class RpcError(grpc.RpcError):
    def __init__(self, code, details="told"):
        self._code, self._details = code, details

    def code(self):
        return self._code

    def details(self):
        return self._details


def attempts(limit=30, **patience):
    return Attempts(URL, limit, Patience(**patience))


def run(how, errors, trial=None):
    """Call something that fails so, then gives 'done'. Returns that and what was waited for."""
    left, waits, trial = list(errors), [], trial or attempts()

    def call(seconds):
        if left:
            raise left.pop(0)
        return "done"

    if how == "sync":
        return patiently(call, trial, waits.append), waits

    async def acall(seconds):
        return call(seconds)

    async def sleep(seconds):
        waits.append(seconds)

    return asyncio.run(apatiently(acall, trial, sleep)), waits


both = pytest.mark.parametrize("how", ["sync", "async"])

PASSING = [
    *(answer(status) for status in (408, 429, 500, 502, 503, 504)),
    ResponseHandlingException(httpx.ReadTimeout("slow")),
    ResponseHandlingException(httpx.RemoteProtocolError("reset")),
    ResponseHandlingException(httpx.ConnectError("refused")),
    ResourceExhaustedResponse("too many", 1),
    *(RpcError(code) for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)),
    *(RpcError(code) for code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL)),
    *(RpcError(code) for code in (grpc.StatusCode.ABORTED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED)),
    QdrantException("Retry-After header value is not a valid integer: Fri, 27 Nov 2026 07:00:00 GMT"),
]
LASTING = [  # with HTTP's number, the same over REST and gRPC
    *((answer(status), status) for status in (400, 401, 403, 404, 409, 413, 422)),
    (answer(400, "JSON payload (5 bytes) is larger than allowed (limit: 4 bytes)."), 413),
    (RpcError(grpc.StatusCode.INVALID_ARGUMENT), 400),
    (RpcError(grpc.StatusCode.UNAUTHENTICATED), 401),
    (RpcError(grpc.StatusCode.PERMISSION_DENIED), 403),
    (RpcError(grpc.StatusCode.NOT_FOUND), 404),
    (RpcError(grpc.StatusCode.UNIMPLEMENTED), 404),
    (RpcError(grpc.StatusCode.ALREADY_EXISTS), 409),
    (RpcError(grpc.StatusCode.OUT_OF_RANGE, "Error, decoded message length too large"), 413),
    (RpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, "Sent message larger than max (5 vs. 4)"), 413),
    (ResponseHandlingException(httpx.UnsupportedProtocol("no http")), 0),
    (ResponseHandlingException(httpx.InvalidURL("no URL")), 0),
    (ResponseHandlingException(httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] unknown")), 0),
    (ResponseHandlingException(ValueError("the answer is not understood")), 0),
]


@both
@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass_is_tried_again(how, error):
    result, waits = run(how, [error, error])
    assert result == "done"
    assert len(waits) == 2


@both
@pytest.mark.parametrize(("error", "status"), LASTING, ids=repr)
def test_what_lasts_is_refused_at_once(how, error, status):
    with pytest.raises(StoreRefusedError, match=f"the Qdrant server at {URL} refused: ") as raised:
        run(how, [error, error])
    assert raised.value.status == status
    assert raised.value.__cause__ is error


@both
def test_a_fault_of_our_own_is_raised_as_it_is(how):
    with pytest.raises(ZeroDivisionError):
        run(how, [ZeroDivisionError()])
    with pytest.raises(KeyError, match="while the request was made"):
        run(how, [ResponseHandlingException(KeyError("while the request was made"))])


def test_pauses_grow_and_are_bounded():
    _, waits = run("sync", [answer(503)] * 9, attempts(limit=1000, first_wait=1, longest_wait=20))
    for number, wait in enumerate(waits):
        assert min(2**number, 20) <= wait <= min(1.5 * 2**number, 20)
    assert waits[-1] == 20


def test_pauses_stay_bounded_for_ever():
    assert Patience(longest_wait=30).wait(10_000, None) == 30


@pytest.mark.parametrize(("asked", "waited"), [(9, 9), (100, 30)])
def test_a_server_may_ask_for_a_longer_pause_but_not_for_any(asked, waited):
    _, waits = run("sync", [ResourceExhaustedResponse("too many", asked)], attempts(limit=1000))
    assert waits == [waited]


def test_no_pause_goes_beyond_the_limit():
    _, (wait,) = run("sync", [ResourceExhaustedResponse("too many", 100)], attempts(limit=5))
    assert 4 < wait <= 5


@both
@pytest.mark.parametrize("error", [LookupError("of a signal handler"), TimeoutError("of a signal handler")])
def test_an_error_of_the_callers_signal_handler_is_raised(how, error):
    with pytest.raises(type(error), match="of a signal handler"):
        run(how, [ResponseHandlingException(error)])


@both
def test_patience_ends(how):
    with pytest.raises(
        StoreUnavailableError,
        match=rf"at {URL} did not .* in 0\.03 s \(\d+ attempts\); the last answer was: 503 overloaded.*call again",
    ) as raised:
        run(how, [answer(503, "overloaded")] * 100_000, attempts(limit=0.03))
    assert isinstance(raised.value.__cause__, UnexpectedResponse)
    assert isinstance(raised.value, ConnectionError)
    assert isinstance(raised.value, StoreError)


def test_an_attempt_knows_how_long_it_may_take():
    told = []

    def call(seconds):
        told.append((seconds, seconds_left()))
        return len(told) > 1 or sleepy()

    def sleepy():
        raise answer(503)

    patiently(call, attempts(limit=20), lambda seconds: time.sleep(0.01))
    (first, of_request), (second, _) = told
    assert first == 10 == pytest.approx(of_request, abs=0.1)
    assert second == 10
    assert seconds_left() is None


def test_an_attempt_has_what_is_left_but_a_second_at_least(monkeypatch):
    told = []

    def call(seconds):
        told.append(seconds)
        if len(told) < 3:
            raise answer(503)

    clock = iter([0, 0, 0, 1, 3, 3, 3, 3.5, 3.5, 3.5])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    patiently(call, attempts(limit=4), lambda seconds: None)
    assert told == [2, 1, 1]


def test_the_first_failure_is_logged(caplog):
    with caplog.at_level(logging.WARNING):
        run("sync", [answer(503, "starting")] * 3)
    (record,) = caplog.records
    assert record.getMessage() == f"the Qdrant server at {URL} does not answer (503 starting); trying again for 30 s"


@pytest.mark.parametrize(
    "error",
    [
        answer(404, "Not found: Collection `docs__28e75bd9` doesn't exist!"),
        RpcError(grpc.StatusCode.NOT_FOUND, "Not found: Collection `docs__28e75bd9` doesn't exist!"),
    ],
    ids=["rest", "grpc"],
)
def test_a_collection_that_is_gone_was_changed_by_others(error):
    with pytest.raises(CollectionChangedError, match=r"at http.*docs__28e75bd9.*Open it again"):
        run("sync", [error])


ADVICE = {
    401: "open_client(url, api_key=…), or the environment variable QDRANT_API_KEY",
    403: "may be a key that only reads",
    404: "Is this the URL of a Qdrant server?",
    413: "Send less at a time",
}


@pytest.mark.parametrize("status", ADVICE)
def test_a_refusal_says_what_to_do(status):
    with pytest.raises(StoreRefusedError) as raised:
        run("sync", [answer(status)])
    assert ADVICE[status] in str(raised.value)


def test_a_field_without_an_index_is_told_with_the_call_that_makes_one():
    text = (
        'Bad request: Index required but not found for \\"metadata.n\\" of one of the following types: [integer]. '
        "Help: Create an index for this key or use a different filter."
    )
    with pytest.raises(StoreRefusedError) as raised:
        run("sync", [answer(400, text)])
    assert "collection.create_index('n', 'integer')" in str(raised.value)
    assert "--index-field n:integer" in str(raised.value)


def test_copies_that_do_not_answer_are_told():
    text = "Service internal error: 1 of 2 read operations failed"
    with pytest.raises(StoreUnavailableError, match=r"Cluster\(read_consistency=…\)"):
        run("sync", [answer(500, text)] * 100_000, attempts(limit=0.01))


def test_reasons_are_short_and_hold_no_key():
    assert reason(answer(422, "x" * 1000)) == ("422 " + "x" * 1000)[:300]
    assert reason(UnexpectedResponse(502, "Bad Gateway", b"<html>", httpx.Headers())) == "502 Bad Gateway"
    assert reason(UnexpectedResponse(401, "Unauthorized", b"Invalid API key or JWT", httpx.Headers())) == (
        "401 Invalid API key or JWT"
    )
    assert reason(ResponseHandlingException(httpx.ReadTimeout("slow"))) == "ReadTimeout: slow"
    assert reason(RpcError(grpc.StatusCode.UNAVAILABLE)) == "UNAVAILABLE told"
    assert "key-1" not in reason(ResponseHandlingException(httpx.LocalProtocolError("Illegal header value b'key-1\n'")))


@pytest.mark.parametrize("name", ["reads", "writes", "first_wait", "longest_wait"])
def test_patience_is_a_number_of_seconds(name):
    with pytest.raises(ValueError, match=f"`{name}` is 0; it is a number of seconds above 0"):
        Patience(**{name: 0})


@pytest.mark.parametrize(
    ("method", "limit"), [("query_batch_points", 3), ("scroll", 3), ("upsert", 7), ("delete_collection", 7)]
)
def test_searches_wait_for_less_than_writes(method, limit):
    assert Patience(reads=3, writes=7).limit(method) == limit
    assert Patience(reads=3, writes=7).of_writes().limit(method) == 7
