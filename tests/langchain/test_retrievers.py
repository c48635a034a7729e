import asyncio
import threading

import pytest
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
