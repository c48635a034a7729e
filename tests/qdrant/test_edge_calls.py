"""What the embedded backend adds to points and searches: aliases, vector names, groups, batches, errors, optimizing."""

import subprocess
import threading
import time
import uuid

import numpy as np
import pytest
from qdrant_client import models

from qdrant_polyvec import limits
from qdrant_polyvec.clients import open_client
from qdrant_polyvec.edge import EdgeBackend, optimizing, shard, shard_config
from qdrant_polyvec.edge.folder import Manifest
from qdrant_polyvec.edge.shard import EngineError
from qdrant_polyvec.errors import NoRoomError

DOT = models.Distance.DOT
MAX_SIM = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
DENSE = {"dense": models.VectorParams(size=2, distance=DOT)}
WORDS = {"words": models.SparseVectorParams(modifier=models.Modifier.IDF)}


@pytest.fixture
def client(tmp_path):
    client = open_client(tmp_path / "index")
    client.create_collection("docs", DENSE, sparse_vectors_config=WORDS)
    yield client
    client.close()


def reopened(client):
    folder = client._client._use.index.folder.path
    client.close()
    return open_client(folder)


def words(*indices, value=1.0):
    return models.SparseVector(indices=list(indices), values=[value] * len(indices))


def struct(identity, payload=None, **vectors):
    return models.PointStruct(id=identity, vector={"dense": [1.0, float(identity)]} | vectors, payload=payload)


def alias_of(name, alias):
    return models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=name, alias_name=alias))


def no_alias(alias):
    return models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))


def renamed(old, new):
    return models.RenameAliasOperation(rename_alias=models.RenameAlias(old_alias_name=old, new_alias_name=new))


def aliases(client):
    return {alias.alias_name: alias.collection_name for alias in client.get_aliases().aliases}


# Aliases


def test_an_alias_stands_for_its_collection_in_every_call(client):
    client.update_collection_aliases([alias_of("docs", "now")])
    assert client.collection_exists("now")
    client.upsert("now", [struct(1, {"n": 1}), struct(2, {"n": 1})])
    client.create_payload_index("now", "n", "integer")
    client.update_collection("now", metadata={"a": 1})
    assert client.get_collection("docs").config.metadata == {"a": 1}
    assert client.count("now").count == client.count("docs").count == 2
    assert [point.id for point in client.query_points("now", query=[0.0, 1.0], using="dense").points] == [2, 1]
    assert [point.id for point in client.query_points("now", query=1, using="dense").points] == [2]
    assert client.facet("now", "n").hits == [models.FacetValueHit(value=1, count=2)]
    assert [record.id for record in client.scroll("now")[0]] == [1, 2]
    assert [found.name for found in client.get_collections().collections] == ["docs"]


def test_aliases_are_pointed_elsewhere_renamed_and_kept(client):
    client.create_collection("new", DENSE)
    client.update_collection_aliases([alias_of("docs", "now"), alias_of("docs", "old")])
    client.update_collection_aliases([alias_of("new", "now"), renamed("old", "before"), no_alias("none")])
    assert aliases(client) == {"now": "new", "before": "docs"}
    assert [alias.alias_name for alias in client.get_collection_aliases("new").aliases] == ["now"]
    client = reopened(client)
    assert aliases(client) == {"now": "new", "before": "docs"}
    client.delete_collection("new")
    assert aliases(client) == {"before": "docs"}
    client.create_collection("new", DENSE)
    assert aliases(client) == {"before": "docs"}
    assert not client.delete_collection("before")  # an alias is deleted as an alias
    client.close()


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        ([alias_of("nil", "x")], "Collection 'nil' not found for the alias 'x'; there is 'docs'"),
        ([alias_of("now", "x")], "Collection 'now' not found"),
        ([alias_of("docs", "docs")], "'docs' already exists"),
        ([renamed("now", "docs")], "'docs' already exists"),
        ([renamed("nil", "x")], "Alias 'nil' not found; there is 'now'"),
        ([alias_of("docs", "a/b")], "cannot name a collection"),
    ],
)
def test_a_refused_change_of_aliases_changes_none(client, operations, message):
    client.update_collection_aliases([alias_of("docs", "now")])
    with pytest.raises(ValueError, match=message):
        client.update_collection_aliases([no_alias("now"), alias_of("docs", "now"), alias_of("docs", "y"), *operations])
    assert aliases(client) == {"now": "docs"}


