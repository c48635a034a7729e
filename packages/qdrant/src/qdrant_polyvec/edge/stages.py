"""Queries with their prefetches: from qdrant-client's models to the embedded engine's own."""

import datetime
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import qdrant_edge as edge
from qdrant_client import models

from qdrant_polyvec.edge import filters, translate
from qdrant_polyvec.edge.formula import formula
from qdrant_polyvec.edge.translate import Model, Native, iso, member, only, unsupported

DEFAULT_LIMIT = 10  # of a query and of a prefetch, as in the server
DEFAULT_RRF_K = 2  # as in the server
_DEFAULT_DIVERSITY = 0.5  # as in the server
_STAGE = ("prefetch", "query", "using", "filter", "params", "score_threshold", "limit", "lookup_from")


@dataclass(frozen=True, slots=True)
class Target:
    """What a query needs to know of its collection."""

    name: str
    params: translate.VectorParams
    vector_of: Callable[[str, int | uuid.UUID, str], Any]
    """Collection, point and vector name → the stored vector, as qdrant-client returns it."""


def request(model: models.QueryRequest, target: Target) -> Native:
    """A whole query with its prefetches.

    A point's id in the place of a vector means its vector, and keeps that point from the results.

    Raises:
        ValueError: a limit below 1, prefetches without a query, or a query vector that does not fit.
    """
    only(model, *_STAGE, "offset", "with_payload", "with_vector")
    if model.offset is not None and model.offset < 0:
        raise ValueError(f"`offset` is {model.offset}; it must be at least 0.")
    return edge.QueryRequest(
        **_stage(model, target),
        offset=model.offset,
        with_payload=translate.payload_selector(model.with_payload),
        with_vector=model.with_vector or False,
    )


def limit_of(model: models.QueryRequest | models.Prefetch) -> int:
    return DEFAULT_LIMIT if model.limit is None else model.limit


def prefetches_of(model: models.QueryRequest | models.Prefetch) -> list[models.Prefetch]:
    return model.prefetch if isinstance(model.prefetch, list) else [model.prefetch] if model.prefetch else []


def order_by(model: str | models.OrderBy | None) -> Native:
    """An order by payload field; None stays None."""
    if model is None or isinstance(model, str):
        return model and edge.OrderBy(key=model)
    only(model, "key", "direction", "start_from")
    start = model.start_from
    return edge.OrderBy(
        key=model.key,
        direction=member(edge.Direction, model.direction),
        start_from=iso(start) if isinstance(start, datetime.date) else start,
    )


def _stage(model: models.QueryRequest | models.Prefetch, target: Target) -> dict[str, Native]:
    limit = limit_of(model)
    if limit < 1:
        raise ValueError(f"`limit` is {limit}; it must be at least 1.")
    prefetches = prefetches_of(model)
    if prefetches and model.query is None:
        raise ValueError("a query with prefetches needs `query`, which merges or re-ranks what they find.")
    for prefetch in prefetches:
        only(prefetch, *_STAGE)
    inputs = _Inputs(model, target)
    query = _query(model.query, inputs, limit)  # before the filter, which excludes the points that it mentions
    return {
        "limit": limit,
        "query": query,
        "prefetches": [edge.Prefetch(**_stage(prefetch, target)) for prefetch in prefetches],
        "filter": filters.query_filter(filters.without(inputs.mentioned, model.filter)),
        "params": _search_params(model.params),
        "score_threshold": model.score_threshold,
    }


@dataclass(slots=True)
class _Inputs:
    """The vectors that a stage asks with, given as such or by the ids of stored points."""

    stage: models.QueryRequest | models.Prefetch
    target: Target
    mentioned: set[int | uuid.UUID] = field(default_factory=set)

    @property
    def using(self) -> str | None:
        return self.stage.using

    def native(self, value: Model) -> Native:
        return translate.vector(self.plain(value), self.using, self.target.params)

    def plain(self, value: Model) -> Any:
        if not isinstance(value, int | str | uuid.UUID):
            return value
        identity = translate.point_id(value)
        lookup = self.stage.lookup_from
        if lookup is None:
            collection, name = self.target.name, self.using
        else:
            only(lookup, "collection", "vector")
            collection, name = lookup.collection, self.using if lookup.vector is None else lookup.vector
        if collection == self.target.name:
            self.mentioned.add(identity)
        return self.target.vector_of(collection, identity, name or "")


