"""Collections of langchain-qdrant's store and ours, each read by the other."""

import asyncio
import threading
import uuid

import pytest
from langchain_core.documents import Document
from langchain_qdrant import QdrantVectorStore
from qdrant_client import models

from langchain_polyvec import PolyvecEmbeddings, PolyvecVectorStore
from polyvec.testing import HashEncoder
from qdrant_polyvec import open_client

TEXTS = ["the red fox", "a blue whale", "red whale and fox"]
IDS = [str(uuid.UUID(int=n + 1)) for n in range(3)]


@pytest.fixture
def client(tmp_path):
    client = open_client(tmp_path / "index")
    yield client
    client.close()


def made_by_stock(client, embeddings, *, vector_name="", distance=models.Distance.COSINE, size=64, **keys):
    params = models.VectorParams(size=size, distance=distance)
    client.create_collection("stock", {vector_name: params} if vector_name else params)
    store = QdrantVectorStore(client, "stock", embedding=embeddings, vector_name=vector_name, distance=distance, **keys)
    store.add_texts(TEXTS, [{"n": n, "lang": "en"} for n in range(3)], ids=IDS)
    return store


def contents(documents):
    return [document.page_content for document in documents]


def test_the_stock_store_reads_ours(client, embeddings):
    ours = PolyvecVectorStore(embeddings, location=client, collection_name="docs")
    ours.add_texts(TEXTS, [{"n": n} for n in range(3)])
    stock = QdrantVectorStore(client, "docs", embedding=embeddings, vector_name="dense")
    found = stock.similarity_search("a blue whale", k=1)[0]
    assert (found.page_content, found.metadata["n"]) == ("a blue whale", 1)
    scores = [score for _, score in ours.similarity_search_with_score("red fox", mode="dense")]
    assert [score for _, score in stock.similarity_search_with_score("red fox")] == pytest.approx(scores, abs=1e-3)


@pytest.mark.parametrize("vector_name", ["", "text"])
def test_ours_reads_the_stock_stores(client, embeddings, vector_name, pictures):
    stock = made_by_stock(client, embeddings, vector_name=vector_name)
    ours = PolyvecVectorStore.from_existing_collection(embeddings, location=client, collection_name="stock")
    assert ours.mode == "dense"
    wanted = stock.similarity_search_with_score("red whale", k=3)
    found = ours.similarity_search_with_score("red whale", k=3)
    assert contents(one for one, _ in found) == contents(one for one, _ in wanted)
    assert [score for _, score in found] == pytest.approx([score for _, score in wanted])
    assert ours.similarity_search("a blue whale", k=1) == [
        Document(id=IDS[1], page_content="a blue whale", metadata={"n": 1, "lang": "en"})
    ]
    assert contents(ours.similarity_search("fox", filter={"n": 2})) == ["red whale and fox"]
    assert contents(ours.max_marginal_relevance_search("red fox", k=2, lambda_mult=0)) == ["the red fox", TEXTS[1]]
    assert ours.similarity_search_with_relevance_scores("the red fox", k=1)[0][1] == pytest.approx(1, abs=1e-3)
    assert contents(ours.get_by_ids([IDS[2], "not there", IDS[0]])) == [TEXTS[2], TEXTS[0]]
    assert ours.similarity_search_by_image(pictures[0], k=1)

    async def scenario():
        assert await ours.asimilarity_search("red fox") == ours.similarity_search("red fox")
        assert await ours.aget_by_ids(IDS) == ours.get_by_ids(IDS)
        assert await ours.amax_marginal_relevance_search("fox") == ours.max_marginal_relevance_search("fox")
        await ours.aclose()

    asyncio.run(scenario())


def test_a_stock_collection_is_never_written(client, embeddings, pictures):
    made_by_stock(client, embeddings)
    before = client.scroll("stock", limit=9, with_vectors=True)
    ours = PolyvecVectorStore.from_existing_collection(embeddings, location=client, collection_name="stock")
    for call in (
        lambda: ours.add_texts(["a"]),
        lambda: ours.add_images(pictures),
        lambda: ours.delete(IDS),
    ):
        with pytest.raises(TypeError, match="it is only read here"):
            call()
    for wrong in ({"mode": "late"}, {"candidates": 50}, {"oversampling": 2.0}):
        with pytest.raises(ValueError, match="it has dense vectors only"):
            ours.similarity_search("a", **wrong)
    assert client.scroll("stock", limit=9, with_vectors=True) == before


