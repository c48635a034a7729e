import numpy as np
import pytest

from polyvec.analyze.cone import cone, margin
from polyvec.analyze.paired import Paired


def at(*angles):
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_the_cone_compares_matched_with_unmatched_scores():
    measured = cone(np.array([0.8, 0.6]), np.array([0.1, 0.3, 0.7]))
    assert (measured.matched.n, measured.unmatched.n) == (2, 3)
    assert measured.auc == pytest.approx(5 / 6)
    assert measured.d_prime == pytest.approx((0.7 - 1.1 / 3) / np.sqrt((0.01 + np.var([0.1, 0.3, 0.7])) / 2))


def test_the_margin_is_over_the_hardest_image():
    # text 0 has images 0 and 2, and image 1 is at 0.3; text 1 has image 1, and image 0 is nearer
    paired = Paired(at(0.5, 0.3, 0.1), at(0, 0.45), np.array([[0, 0], [2, 0], [1, 1]]))
    measured = margin(paired, seed=0)
    first, second = np.cos(0.1) - np.cos(0.3), np.cos(0.15) - np.cos(0.05)
    assert measured.mean == pytest.approx((first + second) / 2, abs=1e-6)
    assert (measured.positive, measured.n, measured.n_images) == (0.5, 2, 3)


def test_a_text_of_all_images_has_no_margin():
    every = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    assert margin(Paired(at(0, 1), at(0, 1), every), seed=0) is None
    one = Paired(at(0, 1), at(0, 1), every[:3])
    assert margin(one, seed=0).n == 1  # text 1 has image 0 only


def test_texts_are_drawn_by_the_seed():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((30, 4)).astype(np.float32)
    paired = Paired(vectors, vectors + 0.5, np.stack([np.arange(30)] * 2, axis=1))
    first, again, other = (margin(paired, seed=seed, most=10) for seed in (0, 0, 1))
    assert first == again != other
    assert first.n == 10
