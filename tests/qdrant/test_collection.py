import asyncio
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from qdrant_client import models

from polyvec.pictures import Picture
from polyvec.scoring import cosine, maxsim
from polyvec.testing import HashEncoder
from polyvec.types import Embeddings, Grid
from qdrant_polyvec import (
    Collection,
    Failure,
    FingerprintError,
    Item,
    Schema,
    SchemaError,
    Stored,
    limits,
    open_client,
)
from qdrant_polyvec.items import content_hash

TEXTS = ["the red fox", "a blue whale", "red whale and fox"]


class Counting(HashEncoder):
    """Remembers which documents it was asked to encode."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.encoded = []

    def encode_document(self, inputs, **options):
        self.encoded += inputs
        return super().encode_document(inputs, **options)


@pytest.fixture
def embedder():
    return Counting(dim=16, multivector_dim=8)


@pytest.fixture(scope="module", params=["edge", "memory"])
def shared(request, tmp_path_factory):
    location = tmp_path_factory.mktemp("index") if request.param == "edge" else ":memory:"
    with Collection.open(location, "docs", embedder=Counting(dim=16, multivector_dim=8)) as docs:
        yield docs


@pytest.fixture
def docs(shared, embedder):
    """An empty collection in a folder and one in memory, the same for all tests."""
    shared.client.delete("docs", models.Filter())
    encode_with(shared, embedder)
    return shared


def encode_with(docs, embedder):
    docs._bind(replace(docs._binding, embedder=embedder))


@pytest.fixture
def memory(embedder):
    with Collection.open(":memory:", "docs", embedder=embedder) as docs:
        yield docs


@pytest.fixture
def page(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (56, 84, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "page.png")
    return tmp_path / "page.png"


def stored(docs, identity):
    return docs.client.retrieve("docs", [identity])[0].payload


def test_scores_are_those_of_the_embeddings(docs, embedder):
    docs.add(TEXTS)
    documents = embedder.encode_document(TEXTS, task="retrieval", multivector=True)
    query = embedder.encode_query(["red fox"], task="retrieval", multivector=True)
    by_mode = {
        "dense": cosine(query.dense, documents.dense)[0],
        "late": maxsim(query.multivector, documents.multivector)[0],
        "two-stage": maxsim(query.multivector, documents.multivector)[0],
    }
    for mode, scores in by_mode.items():
        hits = docs.search("red fox", mode=mode)
        wanted = dict(zip(TEXTS, scores.tolist(), strict=True))
        assert {hit.content: hit.score for hit in hits} == pytest.approx(wanted, abs=3e-3)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_two_stages_re_rank_only_the_candidates(docs):
    # Many words turn the dense vector away, but each word of the query is found among them.
    long = "a red dog met one fox near that old mill by four tall trees"
    docs.add(["fox", long])
    assert docs.search("red fox", mode="dense", limit=1)[0].content == "fox"
    assert docs.search("red fox", mode="two-stage", limit=1, candidates=1)[0].content == "fox"
    assert docs.search("red fox", mode="two-stage", limit=1, candidates=2)[0].content == long
    assert docs.search("red fox", mode="late", limit=1)[0].content == long


def test_a_hit_tells_what_was_stored(docs, page):
    report = docs.add(
        [Item("some text", source="a.md", unit="L1-2"), Item(page, source="b.png", unit="image")],
        ids=["first", 7],
        metadatas=[{"page": 3, "tags": ["x", None]}, None],
    )
    assert report.ok == ["first", 7]
    text, image = sorted(docs.search("some text"), key=lambda hit: hit.kind, reverse=True)
    assert (text.id, text.content, text.source, text.unit, text.kind, text.task) == (
        "first", "some text", "a.md", "L1-2", "text", "retrieval",
    )  # fmt: skip
    assert text.metadata == {"page": 3, "tags": ["x", None], "source": "a.md"}
    assert (image.id, image.content, image.source, image.kind) == (7, "b.png", "b.png", "image")


def test_the_payload_is_what_stock_integrations_read(docs, page, embedder):
    docs.add([page], ids=[1], metadatas=[{"page": 3}])
    payload = stored(docs, 1)
    assert set(payload) == {"page_content", "metadata", "_polyvec"}
    assert payload["page_content"] == page.as_posix()
    assert payload["metadata"] == {"page": 3, "source": page.as_posix()}
    own = payload["_polyvec"]
    digest = own.pop("content_hash")
    assert len(digest) == 64
    assert own == {
        "fingerprint": embedder.fingerprint,
        "kind": "image",
        "task": "retrieval",
        "unit": "",
        "n_tokens": 6,
        "grid": [2, 3, 0],
        "picture": {"uri": page.as_posix(), "sha256": digest, "mime_type": "image/png"},
    }


def test_an_image_is_found_by_itself(docs, page):
    docs.add([page, *TEXTS])
    (hit,) = docs.search(page, limit=1)
    assert hit.source == page.as_posix()
    assert hit.score == pytest.approx(6, abs=1e-2)  # 6 tiles, each with similarity 1


def test_tasks_are_searched_apart(docs):
    docs.add(["red fox"], task="retrieval")
    docs.add(["red fox", "blue whale"], task="code")
    assert docs.count() == 3
    assert [hit.task for hit in docs.search("red fox", task="code")] == ["code", "code"]
    with pytest.warns(UserWarning, match="items of the tasks 'retrieval', 'code', none of the task 'text-matching'"):
        assert docs.search("red fox", task="text-matching") == []


def test_a_search_that_filters_find_nothing_for_is_no_reason_to_warn(docs):
    docs.add(["red fox"], task="code")
    nothing = models.Filter(must=[models.HasIdCondition(has_id=[])])
    assert docs.search("red fox", task="code", filter=nothing) == []
    with pytest.warns(UserWarning, match="none of the task 'retrieval'"):
        assert docs.search_groups("red fox") == []


def test_a_filter_holds_in_every_mode(docs):
    docs.add(TEXTS, metadatas=[{"n": n} for n in range(3)])
    later = models.Filter(must=[models.FieldCondition(key="metadata.n", range=models.Range(gte=1))])
    for mode in ("dense", "late", "two-stage"):
        assert {hit.content for hit in docs.search("the red fox", mode=mode, filter=later)} == set(TEXTS[1:])


def test_reopening_finds_the_same(tmp_path, embedder):
    with Collection.open(tmp_path, "docs", embedder=embedder) as docs:
        docs.add(TEXTS)
        before = docs.search("the red fox")
    with Collection.open(str(tmp_path), "docs", embedder=embedder) as docs:
        assert docs.search("the red fox") == before


def test_unchanged_content_is_not_encoded_again(docs, embedder):
    first = docs.add(TEXTS)
    again = docs.add([*TEXTS, "new"])
    assert again.skipped == first.ok
    assert embedder.encoded == [*TEXTS, "new"]
    assert docs.count() == 4


def test_changed_content_replaces_the_old(docs, embedder):
    docs.add(["red fox"], ids=["a"])
    assert docs.add(["blue whale"], ids=["a"]).ok == ["a"]
    assert [hit.content for hit in docs.search("blue whale")] == ["blue whale"]


def test_changed_metadata_is_stored_without_encoding(docs, embedder):
    docs.add(["red fox"], ids=["a"], metadatas=[{"n": 1}])
    before = docs.embeddings(["a"], multivector=True)["a"].multivector[0]
    assert docs.add(["red fox"], ids=["a"], metadatas=[{"n": 2}]).ok == ["a"]
    assert docs.search("red fox")[0].metadata["n"] == 2
    assert np.array_equal(docs.embeddings(["a"], multivector=True)["a"].multivector[0], before)
    assert embedder.encoded == ["red fox"]


def test_no_item_takes_over_the_id_of_another_task(docs, embedder):
    docs.add(["red fox"], ids=["a"])
    (failure,) = docs.add(["red fox"], ids=["a"], task="code").failed
    assert failure.id == "a"
    assert "its id is that of an item of the task 'retrieval'" in failure.reason
    assert len(embedder.encoded) == 1
    assert [hit.id for hit in docs.search("red fox")] == ["a"]
    docs.delete(ids=["a"])
    assert docs.add(["red fox"], ids=["a"], task="code").ok == ["a"]


def test_duplicates_in_one_call_are_stored_once(memory, embedder):
    report = memory.add(["red", "blue", "red"], batch_size=2)
    assert (len(report.ok), len(report.skipped), embedder.encoded) == (2, 1, ["red", "blue"])


def test_one_id_with_two_contents_in_one_call_is_reported(memory):
    report = memory.add(["red", "blue"], ids=["a", "a"], batch_size=1)
    assert report.ok == ["a"]
    assert [(failure.id, "same id" in failure.reason) for failure in report.failed] == [("a", True)]
    assert memory.search("red")[0].content == "red"


def test_unreadable_items_are_reported_and_the_others_stored(docs, page, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(page.read_bytes()[:100])
    gone = tmp_path / "no.png"
    report = docs.add(["red", broken, gone, page, b"junk"], batch_size=3)
    assert docs.count() == len(report.ok) == 2
    assert [failure.source for failure in report.failed[:2]] == [gone.as_posix(), broken.as_posix()]
    assert len(report.failed) == 3
    assert report.failed[0].reason == "cannot be read: No such file or directory"
    assert all(isinstance(failure, Failure) and failure.reason for failure in report.failed)


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        (lambda rows: rows * math.nan, "NaN"),
        (lambda rows: rows * math.inf, "infinity"),
        (lambda rows: rows * 0, "zero vector"),
        (lambda rows: rows[:0], "empty"),
    ],
)
def test_an_item_with_unfit_vectors_is_reported_and_the_others_stored(memory, embedder, flaw, message):
    class Flawed(Counting):
        def encode_document(self, inputs, **how):
            good = super().encode_document(inputs, **how)
            late = (good.multivector[0], flaw(good.multivector[1]).astype(np.float32), good.multivector[2])
            return Embeddings(good.dense, late, good.grids)

    encode_with(memory, Flawed(dim=16, multivector_dim=8))
    report = memory.add(TEXTS, ids=["a", "b", "c"])
    assert report.ok == ["a", "c"]
    assert [failure.id for failure in report.failed] == ["b"]
    assert message in report.failed[0].reason


def test_nothing_to_add_is_an_empty_report(memory):
    report = memory.add([])
    assert (report.ok, report.skipped, report.failed) == ([], [], [])


@pytest.mark.parametrize("inputs", ["a text", b"bytes", Path("page.png"), Image.new("RGB", (2, 2)), {"a", "b"}])
def test_inputs_must_be_a_list(memory, inputs):
    with pytest.raises(TypeError, match="list"):
        memory.add(inputs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "search"}, "'retrieval', 'text-matching', 'code'"),
        ({"ids": ["a"]}, "`ids` must be a list with one entry for each of the 2 inputs"),
        ({"ids": iter("ab")}, "`ids` must be a list"),
        ({"metadatas": "ab"}, "`metadatas` must be a list"),
        ({"ids": ["a", -1]}, "item 1: -1 is not an id"),
        ({"metadatas": [None, {"a": {1j: 2, "1j": 3}}]}, r"item 1: metadata\['a'\] has several keys that are '1j'"),
        ({"metadatas": [{"a": math.nan}, None]}, r"item 0: metadata\['a'\] is nan"),
        ({"batch_size": 0}, "`batch_size` is 0"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_stored(memory, embedder, arguments, message):
    with pytest.raises(ValueError, match=message):
        memory.add(["red", "blue"], **arguments)
    assert memory.count() == 0
    assert embedder.encoded == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "fast"}, "'dense', 'late', 'two-stage'"),
        ({"task": "search"}, "'retrieval', 'text-matching', 'code'"),
        ({"limit": 0}, "`limit` is 0"),
        ({"limit": 5, "candidates": 4}, "`candidates` is 4; it must be at least the number"),
    ],
)
def test_wrong_searches_are_refused_before_anything_is_encoded(memory, arguments, message):
    class Never(HashEncoder):
        def encode_query(self, inputs, **how):
            raise AssertionError(inputs)

    encode_with(memory, Never(dim=16, multivector_dim=8))
    with pytest.raises(ValueError, match=message):
        memory.search("red", **arguments)


@pytest.mark.parametrize("mode", ["dense", "late", "two-stage"])
def test_a_list_of_items_is_ranked_anew(docs, mode, monkeypatch):
    monkeypatch.setattr("qdrant_polyvec.search.SMALL", 0)
    docs.add([*TEXTS, *(f"red fox {n}" for n in range(9))], ids=["a", "b", 3, *(f"other {n}" for n in range(9))])
    exact = docs.search("red fox", mode="late" if mode == "two-stage" else mode, limit=12)
    ids = ["b", 3, "missing", "a", "other 7", "a"]
    wanted = {hit.id: pytest.approx(hit.score) for hit in exact if hit.id in ids}
    found = docs.search("red fox", ids=ids, mode=mode)
    assert {hit.id: hit.score for hit in found} == wanted
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    assert [hit.score for hit in docs.search("red fox", ids=ids, mode=mode, limit=2)] == [
        hit.score for hit in found[:2]
    ]
    assert docs.search("red fox", ids=[], mode=mode) == docs.search("red fox", ids=["missing"], mode=mode) == []
    assert docs.explain("red fox", ids=ids, mode=mode).prefetch is None  # every item is scored
    assert len(docs.search("red fox", ids=[hit.id for hit in exact], mode=mode)) == 12  # more than `limit` by default

    async def again():
        found = await docs.asearch("red fox", ids=ids, mode=mode)
        (group,) = await docs.asearch_groups("red fox", ids=ids, mode=mode, group_by="_polyvec.kind", group_size=9)
        await docs._binding.aclients.aclose()
        return found, group.hits

    for found in asyncio.run(again()):
        assert {hit.id: hit.score for hit in found} == wanted


def test_a_list_of_items_is_a_tenants_own(embedder):
    client = open_client(":memory:")
    for tenant in ("ann", "bob"):
        docs = Collection.open(client, "docs", embedder=embedder, tenant=tenant)
        docs.add([f"fox of {tenant}", "whale"], ids=["x", f"only {tenant}"])
    (hit,) = docs.search("fox", ids=["x", "only ann"])
    assert (hit.id, hit.content) == ("x", "fox of bob")


def test_an_unreadable_query_is_refused(memory):
    with pytest.raises(ValueError, match="does not exist"):
        memory.search(Path("no.png"))
    with pytest.raises(TypeError, match="one text or image"):
        memory.search(["red"])


def test_items_without_units_are_numbered_within_their_source(memory):
    memory.add([Item("one", source="book"), Item("two", source="book")])
    memory.add(["three"], metadatas=[{"source": "book"}])
    assert memory.count() == 2
    assert {hit.content: hit.unit for hit in memory.search("one")} == {"three": "0", "two": "1"}


def test_deleting_by_source_or_id_tells_how_many(docs):
    parts = zip("abcd", "xxyz", strict=True)
    docs.add([Item(text, source=source) for text, source in parts], ids=["1", "2", "3", "4"])
    docs.add([Item("a", source="x", id="5")], task="code")
    assert docs.delete(sources=["x"], task="retrieval", keep=["2"]) == 1
    assert docs.delete(ids=["3", "nil"]) == 1
    assert docs.delete(sources=["x", "nil"]) == 2
    assert docs.delete(sources=[]) == 0
    assert [hit.content for hit in docs.search("d")] == ["d"]
    for wrong in ({}, {"ids": "4"}, {"ids": ["4"], "sources": ["z"]}):
        with pytest.raises(TypeError, match="either `ids` or `sources`"):
            docs.delete(**wrong)


def test_stored_vectors_are_given_with_the_grid_of_an_image(docs, page, embedder):
    docs.add([page, "red fox"], ids=["page", "text"])
    wanted = embedder.encode_document([page], task="retrieval", multivector=True)
    stored = docs.embeddings(["page", "nil", "text"], multivector=True)
    assert list(stored) == ["page", "text"]
    assert stored["page"].multivector[0] == pytest.approx(wanted.multivector[0], abs=1e-3)
    assert stored["page"].dense == pytest.approx(wanted.dense, abs=1e-3)
    assert stored["page"].multivector[0].dtype == stored["page"].dense.dtype == np.float32
    assert stored["page"].grids == (Grid(2, 3, 0),)
    assert stored["text"].grids == (None,)
    assert stored["text"].fingerprint == embedder.fingerprint
    assert docs.embeddings(["text"])["text"].multivector is None


def test_items_are_read_by_their_ids(docs, page):
    docs.add([Item("red fox", source="a.md"), Item(page, source="p.png")], ids=["a", 7], metadatas=[{"n": 1}, None])
    assert docs.get([7, "nil", "a", "a"]) == [
        Stored(
            id=7, content="p.png", metadata={"source": "p.png"}, source="p.png", unit="0", kind="image",
            task="retrieval", fingerprint=docs.embedder.fingerprint,
            picture=Picture(uri=page.as_posix(), sha256=content_hash(page), mime_type="image/png"),
        ),
        Stored(
            id="a", content="red fox", metadata={"n": 1, "source": "a.md"}, source="a.md", unit="0", kind="text",
            task="retrieval", fingerprint=docs.embedder.fingerprint,
        ),
    ]  # fmt: skip
    assert docs.get([]) == []
    for wrong in ("a", {"a"}):
        with pytest.raises(TypeError, match="as a list"):
            docs.get(wrong)


def test_more_items_than_fit_one_request_are_read(docs):
    docs.add([f"word{n}" for n in range(300)], ids=list(range(300)))
    assert [one.id for one in docs.get(list(range(299, -1, -1)))] == list(range(299, -1, -1))
    assert len(docs.embeddings(list(range(300)), multivector=True)) == 300
    assert sorted(one.id for one in docs.all()) == list(range(300))


def test_similarity_does_not_grow_with_the_query(docs):
    docs.add(["red fox", "blue whale"])
    for mode in ("dense", "late", "two-stage"):
        for query in ("red fox", "red fox red fox"):
            best, worst = docs.search(query, mode=mode)
            assert best.similarity == pytest.approx(1, abs=1e-3)
            assert -1 <= worst.similarity < 0.8
    assert docs.search("red fox fox", mode="late")[0].score == pytest.approx(3, abs=2e-3)
    assert docs.search("red fox", task=["retrieval", "code"])[0].similarity is None
    assert docs.search_groups("red fox")[0].hits[0].similarity == pytest.approx(1, abs=1e-3)


def test_a_query_may_be_encoded_already(docs, embedder):
    docs.add(["red fox", "blue whale"])
    made = embedder.encode_query(["blue whale"], task="retrieval", multivector=True)
    for mode in ("dense", "late", "two-stage"):
        assert docs.search(made, mode=mode) == docs.search("blue whale", mode=mode)
    assert docs.search_batch([made, "red fox"])[1] == docs.search("red fox")
    dense = Embeddings(made.dense, None, (None,))
    assert docs.search(dense, mode="dense")[0].content == "blue whale"
    with pytest.raises(ValueError, match="'late' needs the query's multi-vector; mode 'dense' needs none"):
        docs.search(dense, mode="late")
    with pytest.raises(ValueError, match="has 8 numbers; the collection's have 16"):
        docs.search(Embeddings(made.dense[:, :8], None, (None,)), mode="dense")
    with pytest.raises(ValueError, match="of one task"):
        docs.search(made, task=["retrieval", "code"])
    both = embedder.encode_query(["blue whale", "red fox"], task="retrieval", multivector=True)
    assert docs.search_batch(both) == docs.search_batch(["blue whale", "red fox"])
    long = Embeddings(3 * made.dense, (3 * made.multivector[0],), (None,))
    assert docs.search(long)[0].score == pytest.approx(docs.search(made)[0].score)
    wide = Embeddings(made.dense, (made.multivector[0][:, :4],), (None,))
    with pytest.raises(ValueError, match="the collection's rows have 8 numbers"):
        docs.search(wide)
    with pytest.raises(ValueError, match="it has no direction"):
        docs.search(Embeddings(0 * made.dense, None, (None,)), mode="dense")
    with pytest.raises(FingerprintError, match="of the model 'other'; the collection's embedder is 'hash-16-8'"):
        docs.search(replace(made, fingerprint="other"))
    with pytest.raises(ValueError, match="of 2 items"):
        docs.search(embedder.encode_query(["a", "b"], task="retrieval", multivector=True))


def test_a_collection_becomes_dense_and_whole_again(tmp_path, embedder):
    with Collection.open(tmp_path, "docs", embedder=embedder) as docs:
        docs.add(TEXTS)
        old = Collection.open(docs.client, "docs", embedder=embedder)
        (known,) = [hit.id for hit in docs.search("a blue whale", limit=1)]
        assert docs.reindex(DenseOnly()).failed == []
        assert docs.search("a blue whale", limit=1, mode="dense")[0].content == "a blue whale"
        with pytest.raises(FingerprintError):  # the old handle never hands out the new model's vectors
            old.embeddings([known])
        assert docs.reindex(embedder).failed == []
        assert docs.search("a blue whale", limit=1, mode="late")[0].content == "a blue whale"
        assert docs.verify().ok


class DenseOnly(HashEncoder):
    """Makes no multi-vectors, as most embedders."""

    def __init__(self):
        super().__init__(dim=16, multivector_dim=8, name="dense")
        self.multivector_dim = 0


@pytest.mark.parametrize("where", ["folder", ":memory:"])
def test_an_embedder_without_multivectors_has_dense_collections(tmp_path, where):
    with Collection.open(tmp_path if where == "folder" else where, "docs", embedder=DenseOnly()) as docs:
        assert len(docs.add(["red fox", "blue whale"]).ok) == 2
        assert docs.search("whale", mode="dense")[0].content == "blue whale"
        assert docs.verify().ok
        (known,) = docs.add(["red fox"]).skipped
        assert docs.embeddings([known])[known].multivector is None
        with pytest.raises(ValueError, match="has no multi-vectors"):
            docs.embeddings([known], multivector=True)
        for mode in ("late", "two-stage"):
            with pytest.raises(ValueError, match=f"{mode!r} needs multi-vectors, and this embedder makes none"):
                docs.search("whale", mode=mode)
        assert docs.copy_to(tmp_path / "copy").failed == []
        for schema in (Schema(pooled=True), Schema(bm25="english"), Schema(late="turbo4")):
            with pytest.raises(SchemaError, match="this embedder makes none: give Schema"):
                Collection.open(docs.client, "other", embedder=DenseOnly(), schema=schema)
        with pytest.raises(FingerprintError):
            Collection.open(docs.client, "docs", embedder=HashEncoder(dim=16, multivector_dim=8))


def test_another_models_vectors_are_not_mixed_in(tmp_path, embedder):
    Collection.open(tmp_path, "docs", embedder=embedder).close()
    for other in (Counting(dim=16, multivector_dim=8, name="other"), Counting(dim=16, multivector_dim=4)):
        with pytest.raises(FingerprintError, match="'hash-16-8'.*'" + other.fingerprint) as refused:
            Collection.open(tmp_path, "docs", embedder=other)
    with pytest.raises(FingerprintError, match="truncate_dim=16"):
        Collection.open(tmp_path, "docs", embedder=embedder, truncate_dim=8)
    Collection.open(tmp_path, "docs", embedder=embedder).close()  # the folder is unlocked, though an error lives on
    assert refused.value


def test_a_foreign_collection_is_refused(embedder):
    client = open_client(":memory:")
    client.create_collection("docs", {"x": models.VectorParams(size=4, distance=models.Distance.DOT)})
    with pytest.raises(FingerprintError, match="not created by polyvec"):
        Collection.open(client, "docs", embedder=embedder)
    with Collection.open(client, "mine", embedder=embedder):
        metadata = client.get_collection("mine").config.metadata
    client.create_collection(
        "odd", {"dense": models.VectorParams(size=4, distance=models.Distance.DOT)}, metadata=metadata
    )
    with pytest.raises(SchemaError, match="'dense' has size 4, not 16; 'dense' has distance Dot, not Cosine"):
        Collection.open(client, "odd", embedder=embedder)


def test_dense_vectors_can_be_truncated(tmp_path, embedder):
    with Collection.open(tmp_path, "docs", embedder=embedder, truncate_dim=4) as docs:
        docs.add(TEXTS)
        record = docs.client.scroll("docs", with_vectors=["dense"])[0][0]
        assert len(record.vector["dense"]) == 4
        assert docs.search("the red fox", mode="dense")[0].score == pytest.approx(1, abs=1e-3)
    for size in (0, 17):
        with pytest.raises(ValueError, match="`truncate_dim` is"):
            Collection.open(tmp_path, "docs", embedder=embedder, truncate_dim=size)


def test_collections_share_a_client_that_stays_open(tmp_path, embedder):
    client = open_client(tmp_path)
    with Collection.open(client, "a", embedder=embedder) as a, Collection.open(client, "b", embedder=embedder) as b:
        a.add(["red"])
        b.add(["red", "blue"])
        with Collection.open(tmp_path, "c", embedder=embedder) as c:  # by the folder: on the same engine
            assert c.add(["green"]).ok
    assert [client.count(name).count for name in ("a", "b")] == [1, 2]
    client.close()


def test_large_batches_are_sent_in_bounded_requests(memory, monkeypatch):
    sent = []
    upsert = memory.client.upsert
    monkeypatch.setattr(
        memory.client, "upsert", lambda name, points, **how: sent.append(len(points)) or upsert(name, points, **how)
    )
    # Two one-word texts: 16 + 1 · 8 floats each, and less than 600 bytes of payload.
    monkeypatch.setattr(limits, "MAX_REQUEST_BYTES", 2 * (21 * (16 + 8) + 600))
    memory.add(["a", "b", "c", "d", "e"])
    assert sent == [2, 2, 1]
    assert memory.count() == 5


def test_progress_is_shown_when_asked(memory, capsys):
    memory.add(["a"])
    assert capsys.readouterr().err == ""
    memory.add(["a", "b"], show_progress=True)
    assert "2/2" in capsys.readouterr().err
