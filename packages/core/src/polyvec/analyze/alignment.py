"""Cross-modal alignment as in the paper's Table 4, and alignment and uniformity of Wang and Isola."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Real

from polyvec.analyze.paired import pair_scores
from polyvec.analyze.sampling import off_diagonal, sample

__all__ = ["Alignment", "alignment", "uniformity"]


@dataclass(frozen=True, slots=True)
class Alignment:
    """The mean score of matched pairs (arXiv 2506.18902, Table 4).

    Attributes:
        mean: over `n` pairs drawn without replacement by the seed, or all pairs if there are fewer. An image with
            several texts has as many pairs.
        error: standard error of the mean, sd / √n, with n − 1 degrees of freedom.
    """

    mean: float
    error: float
    n: int


def alignment(scores: Float64[np.ndarray, " pairs"], *, n: int = 1000, seed: int) -> Alignment:
    """Average the scores of `n` random pairs out of all pairs' scores.

    Raises:
        ValueError: `n` is less than 2, or there are fewer scores.
    """
    if min(n, len(scores)) < 2:
        raise ValueError(f"`n` is {n} of {len(scores)} pairs; a standard error needs two or more.")
    drawn = scores[sample(len(scores), n, seed=seed)]
    return Alignment(float(drawn.mean()), float(drawn.std(ddof=1) / np.sqrt(len(drawn))), len(drawn))


def uniformity(rows: Real[np.ndarray, "rows dim"], *, seed: int) -> float:
    """Return log mean exp(−2 ‖x − y‖²) of different rows at unit length (arXiv 2005.10242): 0 if all are one point.

    Rows spread evenly over a sphere of many dimensions give almost −4. More than a million pairs of rows are sampled.
    """
    firsts, seconds = off_diagonal(len(rows), seed=seed)
    cosines = pair_scores(rows, rows, firsts, seconds)
    return float(np.log(np.exp(-4 * (1 - cosines)).mean()))
