"""The methods of both stores, and the commands, on a server that fails: a right result, or one clear error.

tests/qdrant/test_faults.py has all kinds of faults; here is one of each outcome.
"""

import asyncio
import inspect
import itertools

import pytest
from click.testing import CliRunner
from langchain_core.documents import Document
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import VectorStoreQuery
from llama_index.core.vector_stores.types import BasePydanticVectorStore
from PIL import Image
from qdrant_client.qdrant_remote import QdrantRemote

from langchain_polyvec import PolyvecEmbeddings
from langchain_polyvec import PolyvecVectorStore as LangChainStore
from llama_index.embeddings.polyvec import PolyvecEmbedding
from llama_index.vector_stores.polyvec import PolyvecVectorStore as LlamaIndexStore
from polyvec.testing import HashEncoder
from qdrant_polyvec import (
    CollectionChangedError,
    Patience,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    commands,
    open_client,
)
from qdrant_polyvec.commands import work
from tests.qdrant.servers import impatient

ENCODER = HashEncoder(dim=16, multivector_dim=8)
EMBEDDINGS, EMBED_MODEL = PolyvecEmbeddings(client=ENCODER), PolyvecEmbedding(client=ENCODER)
TEXTS = ["the red fox", "a blue whale", "some red whale"]
IMAGE = Image.new("RGB", (40, 20), "red")
NODES = [TextNode(id_=str(n), text=text) for n, text in enumerate(TEXTS)]
VECTOR = EMBEDDINGS.embed_query("red fox")
BY_VECTOR = VectorStoreQuery(query_embedding=VECTOR, similarity_top_k=2)
ONE = {"k": 1}
IDS = ["0", "1", "2"]
PATIENT = Patience(first_wait=0.001, longest_wait=0.02)
LASTING = {"503": StoreUnavailableError, "401": StoreRefusedError, "404": CollectionChangedError}
numbers = itertools.count()

