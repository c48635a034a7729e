import inspect
import json
import threading
import uuid

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from qdrant_polyvec import limits
from qdrant_polyvec.clients import open_client
from qdrant_polyvec.edge import EdgeBackend, shard, shard_config

MAX_SIM = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
VECTORS = {
    "dense": models.VectorParams(size=2, distance=models.Distance.COSINE),
    "late": models.VectorParams(
        size=2,
        distance=models.Distance.DOT,
        multivector_config=MAX_SIM,
        datatype=models.Datatype.FLOAT16,
        hnsw_config=models.HnswConfigDiff(m=0),
        memory=models.Memory.COLD,
    ),
}
ONE_DENSE = {"dense": models.VectorParams(size=2, distance=models.Distance.COSINE)}


def create(client, metadata):
    client.create_collection("docs", VECTORS, metadata=metadata)
    client.create_payload_index("docs", "metadata.source", models.PayloadSchemaType.KEYWORD)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    client = open_client(tmp_path_factory.mktemp("index"))
    create(client, metadata={})
    yield client
    client.close()


@pytest.fixture
def client(shared):
    """An empty collection `docs`, the same one for all tests that leave its settings alone."""
    shared.delete("docs", models.Filter())
    return shared


@pytest.fixture
def fresh(tmp_path):
    """A folder of its own, for tests that change more than points."""
    client = open_client(tmp_path / "fresh")
    create(client, metadata={"made": "now"})
    yield client
    client.close()


def struct(identity, dense=(1.0, 0.0), late=((1.0, 0.0),), payload=None):
    return models.PointStruct(
        id=identity, vector={"dense": list(dense), "late": [list(r) for r in late]}, payload=payload
    )


def payload_of(client, identity):
    return client.retrieve("docs", [identity])[0].payload


def test_a_collection_is_found_again_with_its_settings_metadata_and_points(tmp_path):
    client = open_client(tmp_path)
    create(client, metadata={"made": {"by": "me"}})
    client.upsert("docs", [struct(1, payload={"n": 1})])
    before = client.get_collection("docs")
    client.close()
    again = open_client(tmp_path)
    after = again.get_collection("docs")
    assert after.config == before.config
    assert after.config.params.vectors == VECTORS
    assert after.config.metadata == {"made": {"by": "me"}}
    assert after.points_count == 1
    assert after.payload_schema["metadata.source"].data_type == models.PayloadSchemaType.KEYWORD
    assert payload_of(again, 1) == {"n": 1}
    again.close()


def test_collections_are_listed_deleted_and_not_made_twice(fresh):
    fresh.create_collection("other", ONE_DENSE)
    assert [found.name for found in fresh.get_collections().collections] == ["docs", "other"]
    with pytest.raises(ValueError, match="'other' already exists"):
        fresh.create_collection("other", ONE_DENSE)
    assert fresh.delete_collection("other")
    assert not fresh.delete_collection("other")
    assert not fresh.collection_exists("other")
    with pytest.raises(ValueError, match=r"'other' not found in .*; there is 'docs'"):
        fresh.count("other")
    fresh.create_collection("other", ONE_DENSE)
    assert fresh.count("other").count == 0


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", "a:b", "x" * 201])
def test_a_collection_name_cannot_leave_the_folder(client, name):
    with pytest.raises(ValueError, match="cannot name a collection"):
        client.create_collection(name, ONE_DENSE)


def test_metadata_is_merged_and_none_removes_a_key(fresh):
    fresh.update_collection("docs", metadata={"a": 1, "b": {"c": 2}})
    fresh.update_collection("docs", metadata={"a": None, "b": 3})
    assert fresh.get_collection("docs").config.metadata == {"made": "now", "b": 3}


