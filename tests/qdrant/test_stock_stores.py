"""The stock vector stores of LangChain and LlamaIndex on a folder: on collections of their own, and on ours."""

import asyncio
import uuid

import pytest
from langchain_core.embeddings import Embeddings
from langchain_qdrant import QdrantVectorStore, RetrievalMode, SparseEmbeddings, SparseVector
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from llama_index.vector_stores.qdrant import QdrantVectorStore as LlamaStore
from qdrant_client import models

from polyvec.testing import HashEncoder
from qdrant_polyvec import Collection, Item, open_async_client, open_client

TEXTS = ["the red fox", "a blue whale", "red whale and fox"]
HASH = HashEncoder(dim=16, multivector_dim=8)
WORDS = sorted({word for text in TEXTS for word in text.split()})


class HashEmbeddings(Embeddings):
    def embed_documents(self, texts):
        return HASH.encode_document(texts, task="retrieval").dense.tolist()

    def embed_query(self, text):
        return HASH.encode_query([text], task="retrieval").dense[0].tolist()


class WordCounts(SparseEmbeddings):
    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text):
        indices, values = word_counts([text])
        return SparseVector(indices=indices[0], values=values[0])


def word_counts(texts):
    """The form of LlamaIndex's sparse functions: the indices of each text, and their values."""
    present = [[index for index, word in enumerate(WORDS) if word in text.split()] for text in texts]
    return present, [[1.0] * len(indices) for indices in present]


def uuids(n):
    return [str(uuid.UUID(int=index + 1)) for index in range(n)]


def where(key, value):
    return models.Filter(must=[models.FieldCondition(key=key, match=models.MatchValue(value=value))])


@pytest.fixture
def client(tmp_path):
    client = open_client(tmp_path / "index")
    yield client
    client.close()


@pytest.fixture
def docs(client):
    """A collection of ours with two items."""
    docs = Collection.open(client, "docs", embedder=HASH)
    items = [Item(TEXTS[0], source="fox.md"), Item(TEXTS[1], source="whale.md")]
    docs.add(items, ids=uuids(2), metadatas=[{"n": 0}, {"n": 1}])
    return docs


@pytest.fixture
def langchain(client):
    """LangChain's store on a collection of its own."""
    return made_by_langchain(client, RetrievalMode.DENSE)


def made_by_langchain(client, mode):
    # `from_texts` and `from_existing_collection` make a client of their own from its options; this takes ours.
    client.create_collection(
        "own",
        models.VectorParams(size=16, distance=models.Distance.COSINE),
        sparse_vectors_config={"langchain-sparse": models.SparseVectorParams()},
    )
    store = QdrantVectorStore(
        client, "own", embedding=HashEmbeddings(), sparse_embedding=WordCounts(), retrieval_mode=mode
    )
    assert store.add_texts(TEXTS, metadatas=[{"n": index} for index in range(3)], ids=uuids(3)) == uuids(3)
    return store


def contents(documents):
    return [document.page_content for document in documents]


@pytest.mark.parametrize("mode", list(RetrievalMode))
def test_langchain_finds_what_it_added(client, mode):
    store = made_by_langchain(client, mode)
    assert contents(store.similarity_search("a blue whale", k=1)) == ["a blue whale"]
    assert contents(store.similarity_search("a blue whale", k=3, filter=where("metadata.n", 2))) == [TEXTS[2]]


def test_langchain_gives_cosines_as_scores(langchain):
    (found, score), *_ = langchain.similarity_search_with_score("the red fox", k=3)
    assert found.metadata["n"] == 0
    assert score == pytest.approx(1, abs=1e-5)
    assert len(langchain.similarity_search_with_score("the red fox", k=3, score_threshold=0.999)) == 1


def test_langchain_scores_sparse_vectors_by_their_dot_product(client):
    store = made_by_langchain(client, RetrievalMode.SPARSE)
    found = store.similarity_search_with_score("red fox", k=3)
    assert {document.metadata["n"]: score for document, score in found} == {0: 2.0, 2: 2.0}  # two words in common


