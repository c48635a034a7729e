"""Requests that the embedded engine would take otherwise than a server: what is accepted, and what is refused how."""

import pytest
from qdrant_client import models

from qdrant_polyvec import open_client

DOT = models.Distance.DOT
NEAR = {"query": [0.0, 1.0], "using": "dense"}
ANY_A = {"must": [{"key": "kind", "match": {"any": ["a"]}}]}
IS_A = models.FieldCondition(key="kind", match=models.MatchValue(value="a"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    client = open_client(tmp_path_factory.mktemp("index"))
    client.create_collection(
        "docs", {"dense": {"size": 2, "distance": "Dot"}}, sparse_vectors_config={"words": models.SparseVectorParams()}
    )
    client.create_payload_index("docs", "kind", {"type": "keyword"})
    yield client
    client.close()


@pytest.fixture
def client(shared):
    shared.delete("docs", models.Filter())
    shared.upsert("docs", [point(1, "a"), point(2, "b"), point(3, "b")])
    return shared


def point(identity, kind):
    return {"id": identity, "vector": {"dense": [1.0, float(identity)]}, "payload": {"kind": kind}}


def ids(points):
    return [point.id for point in points]


def test_dicts_are_models(client):
    assert ids(client.query_points("docs", **NEAR, search_params={"exact": True}, query_filter=ANY_A).points) == [1]
    staged = {"query": [1.0, 0.0], "using": "dense", "prefetch": {**NEAR, "limit": 2}}
    assert set(ids(client.query_points("docs", **staged).points)) == {2, 3}
    here = {"collection": "docs", "vector": "dense"}
    assert ids(client.query_points("docs", query=1, using="dense", lookup_from=here).points) == [3, 2]
    groups = client.query_points_groups("docs", "kind", **NEAR, query_filter=ANY_A, with_lookup={"collection": "docs"})
    assert [group.id for group in groups.groups] == ["a"]
    (record,), _ = client.scroll("docs", ANY_A, with_payload={"exclude": ["kind"]})
    assert (record.id, record.payload) == (1, {})
    assert client.count("docs", ANY_A).count == 1
    assert [(hit.value, hit.count) for hit in client.facet("docs", "kind", facet_filter=ANY_A).hits] == [("a", 1)]
    client.upsert("docs", [point(4, "a"), point(2, "a")], update_filter=ANY_A, update_mode="insert_only")
    assert client.count("docs", ANY_A).count == 2
    client.update_vectors("docs", [{"id": 4, "vector": {"dense": [0.0, 9.0]}}])
    client.batch_update_points("docs", [{"delete": {"points": [3]}}])
    client.upload_points("docs", iter([point(5, "c")]))
    assert ids(client.query_points("docs", **NEAR).points) == [4, 5, 2, 1]
    client.update_collection_aliases([{"create_alias": {"collection_name": "docs", "alias_name": "alias"}}])
    assert client.count("alias").count == 4


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (models.Filter(min_should=models.MinShould(conditions=[IS_A], min_count=0)), "`min_count` is 0"),
        (models.Filter(min_should=models.MinShould(conditions=[IS_A], min_count=-1)), "`min_count` is -1"),
        (models.Filter(must_not=models.FieldCondition(key="kind")), "the condition on 'kind' says nothing"),
        (models.Filter(must=[models.Filter(must_not=models.FieldCondition(key="kind"))]), "says nothing"),
        ({"must": [{"key": "kind", "match": {"valeu": 1}}]}, "validation error"),
        ({"mist": []}, "Extra inputs are not permitted"),
        (models.Filter(must=models.FieldCondition(key="n", match=models.MatchValue(value=2**63))), "64 bits"),
        (models.Filter(must=models.FieldCondition(key="n", match=models.MatchAny(any=[2**63]))), "64 bits"),
        (
            models.Filter(must_not=models.FieldCondition(key="n", values_count=models.ValuesCount(lt=-1))),
            "a number in .* is negative or too large",
        ),
    ],
)
def test_a_filter_that_lets_everything_pass_by_mistake_deletes_nothing(client, condition, message):
    selector = models.FilterSelector(filter=condition) if isinstance(condition, models.Filter) else None
    for change in (
        lambda: client.delete("docs", selector) if selector else client.count("docs", condition),
        lambda: client.scroll("docs", condition),
        lambda: client.query_points("docs", **NEAR, query_filter=condition),
    ):
        with pytest.raises(ValueError, match=message):
            change()
    assert client.count("docs").count == 3


@pytest.mark.parametrize(
    ("call", "arguments", "message"),
    [
        ("delete", [[]], "without any point"),
        ("delete", [models.PointIdsList(points=[])], "without any point"),
        ("clear_payload", [[]], "without any point"),
        ("set_payload", [{"a": 1}, []], "without any point"),
        ("set_payload", [None, [1]], "`payload` is None"),
        ("overwrite_payload", [None, [1]], "`payload` is None"),
        ("overwrite_payload", [[("kind", "c")], [1]], "a payload or metadata is a mapping"),
        ("delete_payload", ["kind", [1]], "`keys` is 'kind'; it must be a list"),
        ("delete_vectors", ["dense", [1]], "`vectors` is 'dense'; it must be a list"),
        ("delete_vectors", [[], [1]], r"`vectors` is \[\]; it must be a list"),
        ("upsert", [[]], "at least one point"),
        ("update_vectors", [[]], "at least one point"),
        ("batch_update_points", [[{"delete": {"points": []}}]], "without any point"),
    ],
)
def test_an_update_that_says_nothing_is_refused(client, call, arguments, message):
    before = client.scroll("docs", with_vectors=True)
    with pytest.raises(ValueError, match=message):
        getattr(client, call)("docs", *arguments)
    assert client.scroll("docs", with_vectors=True) == before


