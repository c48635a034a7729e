import sys

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from polyvec.evaluate.metrics import measure, ndcg


def rows(*values):
    return np.array(values, np.float32).reshape(len(values), -1)


def test_ndcg_of_one_relevant_document_is_one_over_the_log_of_its_rank():
    scores = rows([9, 5, 4, 3], [8, 9, 7, 1], [4, 3, 2, 1])  # ranks 1, 3 and 4
    assert ndcg(scores, [{0}, {2}, {3}], k=3) == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_ndcg_of_grades_by_hand():
    value = ndcg(rows([4, 3, 2, 1]), [{0: 1, 2: 3, 3: 2, 1: -1}], k=3)
    ranked = 1 / np.log2(2) + 0 / np.log2(3) + 3 / np.log2(4)
    best = 3 / np.log2(2) + 2 / np.log2(3) + 1 / np.log2(4)
    assert value == pytest.approx(ranked / best)


def test_the_best_order_is_cut_at_k_as_well():
    assert ndcg(rows([3, 2, 1]), [{0, 1, 2}], k=2) == pytest.approx(1)


def test_a_tie_counts_against_the_relevant_document():
    assert ndcg(rows([1, 1, 0]), [{0}], k=2) == pytest.approx(1 / np.log2(3))
    assert ndcg(rows([1, 1, 1]), [{0}], k=2) == 0, "three are tied and the relevant one is the last"


@pytest.mark.parametrize(
    ("scores", "relevant", "message"),
    [
        (rows([1, 2], [1, 2]), [{0}, {1: 0}], "query 1 has no relevant document"),
        (rows([1, 2]), [{2}], "document 2 is relevant, but there are 2 documents"),
        (rows([1, 2]), [{-1}], "document -1 is relevant"),
        (rows([1, np.nan]), [{0}], "score of document 1 is not a number"),
        (rows([1, 2]), [{0}, {1}], "1 queries and judgements for 2"),
        (np.zeros((0, 2), np.float32), [], "0 queries"),
    ],
)
def test_judgements_that_do_not_fit_are_refused(scores, relevant, message):
    with pytest.raises(ValueError, match=message):
        ndcg(scores, relevant, k=5)


@pytest.mark.parametrize("k", [0, -1])
def test_a_measure_of_no_ranks_is_refused(k):
    with pytest.raises(ValueError, match=f"`k` is {k}; it may be 1 or more"):
        ndcg(np.ones((1, 2)), [{0}], k=k)


def test_measures_of_a_ranking_by_hand():
    """Relevant documents at ranks 2 and 4, and one that is not found."""
    ranked = {"a": 9.0, "b": 8.0, "c": 7.0, "d": 6.0}
    found = measure({"q": {"b": 1, "d": 1, "gone": 1, "a": 0}}, {"q": ranked}, ks=[3, 4])
    best = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    expected = {
        "ndcg@3": 1 / np.log2(3) / best,
        "recall@3": 1 / 3,
        "mrr@3": 1 / 2,
        "map@3": (1 / 2) / 3,
        "ndcg@4": (1 / np.log2(3) + 1 / np.log2(5)) / best,
        "recall@4": 2 / 3,
        "mrr@4": 1 / 2,
        "map@4": (1 / 2 + 2 / 4) / 3,
    }
    assert dict(zip(found.names, found.means, strict=True)) == pytest.approx(expected)


def test_both_gains_of_grades_by_hand():
    found = measure({"q": {"a": 1, "b": 3, "c": -2}}, {"q": {"a": 2.0, "c": 1.5, "b": 1.0}}, ks=[5])
    linear = (1 + 3 / np.log2(4)) / (3 + 1 / np.log2(3))
    exponential = (1 + 7 / np.log2(4)) / (7 + 1 / np.log2(3))
    assert found.names[:2] == ["ndcg@5", "ndcg_exp@5"]
    assert found.means[:2] == pytest.approx([linear, exponential])
    assert "ndcg_exp@5" not in measure({"q": {"a": 1}}, {}, ks=[5]).names, "both gains are one for grades of 1"


def test_the_mean_is_over_all_judged_queries():
    qrels = {"found": {"a": 1}, "no ranking": {"a": 1}, "nothing found": {"a": 1}, "not judged": {"a": 0}}
    found = measure(qrels, {"found": {"a": 1.0}, "nothing found": {}, "unknown": {"a": 1.0}}, ks=[1])
    assert found.queries == ["found", "no ranking", "nothing found"]
    assert found.means == pytest.approx([1 / 3] * 4)