def test_ids_come_back_as_integers_and_strings(client):
    name = uuid.uuid4()
    client.upsert("docs", [struct(7), struct(name), struct(str(uuid.UUID(int=3)))])
    records, _ = client.scroll("docs")
    assert {record.id for record in records} == {7, str(name), str(uuid.UUID(int=3))}
    page, following = client.scroll("docs", limit=1)
    rest, end = client.scroll("docs", offset=following)
    assert isinstance(following, int | str)
    assert {record.id for record in page + rest} == {record.id for record in records}
    assert end is None


def test_vectors_and_payload_keys_are_returned_as_asked(client):
    client.upsert("docs", [struct(1, payload={"a": 1, "b": [None, 2.5, {"c": "x"}]})])
    record = client.retrieve("docs", [1, 2], with_vectors=["late"])[0]
    assert record.vector == {"late": [[1.0, 0.0]]}
    assert record.payload == {"a": 1, "b": [None, 2.5, {"c": "x"}]}
    assert client.retrieve("docs", [1], with_payload=False)[0].payload is None
    assert client.retrieve("docs", [1], with_payload=["a"])[0].payload == {"a": 1}
    excluded = models.PayloadSelectorExclude(exclude=["a"])
    assert set(client.retrieve("docs", [1], with_payload=excluded)[0].payload) == {"b"}
    assert set(client.retrieve("docs", [1], with_vectors=True)[0].vector) == {"dense", "late"}


def test_payloads_are_set_overwritten_and_deleted_by_ids_or_filter(client):
    client.upsert("docs", [struct(i, payload={"n": i, "x": 0}) for i in (1, 2)])
    second = models.Filter(must=[models.FieldCondition(key="n", match=models.MatchValue(value=2))])
    client.set_payload("docs", {"y": 1}, points=[1])
    client.set_payload("docs", {"z": 1}, points=[1], key="deep")
    client.set_payload("docs", {"y": 2}, points=second)
    assert payload_of(client, 1) == {"n": 1, "x": 0, "y": 1, "deep": {"z": 1}}
    assert payload_of(client, 2) == {"n": 2, "x": 0, "y": 2}
    client.delete_payload("docs", ["x"], points=models.FilterSelector(filter=second))
    client.overwrite_payload("docs", {"only": 1}, points=models.PointIdsList(points=[1]))
    assert payload_of(client, 1) == {"only": 1}
    assert payload_of(client, 2) == {"n": 2, "y": 2}
    client.delete("docs", second)
    client.clear_payload("docs", [1])
    assert [(record.id, record.payload) for record in client.scroll("docs")[0]] == [(1, {})]


def test_a_payload_index_is_made_and_removed(fresh):
    fresh.create_payload_index("docs", "n", models.IntegerIndexParams(type="integer", lookup=True, range=True))
    fresh.create_payload_index("docs", "t", "text")
    kinds = {field: index.data_type.value for field, index in fresh.get_collection("docs").payload_schema.items()}
    assert kinds == {"metadata.source": "keyword", "n": "integer", "t": "text"}
    fresh.delete_payload_index("docs", "n")
    assert "n" not in fresh.get_collection("docs").payload_schema
    with pytest.raises(ValueError, match="field_schema"):
        fresh.create_payload_index("docs", "n")


def test_points_are_ordered_by_a_payload_field(fresh):
    fresh.create_payload_index("docs", "n", models.PayloadSchemaType.INTEGER)
    fresh.upsert("docs", [struct(i, payload={"n": -i}) for i in (1, 2, 3)])
    records, _ = fresh.scroll("docs", order_by=models.OrderBy(key="n", direction=models.Direction.ASC, start_from=-2))
    assert [(record.id, record.order_value) for record in records] == [(2, -2), (1, -1)]


def test_updates_can_depend_on_what_is_stored(client):
    client.upsert("docs", [struct(1, payload={"n": 1})])
    client.upsert("docs", [struct(1, payload={"n": 9})], update_mode=models.UpdateMode.INSERT_ONLY)
    client.upsert("docs", [struct(2)], update_mode=models.UpdateMode.UPDATE_ONLY)
    assert payload_of(client, 1) == {"n": 1}
    assert client.count("docs").count == 1


