"""Plan searches: queries and options become requests. Nothing here encodes or asks Qdrant."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Float32
from qdrant_client import models

from polyvec import Embeddings, Encoder, Input
from polyvec.compression import truncate
from polyvec.fusion import HYBRID_K, RRF_K, weights
from polyvec.inputs import check_task
from polyvec.scoring import unit
from polyvec.warning import warn
from qdrant_polyvec import bm25, limits
from qdrant_polyvec.choices import MODES, Mode
from qdrant_polyvec.fingerprint import FingerprintError
from qdrant_polyvec.items import Identity
from qdrant_polyvec.metadata import check_filter
from qdrant_polyvec.points import has_id
from qdrant_polyvec.schema import BM25, DENSE, LATE, OWN, POOLED, TENANT, Schema, value_is

__all__ = ["MIN_CANDIDATES", "Queries", "Query", "QueryOptions", "RankingOptions", "SearchOptions", "Tasks"]

Tasks = str | Sequence[str]
Query = Input | Embeddings  # one item, or its vectors if it is encoded already
Queries = Sequence[Query] | Embeddings

MIN_CANDIDATES = 100
_MOST = 2**31


class RankingOptions(TypedDict, total=False):
    """Options of every search that frameworks have no words of their own for."""

    mode: Mode
    """`dense` compares single vectors. `late` scores every multi-vector by MaxSim. `two-stage` (default) takes the best
    `candidates` by dense vector (and by `pooled` vectors, if the collection has them) and orders them by MaxSim.
    `hybrid` adds the best by BM25 to the candidates, and merges their order by MaxSim with the order by BM25
    (reciprocal rank fusion, k = 10); a warning says if a query has no words and is `two-stage`. The last two score
    every multi-vector of a collection of up to 2000 items, unless `candidates` is given."""
    task: Tasks
    """The task that items were added with. Default: `retrieval`. Several tasks are searched one by one, and their
    rankings are merged by reciprocal rank fusion, because scores of different tasks cannot be compared. A warning says
    if all items are of other tasks."""
    candidates: int | None
    """Number of candidates of each kind, and of the items that each ranking of a fusion has. Default: 100 or four times
    `limit`, whichever is more."""
    score_threshold: float | None
    """Leave out items whose cosine (mode `dense`) or MaxSim (all other modes) is less, each in its own task. Scores of
    fused rankings have no threshold."""
    oversampling: float | None
    """Score by the quantized copies (`Schema.quantization`) of this many times `limit` items and the best of them
    exactly. Default: all scores are exact."""


class SearchOptions(RankingOptions, total=False):
    """Options of every search."""

    limit: int
    """Largest number of results; for `search_groups`, of groups. Default: 5, or the number of `ids`."""
    filter: models.Filter | None
    """Qdrant's conditions on the payload; a user's metadata is under the key `metadata`."""


class QueryOptions(SearchOptions, total=False):
    """Options of every search of a `Collection`."""

    ids: Sequence[Identity] | None
    """Rank only these items, for example those that another search found; missing ones are left out. The last two modes
    score all of them by MaxSim, unless `candidates` is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`QueryOptions` with their defaults, checked."""

    limit: int | None = None
    ids: Sequence[Identity] | None = None
    mode: Mode = "two-stage"
    task: Tasks = "retrieval"
    filter: models.Filter | None = None
    candidates: int | None = None
    score_threshold: float | None = None
    oversampling: float | None = None
    group_size: int = 1  # largest number of results per group; 1 if results are not grouped

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"`mode` is {self.mode!r}; it must be one of {', '.join(map(repr, MODES))}.")
        if self.ids is not None and (isinstance(self.ids, str | bytes) or not isinstance(self.ids, Sequence)):
            raise TypeError(f"`ids` is {self.ids!r}; it must be a list.")
        counts = {"limit": self.limit, "candidates": self.candidates, "group_size": self.group_size}
        for name, number in counts.items():
            if number is not None and not (isinstance(number, int) and 1 <= number < _MOST):
                raise ValueError(f"`{name}` is {number!r}; it must be a whole number, at least 1 and below {_MOST}.")
        if self.candidates is not None and self.candidates < self.n_results:
            raise ValueError(
                f"`candidates` is {self.candidates}; it must be at least the number of results, which is "
                f"{self.n_results}."
            )
        if self.oversampling is not None and not self.oversampling >= 1:
            raise ValueError(f"`oversampling` is {self.oversampling}; it must be at least 1.")
        if self.score_threshold is not None and not math.isfinite(self.score_threshold):
            raise ValueError(f"`score_threshold` is {self.score_threshold}; it must be finite.")
        if self.filter is not None and not isinstance(self.filter, models.Filter):
            raise TypeError(f"`filter` is a {type(self.filter).__name__}; it is a qdrant_client.models.Filter.")
        if self.filter is not None:
            check_filter(self.filter)
        if not self.tasks:
            raise ValueError("`task` is an empty list; name at least one task.")

    @property
    def tasks(self) -> list[str]:
        return [self.task] if isinstance(self.task, str) else list(dict.fromkeys(self.task))

    @property
    def n_results(self) -> int:
        """The `limit` or its default."""
        default = 5 if self.ids is None else max(len(self.ids), 1)
        return default if self.limit is None else self.limit

    @property
    def n_candidates(self) -> int:
        return self.candidates or max(MIN_CANDIDATES, 4 * self.n_results * self.group_size)

    @property
    def depends_on_size(self) -> bool:
        """True if a small collection is searched exhaustively instead."""
        return self.mode in ("two-stage", "hybrid") and self.candidates is None


@dataclass(frozen=True, slots=True, eq=False)
class EncodedQuery:
    """A query, encoded for one task."""

    task: str
    dense: Float32[np.ndarray, " dim"]
    multivector: Float32[np.ndarray, "tokens late_dim"] | None
    words: str | None = None  # the query itself if it is a text


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The request for one query."""

    request: models.QueryRequest
    n_terms: int | None  # number of cosines that a score is the sum of; None if rankings are fused


