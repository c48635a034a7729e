import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from qdrant_client import models

from polyvec.testing import HashEncoder
from polyvec.words import RULES
from qdrant_polyvec import (
    Collection,
    CollectionChangedError,
    FingerprintError,
    Item,
    Schema,
    SchemaError,
    bm25,
    open_client,
)
from qdrant_polyvec.binding import aliased, point_alias

OLD = HashEncoder(dim=16, multivector_dim=8, name="old")
NEW = HashEncoder(dim=12, multivector_dim=6, name="new")
TEXTS = ["red fox", "blue whale", "white owl"]


@pytest.fixture(params=["folder", "memory"])
def client(request, tmp_path):
    client = open_client(tmp_path / "index" if request.param == "folder" else ":memory:")
    yield client
    client.close()


@pytest.fixture
def docs(client):
    return Collection.open(client, "docs", embedder=OLD)


@pytest.fixture
def page(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (56, 84, 3), dtype=np.uint8)).save(tmp_path / "p.png")
    return tmp_path / "p.png"


def names(client):
    return sorted(one.name for one in client.get_collections().collections)


def test_a_collection_is_an_alias(client, docs):
    (real,) = names(client)
    assert real.startswith("docs__")
    assert aliased(client, "docs") == real
    assert client.collection_exists("docs")


def test_an_interrupted_creation_is_finished(client, docs):
    (real,) = names(client)
    client.update_collection_aliases([models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name="docs"))])
    again = Collection.open(client, "docs", embedder=OLD)
    assert again.add(TEXTS).failed == []
    assert names(client) == [real]


def test_damage_is_found(client, docs):
    docs.add([Item(text, source=source) for text, source in zip(TEXTS, "xyz", strict=True)], ids=["a", "b", "c"])
    stock = models.PointStruct(id=7, vector={"dense": [1.0] * 16}, payload={"page_content": "hi", "metadata": {}})
    other = models.PointStruct(
        id=8,
        vector={"late": [[1.0] * 8]},
        payload={"page_content": "ho", "metadata": {"source": "x"}, "_polyvec": {"fingerprint": "f", "task": "code"}},
    )
    client.upsert("docs", [stock, other])
    found = docs.verify(sources=["x", "y"])
    assert (found.n_points, found.without_dense, found.without_late) == (5, [8], [7])
    assert (sorted(found.foreign), set(found.orphans)) == ([7, 8], {"c", 7})
    assert not found.ok
    assert {hit.id for hit in docs.search("red fox")} == {"a", "b", "c"}  # what has no task is not in the way
    docs.delete(ids=[7, 8])
    assert docs.verify().ok


def test_a_point_of_another_model_is_refused_when_it_is_found(client, docs):
    docs.add(TEXTS)
    payload = {"page_content": "x", "metadata": {}, "_polyvec": {"fingerprint": "f", "task": "retrieval"}}
    client.upsert(
        "docs", [models.PointStruct(id=8, vector={"dense": [1.0] * 16, "late": [[1.0] * 8]}, payload=payload)]
    )
    with pytest.raises(FingerprintError, match=r"holds points of 'f'; this embedder is 'old-16-8'.*`verify`"):
        docs.search("red", limit=9)


def test_indexing_again_exchanges_the_collections(client, docs, page):
    docs.add([*TEXTS, page], ids=["a", "b", "c", "p"], metadatas=[{"n": 1}, None, None, {"n": 4}])
    docs.add([Item("def f(): pass", id="f", source="f.py", unit="L1-1", task="code")])
    (old,) = names(client)
    report = docs.reindex(NEW, batch_size=2)
    assert sorted(report.ok) == ["a", "b", "c", "f", "p"]
    assert report.failed == []
    (real,) = names(client)
    assert real != old
    assert docs.embedder is NEW
    assert docs.verify().ok
    hit = docs.search("red fox")[0]
    assert (hit.id, hit.metadata["n"], hit.score) == ("a", 1, pytest.approx(2, abs=1e-2))
    assert docs.search(page)[0].id == "p"
    assert [(hit.id, hit.unit) for hit in docs.search("def f", task="code")] == [("f", "L1-1")]
    with pytest.raises(FingerprintError, match=r"'new-12-6'.*'old-16-8'"):
        Collection.open(client, "docs", embedder=OLD)
    with pytest.raises(ValueError, match="there is nothing to do"):
        docs.reindex(NEW)


