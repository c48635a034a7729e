import numpy as np
import pytest

from polyvec.evaluate.metrics import ndcg


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
