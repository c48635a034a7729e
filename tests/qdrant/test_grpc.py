"""The real client over gRPC, to a server on the loopback."""

import grpc
import numpy as np
import pytest
from qdrant_client import models

from qdrant_polyvec import (
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
from qdrant_polyvec.query import EncodedQuery, Options, plan
from qdrant_polyvec.schema import Schema
from tests.qdrant.calls import RefusedError

rng = np.random.default_rng(0)
UUID = "0f6d6a3c-6a0b-5c5e-9d0a-2d4f2b6c8e11"


def structs(n=6, tokens=3):
    return [
        models.PointStruct.model_construct(
            id=UUID if i == 1 else i,
            vector={
                "dense": unit(rng.standard_normal(16)),
                "late": unit(rng.standard_normal((tokens + i, 8))),
                "bm25": models.SparseVector(indices=[1, 70_000 + i], values=[0.5, 1.5]),
            },
            payload={"n": i, "metadata": {"a": [1, 2.5, None, "x", {"b": True}]}, "_polyvec": {"task": "code"}},
        )
        for i in range(n)
    ]


def unit(array):
    return (array / np.linalg.norm(array, axis=-1, keepdims=True)).astype(np.float32)


def create(client):
    words = Schema(bm25="english")
    schema.create(client, "docs", dense=16, late=8, metadata={}, schema=words, engine=engine(client))


@pytest.fixture
def server(server):
    create(server.behind)
    return server


@pytest.fixture
def client(server):
    client = server.client(prefer_grpc=True)
    yield client
    client.close()


def sizes(server):
    return [sent.size for sent in server.requests if sent.call.name == "upsert"]


def write(client, points, limit=30.0):
    ok, failed = [], []
    client = patient(client, Patience(writes=limit, first_wait=0.001))
    for written in upload.write(client, engine(client), "docs", points):
        ok += [point.id for point in written.ok]
        failed += [(point.id, reason) for point, reason in written.failed]
    return ok, failed


def everything(client):
    records, _ = client.scroll("docs", limit=100, with_vectors=True)
    return {record.id: (record.payload, record.vector) for record in records}


def test_grpc_and_rest_and_a_folder_store_the_same(server, client, rest, tmp_path):
    points = structs()
    others = rest.client(), open_client(tmp_path / "here")
    for other in others:
        create(other)
        assert write(other, points) == ([point.id for point in points], [])
    assert write(client, points) == ([point.id for point in points], [])
    by_grpc, by_rest, here = everything(server.behind), everything(rest.behind), everything(others[1])
    assert by_grpc.keys() == by_rest.keys() == here.keys() == {point.id for point in points}
    assert by_grpc == here == by_rest
    others[1].close()


def test_requests_are_about_as_large_as_estimated(server, client, monkeypatch):
    monkeypatch.setattr(limits, "MAX_REQUEST_BYTES", 4_000)
    write(client, structs(20, tokens=20))
    assert len(sizes(server)) > 4
    assert 2_000 < max(sizes(server)) <= 4_000


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "RESOURCE_EXHAUSTED"])
def test_a_fault_that_passes_loses_nothing(server, client, code):
    server.fail("upsert", RefusedError(503, "try again", code=grpc.StatusCode[code]), times=2)
    ok, failed = write(client, structs())
    assert (len(ok), failed) == (6, [])
    assert len(everything(server.behind)) == 6


def test_a_store_that_stays_away_is_told(server, client):
    server.fail("upsert", RefusedError(503, "away"), times=None)
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:\d+ \(gRPC\) .* UNAVAILABLE away"):
        write(client, structs(), limit=0.1)


def test_only_the_point_to_blame_is_refused(server, client):
    points = structs()
    points[2].vector["dense"] = np.ones(3, np.float32)
    ok, failed = write(client, points)
    assert len(ok) == 5
    ((identity, reason),) = failed
    assert identity == 2
    assert "refused: INVALID_ARGUMENT" in reason


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND"])
def test_where_nothing_would_work_it_is_said_at_once(server, client, code):
    server.fail("upsert", RefusedError(403, "no", code=grpc.StatusCode[code]))
    with pytest.raises(StoreRefusedError):
        write(client, structs())
    assert len(sizes(server)) == 1


@pytest.mark.parametrize("mode", ["dense", "late", "two-stage", "hybrid"])
def test_searches_find_the_same_as_in_the_folder(server, client, mode):
    points = structs()
    write(client, points)
    query = EncodedQuery("code", points[3].vector["dense"], points[3].vector["late"], "a fox")
    request = plan([query], Options(mode=mode), schema=Schema(bm25="english")).request
    (over_grpc,) = client.query_batch_points("docs", [request])
    (direct,) = server.behind.query_batch_points("docs", [request])
    assert [point.id for point in over_grpc.points] == [point.id for point in direct.points]
    assert over_grpc.points[0].id == 3
    assert over_grpc.points[0].payload == points[3].payload


@pytest.mark.parametrize("rows", [1, 15, 16, 127, 4000])
def test_vectors_of_any_length_arrive(server, client, rows):
    (point,) = structs(1)
    point.vector["late"] = unit(rng.standard_normal((rows, 8)))
    write(client, [point])
    ((_, vectors),) = everything(server.behind).values()
    assert np.array(vectors["late"]) == pytest.approx(point.vector["late"], abs=1e-3)


def test_a_limit_of_the_server_is_learnt_once(server, client, monkeypatch):
    monkeypatch.setattr(limits, "MAX_REQUEST_BYTES", 4_000)
    server.max_bytes["grpc"] = 2_000
    points = structs(60)
    for point in points:
        point.vector["late"] = points[0].vector["late"]
    ok, failed = write(client, points)
    assert (len(ok), failed) == (60, [])
    assert sum(size > 2_000 for size in sizes(server)) <= 4  # the first request, its halves and quarters


def test_a_number_that_grpc_cannot_send_is_the_points_own_failure(server, client):
    points = structs()
    points[4].payload = {"n": 2**64}
    ok, failed = write(client, points)
    assert (len(ok), [identity for identity, _ in failed]) == (5, [4])
