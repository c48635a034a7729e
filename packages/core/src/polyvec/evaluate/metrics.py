"""Measures of a search, from scores and grades. Nothing here knows a model."""

from collections.abc import Sequence

import numpy as np

from polyvec.retrieval import Relevant, Scores, grades, ranking

__all__ = ["ndcg"]


def ndcg(scores: Scores, relevant: Sequence[Relevant], *, k: int) -> float:
    """Return the mean over queries of nDCG@k = DCG / (DCG of the best order), where DCG = Σ grade / log2(1 + rank).

    Ties count against the search: of equal scores the lower grade is ranked first. Ranks beyond `k` count for nothing.
    `relevant` has for each query the positions of its relevant documents, with their grades or all alike. A grade that
    is not positive counts as not relevant.

    Raises:
        ValueError: `k` is less than 1, there are no queries, a query has no relevant document, a relevant document is
            unknown, or a score is not a number.
    """
    if k < 1:
        raise ValueError(f"`k` is {k}; it may be 1 or more.")
    if not len(scores) or len(scores) != len(relevant):
        raise ValueError(f"there are {len(scores)} queries and judgements for {len(relevant)}; give one or more each.")
    values = []
    for index, (row, judged) in enumerate(zip(scores, relevant, strict=True)):
        gains = grades(judged, len(row))
        if not gains:
            raise ValueError(f"query {index} has no relevant document; leave such queries out.")
        ranked = [gains.get(int(document), 0.0) for document in ranking(row, gains, n=k)]
        values.append(_dcg(ranked) / _dcg(sorted(gains.values(), reverse=True)[:k]))
    return float(np.mean(values))


def _dcg(gains: Sequence[float]) -> float:
    return float(sum(gain / np.log2(1 + rank) for rank, gain in enumerate(gains, start=1)))
