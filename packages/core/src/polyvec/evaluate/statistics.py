"""How sure a measurement is: bootstrap intervals, paired tests, and several tests at once. Nothing knows a model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

__all__ = ["Difference", "bootstrap", "holm", "paired_differences"]

SEED = 20_250_623
RESAMPLES = 10_000

_BLOCK = 1 << 17  # random numbers at a time; their counts stay in the cache
_MEANS = 1 << 23  # means of resamples at a time


@dataclass(frozen=True, slots=True)
class Difference:
    """How two searches differ in one measure, over the same queries.

    Attributes:
        mean: of the second minus the first.
        low, high: the interval of the mean.
        p: of a paired randomisation test on both sides: how often signs drawn at random give a mean as far from 0.
        p_holm: `p` corrected for the number of measures that were compared (Holm 1979).
    """

    mean: float
    low: float
    high: float
    p: float
    p_holm: float


def bootstrap(
    values: Float64[np.ndarray, "queries measures"],
    *,
    level: float = 0.95,
    n_resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Float64[np.ndarray, "measures 2"]:
    """Return the percentile bootstrap interval of the mean over queries of each measure (Efron 1979).

    All measures share the resamples, and so do all calls with equally many queries and an equal seed. With one query an
    interval has no width; it says nothing then.

    Raises:
        ValueError: there are no queries, or an impossible `level` or `n_resamples`.
    """
    if not len(values):
        raise ValueError("there are no queries to draw from.")
    if not 0 < level < 1:
        raise ValueError(f"`level` is {level}; it lies between 0 and 1, such as 0.95.")
    if n_resamples < 1:
        raise ValueError(f"`n_resamples` is {n_resamples}; it may be 1 or more.")
    columns = np.ascontiguousarray(values.T)
    step, tail = max(1, _MEANS // n_resamples), (1 - level) / 2
    intervals = np.empty((len(columns), 2))
    for first in range(0, len(columns), step):
        means = _resampled_means(columns[first : first + step], n_resamples, seed)
        intervals[first : first + step] = np.quantile(means, [tail, 1 - tail], axis=1, overwrite_input=True).T
    return intervals


def paired_differences(
    first: Float64[np.ndarray, "queries measures"],
    second: Float64[np.ndarray, "_ measures"],
    *,
    level: float = 0.95,
    n_resamples: int = RESAMPLES,
    seed: int = SEED,
    family: int | None = None,
) -> list[Difference]:
    """Compare two searches, query by query, in each measure.

    The test flips the sign of each query's difference at random (Fisher 1935); p counts the observed difference, too,
    so it is never below 1 / (`n_resamples` + 1). `family` is how many successive measures are corrected together by
    Holm's method; by default all.

    Raises:
        ValueError: as `bootstrap`; also if the sides differ in shape.
    """
    if first.shape != second.shape:
        raise ValueError(f"the sides have the shapes {first.shape} and {second.shape}; compare the same queries.")
    differences = second - first
    intervals = bootstrap(differences, level=level, n_resamples=n_resamples, seed=seed)
    observed = differences.mean(axis=0)
    rng, n = np.random.default_rng(seed), len(differences)
    n_extreme = np.zeros(differences.shape[1], np.int64)
    for start, end in _blocks(n_resamples, n):
        words = rng.integers(2**64 - 1, size=(end - start, -(-n // 64)), dtype=np.uint64, endpoint=True)
        signs = np.unpackbits(words.view(np.uint8), axis=1, count=n) * 2.0 - 1
        n_extreme += (np.abs(signs @ differences / n) >= np.abs(observed) - 1e-12).sum(axis=0)  # less for rounding
    p: list[float] = ((1 + n_extreme) / (1 + n_resamples)).tolist()
    size = family or max(1, len(p))
    corrected = [value for start in range(0, len(p), size) for value in holm(p[start : start + size])]
    return [
        Difference(float(mean), float(low), float(high), one, holms)
        for mean, (low, high), one, holms in zip(observed, intervals, p, corrected, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values of several tests: the i-th smallest of m, from 0, times m − i; never less than a smaller one's.

    Raises:
        ValueError: a value is no probability.
    """
    if any(not 0 <= p <= 1 for p in p_values):
        raise ValueError(f"`p_values` is {list(p_values)}; they lie between 0 and 1.")
    corrected, highest = [0.0] * len(p_values), 0.0
    for i, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (len(p_values) - i) * p_values[index]))
        corrected[index] = highest
    return corrected


def _resampled_means(columns: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """Return the means of the rows of `columns` in each resample, (measures, resamples).

    How often a resample has each query is one row of a matrix of counts, so the means are a product.
    """
    rng, n = np.random.default_rng(seed), columns.shape[1]
    means = np.empty((len(columns), n_resamples))
    for start, end in _blocks(n_resamples, n):
        drawn = rng.integers(n, size=(end - start, n)) + n * np.arange(end - start)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=(end - start) * n).reshape(end - start, n)
        means[:, start:end] = columns @ counts.T.astype(np.float64)
    means /= n
    return means


def _blocks(n_resamples: int, n: int) -> list[tuple[int, int]]:
    """Divide resamples of `n` numbers each into blocks that fit in memory."""
    size = max(1, _BLOCK // n)
    return [(start, min(start + size, n_resamples)) for start in range(0, n_resamples, size)]
