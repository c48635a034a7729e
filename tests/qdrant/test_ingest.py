"""What `Collection.add` promises beyond storing: streams, ready-made embeddings, tenants, sources, interruptions."""

import asyncio
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from qdrant_client import models

from polyvec import ImageText
from polyvec.testing import HashEncoder
from polyvec.types import Embeddings, Grid
from qdrant_polyvec import (
    Collection,
    Failure,
    Item,
    Schema,
    StoreUnavailableError,
    UnstoredItems,
    limits,
    points,
    upload,
)
from qdrant_polyvec.checks import Checks
from qdrant_polyvec.fingerprint import Fingerprint
from qdrant_polyvec.points import neighbours, pooled


class OfOne(SimpleNamespace):
    """Stands for an `Embeddings` that was made without checks."""

    def __len__(self):
        return 1


SIZES = {"dim": 16, "multivector_dim": 8}


class Watched(HashEncoder):
    """Remembers what it was asked to encode, and knows an adapter of the user's."""

    def __init__(self):
        super().__init__(**SIZES)
        self.encoded = []

    def encode_document(self, inputs, **how):
        self.encoded += [(item, how["task"]) for item in inputs]
        return super().encode_document(inputs, **how)


@pytest.fixture
def embedder():
    return Watched()


@pytest.fixture
def docs(tmp_path, embedder):
    with Collection.open(tmp_path / "index", "docs", embedder=embedder) as docs:
        yield docs