LANGCHAIN = {
    "add_documents": lambda s: s.add_documents([Document("an owl")], ids=["9"]),
    "add_texts": lambda s: s.add_texts(["an owl"], ids=["9"]),
    "add_images": lambda s: s.add_images([IMAGE], ids=["9"]),
    "delete": lambda s: s.delete(["0"]),
    "get_by_ids": lambda s: texts(s.get_by_ids(["0", "1"])),
    "stored": lambda s: [item.content for item in s.stored(["0"])],
    "documents": lambda s: sorted(texts(s.documents())),
    "from_texts": lambda s: type(s.from_texts(["an owl"], EMBEDDINGS, **where(s))),
    "from_documents": lambda s: type(s.from_documents([Document("an owl")], EMBEDDINGS, **where(s))),
    "from_images": lambda s: type(s.from_images([IMAGE], EMBEDDINGS, **where(s))),
    "from_existing_collection": lambda s: type(s.from_existing_collection(EMBEDDINGS, **where(s))),
    "hits": lambda s: [hit.id for hit in s.hits("red fox", **ONE)],
    "diverse_hits": lambda s: len(s.diverse_hits("red fox", **ONE)),
    "search": lambda s: texts(s.search("red fox", "similarity", **ONE)),
    "similarity_search": lambda s: texts(s.similarity_search("red fox", **ONE)),
    "similarity_search_with_score": lambda s: len(s.similarity_search_with_score("red fox", **ONE)),
    "similarity_search_with_relevance_scores": lambda s: len(s.similarity_search_with_relevance_scores("fox", **ONE)),
    "similarity_search_by_vector": lambda s: texts(s.similarity_search_by_vector(VECTOR, **ONE)),
    "similarity_search_with_score_by_vector": lambda s: len(s.similarity_search_with_score_by_vector(VECTOR, **ONE)),
    "similarity_search_by_image": lambda s: texts(s.similarity_search_by_image(IMAGE, **ONE)),
    "similarity_search_by_image_with_score": lambda s: len(s.similarity_search_by_image_with_score(IMAGE, **ONE)),
    "max_marginal_relevance_search": lambda s: texts(s.max_marginal_relevance_search("red fox", **ONE)),
    "max_marginal_relevance_search_by_vector": lambda s: texts(
        s.max_marginal_relevance_search_by_vector(VECTOR, **ONE)
    ),
    "as_retriever": lambda s: texts(s.as_retriever(search_kwargs=ONE).invoke("red fox")),
    "aadd_documents": lambda s: run(s, s.aadd_documents([Document("an owl")], ids=["9"])),
    "aadd_texts": lambda s: run(s, s.aadd_texts(["an owl"], ids=["9"])),
    "aadd_images": lambda s: run(s, s.aadd_images([IMAGE], ids=["9"])),
    "adelete": lambda s: run(s, s.adelete(["0"])),
    "aget_by_ids": lambda s: texts(run(s, s.aget_by_ids(["0", "1"]))),
    "afrom_texts": lambda s: type(run(s, s.afrom_texts(["an owl"], EMBEDDINGS, **where(s)))),
    "afrom_documents": lambda s: type(run(s, s.afrom_documents([Document("an owl")], EMBEDDINGS, **where(s)))),
    "afrom_images": lambda s: type(run(s, s.afrom_images([IMAGE], EMBEDDINGS, **where(s)))),
    "ahits": lambda s: len(run(s, s.ahits("red fox", **ONE))),
    "adiverse_hits": lambda s: len(run(s, s.adiverse_hits("red fox", **ONE))),
    "asearch": lambda s: texts(run(s, s.asearch("red fox", "similarity", **ONE))),
    "asimilarity_search": lambda s: texts(run(s, s.asimilarity_search("red fox", **ONE))),
    "asimilarity_search_with_score": lambda s: len(run(s, s.asimilarity_search_with_score("red fox", **ONE))),
    "asimilarity_search_with_relevance_scores": lambda s: len(
        run(s, s.asimilarity_search_with_relevance_scores("red fox", **ONE))
    ),
    "asimilarity_search_by_vector": lambda s: texts(run(s, s.asimilarity_search_by_vector(VECTOR, **ONE))),
    "asimilarity_search_with_score_by_vector": lambda s: len(
        run(s, s.asimilarity_search_with_score_by_vector(VECTOR, **ONE))
    ),
    "asimilarity_search_by_image": lambda s: texts(run(s, s.asimilarity_search_by_image(IMAGE, **ONE))),
    "asimilarity_search_by_image_with_score": lambda s: len(
        run(s, s.asimilarity_search_by_image_with_score(IMAGE, **ONE))
    ),
    "amax_marginal_relevance_search": lambda s: texts(run(s, s.amax_marginal_relevance_search("red fox", **ONE))),
    "amax_marginal_relevance_search_by_vector": lambda s: texts(
        run(s, s.amax_marginal_relevance_search_by_vector(VECTOR, **ONE))
    ),
}
LLAMAINDEX = {
    "add": lambda s: s.add([TextNode(id_="9", text="an owl")]),
    "delete": lambda s: s.delete("a document"),
    "delete_nodes": lambda s: s.delete_nodes(["0"]),
    "clear": lambda s: s.clear(),
    "get_nodes": lambda s: sorted(node.text for node in s.get_nodes(["0", "1"])),
    "query": lambda s: s.query(BY_VECTOR).ids,
    "hits": lambda s: [hit.id for hit in s.hits("red fox")],
    "async_add": lambda s: run(s, s.async_add([TextNode(id_="9", text="an owl")])),
    "adelete": lambda s: run(s, s.adelete("a document")),
    "adelete_nodes": lambda s: run(s, s.adelete_nodes(["0"])),
    "aclear": lambda s: run(s, s.aclear()),
    "aget_nodes": lambda s: sorted(node.text for node in run(s, s.aget_nodes(["0", "1"]))),
    "aquery": lambda s: run(s, s.aquery(BY_VECTOR)).ids,
    "ahits": lambda s: [hit.id for hit in run(s, s.ahits("red fox"))],
}
COMMANDS = {  # `polyvec train mine` and `evaluate --collection` open a collection as `search` does
    "index": ["a.md", "--json"],
    "search": ["red fox", "--json"],
    "verify": ["--json"],
    "reindex": ["--model", "other", "--json"],
    "info": ["--json"],
    "list_collections": ["--json"],
    "show": ["a.md", "--json"],
    "delete": ["--source", "a.md", "--yes", "--json"],
    "copy": ["--to", "copied", "--json"],
}
# They ask nothing of a server, or call what is in the table: blobs and PDFs are added as images are.
OTHERS = {
    "aadd_blobs", "aadd_pdfs", "aclose", "add_blobs", "add_pdfs", "client", "close", "collection", "condition",
    "document_key", "embed_model", "embeddings", "mode", "model_config", "persist", "task",
}  # fmt: skip


def texts(documents):
    return [document.page_content for document in documents]


def run(store, call):
    async def once():
        try:
            return await call
        finally:
            await store.collection._binding.aclients.aclose()

    return asyncio.run(once())


def where(store):
    """Where a store is, for class methods that open it again."""
    return {
        "location": store.collection.client,
        "collection_name": store.collection.name,
        "patience": store.collection._binding.patience,
    }


