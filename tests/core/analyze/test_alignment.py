import numpy as np
import pytest

from polyvec.analyze.alignment import alignment, uniformity


def test_the_mean_of_all_pairs_if_there_are_few():
    measured = alignment(np.array([0.2, 0.4, 0.9]), seed=0)
    assert (measured.n, measured.mean) == (3, pytest.approx(0.5))
    assert measured.error == pytest.approx(np.sqrt((0.09 + 0.01 + 0.16) / 2 / 3))


@pytest.mark.parametrize(("scores", "n"), [([0.2, 0.4], 1), ([0.2], 1000)])
def test_a_standard_error_needs_two_pairs(scores, n):
    with pytest.raises(ValueError, match=rf"`n` is {n} of {len(scores)} pairs"):
        alignment(np.array(scores), n=n, seed=0)


def test_the_pairs_that_are_drawn_follow_from_the_seed():
    scores = np.linspace(0, 1, 5000)
    first, again, other = (alignment(scores, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first.n == 1000
    assert first.mean == pytest.approx(0.5, abs=3 * first.error)
    assert first.error == pytest.approx(1 / np.sqrt(12 * 1000), rel=0.05)


def test_uniformity_of_one_point_and_of_opposite_points():
    assert uniformity(np.array([[1.0, 0], [2, 0], [3, 0]]), seed=0) == pytest.approx(0)
    assert uniformity(np.array([[1.0, 0], [-1, 0]]), seed=0) == pytest.approx(-8)


def test_uniformity_of_a_circle():
    """The mean of exp(−4 (1 − cos)) over the whole circle is e⁻⁴ I₀(4); pairs of a point with itself are taken out."""
    n = 100
    turns = np.arange(n) * 2 * np.pi / n
    circle = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    assert uniformity(circle, seed=0) == pytest.approx(np.log((n * np.exp(-4) * np.i0(4) - 1) / (n - 1)))
