import asyncio
import base64
import json
import os
import re
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_core.documents import Document
from langchain_core.documents.base import Blob
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.stores import InMemoryByteStore
from PIL import Image
from qdrant_client import models

from langchain_polyvec import PolyvecEmbeddings, PolyvecVectorStore, UnstoredItems, content_blocks
from langchain_polyvec.encoders import DenseEncoder
from langchain_polyvec.filters import qdrant_filter
from langchain_polyvec.searches import StoreOptions
from polyvec import Embedder, maxsim
from polyvec.testing import HashEncoder
from qdrant_polyvec import Collection, FingerprintError, Schema, SearchOptions, open_client

TEXTS = ["the red fox", "a blue whale", "red whale and fox"]
MODES = ("dense", "late", "two-stage")


class Counting(HashEncoder):
    """Counts what it encodes."""

    def __init__(self):
        super().__init__(dim=64, multivector_dim=32)
        self.encoded = []

    def encode_document(self, inputs, **how):
        self.encoded += inputs
        return super().encode_document(inputs, **how)


def contents(documents):
    return [document.page_content for document in documents]


def test_a_store_finds_what_it_was_given(store):
    ids = store.add_texts(TEXTS, [{"n": n} for n in range(3)])
    for mode in MODES:
        assert store.similarity_search("a blue whale", k=1, mode=mode) == [
            Document(id=ids[1], page_content=TEXTS[1], metadata={"n": 1})
        ]
    assert store.mode == "two-stage"
    assert store.embeddings.embed_query("a")


def test_scores_are_cosine_and_maxsim(store):
    store.add_texts(TEXTS)
    query = store.embeddings.embed_query_multi_vector("red fox")
    wanted = maxsim([query], store.embeddings.embed_documents_multi_vector(TEXTS))[0]
    found = {one.page_content: score for one, score in store.similarity_search_with_score("red fox")}
    assert found == pytest.approx(dict(zip(TEXTS, wanted.tolist(), strict=True)), abs=5e-3)
    dense = np.float32(store.embeddings.embed_documents(TEXTS)) @ np.float32(store.embeddings.embed_query("red fox"))
    found = {one.page_content: score for one, score in store.similarity_search_with_score("red fox", mode="dense")}
    assert found == pytest.approx(dict(zip(TEXTS, dense.tolist(), strict=True)), abs=5e-3)


@pytest.mark.parametrize("mode", MODES)
def test_relevance_is_between_0_and_1_however_long_the_query(store, mode):
    store.add_texts(TEXTS)
    for query in ("the red fox", "the red fox " * 20):
        found = store.similarity_search_with_relevance_scores(query, k=3, mode=mode)
        assert found[0][0].page_content == "the red fox"
        assert found[0][1] == pytest.approx(1, abs=2e-3)
        assert all(0 <= score <= 1 for _, score in found)
        assert len(store.similarity_search_with_relevance_scores(query, k=3, mode=mode, score_threshold=0.99)) == 1


def test_relevance_of_merged_tasks_is_refused(folder):
    folder.add_texts(TEXTS)
    assert len(folder.similarity_search("fox", task=["retrieval", "code"])) == 3
    with pytest.raises(ValueError, match="have no relevance"):
        folder.similarity_search_with_relevance_scores("fox", task=["retrieval", "code"])
    with pytest.raises(TypeError, match="one `task`"):
        folder.max_marginal_relevance_search("fox", task=["retrieval", "code"])


def test_vectors_are_searched_in_mode_dense(store):
    store.add_texts(TEXTS)
    vector = store.embeddings.embed_query("a blue whale")
    assert contents(store.similarity_search_by_vector(vector, k=1)) == ["a blue whale"]
    ((found, score),) = store.similarity_search_with_score_by_vector(vector, k=1)
    assert (found.page_content, score) == ("a blue whale", pytest.approx(1, abs=2e-3))
    with pytest.raises(ValueError, match="a dense vector is searched in mode 'dense'"):
        store.similarity_search_by_vector(vector, mode="late")
    with pytest.raises(ValueError, match="has 3 numbers; the collection's have 64"):
        store.similarity_search_by_vector([1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="has 100 numbers; the collection's have 64"):
        store.similarity_search_by_vector([0.1] * 100)
    with pytest.raises(ValueError, match="it has no direction"):
        store.similarity_search_by_vector([0.0] * 64)
    with pytest.raises(ValueError, match="it is one dense vector"):
        store.similarity_search_by_vector([vector])


@pytest.mark.parametrize("mode", MODES)
def test_lambda_1_is_most_relevant_and_0_most_diverse(store, mode):
    texts = ["red fox", "red fox fox", "red fox red", "blue whale red"]
    store.add_texts(texts)
    vector = store.embeddings.embed_query("red fox")
    relevant = contents(store.max_marginal_relevance_search("red fox", k=2, fetch_k=4, lambda_mult=1.0, mode=mode))
    diverse = contents(store.max_marginal_relevance_search("red fox", k=2, fetch_k=4, lambda_mult=0.0, mode=mode))
    assert relevant[0] == diverse[0] == "red fox"
    assert relevant[1] in ("red fox fox", "red fox red")
    assert diverse[1] == "blue whale red"
    if mode == "dense":
        assert contents(store.max_marginal_relevance_search_by_vector(vector, k=2, lambda_mult=0.0)) == diverse
    with pytest.raises(ValueError, match="`lambda_mult` is 2"):
        store.max_marginal_relevance_search("red fox", lambda_mult=2)


def test_nothing_is_found_in_an_empty_store(store):
    assert store.similarity_search("a") == []
    assert store.max_marginal_relevance_search("a") == []
    assert store.get_by_ids(["a"]) == []
    assert store.add_texts([]) == store.add_documents([]) == store.add_images([]) == store.add_pdfs([]) == []
    assert store.delete([])
    assert store.get_by_ids([]) == []


def test_the_modes_of_langchains_own_retriever_work(store):
    store.add_texts(TEXTS, [{"n": n} for n in range(3)])
    retriever = store.as_retriever(search_kwargs={"k": 2, "mode": "late", "filter": {"n": [0, 1]}, "candidates": 50})
    assert contents(retriever.invoke("a blue whale")) == ["a blue whale", "the red fox"]
    assert contents(retriever.invoke("a blue whale", k=1)) == ["a blue whale"]
    assert contents(asyncio.run(retriever.ainvoke("a blue whale"))) == ["a blue whale", "the red fox"]
    mmr = store.as_retriever(search_type="mmr", search_kwargs={"k": 2, "lambda_mult": 0.5})
    assert len(mmr.invoke("red fox")) == 2
    sure = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.99})
    assert contents(sure.invoke("the red fox")) == ["the red fox"]


