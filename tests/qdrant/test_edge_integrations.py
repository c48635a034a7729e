"""The vector stores of LangChain and LlamaIndex, unchanged, on a folder."""

import asyncio
import warnings

import pytest
from qdrant_client import models

from qdrant_polyvec.location import open_async_client, open_client

pytest.importorskip("langchain_qdrant")
pytest.importorskip("llama_index.vector_stores.qdrant")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what they do when imported is not ours
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_qdrant import QdrantVectorStore, RetrievalMode, SparseEmbeddings, SparseVector
    from llama_index.core.schema import TextNode
    from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, VectorStoreQuery
    from llama_index.vector_stores.qdrant import QdrantVectorStore as LlamaIndexStore

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Letters(Embeddings, SparseEmbeddings):
    """How often each letter is in a text."""

    def embed_query(self, text):
        counts = [float(text.count(letter)) for letter in LETTERS]
        return counts if not self.sparse else self._sparse(counts)

    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]

    def __init__(self, *, sparse=False):
        self.sparse = sparse

    def _sparse(self, counts):
        present = [i for i, count in enumerate(counts) if count]
        return SparseVector(indices=present, values=[counts[i] for i in present])


@pytest.fixture
def client(tmp_path):
    client = open_client(tmp_path)
    yield client
    client.close()


@pytest.mark.parametrize("mode", [RetrievalMode.DENSE, RetrievalMode.SPARSE, RetrievalMode.HYBRID])
def test_a_langchain_store_adds_finds_and_deletes(client, mode):
    client.create_collection(
        "docs",
        {"dense": models.VectorParams(size=26, distance=models.Distance.COSINE)},
        sparse_vectors_config={"sparse": models.SparseVectorParams()},
    )
    store = QdrantVectorStore(
        client,
        "docs",
        embedding=Letters(),
        sparse_embedding=Letters(sparse=True),
        retrieval_mode=mode,
        vector_name="dense",
        sparse_vector_name="sparse",
    )
    texts = ["banana", "cherry", "fig"]
    ids = store.add_documents([Document(text, metadata={"n": i}) for i, text in enumerate(texts)])
    assert store.similarity_search("cherries", k=1)[0].page_content == "cherry"
    assert store.similarity_search_with_score("gif", k=1)[0][0].metadata["n"] == 2
    first = models.Filter(must=[models.FieldCondition(key="metadata.n", match=models.MatchValue(value=0))])
    assert [found.page_content for found in store.similarity_search("fig banana", k=3, filter=first)] == ["banana"]
    if mode == RetrievalMode.DENSE:
        assert store.max_marginal_relevance_search("banana", k=2, fetch_k=3)[0].page_content == "banana"
    assert [found.page_content for found in store.get_by_ids(ids[:1])] == ["banana"]
    store.delete(ids[:2])
    assert client.count("docs").count == 1


def nodes():
    for text in ("banana", "cherry", "fig"):
        yield TextNode(text=text, embedding=Letters().embed_query(text), metadata={"length": len(text)})


def asked(text, **how):
    return VectorStoreQuery(query_embedding=Letters().embed_query(text), similarity_top_k=2, **how)


def test_a_llamaindex_store_adds_finds_and_deletes(client):
    store = LlamaIndexStore("docs", client=client, dense_vector_name="dense")
    ids = store.add(list(nodes()))
    assert store.query(asked("cherries")).nodes[0].get_content() == "cherry"
    short = MetadataFilters(filters=[MetadataFilter(key="length", value=3)])
    assert [node.get_content() for node in store.query(asked("cherries", filters=short)).nodes] == ["fig"]
    assert {node.get_content() for node in store.get_nodes(node_ids=ids[:2])} == {"banana", "cherry"}
    store.delete_nodes(node_ids=ids[:1])
    assert client.count("docs").count == 2


def test_an_asynchronous_llamaindex_store_runs_on_the_twin(client):
    async def scenario():
        store = LlamaIndexStore("docs", client=client, aclient=open_async_client(client), dense_vector_name="dense")
        await store.async_add(list(nodes()))
        found = await store.aquery(asked("cherries"))
        assert found.nodes[0].get_content() == "cherry"

    asyncio.run(scenario())
    assert client.count("docs").count == 3