def test_an_unnamed_vector_and_a_batch_are_points_too(fresh):
    fresh.create_collection("plain", models.VectorParams(size=2, distance=models.Distance.DOT))
    fresh.upsert("plain", models.Batch(ids=[1, 2], vectors=[[1.0, 2.0], [3.0, 4.0]], payloads=[{"n": 1}, {"n": 2}]))
    found = fresh.query_points("plain", query=[1.0, 0.0], with_vectors=True).points
    assert [(point.id, point.score, point.vector, point.payload) for point in found] == [
        (2, 3.0, [3.0, 4.0], {"n": 2}),
        (1, 1.0, [1.0, 2.0], {"n": 1}),
    ]
    fresh.upsert("docs", models.Batch(ids=[5], vectors={"dense": [[1.0, 0.0]], "late": [[[1.0, 0.0]]]}))
    assert fresh.retrieve("docs", [5], with_vectors=True)[0].vector == {"dense": [1.0, 0.0], "late": [[1.0, 0.0]]}


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({"dense": [NAN, 0.0]}, "Point 1: vector 'dense' contains NaN"),
        ({"late": [[1.0, INF]]}, "vector 'late' contains NaN or infinity"),
        ({"dense": [1.0, 0.0, 0.0]}, r"vector 'dense' has shape \(3,\); it takes 2 numbers"),
        ({"dense": [[1.0, 0.0]]}, "vector 'dense' has shape"),
        ({"late": [1.0, 0.0]}, r"multi-vector 'late' has shape \(2,\); it takes one or more rows of 2"),
        ({"late": [[1.0], [1.0, 2.0]]}, "rows of one length"),
        ({"late": []}, "one or more rows"),
        ({"other": [1.0, 0.0]}, "no vector 'other'; the collection has 'dense', 'late'"),
        ({"late": np.zeros((2**19, 2)).tolist()}, "has 524288 rows of 2; Qdrant accepts at most 524287"),
    ],
)
def test_a_vector_that_does_not_fit_is_refused_and_nothing_is_stored(client, vectors, message):
    with pytest.raises(ValueError, match=message):
        client.upsert("docs", [struct(2), models.PointStruct.model_construct(id=1, vector=vectors, payload={})])
    assert client.count("docs").count == 0


def test_8191_rows_of_128_are_the_most_that_is_accepted(tmp_path):
    client = open_client(tmp_path)
    client.create_collection(
        "docs", {"late": models.VectorParams(size=128, distance=models.Distance.DOT, multivector_config=MAX_SIM)}
    )
    rows = np.full((8192, 128), 0.5, np.float32)
    client.upsert("docs", [models.PointStruct.model_construct(id=1, vector={"late": rows[:8191]}, payload={})])
    with pytest.raises(ValueError, match="8192 rows of 128; Qdrant accepts at most 8191"):
        client.upsert("docs", [models.PointStruct.model_construct(id=2, vector={"late": rows}, payload={})])
    client.close()