@pytest.fixture
def page(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (56, 84, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "page.png")
    return tmp_path / "page.png"


def parts(source, *texts):
    return [Item(text, source=source, unit=str(number)) for number, text in enumerate(texts, start=1)]


def everything(docs):
    return sorted((hit.content, hit.source, hit.unit, hit.task) for hit in docs.search("x", limit=100))


def test_a_stream_is_read_in_batches_and_its_bad_items_are_reported(docs):
    read = []

    def stream():
        for item in ["red", Item("blue", id="b"), 3, Item("owl", metadata={"x": [len]}, source="s"), b"junk", "hawk"]:
            read.append(item)
            yield item
        yield Failure(-1, "gone.md", "cannot be read")

    report = docs.add(stream(), batch_size=2)
    assert len(report.ok) == docs.count() == 3
    assert report.ok[1] == "b"
    errors = [(failure.source, failure.reason) for failure in report.failed]
    assert errors[0] == (
        "",
        "item 2 is a int; an item is a str (text), or a Path, bytes, PIL image or numpy array (image).",
    )
    assert errors[1][0] == "s"
    assert errors[1][1].startswith("item 3: metadata['x'][0] is <built-in function len>")
    assert errors[-1] == ("gone.md", "cannot be read")
    assert len(errors) == 4


def test_an_item_of_image_and_text_is_searched_with_and_never_stored(docs):
    item = ImageText(Image.new("RGB", (28, 28)), "red")
    report = docs.add(iter([item, "red"]))
    assert len(report.ok) == docs.count() == 1
    (failure,) = report.failed
    assert failure.reason.startswith(
        "item 0 is an ImageText, which a collection does not store; write Item(image, text"
    )
    with pytest.raises(TypeError, match="item 0 is an ImageText"):
        docs.add([item])
    assert [hit.id for hit in docs.search(item)] == report.ok


def test_what_a_stream_gave_before_it_broke_is_stored(docs):
    def stream():
        yield from ["red", "blue", "owl", "hawk"]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        docs.add(stream(), batch_size=2)
    assert docs.count() == 4
    assert docs.add(["red", "blue", "owl", "hawk", "moth"]).ok == docs.add(["moth"]).skipped


def test_a_bad_item_of_a_stream_keeps_its_source_and_its_number(docs):
    parts = ["one", "two", "three"]
    docs.add([Item(part, metadata={"source": "book"}) for part in parts])
    bad = [Item("one", metadata={"source": "book"}), Item(3, metadata={"source": "book"})]
    report = docs.add(iter([*bad, Item("three", metadata={"source": "book"})]), replace_sources=True)
    assert (len(report.skipped), len(report.ok), report.removed) == (2, 0, [])
    assert report.failed[0].source == "book"
    assert sorted(content for content, *_ in everything(docs)) == ["one", "three", "two"]


def test_metadata_that_the_engine_could_not_read_again_are_refused(docs):
    deep = {}
    for _ in range(100):
        deep = {"a": deep}
    endless = []
    endless.append(endless)
    report = docs.add(iter([Item("a", metadata=deep), Item("b", metadata={"x": endless}), "c"]))
    assert (len(report.ok), len(report.failed)) == (1, 2)
    assert "nested deeper than 64" in report.failed[0].reason
    allowed = {}
    for _ in range(60):
        allowed = {"a": allowed}
    docs.add(["d"], metadatas=[allowed])
    assert len(docs.search("d")) == 2


@pytest.mark.parametrize("kind", [np.uint8, bool, np.complex64])
def test_an_embedding_of_bits_or_no_real_numbers_stops_nobody(docs, kind):
    dense, late = np.ones((1, 16), np.float32), np.ones((2, 8), np.float32)
    pairs = (dense.astype(kind), late), (dense, late.astype(kind))
    bad = [
        Item("bad", embedding=OfOne(dense=one, multivector=(rows,), grids=(None,), fingerprint=""))
        for one, rows in pairs
    ]
    report = docs.add(iter([*bad, "good"]))
    assert len(report.ok) == 1
    assert all(f"its dtype is {np.dtype(kind)}; vectors are floats" in failure.reason for failure in report.failed)
    assert len(report.failed) == 2


@pytest.mark.parametrize("dense", [[["x"] * 16], np.full((1, 16), None, object), np.full((1, 16), "x")])
def test_an_embedding_that_is_not_made_of_numbers_stops_nobody(docs, dense):
    late = np.ones((2, 8), np.float32)
    bad = OfOne(dense=dense, multivector=(late,), grids=(None,))
    report = docs.add(iter([Item("bad", embedding=bad), "good"]))
    assert (len(report.ok), len(report.failed)) == (1, 1)


def test_lists_beside_a_stream_are_refused(docs):
    with pytest.raises(TypeError, match="`ids` goes with a list"):
        docs.add(iter(["a"]), ids=["a"])
    with pytest.raises(TypeError, match="only an iterator"):
        docs.add([Failure(-1, "a", "b")])
    with pytest.raises(ValueError, match="item 0: its id is given by the item and by the list"):
        docs.add([Item("a", id="a")], ids=["b"])


def test_items_of_several_tasks_are_encoded_with_their_own(docs, embedder):
    report = docs.add([Item("red"), Item("def f(): pass", task="code"), Item("blue"), Item("x", task="code")])
    assert [task for _, task in embedder.encoded] == ["retrieval", "retrieval", "code", "code"]
    assert len(report.ok) == 4
    assert {hit.content for hit in docs.search("red", task="code")} == {"def f(): pass", "x"}
    with pytest.raises(ValueError, match="item 1: `task` is 'law'"):
        docs.add(["a", Item("b", task="law")])


def test_an_adapter_of_the_users_is_a_task(docs, embedder):
    embedder.tasks = ("retrieval", "law")
    docs.add(["clause"], task="law")
    assert [hit.task for hit in docs.search("clause", task="law")] == ["law"]
    with pytest.warns(UserWarning, match="has items of the task 'law', none of the task 'retrieval'"):
        assert docs.search("clause") == []


def test_ready_made_embeddings_are_stored_as_they_are(docs, embedder):
    texts = ["red fox", "blue whale"]
    made = HashEncoder(**SIZES).encode_document(texts, task="retrieval", multivector=True)
    assert docs.add(texts, ids=["a", "b"], embeddings=made).ok == ["a", "b"]
    assert embedder.encoded == []
    assert docs.embeddings(["a"], multivector=True)["a"].multivector[0] == pytest.approx(made.multivector[0], abs=1e-3)
    assert docs.search("red fox")[0].id == "a"
    assert docs.add(texts, ids=["a", "b"], embeddings=made).skipped == ["a", "b"]
    swapped = Embeddings(made.dense[::-1], made.multivector[::-1], made.grids)
    assert docs.add(texts, ids=["a", "b"], embeddings=swapped).ok == ["a", "b"]
    assert docs.search("red fox")[0].id == "b"


def test_a_stream_of_embeddings(docs, embedder):
    texts = [f"text {i}" for i in range(10)]
    made = HashEncoder(**SIZES).encode_document(texts, task="retrieval", multivector=True)
    items = (Item(text, embedding=one) for text, one in zip(texts, made, strict=True))
    assert len(docs.add(items, batch_size=3).ok) == 10
    assert embedder.encoded == []
    assert docs.search("text 7")[0].content == "text 7"


def test_the_file_of_a_ready_made_embedding_need_not_be_here(docs):
    made = HashEncoder(**SIZES).encode_document(["stands for a page"], task="retrieval", multivector=True)
    assert docs.add([Path("far/away.png")], embeddings=made).failed == []
    assert docs.search("page")[0].source == Path("far/away.png").absolute().as_posix()


def test_vectors_get_unit_length_and_the_collections_size(tmp_path, embedder):
    made = HashEncoder(**SIZES).encode_document(["red fox"], task="retrieval", multivector=True)
    long = Embeddings(made.dense * 3, (made.multivector[0] * np.float32(5),), made.grids)
    with Collection.open(tmp_path / "short", "docs", embedder=embedder, truncate_dim=4) as docs:
        docs.add(["red fox"], embeddings=long)
        (hit,) = docs.search("red fox", mode="dense")
        assert hit.score == pytest.approx(1, abs=1e-3)
        assert docs.search("red fox", mode="late")[0].score == pytest.approx(2, abs=1e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, m: Embeddings(d, None, (None,)), "has no multi-vector"),
        (lambda d, m: Embeddings(d, (m,), (None,), "other"), "'other'; the collection's vectors are of 'hash-16-8'"),
        (lambda d, m: Embeddings(d[:, :8], (m,), (None,)), "its dense vector has 8 numbers; the collection's have 16"),
        (
            lambda d, m: Embeddings(d, (m[:, :4],), (None,)),
            "the rows of its multi-vector have 4 numbers; the collection's have 8",
        ),
        (lambda d, m: Embeddings(d * np.nan, (m,), (None,)), "dense vector contains NaN"),
        (lambda d, m: Embeddings(d * 0, (m,), (None,)), "dense vector contains a zero vector"),
        (lambda d, m: Embeddings(d, (np.vstack([m, m[:1] * 0]),), (None,)), "late vector contains a zero vector"),
    ],
)
def test_embeddings_that_do_not_fit_are_reported_and_the_others_stored(docs, change, message):
    good = HashEncoder(**SIZES).encode_document(["red"], task="retrieval", multivector=True)
    bad = change(good.dense, good.multivector[0])
    report = docs.add([Item("bad", id="bad", embedding=bad), Item("good", id="good", embedding=good)])
    assert report.ok == ["good"]
    assert [failure.id for failure in report.failed] == ["bad"]
    assert message in report.failed[0].reason


