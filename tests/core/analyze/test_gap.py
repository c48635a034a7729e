from statistics import NormalDist

import numpy as np
import pytest

from polyvec.analyze.gap import gap, matched_cosines, separability
from polyvec.analyze.moments import half_moments
from polyvec.analyze.paired import Paired, pair_scores


def measure(images, texts):
    images, texts = np.asarray(images, np.float32), np.asarray(texts, np.float32)
    rows = np.arange(len(images))
    pairs = np.stack([rows, rows], axis=1)
    halves = half_moments(images, seed=0), half_moments(texts, seed=0)
    return gap(*halves, pair_scores(texts, images, rows, rows), separability(images, texts, pairs, seed=0))


def circle(angle, n=10):
    """Unit vectors at one angle from the third axis, evenly spaced around it."""
    turns = np.arange(n) * 2 * np.pi / n
    return np.stack([np.sin(angle) * np.cos(turns), np.sin(angle) * np.sin(turns), np.full(n, np.cos(angle))], axis=1)


def test_equal_sets_have_no_gap():
    rows = np.random.default_rng(0).standard_normal((40, 6))
    measured = measure(rows, rows)
    assert measured.l2m == measured.centroid == measured.rmg == 0
    assert measured.l2i == pytest.approx(0, abs=1e-7)
    assert measured.residual == pytest.approx(0, abs=1e-9)
    assert measured.residual_floor > 0.01
    assert measured.separability == 0.5


def test_two_collapsed_clusters_are_nothing_but_gap():
    measured = measure([[1, 0]] * 10, [[0, 1]] * 10)
    assert measured.rmg == 1
    assert (measured.l2m, measured.l2i) == pytest.approx((np.sqrt(2), np.sqrt(2)))
    assert measured.centroid == pytest.approx(2)
    assert measured.residual == measured.residual_floor == 0
    assert measured.separability == 1


def test_one_point_has_no_gap():
    assert measure([[1, 0]] * 4, [[2, 0]] * 4).rmg == 0


def test_pairs_that_are_as_far_apart_as_any_two_items_have_half_the_relative_gap():
    measured = measure([[1, 0], [0, 1]], [[0, 1], [1, 0]])
    assert measured.rmg == pytest.approx(0.5)
    assert measured.l2m == pytest.approx(0)
    assert measured.l2i == pytest.approx(np.sqrt(2))


def test_circles_around_opposite_poles():
    """Centres at ±cos θ; a pair is 2 cos θ apart and has cosine sin²θ − cos²θ."""
    angle = 0.5
    up = circle(angle)
    down = up * [1, 1, -1]
    measured = measure(up, down)
    apart = (1 - (np.sin(angle) ** 2 - np.cos(angle) ** 2)) / 2
    within = (1 - (100 * np.cos(angle) ** 2 - 10) / 90) / 2
    assert (measured.l2m, measured.l2i) == pytest.approx((2 * np.cos(angle), 2 * np.cos(angle)))
    assert measured.rmg == pytest.approx(apart / (apart + within))
    assert measured.residual == pytest.approx(0, abs=1e-6)


def test_circles_of_different_width_have_a_residual_part():
    """Both have variance sin²θ / 2 along two axes, so the residual is twice (sin a − sin b)² / 2."""
    measured = measure(circle(0.9), circle(0.4))
    assert measured.residual == pytest.approx((np.sin(0.9) - np.sin(0.4)) ** 2, rel=1e-4)
    assert measured.centroid == pytest.approx((np.cos(0.9) - np.cos(0.4)) ** 2, rel=1e-4)


def test_the_separability_of_shifted_normal_distributions():
    """Far from the origin unit vectors are flat, and the best line tells Φ(shift / 2) of two normal distributions."""
    rng = np.random.default_rng(0)
    images, texts = (np.column_stack([np.full(3000, 1e3), rng.standard_normal((3000, 5))]) for _ in range(2))
    texts[:, 3] += 1.5
    rows = np.arange(3000)
    measured = separability(images, texts, np.stack([rows, rows], axis=1), seed=0)
    assert measured == pytest.approx(NormalDist().cdf(0.75), abs=0.012)  # two standard errors


def test_separability_counts_both_modalities_alike():
    """With three texts per image, always saying text would tell three quarters right."""
    rng = np.random.default_rng(1)
    images, texts = rng.standard_normal((500, 8)), rng.standard_normal((1500, 8))
    pairs = np.stack([np.repeat(np.arange(500), 3), np.arange(1500)], axis=1)
    assert separability(images, texts, pairs, seed=0) == pytest.approx(0.5, abs=0.04)


def test_more_dimensions_than_items_do_not_separate():
    rng = np.random.default_rng(2)
    images, texts = rng.standard_normal((60, 300)), rng.standard_normal((60, 300))
    pairs = np.stack([np.arange(60)] * 2, axis=1)
    assert 0.3 < separability(images, texts, pairs, seed=0) < 0.7


def test_separability_is_unknown_if_a_fold_lacks_a_modality():
    rows = np.eye(2, dtype=np.float32)
    assert separability(rows, rows, np.array([[0, 0], [0, 1]]), seed=0) is None


def at(*angles):
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_matched_image_text_against_matched_text_text():
    # image 0 at 0, its texts at 0.2 and 0.5; image 1 at 2, its text at 0.6
    paired = Paired(at(0, 2), at(0.2, 0.5, 0.6), np.array([[0, 0], [0, 1], [1, 2]]))
    scores = pair_scores(paired.texts, paired.images, paired.pairs[:, 1], paired.pairs[:, 0])
    matched = matched_cosines(paired, scores, seed=0)
    assert matched.image_text.mean == pytest.approx(np.cos([0.2, 0.5, 1.4]).mean(), abs=1e-6)
    assert matched.text_text.n == 1
    assert matched.text_text.mean == pytest.approx(np.cos(0.3), abs=1e-6)
    assert matched.difference == pytest.approx(np.cos(0.3) - np.cos([0.2, 0.5, 1.4]).mean(), abs=1e-6)
    assert matched.overlap == 0
    # text 0: 0.2 to its image, 0.4 to text 2. Text 1: 0.5 and 0.1. Text 2: 1.4 and 0.1.
    assert matched.nearer_unrelated == pytest.approx(2 / 3)
    assert matched.n_texts == 3


def test_without_two_texts_of_one_image_there_is_no_text_text():
    paired = Paired(at(0, 2), at(0.2, 2.1), np.array([[0, 0], [1, 1]]))
    matched = matched_cosines(paired, np.array([0.9, 0.95]), seed=0)
    assert matched.text_text is matched.difference is matched.overlap is None
    assert matched.nearer_unrelated == 0


def test_a_text_is_never_unrelated_to_itself_or_to_other_texts_of_its_image():
    # text 2 of image 1 lies at 1.9, far from the two texts of image 0, which are nearer to each other than to it
    paired = Paired(at(0, 2), at(0.5, 0.5, 1.9), np.array([[0, 0], [0, 1], [1, 2]]))
    assert matched_cosines(paired, np.array([0.9, 0.9, 0.9]), seed=0).nearer_unrelated == 0