def check_queries(queries: Queries, options: Options, *, embedder: Encoder, dim: int, schema: Schema) -> list[Query]:
    """List the queries, with embeddings cut to `dim` and scaled to unit length, or raise. Nothing is encoded."""
    for task in options.tasks:
        check_task(task, embedder.tasks)
    if options.mode != "dense" and not embedder.multivector_dim:
        raise ValueError(f"mode {options.mode!r} needs multi-vectors, and this embedder makes none: use mode 'dense'.")
    if options.mode == "hybrid" and schema.bm25 is None:
        raise ValueError(
            "mode 'hybrid' needs a collection with BM25 vectors: create it with Schema(bm25='english'), or with "
            "`polyvec index` or `reindex` and --bm25 english."
        )
    if isinstance(queries, Embeddings):
        queries = list(queries)
    if isinstance(queries, str | bytes) or not isinstance(queries, Sequence):
        raise TypeError(f"`queries` is a list of texts and images, not one {type(queries).__name__}: write [query].")
    checked: list[Query] = []
    for query in queries:
        if isinstance(query, list | tuple):
            raise TypeError("a query is one text or image; give several to `search_batch`.")
        checked.append(_fitted(query, options, embedder, dim) if isinstance(query, Embeddings) else query)
    return checked


def _fitted(query: Embeddings, options: Options, embedder: Encoder, dim: int) -> Embeddings:
    if len(options.tasks) > 1:
        raise ValueError("ready-made embeddings are of one task; to search several, give the text or image.")
    if query.fingerprint not in ("", embedder.fingerprint):
        raise FingerprintError(
            f"The query's embeddings are of the model {query.fingerprint!r}; the collection's embedder is "
            f"{embedder.fingerprint!r}, and vectors of two models are not comparable: encode the query with that one."
        )
    if len(query) != 1:
        raise ValueError(f"the query's embeddings are of {len(query)} items; a query is one.")
    size = query.dense.shape[1]
    if not dim <= size <= embedder.dim:
        raise ValueError(f"the query's dense vector has {size} numbers; the collection's have {dim}.")
    if not query.dense.any():
        raise ValueError("the query's dense vector is zero: it has no direction.")
    dense = truncate(query.dense, dim)
    if options.mode == "dense":
        return replace(query, dense=dense)
    if query.multivector is None:
        raise ValueError(f"mode {options.mode!r} needs the query's multi-vector; mode 'dense' needs none.")
    rows, width = query.multivector[0], embedder.multivector_dim
    if rows.ndim != 2 or rows.shape[1] != width:
        raise ValueError(
            f"the query's multi-vector has shape {rows.shape}; the collection's rows have {width} numbers."
        )
    return replace(query, dense=dense, multivector=(unit(rows),))


def plan(
    encoded: Sequence[EncodedQuery],
    options: Options,
    *,
    schema: Schema,
    tenant: str | None = None,
    exhaustive: bool = False,  # every multi-vector is scored; there are no candidates
    params: bool = True,  # the engine takes search parameters
    weighted: bool = True,  # the engine takes weights of rankings
    shard_key: str | int | None = None,
) -> Plan:
    """Plan one request, restricted to the task and tenant at every stage; a ValueError if vectors are not finite.

    Several tasks are searched one by one, and their rankings merged by reciprocal rank fusion: scores of different
    adapters are never compared. In mode `hybrid`, each task's ranking is itself a fusion, if the query has words.
    """
    words = _words(encoded[0].words, schema) if options.mode == "hybrid" else None
    stages = []
    for query in encoded:
        stage = _stage(query, words, options, schema, tenant, exhaustive=exhaustive, params=params)
        stages.append(stage if words is None else _fused_with_words(stage, words, options, weighted=weighted))
    if len(stages) == 1:
        rows = encoded[0].multivector
        n_terms = 1 if options.mode == "dense" or rows is None else len(rows)
        request = models.QueryRequest(**stages[0], with_payload=True, shard_key=shard_key)
        return Plan(request, n_terms if words is None else None)
    fused = _fused(stages, RRF_K, options, weighted=weighted)
    return Plan(models.QueryRequest(**fused, with_payload=True, shard_key=shard_key), None)


