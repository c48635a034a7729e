import numpy as np
import pytest

from polyvec.analyze import moments as module
from polyvec.analyze.moments import Moments, frechet_residual, half_moments


def of_covariance(covariance):
    return Moments(10, np.zeros(len(covariance)), 10 * np.asarray(covariance, float))


def test_halves_add_up_to_all_rows(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_ROWS", 3)
    rows = np.random.default_rng(0).standard_normal((11, 4)).astype(np.float32)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    first, second = half_moments(rows, seed=0)
    assert (first.n, second.n) == (6, 5)
    both = first + second
    assert both.mean == pytest.approx(units.mean(axis=0), abs=1e-6)
    assert both.covariance == pytest.approx(np.cov(units.T, bias=True), abs=1e-6)
    off = ~np.eye(11, dtype=bool)
    assert both.mean_cosine == pytest.approx((units @ units.T)[off].mean(), abs=1e-6)


@pytest.mark.parametrize("angle", [0, 0.3, np.pi / 4, 1.2])
def test_the_mean_cosine_of_a_circle_around_an_axis(angle):
    """n points at one angle from an axis, evenly spaced: their sum is n cos(angle) on the axis."""
    turns = np.arange(12) * 2 * np.pi / 12
    rows = np.stack([np.sin(angle) * np.cos(turns), np.sin(angle) * np.sin(turns), np.full(12, np.cos(angle))], axis=1)
    first, second = half_moments(rows, seed=0)
    assert (first + second).mean_cosine == pytest.approx((144 * np.cos(angle) ** 2 - 12) / (12 * 11))


def test_the_residual_of_covariances_with_the_same_axes():
    """It is Σ (√a − √b)² of the variances along the axes."""
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    first, second = (turn @ np.diag(variances) @ turn.T for variances in ([4, 1], [1, 0.25]))
    assert frechet_residual(of_covariance(first), of_covariance(second)) == pytest.approx(1 + 0.25)
    assert frechet_residual(of_covariance(first), of_covariance(first)) == pytest.approx(0, abs=1e-6)


def test_the_residual_of_covariances_with_different_axes():
    """A line along x and a line along y share nothing: all variance remains."""
    first, second = (of_covariance(np.diag(variances)) for variances in ([4, 0], [0, 9]))
    assert frechet_residual(first, second) == pytest.approx(13)
