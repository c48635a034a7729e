"""Every kind of query on the embedded engine beside qdrant-client's imitation.

An index is new, optimized or reopened. These states differ in segments and in what is read back from disk, so each sees
all random requests and every kind of call; each query, condition and group is compared once, in the reopened index.
"""

import datetime
import uuid
from contextlib import ExitStack, closing
from functools import cache

import numpy as np
import pytest
from qdrant_client import models

from qdrant_polyvec import open_client

N, DENSE, LATE, WORDS = 60, 8, 4, 30
TOLERANCE = 2e-3
rng = np.random.default_rng(3)
VECTORS = {
    "dense": models.VectorParams(size=DENSE, distance=models.Distance.COSINE),
    "far": models.VectorParams(size=DENSE, distance=models.Distance.EUCLID),
    "late": models.VectorParams(
        size=LATE,
        distance=models.Distance.DOT,
        hnsw_config=models.HnswConfigDiff(m=0),
        multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
    ),
}
INDEXED_AT_ONCE = models.OptimizersConfigDiff(indexing_threshold=1)
SPARSE = {
    "words": models.SparseVectorParams(modifier=models.Modifier.IDF),
    "plain": models.SparseVectorParams(index=models.SparseIndexParams(on_disk=True)),
}


def unit(*shape, random=rng):
    rows = random.standard_normal(shape).astype(np.float32)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).tolist()


def sparse(n_words, random=rng):
    indices = random.choice(WORDS, n_words, replace=False).tolist()
    return models.SparseVector(indices=indices, values=random.uniform(0.1, 2, n_words).round(3).tolist())


IDS = [i if i % 2 else str(uuid.UUID(int=i)) for i in range(N)]
TITLES = ["the quick brown fox", "a lazy dog sleeps", "brown dogs and quick foxes", "red apples"]
POINTS = [
    models.PointStruct(
        id=IDS[i],
        vector={
            "dense": unit(DENSE),
            "far": unit(DENSE),
            "late": unit(2 + i % 4, LATE),
            "words": sparse(3 + i % 4),
            **({"plain": sparse(4)} if i % 3 else {}),
        },
        payload={
            "color": ["red", "green", "blue"][i % 3],
            "n": i,
            "price": 1.0 + i / 7,
            "tags": [f"t{i % 5}", f"t{i % 7}"][: i % 3],
            "place": {"lon": 10 + i / 10, "lat": 50 - i / 20},
            "title": f"{TITLES[i % 4]} number{i}",
            "day": f"2024-01-{1 + i % 28:02}T00:00:00Z",
            "doc": {"page": i % 6},
            "parts": [{"kind": "a", "page": i % 6}, {"kind": "b", "page": 9}],
        }
        | ({"bonus": i / 10} if i % 4 == 0 else {}),
    )
    for i in range(N)
]


def fill(client, **config):
    client.create_collection("docs", VECTORS, sparse_vectors_config=SPARSE, **config)
    client.create_payload_index("docs", "title", models.TextIndexParams(type="text", scoring=True))
    if config:  # the imitation has no indexes to configure
        client.create_payload_index("docs", "color", models.PayloadSchemaType.KEYWORD)
        client.create_payload_index("docs", "tags", models.KeywordIndexParams(type="keyword", prefix=True))
        client.create_payload_index("docs", "n", models.PayloadSchemaType.INTEGER)
        client.create_payload_index("docs", "place", models.PayloadSchemaType.GEO)
    client.upsert("docs", POINTS[:40])
    client.upsert("docs", POINTS[40:])


