"""What is sent to a server: the real client, with its requests caught and read by its own strict models."""

import json

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from polyvec.testing import HashEmbedder
from qdrant_polyvec import Collection, limits, query, schema
from qdrant_polyvec.fingerprint import remember_model

EMBEDDER = HashEmbedder(dim=8, multivector_dim=4)


class Server:
    """Answers as an empty server that has, or has not, the collection `docs`."""

    def __init__(self, *, config=None):
        self.requests = []
        self.config = config

    def __call__(self, request):
        body = json.loads(request.content) if request.content else None
        self.requests.append((request.method, request.url.path, body))
        return httpx.Response(
            200, json={"result": self.answer(request.method, request.url.path), "status": "ok", "time": 0}
        )

    def answer(self, method, path):
        if path.endswith("/exists"):
            return {"exists": self.config is not None}
        if path == "/collections/docs" and method == "GET":
            return self.config
        if path == "/collections/docs":
            return True
        if path.endswith("/points/query"):
            return {"points": []}
        if path.endswith("/points") and method == "POST":
            return []
        if path.endswith("/points/count"):
            return {"count": 3}
        return {"operation_id": 1, "status": "completed"}

    def bodies(self, method, path):
        return [body for m, p, body in self.requests if (m, p) == (method, path)]


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def docs(server):
    client = QdrantClient(url="http://server", transport=httpx.MockTransport(server), check_compatibility=False)
    return Collection.open(client, "docs", embedder=EMBEDDER)


def test_a_collection_is_created_with_two_vectors_metadata_and_indexes(server, docs):
    (body,) = server.bodies("PUT", "/collections/docs")
    created = models.CreateCollection(**body)
    assert created.vectors == schema.vectors_config(8, 4)
    assert created.metadata == {"polyvec": {"embedder": "hash-8-4", "dense": 8, "late": 4, "schema": 1}}
    assert body["vectors"]["dense"] == {"size": 8, "distance": "Cosine", "datatype": "float16"}
    assert body["vectors"]["late"] == {
        "size": 4,
        "distance": "Dot",
        "datatype": "float16",
        "multivector_config": {"comparator": "max_sim"},
        "hnsw_config": {"m": 0},
        "on_disk": True,
        "memory": "cold",
    }
    indexes = [models.CreateFieldIndex(**body) for body in server.bodies("PUT", "/collections/docs/index")]
    assert [(index.field_name, index.field_schema.value) for index in indexes] == [
        ("_polyvec.task", "keyword"),
        ("metadata.source", "keyword"),
    ]


def test_without_memory_tiers_the_late_vector_is_still_on_disk(monkeypatch):
    monkeypatch.delattr(models, "Memory")
    late = schema.vectors_config(8, 4)["late"]
    assert (late.on_disk, late.memory) == (True, None)


def test_points_are_sent_with_their_vectors_and_payload(server, docs):
    docs.add(["red fox"], ids=["a"], sources=["s"])
    (body,) = server.bodies("PUT", "/collections/docs/points")
    (point,) = models.PointsList(**body).points
    encoded = EMBEDDER.encode_document(["red fox"], task="retrieval", multivector=True)
    assert np.array(point.vector["dense"], np.float32) == pytest.approx(encoded.dense[0])
    assert np.array(point.vector["late"], np.float32) == pytest.approx(encoded.multivector[0])
    assert point.payload["page_content"] == "red fox"
    assert point.payload["_polyvec"]["id"] == "a"


def test_requests_stay_below_the_bound(server, docs, monkeypatch):
    monkeypatch.setattr(limits, "MAX_REQUEST_BYTES", 20_000)
    text = " ".join(str(n) for n in range(100))  # 100 tokens of 4 numbers
    docs.add([f"{n} {text}" for n in range(6)])
    bodies = server.bodies("PUT", "/collections/docs/points")
    assert [len(body["points"]) for body in bodies] == [2, 2, 2]
    vectors = [len(json.dumps([point["vector"] for point in body["points"]])) for body in bodies]
    assert max(vectors) < 20_000