def test_an_unknown_option_is_refused(store):
    for call in (store.similarity_search, store.similarity_search_with_score, store.max_marginal_relevance_search):
        with pytest.raises(TypeError, match="top_k"):
            call("fox", top_k=3)
    for add in (store.add_texts, store.add_images, store.add_pdfs, store.add_blobs, store.add_documents):
        with pytest.raises(TypeError, match="there is no option 'metadata'; it may be"):
            add([], metadata=[{}])
    for call in (store.delete, lambda ids, **how: asyncio.run(store.adelete(ids, **how))):
        with pytest.raises(TypeError, match="`delete` has no option 'where'"):
            call(["a"], where={"n": 1})
    with pytest.raises(TypeError, match="'k' is no argument of `as_retriever`; options of searches go into"):
        store.as_retriever(k=2)
    assert store.as_retriever(tags=["a"], search_kwargs={"k": 2}).tags == ["a"]
    for make in (PolyvecVectorStore.from_texts, PolyvecVectorStore.from_documents, PolyvecVectorStore.from_images):
        with pytest.raises(TypeError, match="batch_size"):
            make([], store.embeddings, location=":memory:", batch_size=3)
    with pytest.raises(ValueError, match="`mode` is 'fast'"):
        store.similarity_search("fox", mode="fast")
    for wrong, told in (({"k": 0}, "`k` is 0"), ({"k": 2.5}, "`k` is 2.5"), ({"k": -1}, "`k` is -1")):
        for call in (store.similarity_search, store.max_marginal_relevance_search):
            with pytest.raises(ValueError, match=told):
                call("fox", **wrong)
    with pytest.raises(ValueError, match="`fetch_k` is 0"):
        store.max_marginal_relevance_search("fox", fetch_k=0)
    with pytest.raises(ValueError, match="`k` is 0"):
        asyncio.run(store.amax_marginal_relevance_search_by_vector([1.0] * 64, k=0))
    with pytest.raises(ValueError, match="`candidates` is 2; it must be at least the number of results, which is 3"):
        store.similarity_search("fox", k=3, candidates=2)
    with pytest.raises(TypeError, match="images go to `similarity_search_by_image`"):
        store.similarity_search(b"fox")


def test_options_of_searches_are_those_of_a_collection_but_for_the_limit():
    assert StoreOptions.__optional_keys__ == SearchOptions.__optional_keys__ - {"limit"}
    hints = get_type_hints(PolyvecVectorStore.similarity_search)
    assert get_args(hints["options"]) == (StoreOptions,)


def test_a_qdrant_filter_and_a_plain_mapping_do_the_same(store):
    store.add_texts(TEXTS, [{"n": n, "lang": "en" if n else "de"} for n in range(3)])
    filters = [
        {"lang": "en"},
        models.Filter(must=[models.FieldCondition(key="metadata.lang", match=models.MatchValue(value="en"))]),
    ]
    for given in filters:
        assert sorted(contents(store.similarity_search("fox", filter=given))) == sorted(TEXTS[1:])
    assert len(store.similarity_search("fox", filter={})) == 3


def test_filters_on_indexed_fields_look_at_indexed_keys_only(tmp_path, embeddings):
    schema = Schema(indexed={"lang": "keyword", "dc.title": "keyword", "page": "integer"})
    with PolyvecVectorStore(embeddings, location=tmp_path, schema=schema) as store:
        store.add_texts(TEXTS, [{"lang": "en", "dc.title": "a", "page": n} for n in range(3)])
        given = {"lang": "en", "dc.title": {"$ne": "b"}, "page": {"$lte": 1}}
        assert sorted(contents(store.similarity_search("fox", filter=given))) == sorted(TEXTS[:2])
        shown = qdrant_filter(given).model_dump_json()
        keys = {key.replace('\\"', '"') for key in re.findall(r'"key":"((?:[^"\\]|\\.)*)"', shown)}
        assert keys == {
            "metadata.lang", 'metadata."dc.title"', "metadata.dc.title", "metadata.page", "_polyvec.picture.page",
        }  # fmt: skip
        assert (
            keys <= store.collection.client.get_collection("langchain").payload_schema.keys()
        )  # strict mode takes no others


def test_the_same_again_changes_nothing_and_costs_nothing(tmp_path):
    client = Counting()
    with PolyvecVectorStore(PolyvecEmbeddings(client=client), location=tmp_path) as store:
        ids = store.add_texts(TEXTS, [{"source": "a.md"}] * 3)
        assert store.add_texts(TEXTS, [{"source": "a.md"}] * 3) == ids
        assert len(client.encoded) == 3
        # parts of one source that come in two calls do not replace each other
        more = store.add_texts(["a third part"], [{"source": "a.md"}])
        assert store.collection.count() == 4
        assert {one.metadata["source"] for one in store.get_by_ids(ids + more)} == {"a.md"}


def test_equal_texts_with_other_metadata_are_two_documents(store):
    ids = store.add_texts(["red fox"] * 3, [{"page": 1}, {"page": 2}, {"page": 1}])
    assert ids[0] == ids[2] != ids[1]
    assert sorted(one.metadata["page"] for one in store.similarity_search("fox")) == [1, 2]


