"""Histograms of scores on fixed bins, and how far two sets of scores lie apart."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

__all__ = ["EDGES", "Histogram", "auc", "d_prime", "histogram", "overlap"]

EDGES = np.linspace(-1, 1, 101)  # fixed, so that models and runs can be compared
_ROUNDING = 1e-12  # of cosines in float64


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Scores from −1 to 1, counted in 100 bins of width 0.02.

    Attributes:
        n: how many scores there are.
        mean, sd: of the scores themselves, not of the bins; `sd` divides by n.
        counts: scores per bin.
    """

    n: int
    mean: float
    sd: float
    counts: Int64[np.ndarray, " bins"]


def histogram(scores: Float64[np.ndarray, " scores"]) -> Histogram:
    """Count scores. Rounding beyond ±1 counts in the outermost bins."""
    counts, _ = np.histogram(scores.clip(-1, 1), EDGES)
    return Histogram(len(scores), float(scores.mean()), float(scores.std()), counts.astype(np.int64))


def overlap(first: Histogram, second: Histogram) -> float:
    """Return the overlap coefficient Σ min(a, b) over the bins of the histograms at unit mass: 1 if they are alike."""
    return float(np.minimum(first.counts / first.n, second.counts / second.n).sum())


def auc(positives: Float64[np.ndarray, " positives"], negatives: Float64[np.ndarray, " negatives"]) -> float:
    """Return the area under the ROC curve: how often a positive scores above a negative; equal scores count half.

    It is exact over these scores; they are sorted, not binned.
    """
    ordered = np.sort(negatives)
    below, up_to = (np.searchsorted(ordered, positives, side=side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(ordered)))


def d_prime(positives: Histogram, negatives: Histogram) -> float:
    """Return (μ₊ − μ₋) / √((σ₊² + σ₋²) / 2). It is infinite if neither side varies and the means differ.

    A spread that rounding alone may make counts as none.
    """
    spread = np.sqrt((positives.sd**2 + negatives.sd**2) / 2)
    difference = positives.mean - negatives.mean
    if spread < _ROUNDING:
        return float(np.copysign(np.inf, difference)) if abs(difference) > _ROUNDING else 0.0
    return float(difference / spread)
