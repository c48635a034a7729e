import numpy as np
import pytest
from qdrant_client import models

from qdrant_polyvec import Schema
from qdrant_polyvec.query import EncodedQuery, Options, plan

DENSE, LATE = np.array([1, 0], np.float32), np.array([[1, 0, 0]], np.float32)
FULL = Schema(pooled=True, bm25="english")
MINE = models.Filter(should=[models.FieldCondition(key="metadata.n", match=models.MatchValue(value=1))])


def encoded(task="code", dense=DENSE, late=LATE, words="a fox"):
    return EncodedQuery(task, dense, late, words)


def stages(request):
    return request.prefetch or []


def every_stage(request):
    yield request
    for stage in stages(request):
        yield from every_stage(stage)


def is_of(task):
    return models.FieldCondition(key="_polyvec.task", match=models.MatchValue(value=task))


@pytest.mark.parametrize(("mode", "using"), [("dense", []), ("late", []), ("two-stage", ["dense", "pooled"])])
def test_a_mode_has_its_stages(mode, using):
    request = plan([encoded()], Options(limit=7, mode=mode, score_threshold=0.5), schema=FULL).request
    assert [stage.using for stage in stages(request)] == using
    assert (request.using, request.limit, request.score_threshold) == ("dense" if mode == "dense" else "late", 7, 0.5)
    assert all(stage.limit == 100 and stage.score_threshold is None for stage in stages(request))
    assert request.with_payload is True


def test_hybrid_fuses_late_interaction_and_words():
    request = plan([encoded()], Options(limit=7, mode="hybrid"), schema=FULL).request
    assert request.query == models.RrfQuery(rrf=models.Rrf(k=10, weights=[1, 0.99]))
    assert (request.limit, request.using, request.filter, request.with_payload) == (7, None, None, True)
    late, words = request.prefetch
    assert (late.using, late.limit, [stage.using for stage in late.prefetch]) == (
        "late",
        100,
        ["dense", "pooled", "bm25"],
    )
    assert (words.using, words.limit, words.prefetch) == ("bm25", 100, None)
    exhaustive = plan([encoded()], Options(limit=7, mode="hybrid"), schema=FULL, exhaustive=True).request
    assert exhaustive.prefetch == [late.model_copy(update={"prefetch": None}), words]


def test_a_threshold_of_hybrid_is_one_of_maxsim():
    request = plan([encoded()], Options(mode="hybrid", score_threshold=0.5), schema=FULL).request
    late, words = request.prefetch
    assert (request.score_threshold, late.score_threshold, words.score_threshold) == (None, 0.5, None)
    assert words.prefetch == [late]


def test_an_old_engine_fuses_without_weights():
    request = plan([encoded()], Options(mode="hybrid"), schema=FULL, weighted=False).request
    assert request.query == models.RrfQuery(rrf=models.Rrf(k=10))


@pytest.mark.parametrize("mode", ["dense", "late", "two-stage", "hybrid"])
@pytest.mark.parametrize("tasks", [["code"], ["code", "retrieval"]])
def test_every_stage_is_limited_and_filtered(mode, tasks):
    options = Options(limit=3, mode=mode, filter=MINE)
    request = plan([encoded(task) for task in tasks], options, schema=FULL, tenant="acme").request
    tenant = models.FieldCondition(key="_polyvec.tenant", match=models.MatchValue(value="acme"))
    for stage in every_stage(request):
        assert stage.limit
        if not isinstance(stage.query, models.RrfQuery):
            task = stage.filter.must[0].match.value
            assert task in tasks
            # The user's own conditions lie inside `must`: beside it, an engine may take them for alternatives.
            assert stage.filter == models.Filter(must=[is_of(task), tenant, MINE])


def test_several_tasks_are_merged_by_rank():
    request = plan(
        [encoded("code"), encoded("retrieval")], Options(limit=3, score_threshold=2.0), schema=Schema()
    ).request
    assert request.query == models.RrfQuery(rrf=models.Rrf(k=60, weights=[1, 0.99]))
    assert (request.limit, request.filter, request.score_threshold, request.using) == (3, None, None, None)
    assert [(stage.using, stage.limit, stage.score_threshold) for stage in request.prefetch] == [("late", 100, 2.0)] * 2
    assert [[inner.using for inner in stage.prefetch] for stage in request.prefetch] == [["dense"], ["dense"]]


