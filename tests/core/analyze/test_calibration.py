from statistics import NormalDist

import numpy as np
import pytest

from polyvec.analyze.calibration import cutoffs, supported

SCORES = np.random.default_rng(0).permutation(1000) / 1000
EACH = np.arange(1000), np.arange(1000)  # every pair has a text and an image of its own


def test_the_cutoff_leaves_the_allowed_share_above():
    tenth, hundredth = cutoffs(np.array([0.5, 0.899, 0.95, 0.999]), SCORES, EACH, rates=(0.1, 0.01), seed=0)
    assert (tenth.score, tenth.n_above, tenth.recall, tenth.n_unmatched) == (0.899, 100, 0.5, 1000)
    assert (hundredth.score, hundredth.n_above, hundredth.recall) == (0.989, 10, 0.25)


def test_equal_scores_never_exceed_the_rate():
    scores = np.where(SCORES >= 0.5, 0.7, 0.1)  # half of them
    (cutoff,) = cutoffs(SCORES, scores, EACH, rates=(0.2,), seed=0)
    assert (cutoff.score, cutoff.n_above) == (0.7, 0)


def test_cutoffs_of_a_normal_distribution():
    rng = np.random.default_rng(1)
    scores = rng.standard_normal(50_000) / 10
    each = np.arange(50_000), np.arange(50_000)
    for cutoff in cutoffs(scores, scores, each, rates=(0.1, 0.001), seed=0):
        assert cutoff.score == pytest.approx(NormalDist(0, 0.1).inv_cdf(1 - cutoff.rate), abs=0.015)
        assert cutoff.low < cutoff.score < cutoff.high
        assert cutoff.high - cutoff.low < 0.04


def test_pairs_of_few_texts_give_a_wider_interval():
    """All scores of a text are nearly alike, so a thousand pairs of ten texts say little more than ten numbers."""
    rng = np.random.default_rng(2)
    texts, images = np.divmod(np.arange(1000), 100)
    scores = rng.standard_normal(10)[texts] / 10 + rng.standard_normal(1000) / 1000
    (dependent,) = cutoffs(scores, scores, (texts, images), rates=(0.15,), seed=0)
    (independent,) = cutoffs(scores, scores, EACH, rates=(0.15,), seed=0)
    assert dependent.score == independent.score
    assert dependent.high - dependent.low > 10 * (independent.high - independent.low)


def test_the_interval_follows_from_the_seed():
    first, again, other = (cutoffs(SCORES, SCORES, EACH, rates=(0.1,), seed=seed) for seed in (0, 0, 1))
    assert first == again != other


def test_rates_that_the_pairs_do_not_support_are_refused():
    assert supported((0.1, 0.01, 0.001), 1000) == [0.1, 0.01]
    with pytest.raises(
        ValueError, match=r"a false-positive rate of 0\.001 needs 10,000 unmatched pairs.*there are 1,000"
    ):
        cutoffs(SCORES, SCORES, EACH, rates=(0.1, 0.001), seed=0)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, np.nan])
def test_a_rate_is_between_0_and_1(rate):
    with pytest.raises(ValueError, match="it must be between 0 and 1"):
        cutoffs(SCORES, SCORES, EACH, rates=(rate,), seed=0)


def test_a_resample_keeps_to_the_rate_as_the_scores_themselves_do():
    """All pairs have one text and one image, so every resample weighs them alike."""
    alike = np.zeros(1000, int), np.zeros(1000, int)
    (cutoff,) = cutoffs(SCORES, SCORES, alike, rates=(0.1,), seed=0)
    assert cutoff.low == cutoff.score == cutoff.high
