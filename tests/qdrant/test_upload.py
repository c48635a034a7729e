"""Writing to a server that fails in every way a server can: nothing is lost, nothing doubled, the rest goes on."""

import httpx
import numpy as np
import pytest
from qdrant_client import models

from polyvec.testing import HashEncoder
from qdrant_polyvec import (
    Collection,
    Patience,
    StoreRefusedError,
    StoreUnavailableError,
    limits,
    open_client,
    schema,
    upload,
)
from qdrant_polyvec.clients import engine
from qdrant_polyvec.patient import patient
from qdrant_polyvec.upload import _wire

N = 12
rng = np.random.default_rng(0)


def structs(n=N, tokens=3, dim=4, late=4):
    return [
        models.PointStruct.model_construct(
            id=i,
            vector={
                "dense": rng.standard_normal(dim).astype(np.float32),
                "late": rng.standard_normal((tokens, late)).astype(np.float32),
            },
            payload={"n": i},
        )
        for i in range(n)
    ]


@pytest.fixture
def client(rest):
    client = rest.client()
    schema.create(client, "docs", dense=4, late=4, metadata={}, engine=engine(client))
    rest.requests.clear()
    return client


@pytest.fixture
def small(monkeypatch):
    """Four points per request."""
    monkeypatch.setattr(limits, "MAX_REQUEST_BYTES", 4 * (21 * 16 + 4 * 8 + 10))


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """What was waited for; nobody does."""
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    return waits


def write(client, points):
    """What was acknowledged, and what failed."""
    ok, failed = [], []
    client = patient(client, Patience())
    for written in upload.write(client, engine(client), "docs", points):
        ok += [point.id for point in written.ok]
        failed += [(point.id, reason) for point, reason in written.failed]
    return ok, failed


def stored(client):
    return [record.id for record in client.scroll("docs", limit=1000)[0]]