def test_a_collection_cannot_have_the_name_of_an_alias(client):
    client.update_collection_aliases([alias_of("docs", "now")])
    with pytest.raises(ValueError, match="Alias 'now' already exists"):
        client.create_collection("now", DENSE)


def test_damaged_aliases_name_their_file(client):
    client = reopened(client)
    (client._client._use.index.folder.path / "aliases.json").write_text("[]")
    assert client.count("docs").count == 0
    with pytest.raises(ValueError, match=r"aliases\.json' is not a file of aliases"):
        client.get_aliases()
    client.close()


# Vectors


def test_a_collection_of_sparse_vectors_only(client):
    client.create_collection("sparse", sparse_vectors_config=WORDS)
    client.upsert("sparse", models.Batch(ids=[1, 2], vectors={"words": [words(1, 2), words(2, value=3.0)]}))
    client = reopened(client)
    found = client.query_points("sparse", query=words(2), using="words", with_vectors=True).points
    assert [point.id for point in found] == [2, 1]
    assert found[0].vector == {"words": words(2, value=3.0)}
    info = client.get_collection("sparse")
    assert (info.config.params.vectors, info.config.params.sparse_vectors) == ({}, WORDS)
    client.close()


def test_settings_of_sparse_vectors_and_payloads_reach_the_engine():
    index = models.SparseIndexParams(full_scan_threshold=7, datatype=models.Datatype.FLOAT16, memory=models.Memory.COLD)
    native = shard_config.native_config(
        models.CreateCollection(
            sparse_vectors={
                "words": models.SparseVectorParams(index=index, modifier=models.Modifier.IDF),
                "plain": models.SparseVectorParams(modifier=models.Modifier.NONE),
            },
            payload=models.PayloadStorageParams(memory=models.Memory.CACHED),
            optimizers_config=models.OptimizersConfigDiff(indexing_threshold=9),
        )
    )
    assert "full_scan_threshold: Some(7)" in repr(native.sparse_vectors["words"]) or (
        native.sparse_vectors["words"].full_scan_threshold == 7
    )
    assert str(native.sparse_vectors["words"].datatype) == "VectorStorageDatatype.Float16"
    assert str(native.sparse_vectors["words"].modifier) == "Modifier.Idf"
    assert native.sparse_vectors["plain"].modifier is None
    assert str(native.payload_memory) == "Memory.Cached"
    assert native.optimizers.indexing_threshold == 9


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (models.SparseVector.model_construct(indices=[1, 2], values=[1.0]), "2 indices for 1 values"),
        (words(1, 1), "names an index twice"),
        (words(-1), "outside 0 to 4294967295"),
        (words(2**32), "outside 0 to 4294967295"),
        (words(1, value=float("nan")), "contains NaN or infinity"),
        ([1.0], r"'words' is sparse; it takes models.SparseVector\(indices=…, values=…\), not list"),
    ],
)
def test_a_sparse_vector_that_does_not_fit_is_refused(client, value, message):
    point = models.PointStruct.model_construct(id=1, vector={"words": value}, payload=None)
    with pytest.raises(ValueError, match=f"Point 1: .*{message}"):
        client.upsert("docs", [point])
    with pytest.raises(ValueError, match="'dense' is dense"):
        client.query_points("docs", query=words(1), using="dense")


