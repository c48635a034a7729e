"""Sums of unit rows and of their products, in float64: what means, covariances and mean cosines follow from."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Float64, Real

from polyvec.analyze.paired import unit_rows

__all__ = ["Moments", "frechet_residual", "half_moments"]

_BLOCK_ROWS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """The number of unit rows, their sum, and the sum of their outer products."""

    n: int
    total: Float64[np.ndarray, " dim"]
    products: Float64[np.ndarray, "dim dim"]

    def __add__(self, other: Self) -> "Moments":
        return Moments(self.n + other.n, self.total + other.total, self.products + other.products)

    @property
    def mean(self) -> Float64[np.ndarray, " dim"]:
        """The mean of the rows."""
        mean: np.ndarray = self.total / self.n
        return mean

    @property
    def covariance(self) -> Float64[np.ndarray, "dim dim"]:
        """The covariance of the rows, divided by n."""
        covariance: np.ndarray = self.products / self.n - np.outer(self.mean, self.mean)
        return covariance

    @property
    def mean_cosine(self) -> float:
        """The mean cosine of two different rows: (‖Σx‖² − Σ‖x‖²) / (n (n − 1)); Σ‖x‖² is n."""
        return float((self.total @ self.total - np.trace(self.products)) / (self.n * (self.n - 1)))


def half_moments(rows: Real[np.ndarray, "rows dim"], *, seed: int) -> tuple[Moments, Moments]:
    """Return the moments of two random halves of the rows; their sum is that of all rows."""
    in_first = np.random.default_rng(seed).permutation(len(rows)) % 2 == 0
    return _moments(rows, in_first), _moments(rows, ~in_first)


def _moments(rows: np.ndarray, chosen: Bool[np.ndarray, " rows"]) -> Moments:
    dim = rows.shape[1]
    total, products, n = np.zeros(dim), np.zeros((dim, dim)), 0
    for start in range(0, len(rows), _BLOCK_ROWS):
        units = unit_rows(rows[start : start + _BLOCK_ROWS][chosen[start : start + _BLOCK_ROWS]])
        total += units.sum(axis=0)
        products += units.T @ units
        n += len(units)
    return Moments(n, total, products)


def frechet_residual(first: Moments, second: Moments) -> float:
    """Return Tr(A + B − 2 (A^½ B A^½)^½) of two covariances: the squared Fréchet distance of the sets without means."""
    covariance, other = first.covariance, second.covariance
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    middle = np.linalg.eigvalsh(root @ other @ root)
    return max(0.0, float(np.trace(covariance) + np.trace(other) - 2 * np.sqrt(middle.clip(0)).sum()))