def test_a_stock_collection_is_moved_once(client, embeddings):
    code = embeddings.with_task("code")
    made_by_stock(client, code)
    odd = [{"metadata": {"source": None}}, {"metadata": "text"}, {"page_content": 5}]
    client.upsert(
        "stock",
        [
            models.PointStruct(id=n, vector=code.embed_query("hawk"), payload={"page_content": f"hawk {n}", **payload})
            for n, payload in enumerate(odd)
        ],
    )
    old = PolyvecVectorStore.from_existing_collection(code, location=client, collection_name="stock")
    new = PolyvecVectorStore(code, location=client, collection_name="docs")
    ids = new.add_documents(old.documents())
    assert sorted(ids) == sorted([*IDS, "0", "1", "2"])
    assert contents(new.similarity_search("a blue whale", k=1, mode="late")) == ["a blue whale"]
    assert new.get_by_ids(IDS) == old.get_by_ids(IDS)
    assert sorted(one.id for one in new.documents()) == sorted(ids)
    assert contents(old.get_by_ids(["0", "1", "2", str(2**70)])) == ["hawk 0", "hawk 1", ""]
    assert contents(new.get_by_ids(["0", "1", "2"])) == ["hawk 0", "hawk 1", ""]


class Slow(HashEncoder):
    """Remembers in which thread it works."""

    def encode_query(self, inputs, **how):
        self.thread = threading.current_thread()
        return super().encode_query(inputs, **how)


def test_a_stock_collection_is_searched_off_the_event_loop(client):
    slow = Slow(dim=64, multivector_dim=32)
    embeddings = PolyvecEmbeddings(client=slow)
    made_by_stock(client, embeddings)
    ours = PolyvecVectorStore.from_existing_collection(embeddings, location=client, collection_name="stock")
    for _ in range(2):  # in two loops
        asyncio.run(ours.asimilarity_search("fox"))
    assert slow.thread is not threading.main_thread()
    with pytest.raises(ValueError, match="knows no tasks"):
        ours.similarity_search("fox", task=["retrieval", "code"])


def test_other_keys_and_distances_are_read(client, embeddings):
    made_by_stock(
        client, embeddings, distance=models.Distance.DOT, content_payload_key="text", metadata_payload_key="meta"
    )
    ours = PolyvecVectorStore.from_existing_collection(
        embeddings,
        location=client,
        collection_name="stock",
        content_payload_key="text",
        metadata_payload_key="meta",
    )
    assert contents(ours.similarity_search("fox", filter={"n": 2})) == ["red whale and fox"]
    with pytest.raises(ValueError, match="have no relevance"):
        ours.similarity_search_with_relevance_scores("fox")


def test_what_cannot_be_read_is_refused(client, embeddings, tmp_path):
    made_by_stock(client, embeddings)
    how = {"location": client, "collection_name": "stock"}
    for other in (
        PolyvecEmbeddings(client=HashEncoder(dim=8)),
        PolyvecEmbeddings(client=HashEncoder(dim=80)),
        PolyvecEmbeddings(client=HashEncoder(dim=64), dimensions=8),
    ):
        with pytest.raises(ValueError, match="another model made them, or other `dimensions`"):
            PolyvecVectorStore.from_existing_collection(other, **how)
    PolyvecVectorStore(embeddings, location=client, collection_name="docs")
    with pytest.raises(TypeError, match="have their own names"):
        PolyvecVectorStore.from_existing_collection(
            embeddings, location=client, collection_name="docs", vector_name="dense"
        )
    with pytest.raises(ValueError, match="`vector_name` is 'text'; the dense vectors of 'stock' are ''"):
        PolyvecVectorStore.from_existing_collection(embeddings, vector_name="text", **how)
    with pytest.raises(TypeError, match="`tenant` has no meaning"):
        PolyvecVectorStore.from_existing_collection(embeddings, tenant="ann", **how)
    with pytest.raises(ValueError, match="'late'"):
        PolyvecVectorStore.from_existing_collection(embeddings, mode="late", **how)
    stock = PolyvecVectorStore.from_existing_collection(embeddings, **how)
    with pytest.raises(TypeError, match="there is no option 'ids'"):
        stock.collection.search("fox", task="retrieval", ids=["1"])


def test_a_folder_is_released(tmp_path, embeddings):
    client = open_client(tmp_path / "index")
    made_by_stock(client, embeddings)
    client.close()
    for _ in range(2):
        with PolyvecVectorStore.from_existing_collection(
            embeddings, location=tmp_path / "index", collection_name="stock"
        ) as ours:
            assert len(ours.similarity_search("fox", k=9)) == 3
    with pytest.raises(ValueError, match="`vector_name`"):
        PolyvecVectorStore.from_existing_collection(
            embeddings, location=tmp_path / "index", collection_name="stock", vector_name="x"
        )
    open_client(tmp_path / "index").close()