def test_an_embedding_of_two_items_is_refused(docs):
    two = HashEncoder(**SIZES).encode_document(["a", "b"], task="retrieval", multivector=True)
    with pytest.raises(ValueError, match="`embedding` holds 2 items"):
        docs.add([Item("a", embedding=two)])


def test_what_an_image_says_is_its_content(docs, page):
    report = docs.add([Item(page, text="revenue by region")])
    (hit,) = docs.search(page)
    assert (hit.content, hit.kind, hit.source) == ("revenue by region", "image", page.as_posix())
    assert docs.add([Item(page, text="revenue by region")]).skipped == report.ok
    assert docs.add([Item(page, text="costs by region")]).ok == report.ok
    with pytest.raises(ValueError, match="this item is a text itself"):
        docs.add([Item("a", text="b")])


def test_tenants_do_not_see_each_other(tmp_path, embedder):
    with Collection.open(tmp_path / "index", "docs", embedder=embedder, tenant="ann") as ann:
        bob = Collection.open(ann.client, "docs", embedder=embedder, tenant="bob")
        assert ann.add(["red fox", "owl"], ids=["a", 7]).ok == ["a", 7]
        assert bob.add(["red fox", "hawk"], ids=["a", 7]).ok == ["a", 7]
        both = Collection.open(ann.client, "docs", embedder=embedder)
        assert (ann.count(), bob.count(), both.count()) == (2, 2, 4)
        for mode in ("dense", "late", "two-stage"):
            assert {hit.content for hit in ann.search("hawk", mode=mode)} == {"red fox", "owl"}
        assert ann.add(["red fox"], ids=["a"]).skipped == ["a"]
        assert bob.embeddings([7], multivector=True)[7].multivector[0].shape == (1, 8)
        late = asyncio.run(bob.aembeddings([7, "a"], multivector=True))
        assert list(late) == [7, "a"]
        assert late[7].multivector[0].shape == (1, 8)
        assert asyncio.run(bob.aget(["a", 7])) == bob.get(["a", 7])
        assert [one.id for one in asyncio.run(bob.aget(["a", 7]))] == ["a", 7]
        assert bob.delete(ids=["a", 7]) == 2
        assert (ann.count(), bob.count()) == (2, 0)
        assert ann.sources().keys() == both.sources().keys()
        derived = [tenant.add([Item("same", source="s")]).ok for tenant in (ann, bob, both)]
        assert len({identity for (identity,) in derived}) == 3
    with pytest.raises(ValueError, match="`tenant` is ''"):
        Collection.open(tmp_path / "index", "docs", embedder=embedder, tenant="")


