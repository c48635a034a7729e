"""The servers of the tests: what they answer is what a folder answers, and they fail as they are told to."""

import asyncio
import contextlib
from dataclasses import replace

import grpc
import pytest
from qdrant_client import models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from polyvec.testing import HashEncoder
from qdrant_polyvec import Collection, Group, Item, Schema, open_client
from tests.qdrant.servers import ANSWERS, CONNECTIONS

EMBEDDER = HashEncoder(dim=16, multivector_dim=8)
OTHER = HashEncoder(dim=12, multivector_dim=6, name="new")
SCHEMA = Schema(bm25="english", pooled=True)
TEXTS = ["the red fox", "a blue whale", "some red whale", "an owl"]
ITEMS = [
    Item(text, id=i, source=source, metadata={"n": i, "tags": ["x", None, 1.5]})
    for i, (text, source) in enumerate(zip(TEXTS, "aabc", strict=True))
]
PROTOCOLS = ["rest", "grpc"]


def rounded(hits):
    return [replace(hit, score=pytest.approx(hit.score, abs=1e-5)) for hit in hits]


def like(groups):
    return [Group(group.value, rounded(group.hits)) for group in groups]


def life(client, folder):
    """All that can be done with a collection, step by step."""
    docs = Collection.open(client, "docs", embedder=EMBEDDER, schema=SCHEMA)
    yield docs.add(ITEMS).ok
    yield docs.add(ITEMS).skipped
    yield docs.add([replace(ITEMS[0], metadata={"n": 7})]).ok  # only its payload is written
    yield docs.count(), docs.sources()
    for mode in ("dense", "late", "two-stage", "hybrid"):
        yield rounded(docs.search("red fox", mode=mode, candidates=10))
    recent = models.Filter(must=[models.FieldCondition(key="metadata.n", range=models.Range(gte=2))])
    yield rounded(docs.search("red fox", filter=recent))
    yield [rounded(hits) for hits in docs.search_batch(["red fox", "some red"])]
    yield like(docs.search_groups("red fox", limit=2))
    yield docs.get([3, 0, 99]), sorted(docs.all(recent), key=lambda one: one.id)
    embeddings = docs.embeddings([2], multivector=True)[2]
    yield embeddings.dense.tolist(), [rows.tolist() for rows in embeddings.multivector]
    yield docs.add([ITEMS[0]], replace_sources=True).removed
    yield docs.verify(sources=["a", "b"])
    yield docs.delete(sources=["c"]), docs.delete(ids=[0]), docs.count()
    yield docs.copy_to(folder, "copy").ok
    yield docs.reindex(OTHER).ok
    yield rounded(docs.search("red fox")), docs.verify()
    yield docs.delete_where(models.Filter()), docs.search("red fox")

    async def asynchronously():
        docs.add(ITEMS)
        found = rounded(await docs.asearch("red fox")), like(await docs.asearch_groups("red fox"))
        read = await docs.aget([1, 2]), (await docs.aembeddings([1]))[1].dense.tolist()
        await docs.aclose()
        return found, read

    yield asyncio.run(asynchronously())
    docs.client.delete_payload_index("docs", "metadata.source")
    docs.client.update_collection("docs", metadata={"note": "x"})
    info = docs.client.get_collection("docs")
    yield sorted(info.payload_schema), info.config.metadata, info.points_count
    dense = docs.embeddings([1])[1].dense[0].tolist()
    yield [point.id for point in docs.client.query_points("docs", dense, using="dense").points]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_collection_lives_on_a_server_as_in_a_folder(server, tmp_path, protocol):
    here = open_client(tmp_path / "here")
    client = server.client(prefer_grpc=protocol == "grpc")
    steps = life(client, tmp_path / "copy-1"), life(here, tmp_path / "copy-2")
    for number, (step, expected) in enumerate(zip(*steps, strict=True)):
        assert step == expected, number
    assert {sent.protocol for sent in server.requests} == {protocol}
    here.close()
    client.close()


@contextlib.contextmanager
def asking(server, protocol, *, is_async=False, timeout=30):
    """A function that makes calls with one client, and returns the error if there is one."""
    options = {"prefer_grpc": protocol == "grpc", "timeout": timeout}
    with asyncio.Runner() as runner:
        client = server.async_client(**options) if is_async else server.client(**options)

        async def ask_async(call, arguments):
            return await getattr(client, call)(*arguments)

        def ask(call, *arguments):
            try:
                return runner.run(ask_async(call, arguments)) if is_async else getattr(client, call)(*arguments)
            except (UnexpectedResponse, ResponseHandlingException, ResourceExhaustedResponse, grpc.RpcError) as error:
                return error

        yield ask
        if is_async:
            runner.run(client.close())
        else:
            client.close()