FAULTS = {
    "429": {"status": 429, "text": "slow down"},
    "429 with a pause": {"status": 429, "text": "slow down", "headers": {"Retry-After": "3"}},
    "408": {"status": 408},
    "500": {"status": 500, "text": "panic"},
    "503": {"status": 503},
    "read timeout": {"error": httpx.ReadTimeout("slow")},
    "no connection": {"error": httpx.ConnectError("refused")},
    "a reset after it was applied": {"error": httpx.ReadError("reset"), "applied": 1.0},
    "a reset when half was applied": {"error": httpx.RemoteProtocolError("reset"), "applied": 0.5},
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_passes_loses_and_doubles_nothing(rest, client, small, fault, name, waits):
    rest.faults["/points"] = [fault(**FAULTS[name]), fault(**FAULTS[name])]
    ok, failed = write(client, structs())
    assert ok == stored(client) == list(range(N))
    assert failed == []
    assert len(waits) == 2
    if "pause" in name:
        assert waits[0] == 3
    assert len(rest.sent("PUT", "/points")) == 3 + 2


def test_a_request_that_is_too_large_is_halved_and_those_after_it_are_smaller(rest, client, monkeypatch, waits):
    points = structs(32, tokens=40)
    rest.max_bytes = 32_000
    ok, failed = write(client, points)
    assert ok == stored(client) == list(range(32))
    assert (failed, waits) == ([], [])
    sizes = [one["size"] for one in rest.requests if one["path"].endswith("/points")]
    assert sizes[0] > 32_000
    monkeypatch.setattr(limits, "MAX_REQUEST_BYTES", 64_000)
    rest.requests.clear()
    write(client, structs(200, tokens=40))
    refused = [one["size"] for one in rest.requests if one["size"] > 32_000]
    assert len(refused) <= 3  # it is learnt once, not with every request


def test_only_the_points_to_blame_are_refused(rest, client, waits):
    points = structs()
    points[3].vector["late"] = np.ones((3, 5), np.float32)
    points[7].vector["dense"] = np.ones(3, np.float32)
    ok, failed = write(client, points)
    assert ok == stored(client) == [i for i in range(N) if i not in (3, 7)]
    assert [identity for identity, _ in failed] == [3, 7]
    assert "http://server:6333 refused: 400 " in failed[0][1]
    assert "shape (3, 5)" in failed[0][1]
    assert waits == []


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_is_never_simply_repeated(rest, client, fault, status, waits):
    rest.faults["/points"] = [fault(status=status, text="no") for _ in range(2 * N)]
    ok, failed = write(client, structs(4))
    assert (ok, len(failed), waits) == ([], 4, [])
    sent = [len(body["points"]) for body in rest.sent("PUT", "/points")]
    assert sent == [4, 2, 1, 1, 2, 1, 1]


@pytest.mark.parametrize("status", [401, 403, 404, 409])
def test_where_nothing_would_work_it_is_said_at_once(rest, client, fault, status):
    rest.faults["/points"] = [fault(status=status, text="no")]
    with pytest.raises(StoreRefusedError, match=f"{status} no"):
        write(client, structs())
    assert len(rest.sent("PUT", "/points")) == 1


def test_what_is_acknowledged_is_known_when_patience_ends(rest, client, small, fault):
    rest.faults["/points"] = [fault(), *(fault(status=503) for _ in range(99_999))]
    told, client = [], patient(client, Patience(writes=0.02))
    written = upload.write(client, engine(client), "docs", structs())
    with pytest.raises(StoreUnavailableError):
        told.extend(point.id for one in written for point in one.ok)
    assert told == stored(client) == [0, 1, 2, 3]


def test_what_one_half_acknowledged_is_known_when_the_other_meets_no_answer(rest, client, fault):
    rest.faults["/points"] = [fault(status=400, text="no"), fault(), *(fault(status=503) for _ in range(99_999))]
    told, client = [], patient(client, Patience(writes=0.02))
    written = upload.write(client, engine(client), "docs", structs(8))
    with pytest.raises(StoreUnavailableError):
        told.extend(point.id for one in written for point in one.ok)
    assert told == stored(client) == [0, 1, 2, 3]


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_a_bad_point_does_not_stop_the_others_in_a_folder_either(tmp_path, where):
    client = open_client(tmp_path / "index" if where == "folder" else ":memory:")
    schema.create(client, "docs", dense=4, late=4, metadata={}, engine=engine(client))
    points = structs()
    points[5].vector["late"] = np.ones((2, 3), np.float32)
    ok, failed = write(client, points)
    assert ok == stored(client) == [i for i in range(N) if i != 5]
    assert [identity for identity, _ in failed] == [5]
    client.close()


def test_more_vectors_than_a_server_takes_are_that_points_failure(rest):
    client = rest.client()
    schema.create(client, "docs", dense=4, late=128, metadata={}, engine=engine(client))
    points = structs(3, late=128)
    points[1].vector["late"] = np.ones((8192, 128), np.float32)
    rest.max_bytes = 2**28
    ok, failed = write(client, points)
    assert (ok, len(failed)) == ([0, 2], 1)
    assert "Total size of all vectors (1048576) must be less than 1048576" in failed[0][1]


def test_the_report_says_what_was_stored_before_the_store_was_lost(rest, fault, monkeypatch):
    patience = Patience(writes=0.02)
    docs = Collection.open(rest.client(), "docs", embedder=HashEncoder(dim=16, multivector_dim=8), patience=patience)
    texts = [f"text {i}" for i in range(6)]
    puts = []
    answer = rest._answer

    def failing(method, path, body):
        if method == "PUT" and path.endswith("/points"):
            puts.append(path)
            if len(puts) > 1:
                raise httpx.ConnectError("refused")
        return answer(method, path, body)

    monkeypatch.setattr(rest, "_answer", failing)
    with pytest.raises(StoreUnavailableError) as raised:
        docs.add(texts, ids=list(range(6)), batch_size=2)
    assert raised.value.report.ok == [0, 1]


def test_a_stream_that_breaks_keeps_what_was_written(rest, client, small):
    def stream():
        yield from structs(6)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        write(client, stream())
    assert stored(client) == [0, 1, 2, 3]


def test_requests_of_real_pages_stay_below_16_mib(rest):
    client = rest.client()
    schema.create(client, "docs", dense=2048, late=128, metadata={}, engine=engine(client))
    points = structs(9, tokens=768, dim=2048, late=128)
    for point in points:
        point.vector = {
            name: vector / np.linalg.norm(vector, axis=-1, keepdims=True) for name, vector in point.vector.items()
        }
    write(client, points)
    sizes = [one["size"] for one in rest.requests if one["path"].endswith("/points")]
    assert len(sizes) == 2
    assert max(sizes) < 16 * 2**20


def test_a_folder_gets_arrays_and_operations_of_8_mib(tmp_path, monkeypatch):
    client = open_client(tmp_path)
    wire = _wire(client, engine(client))
    assert (wire.max_bytes, wire.bytes_per_float) == (8 * 2**20, 4)
    (point,) = structs(1)
    assert wire.convert(point) is point
    client.close()


def test_a_bad_minute_in_the_middle_of_an_ingest_is_survived(rest, fault, waits):
    docs = Collection.open(rest.client(), "docs", embedder=HashEncoder(dim=16, multivector_dim=8))
    rest.faults["/points"] = [fault(status=503), fault(), fault(status=500), fault(error=httpx.ReadTimeout("slow"))]
    rest.faults["/points/payload"] = [fault(status=429, headers={"Retry-After": "2"})]
    texts = [f"text {i}" for i in range(20)]
    assert len(docs.add(texts, batch_size=5).ok) == 20
    assert len(docs.add(texts, batch_size=5, metadatas=[{"n": 1}] * 20).ok) == 20
    assert docs.count() == 20
    assert len(waits) == 4
    assert not any(rest.faults.values())