def test_replacing_a_source_leaves_that_of_others_alone(tmp_path, embedder):
    with Collection.open(tmp_path / "index", "docs", embedder=embedder) as nobody:
        ann = Collection.open(nobody.client, "docs", embedder=embedder, tenant="ann")
        bob = Collection.open(nobody.client, "docs", embedder=embedder, tenant="bob")
        for docs in (nobody, ann, bob):
            docs.add(parts("book", "one", "two"))
        for docs in (nobody, ann):
            report = docs.add(parts("book", "one"), replace_sources=True)
            assert (len(report.skipped), len(report.removed)) == (1, 1)
        assert (nobody.count(), ann.count(), bob.count()) == (4, 1, 2)


def test_replacing_a_source_removes_what_is_no_more(docs):
    docs.add(parts("book", "one", "two", "three"))
    docs.add(parts("book", "one"), task="code")
    docs.add(parts("film", "other"))
    report = docs.add(parts("book", "one", "TWO"), replace_sources=True)
    assert (len(report.ok), len(report.skipped), len(report.removed)) == (1, 1, 1)
    assert everything(docs) == [
        ("TWO", "book", "2", "retrieval"), ("one", "book", "1", "retrieval"), ("other", "film", "1", "retrieval"),
    ]  # fmt: skip
    assert len(docs.search("x", task="code")) == 1