def test_an_image_is_read_again_from_its_own_file_whatever_the_working_directory(docs, tmp_path, monkeypatch):
    for color, folder in (("red", tmp_path), ("blue", tmp_path / "notebooks")):
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (56, 56), color).save(folder / "p.png")
    monkeypatch.chdir(tmp_path)
    docs.add([Path("p.png")], ids=["p"])
    monkeypatch.chdir("notebooks")
    assert docs.add([Path("../p.png")], ids=["p"]).skipped == ["p"]
    assert docs.reindex(NEW).ok == ["p"]
    (red,) = NEW.encode_document([tmp_path / "p.png"], task="retrieval").dense
    assert docs.embeddings(["p"])["p"].dense[0] @ red == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("mode", ["dense", "late"])
def test_who_has_it_open_with_the_old_model_is_told(client, docs, mode):
    docs.add(TEXTS)
    other = Collection.open(client, "docs", embedder=OLD)
    docs.reindex(HashEncoder(dim=16, multivector_dim=8, name="new"))  # of the same size: the engine would not notice
    with pytest.raises(FingerprintError, match=r"made by 'new-16-8'.*this embedder is 'old-16-8'"):
        other.search("red fox", mode=mode)
    docs.reindex(NEW)  # of another size: the engine fails, and the reason is told
    with pytest.raises(FingerprintError, match=r"'new-12-6'"):
        other.search("red fox", mode=mode)


def test_the_schema_can_be_changed_with_the_same_model(client, docs):
    docs.add(TEXTS)
    assert docs.reindex(OLD, schema=Schema(bm25="english", late="float32")).failed == []
    assert docs.schema == Schema(bm25="english", late="float32")
    assert docs.search("foxes", mode="hybrid", candidates=5)[0].content == "red fox"
    again = Collection.open(client, "docs", embedder=OLD)
    assert again.schema == docs.schema


def test_with_a_failure_the_old_collection_stays(client, docs, page):
    docs.add([*TEXTS, page.read_bytes()], ids=["a", "b", "c", "p"])
    report = docs.reindex(NEW)
    assert sorted(report.ok) == ["a", "b", "c"]
    assert [(failure.id, failure.reason) for failure in report.failed] == [
        ("p", "its image is not kept in the collection: pass `load`, which gives it again")
    ]
    assert docs.embedder is OLD
    assert docs.search("red fox")[0].id == "a"
    assert len(docs.verify().leftovers) == 1
    report = docs.reindex(NEW, load=lambda source, unit: page.read_bytes())
    assert report.failed == []
    assert sorted(report.skipped) == ["a", "b", "c"]  # they are encoded already
    assert docs.count() == 4
    assert docs.verify().ok


def test_an_interrupted_reindex_goes_on(client, docs):
    docs.add(TEXTS)

    class Breaking(HashEncoder):
        fails = True

        def encode_document(self, inputs, **how):
            if self.fails and "white owl" in inputs:
                raise RuntimeError("out of memory")
            return super().encode_document(inputs, **how)

    new = Breaking(dim=12, multivector_dim=6, name="new")
    with pytest.raises(RuntimeError, match="out of memory"):
        docs.reindex(new, batch_size=1)
    assert docs.search("red fox")[0].content == "red fox"
    new.fails = False
    report = docs.reindex(new)
    assert len(report.ok) + len(report.skipped) == 3
    assert docs.verify().ok