def test_ids_are_any_strings_and_may_be_missing(store):
    ids = store.add_texts(TEXTS, ids=["1", None, "ein Schlüssel/ä"])
    assert (ids[0], ids[2]) == ("1", "ein Schlüssel/ä")
    assert contents(store.get_by_ids(ids)) == TEXTS
    assert store.add_texts([TEXTS[1]]) == [ids[1]]
    assert store.delete(["1", "not there"])
    assert contents(store.get_by_ids(ids)) == TEXTS[1:]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.add_texts(["a", "b"], ids=["x", "x"]), "`ids` holds 'x' twice"),
        (lambda s: s.add_documents([Document("a", id="x"), Document("b", id="x")]), "`ids` holds 'x' twice"),
        (lambda s: s.add_texts(["a", "b"], ids=["x"]), "there are 1 `ids` for 2 items"),
        (lambda s: s.add_texts(["a", "b"], [{}]), "there are 1 `metadatas` for 2 items"),
        (lambda s: s.add_images(["a.png"], captions=[]), "there are 0 `captions` for 1 items"),
        (lambda s: s.delete(), "`delete` takes either `ids`"),
        (lambda s: s.delete(ids=None), "`delete` takes either `ids`"),
        (lambda s: s.add_texts("a"), "`texts` is one string"),
        (lambda s: s.add_texts([b"a"]), "text 0 is a bytes; images go to `add_images`"),
        (lambda s: s.add_texts(["a"], {"n": 1}), "`metadatas` is one dict"),
        (lambda s: s.add_texts(["a", "b"], [{}, "n"]), "`metadatas` holds 'n'; an entry is a Mapping"),
        (lambda s: s.add_texts(["a"], task="coding"), "`task` is 'coding'"),
        (lambda s: s.add_blobs(Blob.from_data("a")), "`blobs` is one blob"),
        (lambda s: s.add_texts(["a"], ids="x"), "`ids` is one str; give a list"),
        (lambda s: s.add_texts(["a"], ids=[1]), "`ids` holds 1"),
        (lambda s: s.add_images("a.png"), "`uris` is one image"),
        (lambda s: s.add_pdfs("a.pdf"), "`paths` is one path"),
        (lambda s: s.add_documents(["a"]), "`documents` holds a str"),
        (lambda s: s.delete("x"), "as a list"),
        (lambda s: s.get_by_ids("x"), "as a list"),
    ],
)
def test_bad_calls_are_refused_before_anything_is_stored(folder, call, message):
    folder.add_texts(["kept"], ids=["x"])
    with pytest.raises((TypeError, ValueError), match=message):
        call(folder)
    assert folder.collection.count() == 1
    assert contents(folder.get_by_ids(["x"])) == ["kept"]


def test_what_cannot_be_stored_is_told_and_loses_nothing(folder):
    texts = ["good", "no\ud800text", "bad metadata", "good, too"]
    with pytest.raises(UnstoredItems, match="2 of 4 items were not stored") as caught:
        folder.add_texts(texts, [{}, {}, {"n": float("nan")}, {}], ids=["a", "b", "c", "d"])
    assert caught.value.ids == ["a", "d"]
    assert {failure.id for failure in caught.value.failures} == {"b", "c"}
    assert contents(folder.get_by_ids(["a", "b", "c", "d"])) == ["good", "good, too"]


def test_odd_metadata_stop_no_other_item(folder):
    circle = {}
    circle["n"] = circle
    given = [{1: 2, "a": 3}, circle, {"source": 5}, {"source": None}, {"n": {"deep": [1]}}]
    with pytest.raises(UnstoredItems, match="1 of 5") as caught:
        folder.add_texts(list("abcde"), given, batch_size=1)
    found = {one.page_content: one.metadata for one in folder.get_by_ids(caught.value.ids)}
    assert found == {"a": {"1": 2, "a": 3}, "c": {"source": 5}, "d": {}, "e": {"n": {"deep": [1]}}}


def test_items_with_numbers_as_ids_are_reached(store):
    store.collection.add(["a red fox"], ids=[5])
    (found,) = store.similarity_search("fox")
    assert found.id == "5"
    assert store.get_by_ids(["5"]) == asyncio.run(store.aget_by_ids(["5"])) == [found]
    assert store.delete(["5"])
    assert store.collection.count() == 0


def test_images_in_memory_are_told_apart_by_their_content(folder, pictures, report):
    parts = [
        Blob.from_data(path.read_bytes(), mime_type="image/png", path="report.docx", metadata={"source": "report.docx"})
        for path in pictures
    ]
    assert len(set(folder.add_images(parts[:2]))) == 2
    assert len(set(folder.add_blobs(parts))) == 3
    assert folder.collection.count() == 3
    found = folder.similarity_search_by_image(pictures[0], k=1)[0]
    assert found.metadata["source"] == "report.docx"
    assert "image_uri" not in found.metadata
    whole = Blob.from_data(pictures[1].read_bytes(), mime_type="Image/PNG; x=y", path=str(pictures[1]))
    (known,) = folder.add_blobs([whole])
    assert folder.get_by_ids([known])[0].metadata["image_uri"] == str(pictures[1])


def test_pdfs_in_memory_are_told_apart_by_their_content(folder, report, pictures):
    with Image.open(pictures[0]) as image:
        image.convert("RGB").save(report.parent / "other.pdf")
    blobs = [
        Blob(data=path.read_bytes(), mimetype="application/PDF", metadata={"source": "https://example.org/a.pdf"})
        for path in (report, report.parent / "other.pdf")
    ]
    ids = folder.add_blobs(blobs)
    assert len(set(ids)) == folder.collection.count() == 3
    assert folder.add_blobs(blobs) == ids
    assert all("image_uri" not in one.metadata for one in folder.get_by_ids(ids))