def test_a_source_with_a_failure_keeps_its_old_parts(docs):
    docs.add(parts("book", "one", "two") + parts("film", "one", "two"))
    stream = iter([
        Item("ONE", source="book", unit="1"), Failure(-1, "book", "page 2 is damaged"),
        Item("ONE", source="film", unit="1"),
    ])  # fmt: skip
    report = docs.add(stream, replace_sources=True)
    assert len(report.removed) == 1
    assert [content for content, source, *_ in everything(docs) if source == "book"] == ["ONE", "two"]
    assert [content for content, source, *_ in everything(docs) if source == "film"] == ["ONE"]


def test_the_new_parts_are_stored_before_the_old_are_deleted(docs, monkeypatch):
    docs.add(parts("book", "one", "two"))
    order = []
    upsert, delete = docs.client.upsert, docs.client.delete
    monkeypatch.setattr(docs.client, "upsert", lambda *a, **k: order.append("upsert") or upsert(*a, **k))
    monkeypatch.setattr(docs.client, "delete", lambda *a, **k: order.append("delete") or delete(*a, **k))
    docs.add(parts("book", "ONE"), replace_sources=True)
    assert order == ["upsert", "delete"]


def test_one_batch_is_encoded_while_another_is_written(docs, monkeypatch):
    second_is_encoded, first_is_written = threading.Event(), threading.Event()
    write = upload.write

    def slow(*args, **how):
        assert second_is_encoded.wait(30)  # would wait in vain if writing came first
        yield from write(*args, **how)
        first_is_written.set()

    class Encoding(Watched):
        def encode_document(self, inputs, **how):
            if "second" in inputs:
                assert not first_is_written.is_set()
                second_is_encoded.set()
            return super().encode_document(inputs, **how)

    docs._bind(replace(docs._binding, embedder=Encoding()))
    monkeypatch.setattr(upload, "write", slow)
    assert len(docs.add(["first", "second"], batch_size=1).ok) == 2


def test_a_store_that_is_lost_is_told_and_nothing_acknowledged_is(docs, monkeypatch):
    write, calls = upload.write, []

    def failing(*args, **how):
        calls.append(args)
        if len(calls) == 2:
            raise StoreUnavailableError("the store did not take a request")
        yield from write(*args, **how)

    monkeypatch.setattr(upload, "write", failing)
    with pytest.raises(StoreUnavailableError):
        docs.add(["a", "b", "c", "d", "e", "f"], batch_size=2)
    monkeypatch.undo()
    assert docs.count() == 2
    report = docs.add(["a", "b", "c", "d", "e", "f"])
    assert (len(report.skipped), len(report.ok)) == (2, 4)


def test_more_tokens_than_qdrant_takes_are_pooled_with_a_warning(docs, monkeypatch):
    monkeypatch.setattr(limits, "MAX_MULTIVECTOR_ELEMENTS", 8 * 5)
    text = " ".join(f"word{i}" for i in range(12))
    with pytest.warns(
        UserWarning, match=r"'long.md' 3 has 12 tokens; Qdrant takes at most 5 vectors, so the means of 3"
    ):
        report = docs.add([Item(text, id="long", source="long.md", unit="3"), "short"])
    assert len(report.ok) == 2
    long = docs.embeddings(["long"], multivector=True)["long"]
    stored, grid = long.multivector[0], long.grids[0]
    whole = HashEncoder(**SIZES).encode_document([text], task="retrieval", multivector=True).multivector[0]
    assert stored == pytest.approx(neighbours(whole, 3), abs=1e-3)
    assert (stored.shape, grid) == ((4, 8), None)


def test_neighbours_are_averaged_to_unit_length():
    rows = np.array([[1, 0], [0, 1], [0, 1], [0, 3], [1, 0]], np.float32)
    half = 0.5**0.5
    assert neighbours(rows, 2) == pytest.approx(np.array([[half, half], [0, 1], [1, 0]]))


def test_pooled_vectors_are_rows_columns_and_what_is_around():
    x, y = [1.0, 0.0], [0.0, 1.0]
    rows = np.array([y, x, x, y, y, x], np.float32)  # a token, 2×2 patches, a token
    half = 0.5**0.5
    wanted = [x, y, [half, half], [half, half], y, x]
    assert pooled(rows, Grid(2, 2, 1)) == pytest.approx(np.array(wanted))


