"""The query plan: what one search asks of Qdrant."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, get_args

import numpy as np
from jaxtyping import Float32
from qdrant_client import models

from qdrant_polyvec import bm25, limits
from qdrant_polyvec.schema import BM25, DENSE, LATE, OWN, POOLED, TENANT, Schema

Mode = Literal["dense", "late", "two-stage", "hybrid"]
MODES: tuple[Mode, ...] = get_args(Mode)

RRF_K = 60  # of reciprocal rank fusion (Cormack et al. 2009); Qdrant's own default is 2
MIN_CANDIDATES = 100
_MOST = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to search; the meanings are those of `Collection.search`."""

    limit: int = 5
    mode: Mode = "two-stage"
    filter: models.Filter | None = None
    candidates: int | None = None
    score_threshold: float | None = None
    oversampling: float | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"`mode` is {self.mode!r}; it must be one of {', '.join(map(repr, MODES))}.")
        for name, number in (("limit", self.limit), ("candidates", self.candidates)):
            if (number is not None or name == "limit") and not (isinstance(number, int) and 1 <= number < _MOST):
                raise ValueError(f"`{name}` is {number!r}; it must be a whole number, at least 1 and below {_MOST}.")
        if self.candidates is not None and self.candidates < self.limit:
            raise ValueError(f"`candidates` is {self.candidates}; it must be at least `limit`, which is {self.limit}.")
        if self.oversampling is not None and not self.oversampling >= 1:
            raise ValueError(f"`oversampling` is {self.oversampling}; it must be at least 1.")
        if self.score_threshold is not None and not math.isfinite(self.score_threshold):
            raise ValueError(f"`score_threshold` is {self.score_threshold}; it must be finite.")
        if self.filter is not None and not isinstance(self.filter, models.Filter):
            raise TypeError(f"`filter` is a {type(self.filter).__name__}; it is a qdrant_client.models.Filter.")

    @property
    def n_candidates(self) -> int:
        return self.candidates or max(MIN_CANDIDATES, 4 * self.limit)


class SearchOptions(TypedDict, total=False):
    """The keyword arguments that all searches have in common; `Collection.search` explains them."""

    limit: int
    mode: Mode
    filter: models.Filter | None
    candidates: int | None
    score_threshold: float | None
    oversampling: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A query as one task's adapter sees it.

    Attributes:
        words: the text, if it is one.
    """

    task: str
    dense: Float32[np.ndarray, " dim"]
    multivector: Float32[np.ndarray, "tokens late_dim"] | None
    words: str | None = None


def plan(
    asked: Sequence[Asked], options: Options, *, schema: Schema, tenant: str | None = None, params: bool = True
) -> models.QueryRequest:
    """One request, restricted to the task and tenant at every stage.

    Several tasks are searched one by one, and their rankings merged by reciprocal rank fusion: scores of different
    adapters are never compared.

    Args:
        asked: the query, encoded for each task to search.
        options: how to search.
        schema: which vectors the collection has.
        tenant: whose points are searched.
        params: whether the engine takes search parameters.

    Raises:
        ValueError: the vectors are not finite, or what the mode needs is missing.
    """
    stages = [_stage(one, options, schema, tenant, params=params) for one in asked]
    if len(stages) == 1:
        return models.QueryRequest(**stages[0], with_payload=True)
    for stage in stages:  # more than are returned, so that groups of a merged ranking find their members
        stage["limit"] = options.n_candidates
    return models.QueryRequest(
        prefetch=[models.Prefetch(**stage) for stage in stages],
        query=models.RrfQuery(rrf=models.Rrf(k=RRF_K)),
        limit=options.limit,
        with_payload=True,
    )


def n_terms(query: object) -> int | None:
    """How many cosines a score of this query is the sum of; None if it is none."""
    nearest = getattr(query, "nearest", query)
    if not isinstance(nearest, list):
        return None
    return len(nearest) if nearest and isinstance(nearest[0], list) else 1


def restricted(
    task: str,
    tenant: str | None,
    filter: models.Filter | None,  # noqa: A002 — the field's word
) -> models.Filter:
    """Points of one task and tenant that also pass the filter; vectors of different tasks are not comparable."""
    must: list[models.Condition] = [value_is(f"{OWN}.task", task)]
    if tenant is not None:
        must.append(value_is(TENANT, tenant))
    return models.Filter(must=must if filter is None else [*must, filter])


def value_is(key: str, value: str) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _stage(asked: Asked, options: Options, schema: Schema, tenant: str | None, *, params: bool) -> dict[str, Any]:
    """The arguments that a `Prefetch` and a `QueryRequest` have in common."""
    for name, vector in ((DENSE, asked.dense), (LATE, asked.multivector)):
        if vector is not None and (flaw := limits.flaw(vector)):
            raise ValueError(f"the query's {name} vector {flaw}.")
    within = restricted(asked.task, tenant, options.filter)
    last = {"filter": within, "limit": options.limit, "score_threshold": options.score_threshold}
    if options.mode == "dense":
        return {"query": asked.dense.tolist(), "using": DENSE, **last}
    if asked.multivector is None:
        raise ValueError(f"mode {options.mode!r} needs the query's multi-vector; mode 'dense' needs none.")
    rows = asked.multivector.tolist()
    stage = {"query": rows, "using": LATE, **last}
    if params:
        stage["params"] = models.SearchParams(quantization=_quantization(options.oversampling))
    if options.mode == "late":
        return stage
    first: dict[str, Any] = {"filter": within, "limit": options.n_candidates}
    prefetch = [models.Prefetch(query=asked.dense.tolist(), using=DENSE, **first)]
    if schema.pooled:
        prefetch.append(models.Prefetch(query=rows, using=POOLED, **first))
    if options.mode == "hybrid":
        prefetch += _by_words(asked, schema, first)
    return stage | {"prefetch": prefetch}


def _by_words(asked: Asked, schema: Schema, first: dict[str, Any]) -> list[models.Prefetch]:
    if schema.bm25 is None:
        raise ValueError("mode 'hybrid' needs a collection with BM25 vectors: create it with Schema(bm25='english').")
    if asked.words is None:
        raise ValueError("mode 'hybrid' searches by words, too; the query is no text. Use mode 'two-stage'.")
    words = bm25.query(asked.words, schema.bm25)
    return [] if words is None else [models.Prefetch(query=words, using=BM25, **first)]


def _quantization(oversampling: float | None) -> models.QuantizationSearchParams:
    # Left to itself, the engine would score the quantized copies and not rescore, as a quantized `late` re-ranks.
    if oversampling is None:
        return models.QuantizationSearchParams(ignore=True)
    return models.QuantizationSearchParams(rescore=True, oversampling=oversampling)