def test_arrays_are_stored_as_they_are_given(client):
    late = models.VectorParams(size=3, distance=DOT, multivector_config=MAX_SIM)
    client.create_collection("late", {"dense": models.VectorParams(size=2, distance=DOT), "late": late})
    rows = np.arange(12, dtype=np.float32).reshape(4, 3) / 7
    forms = [
        rows,
        np.asfortranarray(rows),
        np.repeat(rows, 2, axis=0)[::2],
        rows.astype(np.float64),
        list(rows),
        rows.tolist(),
    ]
    points = [
        models.PointStruct.model_construct(id=i, vector={"late": form, "dense": np.float16([1, i])}, payload={"n": i})
        for i, form in enumerate(forms)
    ]
    client.upsert("late", points)
    records = client.retrieve("late", range(len(forms)), with_vectors=True)
    assert len(records) == len(forms)
    for i, record in enumerate(records):
        assert record.vector == {"late": rows.tolist(), "dense": [1.0, float(i)]}
    assert limits.n_floats({"late": rows, "dense": np.ones(2), "words": words(1, 2), "list": [[1.0, 2.0]]}) == 20


def test_columns_are_uploaded_with_and_without_ids(client):
    client.create_collection("plain", models.VectorParams(size=2, distance=DOT))
    client.upload_collection("plain", np.eye(2, dtype=np.float32), payload=[{"n": 0}, {"n": 1}], ids=[7, 8])
    client.upload_collection("plain", [[2.0, 2.0]])
    records = client.scroll("plain", with_vectors=True)[0]
    assert [(record.id, record.payload, record.vector) for record in records[:2]] == [
        (7, {"n": 0}, [1.0, 0.0]),
        (8, {"n": 1}, [0.0, 1.0]),
    ]
    uuid.UUID(records[2].id)
    client.upload_collection("docs", {"dense": np.ones((3, 2), np.float32)}, ids=iter([1, 2, 3]), wait=True)
    assert client.count("docs").count == 3
    with pytest.raises(ValueError, match="differ in number"):
        client.upload_collection("docs", {"dense": np.ones((3, 2)), "words": [words(1)]})


def test_vectors_of_points_are_replaced_and_removed(client):
    client.upsert("docs", [struct(i, {"n": i}, words=words(i)) for i in (1, 2, 3)])
    client.update_vectors("docs", [models.PointVectors(id=1, vector={"words": words(9)})])
    assert client.retrieve("docs", [1], with_vectors=True)[0].vector == {"dense": [1.0, 1.0], "words": words(9)}
    third = models.Filter(must=[models.FieldCondition(key="n", match=models.MatchValue(value=3))])
    client.delete_vectors("docs", ["words"], [1])
    client.delete_vectors("docs", ["words"], third)
    has_words = models.Filter(must=[models.HasVectorCondition(has_vector="words")])
    assert [record.id for record in client.scroll("docs", has_words)[0]] == [2]
    assert client.retrieve("docs", [3])[0].payload == {"n": 3}
    with pytest.raises(ValueError, match="no vector 'nil'; the collection has 'dense', 'words'"):
        client.delete_vectors("docs", ["nil"], [1])
    with pytest.raises(ValueError, match="`update_vectors` on the collection 'docs': No point with id 99"):
        client.update_vectors("docs", [models.PointVectors(id=99, vector={"dense": [1.0, 1.0]})])


LATE = models.DenseVectorNameConfig(dense=models.DenseVectorConfig(size=3, distance=DOT, multivector_config=MAX_SIM))
MORE_WORDS = models.SparseVectorNameConfig(sparse=models.SparseVectorConfig(modifier=models.Modifier.IDF))