def test_pooled_vectors_are_kept_for_images_only(tmp_path, embedder, page):
    with Collection.open(tmp_path / "index", "docs", embedder=embedder, schema=Schema(pooled=True)) as docs:
        docs.add([page, "red fox"], ids=[1, 2])
        image, text = docs.client.retrieve("docs", [1, 2], with_vectors=True)
        assert np.array(image.vector["pooled"]).shape == (2 + 3, 8)
        assert set(text.vector) == {"dense", "late"}
        request = docs.explain("red", candidates=10)
        assert [stage.using for stage in request.prefetch] == ["dense", "pooled"]
        assert docs.search(page, candidates=10)[0].id == 1


def test_hybrid_needs_bm25_vectors_and_takes_any_query(tmp_path, embedder, page):
    with (
        Collection.open(tmp_path / "index", "docs", embedder=embedder) as docs,
        pytest.raises(ValueError, match=r"create it with Schema\(bm25='english'\)"),
    ):
        docs.search("red", mode="hybrid")
    with Collection.open(tmp_path / "bm25", "docs", embedder=embedder, schema=Schema(bm25="english")) as docs:
        docs.add(["red foxes", Item(page, text="the foxes of the region")])
        with pytest.warns(UserWarning, match="a query has no words"):
            assert docs.search(page, mode="hybrid", candidates=5) == docs.search(page, candidates=5)
        assert {hit.kind for hit in docs.search("fox", mode="hybrid", candidates=5)} == {"text", "image"}


def test_adding_does_not_block_the_event_loop(docs):
    async def both():
        return await asyncio.gather(docs.aadd(["a", "b"]), docs.aadd(["c"]), docs.asearch("a"))

    first, second, _ = asyncio.run(both())
    assert len(first.ok) + len(second.ok) == docs.count() == 3


def test_the_points_vectors_stay_arrays_until_they_are_sent(docs):
    made = HashEncoder(**SIZES).encode_document(["a"], task="retrieval", multivector=True)
    (entry,) = Checks(task="code", tasks=("code",), tenant=None).entries(["a"])
    struct = points.point(entry, made, schema=Schema(), fingerprint=Fingerprint("f", 16, 8))
    assert {name: type(vector) for name, vector in struct.vector.items()} == {"dense": np.ndarray, "late": np.ndarray}


def test_one_id_for_two_tasks_in_one_call_is_reported(docs):
    report = docs.add([Item("a", id="x"), Item("a", id="x", task="code")])
    assert report.ok == ["x"]
    assert "same id, other content or task" in report.failed[0].reason


def test_vectors_that_vanish_when_they_are_cut_are_refused(docs):
    dense = np.eye(17, dtype=np.float32)[16:]  # the collection's vectors have 16 numbers
    report = docs.add([Item("behind", embedding=Embeddings(dense, (np.ones((1, 8), np.float32),), (None,)))])
    assert "zero once they are cut" in report.failed[0].reason


def test_the_length_of_a_ready_made_vector_does_not_matter(docs):
    huge = Embeddings(np.full((1, 16), 1e30, np.float32), (np.ones((1, 8), np.float32),), (None,))
    assert docs.add([Item("huge", id="huge", embedding=huge)]).failed == []
    np.testing.assert_allclose(docs.embeddings(["huge"])["huge"].dense, np.full((1, 16), 0.25), rtol=1e-6)


def test_metadata_are_not_put_on_content_that_another_writer_replaced(docs, monkeypatch):
    docs.add(["apple"], ids=["x"])
    overwrite = docs.client.overwrite_payload

    def late(*args, **how):
        monkeypatch.undo()
        docs.add(["zebra"], ids=["x"])
        return overwrite(*args, **how)

    monkeypatch.setattr(docs.client, "overwrite_payload", late)
    docs.add(["apple"], ids=["x"], metadatas=[{"n": 1}])
    assert docs.search("zebra")[0].content == "zebra"


