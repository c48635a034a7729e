"""Every public method of a collection on a server that fails in every way, over REST and gRPC.

Each ends in a right result if the fault passes, and in one clear error if it lasts.
"""

import asyncio
import contextlib
import inspect
import itertools
import threading
import time

import pytest
from qdrant_client import models

from polyvec.testing import HashEncoder
from qdrant_polyvec import (
    Cluster,
    Collection,
    CollectionChangedError,
    Patience,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    open_client,
)
from tests.qdrant.calls import RefusedError
from tests.qdrant.servers import CHANNEL, UNAVAILABLE, Server, impatient

EMBEDDER = HashEncoder(dim=16, multivector_dim=8)
OTHER = HashEncoder(dim=12, multivector_dim=6, name="new")
TEXTS = ["the red fox", "a blue whale", "some red whale", "an owl"]
PATIENT = Patience(reads=60, writes=60, first_wait=0.001, longest_wait=0.02)
LASTING = {  # with what the error says about it
    "400 index": (StoreRefusedError, "collection.create_index('n', 'integer')"),
    "400 limit": (StoreRefusedError, "Limit exceeded 256 > 100"),
    "401": (StoreRefusedError, "QDRANT_API_KEY"),
    "403": (StoreRefusedError, "may be a key that only reads"),
    "404": (CollectionChangedError, "Open it again"),
}

READING = {
    "open": lambda docs: reopened(docs).name == docs.name,
    "search": lambda docs: ids(docs.search("red fox")),
    "search_batch": lambda docs: [ids(hits) for hits in docs.search_batch(["red fox", "a whale"], limit=1)],
    "search_groups": lambda docs: [ids(group.hits) for group in docs.search_groups("red fox")],
    "explain": lambda docs: docs.explain("red fox").limit,
    "count": lambda docs: docs.count(),
    "sources": lambda docs: len(docs.sources()),
    "get": lambda docs: ids(docs.get([1, 2])),
    "all": lambda docs: sorted(ids(docs.all())),
    "embeddings": lambda docs: list(docs.embeddings([1, 2], multivector=True)),
    "embeddings_of": lambda docs: len(docs.embeddings_of(docs.get([1, 2]))),
    "verify": lambda docs: docs.verify().ok,
    "asearch": lambda docs: ids(run(docs, docs.asearch("red fox"))),
    "asearch_batch": lambda docs: [
        ids(hits) for hits in run(docs, docs.asearch_batch(["red fox", "a whale"], limit=1))
    ],
    "asearch_groups": lambda docs: [ids(group.hits) for group in run(docs, docs.asearch_groups("red fox"))],
    "aget": lambda docs: ids(run(docs, docs.aget([1, 2]))),
    "aembeddings": lambda docs: list(run(docs, docs.aembeddings([1, 2]))),
    "aembeddings_of": lambda docs: len(run(docs, docs.aembeddings_of(docs.get([1, 2])))),
}
WRITING = {
    "add": lambda docs: docs.add(TEXTS, ids=[1, 2, 3, 9]).ok,
    "aadd": lambda docs: run(docs, docs.aadd(TEXTS, ids=[1, 2, 3, 9])).ok,
    "delete": lambda docs: docs.delete(ids=[1]),
    "delete_where": lambda docs: docs.delete_where(models.Filter(must=[models.HasIdCondition(has_id=[2])])),
    "reindex": lambda docs: sorted(docs.reindex(OTHER).ok),
    "delete_leftovers": lambda docs: docs.delete_leftovers(),
    "create_index": lambda docs: docs.create_index("n", "integer"),
    "copy_to": lambda docs: sorted(docs.copy_to(docs.client, f"{docs.name}-copy").ok),
}
METHODS = READING | WRITING
ALL_FAULTS = ("open", "search", "asearch", "add")  # the other methods meet one fault of each outcome
OF_THE_CLIENT = {"client", "close", "aclose", "embedder", "name", "optimize", "schema", "tenant"}


def ids(items):
    return [item.id for item in items]


def run(docs, call):
    async def once():
        try:
            return await call
        finally:
            await docs._binding.aclients.aclose()

    return asyncio.run(once())


def reopened(docs):
    return Collection.open(docs.client, docs.name, embedder=EMBEDDER, patience=docs._binding.patience)


def test_the_table_has_every_method_that_asks_the_server():
    public = {name for name, _ in inspect.getmembers(Collection) if not name.startswith("_")}
    assert public == METHODS.keys() | OF_THE_CLIENT


@pytest.fixture
def server(failing_server):
    return failing_server


@pytest.fixture(params=["rest", "grpc"])
def client(request, server):
    client = server.client(prefer_grpc=request.param == "grpc", timeout=0.2)  # of one attempt: hangs take as long
    yield client
    server.heal()
    server.start()
    client.close()


numbers = itertools.count()


def filled(client):
    """Make a collection of three items."""
    docs = Collection.open(client, f"docs-{next(numbers)}", embedder=EMBEDDER, patience=PATIENT)
    docs.add(TEXTS[:3], ids=[1, 2, 3])
    return docs


@pytest.fixture(scope="module")
def unchanged(one_server):
    """The name of a collection of three items, which no test changes."""
    with contextlib.closing(one_server.client()) as client:
        return filled(client).name