def test_what_changes_meanwhile_is_not_lost(client, docs):
    docs.add(TEXTS, ids=["a", "b", "c"])

    class Meanwhile(HashEncoder):
        done = False

        def encode_document(self, inputs, **how):
            if not self.done:
                self.done = True
                docs.add(["grey hawk"], ids=["d"])
                docs.add(["black fox"], ids=["a"])
                docs.delete(ids=["b"])
            return super().encode_document(inputs, **how)

    report = docs.reindex(Meanwhile(dim=12, multivector_dim=6, name="new"), keep_old=True)
    assert report.failed == []
    assert sorted((hit.id, hit.content) for hit in docs.search("x")) == [
        ("a", "black fox"), ("c", "white owl"), ("d", "grey hawk"),
    ]  # fmt: skip
    assert len(names(client)) == 2
    assert len(docs.verify().leftovers) == 1


def test_what_is_added_while_the_alias_moves_is_not_lost(client, docs, monkeypatch):
    docs.add(TEXTS, ids=["a", "b", "c"])
    other = Collection.open(client, "docs", embedder=OLD)
    move = client.update_collection_aliases

    def moving(changes):
        assert other.add(["at the last moment"], ids=["d"]).ok == ["d"]
        return move(changes)

    monkeypatch.setattr(client, "update_collection_aliases", moving)
    report = docs.reindex(NEW)
    assert (sorted(report.ok), report.failed) == (["a", "b", "c", "d"], [])
    assert sorted(hit.id for hit in docs.search("x")) == ["a", "b", "c", "d"]
    with pytest.raises(FingerprintError):
        other.add(["too late"])


def test_a_write_that_is_under_way_never_reaches_another_models_collection(client, docs):
    docs.add(TEXTS, ids=["a", "b", "c"])
    same_size = HashEncoder(dim=16, multivector_dim=8, name="new")
    other = Collection.open(client, "docs", embedder=OLD)

    def stream():
        yield "the first"
        docs.reindex(same_size)
        yield "the second"

    with pytest.raises(CollectionChangedError, match=r"was exchanged by a `reindex`.*open it again") as told:
        other.add(stream(), batch_size=1)
    assert set(told.value.report.ok) <= {hit.id for hit in docs.search("x")}
    assert docs.verify().ok
    assert {hit.content for hit in docs.search("x")} >= set(TEXTS)


def test_points_of_stock_stores_become_items(client, docs):
    payload = {"page_content": "grey hawk", "metadata": {"source": "birds.md"}}
    client.upsert("docs", [models.PointStruct(id=7, vector={"dense": [1.0] * 16}, payload=payload)])
    assert docs.reindex(NEW).ok == [7]
    (hit,) = docs.search("grey hawk")
    assert (hit.id, hit.source, hit.score) == (7, "birds.md", pytest.approx(2, abs=1e-2))
    assert docs.verify().ok


def test_reindex_refuses_a_model_that_lacks_the_task_of_an_item(client):
    adapted = HashEncoder(dim=16, multivector_dim=8, name="old")
    adapted.load_adapter("nowhere", task="legal")
    docs = Collection.open(client, "docs", embedder=adapted)
    docs.add(TEXTS[:1], task="legal")
    before = names(client)
    with pytest.raises(ValueError, match=r"items of the task 'legal'; .* Load an adapter for 'legal'"):
        docs.reindex(NEW)
    assert names(client) == before


def test_reindex_is_for_all_tenants(client):
    ann = Collection.open(client, "docs", embedder=OLD, tenant="ann")
    bob = Collection.open(client, "docs", embedder=OLD, tenant="bob")
    ann.add(["red fox"], ids=["a"])
    bob.add(["blue whale"], ids=["a"])
    with pytest.raises(ValueError, match="open the collection without `tenant`"):
        ann.reindex(NEW)
    whole = Collection.open(client, "docs", embedder=OLD)
    assert whole.reindex(NEW).ok == ["a", "a"]
    again = Collection.open(client, "docs", embedder=NEW, tenant="bob")
    assert [(hit.id, hit.content) for hit in again.search("blue")] == [("a", "blue whale")]