def test_vectors_are_added_to_and_removed_from_a_collection(client):
    client.upsert("docs", [struct(1)])
    client.create_vector_name("docs", "late", LATE)
    client.create_vector_name("docs", "late", LATE)
    client.create_vector_name("docs", "more", MORE_WORDS)
    client.update_vectors("docs", [models.PointVectors(id=1, vector={"late": [[1.0, 2.0, 3.0]], "more": words(3)})])
    client.delete_vector_name("docs", "words")
    client = reopened(client)
    params = client.get_collection("docs").config.params
    assert params.vectors == DENSE | {"late": models.VectorParams(size=3, distance=DOT, multivector_config=MAX_SIM)}
    assert set(params.sparse_vectors) == {"more"}
    assert set(client.retrieve("docs", [1], with_vectors=True)[0].vector) == {"dense", "late", "more"}
    assert client.query_points("docs", query=[[0.0, 0.0, 1.0]], using="late").points[0].score == 3.0
    assert client.query_points("docs", query=words(3), using="more").points[0].id == 1
    with pytest.raises(ValueError, match="no vector 'words'"):
        client.query_points("docs", query=words(1), using="words")
    with pytest.raises(ValueError, match="a vector 'late' with other settings"):
        client.create_vector_name("docs", "late", MORE_WORDS)
    with pytest.raises(ValueError, match="no vector 'words'; the collection has 'dense', 'late', 'more'"):
        client.delete_vector_name("docs", "words")
    client.create_vector_name("docs", "words", LATE)  # as another kind
    client.upsert("docs", [struct(2, words=[[1.0, 0.0, 0.0]])])
    client._client.optimize("docs")
    assert client.query_points("docs", query=[[1.0, 0.0, 0.0]], using="words").points[0].id == 2
    client.close()


@pytest.mark.parametrize("reached_the_shard", [True, False])
@pytest.mark.parametrize("call", ["create", "delete"])
def test_an_interrupted_change_of_vectors_is_ended_when_the_folder_is_opened(client, call, reached_the_shard):
    client.upsert("docs", [struct(1)])
    backend = client._client
    config = backend._use.index.opened["docs"].config
    if call == "create":
        changed, name = shard_config.with_vector(config, "late", LATE), "late"
    else:
        changed, name = shard_config.without_vector(config, "words"), "words"
    if reached_the_shard:
        getattr(client, f"{call}_vector_name")("docs", name, *([LATE] if call == "create" else []))
    backend._use.index.folder.write("docs", Manifest(changed, changing=name))  # as a process killed here leaves it
    client = reopened(client)
    names = {"dense", "words", "late"} if call == "create" else {"dense"}
    assert set(shard_config.vector_params(client._client._use.index.collection("docs").config)) == names
    assert client._client._use.index.folder.read("docs").changing is None
    client.upsert("docs", [struct(2, **({"late": [[1.0, 2.0, 3.0]]} if call == "create" else {}))])
    assert set(client.retrieve("docs", [2], with_vectors=True)[0].vector) == names - {"words"}
    client.close()


# Groups, lookups, batches


def test_groups_bring_along_the_point_of_another_collection(client):
    client.create_collection("books", DENSE)
    client.upsert("books", [struct(4, {"title": "four"})])
    client.upsert("docs", [struct(i, {"book": i}) for i in (3, 4)] + [struct(5, {"book": "five"}), struct(6)])
    request = {"group_by": "book", "query": [0.0, 1.0], "using": "dense"}
    groups = client.query_points_groups("docs", **request, with_lookup="books").groups
    assert [(group.id, group.lookup and group.lookup.payload) for group in groups] == [
        ("five", None),
        (4, {"title": "four"}),
        (3, None),
    ]
    with_vectors = models.WithLookup(collection="books", with_payload=False, with_vectors=True)
    lookup = client.query_points_groups("docs", **request, with_lookup=with_vectors).groups[1].lookup
    assert (lookup.payload, lookup.vector) == (None, {"dense": [1.0, 4.0]})
    assert groups[0].hits[0].payload == {"book": "five"}


def test_groups_are_complete_however_many_points_are_in_between(client):
    client.upsert("docs", [struct(i, {"kind": "rare" if i in (1, 2) else "common"}) for i in range(1, 301)])
    found = client.query_points_groups(
        "docs", "kind", query=[0.0, 1.0], using="dense", limit=2, group_size=2, with_payload=False
    ).groups
    assert [(group.id, [hit.id for hit in group.hits]) for group in found] == [("common", [300, 299]), ("rare", [2, 1])]