def _query(model: Model, inputs: _Inputs, limit: int) -> Native:
    name = type(model).__name__
    if name in _QUERIES:
        return _QUERIES[name](model, inputs)
    match model:
        case None:
            return None
        case models.NearestQuery(mmr=models.Mmr() as mmr):
            return _mmr(mmr, inputs.native(model.nearest), inputs, limit)
        case models.NearestQuery():
            return edge.Query.Nearest(inputs.native(model.nearest), using=inputs.using)
        case list() | np.ndarray() | int() | str() | uuid.UUID() | models.SparseVector():
            return edge.Query.Nearest(inputs.native(model), using=inputs.using)
    raise unsupported(f"a query by {name}")


def _mmr(model: models.Mmr, vector: Native, inputs: _Inputs, limit: int) -> Native:
    diversity = _DEFAULT_DIVERSITY if model.diversity is None else model.diversity
    if not 0 <= diversity <= 1:
        raise ValueError(f"`diversity` is {diversity}; it must be from 0 to 1.")
    candidates = limit if model.candidates_limit is None else model.candidates_limit
    return edge.Mmr(vector, lambda_=1 - diversity, candidates_limit=candidates, using=inputs.using)


def _rrf(model: models.RrfQuery) -> Native:
    only(model.rrf, "k", "weights")
    k = DEFAULT_RRF_K if model.rrf.k is None else model.rrf.k
    if k < 1:
        raise ValueError(f"`k` of reciprocal rank fusion is {k}; it must be at least 1.")
    return edge.Fusion.Rrf(k=k, weights=getattr(model.rrf, "weights", None))


def _fusion(model: models.FusionQuery) -> Native:
    return edge.Fusion.Dbsf() if model.fusion == models.Fusion.DBSF else edge.Fusion.Rrf(k=DEFAULT_RRF_K)


def _recommend(model: models.RecommendQuery, inputs: _Inputs) -> Native:
    given = model.recommend
    positives, negatives = given.positive or [], given.negative or []
    strategy = given.strategy or models.RecommendStrategy.AVERAGE_VECTOR
    if strategy == models.RecommendStrategy.AVERAGE_VECTOR:
        if not positives:
            raise ValueError("recommending by the average needs at least one positive example.")
        average = _average([inputs.plain(one) for one in positives], [inputs.plain(one) for one in negatives], inputs)
        return edge.Query.Nearest(translate.vector(average, inputs.using, inputs.target.params), using=inputs.using)
    if not positives and not negatives:
        raise ValueError("recommending needs at least one positive or negative example.")
    examples = edge.RecommendQuery(
        positives=[inputs.native(one) for one in positives], negatives=[inputs.native(one) for one in negatives]
    )
    if strategy == models.RecommendStrategy.BEST_SCORE:
        return edge.Query.RecommendBestScore(examples, using=inputs.using)
    return edge.Query.RecommendSumScores(examples, using=inputs.using)


def _average(positives: list[Any], negatives: list[Any], inputs: _Inputs) -> Any:
    """What to search for, as in the server: 2 × the mean of the positives − that of the negatives.

    For multi-vectors, all of their rows, those of the negatives with their sign changed.
    """
    for example in positives + negatives:
        translate.vector(example, inputs.using, inputs.target.params)  # refuses what does not fit
    if isinstance(positives[0], models.SparseVector):
        weights: dict[int, float] = {}
        factor = 2 if negatives else 1
        for examples, share in ((positives, factor / len(positives)), (negatives, -1 / max(len(negatives), 1))):
            for example in examples:
                for index, value in zip(example.indices, example.values, strict=True):
                    weights[index] = weights.get(index, 0.0) + share * value
        return models.SparseVector(indices=list(weights), values=list(weights.values()))
    arrays = [np.asarray(example, dtype=np.float32) for example in positives]
    against = [np.asarray(example, dtype=np.float32) for example in negatives]
    if arrays[0].ndim == 2:
        return np.concatenate([*arrays, *(-rows for rows in against)])
    mean = np.mean(arrays, axis=0)
    return 2 * mean - np.mean(against, axis=0) if against else mean