@pytest.mark.parametrize("identity", [-1, 2**64, True, "page-1", 1.5])
def test_a_bad_id_is_refused(client, identity):
    with pytest.raises(ValueError, match="not a point id"):
        client.upsert("docs", [models.PointStruct.model_construct(id=identity, vector={}, payload={})])


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"query": [1.0, 0.0], "using": "late"}, "multi-vector 'late' has shape"),
        ({"query": [[1.0, 0.0]], "using": "dense"}, "vector 'dense' has shape"),
        ({"query": [NAN, 0.0], "using": "dense"}, "NaN"),
        ({"query": [1.0, 0.0]}, "no vector ''"),
        ({"query": [1.0, 0.0], "using": "dense", "limit": 0}, "`limit` is 0"),
        ({"prefetch": models.Prefetch(query=[1.0, 0.0], using="dense")}, "needs `query`"),
        ({"prefetch": models.Prefetch(query=[1.0, 0.0], using="nil"), "query": [1.0, 0.0], "using": "dense"}, "'nil'"),
    ],
)
def test_a_query_that_does_not_fit_is_refused(client, query, message):
    with pytest.raises(ValueError, match=message):
        client.query_points("docs", **query)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (
            lambda c: c.query_points(
                "docs", query=1, using="dense", lookup_from=models.LookupLocation(collection="docs", shard_key="a")
            ),
            "shard_key",
        ),
        (lambda c: c.query_points("docs", shard_key_selector="a"), "shard_key_selector"),
        (lambda c: c._client.query_points("docs", query=models.Document(text="a", model="b")), "query by Document"),
        (
            lambda c: c._client.upsert(
                "docs", [models.PointStruct(id=1, vector={"dense": models.Document(text="a", model="b")})]
            ),
            "given as Document",
        ),
        (lambda c: c.create_collection("x", ONE_DENSE, replication_factor=2), "replication_factor"),
        (lambda c: c.create_collection("x", ONE_DENSE, sharding_method=models.ShardingMethod.CUSTOM), "sharding"),
        (
            lambda c: c.create_collection("x", ONE_DENSE, optimizers_config={"flush_interval_sec": 3}),
            "flush_interval_sec",
        ),
        (lambda c: c.update_collection("docs", hnsw_config=models.HnswConfigDiff(m=4)), "hnsw_config"),
        (lambda c: c.search_matrix_pairs("docs", using="dense"), "`search_matrix_pairs`"),
        (lambda c: c.create_snapshot("docs"), "`create_snapshot`"),
        (lambda c: c.create_shard_key("docs", "a"), "`create_shard_key`"),
        (lambda c: c.cluster_status(), "`cluster_status`"),
    ],
)
def test_what_only_a_server_can_do_is_refused_by_name(client, call, name):
    with pytest.raises(NotImplementedError, match=f"(?s){name}.*needs a Qdrant server"):
        call(client)


def test_every_call_of_the_interface_is_implemented_or_refused_by_name():
    public = {name for name, _ in inspect.getmembers(QdrantBase, inspect.isfunction) if not name.startswith("_")}
    assert len(public) > 40
    assert all(getattr(EdgeBackend, name) is not getattr(QdrantBase, name) for name in public)


def test_large_uploads_are_cut_into_operations_of_bounded_size(client, monkeypatch):
    sizes = []
    update = shard.Shard.update

    def watched(self, call, operation, n_bytes=0):
        sizes.append(n_bytes)
        update(self, call, operation, n_bytes)

    monkeypatch.setattr(shard.Shard, "update", watched)
    monkeypatch.setattr(limits, "MAX_OPERATION_BYTES", 100)
    client.upsert("docs", [struct(i) for i in range(12)])  # 4 floats each: 16 bytes
    assert sizes == [96, 96]
    client.upload_points("docs", (struct(i) for i in range(12, 20)), batch_size=3)
    assert sizes[2:] == [96, 32]
    assert client.count("docs").count == 20


def test_it_flushes_after_so_many_bytes(fresh, monkeypatch):
    monkeypatch.setattr(shard, "FLUSH_EVERY_BYTES", 64)
    unflushed = []
    for identity in range(6):
        fresh.upsert("docs", [struct(identity)])
        unflushed.append(fresh._client._use.index.opened["docs"].shard.unflushed)
    assert unflushed == [16, 32, 48, 0, 16, 32]


def test_a_closed_index_says_so(fresh):
    fresh.close()
    fresh.close()
    with pytest.raises(RuntimeError, match="is closed; open it again"):
        fresh.count("docs")


def test_a_forgotten_client_releases_its_folder(tmp_path):
    client = open_client(tmp_path)
    create(client, metadata={})
    client.upsert("docs", [struct(1)])
    del client
    again = open_client(tmp_path)
    assert again.count("docs").count == 1
    again.close()


def test_threads_share_a_client(client):
    def work(start):
        for identity in range(start, start + 10):
            client.upsert("docs", [struct(identity)])
            client.query_points("docs", query=[1.0, 0.0], using="dense")

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.count("docs").count == 40