@pytest.mark.parametrize("selector", [{}, None, "1", 1, {"filter": {}}, IS_A])
def test_points_are_selected_by_nothing_else(client, selector):
    with pytest.raises(TypeError, match="select points by a list of ids, a Filter or a selector"):
        client.delete("docs", selector)
    assert client.count("docs").count == 3


def test_something_else_than_points_is_refused(client):
    with pytest.raises(TypeError, match=r"points are a list of models\.PointStruct or dicts, not str"):
        client.upsert("docs", ["9"])
    with pytest.raises(ValueError, match="validation error"):
        client.upsert("docs", [{"id": 9, "vektor": {}}])


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"limit": 1.5}, "valid integer"),
        ({"limit": 2**64}, "negative or too large"),
        ({"offset": 2**64}, "negative or too large"),
        ({"search_params": {"exakt": True}}, "Extra inputs are not permitted"),
        ({"search_params": models.SearchParams(hnsw_ef=-1)}, "negative or too large"),
        ({"score_threshold": float("nan")}, "`score_threshold` is nan; it must be finite"),
        ({"query": None, "using": None, "score_threshold": 0.5}, "`score_threshold` needs a query that scores"),
        ({"query": models.OrderByQuery(order_by="n"), "score_threshold": 0.5}, "needs a query that scores"),
        ({"prefetch": models.Prefetch(**NEAR, score_threshold=float("inf"))}, "it must be finite"),
        ({"query": models.NearestQuery(nearest=[0.0, 1.0], mmr=models.Mmr(candidates_limit=-1))}, "from 0 to 16384"),
        ({"query": models.NearestQuery(nearest=[0.0, 1.0], mmr=models.Mmr(candidates_limit=20_000))}, "to 16384"),
        ({"query": models.ContextQuery(context=[])}, "at least one pair"),
        ({"with_payload": "kind"}, "validation error"),
        ({"with_vectors": "dense"}, "validation error"),
    ],
)
def test_a_request_that_a_server_refuses_is_a_value_error(client, request_, message):
    with pytest.raises(ValueError, match=message):
        client.query_points("docs", **{**NEAR, **request_})


def test_a_diverse_query_by_a_sparse_vector_needs_a_server(client):
    words = models.SparseVector(indices=[1], values=[1.0])
    with pytest.raises(NotImplementedError, match=r"a diverse query .* by a sparse vector"):
        client.query_points("docs", query=models.NearestQuery(nearest=words, mmr=models.Mmr()), using="words")


def test_a_sample_has_as_many_points_with_an_offset(client):
    for offset in (1, 5):
        sample = client.query_points("docs", query=models.SampleQuery(sample="random"), limit=3, offset=offset)
        assert sorted(ids(sample.points)) == [1, 2, 3]


def test_no_vectors_are_returned_if_none_are_named(client):
    assert client.retrieve("docs", [1], with_vectors=[])[0].vector == {}
    assert client.retrieve("docs", [1], with_vectors=None)[0].vector is None


@pytest.mark.parametrize("vectors", [{}, None])
def test_a_collection_may_have_no_vectors(tmp_path, vectors):
    client = open_client(tmp_path)
    client.create_collection("bare", vectors)
    client.upsert("bare", [models.PointStruct(id=1, vector={}, payload={"a": 1})])
    client.close()
    client = open_client(tmp_path)
    assert client.get_collection("bare").config.params.vectors == {}
    assert client.scroll("bare", with_vectors=True)[0][0].vector == {}
    with pytest.raises(ValueError, match=r"there is no vector ''; the collection has none"):
        client.query_points("bare", query=[1.0])
    client.create_vector_name("bare", "placeholder", {"dense": {"size": 2, "distance": "Dot"}})
    client.upsert("bare", [models.PointStruct(id=2, vector={"placeholder": [1.0, 2.0]})])
    assert ids(client.query_points("bare", query=[1.0, 0.0], using="placeholder").points) == [2]
    client.close()


@pytest.mark.parametrize(
    "options",
    [
        {"hnsw_config": models.HnswConfigDiff(m=-1)},
        {"optimizers_config": models.OptimizersConfigDiff(indexing_threshold=-1)},
        {"hnsw_config": {"mm": 4}},
        {"metadata": [1]},
    ],
)
def test_settings_that_a_server_refuses_create_nothing(client, options):
    with pytest.raises(ValueError, match=r"negative or too large|validation error|is a mapping"):
        client.create_collection("new", models.VectorParams(size=2, distance=DOT), **options)
    assert not client.collection_exists("new")