def _discover(model: models.DiscoverQuery, inputs: _Inputs) -> Native:
    target = inputs.native(model.discover.target)
    pairs = _pairs(model.discover.context, inputs)
    return edge.Query.Discover(edge.DiscoverQuery(target=target, pairs=pairs), using=inputs.using)


def _context(model: models.ContextQuery, inputs: _Inputs) -> Native:
    return edge.Query.Context(edge.ContextQuery(pairs=_pairs(model.context, inputs)), using=inputs.using)


def _pairs(given: models.ContextPair | list[models.ContextPair], inputs: _Inputs) -> list[Native]:
    return [
        edge.ContextPair(positive=inputs.native(pair.positive), negative=inputs.native(pair.negative))
        for pair in (given if isinstance(given, list) else [given])
    ]


def _relevance_feedback(model: Model, inputs: _Inputs) -> Native:
    given = model.relevance_feedback
    only(given.strategy, "naive")
    naive = given.strategy.naive
    if naive.b < 0:
        raise ValueError(f"`b` of the naive feedback is {naive.b}; it must be at least 0.")
    query = edge.FeedbackNaiveQuery(
        target=inputs.native(given.target),
        feedback=[edge.FeedbackItem(vector=inputs.native(one.example), score=one.score) for one in given.feedback],
        strategy=edge.NaiveFeedbackStrategy(a=naive.a, b=naive.b, c=naive.c),
    )
    return edge.Query.FeedbackNaive(query, using=inputs.using)


def _text(model: Model, inputs: _Inputs) -> Native:
    if not inputs.using:
        raise ValueError("a text query needs `using`: the payload field to search.")
    if isinstance(model.text, str):
        return edge.TextQuery(field=inputs.using, query=model.text)
    scoring = model.text.scoring and edge.Bm25Params(k=model.text.scoring.bm25.k, b=model.text.scoring.bm25.b)
    return edge.TextQuery(field=inputs.using, query=model.text.query, scoring=scoring)


# By class name, because older releases of qdrant-client lack some of these classes.
_QUERIES: dict[str, Callable[[Model, _Inputs], Native]] = {
    "RecommendQuery": _recommend,
    "DiscoverQuery": _discover,
    "ContextQuery": _context,
    "RelevanceFeedbackQuery": _relevance_feedback,
    "TextQuery": _text,
    "RrfQuery": lambda model, _: _rrf(model),
    "FusionQuery": lambda model, _: _fusion(model),
    "FormulaQuery": lambda model, _: formula(model),
    "OrderByQuery": lambda model, _: order_by(model.order_by),
    "SampleQuery": lambda model, _: member(edge.Sample, model.sample),
}


def _search_params(model: models.SearchParams | None) -> Native:
    if model is None:
        return None
    only(model, "hnsw_ef", "exact", "quantization", "indexed_only", "acorn", "idf")
    return edge.SearchParams(
        hnsw_ef=model.hnsw_ef,
        exact=bool(model.exact),
        indexed_only=bool(model.indexed_only),
        quantization=_quantization(model.quantization),
        acorn=_acorn(getattr(model, "acorn", None)),
        idf=_idf(getattr(model, "idf", None)),
    )


def _quantization(model: models.QuantizationSearchParams | None) -> Native:
    if model is None:
        return None
    only(model, "ignore", "rescore", "oversampling")
    return edge.QuantizationSearchParams(
        ignore=bool(model.ignore), rescore=model.rescore, oversampling=model.oversampling
    )


def _acorn(model: Model) -> Native:
    if model is None:
        return None
    only(model, "enable", "max_selectivity")
    return edge.AcornSearchParams(enable=bool(model.enable), max_selectivity=model.max_selectivity)


def _idf(model: Model) -> Native:
    if model is None or isinstance(model, str):  # the only scope with a name is the whole collection
        return model and edge.IdfParams()
    only(model, "corpus")
    return edge.IdfParams(corpus=filters.query_filter(model.corpus))
