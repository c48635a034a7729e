"""Cut-offs: the score above which a pair counts as a match, for a rate of false positives that is allowed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

__all__ = ["RATES", "Cutoff", "check_rates", "cutoffs", "supported"]

RATES = (0.1, 0.01, 0.001, 0.0001)
_LEAST = 10  # false positives a cut-off rests on
_RESAMPLES = 200


@dataclass(frozen=True, slots=True)
class Cutoff:
    """A score; pairs with a higher score count as matches.

    Attributes:
        rate: share of unmatched pairs that may score higher.
        score: the lowest score of an unmatched pair that keeps to the rate.
        low, high: the middle 95 % of the score over 200 bootstrap resamples of the texts and of the images.
        recall: share of matched pairs that score higher.
        n_unmatched: unmatched pairs that the cut-off was read from.
        n_above: unmatched pairs that score higher.
    """

    rate: float
    score: float
    low: float
    high: float
    recall: float
    n_unmatched: int
    n_above: int


def supported(rates: Sequence[float], n_unmatched: int) -> list[float]:
    """Return the rates that leave ten or more false positives among so many unmatched pairs."""
    return [rate for rate in rates if rate * n_unmatched >= _LEAST]


def check_rates(rates: Sequence[float], n_unmatched: int) -> None:
    """Refuse rates that so many unmatched pairs do not support.

    Raises:
        ValueError: a rate is not between 0 and 1, or would leave fewer than ten false positives.
    """
    for rate in rates:
        if not 0 < rate < 1:
            raise ValueError(f"a false-positive rate is {rate:g}; it must be between 0 and 1.")
        if not supported([rate], n_unmatched):
            raise ValueError(
                f"a false-positive rate of {rate:g} needs {int(np.ceil(_LEAST / rate)):,} unmatched pairs, ten times "
                f"1/rate; there are {n_unmatched:,}."
            )


def cutoffs(
    matched: Float64[np.ndarray, " matched"],
    unmatched: Float64[np.ndarray, " unmatched"],
    pairs: tuple[Int[np.ndarray, " unmatched"], Int[np.ndarray, " unmatched"]],
    *,
    rates: Sequence[float] = RATES,
    seed: int,
) -> list[Cutoff]:
    """Return a cut-off for each rate of false positives.

    `pairs` has the text and the image of each unmatched score. Scores of one text or one image depend on each other, so
    the bootstrap draws texts and images anew and weighs a pair by the product of both (Owen 2007, "The pigeonhole
    bootstrap"); it errs towards wide intervals.

    Raises:
        ValueError: as `check_rates`.
    """
    check_rates(rates, len(unmatched))
    order = np.argsort(-unmatched)
    ordered = unmatched[order]
    scores = [float(ordered[_n_allowed(rate, len(ordered))]) for rate in rates]
    resampled = _resampled(ordered, [rows[order] for rows in pairs], rates, seed)
    return [
        Cutoff(
            rate=rate,
            score=score,
            low=float(np.percentile(values, 2.5)),
            high=float(np.percentile(values, 97.5)),
            recall=float((matched > score).mean()),
            n_unmatched=len(unmatched),
            n_above=int((unmatched > score).sum()),
        )
        for rate, score, values in zip(rates, scores, resampled.T, strict=True)
    ]


def _n_allowed(rate: float, n: int) -> int:
    return min(n - 1, int(rate * n * (1 + 1e-12)))  # 0.1 · 30 is 3, not 2.999…


def _resampled(
    ordered: np.ndarray, pairs: Sequence[np.ndarray], rates: Sequence[float], seed: int
) -> Float64[np.ndarray, "resamples rates"]:
    """Return the cut-offs of resamples; `ordered` are scores, highest first, and `pairs` their texts and images."""
    rng = np.random.default_rng(seed)
    items = [np.unique(rows, return_inverse=True)[1] for rows in pairs]
    counts = [int(rows.max()) + 1 for rows in items]
    scores = np.empty((_RESAMPLES, len(rates)))
    for resample in range(_RESAMPLES):
        weights = np.ones(len(ordered))
        for rows, n in zip(items, counts, strict=True):
            weights *= np.bincount(rng.integers(n, size=n), minlength=n)[rows]
        above = np.cumsum(weights)
        places = np.searchsorted(above, np.array(rates) * above[-1], side="right")
        scores[resample] = ordered[places.clip(max=len(ordered) - 1)]
    return scores