def test_a_vector_is_looked_up_in_another_collection(client):
    client.create_collection("queries", {"q": models.VectorParams(size=2, distance=DOT)})
    client.upsert("queries", [models.PointStruct(id=1, vector={"q": [0.0, 1.0]})])
    client.upsert("docs", [struct(i) for i in (1, 2)])
    there = models.LookupLocation(collection="queries", vector="q")
    found = client.query_points("docs", query=1, using="dense", lookup_from=there).points
    assert [point.id for point in found] == [2, 1]  # the point 1 of another collection excludes nothing here
    staged = models.Prefetch(query=1, using="dense", lookup_from=there, limit=1)
    assert [p.id for p in client.query_points("docs", prefetch=staged, query=[1.0, 0.0], using="dense").points] == [2]
    for query, message in [(9, "Point 9, which the query mentions, is not in 'docs'"), ("x", "'x' is not a point id")]:
        with pytest.raises(ValueError, match=message):
            client._client.query_points("docs", query=query, using="dense")
    with pytest.raises(ValueError, match="Point 1 of 'docs' has no vector 'words'"):
        client.query_points("docs", query=1, using="words")


def test_a_batch_of_updates_is_applied_in_order(client):
    first = models.PointIdsList(points=[1])
    client.batch_update_points(
        "docs",
        [
            models.UpsertOperation(upsert=models.PointsList(points=[struct(1, {"a": 1}), struct(2, {"a": 2})])),
            models.UpsertOperation(
                upsert=models.PointsBatch(batch=models.Batch(ids=[3], vectors={"dense": [[1.0, 3.0]]}))
            ),
            models.SetPayloadOperation(set_payload=models.SetPayload(payload={"b": 1}, points=[1, 2, 3])),
            models.DeletePayloadOperation(delete_payload=models.DeletePayload(keys=["a"], points=[1])),
            models.OverwritePayloadOperation(overwrite_payload=models.SetPayload(payload={"c": 1}, points=[2])),
            models.ClearPayloadOperation(clear_payload=models.PointIdsList(points=[3])),
            models.UpdateVectorsOperation(
                update_vectors=models.UpdateVectors(points=[models.PointVectors(id=3, vector={"words": words(1)})])
            ),
            models.DeleteVectorsOperation(delete_vectors=models.DeleteVectors(points=[3], vector=["dense"])),
        ],
    )
    records = client.scroll("docs", with_vectors=True)[0]
    assert [(record.id, record.payload, set(record.vector)) for record in records] == [
        (1, {"b": 1}, {"dense"}),
        (2, {"c": 1}, {"dense"}),
        (3, {}, {"words"}),
    ]
    client.batch_update_points("docs", [models.DeleteOperation(delete=first)])
    assert client.count("docs").count == 2
    with pytest.raises(ValueError, match="`SetPayload` changes nothing"):
        client.batch_update_points(
            "docs", [models.SetPayloadOperation(set_payload=models.SetPayload(payload={"b": 1}))]
        )


def test_a_collection_is_made_anew(client):
    client.upsert("docs", [struct(1)])
    with pytest.raises(NotImplementedError, match="replication_factor"):
        client._client.recreate_collection("docs", DENSE, replication_factor=2)
    with pytest.raises(ValueError, match="vector size 0"):
        client._client.recreate_collection("docs", models.VectorParams.model_construct(size=0, distance=DOT))
    assert client.count("docs").count == 1
    with pytest.warns(DeprecationWarning, match="recreate_collection"):
        client.recreate_collection("docs", {"other": models.VectorParams(size=3, distance=DOT)})
    assert client.count("docs").count == 0
    assert set(client.get_collection("docs").config.params.vectors) == {"other"}