def test_langchain_chooses_diverse_results(langchain):
    alike = langchain.add_texts(["the red fox fox"], ids=[str(uuid.UUID(int=9))])
    plain = contents(langchain.similarity_search("the red fox", k=2))
    assert plain == ["the red fox", "the red fox fox"]
    # langchain-qdrant 1.1 hands `lambda_mult` on as Qdrant's diversity, which is its opposite: 1 is most diverse.
    for diversity, second in ((0.0, "the red fox fox"), (1.0, "a blue whale")):
        found = langchain.max_marginal_relevance_search("the red fox", k=2, fetch_k=4, lambda_mult=diversity)
        assert contents(found) == ["the red fox", second]
    assert contents(langchain.get_by_ids(alike)) == ["the red fox fox"]


def test_langchain_deletes_and_replaces_by_id(langchain):
    assert langchain.delete(uuids(1))
    assert langchain.get_by_ids(uuids(1)) == []
    langchain.add_texts(["a grey whale"], ids=uuids(2)[1:])
    assert contents(langchain.get_by_ids(uuids(2))) == ["a grey whale"]
    assert langchain.client.count("own").count == 2


def test_langchain_finds_asynchronously_and_as_a_retriever(langchain):
    assert contents(asyncio.run(langchain.asimilarity_search("a blue whale", k=1))) == ["a blue whale"]
    assert contents(langchain.as_retriever(search_kwargs={"k": 1}).invoke("a blue whale")) == ["a blue whale"]


def test_a_second_langchain_store_reads_the_collection_after_reopening(langchain, tmp_path):
    langchain.client.close()
    client = open_client(tmp_path / "index")
    store = QdrantVectorStore(client, "own", embedding=HashEmbeddings())
    assert contents(store.similarity_search("the red fox", k=1)) == ["the red fox"]
    client.close()


def test_langchain_refuses_vectors_of_another_size(langchain):
    class Longer(HashEmbeddings):
        def embed_documents(self, texts):
            return [[1.0] * 17 for _ in texts]

    with pytest.raises(Exception, match="17"):
        QdrantVectorStore(langchain.client, "own", embedding=Longer())


def node(text, **metadata):
    index = TEXTS.index(text) if text in TEXTS else 8
    return TextNode(
        id_=str(uuid.UUID(int=index + 1)),
        text=text,
        embedding=HashEmbeddings().embed_query(text),
        metadata=metadata,
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"document {index % 2}")},
    )


def nodes():
    return [node(text, n=index) for index, text in enumerate(TEXTS)]


def asked(text, **how):
    return VectorStoreQuery(query_str=text, query_embedding=HashEmbeddings().embed_query(text), **how)


def texts_of(found):
    return [node.get_content() for node in found]


def llamaindex(client, **options):
    return LlamaStore(collection_name="own", client=client, aclient=open_async_client(client), **options)


def test_llamaindex_finds_what_it_added(client):
    store = llamaindex(client)
    assert store.add(nodes()) == uuids(3)
    found = store.query(asked("a blue whale", similarity_top_k=1))
    assert texts_of(found.nodes) == ["a blue whale"]
    assert found.ids == uuids(2)[1:]
    assert found.similarities == pytest.approx([1], abs=1e-5)


@pytest.mark.parametrize(
    ("operator", "value", "wanted"),
    [
        (FilterOperator.EQ, 1, {1}),
        (FilterOperator.NE, 1, {0, 2}),
        (FilterOperator.GTE, 1, {1, 2}),
        (FilterOperator.LT, 1, {0}),
        (FilterOperator.IN, [0, 2], {0, 2}),
        (FilterOperator.NIN, [0, 2], {1}),
    ],
)
def test_llamaindex_filters_by_metadata(client, operator, value, wanted):
    store = llamaindex(client)
    store.add(nodes())
    filters = MetadataFilters(filters=[MetadataFilter(key="n", value=value, operator=operator)])
    found = store.query(asked("whale", similarity_top_k=3, filters=filters))
    assert {node.metadata["n"] for node in found.nodes} == wanted
    assert {node.metadata["n"] for node in store.get_nodes(filters=filters)} == wanted


def test_llamaindex_gets_and_deletes_nodes(client):
    store = llamaindex(client)
    store.add(nodes())
    assert set(texts_of(store.get_nodes(node_ids=uuids(2)))) == set(TEXTS[:2])
    store.delete("document 0")  # the first text and the third
    assert texts_of(store.get_nodes(node_ids=uuids(3))) == ["a blue whale"]
    store.delete_nodes(node_ids=uuids(2)[1:])
    assert client.count("own").count == 0
    store.clear()
    assert not client.collection_exists("own")