def test_a_copy_has_everything(client, docs, page, tmp_path):
    docs.add([*TEXTS, page], ids=["a", "b", "c", 4], metadatas=[{"n": i} for i in range(4)])
    report = docs.copy_to(tmp_path / "copy", "other")
    assert sorted(map(str, report.ok)) == ["4", "a", "b", "c"]
    with Collection.open(tmp_path / "copy", "other", embedder=OLD) as copy:
        for mode in ("dense", "late"):
            wanted = docs.search("red fox", mode=mode)
            found = copy.search("red fox", mode=mode)
            assert [hit.id for hit in found] == [hit.id for hit in wanted]
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in wanted], abs=2e-3)
        assert copy.embeddings([4])[4].grids == docs.embeddings([4])[4].grids
    docs.add(["new"], ids=["d"])
    again = docs.copy_to(tmp_path / "copy", "other")
    assert (again.ok, len(again.skipped)) == (["d"], 4)


def test_a_copy_may_store_otherwise_but_makes_no_vectors(client, docs, tmp_path):
    docs.add(TEXTS)
    assert docs.copy_to(tmp_path / "copy", schema=Schema(late="float32")).failed == []
    for schema in (Schema(bm25="english"), Schema(pooled=True)):
        with pytest.raises(ValueError, match="a copy makes no vectors"):
            docs.copy_to(tmp_path / "other", schema=schema)
    assert not (tmp_path / "other").exists()


def test_a_collection_is_maintained_without_its_embedder(client, docs, tmp_path):
    docs.add(TEXTS, ids=["a", "b", "c"])
    without = Collection.open(client, "docs", embedder=None)
    assert without.verify().ok
    assert len(without.get(["a", "b"])) == without.count() - 1 == 2
    for use in (lambda: without.search("red"), lambda: without.add(["red"]), lambda: without.embedder):
        with pytest.raises(TypeError, match="nothing can be encoded: open the collection with its embedder"):
            use()
    assert without.copy_to(tmp_path / "copy").failed == []
    assert without.reindex(NEW).failed == []
    assert without.search("red", limit=1)[0].content == "red fox"
    with pytest.raises(ValueError, match="there is no collection 'new'; to create it, give the embedder"):
        Collection.open(client, "new", embedder=None)


def test_another_schema_is_refused_with_every_difference(client):
    Collection.open(client, "docs", embedder=OLD, schema=Schema(late="float32", pooled=True, bm25="english"))
    with pytest.raises(
        SchemaError, match=r"'late' has datatype float32, not float16.*'pooled' is there.*'bm25' is there"
    ):
        Collection.open(client, "docs", embedder=OLD, schema=Schema())
    with pytest.raises(SchemaError, match="BM25 vectors for 'english', not 'german'"):
        Collection.open(client, "docs", embedder=OLD, schema=Schema(late="float32", pooled=True, bm25="german"))
    assert Collection.open(client, "docs", embedder=OLD).schema == Schema(late="float32", pooled=True, bm25="english")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"late": "int8"}, "`late` is 'int8'"), ({"bm25": "klingon"}, "`bm25` is 'klingon'; there are rules for arabic")],
)
def test_a_wrong_schema_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Schema(**wrong)


def test_who_has_it_open_with_an_older_schema_adds_nothing_half(client, docs):
    other = Collection.open(client, "docs", embedder=OLD)
    docs.add(TEXTS)
    docs.reindex(OLD, schema=Schema(bm25="english"))
    with pytest.raises(SchemaError, match=r"by now.*open it again"):
        other.add(["new"])


