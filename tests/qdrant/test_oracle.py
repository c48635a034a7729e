"""Filters, scores and fusions of the embedded engine, each worked out by hand in numpy."""

import datetime
import uuid

import numpy as np
import pytest
from qdrant_client import models

from polyvec.scoring import cosine, maxsim
from qdrant_polyvec import open_client

N, DENSE, LATE = 40, 16, 8
TOLERANCE = 3e-3  # vectors are stored as float16
rng = np.random.default_rng(0)


VECTORS = {
    "dense": models.VectorParams(size=DENSE, distance=models.Distance.COSINE, datatype=models.Datatype.FLOAT16),
    "late": models.VectorParams(
        size=LATE,
        distance=models.Distance.DOT,
        datatype=models.Datatype.FLOAT16,
        hnsw_config=models.HnswConfigDiff(m=0),
        multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
    ),
}


def unit(*shape):
    rows = rng.standard_normal(shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


IDS = [i if i % 2 else str(uuid.UUID(int=i)) for i in range(N)]
DENSES = unit(N, DENSE)
LATES = [unit(3 + i % 5, LATE) for i in range(N)]
QUERY_DENSE, QUERY_LATE = unit(DENSE), unit(4, LATE)
DAYS = [datetime.datetime(2024, 1, 1 + i % 28, tzinfo=datetime.UTC) for i in range(N)]
PAYLOADS = [
    {
        "_polyvec": {"task": "code" if i % 5 == 0 else "retrieval"},
        "color": ["red", "green", "blue"][i % 3],
        "n": i,
        "odd": i % 2 == 1,
        "day": DAYS[i].isoformat(),
        "words": "quick brown fox" if i % 4 == 0 else "lazy dog",
        "tags": ["t"] * (i % 3),
        "parts": [{"kind": "a", "size": i}, {"kind": "b", "size": -i}],
        "maybe": None if i % 2 else "yes",
    }
    for i in range(N)
]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    client = open_client(tmp_path_factory.mktemp("index"))
    client.create_collection("docs", VECTORS)
    points = [
        models.PointStruct(
            id=IDS[i], vector={"dense": DENSES[i].tolist(), "late": LATES[i].tolist()}, payload=PAYLOADS[i]
        )
        for i in range(N - 1)
    ]
    client.upsert("docs", points)
    last = models.PointStruct(id=IDS[-1], vector={"dense": DENSES[-1].tolist()}, payload=PAYLOADS[-1])
    client.upsert("docs", [last])  # one point has no multi-vector
    yield client
    client.close()


def field(key, **condition):
    return models.FieldCondition(key=key, **condition)


def day(n):
    return datetime.datetime(2024, 1, n, tzinfo=datetime.UTC)


RED = field("color", match=models.MatchValue(value="red"))
SMALL = field("n", range=models.Range(lt=10))
EVEN = field("maybe", match=models.MatchValue(value="yes"))

FILTERS = {
    "value": (RED, lambda i: i % 3 == 0),
    "true": (field("odd", match=models.MatchValue(value=True)), lambda i: i % 2 == 1),
    "false": (field("odd", match=models.MatchValue(value=False)), lambda i: i % 2 == 0),
    "any": (field("color", match=models.MatchAny(any=["red", "blue"])), lambda i: i % 3 != 1),
    "except": (field("color", match=models.MatchExcept(**{"except": ["red"]})), lambda i: i % 3 != 0),
    "text": (field("words", match=models.MatchText(text="brown")), lambda i: i % 4 == 0),
    "range": (field("n", range=models.Range(gte=5, lt=20)), lambda i: 5 <= i < 20),
    "open range": (field("n", range=models.Range(gt=5, lte=20)), lambda i: 5 < i <= 20),
    "dates": (field("day", range=models.DatetimeRange(gte=day(3), lt=day(10))), lambda i: 3 <= 1 + i % 28 < 10),
    "later dates": (field("day", range=models.DatetimeRange(gt=day(3), lte=day(10))), lambda i: 3 < 1 + i % 28 <= 10),
    "values": (field("tags", values_count=models.ValuesCount(gt=1)), lambda i: i % 3 == 2),
    "nested": (
        models.NestedCondition(
            nested=models.Nested(
                key="parts",
                filter=models.Filter(
                    must=[field("kind", match=models.MatchValue(value="a")), field("size", range=models.Range(gte=30))]
                ),
            )
        ),
        lambda i: i >= 30,
    ),
    "ids": (models.HasIdCondition(has_id=IDS[3:9]), lambda i: 3 <= i < 9),
    "vector": (models.HasVectorCondition(has_vector="late"), lambda i: i != N - 1),
    "null": (models.IsNullCondition(is_null=models.PayloadField(key="maybe")), lambda i: i % 2 == 1),
    "empty": (models.IsEmptyCondition(is_empty=models.PayloadField(key="tags")), lambda i: i % 3 == 0),
    "field null": (field("maybe", is_null=True), lambda i: i % 2 == 1),
    "field not empty": (field("tags", is_empty=False), lambda i: i % 3 != 0),
    "must": (models.Filter(must=[RED, SMALL]), lambda i: i % 3 == 0 and i < 10),
    "single must": (models.Filter(must=RED), lambda i: i % 3 == 0),
    "should": (models.Filter(should=[RED, SMALL]), lambda i: i % 3 == 0 or i < 10),
    "must not": (models.Filter(must_not=[RED, SMALL]), lambda i: not (i % 3 == 0 or i < 10)),
    "min should": (
        models.Filter(min_should=models.MinShould(conditions=[RED, SMALL, EVEN], min_count=2)),
        lambda i: (i % 3 == 0) + (i < 10) + (i % 2 == 0) >= 2,
    ),
    "deep": (
        models.Filter(must=[models.Filter(should=[RED, SMALL])], must_not=[EVEN]),
        lambda i: (i % 3 == 0 or i < 10) and i % 2 == 1,
    ),
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_passes_the_points_that_it_describes(client, name):
    condition, passes = FILTERS[name]
    expected = {IDS[i] for i in range(N) if passes(i)}
    restricted = condition if isinstance(condition, models.Filter) else models.Filter(must=[condition])
    passed, following = client.scroll("docs", restricted, limit=N)
    assert {record.id for record in passed} == expected
    assert following is None
    assert client.count("docs", restricted).count == len(expected)


def ask(client, request):
    return client.query_points(
        "docs",
        query=request.query,
        using=request.using,
        prefetch=request.prefetch,
        query_filter=request.filter,
        search_params=request.params,
        limit=request.limit,
    ).points


def best(scores, allowed, limit):
    return sorted(((scores[i], IDS[i]) for i in allowed), key=lambda pair: -pair[0])[:limit]


EXACT = models.SearchParams(quantization=models.QuantizationSearchParams(ignore=True))
BY_DENSE = {"query": QUERY_DENSE.tolist(), "using": "dense", "params": EXACT}
BY_LATE = {"query": QUERY_LATE.tolist(), "using": "late", "params": EXACT}
STAGES = {
    "dense": BY_DENSE,
    "late": BY_LATE,
    "two-stage": BY_LATE | {"prefetch": models.Prefetch(**BY_DENSE | {"params": None}, limit=8)},
}


@pytest.mark.parametrize("name", [None, "range", "must not"])
@pytest.mark.parametrize("mode", STAGES)
def test_scores_are_those_of_brute_force(client, mode, name):
    condition, passes = FILTERS[name] if name else (None, lambda i: True)
    if condition is not None and not isinstance(condition, models.Filter):
        condition = models.Filter(must=[condition])
    request = models.QueryRequest(**STAGES[mode], limit=5, filter=condition)
    allowed = [i for i in range(N) if passes(i)]
    dense_scores = cosine(QUERY_DENSE[None], DENSES)[0]
    late_scores = maxsim([QUERY_LATE], LATES)[0]
    if mode == "dense":
        expected = best(dense_scores, allowed, 5)
    else:
        if mode == "two-stage":
            nearest = {identity for _, identity in best(dense_scores, allowed, 8)}
            allowed = [i for i in allowed if IDS[i] in nearest]
        expected = best(late_scores, [i for i in allowed if i != N - 1], 5)
    hits = ask(client, request)
    assert [point.id for point in hits] == [identity for _, identity in expected]
    assert [point.score for point in hits] == pytest.approx([score for score, _ in expected], abs=TOLERANCE)


def ranks(scores, allowed):
    return {identity: rank for rank, (_, identity) in enumerate(best(scores, allowed, 10))}


@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
def test_reciprocal_rank_fusion_has_k_and_weights(client, weights):
    stages = [
        models.Prefetch(query=QUERY_DENSE.tolist(), using="dense", limit=10),
        models.Prefetch(query=QUERY_LATE.tolist(), using="late", limit=10),
    ]
    hits = client.query_points(
        "docs", prefetch=stages, query=models.RrfQuery(rrf=models.Rrf(k=60, weights=weights)), limit=20
    ).points
    by_dense = ranks(cosine(QUERY_DENSE[None], DENSES)[0], range(N))
    by_late = ranks(maxsim([QUERY_LATE], LATES)[0], range(N - 1))
    expected = {
        identity: sum(
            # Qdrant's form: the rank counts from 0 and is divided by the weight
            1 / ((rank_by_id[identity] + 1) / weight + 60 - 1)
            for rank_by_id, weight in zip((by_dense, by_late), weights or (1, 1), strict=True)
            if identity in rank_by_id
        )
        for identity in by_dense.keys() | by_late.keys()
    }
    assert {point.id: point.score for point in hits} == pytest.approx(expected, rel=1e-4)


def test_a_nested_prefetch_narrows_step_by_step(client):
    first = models.Prefetch(query=QUERY_DENSE.tolist(), using="dense", limit=6)
    second = models.Prefetch(prefetch=[first], query=QUERY_LATE.tolist(), using="late", limit=3)
    hits = client.query_points("docs", prefetch=second, query=QUERY_DENSE.tolist(), using="dense", limit=10).points
    by_dense = [identity for _, identity in best(cosine(QUERY_DENSE[None], DENSES)[0], range(N), 6)]
    late_scores = maxsim([QUERY_LATE], LATES)[0]
    kept = best(late_scores, [i for i in range(N - 1) if IDS[i] in by_dense], 3)
    assert {point.id for point in hits} == {identity for _, identity in kept}


def test_thresholds_and_offsets_cut_the_ranking(client):
    scores = cosine(QUERY_DENSE[None], DENSES)[0]
    ranking = best(scores, range(N), N)
    threshold = (ranking[4][0] + ranking[5][0]) / 2
    hits = client.query_points(
        "docs", query=QUERY_DENSE.tolist(), using="dense", score_threshold=threshold, offset=2, limit=10
    ).points
    assert [point.id for point in hits] == [identity for _, identity in ranking[2:5]]


def test_a_batch_answers_each_request_as_if_it_came_alone(client):
    requests = [
        models.QueryRequest(query=QUERY_DENSE.tolist(), using="dense", limit=3),
        models.QueryRequest(query=QUERY_LATE.tolist(), using="late", limit=2, with_payload=["n"]),
    ]
    together = client.query_batch_points("docs", requests)
    alone = [
        client.query_points("docs", query=request.query, using=request.using, limit=request.limit).points
        for request in requests
    ]
    assert [[point.id for point in answer.points] for answer in together] == [
        [p.id for p in points] for points in alone
    ]
    assert together[0].points[0].payload is None
    assert set(together[1].points[0].payload) == {"n"}