def test_one_request_re_ranks_the_candidates_of_the_same_task(server, docs):
    other = models.Filter(must_not=[models.FieldCondition(key="metadata.n", match=models.MatchValue(value=1))])
    docs.search("red fox", limit=30, task="code", filter=other)
    (body,) = server.bodies("POST", "/collections/docs/points/query")
    request = models.QueryRequest(**body)
    assert (request.using, request.limit, request.params.quantization.ignore) == ("late", 30, True)
    assert not request.params.exact
    assert (request.prefetch.using, request.prefetch.limit) == ("dense", 120)
    task = models.FieldCondition(key="_polyvec.task", match=models.MatchValue(value="code"))
    assert request.filter == request.prefetch.filter == models.Filter(must=[task, other])
    asked = EMBEDDER.encode_query(["red fox"], task="code", multivector=True)
    assert np.array(request.query.nearest, np.float32) == pytest.approx(asked.multivector[0])
    assert np.array(request.prefetch.query, np.float32) == pytest.approx(asked.dense[0])


@pytest.mark.parametrize(("mode", "using"), [("dense", "dense"), ("late", "late")])
def test_one_stage_modes_ask_one_vector(server, docs, mode, using):
    docs.search("red fox", mode=mode)
    (body,) = server.bodies("POST", "/collections/docs/points/query")
    request = models.QueryRequest(**body)
    assert (request.using, request.prefetch, request.limit) == (using, None, 5)


@pytest.mark.parametrize(("limit", "candidates"), [(5, 100), (25, 100), (26, 104)])
def test_candidates_are_at_least_100_and_four_times_the_limit(limit, candidates):
    plan = query.plan("two-stage", np.ones(2, np.float32), np.ones((1, 2), np.float32), task="code", limit=limit)
    assert plan.prefetch.limit == candidates


def test_a_query_that_is_not_finite_or_has_no_multivector_is_refused():
    dense, late = np.ones(2, np.float32), np.ones((1, 2), np.float32)
    with pytest.raises(ValueError, match="dense vector contains NaN"):
        query.plan("dense", dense * np.nan, None, task="code", limit=1)
    with pytest.raises(ValueError, match="late vector contains NaN"):
        query.plan("late", dense, late * np.inf, task="code", limit=1)
    with pytest.raises(ValueError, match="needs the query's multi-vector"):
        query.plan("late", dense, None, task="code", limit=1)


def test_deleting_a_source_is_one_filtered_request(server, docs):
    assert docs.delete(sources=["a", "b"]) == 3
    (body,) = server.bodies("POST", "/collections/docs/points/delete")
    (condition,) = models.FilterSelector(**body).filter.must
    assert (condition.key, condition.match.any) == ("metadata.source", ["a", "b"])


def params(**changes):
    vectors = schema.vectors_config(8, 4)
    return vectors | {name: vectors[name].model_copy(update=update) for name, update in changes.items()}


@pytest.mark.parametrize(
    ("vectors", "difference"),
    [
        ({"dense": params()["dense"]}, "'late' is missing"),
        (params()["dense"], "'dense' is missing; 'late' is missing"),
        (None, "'dense' is missing; 'late' is missing"),
        (params(dense={"size": 9}), "'dense' has size 9, not 8"),
        (params(dense={"distance": models.Distance.DOT}), "'dense' has distance Dot, not Cosine"),
        (params(late={"datatype": None}), "'late' has datatype float32, not float16"),
        (params(late={"hnsw_config": None}), "'late' has graph hnsw, not none"),
        (params(late={"multivector_config": None}), "'late' has comparator None, not max_sim"),
    ],
)
def test_every_difference_of_the_vectors_is_named(vectors, difference):
    with pytest.raises(schema.SchemaError, match=f"Collection 'docs' has other vectors than wanted: {difference}\\."):
        schema.check("docs", vectors, dense=8, late=4)


def test_further_vectors_do_not_matter():
    schema.check("docs", params() | {"pooled": params()["late"]}, dense=8, late=4)


def test_the_name_of_the_model_is_merged_into_the_metadata(server, docs):
    remember_model(docs.client, "docs", "demo")
    assert server.bodies("PATCH", "/collections/docs") == [{"metadata": {"polyvec_model": "demo"}}]