def test_an_add_that_runs_through_a_reindex_loses_nothing_that_it_reports(tmp_path):
    client = open_client(tmp_path)
    docs = Collection.open(client, "docs", embedder=OLD)
    docs.add(TEXTS, ids=["a", "b", "c"])
    other = Collection.open(client, "docs", embedder=OLD)
    acknowledged, stopped = set(), threading.Event()

    def adding():
        number = 0
        while not stopped.is_set():
            try:
                acknowledged.update(
                    other.add([f"x {number + i}" for i in range(3)], ids=list(range(number, number + 3))).ok
                )
            except (FingerprintError, CollectionChangedError, RuntimeError, ValueError):
                return
            number += 3

    thread = threading.Thread(target=adding)
    thread.start()
    docs.reindex(NEW)
    stopped.set()
    thread.join()
    kept = {record.id for page in docs._binding.scroll(models.Filter()) for record in page}
    assert acknowledged <= kept
    assert docs.verify().ok
    client.close()


def test_an_add_does_not_report_what_was_written_to_a_collection_that_was_exchanged(client, docs, monkeypatch):
    other = Collection.open(client, "docs", embedder=OLD)
    upsert = client.upsert

    def exchanged(*args, **how):
        monkeypatch.undo()
        docs.reindex(OLD, schema=Schema(late="float32"), keep_old=True)
        return upsert(*args, **how)

    monkeypatch.setattr(client, "upsert", exchanged)
    with pytest.raises(CollectionChangedError, match="exchanged by a `reindex` while items were added: open it again"):
        other.add(["new"])
    assert other.add(["new"]).failed == []
    assert docs.search("new")[0].content == "new"


def test_vectors_of_other_names_are_not_copied(client, docs, tmp_path):
    docs.add(TEXTS)
    (real,) = names(client)
    client.create_vector_name(
        real, "mine", models.DenseVectorNameConfig(dense=models.DenseVectorConfig(size=2, distance="Dot"))
    )
    client.update_vectors(real, [models.PointVectors(id=client.scroll("docs")[0][0].id, vector={"mine": [1.0, 0.0]})])
    assert docs.copy_to(tmp_path / "copy").failed == []


def test_a_payload_without_its_source_does_not_stop_searches(client, docs):
    docs.add(TEXTS, ids=[1, 2, 3])
    client.set_payload("docs", {"metadata": None}, points=[1])
    assert docs.search("red fox")[0].source == ""


def test_groups_of_several_tasks_are_not_crowded_out(client, docs):
    for task in ("retrieval", "code"):
        texts = [f"apple {i}" for i in range(40)] + ["pear", "plum"]
        sources = ["long"] * 40 + ["s1", "s2"]
        docs.add([Item(text, source=source) for text, source in zip(texts, sources, strict=True)], task=task)
    groups = docs.search_groups("apple", limit=3, group_size=2, task=["retrieval", "code"])
    assert {group.value for group in groups} == {"long", "s1", "s2"}


def test_a_lost_manifest_loses_no_points(tmp_path):
    with Collection.open(tmp_path, "docs", embedder=OLD) as docs:
        docs.add(TEXTS)
    (manifest,) = tmp_path.glob("docs__*.edge.json")
    kept = manifest.read_bytes()
    manifest.unlink()
    with pytest.raises(FileExistsError, match="holds 3 points, but its manifest"):
        Collection.open(tmp_path, "docs", embedder=OLD)
    manifest.write_bytes(kept)
    with Collection.open(tmp_path, "docs", embedder=OLD) as docs:
        assert docs.count() == 3


class Counting(HashEncoder):
    """Counts the documents that it encodes."""

    n_encoded = 0

    def encode_document(self, inputs, **options):
        self.n_encoded += len(inputs)
        return super().encode_document(inputs, **options)