def test_formats_of_phones_and_broken_pictures(folder, pictures, tmp_path):
    with Image.open(pictures[0]) as one, Image.open(pictures[1]) as other:
        one.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[other])
    content = pictures[2].read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with Image.open(tmp_path / "cut.png") as lazy, pytest.raises(UnstoredItems, match="1 of 2") as caught:
        folder.add_images([lazy, tmp_path / "phone.jpg"])
    (found,) = folder.get_by_ids(caught.value.ids)
    assert found.metadata["mime_type"] == "image/jpeg"


def test_a_picture_is_hashed_once_and_a_pipe_is_never_read(folder, pictures, tmp_path, monkeypatch):
    reads, read_bytes = [], Path.read_bytes
    os.mkfifo(tmp_path / "pipe.png")
    monkeypatch.setattr(Path, "read_bytes", lambda path: (reads.append(path), read_bytes(path))[1])
    with pytest.raises(UnstoredItems, match="no regular file") as caught:
        folder.add_images([pictures[0], tmp_path / "pipe.png"])
    assert (len(caught.value.ids), reads) == (1, [pictures[0]])


def test_what_was_stored_is_told_even_if_a_twin_was_not(folder, pictures):
    with pytest.raises(UnstoredItems, match="1 of 2 items were not stored") as caught:
        folder.add_images([pictures[0], pictures[0]], captions=["a", "b"])
    assert len(caught.value.ids) == folder.collection.count() == 1


def test_a_thumbnail_is_kept_when_a_document_moves_on(folder, pictures):
    folder.add_images([pictures[0]], thumbnails=True)
    (found,) = folder.similarity_search_by_image(pictures[0], k=1)
    with PolyvecVectorStore.from_documents([found], folder.embeddings, location=":memory:") as other:
        assert other.get_by_ids([found.id])[0].metadata["thumbnail"] == found.metadata["thumbnail"]


def test_the_same_with_other_metadata_in_one_call_is_told(folder, pictures, report):
    with pytest.raises(UnstoredItems, match="is the same, with other metadata") as caught:
        folder.add_images([pictures[0]] * 3, [{"n": 1}, {"n": 2}, {"n": 1}])
    assert len(caught.value.failures) == 1
    with pytest.raises(UnstoredItems, match="2 of 4"):
        folder.add_pdfs([report, report], [{"n": 1}, {"n": 2}])
    blobs = [
        Blob.from_data(report.read_bytes(), mime_type="application/pdf", path="copy.pdf", metadata={"n": n})
        for n in range(2)
    ]
    assert len(set(folder.add_blobs(blobs))) == 4


def test_a_picture_is_found_from_any_working_directory(folder, pictures, report, monkeypatch, tmp_path):
    monkeypatch.chdir(pictures[0].parent)
    ids = [*folder.add_images(["page-0.png"]), *folder.add_pdfs(["report.pdf"])]
    assert ids == [*folder.add_images([pictures[0]]), *folder.add_pdfs([report])]
    assert folder.add_images(["./report.pdf#page=1", "report.pdf#page=2"]) == ids[1:]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(content_blocks(folder.documents())) == 6


def test_a_pdf_may_have_any_name(folder, report, tmp_path):
    (tmp_path / "2506.18902v1").write_bytes(report.read_bytes())
    folder.add_pdfs([tmp_path / "2506.18902v1"])
    assert len(content_blocks(folder.documents())) == 4
    for call in (folder.add_images, folder.embeddings.embed_images):
        with pytest.raises(ValueError, match="is a PDF: name a page"):
            call([report])


def test_a_crop_is_not_taken_for_the_whole(folder, pictures):
    crop = Blob.from_data(pictures[1].read_bytes(), mime_type="image/png", path=str(pictures[0]))
    (key,) = folder.add_blobs([crop])
    assert "image_uri" not in folder.get_by_ids([key])[0].metadata


def test_a_thumbnail_of_others_makes_no_image(folder):
    ids = folder.add_documents([Document("a page about foxes", metadata={"thumbnail": "https://example.org/a.jpg"})])
    assert folder.stored(ids)[0].kind == "text"


def test_only_numbers_as_they_are_written_are_ids_of_numbers(folder):
    folder.collection.add(["seven", "three"], ids=[7, 3])
    assert folder.get_by_ids(["007", "٣", "7.0"]) == []
    assert folder.delete(["007", "٣"])
    assert folder.collection.count() == 2


def test_documents_are_given_task_by_task(folder):
    folder.add_texts(["def fox(): ..."], ids=["a"], task="code")
    folder.add_texts(["a fox"], ids=["b"])
    assert [one.id for one in folder.documents(task="code")] == ["a"]
    assert sorted(one.id for one in folder.documents()) == ["a", "b"]


def test_code_is_a_text_whatever_its_type(folder, tmp_path):
    names = ["a.go", "a.rs", "Makefile", "a.yaml", "a.sql", "a.json"]
    for name in names:
        (tmp_path / name).write_text(f"fox in {name}", encoding="utf-8")
    assert len(folder.add_blobs([Blob.from_path(tmp_path / name) for name in names])) == len(names)


def test_a_hybrid_store_takes_images_vectors_and_wants_diversity(tmp_path, embeddings, pictures):
    with PolyvecVectorStore(embeddings, location=tmp_path, schema=Schema(bm25="english"), mode="hybrid") as store:
        store.add_texts(TEXTS)
        store.add_images(pictures[:1])
        assert contents(store.similarity_search("a blue whale", k=1)) == ["a blue whale"]
        with pytest.raises(ValueError, match="and not in mode 'hybrid'"):
            store.similarity_search_with_relevance_scores("a blue whale", k=1)
        assert contents(store.max_marginal_relevance_search("a blue whale", k=1)) == ["a blue whale"]
        assert contents(asyncio.run(store.amax_marginal_relevance_search("a blue whale", k=1))) == ["a blue whale"]
        with pytest.warns(UserWarning, match="a query has no words"):
            assert store.similarity_search_by_image(pictures[0], k=1)[0].metadata["image_uri"]
        assert contents(store.similarity_search_by_vector(embeddings.embed_query("a blue whale"), k=1)) == [TEXTS[1]]