def test_the_tables_have_every_method():
    public = {name for name, _ in inspect.getmembers(LangChainStore) if not name.startswith("_")}
    assert public - OTHERS == LANGCHAIN.keys()
    own = {name for name, _ in inspect.getmembers(LlamaIndexStore) if not name.startswith("_")}
    of_pydantic = set(dir(BasePydanticVectorStore)) - vars(BasePydanticVectorStore).keys()
    assert own - of_pydantic - OTHERS == LLAMAINDEX.keys()
    assert COMMANDS.keys() == set(commands.__all__)


@pytest.fixture
def server(failing_server):
    return failing_server


@pytest.fixture
def client(request, server):
    client = server.client(prefer_grpc="over grpc" in request.node.name)
    yield client
    client.close()


def langchain(client):
    store = LangChainStore(EMBEDDINGS, location=client, collection_name=f"doors-{next(numbers)}", patience=PATIENT)
    store.add_texts(TEXTS, ids=IDS)
    return store


def llamaindex(client):
    store = LlamaIndexStore(EMBED_MODEL, location=client, collection_name=f"doors-{next(numbers)}", patience=PATIENT)
    store.add(NODES)
    return store


# Both speak through one `Collection`, whose own table has each of its methods over both protocols.
STORES = {"langchain over rest": (langchain, LANGCHAIN), "llamaindex over grpc": (llamaindex, LLAMAINDEX)}


def restored(store):
    """Bring back what is there before each call."""
    docs = store.collection
    docs.delete(ids=[item.id for item in docs.all() if item.id not in IDS])
    if docs.count() < len(IDS):
        store.add(NODES) if isinstance(store, LlamaIndexStore) else store.add_texts(TEXTS, ids=IDS)


@pytest.mark.parametrize("framework", STORES)
def test_a_fault_that_passes_changes_no_result(server, client, framework):
    opened, methods = STORES[framework]
    store = opened(client)
    for name, call in methods.items():
        expected = call(store), store.collection.count()
        restored(store)
        server.fail(None, "reset", applied=True)
        assert (call(store), store.collection.count()) == expected, name
        restored(store)


@pytest.mark.parametrize("framework", STORES)
def test_a_fault_that_lasts_is_one_clear_error(server, client, framework):
    opened, methods = STORES[framework]
    store = opened(client)
    for name, call in methods.items():
        for kind, error in LASTING.items():
            server.fail(None, kind, times=None)
            with pytest.raises(StoreError, match=r"127\.0\.0\.1:") as raised, impatient(kind):
                call(store)
            assert type(raised.value) is error, name
            server.heal()
    assert store.collection.count() == len(TEXTS)


class Fake(HashEncoder):
    def tokens(self, text, *, task, side):
        return text.split()


@pytest.fixture
def invoked(tmp_path, monkeypatch, server):
    """Run a command on the server: its exit code, what it printed, and its errors."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.md").write_text("the red fox")
    monkeypatch.setattr(work, "load_embedder", lambda name, **_: Fake(dim=16, multivector_dim=8, name=name))
    monkeypatch.setattr(QdrantRemote, "_check_compatibility", staticmethod(lambda *_: None))
    options = {"grpc_port": server.grpc_port, "prefer_grpc": False}
    of_server = {server.url: options}
    monkeypatch.setattr(work, "open_client", lambda location: open_client(location, **of_server.get(location, {})))

    def invoke(name, collection):
        where = ["--location", server.url, "--collection", collection]
        result = CliRunner().invoke(getattr(commands, name), [*COMMANDS[name], *where])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stdout, result.stderr

    return invoke


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_survives_a_fault_that_passes(server, invoked, name):
    one, two = (f"doors-{next(numbers)}" for _ in range(2))
    invoked("index", one)
    invoked("index", two)
    expected = [text and str(text).replace(one, two) for text in invoked(name, one)[:2]]
    server.fail(None, "reset", applied=True)
    assert [text and str(text) for text in invoked(name, two)[:2]] == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_tells_a_fault_that_lasts(server, invoked, name):
    docs = f"doors-{next(numbers)}"
    invoked("index", docs)
    told = {"503": "does it run, and is the url right?", "401": "qdrant_api_key", "404": "open it again"}
    for kind, advice in told.items():
        server.fail(None, kind, times=None)
        with impatient(kind):
            code, out, err = invoked(name, docs)
        server.heal()
        assert (code, out) == (2, "")
        assert advice in err.lower()
        assert "127.0.0.1:" in err
        assert "Traceback" not in err
