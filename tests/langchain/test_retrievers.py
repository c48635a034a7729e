import asyncio
import copy
import pickle
import threading

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from pydantic import ValidationError

from langchain_polyvec import PolyvecEmbeddings, PolyvecRerank, PolyvecRetriever, PolyvecVectorStore, retrievers
from langchain_polyvec.images import located
from polyvec import Embedder
from polyvec.model.checkpoint import locate
from qdrant_polyvec import Schema

TEXTS = ["the red fox", "a blue whale", "red whale and fox"]


@pytest.fixture
def retriever(store):
    store.add_texts(TEXTS, [{"n": n} for n in range(3)])
    return PolyvecRetriever(vectorstore=store, k=2)


def contents(documents):
    return [document.page_content for document in documents]


def test_k_is_of_the_retriever_or_of_the_call(retriever):
    assert len(retriever.invoke("fox")) == 2
    assert len(retriever.invoke("fox", k=3)) == 3
    assert len(asyncio.run(retriever.ainvoke("fox", k=1))) == 1
    assert len(PolyvecRetriever(vectorstore=retriever.vectorstore, search_kwargs={"k": 3}).invoke("fox")) == 3
    assert len(retriever.invoke("fox", mode=None)) == 2
    with pytest.raises(ValidationError, match="greater than 0"):
        PolyvecRetriever(vectorstore=retriever.vectorstore, k=0)
    with pytest.raises(ValueError, match="`k` is 0"):
        retriever.invoke("fox", k=0)


def test_a_task_of_an_adapter_is_stored_retrieved_and_re_ranked():
    """The adapter is the demo checkpoint's own for text-matching, so both tasks give the same."""
    embedder = Embedder.from_pretrained("demo", device="cpu")
    embedder.load_adapter(locate("demo"), task="my-domain", adapter="text-matching", base_task="text-matching")
    results = []
    for task in ("my-domain", "text-matching"):
        embeddings = PolyvecEmbeddings(client=embedder, task=task)
        with PolyvecVectorStore.from_texts(TEXTS, embeddings, location=":memory:") as store:
            assert {item.task for item in store.collection.all()} == {task}
            documents = PolyvecRetriever(vectorstore=store, k=3).invoke("foxes")
            rerank = PolyvecRerank(embeddings=embeddings, vectorstore=store)
            results.append(rerank.compress_documents(documents, "whales"))
    mine, own = results
    assert contents(mine) == contents(own)
    scores = ([document.metadata["relevance_score"] for document in documents] for documents in results)
    assert next(scores) == pytest.approx(next(scores), abs=1e-3)


def test_options_are_of_the_retriever_or_of_the_call(retriever):
    assert contents(retriever.invoke("fox", filter={"n": 1})) == ["a blue whale"]
    narrow = PolyvecRetriever(vectorstore=retriever.vectorstore, mode="late", search_kwargs={"filter": {"n": 1}})
    assert contents(narrow.invoke("fox")) == ["a blue whale"]
    assert contents(narrow.invoke("fox", filter={"n": 2}, mode="dense")) == ["red whale and fox"]
    with pytest.raises(TypeError, match="top_k"):
        retriever.invoke("fox", top_k=3)
    with pytest.raises(ValueError, match="`mode` is 'fast'"):
        retriever.invoke("fox", mode="fast")
    for wrong in ({"mode": "fast"}, {"top_k": 3}, {"vectorstore": "docs"}):
        with pytest.raises(ValidationError):
            PolyvecRetriever(**{"vectorstore": retriever.vectorstore, **wrong})


def test_an_image_may_ask(retriever, pictures):
    (wanted, _, _) = retriever.vectorstore.add_images(pictures)
    for image in (pictures[0], str(pictures[0]), pictures[0].read_bytes()):
        assert retriever.invoke("", image=image)[0].id == wanted
    assert asyncio.run(retriever.ainvoke("", image=pictures[0]))[0].id == wanted
    with pytest.raises(ValueError, match="the text must be empty"):
        retriever.invoke("fox", image=pictures[0])
    with pytest.raises(ValueError, match="not fetched"):
        retriever.invoke("", image="https://example.org/a.png")
    with pytest.raises(TypeError, match="an image goes in `image`"):
        retriever.invoke(pictures[0])


def test_an_image_may_ask_a_hybrid_store(tmp_path, embeddings, pictures):
    with PolyvecVectorStore(embeddings, location=tmp_path, schema=Schema(bm25="english"), mode="hybrid") as store:
        (wanted,) = store.add_images(pictures[:1])
        store.add_texts(TEXTS)
        retriever = PolyvecRetriever(vectorstore=store, k=1)
        with pytest.warns(UserWarning, match="a query has no words"):
            assert retriever.invoke("", image=pictures[0])[0].id == wanted
        assert contents(retriever.invoke("a blue whale")) == ["a blue whale"]


def test_a_picture_is_read_off_the_event_loop(retriever, report, monkeypatch):
    threads = []

    def drawn(image):
        threads.append(threading.current_thread())
        return located(image)

    monkeypatch.setattr(retrievers, "located", drawn)
    asyncio.run(retriever.ainvoke("", image=f"{report}#page=1"))
    assert threads != [threading.main_thread()]


def test_progress_comes_as_events(retriever):
    async def scenario():
        return [event async for event in retriever.astream_events("the red fox", version="v2")]

    events = asyncio.run(scenario())
    told = {event["name"]: event["data"] for event in events if event["event"] == "on_custom_event"}
    assert told["polyvec_searching"] == {"mode": "two-stage", "k": 2}
    assert told["polyvec_found"] == {"n_documents": 2, "best_score": pytest.approx(3, abs=5e-3)}
    (end,) = [event for event in events if event["event"] == "on_retriever_end"]
    assert all(isinstance(one, Document) for one in end["data"]["output"])


