from statistics import NormalDist

import numpy as np
import pytest

from polyvec.analyze.histograms import auc, d_prime, histogram, overlap

GRID = np.array([NormalDist().inv_cdf((index + 0.5) / 4000) for index in range(4000)])  # a normal distribution


def test_a_histogram_knows_the_mean_and_deviation_of_the_scores_themselves():
    counted = histogram(np.array([0.001, 0.019, 0.5, 1 + 1e-9, -1.0]))
    assert counted.n == counted.counts.sum() == 5
    assert counted.counts[50] == 2
    assert counted.counts[-1] == counted.counts[0] == 1
    assert counted.mean == pytest.approx(0.104)
    assert counted.sd == pytest.approx(np.std([0.001, 0.019, 0.5, 1, -1]))


def test_overlap_is_of_shares():
    some, alike = np.array([0.11, 0.31]), np.array([0.11, 0.11, 0.31, 0.31])
    assert overlap(histogram(some), histogram(alike)) == 1
    assert overlap(histogram(some), histogram(np.array([0.31, 0.51, 0.51, 0.51]))) == 0.25
    assert overlap(histogram(some), histogram(-some)) == 0


def test_equal_scores_count_half():
    assert auc(np.array([1.0, 0]), np.array([0.0, -1, 2])) == pytest.approx((2 + 1.5) / 6)
    assert auc(np.array([1.0]), np.array([0.0])) == 1
    assert auc(np.ones(3), np.ones(2)) == 0.5


@pytest.mark.parametrize("shift", [0, 0.5, 2])
def test_normal_distributions_have_the_auc_of_their_d_prime(shift):
    matched, unmatched = (GRID + shift) / 10, GRID / 10
    d = d_prime(histogram(matched), histogram(unmatched))
    assert d == pytest.approx(shift, rel=1e-3)
    assert auc(matched, unmatched) == pytest.approx(NormalDist().cdf(d / np.sqrt(2)), abs=2e-4)


def test_d_prime_of_unequal_widths_and_of_points():
    wide, narrow = histogram(np.array([0.3, 0.9])), histogram(np.array([-0.1, 0.1]))
    assert d_prime(wide, narrow) == pytest.approx(0.6 / np.sqrt((0.09 + 0.01) / 2))
    point, other = histogram(np.array([0.5, 0.5])), histogram(np.array([0.25]))
    assert d_prime(point, other) == np.inf
    assert d_prime(other, point) == -np.inf
    assert d_prime(point, point) == 0
    nearly = histogram(np.array([0.5, 0.5 + 1e-15]))
    assert d_prime(nearly, other) == np.inf