@pytest.mark.parametrize("mode", [VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.SPARSE])
def test_llamaindex_finds_by_sparse_vectors(client, mode):
    store = llamaindex(client, enable_hybrid=True, sparse_doc_fn=word_counts, sparse_query_fn=word_counts)
    store.add(nodes())
    found = store.query(asked("a blue whale", similarity_top_k=2, sparse_top_k=2, mode=mode))
    assert texts_of(found.nodes)[0] == "a blue whale"
    found = asyncio.run(store.aquery(asked("a blue whale", similarity_top_k=2, sparse_top_k=2, mode=mode)))
    assert texts_of(found.nodes)[0] == "a blue whale"


def test_llamaindex_works_asynchronously_on_the_same_data(client):
    store = llamaindex(client)

    async def scenario():
        assert await store.async_add(nodes()) == uuids(3)
        assert texts_of((await store.aquery(asked("a blue whale", similarity_top_k=1))).nodes) == ["a blue whale"]
        filters = MetadataFilters(filters=[MetadataFilter(key="n", value=2)])
        found = await store.aquery(asked("a blue whale", similarity_top_k=3, filters=filters))
        assert texts_of(found.nodes) == [TEXTS[2]]
        assert len(await store.aget_nodes(node_ids=uuids(2))) == 2
        await store.adelete("document 0")
        await store.adelete_nodes(node_ids=uuids(1))
        assert texts_of(await store.aget_nodes(node_ids=uuids(3))) == ["a blue whale"]

    asyncio.run(scenario())
    assert client.count("own").count == 1


def test_langchain_reads_and_adds_to_a_collection_of_ours(client, docs):
    store = QdrantVectorStore(client, "docs", embedding=HashEmbeddings(), vector_name="dense")
    (found,) = store.similarity_search("the red fox", k=1)
    assert (found.page_content, found.metadata["source"], found.metadata["n"]) == ("the red fox", "fox.md", 0)
    assert contents(store.similarity_search("the red fox", k=2, filter=where("metadata.n", 1))) == ["a blue whale"]
    assert contents(store.max_marginal_relevance_search("the red fox", k=2, fetch_k=2))[0] == "the red fox"
    assert contents(store.get_by_ids(uuids(1))) == ["the red fox"]

    assert docs.verify().ok
    (added,) = store.add_texts([TEXTS[2]], metadatas=[{"source": "both.md"}], ids=[str(uuid.UUID(int=7))])
    assert contents(store.similarity_search(TEXTS[2], k=1)) == [TEXTS[2]]
    check_foreign(docs, added)
    store.delete([added])
    assert docs.verify().ok


def test_llamaindex_reads_and_adds_to_a_collection_of_ours(client, docs):
    store = LlamaStore(
        collection_name="docs",
        client=client,
        aclient=open_async_client(client),
        dense_vector_name="dense",
        text_key="page_content",
    )
    (found,) = store.query(asked("the red fox", similarity_top_k=1)).nodes
    assert found.get_content() == "the red fox"
    assert found.metadata["metadata"] == {"n": 0, "source": "fox.md"}  # nested, as it is stored
    again = asyncio.run(store.aquery(asked("a blue whale", similarity_top_k=1)))
    assert texts_of(again.nodes) == ["a blue whale"]

    (added,) = store.add([node("a grey seal", n=3)])
    assert texts_of(store.query(asked("a grey seal", similarity_top_k=1)).nodes) == ["a grey seal"]
    check_foreign(docs, added)
    store.delete_nodes(node_ids=[added])
    assert docs.verify().ok


def check_foreign(docs, added):
    """What another store added is reported, and no search of ours finds it or fails on it."""
    found = docs.verify()
    assert (found.n_points, found.without_late, found.foreign, found.without_dense) == (3, [added], [added], [])
    for mode in ("dense", "late", "two-stage"):
        hits = docs.search("red whale and fox", limit=5, mode=mode)
        assert {hit.id for hit in hits} == set(uuids(2))
    assert len(docs.search("red whale and fox", limit=5, mode="two-stage", candidates=5)) == 2
    assert {group.value for group in docs.search_groups("red whale and fox")} == {"fox.md", "whale.md"}
    assert docs.count() == 3