def test_a_trace_names_store_and_model(retriever):
    params = retriever._get_ls_params()
    assert params["ls_retriever_name"] == "polyvec"
    assert params["ls_vector_store_provider"] == "PolyvecVectorStore"
    assert params["ls_embedding_provider"] == "PolyvecEmbeddings"
    assert params["ls_embedding_model"] == "hash-64-32"
    retriever.vectorstore._embedding = PolyvecEmbeddings()
    assert retriever._get_ls_params()["ls_embedding_model"] == "jinaai/jina-embeddings-v4"


def test_diverse_documents_are_those_of_the_store(retriever, pictures):
    store = retriever.vectorstore
    store.add_texts(["the red fox, again"], [{"n": 3}])
    how = {"fetch_k": 4, "lambda_mult": 0.1}
    diverse = PolyvecRetriever(vectorstore=store, k=2, search_type="mmr", search_kwargs=how)
    expected = store.max_marginal_relevance_search("the red fox", k=2, **how)
    assert diverse.invoke("the red fox") == asyncio.run(diverse.ainvoke("the red fox")) == expected
    assert contents(expected) != contents(retriever.invoke("the red fox"))
    (wanted, _, _) = store.add_images(pictures)
    assert diverse.invoke("", image=pictures[0])[0].id == wanted
    with pytest.raises(TypeError, match="'fetch_k' is no option"):
        retriever.invoke("fox", fetch_k=3)


def test_a_threshold_is_a_relevance_and_scores_stand_in_the_metadata(retriever):
    store = retriever.vectorstore
    how = {"vectorstore": store, "k": 3, "search_type": "similarity_score_threshold", "scores": True}
    strict = PolyvecRetriever(**how, search_kwargs={"score_threshold": 0.99})
    scored = store.similarity_search_with_relevance_scores("the red fox", k=3)
    (best,) = strict.invoke("the red fox")
    assert best.metadata == {"n": 0, "relevance_score": pytest.approx(scored[0][1])}
    loose = strict.invoke("the red fox", score_threshold=0)
    assert [one.metadata["relevance_score"] for one in loose] == pytest.approx([score for _, score in scored])
    assert asyncio.run(strict.ainvoke("the red fox")) == [best]
    assert "relevance_score" not in retriever.invoke("the red fox")[0].metadata
    for wrong in ({}, {"score_threshold": 3.5}):
        with pytest.raises(ValidationError, match="needs a relevance from 0 to 1"):
            PolyvecRetriever(**how, search_kwargs=wrong)
    with pytest.raises(ValidationError, match="search_type"):
        PolyvecRetriever(vectorstore=store, search_type="best")


def test_a_pickled_retriever_opens_its_store_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = PolyvecVectorStore(PolyvecEmbeddings(model="demo"), location="index", collection_name="docs", mode="late")
    store.add_texts(TEXTS)
    retriever = PolyvecRetriever(vectorstore=store, k=1, search_kwargs={"filter": {"n": None}})
    expected = retriever.invoke("a blue whale")
    assert copy.deepcopy(retriever).invoke("a blue whale") == expected
    pickled = pickle.dumps(retriever)
    beside = pickle.loads(pickled)
    store.close()
    assert beside.invoke("a blue whale") == expected
    beside.vectorstore.close()
    monkeypatch.chdir("/")
    again = pickle.loads(pickled)
    assert (again.vectorstore.mode, again.vectorstore.collection.name) == ("late", "docs")
    assert again.invoke("a blue whale") == expected
    shared = PolyvecVectorStore(again.vectorstore.embeddings, location=again.vectorstore.collection.client)
    with pytest.raises(TypeError, match=r"on a QdrantClient cannot be pickled.*by a folder or by"):
        pickle.dumps(shared)
    again.vectorstore.close()


def test_schemas_of_a_retriever_are_json(retriever):
    assert retriever.get_input_schema().model_json_schema()["type"] == "string"
    assert "Document" in retriever.get_output_schema().model_json_schema()["$defs"]
    assert "vectorstore" not in PolyvecRetriever.model_json_schema()["properties"]


class Heard(BaseCallbackHandler):
    def __init__(self):
        self.events = []

    def on_retriever_start(self, serialized, query, **how):
        self.events.append("start")

    def on_custom_event(self, name, data, **how):
        self.events.append((name, data["n_documents"] if "n_documents" in data else data["k"]))

    def on_retriever_end(self, documents, **how):
        self.events.append(len(documents))


def test_a_run_hears_of_searching_and_of_re_ranking(retriever):
    rerank = PolyvecRerank(embeddings=retriever.vectorstore.embeddings, top_n=1, vectorstore=retriever.vectorstore)
    both = ContextualCompressionRetriever(base_compressor=rerank, base_retriever=retriever)
    for call in (both.invoke, lambda *how: asyncio.run(both.ainvoke(*how))):
        heard = Heard()
        call("fox", {"callbacks": [heard]})
        assert heard.events == [
            "start", "start", ("polyvec_searching", 2), ("polyvec_found", 2), 2,
            ("polyvec_reranking", 2), ("polyvec_reranked", 1), 1,
        ]  # fmt: skip
    assert len(rerank.compress_documents(retriever.invoke("fox"), "fox")) == 1  # outside of a run
