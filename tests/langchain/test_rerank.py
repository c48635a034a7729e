import asyncio

import numpy as np
import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import ValidationError

from langchain_polyvec import PolyvecEmbeddings, PolyvecRerank, PolyvecVectorStore
from polyvec import maxsim
from polyvec.testing import HashEncoder

TEXTS = ["the red fox", "a blue whale", "red whale and fox", "nothing of it"]


class Counting(HashEncoder):
    def __init__(self):
        super().__init__(dim=64, multivector_dim=32)
        self.encoded = []

    def encode_document(self, inputs, **how):
        self.encoded += inputs
        return super().encode_document(inputs, **how)


@pytest.fixture
def counting():
    return PolyvecEmbeddings(client=Counting())


def contents(documents):
    return [document.page_content for document in documents]


def test_documents_are_ordered_by_maxsim(embeddings):
    documents = [Document(text, id=str(n), metadata={"n": n}) for n, text in enumerate(TEXTS)]
    found = PolyvecRerank(embeddings=embeddings, top_n=3).compress_documents(documents, "red fox")
    rows = embeddings.embed_documents_multi_vector(TEXTS)
    scores = maxsim([embeddings.embed_query_multi_vector("red fox")], rows)[0]
    wanted = np.argsort(-scores, kind="stable")[:3]
    assert [one.metadata["n"] for one in found] == wanted.tolist()
    assert [one.metadata["relevance_score"] for one in found] == pytest.approx(
        ((1 + scores[wanted] / 2) / 2).tolist(), abs=1e-5
    )
    assert all("relevance_score" not in one.metadata for one in documents)
    assert [one.id for one in found] == [str(n) for n in wanted]
    assert PolyvecRerank(embeddings=embeddings).compress_documents([], "a") == []


def test_images_and_pages_are_re_ranked_with_texts(counting, pictures, report):
    documents = [
        Document("a text"),
        Document("", metadata={"image_uri": str(pictures[1])}),
        Document("says something", metadata={"image_uri": f"{report}#page=2"}),
    ]
    found = asyncio.run(PolyvecRerank(embeddings=counting).acompress_documents(documents, "a text"))
    text, picture, page = counting.client.encoded
    assert (text, picture.size) == ("a text", (84, 56))
    assert page.width > 100
    assert found[0].page_content == "a text"
    assert len(found) == 3
    assert {one.metadata.get("image_uri") for one in found} == {None, str(pictures[1]), f"{report}#page=2"}


def test_an_unreadable_image_comes_last_and_loses_no_other(embeddings, pictures, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    documents = [
        Document("", metadata={"image_uri": str(tmp_path / "broken.png")}),
        Document("", metadata={"image_uri": "https://example.org/a.png"}),
        Document("", metadata={"image_uri": 5}),
        Document("", metadata={"image_uri": "x" * 5000 + ".pdf#page=1"}),
        Document("opposite of everything"),
        Document("a red fox"),
    ]
    with pytest.warns(UserWarning, match="4 documents could not be read and come last"):
        found = PolyvecRerank(embeddings=embeddings, top_n=6).compress_documents(documents, "a red fox")
    assert contents(found) == ["a red fox", "opposite of everything", "", "", "", ""]
    assert [one.metadata["relevance_score"] for one in found[2:]] == [0] * 4


def test_stored_multivectors_are_taken(counting, pictures, tmp_path):
    with PolyvecVectorStore(counting, location=tmp_path / "index") as store:
        store.add_texts(TEXTS)
        store.add_images(pictures)
        documents = store.similarity_search("red fox", k=7, mode="dense")
        counting.client.encoded.clear()
        plain = PolyvecRerank(embeddings=counting, top_n=7).compress_documents(documents, "red fox")
        assert len(counting.client.encoded) == 7
        counting.client.encoded.clear()
        fast = PolyvecRerank(embeddings=counting, top_n=7, vectorstore=store).compress_documents(documents, "red fox")
        assert counting.client.encoded == []
        assert [one.id for one in fast] == [one.id for one in plain]
        scores = [[one.metadata["relevance_score"] for one in found] for found in (fast, plain)]
        assert scores[0] == pytest.approx(scores[1], abs=2e-3)


def test_a_stored_vector_is_not_taken_for_another_document(counting, tmp_path):
    with PolyvecVectorStore(counting, location=tmp_path / "index") as store:
        store.add_texts(TEXTS[:1], ids=["1"])
        store.add_texts(["def fox"], ids=["2"], task="code")
        counting.client.encoded.clear()
        rerank = PolyvecRerank(embeddings=counting, vectorstore=store)
        documents = [
            Document("something else", id="1"),
            Document("def fox", id="2"),
            Document("not stored", id="3"),
            Document("without id"),
        ]
        rerank.compress_documents(documents, "red fox")
        assert counting.client.encoded == [one.page_content for one in documents]


def test_an_image_from_memory_is_re_ranked_by_its_thumbnail(counting, pictures, tmp_path):
    with PolyvecVectorStore(counting, location=tmp_path / "index") as store:
        store.add_images([pictures[0].read_bytes()], thumbnails=True)
        store.add_images([pictures[1].read_bytes()])
        documents = store.similarity_search("x", k=2)
    counting.client.encoded.clear()
    with pytest.warns(UserWarning, match="is not kept"):
        found = PolyvecRerank(embeddings=counting).compress_documents(documents, "x")
    assert [image.size for image in counting.client.encoded] == [(84, 56)]
    assert ["thumbnail" in one.metadata for one in found] == [True, False]


def test_a_document_with_text_counts_by_it_if_its_picture_is_lost(embeddings):
    documents = [
        Document("zzz"),
        Document("a red fox", metadata={"image_uri": "https://example.org/a.png"}),
        Document("a red fox", metadata={"image_uri": "", "thumbnail": "https://example.org/a.jpg"}),
    ]
    found = PolyvecRerank(embeddings=embeddings).compress_documents(documents, "a red fox")
    assert contents(found) == ["a red fox", "a red fox", "zzz"]
    assert [one.metadata["relevance_score"] for one in found[:2]] == pytest.approx([1, 1], abs=1e-3)


def test_a_store_without_multivectors_helps_nothing(embeddings, tmp_path):
    with PolyvecVectorStore(DeterministicFakeEmbedding(size=4), location=tmp_path / "index") as store:
        store.add_texts(TEXTS, ids=list("abcd"))
        rerank = PolyvecRerank(embeddings=embeddings, vectorstore=store, top_n=1)
        assert contents(rerank.compress_documents(store.similarity_search("x"), "a blue whale")) == ["a blue whale"]
    with pytest.raises(ValidationError, match="InMemoryVectorStore keeps no multi-vectors"):
        PolyvecRerank(embeddings=embeddings, vectorstore=InMemoryVectorStore(embeddings))


def test_documents_of_any_store_are_re_ranked(embeddings):
    base = InMemoryVectorStore(embeddings)
    base.add_texts(TEXTS)
    retriever = ContextualCompressionRetriever(
        base_compressor=PolyvecRerank(embeddings=embeddings, top_n=2),
        base_retriever=base.as_retriever(search_kwargs={"k": 4}),
    )
    assert contents(retriever.invoke("the red fox")) == ["the red fox", "red whale and fox"]
    assert contents(asyncio.run(retriever.ainvoke("the red fox")))[0] == "the red fox"


def test_impossible_settings_are_refused(embeddings):
    for wrong in ({"top_n": 0}, {"top_k": 3}, {"embeddings": "demo"}):
        with pytest.raises(ValidationError):
            PolyvecRerank(**{"embeddings": embeddings, **wrong})