def test_images_and_texts_are_found_together(store, pictures):
    (first, second, third) = store.add_images(
        [str(pictures[0]), pictures[1], pictures[2].read_bytes()],
        [{"source": "album"}, None, {"n": 3}],
        captions=["a red fox", None, None],
    )
    text = store.add_texts(["a blue whale"])[0]
    found = store.similarity_search_by_image(pictures[1], k=1)[0]
    assert found.id == second
    assert found.page_content == ""
    assert found.metadata == {
        "source": pictures[1].as_posix(),
        "image_uri": pictures[1].as_posix(),
        "image_sha256": found.metadata["image_sha256"],
        "mime_type": "image/png",
    }
    (one, other, text_found) = store.get_by_ids([first, third, text])
    assert (one.page_content, one.metadata["source"]) == ("a red fox", "album")
    assert one.metadata["image_uri"] == str(pictures[0])
    assert (other.page_content, other.metadata["n"]) == ("", 3)
    assert "image_uri" not in other.metadata
    assert "source" not in other.metadata
    assert text_found.metadata == {}
    for mode in MODES:
        assert store.similarity_search_by_image(str(pictures[0]), k=1, mode=mode)[0].id == first
    ((_, score),) = store.similarity_search_by_image_with_score(pictures[0], k=1, mode="dense")
    assert score == pytest.approx(1, abs=2e-3)
    assert contents(store.similarity_search("whale", k=1)) == ["a blue whale"]


def test_no_picture_is_kept_unless_asked_for(folder, pictures):
    folder.add_images([pictures[0].read_bytes()])
    folder.add_images([pictures[1]], thumbnails=True)
    payloads = [record.payload for record in folder.collection.client.scroll("docs", limit=10)[0]]
    sizes = sorted(len(json.dumps(payload)) for payload in payloads)
    assert sizes[0] < 800
    (thumbnail,) = [own["thumbnail"] for one in payloads if "thumbnail" in (own := one["_polyvec"]["picture"])]
    head, data = thumbnail.split(",")
    assert head == "data:image/jpeg;base64"
    assert base64.b64decode(data).startswith(b"\xff\xd8")
    assert all("base64" not in payload["page_content"] for payload in payloads)


def test_a_changed_image_takes_the_place_of_the_old_one(folder, pictures):
    ids = folder.add_images(pictures[:1])
    assert folder.add_images([pictures[0].as_uri()], [{"n": 1}]) == ids
    assert folder.get_by_ids(ids)[0].metadata["n"] == 1
    pictures[0].write_bytes(pictures[1].read_bytes())
    assert folder.add_images(pictures[:1]) == ids
    assert folder.collection.count() == 1
    ((_, score),) = folder.similarity_search_by_image_with_score(pictures[1], k=1, mode="dense")
    assert score == pytest.approx(1, abs=2e-3)