def test_text_is_indexed_as_asked(client):
    client.create_payload_index(
        "docs",
        "text",
        models.TextIndexParams(
            type="text",
            tokenizer=models.TokenizerType.WORD,
            lowercase=True,
            phrase_matching=True,
            stemmer=models.SnowballParams(type="snowball", language=models.SnowballLanguage.ENGLISH),
            stopwords=models.StopwordsSet(languages=[models.Language.ENGLISH], custom=["fox"]),
        ),
    )
    client.create_payload_index(
        "docs",
        "other",
        models.TextIndexParams(
            type="text", stemmer=models.DisabledStemmerParams(type="none"), stopwords=models.Language.GERMAN
        ),
    )
    client.upsert("docs", [struct(1, {"text": "The running dogs"}), struct(2, {"text": "dogs were running, fox"})])

    def found(match):
        restricted = models.Filter(must=[models.FieldCondition(key="text", match=match)])
        return [record.id for record in client.scroll("docs", restricted)[0]]

    assert found(models.MatchText(text="run dog")) == [1, 2]
    assert found(models.MatchPhrase(phrase="running dog")) == [1]
    assert found(models.MatchText(text="fox run")) == [1, 2]  # as a stop word it does not count


# Errors


def test_what_the_caller_did_wrong_is_a_value_error_with_the_place_and_the_cause(client):
    client.upsert("docs", [struct(1)])
    with pytest.raises(ValueError, match="`facet` on the collection 'docs': No appropriate index") as caught:
        client.facet("docs", "color")
    assert type(caught.value.__cause__) is Exception
    with pytest.raises(ValueError, match="No range index"):
        client.scroll("docs", order_by="n")
    score = models.Prefetch(query=[1.0, 0.0], using="dense")
    with pytest.raises(ValueError, match=r"A formula has met a missing value.*give it `defaults`"):
        client.query_points("docs", prefetch=score, query=models.FormulaQuery(formula="missing"))


def test_what_the_engine_did_wrong_is_an_engine_error_with_the_place_and_the_cause(client, monkeypatch):
    class Failing:
        message = "Service internal error: disk"

        def count(self, _):
            raise Exception(self.message)  # noqa: TRY002 — as the engine does

    client.count("docs")
    engine, client._client._use.index.opened["docs"].shard.engine = (
        client._client._use.index.opened["docs"].shard.engine,
        Failing(),
    )
    with pytest.raises(EngineError, match="`count` on the collection 'docs': Service internal error: disk") as caught:
        client.count("docs")
    assert type(caught.value.__cause__) is Exception
    monkeypatch.setattr(Failing, "message", "No space left on device (os error 28) at path x")
    with pytest.raises(NoRoomError, match="`count` failed"):
        client.count("docs")
    client._client._use.index.opened["docs"].shard.engine = engine


def test_it_tells_what_it_is(client):
    assert client.info().title == "Qdrant Edge, embedded"


# Optimizing


@pytest.fixture
def optimizable(tmp_path):
    client = open_client(tmp_path / "index")
    client.create_collection("docs", DENSE, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=1))
    client.create_collection("other", DENSE)
    client.upload_points("docs", (struct(i, {"n": i}) for i in range(2000)))
    yield client
    client.close()


def segments(client):
    return list((client._client._use.index.folder.path / "docs.edge" / "segments").iterdir())


@pytest.mark.parametrize("in_worker", [False, True])
def test_optimizing_changes_no_result_and_leaves_no_old_segments(optimizable, in_worker):
    backend = optimizable._client
    before = optimizable.query_points("docs", query=[0.5, 1.0], using="dense", limit=5).points
    assert backend.optimize("docs", in_worker=in_worker)
    left = len(segments(optimizable))
    assert not backend.optimize("docs", in_worker=in_worker)
    assert left == len(segments(optimizable)) == optimizable.get_collection("docs").segments_count
    after = optimizable.query_points("docs", query=[0.5, 1.0], using="dense", limit=5).points
    assert [(point.id, point.score) for point in after] == [(point.id, point.score) for point in before]
    optimizable.upsert("docs", [struct(5000)])
    assert optimizable.count("docs").count == 2001


