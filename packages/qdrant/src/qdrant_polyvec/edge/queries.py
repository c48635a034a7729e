"""Queries, with prefetches and formulas: from qdrant-client's models to the embedded engine's own."""

import datetime
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pydantic_core
import qdrant_edge as edge
from qdrant_client import models

from qdrant_polyvec.edge import filters, translate
from qdrant_polyvec.edge.translate import Model, Native, allow_only, iso, member, unsupported

DEFAULT_LIMIT = 10  # of a query and of a prefetch, as in the server
DEFAULT_RRF_K = 2  # as in the server
_DEFAULT_DIVERSITY = 0.5  # as in the server
_MOST_DIVERSE = 16_384  # candidates of MMR, as in the server
_STAGE_FIELDS = ("prefetch", "query", "using", "filter", "params", "score_threshold", "limit", "lookup_from")


@dataclass(frozen=True, slots=True)
class Target:
    """The collection that a query searches."""

    name: str
    params: translate.VectorParams
    vector_of: Callable[[str, int | uuid.UUID, str], Any]
    """Collection, point and vector name → the stored vector in qdrant-client's form."""


def request(query: Any, **fields: Any) -> models.QueryRequest:
    """Build a request as the client of a server does: dicts become models, and a value of a wrong type is a ValueError.

    Vectors stay as they are; they are checked on their way to the engine.
    """
    return models.QueryRequest(**fields).model_copy(update={"query": query})


@translate.numbers_in_range
def native_request(model: models.QueryRequest, target: Target) -> Native:
    """Convert a query with its prefetches; a ValueError if it is invalid.

    A point's id in the place of a vector stands for its vector, and excludes that point from the results.
    """
    allow_only(model, *_STAGE_FIELDS, "offset", "with_payload", "with_vector")
    if model.offset is not None and model.offset < 0:
        raise ValueError(f"`offset` is {model.offset}; it must be at least 0.")
    return edge.QueryRequest(
        **_native_stage(model, target),
        offset=None if isinstance(model.query, models.SampleQuery) else model.offset,  # a sample has no order
        with_payload=translate.payload_selector(model.with_payload),
        with_vector=model.with_vector or False,
    )


def limit_of(model: models.QueryRequest | models.Prefetch | models.ScrollRequest | models.FacetRequest) -> int:
    return DEFAULT_LIMIT if model.limit is None else model.limit


def checked_limit(limit: int) -> int:
    """Raise `ValueError` if the limit is below 1."""
    if limit < 1:
        raise ValueError(f"`limit` is {limit}; it must be at least 1.")
    return limit


def prefetches_of(model: models.QueryRequest | models.Prefetch) -> list[models.Prefetch]:
    return model.prefetch if isinstance(model.prefetch, list) else [model.prefetch] if model.prefetch else []


def order_by(model: str | models.OrderBy | None) -> Native:
    """Convert an order by a payload field; None stays None."""
    if model is None or isinstance(model, str):
        return model and edge.OrderBy(key=model)
    allow_only(model, "key", "direction", "start_from")
    start = model.start_from
    return edge.OrderBy(
        key=model.key,
        direction=member(edge.Direction, model.direction),
        start_from=iso(start) if isinstance(start, datetime.date) else start,
    )


def _native_stage(model: models.QueryRequest | models.Prefetch, target: Target) -> dict[str, Native]:
    limit = checked_limit(limit_of(model))
    prefetches = prefetches_of(model)
    if prefetches and model.query is None:
        raise ValueError("a query with prefetches needs `query`, which merges or re-ranks their results.")
    if model.score_threshold is not None:
        _check_threshold(model)
    for prefetch in prefetches:
        allow_only(prefetch, *_STAGE_FIELDS)
    inputs = _Inputs(model, target)
    query = _native_query(model.query, inputs, limit)  # fills `inputs.excluded_ids`
    excluded = [models.HasIdCondition(has_id=list(inputs.excluded_ids))] if inputs.excluded_ids else []
    return {
        "limit": limit,
        "query": query,
        "prefetches": [edge.Prefetch(**_native_stage(prefetch, target)) for prefetch in prefetches],
        "filter": filters.query_filter(filters.narrowed(model.filter, must_not=excluded)),
        "params": _search_params(model.params),
        "score_threshold": model.score_threshold,
    }


