"""Reciprocal rank fusion (Cormack et al. 2009): rankings whose scores cannot be compared are merged by rank.

An item scores the sum of 1 / ((rank + 1) / weight + k - 1) over the rankings that have it, where the best rank is 0.
This is the formula of Qdrant.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int

__all__ = ["HYBRID_K", "RRF_K", "fused", "weights"]

RRF_K = 60  # of rankings of several tasks or queries, the constant of the paper
HYBRID_K = 10  # of late interaction and words: on real Python and English 5 to 20 are alike, and 60 is worse

_TIE = 0.99


def weights(n_rankings: int) -> list[float]:
    """Return weights that differ just enough to decide ties: the earlier ranking is right."""
    return [_TIE**index for index in range(n_rankings)]


def fused(rankings: Sequence[Int[np.ndarray, " _"]], n_items: int, *, k: int) -> Float64[np.ndarray, " items"]:
    """Return the score of each item, -inf if no ranking has it. A ranking lists positions of items, best first."""
    scores = np.full(n_items, -np.inf)
    for ranking, weight in zip(rankings, weights(len(rankings)), strict=True):
        scores[ranking] = np.maximum(scores[ranking], 0) + 1 / (np.arange(1, len(ranking) + 1) / weight + k - 1)
    return scores