@pytest.fixture
def old_rules(client, page):
    """A collection whose BM25 vectors follow older rules of words, which knew no numbers."""
    embedder = Counting(dim=16, multivector_dim=8, name="old")
    docs = Collection.open(client, "earlier", embedder=embedder, schema=Schema(bm25="english"))
    docs.add(["norm 9001", "blue whale", Item(page.read_bytes(), text="norm 14001")], ids=[1, 2, 3])
    real = aliased(client, "earlier")
    point_alias(client, "docs", real, instead=False)
    facts = dict(client.get_collection(real).config.metadata["polyvec"])
    assert facts.pop("bm25_rules") == RULES
    client.update_collection(real, metadata={"polyvec": facts})
    norm = models.SparseVector(indices=[5], values=[1.0])
    client.update_vectors(real, [models.PointVectors(id=n, vector={"bm25": norm}) for n in (1, 2, 3)])
    with pytest.warns(UserWarning, match=r"'docs' follow other rules of words.*`reindex` it"):
        return Collection.open(client, "docs", embedder=embedder)


def test_old_rules_of_words_are_told_and_not_mixed(old_rules):
    for use in (lambda: old_rules.add(["new"]), lambda: old_rules.search("9001", mode="hybrid")):
        with pytest.raises(SchemaError, match=r"follow other rules of words.*`reindex` it"):
            use()
    assert old_rules.count() == 3
    assert {len(old_rules.search("whale", mode=mode)) for mode in ("dense", "late", "two-stage")} == {3}
    result = old_rules.verify()
    assert (result.old_words, result.ok) == (True, False)


def test_reindex_makes_the_words_anew_and_encodes_nothing(client, old_rules):
    before = {n: old_rules.embeddings([n], multivector=True)[n] for n in (1, 2, 3)}
    old_rules.embedder.n_encoded = 0
    report = old_rules.reindex(old_rules.embedder)  # the image is not kept anywhere: it could not be encoded
    assert (sorted(report.ok), report.failed, old_rules.embedder.n_encoded) == ([1, 2, 3], [], 0)
    assert old_rules.verify().ok
    for n, old in before.items():
        new = old_rules.embeddings([n], multivector=True)[n]
        np.testing.assert_allclose(new.dense, old.dense, atol=1e-3)
        np.testing.assert_allclose(new.multivector[0], old.multivector[0], atol=1e-3)
    words = {record.id: record.vector["bm25"] for record in client.retrieve("docs", [1, 2, 3], with_vectors=["bm25"])}
    wanted = {1: "norm 9001", 2: "blue whale", 3: "norm 14001"}
    assert {n: set(vector.indices) for n, vector in words.items()} == {
        n: set(bm25.document(text, "english").indices) for n, text in wanted.items()
    }
    assert old_rules.add(["norm 9001"], ids=[1]).skipped == [1]
    again = Collection.open(client, "docs", embedder=old_rules.embedder)
    assert again.search("14001", mode="hybrid", candidates=5)
    assert names(client) == [aliased(client, "docs")]


def test_points_without_all_vectors_are_encoded_where_the_others_are_copied(client, docs):
    docs.add(TEXTS, ids=[1, 2, 3])
    client.delete_vectors("docs", ["late"], [3])
    assert sorted(docs.reindex(OLD, schema=Schema(bm25="english")).ok) == [1, 2, 3]
    assert docs.verify().ok


def test_a_copy_has_the_words_of_today(old_rules, tmp_path):
    assert old_rules.copy_to(tmp_path / "copy").failed == []
    with Collection.open(tmp_path / "copy", "docs", embedder=old_rules.embedder) as copy:
        assert copy.search("9001", mode="hybrid", candidates=5)
        assert copy.verify().ok
    (new,) = open_client(tmp_path / "copy").retrieve("docs", [2], with_vectors=["bm25"])
    assert set(new.vector["bm25"].indices) == set(bm25.document("blue whale", "english").indices)


def test_without_bm25_no_rules_of_words_matter(client, docs):
    assert set(client.get_collection("docs").config.metadata["polyvec"]) == {"embedder", "dense", "late", "schema"}
    assert not docs.verify().old_words