def _check_threshold(model: models.QueryRequest | models.Prefetch) -> None:
    if model.query is None or isinstance(model.query, models.OrderByQuery):
        raise ValueError("`score_threshold` needs a query that scores: not an order by a payload field.")
    if not math.isfinite(model.score_threshold or 0):
        raise ValueError(f"`score_threshold` is {model.score_threshold}; it must be finite.")


@translate.numbers_in_range
def native_scroll(model: models.ScrollRequest) -> Native:
    return edge.ScrollRequest(
        offset=None if model.offset is None else translate.native_id(model.offset),
        limit=checked_limit(limit_of(model)),
        filter=filters.query_filter(model.filter),
        with_payload=translate.payload_selector(model.with_payload),
        with_vector=model.with_vector or False,
        order_by=order_by(model.order_by),
    )


@translate.numbers_in_range
def native_facet(model: models.FacetRequest) -> Native:
    condition = filters.query_filter(model.filter)
    return edge.FacetRequest(
        key=model.key, limit=checked_limit(limit_of(model)), exact=bool(model.exact), filter=condition
    )


@dataclass(slots=True)
class _Inputs:
    """Convert the inputs of a stage's query: vectors, or ids of stored points that stand for their vectors."""

    stage: models.QueryRequest | models.Prefetch
    target: Target
    excluded_ids: set[int | uuid.UUID] = field(default_factory=set)

    @property
    def using(self) -> str | None:
        return self.stage.using

    def native(self, value: Model) -> Native:
        return translate.native_vector(self.plain(value), self.using, self.target.params)

    def plain(self, value: Model) -> Any:
        if not isinstance(value, int | str | uuid.UUID):
            return value
        identity = translate.native_id(value)
        lookup = self.stage.lookup_from
        if lookup is None:
            collection, name = self.target.name, self.using
        else:
            allow_only(lookup, "collection", "vector")
            collection, name = lookup.collection, self.using if lookup.vector is None else lookup.vector
        if collection == self.target.name:
            self.excluded_ids.add(identity)
        return self.target.vector_of(collection, identity, name or "")


def _native_query(model: Model, inputs: _Inputs, limit: int) -> Native:
    name = type(model).__name__
    if name in _QUERIES:
        return _QUERIES[name](model, inputs)
    match model:
        case None:
            return None
        case models.NearestQuery(mmr=models.Mmr() as mmr):
            vector = inputs.native(model.nearest)
            if isinstance(vector, edge.SparseVector):
                raise unsupported("a diverse query (`mmr`) by a sparse vector")
            return _mmr(mmr, vector, inputs, limit)
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
    if not 0 <= candidates <= max(limit, _MOST_DIVERSE):
        raise ValueError(f"`candidates_limit` is {candidates}; it must be from 0 to {_MOST_DIVERSE}.")
    return edge.Mmr(vector, lambda_=1 - diversity, candidates_limit=candidates, using=inputs.using)


def _rrf(model: models.RrfQuery) -> Native:
    allow_only(model.rrf, "k", "weights")
    k = DEFAULT_RRF_K if model.rrf.k is None else model.rrf.k
    if k < 1:
        raise ValueError(f"`k` of reciprocal rank fusion is {k}; it must be at least 1.")
    return edge.Fusion.Rrf(k=k, weights=getattr(model.rrf, "weights", None))


def _recommend(model: models.RecommendQuery, inputs: _Inputs) -> Native:
    positives, negatives = model.recommend.positive or [], model.recommend.negative or []
    strategy = model.recommend.strategy or models.RecommendStrategy.AVERAGE_VECTOR
    if strategy == models.RecommendStrategy.AVERAGE_VECTOR:
        if not positives:
            raise ValueError("recommending by the average needs at least one positive example.")
        average = _average(list(map(inputs.plain, positives)), list(map(inputs.plain, negatives)), inputs)
        return edge.Query.Nearest(inputs.native(average), using=inputs.using)
    if not positives and not negatives:
        raise ValueError("recommending needs at least one positive or negative example.")
    examples = edge.RecommendQuery(
        positives=list(map(inputs.native, positives)), negatives=list(map(inputs.native, negatives))
    )
    if strategy == models.RecommendStrategy.BEST_SCORE:
        return edge.Query.RecommendBestScore(examples, using=inputs.using)
    return edge.Query.RecommendSumScores(examples, using=inputs.using)


