"""Which of the documents that a search ranks become hard negatives."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

__all__ = ["SAMPLINGS", "Sampling", "Selection"]

Sampling = Literal["top", "random"]
SAMPLINGS: tuple[Sampling, ...] = get_args(Sampling)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """How negatives are chosen among ranked documents, by their scores and that of the positive.

    With several positives, the smallest of their scores counts.

    Attributes:
        per_query: largest number of negatives.
        relative_margin: a negative scores at most positive − |positive| · margin. A document that comes nearer is
            likely to be a positive that nobody labelled. 0.05 is the best of NV-Retriever's measurements (Moreira et
            al., arXiv 2407.15831, TopK-PercPos of 95 %). None: no such limit.
        absolute_margin: a negative scores at most positive − margin.
        max_score: a negative scores at most this.
        min_score: a negative scores at least this.
        sampling: `top` takes the best of the suitable documents, `random` any.
        seed: of `random`; each query draws from a stream of its own.
    """

    per_query: int = 7
    relative_margin: float | None = 0.05
    absolute_margin: float | None = None
    max_score: float | None = None
    min_score: float | None = None
    sampling: Sampling = "top"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.per_query < 1:
            raise ValueError(f"`per_query` is {self.per_query}; it may be 1 or more.")
        for name in ("relative_margin", "absolute_margin", "max_score", "min_score"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"`{name}` is {number}; it must be finite, or None for no such limit.")
        if None not in (self.min_score, self.max_score) and not self._least <= self._most:
            raise ValueError(f"`min_score` is {self.min_score}, above the `max_score` of {self.max_score}.")
        if self.sampling not in SAMPLINGS:
            raise ValueError(f"`sampling` is {self.sampling!r}; it must be {' or '.join(map(repr, SAMPLINGS))}.")
        if self.seed < 0:
            raise ValueError(f"`seed` is {self.seed}; it may be 0 or more.")

    @property
    def needs_positive(self) -> bool:
        """True if the score of the positive decides."""
        return self.relative_margin is not None or self.absolute_margin is not None

    @property
    def _least(self) -> float:
        return -math.inf if self.min_score is None else self.min_score

    @property
    def _most(self) -> float:
        return math.inf if self.max_score is None else self.max_score

    def choose(self, scores: Sequence[float], positive: float | None, query: int) -> list[int]:
        """Return the positions of the negatives, ascending, for documents in the order of their rank.

        `query` is the number of the query, which the random choice depends on.

        Raises:
            ValueError: a margin needs the score of the positive, and it is None.
        """
        most = self._most
        if positive is None:
            if self.needs_positive:
                raise ValueError("a margin needs the score of the positive; there is none.")
        else:
            if self.relative_margin is not None:
                most = min(most, positive - abs(positive) * self.relative_margin)
            if self.absolute_margin is not None:
                most = min(most, positive - self.absolute_margin)
        suitable = [position for position, score in enumerate(scores) if self._least <= score <= most]
        if self.sampling == "random" and len(suitable) > self.per_query:
            drawn = np.random.default_rng((self.seed, query)).choice(len(suitable), self.per_query, replace=False)
            return [suitable[index] for index in sorted(drawn.tolist())]
        return suitable[: self.per_query]
