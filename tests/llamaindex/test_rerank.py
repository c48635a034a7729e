import asyncio

import numpy as np
import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores import SimpleVectorStore
from pydantic import Field, ValidationError

from llama_index.postprocessor.polyvec import PolyvecRerank
from llama_index.retrievers.polyvec import PolyvecRetriever
from polyvec import maxsim


def scored(nodes):
    return [NodeWithScore(node=node, score=0.5) for node in nodes]


def ids(found):
    return [one.node.node_id for one in found]


def test_nodes_are_ordered_by_maxsim(embed, nodes):
    found = PolyvecRerank(embed_model=embed, top_n=2).postprocess_nodes(scored(nodes[:3]), query_str="red fox")
    query = embed.get_query_multi_vector("red fox")
    texts = [node.get_content("embed") for node in nodes[:3]]
    means = maxsim([query], embed.get_text_multi_vectors(texts))[0] / len(query)
    order = np.argsort(-means, kind="stable")[:2]
    assert ids(found) == [f"text-{n}" for n in order]
    assert [one.score for one in found] == pytest.approx(means[order].tolist(), abs=1e-6)
    assert PolyvecRerank(embed_model=embed).postprocess_nodes([], query_str="a") == []


def test_images_are_re_ranked_and_may_ask(embed, nodes, pictures):
    rerank = PolyvecRerank(embed_model=embed, top_n=5)
    found = rerank.postprocess_nodes(scored(nodes), QueryBundle("", image_path=str(pictures[1])))
    assert ids(found)[0] == "image-1"
    assert found[0].score == pytest.approx(1, abs=1e-5)
    assert len(ids(asyncio.run(rerank.apostprocess_nodes(scored(nodes), query_str="a blue whale")))) == 5
    assert sum(not isinstance(one, str) for one in embed.client.encoded) == 4


def test_an_unreadable_node_comes_last_and_loses_no_other(embed, nodes, tmp_path):
    bad = [ImageNode(id_="gone", image_path=str(tmp_path / "gone.png")), ImageNode(id_="empty")]
    with pytest.warns(UserWarning, match="2 documents could not be read and come last"):
        found = PolyvecRerank(embed_model=embed, top_n=7).postprocess_nodes(scored([*bad, *nodes]), query_str="fox")
    assert set(ids(found)[-2:]) == {"gone", "empty"}
    assert len(found) == 7


def test_stored_multivectors_are_taken(embed, store, nodes):
    store.add(nodes)
    found = PolyvecRetriever(store, similarity_top_k=5, mode="dense").retrieve("red fox")
    embed.client.encoded.clear()
    fast = PolyvecRerank(embed_model=embed, top_n=5, vector_store=store).postprocess_nodes(found, query_str="red fox")
    assert embed.client.encoded == []
    plain = PolyvecRerank(embed_model=embed, top_n=5).postprocess_nodes(found, query_str="red fox")
    assert len(embed.client.encoded) == 5
    assert ids(fast) == ids(plain)
    assert [one.score for one in fast] == pytest.approx([one.score for one in plain], abs=2e-3)


def test_a_stored_vector_is_not_taken_for_another_node(embed, store, nodes):
    store.add(nodes)
    embed.client.encoded.clear()
    others = [TextNode(id_="text-0", text="something else"), TextNode(id_="new", text="not stored"), nodes[1]]
    PolyvecRerank(embed_model=embed, vector_store=store).postprocess_nodes(scored(others), query_str="fox")
    assert embed.client.encoded == ["something else", "not stored"]


def test_the_retrieval_score_is_kept_on_request_and_nodes_stay(embed, nodes):
    given = scored(nodes[:2])
    found = PolyvecRerank(embed_model=embed, keep_retrieval_score=True).postprocess_nodes(given, query_str="fox")
    assert [one.node.metadata["retrieval_score"] for one in found] == [0.5, 0.5]
    assert all("retrieval_score" not in node.metadata for node in nodes)
    assert [one.score for one in given] == [0.5, 0.5]


class Listening(BaseEventHandler):
    seen: list = Field(default_factory=list)

    def handle(self, event, **_):
        self.seen.append(event)


def test_those_who_watch_are_told(embed, nodes):
    listening, root = Listening(), get_dispatcher()
    root.add_event_handler(listening)
    handler = LlamaDebugHandler(print_trace_on_end=False)
    rerank = PolyvecRerank(embed_model=embed, top_n=2, callback_manager=CallbackManager([handler]))
    try:
        rerank.postprocess_nodes(scored(nodes), query_str="fox")
    finally:
        root.event_handlers.remove(listening)
    names = [type(event).__name__ for event in listening.seen]
    assert names.index("ReRankStartEvent") < names.index("ReRankEndEvent")
    start = next(event for event in listening.seen if type(event).__name__ == "ReRankStartEvent")
    assert (start.top_n, start.model_name, len(start.nodes)) == (2, "hash-64-32", 5)
    assert len(handler.get_event_pairs(CBEventType.RERANKING)) == 1


def test_impossible_settings_are_refused(embed, nodes):
    for wrong in ({"top_n": 0}, {"top_k": 3}, {"embed_model": "demo"}, {"vector_store": SimpleVectorStore()}):
        with pytest.raises(ValidationError):
            PolyvecRerank(**{"embed_model": embed, **wrong})
    with pytest.raises(ValueError, match="a query is needed"):
        PolyvecRerank(embed_model=embed).postprocess_nodes(scored(nodes))
    with pytest.raises(ValueError, match="neither text nor image"):
        PolyvecRerank(embed_model=embed).postprocess_nodes(scored(nodes), query_str="")
    assert PolyvecRerank(embed_model=embed).class_name() == "PolyvecRerank"