def test_the_rule_of_ties_and_what_it_decides():
    """Of two documents with one score the higher id comes first, which here is the relevant one."""
    ranked = {"a": 1.0, "b": 1.0, "c": 0.5}
    found = measure({"q": {"b": 1}, "clear": {"a": 1}}, {"q": ranked, "clear": {"a": 2.0, "b": 1.0}}, ks=[1, 2])
    by_name = {name: column for column, name in enumerate(found.names)}
    assert found.values[:, by_name["mrr@2"]].tolist() == [1, 1]
    assert found.worst[by_name["mrr@2"]] == pytest.approx((1 / 2 + 1) / 2)
    assert found.best[by_name["mrr@2"]] == 1
    assert found.worst[by_name["recall@1"]] == 0.5
    assert found.n_ties == {1: 1, 2: 0}
    other = measure({"q": {"a": 1}}, {"q": ranked}, ks=[1])
    assert (other.means[0], other.worst[0], other.best[0]) == (0, 0, 1)


def test_scores_that_differ_only_in_double_precision_are_no_tie():
    found = measure({"q": {"a": 1}}, {"q": {"a": 1 + 1e-12, "b": 1.0}}, ks=[1])
    assert (found.worst[0], found.n_ties) == (1, {1: 0})


@given(
    values=st.lists(st.integers(0, 3), min_size=1, max_size=8),
    grades=st.lists(st.integers(0, 2), min_size=8, max_size=8),
    k=st.integers(1, 9),
)
def test_measures_are_those_of_the_library(values, grades, k):
    ids = [f"d{index}" for index in range(8)]
    qrels = {"q": dict(zip(ids, grades, strict=True)), "other": {"d0": 1}}
    run = {"q": {ids[index]: float(value) for index, value in enumerate(values)}, "other": {"d0": 1.0}}
    found = measure(qrels, run, ks=[k])
    oracle = pytrec_eval.RelevanceEvaluator(qrels, {f"ndcg_cut.{k}", f"recall.{k}", f"map_cut.{k}"}).evaluate(run)
    for query, row in zip(found.queries, found.values, strict=True):
        measured = dict(zip(found.names, row, strict=True))
        for name, key in (("ndcg", "ndcg_cut"), ("recall", "recall"), ("map", "map_cut")):
            assert measured[f"{name}@{k}"] == pytest.approx(oracle[query][f"{key}_{k}"])
    assert (found.worst <= found.means + 1e-12).all()
    assert (found.means <= found.best + 1e-12).all()


def test_the_worst_order_of_ties_is_that_of_training():
    scores = np.array([[2, 1, 1, 1], [1, 1, 0, 3]], np.float32)
    relevant = [{1: 2, 3: 1}, {0: 1, 2: 3}]
    run = {str(row): {str(d): float(s) for d, s in enumerate(line)} for row, line in enumerate(scores)}
    qrels = {str(row): {str(d): grade for d, grade in judged.items()} for row, judged in enumerate(relevant)}
    assert measure(qrels, run, ks=[3]).worst[0] == pytest.approx(ndcg(scores, relevant, k=3))


@pytest.mark.parametrize(
    ("qrels", "run", "ks", "message"),
    [
        ({"q": {"a": 0}}, {}, [5], "no query has a relevant document"),
        ({}, {}, [5], "no query has a relevant document"),
        ({"q": {"a": 0.5}}, {}, [5], "'a' for query 'q' is 0.5; trec_eval takes whole numbers"),
        ({"q": {"a": 31}}, {}, [5], "at most 30"),
        ({"q": {"a": 1}}, {"q": {"a": float("nan")}}, [5], "score of document 'a' is not a number"),
        ({"q": {"a": 1}}, {}, [0], r"`ks` is \[0\]"),
        ({"q": {"a": 1}}, {}, [], r"`ks` is \[\]"),
    ],
)
def test_what_cannot_be_measured_is_refused(qrels, run, ks, message):
    with pytest.raises(ValueError, match=message):
        measure(qrels, run, ks=ks)


def test_without_the_library_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytrec_eval", None)
    with pytest.raises(ImportError, match=r"polyvec\[evaluate\]"):
        measure({"q": {"a": 1}}, {}, ks=[5])


@pytest.mark.parametrize("odd", ["a\0b", "a\ud800", "", "a b"])
def test_ids_may_be_any_text(odd):
    scores = {"a": 1.0, odd: 2.0}
    assert measure({odd: {odd: 1}, "q": {"a": 1}}, {odd: scores, "q": scores}, ks=[2]).values.tolist() == [
        [1, 1, 1, 1],
        [pytest.approx(1 / np.log2(3)), 1, 0.5, 0.5],
    ]
