import numpy as np

from polyvec.evaluate.bm25 import BM25


def test_scores_by_hand():
    """Lengths 2, 3 and 1, on average 2; `red` is in two of three texts, `pear` in one."""
    found = BM25(["red apple", "red red pear", "moon"]).scores(["a red pear pear"])
    red, pear = np.log(1 + (3 - 2 + 0.5) / (2 + 0.5)), np.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    norms = [1.2 * (0.25 + 0.75 * length / 2) for length in (2, 3)]
    expected = [red * 2.2 / (1 + norms[0]), red * 2 * 2.2 / (2 + norms[1]) + pear * 2.2 / (1 + norms[1])]
    np.testing.assert_allclose(found, [[*expected, -np.inf]], rtol=1e-6)


def test_nothing_to_find():
    assert BM25([]).scores(["a"]).shape == (1, 0)
    assert BM25(["", "..."]).scores(["a", ""]).tolist() == [[-np.inf] * 2] * 2
    assert BM25([""]).bytes_per_item == 0
    assert BM25(["a b", "a a"]).bytes_per_item == 3 * 8 / 2


def test_words_are_those_of_hybrid_searches_in_any_case():
    text = BM25(["parseHTTPResponse in STRASSE", "全文検索の仕組み"])
    assert (text.scores(["http response", "Straße", "検索"]) > -np.inf).tolist() == [[True, False]] * 2 + [
        [False, True]
    ]
