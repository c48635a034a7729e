import itertools

import numpy as np
import pytest
from scipy.stats import binom

from polyvec.evaluate import statistics
from polyvec.evaluate.statistics import bootstrap, holm, paired_differences


def column(*values):
    return np.array(values, np.float64)[:, None]


def test_the_interval_of_a_constant_has_no_width():
    assert bootstrap(column(0.25, 0.25, 0.25)).tolist() == [[0.25, 0.25]]
    assert bootstrap(column(0.5)).tolist() == [[0.5, 0.5]]


def test_the_interval_of_successes_is_that_of_the_binomial_distribution():
    """A resampled mean of 20 values, 12 of which are 1, is Binomial(20, 0.6) / 20."""
    (interval,) = bootstrap(column(*[1] * 12, *[0] * 8))
    assert interval == pytest.approx(binom.ppf([0.025, 0.975], 20, 0.6) / 20, abs=1e-9)


def test_intervals_are_the_same_each_time_and_whatever_the_blocks(monkeypatch):
    values = np.random.default_rng(0).random((30, 2))
    whole = bootstrap(values, n_resamples=500)
    monkeypatch.setattr(statistics, "_BLOCK", 100)
    np.testing.assert_array_equal(bootstrap(values, n_resamples=500), whole)
    assert (bootstrap(values, n_resamples=500, seed=1) != whole).any()
    assert (whole[:, 0] < values.mean(axis=0)).all()
    assert (values.mean(axis=0) < whole[:, 1]).all()


def test_a_narrower_level_is_inside():
    values = np.random.default_rng(0).random((30, 1))
    ((low, high),), ((inner_low, inner_high),) = bootstrap(values), bootstrap(values, level=0.5)
    assert low < inner_low < inner_high < high


def test_p_is_the_share_of_signs_that_give_as_much():
    differences = np.array([0.5, 0.25, 0.5, -0.25, 0.75, 0.1, 0.3])
    means = [abs(np.dot(signs, differences)) for signs in itertools.product([1, -1], repeat=7)]
    exact = np.mean([mean >= differences.sum() - 1e-9 for mean in means])
    (found,) = paired_differences(np.zeros((7, 1)), differences[:, None])
    assert found.p == pytest.approx(exact, abs=0.006)  # 3 σ of 10,000 draws
    assert found.mean == pytest.approx(differences.mean())
    assert found.low < found.mean < found.high


def test_equal_searches_do_not_differ():
    values = np.random.default_rng(0).random((9, 2))
    for found in paired_differences(values, values, n_resamples=100):
        assert (found.mean, found.low, found.high, found.p, found.p_holm) == (0, 0, 0, 1, 1)


def test_p_is_never_zero_and_the_other_way_round_it_is_the_same():
    first, second = np.zeros((40, 1)), np.full((40, 1), 0.1)
    (found,), (other) = paired_differences(first, second, n_resamples=99), paired_differences(second, first)
    assert found.p == 1 / 100
    assert (other[0].mean, other[0].high) == pytest.approx((-0.1, -0.1))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_differences_are_corrected_for_the_number_of_measures():
    rng = np.random.default_rng(3)
    values = rng.random((12, 2)) - [0.3, 0.45]
    one, other = paired_differences(np.zeros((12, 2)), values, n_resamples=500)
    assert [one.p_holm, other.p_holm] == pytest.approx(holm([one.p, other.p]))
    assert one.p_holm > one.p or other.p_holm > other.p


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.zeros((0, 1)), {}, "no queries"),
        (np.zeros((1, 1)), {"level": 95.0}, "`level` is 95"),
        (np.zeros((1, 1)), {"n_resamples": 0}, "`n_resamples` is 0"),
    ],
)
def test_impossible_intervals_are_refused(values, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap(values, **options)


def test_other_queries_are_no_pairs():
    with pytest.raises(ValueError, match="compare the same queries"):
        paired_differences(np.zeros((2, 1)), np.zeros((3, 1)))
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([2.0])