def test_while_a_worker_optimizes_only_its_collection_waits(optimizable, monkeypatch):
    started, may_end = threading.Event(), threading.Event()
    in_worker = optimizing.in_worker

    def held(*arguments):
        changed = in_worker(*arguments)
        started.set()
        assert may_end.wait(60)
        return changed

    monkeypatch.setattr(optimizing, "in_worker", held)
    counted = []
    worker = threading.Thread(target=lambda: optimizable._client.optimize("docs", in_worker=True))
    waiting = threading.Thread(target=lambda: counted.append(optimizable.count("docs").count))
    worker.start()
    assert started.wait(60)
    waiting.start()
    optimizable.upsert("other", [struct(1)])
    optimizable.update_collection("docs", metadata={"a": 1})
    assert [found.name for found in optimizable.get_collections().collections] == ["docs", "other"]
    assert counted == []
    may_end.set()
    worker.join()
    waiting.join()
    assert counted == [2000]


def test_other_threads_run_while_a_worker_optimizes(optimizable):
    ticks, ended = [], threading.Event()

    def tick():
        while not ended.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.005)

    ticking = threading.Thread(target=tick)
    ticking.start()
    begun = time.monotonic()
    optimizable._client.optimize("docs", in_worker=True)
    taken = time.monotonic() - begun
    ended.set()
    ticking.join()
    assert sum(begun < tick < begun + taken for tick in ticks) > 10


def test_a_failing_worker_leaves_the_collection_open(optimizable, monkeypatch):
    def fails(*_):
        raise subprocess.CalledProcessError(3, "worker", stderr="no space left")

    monkeypatch.setattr(optimizing, "in_worker", fails)
    with pytest.raises(EngineError, match=r"worker process failed with exit status 3.*no space left"):
        optimizable._client.optimize("docs", in_worker=True)
    assert optimizable.count("docs").count == 2000


def test_a_real_worker_tells_why_it_failed(tmp_path):
    with pytest.raises(subprocess.CalledProcessError) as caught, (tmp_path / "lock").open("w") as lock:
        optimizing.in_worker(tmp_path / "nowhere", lock.fileno())
    assert "Exception" in caught.value.stderr


def test_windows_has_no_worker(optimizable, monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(NotImplementedError, match="on Windows"):
        optimizable._client.optimize("docs", in_worker=True)


def test_threads_may_use_delete_optimize_and_close_at_once(tmp_path):
    client = open_client(tmp_path)
    client.create_collection("docs", DENSE, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=1))
    unexpected = []

    def work(seed):
        random = np.random.default_rng(seed)
        while True:
            try:
                match random.integers(6):
                    case 0:
                        client._client.recreate_collection("docs", DENSE)
                    case 1:
                        client._client.optimize("docs")
                    case 2:
                        client.update_collection("docs", metadata={"seed": seed})
                    case 3:
                        client.query_points("docs", query=[1.0, 0.0], using="dense")
                    case _:
                        client.upsert("docs", [struct(int(random.integers(50)))])
            except ValueError as error:
                if not any(told in str(error) for told in ("not found", "already exists")):
                    unexpected.append(error)
            except RuntimeError as error:
                if "is closed" in str(error):
                    return
                if "closed or deleted meanwhile" not in str(error):
                    unexpected.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    threads[0].join(1.0)
    client.close()
    for thread in threads:
        thread.join(60)
    assert not unexpected
    assert not any(thread.is_alive() for thread in threads)
    open_client(tmp_path).close()


def test_a_collection_is_deleted_without_being_opened(client, monkeypatch):
    client = reopened(client)
    monkeypatch.setattr(shard.edge.EdgeShard, "load", None, raising=False)
    assert client.delete_collection("docs")
    assert not client.collection_exists("docs")
    client.close()


def test_the_backend_is_reached_through_the_client(client):
    assert isinstance(client._client, EdgeBackend)