def test_what_is_nested_too_deep_never_reaches_the_engine(docs):
    deep = []
    for _ in range(130):
        deep = [deep]
    with pytest.raises(ValueError, match="nested deeper than 100"):
        docs.client.set_payload("docs", {"n": deep}, points=[1])
    with pytest.raises(TypeError, match="`keep` as a list"):
        docs.delete(sources=["s"], keep="ab")


def test_the_imitation_in_memory_is_not_read_while_it_is_written(monkeypatch):
    with Collection.open(":memory:", "docs", embedder=Watched()) as docs:
        inside = []
        upsert, retrieve = docs.client.upsert, docs.client.retrieve

        def slow_upsert(*args, **how):
            inside.append(True)
            threading.Event().wait(0.05)
            upsert(*args, **how)
            inside.clear()

        def watched_retrieve(*args, **how):
            assert not inside
            return retrieve(*args, **how)

        monkeypatch.setattr(docs.client, "upsert", slow_upsert)
        monkeypatch.setattr(docs.client, "retrieve", watched_retrieve)
        assert len(docs.add(["a", "b", "c"], batch_size=1).ok) == 3


def test_an_item_may_carry_a_payload_for_other_readers(docs, embedder):
    item = Item("red fox", id="a", payload={"lang": "en", "deep": {"n": [1]}})
    assert docs.add([item, Item("blue whale", id="b")]).ok == ["a", "b"]
    assert docs.get(["a"])[0].payload == docs.search("red fox")[0].payload == {"lang": "en", "deep": {"n": [1]}}
    assert docs.get(["b"])[0].payload == {}
    english = models.Filter(must=[models.FieldCondition(key="lang", match=models.MatchValue(value="en"))])
    assert [hit.id for hit in docs.search("x", filter=english)] == [one.id for one in docs.all(english)] == ["a"]
    embedder.encoded.clear()
    assert docs.add([item]).skipped == ["a"]
    assert docs.add([replace(item, payload={"lang": "de"})]).ok == ["a"]
    assert docs.get(["a"])[0].payload == {"lang": "de"}
    assert embedder.encoded == []
    docs.reindex(HashEncoder(dim=16, multivector_dim=8, name="new"))
    assert docs.get(["a"])[0].payload == {"lang": "de"}
    for key in ("page_content", "metadata", "_polyvec"):
        (failure,) = docs.add(iter([Item("x", payload={key: 1})])).failed
        assert f"its `payload` has '{key}'" in failure.reason


def test_items_are_deleted_by_a_filter(docs):
    docs.add(["a", "b"], ids=["a", "b"], metadatas=[{"n": 1}, {"n": 2}])
    first = models.Filter(must=[models.FieldCondition(key="metadata.n", match=models.MatchValue(value=1))])
    assert docs.delete_where(first) == 1
    assert docs.delete_where(first) == 0
    assert docs.delete_where(models.Filter()) == 1
    assert docs.count() == 0


def test_failures_cannot_be_overlooked(docs, tmp_path):
    inputs = ["fine", tmp_path / "gone.png"]
    with pytest.warns(UserWarning, match=r"1 of 2 items were not stored\. .*gone\.png: .*`report\.failed` has them"):
        assert len(docs.add(inputs).failed) == 1
    with pytest.raises(UnstoredItems, match=r"gone\.png"):
        docs.add(inputs, on_failure="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(docs.add(inputs, on_failure="report").failed) == 1
        assert docs.add(["fine"]).failed == []
    with pytest.raises(ValueError, match="`on_failure` is 'ignore'; it must be one of 'warn', 'raise', 'report'"):
        docs.add(["more"], on_failure="ignore")
    assert docs.count() == 1
