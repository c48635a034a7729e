import asyncio
import threading

import httpx
import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.async_client_base import AsyncQdrantBase

from qdrant_polyvec.clients import Engine, ThreadedBackend, engine, open_async_client, open_client

DENSE = {"dense": models.VectorParams(size=2, distance=models.Distance.DOT)}


def struct(identity):
    return models.PointStruct(id=identity, vector={"dense": [1.0, float(identity)]}, payload={"n": identity})


@pytest.fixture(params=["edge", "memory"])
def client(request, tmp_path):
    client = open_client(tmp_path / "index" if request.param == "edge" else ":memory:")
    client.create_collection("docs", DENSE)
    yield client
    client.close()


def test_the_twin_of_a_client_has_its_data_and_does_not_close_it(client):
    async def scenario():
        twin = open_async_client(client)
        await twin.upsert("docs", [struct(i) for i in (1, 2)])
        assert client.count("docs").count == 2
        client.upsert("docs", [struct(3)])
        assert (await twin.count("docs")).count == 3
        found = await twin.query_points("docs", query=[0.0, 1.0], using="dense", limit=2)
        assert [point.id for point in found.points] == [3, 2]
        batch = await twin.query_batch_points("docs", [models.QueryRequest(query=1, using="dense", limit=1)])
        assert batch[0].points[0].id == 3
        groups = await twin.query_points_groups("docs", "n", query=[0.0, 1.0], using="dense", limit=1)
        assert groups.groups[0].id == 3
        assert [record.id for record in (await twin.scroll("docs"))[0]] == [1, 2, 3]
        twin.upload_points("docs", [struct(4)])
        twin.upload_collection("docs", {"dense": np.ones((1, 2), np.float32)}, ids=[5])
        assert (await twin.count("docs")).count == 5
        assert await twin.collection_exists("docs")
        await twin.close()
        await twin.close()
        with pytest.raises(RuntimeError, match="closed"):
            await twin.count("docs")

    asyncio.run(scenario())
    assert client.count("docs").count == 5


def test_calls_at_the_same_time_do_not_mix(client):
    async def scenario():
        twin = open_async_client(client)
        await asyncio.gather(*(twin.upsert("docs", [struct(i)]) for i in range(1, 31)))
        found = await asyncio.gather(*(twin.retrieve("docs", [i]) for i in range(1, 31)))
        assert [records[0].payload["n"] for records in found] == list(range(1, 31))

    asyncio.run(scenario())
    assert client.count("docs").count == 30


def test_a_folder_opened_asynchronously_is_closed_with_its_client(tmp_path):
    async def scenario():
        client = open_async_client(tmp_path)
        assert type(client) is AsyncQdrantClient
        await client.create_collection("docs", DENSE)
        await client.upsert("docs", [struct(1)])
        assert not await client._client.optimize("docs")
        beside = open_client(tmp_path)
        await client.close()
        with pytest.raises(RuntimeError, match="client is closed; open another one"):
            await client.count("docs")
        assert beside.count("docs").count == 1
        beside.close()

    asyncio.run(scenario())
    client = open_client(tmp_path)
    assert client.count("docs").count == 1
    client.close()


def test_a_folder_opened_asynchronously_and_forgotten_is_free_again(tmp_path):
    async def scenario():
        await open_async_client(tmp_path).create_collection("docs", DENSE)

    asyncio.run(scenario())
    client = open_client(tmp_path)
    assert client.collection_exists("docs")
    client.close()


def test_a_twin_keeps_its_client_open(tmp_path):
    async def scenario():
        twin = open_async_client(open_client(tmp_path))
        assert (await twin.get_collections()).collections == []

    asyncio.run(scenario())


def test_the_event_loop_goes_on_while_a_call_waits(tmp_path):
    client = open_client(tmp_path)
    client.create_collection("docs", DENSE)
    may_end = threading.Event()

    async def scenario():
        twin = open_async_client(client)
        with client._client._use.index.opened["docs"].shard.lock:  # as while a worker optimizes
            waiting = asyncio.create_task(twin.count("docs"))
            for _ in range(50):
                await asyncio.sleep(0)
            assert not waiting.done()
        may_end.set()
        assert (await waiting).count == 0

    asyncio.run(scenario())
    client.close()


def collections(request: httpx.Request) -> httpx.Response:
    assert request.headers["api-key"] == "secret"
    return httpx.Response(200, json={"result": {"collections": [{"name": "there"}]}, "status": "ok", "time": 0.0})


def test_the_twin_of_a_remote_client_has_its_options():
    options = {"api_key": "secret", "transport": httpx.MockTransport(collections), "check_compatibility": False}
    client = open_client("https://qdrant.test", **options)
    assert [found.name for found in client.get_collections().collections] == ["there"]

    async def scenario():
        for twin in (open_async_client(client), open_async_client("https://qdrant.test", **options)):
            assert [found.name for found in (await twin.get_collections()).collections] == ["there"]
            await twin.close()

    asyncio.run(scenario())
    client.close()


def test_an_asynchronous_client_is_returned_as_it_is():
    given = AsyncQdrantClient(":memory:")
    assert open_async_client(given) is given


@pytest.mark.parametrize("opened", [open_client, open_async_client])
@pytest.mark.parametrize("location", ["folder", ":memory:"])
def test_options_are_for_servers(opened, location, tmp_path):
    location = tmp_path / "folder" if location == "folder" else location
    with pytest.raises(TypeError, match=r"the options api_key, timeout are for a server's URL; .* takes none"):
        opened(location, api_key="secret", timeout=3)
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("location", [3, "", None])
def test_what_is_no_location_is_refused(location):
    with pytest.raises(TypeError, match="a location is a folder, a URL"):
        open_async_client(location)


def test_a_client_with_options_is_refused(client):
    with pytest.raises(TypeError, match="a QdrantClient takes none"):
        open_async_client(client, timeout=3)


def test_every_call_is_delegated():
    public = {name for name in vars(AsyncQdrantBase) if not name.startswith("_")}
    assert all(name in vars(ThreadedBackend) for name in public)


def test_a_client_knows_its_engine(client):
    assert engine(client) == Engine("memory" if client.init_options["location"] == ":memory:" else "edge")