def _average(positives: list[Any], negatives: list[Any], inputs: _Inputs) -> Any:
    """Average the examples as the server does: 2 × the mean of the positives − the mean of the negatives.

    Multi-vectors are concatenated: the rows of the positives, and the negated rows of the negatives.
    """
    for example in positives + negatives:
        translate.native_vector(example, inputs.using, inputs.target.params)  # raises if it does not fit
    if isinstance(positives[0], models.SparseVector):
        weights: dict[int, float] = {}
        factor = 2 if negatives else 1
        for examples, share in ((positives, factor / len(positives)), (negatives, -1 / max(len(negatives), 1))):
            for example in examples:
                for index, value in zip(example.indices, example.values, strict=True):
                    weights[index] = weights.get(index, 0.0) + share * value
        return models.SparseVector(indices=list(weights), values=list(weights.values()))
    plus = [np.asarray(example, dtype=np.float32) for example in positives]
    minus = [np.asarray(example, dtype=np.float32) for example in negatives]
    if plus[0].ndim == 2:
        return np.concatenate([*plus, *(-rows for rows in minus)])
    mean = np.mean(plus, axis=0)
    return 2 * mean - np.mean(minus, axis=0) if minus else mean


def _discover(model: models.DiscoverQuery, inputs: _Inputs) -> Native:
    target = inputs.native(model.discover.target)
    pairs = _pairs(model.discover.context, inputs)
    return edge.Query.Discover(edge.DiscoverQuery(target=target, pairs=pairs), using=inputs.using)


def _context(model: models.ContextQuery, inputs: _Inputs) -> Native:
    if not model.context:
        raise ValueError("a query by context needs at least one pair of examples.")
    return edge.Query.Context(edge.ContextQuery(pairs=_pairs(model.context, inputs)), using=inputs.using)


def _pairs(model: models.ContextPair | list[models.ContextPair], inputs: _Inputs) -> list[Native]:
    return [
        edge.ContextPair(positive=inputs.native(pair.positive), negative=inputs.native(pair.negative))
        for pair in (model if isinstance(model, list) else [model])
    ]


def _relevance_feedback(model: Model, inputs: _Inputs) -> Native:
    feedback = model.relevance_feedback
    allow_only(feedback.strategy, "naive")
    naive = feedback.strategy.naive
    if naive.b < 0:
        raise ValueError(f"`b` of the naive feedback is {naive.b}; it must be at least 0.")
    query = edge.FeedbackNaiveQuery(
        target=inputs.native(feedback.target),
        feedback=[
            edge.FeedbackItem(vector=inputs.native(item.example), score=item.score) for item in feedback.feedback
        ],
        strategy=edge.NaiveFeedbackStrategy(a=naive.a, b=naive.b, c=naive.c),
    )
    return edge.Query.FeedbackNaive(query, using=inputs.using)


def _text_query(model: Model, inputs: _Inputs) -> Native:
    if not inputs.using:
        raise ValueError("a text query needs `using`: the payload field to search.")
    if isinstance(model.text, str):
        return edge.TextQuery(field=inputs.using, query=model.text)
    scoring = model.text.scoring and edge.Bm25Params(k=model.text.scoring.bm25.k, b=model.text.scoring.bm25.b)
    return edge.TextQuery(field=inputs.using, query=model.text.query, scoring=scoring)


# By class name because older releases of qdrant-client lack some of these classes.
_QUERIES: dict[str, Callable[[Model, _Inputs], Native]] = {
    "RecommendQuery": _recommend,
    "DiscoverQuery": _discover,
    "ContextQuery": _context,
    "RelevanceFeedbackQuery": _relevance_feedback,
    "TextQuery": _text_query,
    "RrfQuery": lambda model, _: _rrf(model),
    "FusionQuery": lambda model, _: (
        edge.Fusion.Dbsf() if model.fusion == models.Fusion.DBSF else edge.Fusion.Rrf(k=DEFAULT_RRF_K)
    ),
    "FormulaQuery": lambda model, _: _formula(model),
    "OrderByQuery": lambda model, _: order_by(model.order_by),
    "SampleQuery": lambda model, _: member(edge.Sample, model.sample),
}