def outcome(error):
    """An error as another word: the status of HTTP or gRPC, or the name of an error of the connection."""
    if isinstance(error, UnexpectedResponse):
        return error.status_code
    if isinstance(error, ResponseHandlingException):
        return type(error.source).__name__
    return error.code().name if isinstance(error, grpc.RpcError) else type(error).__name__


OUTCOMES = {
    "refused": ("ReadError", "UNAVAILABLE"),
    "reset": ("ReadError", "UNAVAILABLE"),
    "hang": ("ReadTimeout", "DEADLINE_EXCEEDED"),
    "400 index": (400, "INVALID_ARGUMENT"),
    "400 limit": (400, "INVALID_ARGUMENT"),
    "400 size": (400, "INVALID_ARGUMENT"),
    "401": (401, "UNAUTHENTICATED"),
    "403": (403, "PERMISSION_DENIED"),
    "404": (404, "NOT_FOUND"),
    "409": (409, "ALREADY_EXISTS"),
    "413": (413, "OUT_OF_RANGE"),
    "429": ("ResourceExhaustedResponse", "ResourceExhaustedResponse"),
    "500": (500, "INTERNAL"),
    "503": (503, "UNAVAILABLE"),
}


@pytest.fixture
def points(server):
    server.behind.create_collection("docs", vectors_config=models.VectorParams(size=2, distance="Dot"))
    return [models.PointStruct(id=i, vector=[1.0, i]) for i in range(4)]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_answers_that_fail_are_seen_by_a_client_and_pass(server, points, protocol, is_async):
    with asking(server, protocol, is_async=is_async) as ask:
        for kind in ANSWERS:
            server.fail("count", kind)
            error = ask("count", "docs")
            assert outcome(error) == OUTCOMES[kind][protocol == "grpc"], kind
            assert getattr(error, "retry_after_s", None) == (1 if kind == "429" else None)
            assert ask("count", "docs").count == 0
    assert server.calls() == ["count", "count"] * len(ANSWERS)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_connections_that_fail_are_seen_by_a_client_and_pass(server, points, protocol, is_async):
    for kind in CONNECTIONS:
        server.fail("count", kind)
        with asking(server, protocol, is_async=is_async, timeout=0.5 if kind == "hang" else 30) as ask:
            assert outcome(ask("count", "docs")) == OUTCOMES[kind][protocol == "grpc"], kind
            if kind == "refused":
                assert outcome(ask("count", "docs")) == ("UNAVAILABLE" if protocol == "grpc" else "ConnectError")
        server.start()
        with asking(server, protocol, is_async=is_async) as ask:
            assert ask("count", "docs").count == 0
    assert server.calls() == ["count", "count"] * len(CONNECTIONS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("applied", "n_stored"), [(False, 0), (0.5, 2), (True, 4)])
def test_a_call_that_fails_is_applied_as_far_as_wanted(server, points, protocol, applied, n_stored):
    with asking(server, protocol) as ask:
        for kind in ("503", "reset"):
            server.fail("upsert", kind, applied=applied)
            assert isinstance(ask("upsert", "docs", points), Exception)
            assert server.behind.count("docs").count == n_stored, kind
            server.behind.delete("docs", models.Filter())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_faults_are_of_the_calls_named_as_often_as_wanted(server, points, protocol):
    server.fail("scroll", "500", times=2)
    server.fail(None, "503", times=None)
    with asking(server, protocol) as ask:
        outcomes = [outcome(ask(call, "docs")) for call in ("scroll", "scroll", "scroll", "count")]
        assert outcomes == ([500, 500, 503, 503] if protocol == "rest" else ["INTERNAL"] * 2 + ["UNAVAILABLE"] * 2)
        server.heal()
        assert ask("count", "docs").count == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_finds_the_server_again_on_the_same_port(server, points, protocol):
    with asking(server, protocol) as ask:
        assert ask("count", "docs").count == 0
        server.stop()
        assert isinstance(ask("count", "docs"), Exception)
        server.start()
        for _ in range(10_000):  # gRPC connects again only when some time has passed
            if not isinstance(answer := ask("count", "docs"), Exception):
                break
        assert answer.count == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_missing_collection_is_told_in_qdrants_words(server, protocol):
    with asking(server, protocol) as ask:
        error = ask("get_collection", "gone")
    text = error.content.decode() if protocol == "rest" else error.details()
    assert "Not found: Collection `gone` doesn't exist!" in text


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_request_that_is_too_large_is_refused(server, points, protocol):
    server.max_bytes[protocol] = 60
    with asking(server, protocol) as ask:
        assert outcome(ask("upsert", "docs", points)) == (400 if protocol == "rest" else "OUT_OF_RANGE")
        assert ask("upsert", "docs", points[:1]).status == "completed"


def test_a_call_that_is_not_known_is_told(server):
    with asking(server, "grpc") as ask:
        assert outcome(ask("get_collection_aliases", "docs")) == "UNIMPLEMENTED"
    with pytest.raises(AssertionError, match="upset is none of"):
        server.fail("upset", "500")