def n_bytes(plan: Plan) -> int:
    """Estimate the size of a request as JSON."""
    return limits.REST_BYTES_PER_FLOAT * _n_floats(plan.request)


def _n_floats(stage: models.QueryRequest | models.Prefetch) -> int:
    vector = getattr(stage.query, "nearest", stage.query)
    inner = stage.prefetch if isinstance(stage.prefetch, list) else []
    return (limits.n_floats(vector) if isinstance(vector, list) else 0) + sum(map(_n_floats, inner))


def _words(text: str | None, schema: Schema) -> models.SparseVector | None:
    """Return the BM25 vector of a query; None, with a warning, if the query is no text or has no words."""
    vector = bm25.query(text, schema.bm25) if text and schema.bm25 else None
    if vector is None:
        warn(f"{'a query' if text is None else f'the query {text!r}'} has no words: 'hybrid' is 'two-stage' for it.")
    return vector


def _stage(
    query: EncodedQuery,
    words: models.SparseVector | None,
    options: Options,
    schema: Schema,
    tenant: str | None,
    *,
    exhaustive: bool,
    params: bool,
) -> dict[str, Any]:
    """Rank by vectors: the arguments that a `Prefetch` and a `QueryRequest` have in common."""
    for name, vector in ((DENSE, query.dense), (LATE, query.multivector)):
        if vector is not None and (flaw := limits.flaw(vector)):
            raise ValueError(f"the query's {name} vector {flaw}.")
    must: list[models.Condition] = [value_is(f"{OWN}.task", query.task)]
    must += [] if tenant is None else [value_is(TENANT, tenant)]
    must += [] if options.ids is None else [has_id(options.ids, tenant)]
    within = models.Filter(must=must if options.filter is None else [*must, options.filter])
    last = {"filter": within, "limit": options.n_results, "score_threshold": options.score_threshold}
    if options.mode == "dense":
        return {"query": query.dense.tolist(), "using": DENSE, **last}
    assert query.multivector is not None, "`check_queries` refuses queries without"
    rows = query.multivector.tolist()
    stage = {"query": rows, "using": LATE, **last}
    if params:
        stage["params"] = models.SearchParams(quantization=_quantization(options.oversampling))
    if options.mode == "late" or exhaustive:
        return stage
    first: dict[str, Any] = {"filter": within, "limit": options.n_candidates}
    prefetch = [models.Prefetch(query=query.dense.tolist(), using=DENSE, **first)]
    if schema.pooled:
        prefetch.append(models.Prefetch(query=rows, using=POOLED, **first))
    if words:
        prefetch.append(models.Prefetch(query=words, using=BM25, **first))
    return stage | {"prefetch": prefetch}


def _fused_with_words(
    ranked: dict[str, Any], words: models.SparseVector, options: Options, *, weighted: bool
) -> dict[str, Any]:
    """Fuse a ranking by MaxSim with the ranking by BM25."""
    ranked = ranked | {"limit": options.n_candidates}
    by_words = {"query": words, "using": BM25, "filter": ranked["filter"], "limit": options.n_candidates}
    if options.score_threshold is not None:  # words find nothing that scores less
        by_words["prefetch"] = [models.Prefetch(**ranked)]
    return _fused([ranked, by_words], HYBRID_K, options, weighted=weighted)


def _fused(stages: Sequence[dict[str, Any]], k: int, options: Options, *, weighted: bool) -> dict[str, Any]:
    """Merge rankings by rank. Each has more items than are returned, so that groups find their members."""
    rrf = models.Rrf(k=k, weights=weights(len(stages))) if weighted else models.Rrf(k=k)
    return {
        "prefetch": [models.Prefetch(**stage | {"limit": options.n_candidates}) for stage in stages],
        "query": models.RrfQuery(rrf=rrf),
        "limit": options.n_results,
    }


def _quantization(oversampling: float | None) -> models.QuantizationSearchParams:
    # By default the engine would score the quantized copies and not rescore, as a quantized `late` re-ranks.
    if oversampling is None:
        return models.QuantizationSearchParams(ignore=True)
    return models.QuantizationSearchParams(rescore=True, oversampling=oversampling)
