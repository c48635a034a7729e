import asyncio

import pytest
from llama_index.core.schema import ImageNode, QueryBundle
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters

from llama_index.embeddings.polyvec import PolyvecEmbedding
from llama_index.postprocessor.polyvec import PolyvecRerank
from llama_index.retrievers.polyvec import PolyvecRetriever
from llama_index.vector_stores.polyvec import PolyvecVectorStore
from polyvec import Embedder
from polyvec.model.checkpoint import locate
from polyvec.testing import HashEncoder
from qdrant_polyvec import Schema


@pytest.fixture
def retriever(store, nodes):
    store.add(nodes)
    return PolyvecRetriever(store, similarity_top_k=2)


def ids(found):
    return [one.node.node_id for one in found]


def test_a_text_an_image_or_both_ask(retriever, pictures):
    """Silent failures 3 and 4."""
    assert ids(retriever.retrieve("a blue whale"))[0] == "text-1"
    assert ids(retriever.retrieve(QueryBundle("", image_path=str(pictures[1]))))[0] == "image-1"
    both = retriever.retrieve(QueryBundle("a blue whale", image_path=str(pictures[1])))
    assert set(ids(both)) == {"text-1", "image-1"}
    assert asyncio.run(retriever.aretrieve(QueryBundle("", image_path=str(pictures[0]))))[0].node.node_id == "image-0"
    several = QueryBundle("x", custom_embedding_strs=["a blue whale", "the red fox"])
    assert "text-2" in ids(retriever.retrieve(several))  # which has words of both
    for nothing in ("", QueryBundle("")):
        with pytest.raises(ValueError, match="neither text nor image"):
            retriever.retrieve(nothing)
        with pytest.raises(ValueError, match="neither text nor image"):
            asyncio.run(retriever.aretrieve(nothing))
    with pytest.raises(ValueError, match="not fetched"):
        retriever.retrieve(QueryBundle("", image_path="https://example.org/a.png"))


def test_a_task_of_an_adapter_is_stored_retrieved_and_re_ranked(nodes):
    """The adapter is the demo checkpoint's own for text-matching, so both tasks give the same."""
    embedder = Embedder.from_pretrained("demo", device="cpu")
    embedder.load_adapter(locate("demo"), task="my-domain", adapter="text-matching", base_task="text-matching")
    results = []
    for task in ("my-domain", "text-matching"):
        embed = PolyvecEmbedding(client=embedder, task=task)
        with PolyvecVectorStore(embed, location=":memory:") as store:
            store.add(nodes)
            assert {item.task for item in store.collection.all()} == {task}
            found = PolyvecRetriever(store, similarity_top_k=5).retrieve("foxes")
            rerank = PolyvecRerank(embed_model=embed, vector_store=store, top_n=5)
            results.append(rerank.postprocess_nodes(found, query_str="whales"))
    mine, own = results
    assert ids(mine) == ids(own)
    assert [one.score for one in mine] == pytest.approx([one.score for one in own], abs=1e-3)


def test_scores_are_on_one_scale(store, nodes):
    store.add(nodes)
    for mode in ("dense", "late", "two-stage"):
        found = PolyvecRetriever(store, similarity_top_k=5, mode=mode).retrieve("a blue whale " * 5)
        assert all(-1.001 <= one.score <= 1.001 for one in found)
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_the_query_bundle_stays_as_it_is(retriever):
    """Silent failure 14."""
    bundle = QueryBundle("a blue whale", embedding=[0.1, 0.2])
    assert ids(retriever.retrieve(bundle))[0] == "text-1"
    assert asyncio.run(retriever.aretrieve(bundle))
    assert bundle == QueryBundle("a blue whale", embedding=[0.1, 0.2])


def test_what_is_searched_can_be_restricted(store, nodes):
    store.add(nodes)
    filters = MetadataFilters(filters=[MetadataFilter(key="n", value=11)])
    assert ids(PolyvecRetriever(store, filters=filters).retrieve("fox")) == ["image-1"]
    assert set(ids(PolyvecRetriever(store, node_ids=["text-0", "image-1"]).retrieve("fox"))) == {"text-0", "image-1"}
    assert ids(PolyvecRetriever(store, doc_ids=["nobody"]).retrieve("fox")) == []
    assert len(PolyvecRetriever(store, similarity_top_k=9).retrieve("fox")) == 5
    assert PolyvecRetriever(store, mode="dense", score_threshold=2.0).retrieve("fox") == []


def test_candidates_and_hybrid_stores_take_images_too(tmp_path, embed, nodes, pictures):
    with PolyvecVectorStore(embed, location=tmp_path, schema=Schema(bm25="english"), mode="hybrid") as store:
        store.add(nodes)
        retriever = PolyvecRetriever(store, similarity_top_k=3, candidates=5)
        both = QueryBundle("a blue whale", image_path=str(pictures[1]))
        with pytest.warns(UserWarning, match="a query has no words"):
            assert set(ids(retriever.retrieve(both))) >= {"text-1", "image-1"}
        with pytest.warns(UserWarning, match="a query has no words"):
            assert ids(asyncio.run(retriever.aretrieve(QueryBundle("", image_path=str(pictures[0])))))[0] == "image-0"
    with PolyvecVectorStore(embed, location=":memory:") as empty:
        assert PolyvecRetriever(empty, doc_ids=[]).retrieve("fox") == []


def test_impossible_settings_are_refused(store):
    for given, message in (({"similarity_top_k": 0}, "at least 1"), ({"top_k": 3}, "top_k"), ({"k": 3}, "'k'")):
        with pytest.raises((TypeError, ValueError), match=message):
            PolyvecRetriever(store, **given)
    with pytest.raises(TypeError, match="it is a PolyvecVectorStore"):
        PolyvecRetriever(HashEncoder())
    with pytest.raises(ValueError, match="`mode` is 'fast'"):
        PolyvecRetriever(store, mode="fast").retrieve("fox")


def test_images_are_image_nodes(retriever, pictures):
    found = retriever.retrieve(QueryBundle("", image_path=str(pictures[0])))[0].node
    assert isinstance(found, ImageNode)
    assert found.image_path == str(pictures[0])


def test_many_at_once_do_not_mix(retriever):
    async def scenario():
        return await asyncio.gather(*(retriever.aretrieve(text) for text in ("the red fox", "a blue whale") * 16))

    assert [ids(found)[0] for found in asyncio.run(scenario())] == ["text-0", "text-1"] * 16