@pytest.mark.parametrize(("limit", "candidates"), [(5, 100), (25, 100), (26, 104)])
def test_candidates_are_at_least_100_and_four_times_the_limit(limit, candidates):
    (stage,) = plan([encoded()], Options(limit=limit), schema=Schema()).request.prefetch
    assert stage.limit == candidates
    (stage,) = plan([encoded()], Options(limit=limit, candidates=limit), schema=Schema()).request.prefetch
    assert stage.limit == limit


def test_scores_are_exact_unless_asked_otherwise():
    for mode in ("late", "two-stage"):
        exact = plan([encoded()], Options(mode=mode), schema=FULL).request
        assert exact.params == models.SearchParams(quantization=models.QuantizationSearchParams(ignore=True))
        rescored = plan([encoded()], Options(mode=mode, oversampling=4), schema=FULL).request
        wanted = models.QuantizationSearchParams(rescore=True, oversampling=4)
        assert rescored.params == models.SearchParams(quantization=wanted)
    hybrid = plan([encoded()], Options(mode="hybrid", oversampling=4), schema=FULL).request
    assert (hybrid.params, hybrid.prefetch[0].params, hybrid.prefetch[1].params) == (None, rescored.params, None)
    assert plan([encoded()], Options(mode="late"), schema=FULL, params=False).request.params is None


@pytest.mark.parametrize(("words", "message"), [(None, "a query has no words"), ("—!", "the query '—!' has no words")])
def test_hybrid_without_words_is_two_stage_and_says_so(words, message):
    queries = [encoded(task, words=words) for task in ("code", "retrieval")]
    with pytest.warns(UserWarning, match=message) as warned:
        planned = plan(queries, Options(mode="hybrid"), schema=FULL)
    assert planned.request == plan(queries, Options(), schema=FULL).request
    assert len(warned) == 1


def test_stop_words_alone_are_searched_in_hybrid():
    request = plan([encoded(words="to be or not to be")], Options(mode="hybrid"), schema=FULL).request
    assert [stage.using for stage in stages(request)] == ["late", "bm25"]


def test_the_number_of_cosines_in_a_score_is_known():
    def n_terms(mode, tasks=("code",)):
        rows = np.ones((7, 3), np.float32)
        return plan([encoded(task, late=rows) for task in tasks], Options(mode=mode), schema=FULL).n_terms

    assert [n_terms(mode) for mode in ("dense", "late", "two-stage", "hybrid")] == [1, 7, 7, None]
    assert n_terms("late", ("code", "retrieval")) is None


def test_a_query_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="dense vector contains NaN"):
        plan([encoded(dense=DENSE * np.nan)], Options(mode="dense"), schema=FULL)
    with pytest.raises(ValueError, match="late vector contains NaN"):
        plan([encoded(late=np.full_like(LATE, np.inf))], Options(mode="late"), schema=FULL)
    with pytest.raises(ValueError, match="Qdrant accepts at most 8191"):
        plan([encoded(late=np.ones((8192, 128), np.float32))], Options(), schema=FULL)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"mode": "fast"}, ValueError, "'dense', 'late', 'two-stage', 'hybrid'"),
        ({"limit": 0}, ValueError, "`limit` is 0"),
        ({"limit": 2.5}, ValueError, "`limit` is 2.5; it must be a whole number"),
        ({"limit": "3"}, ValueError, "`limit` is '3'"),
        ({"candidates": 10**12}, ValueError, "`candidates` is 1000000000000"),
        ({"score_threshold": float("nan")}, ValueError, "`score_threshold` is nan"),
        (
            {"limit": 5, "candidates": 4},
            ValueError,
            "`candidates` is 4; it must be at least the number of results, which is 5",
        ),
        ({"ids": range(3), "candidates": 2}, ValueError, "the number of results, which is 3"),
        ({"ids": "a"}, TypeError, "`ids` is 'a'; it must be a list"),
        ({"ids": {"a"}}, TypeError, "it must be a list"),
        ({"group_size": 2.5}, ValueError, "`group_size` is 2.5; it must be a whole number"),
        ({"task": []}, ValueError, "`task` is an empty list"),
        ({"group_size": 0}, ValueError, "`group_size` is 0"),
        ({"oversampling": 0.5}, ValueError, "`oversampling` is 0.5"),
        ({"oversampling": float("nan")}, ValueError, "`oversampling` is nan"),
        ({"filter": {"must": []}}, TypeError, "it is a qdrant_client.models.Filter"),
    ],
)
def test_wrong_options_are_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        Options(**wrong)