@pytest.fixture(scope="module")
def memory():
    client = open_client(":memory:")
    fill(client)
    yield client
    client.close()


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A function that gives the index in a state, filled at its first call."""
    with ExitStack() as clients:

        @cache
        def opened(state):
            folder = tmp_path_factory.mktemp(state)
            client = clients.enter_context(closing(open_client(folder)))
            # A threshold so small that `optimize` has something to do.
            fill(client, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=1))
            if state != "new":
                assert client._client.optimize("docs")
                assert not client._client.optimize("docs")
            if state == "reopened":
                client.close()
                client = clients.enter_context(closing(open_client(folder)))
            return client

        yield opened


@pytest.fixture(params=["new", "optimized", "reopened"])
def client(request, opened):
    return opened(request.param)


in_the_reopened_index = pytest.mark.parametrize("client", ["reopened"], indirect=True)


def agree(hits, expected):
    """Check that points and scores are the same; points tied at the cut may differ."""
    assert len(hits) == len(expected)
    assert [point.score for point in hits] == pytest.approx([point.score for point in expected], abs=TOLERANCE)
    score_by_id = {point.id: point.score for point in expected}
    for point in hits:
        assert point.score == pytest.approx(score_by_id.get(point.id, expected[-1].score), abs=TOLERANCE)


def field(key, **condition):
    return models.FieldCondition(key=key, **condition)


def near(using, limit=30, **how):
    query = {"dense": DENSE_Q, "far": FAR_Q, "late": LATE_Q, "words": WORDS_Q, "plain": PLAIN_Q}[using]
    return models.Prefetch(query=query, using=using, limit=limit, **how)


DENSE_Q, FAR_Q, LATE_Q, WORDS_Q, PLAIN_Q = unit(DENSE), unit(DENSE), unit(3, LATE), sparse(6), sparse(6)
EXAMPLES = {"dense": unit(4, DENSE), "late": [unit(2, LATE) for _ in range(4)], "words": [sparse(5) for _ in range(4)]}
RED = models.Filter(must=[field("color", match=models.MatchValue(value="red"))])
LATER = models.Filter(must=[field("n", range=models.Range(gte=20))])
CENTER = models.GeoPoint(lon=12, lat=49)


def formula(expression, **defaults):
    return {
        "prefetch": [near("dense"), near("late")],
        "query": models.FormulaQuery(formula=expression, defaults=defaults),
        "limit": 15,
    }


def recommend(using, strategy, positive=(0, 1), negative=(2,)):
    examples = EXAMPLES[using]
    return {
        "query": models.RecommendQuery(
            recommend=models.RecommendInput(
                positive=[examples[i] for i in positive], negative=[examples[i] for i in negative], strategy=strategy
            )
        ),
        "using": using,
    }


def pair(using, a, b):
    return models.ContextPair(positive=EXAMPLES[using][a], negative=EXAMPLES[using][b])


AVERAGE, BEST, SUM = models.RecommendStrategy
QUERIES = {
    "dense": {"query": DENSE_Q, "using": "dense", "query_filter": RED},
    "euclid": {"query": FAR_Q, "using": "far", "score_threshold": 1.4, "limit": 30},
    "late": {"query": LATE_Q, "using": "late", "offset": 3},
    "sparse with idf": {"query": WORDS_Q, "using": "words", "limit": 25},
    "sparse with idf, filtered": {"query": WORDS_Q, "using": "words", "query_filter": RED},
    "sparse with the idf of a part": {
        "query": WORDS_Q,
        "using": "words",
        "search_params": models.SearchParams(idf=models.IdfCorpusParams(corpus=LATER)),
    },
    "sparse with the idf of all": {
        "query": WORDS_Q,
        "using": "words",
        "search_params": models.SearchParams(idf=models.IdfScope.GLOBAL),
    },
    "sparse": {"query": PLAIN_Q, "using": "plain", "limit": 25},
    "by id": {"query": IDS[4], "using": "dense"},
    "by id, late": {"query": IDS[5], "using": "late"},
    "by id, sparse": {"query": IDS[7], "using": "words"},
    "by id in a prefetch": {
        "prefetch": models.Prefetch(query=IDS[4], using="dense", limit=10),
        "query": LATE_Q,
        "using": "late",
        "limit": 20,
    },
    "by id, then rescored by another": {
        "prefetch": models.Prefetch(
            prefetch=models.Prefetch(query=IDS[6], using="far", limit=20), query=IDS[4], using="dense", limit=12
        ),
        "query": IDS[5],
        "using": "late",
        "limit": 20,
    },
    "by id, filtered": {"query": IDS[4], "using": "dense", "query_filter": LATER},
    "text": {"query": models.TextQuery(text="brown fox"), "using": "title", "limit": 40},
    "text, tuned": {
        "query": models.TextQuery(
            text=models.TextQueryInput(
                query="quick dog", scoring=models.Bm25Scoring(bm25=models.Bm25Params(k=0.7, b=0.2))
            )
        ),
        "using": "title",
        "query_filter": RED,
    },
    "mmr": {
        "query": models.NearestQuery(nearest=DENSE_Q, mmr=models.Mmr(diversity=0.7, candidates_limit=20)),
        "using": "dense",
        "limit": 6,
    },
    "mmr, late": {
        "query": models.NearestQuery(nearest=LATE_Q, mmr=models.Mmr(diversity=0.3, candidates_limit=15)),
        "using": "late",
        "limit": 6,
    },
    "mmr by id": {
        "query": models.NearestQuery(nearest=IDS[9], mmr=models.Mmr(candidates_limit=15)),
        "using": "dense",
        "limit": 6,
    },
    "recommend by the average": recommend("dense", AVERAGE, negative=(2, 3)),
    "recommend by the average, no negatives": recommend("dense", None, negative=()),
    "recommend by the average, late": recommend("late", AVERAGE),
    "recommend by the average, sparse": recommend("words", AVERAGE),
    "recommend by the best": recommend("dense", BEST),
    "recommend by the best, late": recommend("late", BEST),
    "recommend by the best, sparse": recommend("words", BEST),
    "recommend by the sum": recommend("dense", SUM, negative=(2, 3)),
    "recommend away": recommend("dense", BEST, positive=()),
    "recommend by ids": {
        "query": models.RecommendQuery(recommend=models.RecommendInput(positive=IDS[3:5], negative=[IDS[8]])),
        "using": "dense",
    },
    "discover": {
        "query": models.DiscoverQuery(
            discover=models.DiscoverInput(target=DENSE_Q, context=[pair("dense", 0, 1), pair("dense", 2, 3)])
        ),
        "using": "dense",
    },
    "discover by ids": {
        "query": models.DiscoverQuery(
            discover=models.DiscoverInput(
                target=IDS[1], context=models.ContextPair(positive=IDS[2], negative=EXAMPLES["dense"][0])
            )
        ),
        "using": "dense",
    },
    "context": {"query": models.ContextQuery(context=[pair("dense", 0, 1), pair("dense", 2, 3)]), "using": "dense"},
    "context, late": {"query": models.ContextQuery(context=pair("late", 0, 1)), "using": "late"},
    "relevance feedback": {
        "query": models.RelevanceFeedbackQuery(
            relevance_feedback=models.RelevanceFeedbackInput(
                target=DENSE_Q,
                feedback=[
                    models.FeedbackItem(example=IDS[3], score=0.9),
                    models.FeedbackItem(example=EXAMPLES["dense"][1], score=0.1),
                ],
                strategy=models.NaiveFeedbackStrategy(naive=models.NaiveFeedbackStrategyParams(a=0.5, b=1.0, c=0.3)),
            )
        ),
        "using": "dense",
    },
    "fusion": {
        "prefetch": [near("dense"), near("late"), near("words")],
        "query": models.RrfQuery(rrf=models.Rrf(k=10, weights=[1.0, 2.0, 0.5])),
        "limit": 60,
    },
    "fusion by scores": {
        "prefetch": [near("dense"), near("words", filter=RED)],
        "query": models.FusionQuery(fusion=models.Fusion.DBSF),
        "limit": 60,
    },
    "fused, then reranked": {
        "prefetch": models.Prefetch(
            prefetch=[near("dense", 60), near("words", 60)],
            query=models.FusionQuery(fusion=models.Fusion.RRF),
            limit=60,
        ),
        "query": LATE_Q,
        "using": "late",
        "query_filter": LATER,
    },
    "formula of scores": formula(
        models.SumExpression(sum=["$score[0]", models.MultExpression(mult=[0.1, "$score[1]"])]), **{"$score[1]": 0.5}
    ),
    "formula of payload": formula(
        models.SumExpression(
            sum=["$score", models.DivExpression(div=models.DivParams(left="price", right="n", by_zero_default=3.0))]
        )
    ),
    "formula of conditions": formula(
        models.SumExpression(
            sum=[
                "$score",
                models.MultExpression(mult=[0.5, field("color", match=models.MatchValue(value="red"))]),
                LATER,
                models.HasIdCondition(has_id=IDS[:5]),
            ]
        )
    ),
    "formula of functions": formula(
        models.MaxExpression(
            max=[
                models.MinExpression(
                    min=[models.SqrtExpression(sqrt="price"), models.AbsExpression(abs=models.NegExpression(neg="n"))]
                ),
                models.PowExpression(pow=models.PowParams(base="price", exponent=0.3)),
                models.LnExpression(ln="price"),
                models.Log10Expression(log10="price"),
                models.AcoshExpression(acosh="price"),
                models.ExpExpression(exp=models.NegExpression(neg="price")),
            ]
        )
    ),
    "formula of decays": formula(
        models.SumExpression(
            sum=[
                models.ExpDecayExpression(
                    exp_decay=models.DecayParamsExpression(
                        x=models.GeoDistance(geo_distance=models.GeoDistanceParams(origin=CENTER, to="place")),
                        scale=100_000,
                    )
                ),
                models.GaussDecayExpression(
                    gauss_decay=models.DecayParamsExpression(x="n", target=30.0, scale=10, midpoint=0.3)
                ),
                models.LinDecayExpression(
                    lin_decay=models.DecayParamsExpression(
                        x=models.DatetimeKeyExpression(datetime_key="day"),
                        target=models.DatetimeExpression(datetime="2024-01-10T00:00:00Z"),
                        scale=864_000,
                    )
                ),
            ]
        )
    ),
    "formula with a default": formula(models.SumExpression(sum=["$score", "bonus"]), bonus=0.25),
}


def ask(client, **request):
    return client.query_points("docs", **request).points


# Kinds of query that no random request has.
IN_EVERY_STATE = ["text", "mmr, late", "recommend by the best", "discover by ids", "formula of decays"]


@pytest.mark.parametrize(
    ("client", "name"),
    [("reopened", name) for name in QUERIES]
    + [(state, name) for state in ("new", "optimized") for name in IN_EVERY_STATE],
    indirect=["client"],
)
def test_a_query_finds_what_the_imitation_finds(client, memory, name):
    agree(ask(client, **QUERIES[name]), ask(memory, **QUERIES[name]))


def test_the_order_of_mmr_is_that_of_the_imitation(client, memory):
    ours, theirs = ([point.id for point in ask(index, **QUERIES["mmr"])] for index in (client, memory))
    assert ours == theirs
    assert all(point.vector is None for point in ask(client, **QUERIES["mmr"]))
    with_late = ask(client, **QUERIES["mmr"], with_vectors=["late"])
    assert all(set(point.vector) == {"late"} for point in with_late)


def test_idf_is_that_of_the_formula():
    """ln((N − n + ½)/(n + ½) + 1), N points of which n have the word."""
    client = open_client(":memory:")
    fill(client)
    stored = [point.vector["words"] for point in POINTS]
    n_points = len(stored)
    idf = {
        word: np.log((n_points - count + 0.5) / (count + 0.5) + 1)
        for word in WORDS_Q.indices
        for count in [sum(word in vector.indices for vector in stored)]
    }
    expected = sorted(
        (
            sum(
                value * idf[word] * dict(zip(vector.indices, vector.values, strict=True)).get(word, 0.0)
                for word, value in zip(WORDS_Q.indices, WORDS_Q.values, strict=True)
            )
            for vector in stored
        ),
        reverse=True,
    )
    hits = ask(client, query=WORDS_Q, using="words", limit=5)
    assert [point.score for point in hits] == pytest.approx(expected[:5], rel=1e-4)
    client.close()


def test_a_mentioned_point_is_not_found(client):
    assert IDS[4] not in {point.id for point in ask(client, query=IDS[4], using="dense", limit=N)}
    fused = {
        "prefetch": [models.Prefetch(query=IDS[4], using="dense", limit=N)],
        "query": models.FusionQuery(fusion=models.Fusion.RRF),
        "limit": N,
    }
    assert IDS[4] not in {point.id for point in ask(client, **fused)}
    assert len(ask(client, **fused)) == N - 1


def test_a_sample_is_of_points_that_pass(client):
    hits = ask(client, query=models.SampleQuery(sample=models.Sample.RANDOM), query_filter=RED, limit=7)
    assert len({point.id for point in hits}) == 7
    assert {point.payload["color"] for point in hits} == {"red"}


def test_points_are_ordered_by_a_number(client):
    order = models.OrderByQuery(order_by=models.OrderBy(key="n", direction=models.Direction.DESC, start_from=50))
    assert [point.payload["n"] for point in ask(client, query=order, limit=3)] == [50, 49, 48]


def test_search_params_change_no_exact_result(client, memory):
    request = {"query": DENSE_Q, "using": "dense", "query_filter": LATER}
    staged = {"query": LATE_Q, "using": "late", "limit": 20}
    for params in (
        models.SearchParams(exact=True),
        models.SearchParams(hnsw_ef=64, acorn=models.AcornSearchParams(enable=True, max_selectivity=0.6)),
        models.SearchParams(quantization=models.QuantizationSearchParams(ignore=True)),
    ):
        agree(ask(client, **request, search_params=params), ask(memory, **request))
        agree(
            ask(client, prefetch=near("dense", 20, params=params), **staged),
            ask(memory, prefetch=near("dense", 20), **staged),
        )


@in_the_reopened_index
@pytest.mark.parametrize("key", ["color", "tags", "tags[]", "doc.page", "n"])
def test_groups_are_those_of_the_imitation(client, memory, key):
    for size in (1, 2, 3):
        request = {"query": DENSE_Q, "using": "dense", "limit": 4, "group_size": size, "with_payload": ["n"]}
        groups, expected = (index.query_points_groups("docs", key, **request).groups for index in (client, memory))
        assert [group.id for group in groups] == [group.id for group in expected]
        for ours, theirs in zip(groups, expected, strict=True):
            agree(ours.hits, theirs.hits)
            assert [hit.payload for hit in ours.hits] == [hit.payload for hit in theirs.hits]


def test_groups_are_filled_from_prefetches(client, memory):
    request = {
        "prefetch": near("words", 60),
        "query": LATE_Q,
        "using": "late",
        "group_size": 30,
        "limit": 2,
        "query_filter": LATER,
    }
    groups, expected = (index.query_points_groups("docs", "color", **request).groups for index in (client, memory))
    assert [(group.id, len(group.hits)) for group in groups] == [(group.id, len(group.hits)) for group in expected]


@in_the_reopened_index
@pytest.mark.parametrize("key", ["color", "tags", "n"])
def test_values_are_counted_as_by_the_imitation(client, memory, key):
    for restricted in (None, LATER):
        counts, expected = (
            index.facet("docs", key, facet_filter=restricted, limit=4, exact=True).hits for index in (client, memory)
        )
        assert [(hit.value, hit.count) for hit in counts] == [(hit.value, hit.count) for hit in expected]


BOX = models.GeoBoundingBox(top_left=models.GeoPoint(lon=11, lat=49.5), bottom_right=models.GeoPoint(lon=13, lat=48))
RING = [(11.0, 48.0), (13.0, 48.0), (13.0, 50.0), (11.0, 50.0), (11.0, 48.0)]
HOLE = [(11.5, 48.5), (12.0, 48.5), (12.0, 49.5), (11.5, 49.5), (11.5, 48.5)]


def ring(corners):
    return models.GeoLineString(points=[models.GeoPoint(lon=lon, lat=lat) for lon, lat in corners])


CONDITIONS = [
    field("color", match=models.MatchAny(any=["red", "blue"])),
    field("color", match=models.MatchExcept(**{"except": ["red"]})),
    field("tags", match=models.MatchPrefix(prefix="t1")),
    field("color", match=models.MatchPrefix(prefix="gr")),
    field("color", match=models.MatchSubstring(substring="re")),
    field("color", match=models.MatchSubstring(substring="lu")),
    field("title", match=models.MatchText(text="brown quick")),
    field("title", match=models.MatchTextAny(text_any="apples fox")),
    field("n", range=models.Range(gte=7, lt=33)),
    field("price", range=models.Range(gt=2.5)),
    field("day", range=models.DatetimeRange(lte=datetime.datetime(2024, 1, 9, tzinfo=datetime.UTC))),
    field("tags", values_count=models.ValuesCount(gte=2)),
    field("place", geo_bounding_box=BOX),
    field("place", geo_radius=models.GeoRadius(center=CENTER, radius=60_000)),
    field("place", geo_polygon=models.GeoPolygon(exterior=ring(RING))),
    field("place", geo_polygon=models.GeoPolygon(exterior=ring(RING), interiors=[ring(HOLE)])),
    models.HasIdCondition(has_id=IDS[10:40]),
    models.HasVectorCondition(has_vector="plain"),
    models.IsEmptyCondition(is_empty=models.PayloadField(key="bonus")),
    models.SliceCondition(slice=models.Slice(total=3, index=1)),
    models.NestedCondition(
        nested=models.Nested(
            key="parts",
            filter=models.Filter(
                must=[field("kind", match=models.MatchValue(value="a")), field("page", range=models.Range(gt=2))]
            ),
        )
    ),
]


@in_the_reopened_index
@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: repr(condition)[:40])
def test_a_condition_lets_the_same_points_pass(client, memory, condition):
    restricted = models.Filter(must=[condition])
    passed, expected = (
        {record.id for record in index.scroll("docs", restricted, limit=N)[0]} for index in (client, memory)
    )
    assert passed == expected
    assert 0 < len(passed) < N


def random_filter(random, depth=2, clauses=("must", "should", "must_not", "min_should")):
    def some():
        chosen = random.choice(len(CONDITIONS), size=random.integers(1, 3), replace=False)
        conditions = [CONDITIONS[i] for i in chosen]
        return [*conditions, random_filter(random, depth - 1)] if depth and random.random() < 0.4 else conditions

    clauses = random.permutation(clauses)[: random.integers(1, 3)]
    return models.Filter(
        **{
            clause: models.MinShould(conditions=some(), min_count=1) if clause == "min_should" else some()
            for clause in clauses
        }
    )


def random_request(random):
    def stage(using, limit):
        queries = {
            "dense": unit(DENSE, random=random),
            "far": unit(DENSE, random=random),
            "late": unit(3, LATE, random=random),
            "words": sparse(8, random),
            "plain": sparse(8, random),
        }
        by_id = IDS[random.integers(N - 5)]
        query = by_id if random.random() < 0.2 and using != "plain" else queries[using]
        # Engine and server merge the `should` of a stage with that of its prefetches, and so let pass what fits either.
        restricted = random_filter(random, clauses=("must", "must_not")) if random.random() < 0.4 else None
        return models.Prefetch(query=query, using=using, limit=limit, filter=restricted)

    names = list(random.permutation(["dense", "far", "late", "words", "plain"]))
    request = {"limit": int(random.integers(1, 20)), "offset": int(random.integers(0, 4))}
    if random.random() < 0.6:
        request["query_filter"] = random_filter(random)
    match random.integers(4):
        case 0:
            last = stage(names[0], 1)
        case 1:  # limits that do not cut: what is tied there may differ
            last = stage(names[0], 1)
            request["prefetch"] = [stage(name, N) for name in names[1:3]]
        case 2:
            request["prefetch"] = [stage(name, N) for name in names[:2]]
            return request | {"query": models.RrfQuery(rrf=models.Rrf(k=20, weights=[1.0, 0.7]))}
        case _:
            inner = models.Prefetch(
                prefetch=[stage(name, N) for name in names[1:3]],
                query=models.FusionQuery(fusion=models.Fusion.RRF),
                limit=N,
            )
            last = stage(names[0], 1)
            request["prefetch"] = [inner]
    return request | {"query": last.query, "using": last.using}


def test_random_queries_and_filters_agree(client, memory, subtests):
    for seed in range(60):
        request = random_request(np.random.default_rng(seed))
        with subtests.test(seed=seed):
            agree(ask(client, **request), ask(memory, **request))


def test_sparse_vectors_come_back_as_they_were(client, memory):
    for identity in (IDS[1], IDS[2]):
        ours, theirs = (
            index.retrieve("docs", [identity], with_vectors=["words"])[0].vector["words"] for index in (client, memory)
        )
        assert isinstance(ours, models.SparseVector)
        weights, expected = (dict(zip(words.indices, words.values, strict=True)) for words in (ours, theirs))
        assert weights == pytest.approx(expected, rel=1e-6)
    assert client.get_collection("docs").config.params.sparse_vectors == SPARSE
