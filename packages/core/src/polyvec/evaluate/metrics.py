"""Measures of a search, from scores and grades. Nothing here knows a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from polyvec.retrieval import Relevant, Scores, grades, ranking

__all__ = ["TIE_RULE", "Measures", "Qrels", "Ranking", "measure", "measure_names", "ndcg", "ordered", "positive"]

Qrels = Mapping[str, Mapping[str, float]]  # grades by the ids of queries and documents
Ranking = Mapping[str, float]  # scores by the ids of documents, in any order

TIE_RULE = "equal scores stand in descending order of document ids, as in trec_eval"

_MOST = 30  # 2³⁰ − 1 is the largest gain


@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """What a search is worth.

    Attributes:
        names: of the measures, such as `ndcg@5`; the first is the main one.
        queries: ids of all judged queries. A query without a ranking counts 0.
        values: of each query. Ties are ordered by `TIE_RULE`.
        worst: means if all ties were ordered in the worst way for each query.
        best: means if all ties were ordered in the best way.
        n_ties: for each cut k, the number of queries in which the documents at ranks k and k + 1 have equal scores.
    """

    names: Sequence[str]
    queries: Sequence[str]
    values: Float64[np.ndarray, "queries measures"]
    worst: Float64[np.ndarray, " measures"]
    best: Float64[np.ndarray, " measures"]
    n_ties: Mapping[int, int]

    @property
    def means(self) -> Float64[np.ndarray, " measures"]:
        """Mean over all judged queries."""
        means: np.ndarray = self.values.mean(axis=0)
        return means


def measure(qrels: Qrels, rankings: Mapping[str, Ranking], *, ks: Sequence[int] = (5, 10)) -> Measures:
    """Measure rankings with trec_eval's own code: nDCG, recall, MRR and MAP at each of `ks`.

    nDCG@k = Σ gain / log2(1 + rank) over the first k, divided by that of the best order. `ndcg` has linear gain, the
    grade itself; `ndcg_exp` has 2^grade − 1 and is there if a grade is above 1. recall@k is the share of the relevant
    documents among the first k; mrr@k is 1 / rank of the first relevant document, 0 beyond k; map@k is the mean over
    the relevant documents of the precision at their ranks, 0 beyond k.

    Grades of 0 or less mean not relevant. Queries without a positive grade are not judged: `positive` leaves them out.

    Raises:
        ValueError: no query is judged, a grade is no whole number up to 30, a score is not a number, or a k below 1.
        ImportError: pytrec-eval-terrier is not installed.
    """
    if not ks or min(ks) < 1:
        raise ValueError(f"`ks` is {list(ks)}; give one or more whole numbers of 1 or more.")
    judged = {query: _whole(query, gains) for query, gains in positive(qrels).items()}
    if not judged:
        raise ValueError("no query has a relevant document, so there is nothing to measure.")
    names = measure_names(qrels, ks=ks)
    queries = list(judged)
    orders = {query: ordered(rankings.get(query, {})) for query in queries}
    values = _evaluate(judged, orders, ks, names)
    rows = [i for i, query in enumerate(queries) if len(set(rankings.get(query, {}).values())) < len(orders[query])]
    tied = [queries[row] for row in rows]
    means = []
    for sign in (1, -1):  # the lower grade first, and last
        changed = values.copy()
        if tied:
            some = {query: ordered(rankings[query], grades=judged[query], sign=sign) for query in tied}
            changed[rows] = _evaluate({query: judged[query] for query in tied}, some, ks, names)
        means.append(changed.mean(axis=0))
    n_ties = {k: sum(_ties(rankings[query], orders[query], k) for query in tied) for k in ks}
    return Measures(names, queries, values, means[0], means[1], n_ties)


def measure_names(qrels: Qrels, *, ks: Sequence[int]) -> list[str]:
    """Name what `measure` measures, in its order."""
    is_graded = any(grade > 1 for gains in qrels.values() for grade in gains.values())
    kinds = ("ndcg", *(("ndcg_exp",) if is_graded else ()), "recall", "mrr", "map")
    return [f"{kind}@{k}" for k in dict.fromkeys(ks) for kind in kinds]


def positive(qrels: Qrels) -> dict[str, dict[str, float]]:
    """Return the judged queries, which have a relevant document, each with its positive grades."""
    relevant = {query: {doc: grade for doc, grade in gains.items() if grade > 0} for query, gains in qrels.items()}
    return {query: gains for query, gains in relevant.items() if gains}


def ordered(scores: Ranking, *, grades: Mapping[str, float] | None = None, sign: int = 1) -> list[str]:
    """Return the documents, best first. Equal scores are in ascending order of `sign` · grade, then by `TIE_RULE`.

    Raises:
        ValueError: a score is not a number.
    """
    gains = grades or {}
    for document, score in scores.items():
        if score != score:  # only NaN does
            raise ValueError(f"the score of document {document!r} is not a number.")
    by_id = sorted(scores, reverse=True)
    return sorted(by_id, key=lambda document: (-scores[document], sign * gains.get(document, 0.0)))


def _ties(scores: Ranking, order: Sequence[str], k: int) -> bool:
    return len(order) > k and scores[order[k - 1]] == scores[order[k]]


def _evaluate(
    qrels: Mapping[str, Mapping[str, int]], orders: Mapping[str, Sequence[str]], ks: Sequence[int], names: Sequence[str]
) -> Float64[np.ndarray, "queries measures"]:
    """Measure documents in the order in which they stand."""
    # trec_eval cuts ids at a NUL and crashes at ids that are no Unicode, so it gets numbers instead.
    numbers = {
        query: {doc: str(n) for n, doc in enumerate({**gains, **dict.fromkeys(orders[query])})}
        for query, gains in qrels.items()
    }
    judged = {
        str(row): {numbers[query][doc]: grade for doc, grade in gains.items()}
        for row, (query, gains) in enumerate(qrels.items())
    }
    exponential = {query: {doc: 2**grade - 1 for doc, grade in gains.items()} for query, gains in judged.items()}
    results: dict[str, dict[str, float]] = {query: {} for query in judged}
    for k in dict.fromkeys(ks):
        # trec_eval keeps scores in single precision and orders equal ones: negative ranks leave it nothing to decide.
        run = {
            str(row): {numbers[query][doc]: float(-rank) for rank, doc in enumerate(orders[query][:k])}
            for row, query in enumerate(qrels)
        }
        linear = {f"ndcg_cut.{k}": "ndcg", f"recall.{k}": "recall", "recip_rank": "mrr", f"map_cut.{k}": "map"}
        # Two calls: nDCG of other gains has the same key.
        for gains, kinds in ((judged, linear), (exponential, {f"ndcg_cut.{k}": "ndcg_exp"})):
            if f"{next(iter(kinds.values()))}@{k}" not in names:
                continue
            evaluated = _pytrec_eval().RelevanceEvaluator(gains, set(kinds)).evaluate(run)
            for query, row in evaluated.items():
                results[query] |= {f"{kind}@{k}": row[key.replace(".", "_")] for key, kind in kinds.items()}
    return np.array([[row.get(name, 0.0) for name in names] for row in results.values()], np.float64)


def _whole(query: str, gains: Mapping[str, float]) -> dict[str, int]:
    for document, grade in gains.items():
        if grade != int(grade) or grade > _MOST:
            raise ValueError(
                f"the grade of document {document!r} for query {query!r} is {grade:g}; trec_eval takes whole numbers, "
                f"at most {_MOST} here."
            )
    return {document: int(grade) for document, grade in gains.items()}


def _pytrec_eval() -> Any:  # Any: an optional extra without annotations
    try:
        import pytrec_eval
    except ImportError as error:
        raise ImportError(
            "rankings are measured by pytrec-eval-terrier; install it with `pip install 'polyvec[evaluate]'`."
        ) from error
    return pytrec_eval


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