def test_an_unreadable_image_does_not_lose_the_others(folder, pictures, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    given = [pictures[0], tmp_path / "broken.png", "https://example.org/a.png", 3, tmp_path / "gone.png", pictures[1]]
    with pytest.raises(UnstoredItems, match="4 of 6 items were not stored") as caught:
        folder.add_images(given)
    assert len(caught.value.ids) == 2
    assert folder.collection.count() == 2
    reasons = {failure.source: failure.reason for failure in caught.value.failures}
    assert "cannot be read as an image" in reasons[str(tmp_path / "broken.png")]
    assert "not fetched" in reasons["https://example.org/a.png"]
    assert "is no image" in reasons["a int"]


def test_a_document_with_an_image_uri_is_an_image(folder, pictures):
    documents = [
        Document("what it says", metadata={"image_uri": str(pictures[0]), "n": 1}),
        Document("", metadata={"image_uri": "gone.png"}),
        Document("a text"),
    ]
    with pytest.raises(UnstoredItems, match="1 of 3") as caught:
        folder.add_documents(documents)
    found = folder.similarity_search_by_image(pictures[0], k=1)[0]
    assert (found.page_content, found.metadata["n"]) == ("what it says", 1)
    assert len(caught.value.ids) == 2
    # what comes out can go into another store
    with PolyvecVectorStore.from_documents([found], folder.embeddings, location=":memory:") as other:
        assert other.get_by_ids([found.id]) == [found]


def test_pages_of_pdfs_are_images_with_their_text(folder, report):
    ids = folder.add_pdfs([report], [{"lang": "en"}])
    assert len(ids) == 2
    found = folder.similarity_search_by_image(f"{report}#page=2", k=1)[0]
    assert found.id == ids[1]
    assert found.metadata == {
        "source": report.as_posix(),
        "lang": "en",
        "page": 1,
        "page_label": "2",
        "image_uri": f"{report}#page=2",
        "image_sha256": found.metadata["image_sha256"],
        "unit": "page 2",
    }
    assert folder.add_pdfs([report], [{"lang": "en"}]) == ids
    assert folder.collection.count() == 2
    assert folder.similarity_search("a", k=4, filter={"source": str(report), "page": {"$gte": 1}})[0].id == ids[1]


def test_pages_of_a_tiff_are_images(folder, scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ids = folder.add_images(["scan.tif"], [{"lang": "en"}])
    assert folder.add_images([f"{scan}#page={number}" for number in (1, 2, 3)], [{"lang": "en"}] * 3) == ids
    assert folder.add_blobs([Blob.from_path(scan, metadata={"lang": "en"})]) == ids
    second = folder.get_by_ids([ids[1]])[0]
    assert second.metadata.items() >= {
        "lang": "en", "source": str(scan), "page": 1, "page_label": "2", "unit": "page 2",
        "image_uri": f"{scan.as_posix()}#page=2",
    }.items()  # fmt: skip
    (best,) = folder.similarity_search_by_image(Image.new("RGB", (56, 56), "lime"), k=1)
    assert best.id == second.id
    in_memory = folder.add_blobs([Blob.from_data(scan.read_bytes(), mime_type="image/tiff")])
    assert len({*in_memory, *ids}) == 6
    assert folder.add_images([scan], ids=["scan"]) == ["scan#page=1", "scan#page=2", "scan#page=3"]


@pytest.mark.parametrize("error", [TimeoutError, ArithmeticError])
def test_the_end_of_the_callers_time_is_no_fault_of_an_image(folder, pictures, monkeypatch, error):
    def alarm(*_):
        raise error("of a signal handler")

    monkeypatch.setattr(Path, "read_bytes", alarm)
    with pytest.raises(error, match="of a signal handler"):
        folder.add_images(pictures)


def test_a_bad_page_of_a_tiff_loses_no_other(folder, torn_scan):
    with pytest.raises(UnstoredItems, match=r"1 of 3 items were not stored.*scan\.tif: page 2: it") as caught:
        folder.add_images([torn_scan])
    labels = [one.metadata["page_label"] for one in folder.get_by_ids(caught.value.ids)]
    assert labels == ["1", "3"]
    (first,) = folder.add_documents([Document("", metadata={"image_uri": f"{torn_scan}#page=1"})])
    assert first == caught.value.ids[0]


def test_a_broken_pdf_does_not_lose_the_others(folder, report, tmp_path):
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 no more")
    with pytest.raises(UnstoredItems, match=r"broken\.pdf") as caught:
        folder.add_pdfs([tmp_path / "broken.pdf", report, tmp_path / "gone.pdf"])
    assert len(caught.value.failures) == 2
    assert len(caught.value.ids) == folder.collection.count() == 2


def test_blobs_are_images_pdfs_and_texts(folder, pictures, report, tmp_path):
    (tmp_path / "a.txt").write_text("a red fox", encoding="utf-8")
    blobs = [
        Blob.from_path(pictures[0]),
        Blob.from_path(report),
        Blob.from_path(tmp_path / "a.txt", metadata={"lang": "en"}),
        Blob.from_data("a blue whale", path="whale"),
        Blob.from_data(report.read_bytes(), mime_type="application/pdf", path="copy.pdf"),
        Blob.from_data(b"\0", mime_type="application/zip", path="a.zip"),
        Blob.from_path(tmp_path / "gone.txt"),
    ]
    with pytest.raises(UnstoredItems, match="its type is application/zip") as caught:
        folder.add_blobs(blobs)
    assert len(caught.value.ids) == folder.collection.count() == 7
    assert {failure.source for failure in caught.value.failures} == {"a.zip", str(tmp_path / "gone.txt")}
    found = folder.similarity_search("red fox", k=1)[0]
    assert found.metadata == {"lang": "en", "source": str(tmp_path / "a.txt")}
    assert "copy.pdf" in folder.collection.sources()


def test_tasks_are_spaces_of_their_own(folder):
    folder.add_texts(["def fox(): ..."], task="code")
    folder.add_texts(["a fox"])
    assert contents(folder.similarity_search("fox")) == ["a fox"]
    assert contents(folder.similarity_search("fox", task="code")) == ["def fox(): ..."]
    both = folder.similarity_search("fox", task=["retrieval", "code"])
    assert sorted(contents(both)) == ["a fox", "def fox(): ..."]
    code = PolyvecVectorStore(
        folder.embeddings.with_task("code"), location=folder.collection.client, collection_name="docs"
    )
    assert contents(code.similarity_search("fox")) == ["def fox(): ..."]


def test_async_gives_the_same(store, pictures):
    async def scenario():
        ids = await store.aadd_texts(TEXTS, [{"n": n} for n in range(3)])
        ids += await store.aadd_documents([Document("another fox", id="x")])
        ids += await store.aadd_images(pictures[:1])
        vector = store.embeddings.embed_query("red fox")
        assert await store.asimilarity_search("red fox", k=2) == store.similarity_search("red fox", k=2)
        assert await store.asimilarity_search_with_score("red fox") == store.similarity_search_with_score("red fox")
        assert await store.asimilarity_search_by_vector(vector) == store.similarity_search_by_vector(vector)
        assert await store.asimilarity_search_with_relevance_scores("fox") == (
            store.similarity_search_with_relevance_scores("fox")
        )
        assert await store.asimilarity_search_by_image(pictures[0]) == store.similarity_search_by_image(pictures[0])
        assert await store.amax_marginal_relevance_search("fox") == store.max_marginal_relevance_search("fox")
        assert await store.amax_marginal_relevance_search_by_vector(vector) == (
            store.max_marginal_relevance_search_by_vector(vector)
        )
        assert await store.asimilarity_search_with_score_by_vector(vector) == (
            store.similarity_search_with_score_by_vector(vector)
        )
        assert await store.asimilarity_search_by_image_with_score(pictures[0]) == (
            store.similarity_search_by_image_with_score(pictures[0])
        )
        assert await store.aget_by_ids(ids) == store.get_by_ids(ids)
        assert await store.adelete(ids[:1])
        assert len(await store.aget_by_ids(ids)) == 4
        found = await asyncio.gather(*(store.asimilarity_search(text, k=1) for text in TEXTS[1:] * 8))
        assert [contents(one) for one in found] == [[text] for text in TEXTS[1:] * 8]

    asyncio.run(scenario())


def test_async_blobs_and_pdfs(folder, report):
    async def scenario():
        ids = await folder.aadd_pdfs([report])
        assert await folder.aadd_blobs([Blob.from_path(report)]) == ids
        await folder.aclose()

    asyncio.run(scenario())


def test_a_store_is_an_asynchronous_context(tmp_path, embeddings):
    async def scenario():
        async with PolyvecVectorStore(embeddings, location=tmp_path) as store:
            await store.aadd_texts(["a"])
            return await store.asimilarity_search("a")

    assert contents(asyncio.run(scenario())) == ["a"]
    PolyvecVectorStore(embeddings, location=tmp_path).close()


def test_a_store_is_made_from_texts_documents_and_images(tmp_path, embeddings, pictures):
    how = {"location": tmp_path / "index", "collection_name": "docs"}
    with PolyvecVectorStore.from_texts(TEXTS, embeddings, [{"n": 1}] * 3, ids=["a", "b", "c"], **how) as store:
        assert contents(store.get_by_ids(["a", "b", "c"])) == TEXTS
    with PolyvecVectorStore.from_documents([Document("one more", id="d")], embeddings, **how) as store:
        assert store.collection.count() == 4
    with PolyvecVectorStore.from_images(pictures, embeddings, ids=["p", "q", "r"], **how) as store:
        assert store.similarity_search_by_image(pictures[2], k=1)[0].id == "r"
    with asyncio.run(PolyvecVectorStore.afrom_texts(["async"], embeddings, **how)) as store:
        assert store.collection.count() == 8
    with asyncio.run(PolyvecVectorStore.afrom_images(pictures, embeddings, ids=["p", "q", "r"], **how)) as store:
        assert store.collection.count() == 8
    with asyncio.run(PolyvecVectorStore.afrom_documents([Document("async")], embeddings, **how)) as store:
        assert store.collection.count() == 8
    with PolyvecVectorStore.from_existing_collection(embeddings, **how) as store:
        assert store.collection.count() == 8


def test_a_failed_start_releases_the_folder_and_keeps_the_rest(tmp_path, embeddings, pictures):
    with pytest.raises(UnstoredItems):
        PolyvecVectorStore.from_images([pictures[0], "gone.png"], embeddings, location=tmp_path)
    for wrong in ({"mode": "fast"}, {"collection": "docs"}):
        with pytest.raises((TypeError, ValueError)):
            PolyvecVectorStore.from_texts(["a"], embeddings, location=tmp_path, **wrong)
    with PolyvecVectorStore(embeddings, location=tmp_path) as store:
        assert store.collection.count() == 1


def test_what_is_not_there_is_not_created(tmp_path, embeddings):
    with pytest.raises(ValueError, match="there is no folder"):
        PolyvecVectorStore.from_existing_collection(embeddings, location=tmp_path / "index")
    assert not (tmp_path / "index").exists()
    PolyvecVectorStore(embeddings, location=tmp_path / "index", collection_name="docs").close()
    with pytest.raises(ValueError, match="there is no collection 'other'"):
        PolyvecVectorStore.from_existing_collection(embeddings, location=tmp_path / "index", collection_name="other")
    PolyvecVectorStore(embeddings, location=tmp_path / "index", collection_name="docs").close()


def test_another_models_collection_is_refused_and_harmed_by_nothing(tmp_path, embeddings):
    with PolyvecVectorStore.from_texts(TEXTS, embeddings, location=tmp_path):
        pass
    others = [
        PolyvecEmbeddings(client=HashEncoder(dim=64, multivector_dim=32, name="other")),
        PolyvecEmbeddings(client=HashEncoder(dim=64, multivector_dim=32), dimensions=8),
        DeterministicFakeEmbedding(size=64),
    ]
    for other in others:
        with pytest.raises(FingerprintError, match="cannot be compared"):
            PolyvecVectorStore(other, location=tmp_path)
        with pytest.raises(FingerprintError, match="cannot be compared"):
            PolyvecVectorStore.from_existing_collection(other, location=tmp_path)
    with pytest.raises(FingerprintError, match="with dimensions=64"):
        PolyvecVectorStore(others[1], location=tmp_path)
    with PolyvecVectorStore(embeddings, location=tmp_path) as store:
        assert store.collection.count() == 3


def test_stores_share_a_folder(folder, embeddings, tmp_path):
    with PolyvecVectorStore(embeddings, location=tmp_path / "index", collection_name="third") as third:
        third.add_texts(["b"])
    other = PolyvecVectorStore(embeddings, location=folder.collection.client, collection_name="other")
    other.add_texts(["a"])
    other.close()
    assert folder.similarity_search("a") == []


def test_any_embeddings_have_texts_in_mode_dense(tmp_path, pictures):
    plain = DeterministicFakeEmbedding(size=6)
    with PolyvecVectorStore(plain, location=tmp_path) as store:
        ids = store.add_texts(TEXTS)
        assert store.mode == "dense"
        assert contents(store.similarity_search("a blue whale", k=1)) == ["a blue whale"]
        assert contents(store.max_marginal_relevance_search("a blue whale", k=1)) == ["a blue whale"]
        for mode in ("late", "two-stage"):
            with pytest.raises(ValueError, match="this embedder makes none"):
                store.similarity_search("a", mode=mode)
        with pytest.raises(UnstoredItems, match="DeterministicFakeEmbedding embeds texts only"):
            store.add_images(pictures)
        with pytest.raises(ValueError, match="embeds texts only"):
            store.similarity_search_by_image(pictures[0])
        assert store.collection.count() == len(ids)
        mixed = [Document("one"), Document("", metadata={"image_uri": str(pictures[0])}), Document("two")]
        with pytest.raises(UnstoredItems, match="1 of 3") as caught:
            store.add_documents(mixed, batch_size=1)
        assert contents(store.get_by_ids(caught.value.ids)) == ["one", "two"]
    with pytest.raises(ValueError, match="`mode` is 'late'; it must be one of 'dense'"):
        PolyvecVectorStore(plain, location=tmp_path, mode="late")
    with pytest.raises(TypeError, match="`embedding` is a HashEncoder"):
        PolyvecVectorStore(HashEncoder(), location=tmp_path)


def test_plain_embeddings_are_told_apart_as_far_as_can_be():
    class Named(DeterministicFakeEmbedding):
        model: str = "a"

    marks = [DenseEncoder(one).fingerprint for one in (Named(size=6), Named(size=6, model="b"), Named(size=7))]
    assert len({*marks, DenseEncoder(DeterministicFakeEmbedding(size=6)).fingerprint}) == 4
    assert DenseEncoder(Named(size=6)).encode_query(["a"], task="retrieval").fingerprint == marks[0]


def test_a_cache_does_not_hide_the_task_or_the_model(tmp_path):
    def cached(name, task):
        inner = PolyvecEmbeddings(client=HashEncoder(name=name), task=task)
        return CacheBackedEmbeddings.from_bytes_store(
            inner, InMemoryByteStore(), namespace=inner.cache_namespace, key_encoder="sha256"
        )

    with PolyvecVectorStore.from_texts(TEXTS, cached("a", "code"), location=tmp_path) as store:
        assert (store.mode, store.task) == ("dense", "code")
        assert contents(store.similarity_search("a blue whale", k=1)) == ["a blue whale"]
    for name, task in (("b", "code"), ("a", "retrieval")):
        with pytest.raises(FingerprintError):
            PolyvecVectorStore(cached(name, task), location=tmp_path)
    for made_with, opened_with, message in (
        (cached("c", "code"), PolyvecEmbeddings(client=HashEncoder(name="c"), task="code"), "was made with a cache"),
        (
            PolyvecEmbeddings(client=HashEncoder(name="d")),
            cached("d", "retrieval"),
            "CacheBackedEmbeddings keeps dense",
        ),
    ):
        PolyvecVectorStore(made_with, location=tmp_path / message).close()
        with pytest.raises(FingerprintError, match=message):
            PolyvecVectorStore(opened_with, location=tmp_path / message)
    twice = CacheBackedEmbeddings.from_bytes_store(
        cached("a", "code"), InMemoryByteStore(), namespace="twice", key_encoder="sha256"
    )
    store = PolyvecVectorStore(twice, location=tmp_path)
    with store, pytest.raises(ValueError, match="`task` is 'retrieval'; this model knows 'code'"):
        store.add_texts(["a"], task="retrieval")


def test_shorter_vectors_are_stored(tmp_path):
    embeddings = PolyvecEmbeddings(model="demo", dimensions=128)
    with PolyvecVectorStore.from_texts(TEXTS, embeddings, location=tmp_path) as store:
        assert store.collection.schema == Schema()
        config = store.collection.client.get_collection("langchain").config
        assert config.params.vectors["dense"].size == 128
        assert contents(store.max_marginal_relevance_search("a blue whale", k=1)) == ["a blue whale"]
        assert contents(store.similarity_search_by_vector(embeddings.embed_query("a blue whale"), k=1)) == [TEXTS[1]]


def test_what_the_command_line_has_indexed_is_read(tmp_path, report, pictures):
    embedder = Embedder.from_pretrained("demo")
    with Collection.open(tmp_path / "index", "docs", embedder=embedder) as docs:
        from qdrant_polyvec import Item

        docs.add(
            [
                Item("some text", source="a.md", unit="L1-9"),
                Item(pictures[0], source=pictures[0].as_posix(), unit="image"),
                Item(Image.new("RGB", (56, 56)), source=str(report), unit="page 2", text="what it says"),
            ],
        )
    with PolyvecVectorStore.from_existing_collection(
        PolyvecEmbeddings(model="demo"), location=tmp_path / "index", collection_name="docs"
    ) as store:
        found = {one.metadata["unit"]: one for one in store.similarity_search("text", k=3)}
    assert found["L1-9"].metadata == {"source": "a.md", "unit": "L1-9"}
    assert found["image"].metadata["image_uri"] == pictures[0].as_posix()
    assert (found["page 2"].page_content, found["page 2"].metadata["image_uri"]) == ("what it says", f"{report}#page=2")


def test_a_document_of_a_lost_image_is_not_taken_for_a_text(folder, pictures):
    folder.add_images([pictures[0].read_bytes()])
    (found,) = folder.similarity_search("x")
    with pytest.raises(UnstoredItems, match="is not kept"):
        PolyvecVectorStore.from_documents([found], folder.embeddings, location=":memory:")


def test_a_mode_that_cannot_be_is_told_before_anything_is_made(tmp_path, embeddings):
    with pytest.raises(ValueError, match="`mode` is 'fast'"):
        PolyvecVectorStore(embeddings, location=tmp_path / "index", mode="fast")
    assert not (tmp_path / "index").exists()
    for _ in range(2):  # the folder is released
        with pytest.raises(ValueError, match="needs a collection with Schema"):
            PolyvecVectorStore(embeddings, location=tmp_path / "index", mode="hybrid")


def test_diverse_documents_are_chosen_among_tenants_too(tmp_path, embeddings):
    client = open_client(tmp_path)
    ann = PolyvecVectorStore(embeddings, location=client, tenant="ann")
    ann.add_texts(["a red fox"], ids=["1"])
    assert contents(ann.max_marginal_relevance_search("fox")) == ["a red fox"]
    whole = PolyvecVectorStore(embeddings, location=client)
    assert contents(whole.similarity_search("fox")) == ["a red fox"]
    assert contents(whole.max_marginal_relevance_search("fox")) == ["a red fox"]
    client.close()


def test_a_tenant_sees_its_own(tmp_path, embeddings):
    client = open_client(tmp_path)
    ann, bob = (PolyvecVectorStore(embeddings, location=client, tenant=name) for name in ("ann", "bob"))
    ann.add_texts(["a red fox"], ids=["1"])
    bob.add_texts(["a blue whale"], ids=["1"])
    assert contents(ann.similarity_search("whale")) == ["a red fox"]
    assert contents(bob.get_by_ids(["1"])) == ["a blue whale"]
    client.close()