@pytest.fixture
def opened(client, unchanged):
    """Open a collection of three items: a new one for methods that write."""

    def opened(name):
        is_read = name in READING
        return Collection.open(client, unchanged, embedder=EMBEDDER, patience=PATIENT) if is_read else filled(client)

    return opened


def outcome(server, docs, name):
    """The result of a call, and what is stored afterwards if it writes."""
    result = METHODS[name](docs)
    server.heal()
    return result, None if name in READING else (sorted(ids(docs.all())), docs.verify().ok)


@contextlib.contextmanager
def coming_back(server):
    """Let the server take connections again in a moment whenever it has stopped."""
    done = threading.Event()

    def work():
        while not done.wait(0.03):
            server.start()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    done.set()
    thread.join()


@pytest.mark.parametrize("name", METHODS)
def test_a_fault_that_passes_changes_no_result(server, client, opened, name):
    docs = opened(name)
    server.requests.clear()
    expected = outcome(server, docs, name)
    asked = dict.fromkeys(server.calls())
    for kind in UNAVAILABLE if name in ALL_FAULTS else ["reset"]:
        docs = docs if name in READING else opened(name)
        server.fail(None, kind)
        with coming_back(server):
            assert outcome(server, docs, name) == expected, kind
    over_rest = not client.init_options["prefer_grpc"]
    step = 1 if name in ("add", "delete") else 3  # test_exchange.py interrupts `reindex` at more of them
    for part in list(asked)[::step] if over_rest else []:  # a call that it makes is done, but the answer is lost
        docs = docs if name in READING else opened(name)
        server.fail(part, "reset", applied=True)
        assert outcome(server, docs, name) == expected, part


@pytest.mark.parametrize("name", METHODS)
def test_a_fault_that_lasts_is_one_clear_error(server, client, unchanged, name):
    docs = Collection.open(client, unchanged, embedder=EMBEDDER, patience=PATIENT)
    outcomes = LASTING | dict.fromkeys(UNAVAILABLE, (StoreUnavailableError, "call again to go on"))
    for kind in outcomes if name in ALL_FAULTS else ["401", "404", "503"]:
        error, told = outcomes[kind]
        server.fail(None, kind, times=None)
        with pytest.raises(StoreError) as raised, impatient(kind):
            METHODS[name](docs)
        server.heal()
        server.start()
        assert type(raised.value) is error, kind
        assert told in str(raised.value), kind
        assert "127.0.0.1:" in str(raised.value), kind
    assert sorted(ids(reopened(docs).all())) == [1, 2, 3]


HTML = "<html><body>Sign in</body></html>"


@pytest.mark.parametrize("name", ["open", "search", "asearch", "add", "delete", "verify"])
def test_a_page_of_somebody_else_is_told_as_such(rest, name):
    """Over REST: it comes with status 200, from a proxy."""
    docs = Collection.open(rest.client(), "docs", embedder=EMBEDDER, patience=PATIENT)
    docs.add(TEXTS[:3], ids=[1, 2, 3])
    rest.page = HTML
    with pytest.raises(StoreRefusedError, match=r"http://server:6333 refused: an answer that is no JSON: '<html>.*URL"):
        METHODS[name](docs)


def test_a_server_that_takes_fewer_items_at_a_time_is_read_in_smaller_pages(server, client):
    docs = filled(client)
    server.fail("scroll", RefusedError(400, 'Bad request: Limit exceeded 256 > 2 for "limit".'))
    assert sorted(ids(docs.all())) == [1, 2, 3]
    assert [sent.call.request.limit for sent in server.requests if sent.call.name == "scroll"][-2:] == [2, 2]


def test_a_timeout_of_the_cluster_is_no_longer_than_the_patience(server):
    client = server.client(prefer_grpc=True)
    cluster, patience = Cluster(timeout=60), Patience(reads=1, first_wait=0.01)
    docs = Collection.open(client, "of-a-cluster", embedder=EMBEDDER, cluster=cluster, patience=patience)
    docs.add(TEXTS[:1])
    server.fail("query_batch_points", "hang", times=None)
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        docs.search("red fox")
    assert time.monotonic() - began < 30  # and not 60
    server.heal()
    client.close()


def test_another_servers_grpc_port_is_not_written_to(server, tmp_path, caplog):
    with Server(tmp_path / "another") as another:
        client = open_client(server.url, grpc_port=another.grpc_port, grpc_options=dict(CHANNEL))
        docs = Collection.open(client, "beside-another", embedder=EMBEDDER)
        again = Collection.open(client, "beside-another", embedder=EMBEDDER)
        assert again.add(TEXTS).failed == docs.add(TEXTS).failed == []
        assert again.count() == len(TEXTS)
        assert "upsert" not in another.calls()
        client.close()


@pytest.mark.parametrize("key", ["secret\n", "sécret"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(key, monkeypatch):
    monkeypatch.setenv("QDRANT_API_KEY", key)
    with pytest.raises(ValueError, match=r"the API key .* has a line break or another character") as raised:
        open_client("https://server")
    assert "cret" not in str(raised.value)