def _search_params(model: models.SearchParams | None) -> Native:
    if model is None:
        return None
    allow_only(model, "hnsw_ef", "exact", "quantization", "indexed_only", "acorn", "idf")
    return edge.SearchParams(
        hnsw_ef=model.hnsw_ef,
        exact=bool(model.exact),
        indexed_only=bool(model.indexed_only),
        quantization=_quantization_params(model.quantization),
        acorn=_acorn(getattr(model, "acorn", None)),
        idf=_idf(getattr(model, "idf", None)),
    )


def _quantization_params(model: models.QuantizationSearchParams | None) -> Native:
    if model is None:
        return None
    allow_only(model, "ignore", "rescore", "oversampling")
    return edge.QuantizationSearchParams(
        ignore=bool(model.ignore), rescore=model.rescore, oversampling=model.oversampling
    )


def _acorn(model: Model) -> Native:
    if model is None:
        return None
    allow_only(model, "enable", "max_selectivity")
    return edge.AcornSearchParams(enable=bool(model.enable), max_selectivity=model.max_selectivity)


def _idf(model: Model) -> Native:
    if model is None or isinstance(model, str):  # the only scope with a name is the whole collection
        return model and edge.IdfParams()
    allow_only(model, "corpus")
    return edge.IdfParams(corpus=filters.query_filter(model.corpus))


def _formula(model: models.FormulaQuery) -> Native:
    allow_only(model, "formula", "defaults")
    return edge.Formula(_expression(model.formula), pydantic_core.to_jsonable_python(model.defaults or {}))


def _expression(model: Model) -> Native:
    if isinstance(model, str):
        return edge.Expression.Variable(model)
    if isinstance(model, int | float):
        return edge.Expression.Constant(float(model))
    name = type(model).__name__
    if name in _EXPRESSIONS:
        return _EXPRESSIONS[name](model)
    return edge.Expression.Condition(filters.condition(model))


def _div(model: models.DivParams) -> Native:
    return edge.Expression.Div(
        left=_expression(model.left), right=_expression(model.right), by_zero_default=model.by_zero_default
    )


def _decay(kind: Native, model: models.DecayParamsExpression) -> Native:
    return edge.Expression.Decay(
        kind=kind,
        x=_expression(model.x),
        target=None if model.target is None else _expression(model.target),
        midpoint=model.midpoint,
        scale=model.scale,
    )


_EXPRESSIONS: dict[str, Callable[[Model], Native]] = {
    "GeoDistance": lambda m: edge.Expression.GeoDistance(filters.geo_point(m.geo_distance.origin), m.geo_distance.to),
    "DatetimeExpression": lambda m: edge.Expression.Datetime(m.datetime),
    "DatetimeKeyExpression": lambda m: edge.Expression.DatetimeKey(m.datetime_key),
    "MultExpression": lambda m: edge.Expression.Mult(list(map(_expression, m.mult))),
    "SumExpression": lambda m: edge.Expression.Sum(list(map(_expression, m.sum))),
    "MaxExpression": lambda m: edge.Expression.Max(list(map(_expression, m.max))),
    "MinExpression": lambda m: edge.Expression.Min(list(map(_expression, m.min))),
    "NegExpression": lambda m: edge.Expression.Neg(_expression(m.neg)),
    "AbsExpression": lambda m: edge.Expression.Abs(_expression(m.abs)),
    "DivExpression": lambda m: _div(m.div),
    "SqrtExpression": lambda m: edge.Expression.Sqrt(_expression(m.sqrt)),
    "PowExpression": lambda m: edge.Expression.Pow(_expression(m.pow.base), _expression(m.pow.exponent)),
    "ExpExpression": lambda m: edge.Expression.Exp(_expression(m.exp)),
    "Log10Expression": lambda m: edge.Expression.Log10(_expression(m.log10)),
    "LnExpression": lambda m: edge.Expression.Ln(_expression(m.ln)),
    "AcoshExpression": lambda m: edge.Expression.Acosh(_expression(m.acosh)),
    "LinDecayExpression": lambda m: _decay(edge.DecayKind.Lin, m.lin_decay),
    "ExpDecayExpression": lambda m: _decay(edge.DecayKind.Exp, m.exp_decay),
    "GaussDecayExpression": lambda m: _decay(edge.DecayKind.Gauss, m.gauss_decay),
}