def test_quantized_vectors_are_searched_with_and_without_rescoring(tmp_path):
    client = open_client(tmp_path)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((50, 64)).astype(np.float32)
    quantizations = [
        models.BinaryQuantization(binary=models.BinaryQuantizationConfig(memory=models.Memory.PINNED)),
        models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type="int8", quantile=0.99)),
        models.TurboQuantization(turbo=models.TurboQuantQuantizationConfig(bits="bits1_5")),
        models.ProductQuantization(product=models.ProductQuantizationConfig(compression="x8")),
    ]
    for n, quantization in enumerate(quantizations):
        params = models.VectorParams(size=64, distance=models.Distance.DOT, quantization_config=quantization)
        client.create_collection(f"q{n}", params)
        client.upsert(f"q{n}", [models.PointStruct(id=i, vector=vectors[i].tolist()) for i in range(50)])
        assert client.get_collection(f"q{n}").config.params.vectors.quantization_config == quantization

    def scores(**options):
        params = models.SearchParams(quantization=models.QuantizationSearchParams(**options), hnsw_ef=50)
        return [
            point.score for point in client.query_points("q0", query=vectors[0], search_params=params, limit=5).points
        ]

    exact = sorted(vectors @ vectors[0])[::-1][:5]
    assert scores(ignore=True) == pytest.approx(exact, abs=1e-3)
    assert scores(rescore=False)[0] != pytest.approx(exact[0], abs=1e-3)
    assert scores(rescore=True, oversampling=10.0) == pytest.approx(exact, abs=1e-3)
    client.close()


def test_vector_settings_reach_the_engine():
    config = models.CreateCollection(
        vectors=VECTORS
        | {
            "small": models.VectorParams(
                size=3,
                distance=models.Distance.EUCLID,
                datatype=models.Datatype.TURBO4,
                hnsw_config=models.HnswConfigDiff(ef_construct=7),
            )
        }
    )
    vectors = shard_config.native_config(config).vectors
    late, small = vectors["late"], vectors["small"]
    assert (late.size, late.hnsw_config.m, str(late.memory), str(late.datatype)) == (
        2,
        0,
        "Memory.Cold",
        "VectorStorageDatatype.Float16",
    )
    assert late.multivector_config is not None
    assert (small.hnsw_config.m, small.hnsw_config.ef_construct) == (16, 7)
    assert (str(small.distance), str(small.datatype)) == ("Distance.Euclid", "VectorStorageDatatype.Turbo4")
    assert vectors["dense"].multivector_config is None


def test_a_damaged_manifest_names_its_file_and_spares_the_other_collections(tmp_path):
    client = open_client(tmp_path)
    client.create_collection("good", ONE_DENSE)
    client.create_collection("bad", ONE_DENSE)
    client.create_collection("new", ONE_DENSE)
    client.close()
    (tmp_path / "bad.edge.json").write_text("{")
    manifest = json.loads((tmp_path / "new.edge.json").read_text())
    (tmp_path / "new.edge.json").write_text(json.dumps(manifest | {"format": 2}))
    client = open_client(tmp_path)
    with pytest.raises(ValueError, match=r"bad\.edge\.json' is not the manifest"):
        client.count("bad")
    with pytest.raises(ValueError, match="has format 2; this version reads 1"):
        client.count("new")
    assert client.count("good").count == 0
    client.close()


def test_what_an_interrupted_creation_left_does_not_stand_in_the_way(tmp_path):
    client = open_client(tmp_path)
    client.create_collection("docs", ONE_DENSE)
    client.close()
    (tmp_path / "docs.edge.json").unlink()
    client = open_client(tmp_path)
    assert not client.collection_exists("docs")
    client.create_collection("docs", ONE_DENSE)
    assert client.count("docs").count == 0
    client.close()


def test_it_is_a_genuine_client(client):
    assert type(client) is QdrantClient
    assert isinstance(client._client, QdrantBase)
