"""Points, filters and queries: from qdrant-client's models to the embedded engine's own, and back.

Whatever has no counterpart raises `NotImplementedError`; nothing is dropped silently. Classes that some supported
release of qdrant-client lacks are told by their name.
"""

import datetime
import uuid
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
import pydantic_core
import qdrant_edge as edge
from qdrant_client import models

from qdrant_polyvec import limits

DEFAULT_LIMIT = 10  # of a query and of a prefetch, as in the server
DEFAULT_RRF_K = 2  # as in the server

Model = Any  # one of qdrant-client's pydantic models; they share no useful base class
Native = Any  # an object of the engine, which is not annotated
VectorParams = Mapping[str, models.VectorParams]  # by vector name; "" is the unnamed vector


def unsupported(what: str) -> NotImplementedError:
    """The error for what a server can do and an index in a folder cannot."""
    return NotImplementedError(f"{what} needs a Qdrant server: open the collection by its URL instead of a folder.")


def only(model: Model, *known: str) -> None:
    """Raise if a field other than the `known` ones is set, so that no option is ignored."""
    for field, value in model:
        if value is not None and field not in known:
            raise unsupported(f"`{type(model).__name__}({field}=…)`")


def member(enum: Native, value: Enum | None) -> Native:
    """The engine's member for a client's enum value: the spellings agree but for case and underscores."""
    if value is None:
        return None
    wanted = str(value.value).replace("_", "").lower()
    for name in dir(enum):
        if name.replace("_", "").lower() == wanted:
            return getattr(enum, name)
    raise unsupported(f"`{type(value).__name__}.{value.name}`")


def point_id(value: object) -> int | uuid.UUID:
    """A point id as the engine takes it.

    Raises:
        ValueError: it is neither an unsigned 64-bit integer nor a UUID.
    """
    if isinstance(value, uuid.UUID):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return value
    if isinstance(value, str):
        try:
            return uuid.UUID(value)
        except ValueError:
            pass  # told below, as for every other wrong value
    raise ValueError(f"{value!r} is not a point id: use an unsigned 64-bit integer or a UUID.")


def point(struct: models.PointStruct, params: VectorParams) -> Native:
    """A point, checked.

    Raises:
        ValueError: a bad id, or a vector that does not fit; the message names the point.
    """
    given = struct.vector if isinstance(struct.vector, dict) else {"": struct.vector}
    identity = point_id(struct.id)
    try:
        vectors = {name: vector(value, name, params) for name, value in given.items()}
    except ValueError as error:
        raise ValueError(f"Point {struct.id}: {error}") from error
    return edge.Point(id=identity, vector=vectors, payload=payload(struct.payload))


def payload(value: Mapping[str, Any] | None) -> dict[str, Any]:
    """A payload as JSON values; dates become ISO strings and UUIDs strings, as on the way to a server."""
    return dict(pydantic_core.to_jsonable_python(value or {}))


def vector(value: Any, name: str | None, params: VectorParams) -> Any:
    """A vector or multi-vector as given, once it is known to fit the collection.

    Raises:
        ValueError: unknown name, wrong shape, too many rows, NaN or infinity.
    """
    name = name or ""
    if name not in params:
        raise ValueError(f"there is no vector {name!r}; the collection has {', '.join(map(repr, params))}.")
    if not isinstance(value, list | np.ndarray):
        raise unsupported(f"a vector or query given as {type(value).__name__}")
    try:
        array = np.asarray(value, dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"vector {name!r} is not made of numbers in rows of one length.") from error
    size, multi = params[name].size, params[name].multivector_config is not None
    if multi and (array.ndim != 2 or array.shape[1] != size or len(array) == 0):
        raise ValueError(f"multi-vector {name!r} has shape {array.shape}; it takes one or more rows of {size}.")
    if not multi and array.shape != (size,):
        raise ValueError(f"vector {name!r} has shape {array.shape}; it takes {size} numbers.")
    if flaw := limits.flaw(array):
        raise ValueError(f"vector {name!r} {flaw}.")
    return value


def query_filter(model: models.Filter | None) -> Native:
    """A filter; None stays None."""
    if model is None:
        return None
    only(model, "must", "should", "must_not", "min_should")
    return edge.Filter(
        must=_conditions(model.must),
        should=_conditions(model.should),
        must_not=_conditions(model.must_not),
        min_should=_min_should(model.min_should),
    )


def _conditions(given: Model) -> Native:
    if given is None:
        return None
    return [_condition(condition) for condition in (given if isinstance(given, list) else [given])]


def _min_should(model: models.MinShould | None) -> Native:
    if model is None:
        return None
    return edge.MinShould(conditions=_conditions(model.conditions), min_count=model.min_count)


def _condition(model: Model) -> Native:
    match model:
        case models.Filter():
            return query_filter(model)
        case models.FieldCondition():
            only(model, "key", "match", "range", "values_count", "is_empty", "is_null")
            return edge.FieldCondition(
                key=model.key,
                match=_match(model.match),
                range=_range(model.range),
                values_count=_values_count(model.values_count),
                is_empty=model.is_empty,
                is_null=model.is_null,
            )
        case models.HasIdCondition():
            return edge.HasIdCondition(point_ids={point_id(value) for value in model.has_id})
        case models.HasVectorCondition():
            return edge.HasVectorCondition(vector=model.has_vector)
        case models.IsEmptyCondition():
            return edge.IsEmptyCondition(key=model.is_empty.key)
        case models.IsNullCondition():
            return edge.IsNullCondition(key=model.is_null.key)
        case models.NestedCondition():
            return edge.NestedCondition(key=model.nested.key, filter=query_filter(model.nested.filter))
    raise unsupported(f"a filter with {type(model).__name__}")


_MATCHES: dict[str, Callable[[Model], Native]] = {
    "MatchValue": lambda match: edge.MatchValue(match.value),
    "MatchText": lambda match: edge.MatchText(match.text),
    "MatchTextAny": lambda match: edge.MatchTextAny(match.text_any),
    "MatchPhrase": lambda match: edge.MatchPhrase(match.phrase),
    "MatchAny": lambda match: edge.MatchAny(match.any),
    "MatchExcept": lambda match: edge.MatchExcept(match.except_),
}


def _match(model: Model) -> Native:
    if model is None:
        return None
    if type(model).__name__ not in _MATCHES:
        raise unsupported(f"a filter with {type(model).__name__}")
    return _MATCHES[type(model).__name__](model)


def _range(model: Model) -> Native:
    match model:
        case None:
            return None
        case models.Range():
            return edge.RangeFloat(**dict(model))
        case models.DatetimeRange():
            return edge.RangeDateTime(**{name: _iso(value) for name, value in model})
    raise unsupported(f"a filter with {type(model).__name__}")


def _values_count(model: models.ValuesCount | None) -> Native:
    return None if model is None else edge.ValuesCount(**dict(model))


def _iso(value: datetime.datetime | datetime.date | None) -> str | None:
    return None if value is None else value.isoformat()


def selection(points: Any) -> list[int | uuid.UUID] | Native:
    """The ids, or the filter, that an update is for."""
    match points:
        case models.Filter():
            return query_filter(points)
        case models.FilterSelector():
            only(points, "filter")
            return query_filter(points.filter)
        case models.PointIdsList():
            only(points, "points")
            return [point_id(value) for value in points.points]
        case list() | tuple() | set():
            return [point_id(value) for value in points]
    raise TypeError(
        f"points to change are given as a list of ids, a Filter or a selector, not {type(points).__name__}."
    )


def request(model: models.QueryRequest, params: VectorParams) -> Native:
    """A whole query with its prefetches.

    Raises:
        ValueError: a limit below 1, prefetches without a query, or a query vector that does not fit.
    """
    only(model, *_STAGE, "offset", "with_payload", "with_vector")
    return edge.QueryRequest(
        **_stage(model, params),
        offset=model.offset,
        with_payload=payload_selector(model.with_payload),
        with_vector=model.with_vector or False,
    )


_STAGE = ("prefetch", "query", "using", "filter", "params", "score_threshold", "limit")


def _stage(model: models.QueryRequest | models.Prefetch, params: VectorParams) -> dict[str, Native]:
    limit = DEFAULT_LIMIT if model.limit is None else model.limit
    if limit < 1:
        raise ValueError(f"`limit` is {limit}; it must be at least 1.")
    prefetches = model.prefetch if isinstance(model.prefetch, list) else [model.prefetch] if model.prefetch else []
    if prefetches and model.query is None:
        raise ValueError("a query with prefetches needs `query`, which merges or re-ranks what they find.")
    for prefetch in prefetches:
        only(prefetch, *_STAGE)
    return {
        "limit": limit,
        "query": _query(model.query, model.using, params),
        "prefetches": [edge.Prefetch(**_stage(prefetch, params)) for prefetch in prefetches],
        "filter": query_filter(model.filter),
        "params": search_params(model.params),
        "score_threshold": model.score_threshold,
    }


def _query(model: Model, using: str | None, params: VectorParams) -> Native:
    match model:
        case None:
            return None
        case models.NearestQuery():
            only(model, "nearest")
            return _query(model.nearest, using, params)
        case list() | np.ndarray():
            return edge.Query.Nearest(vector(model, using, params), using=using)
        case models.RrfQuery():
            only(model.rrf, "k", "weights")
            k = DEFAULT_RRF_K if model.rrf.k is None else model.rrf.k
            return edge.Fusion.Rrf(k=k, weights=getattr(model.rrf, "weights", None))
        case models.FusionQuery(fusion=models.Fusion.RRF):
            return edge.Fusion.Rrf(k=DEFAULT_RRF_K)
        case models.FusionQuery(fusion=models.Fusion.DBSF):
            return edge.Fusion.Dbsf()
        case models.OrderByQuery():
            return order_by(model.order_by)
    raise unsupported(f"a query by {type(model).__name__}")


def order_by(model: str | models.OrderBy | None) -> Native:
    """An order by payload field; None stays None."""
    if model is None or isinstance(model, str):
        return model and edge.OrderBy(key=model)
    only(model, "key", "direction", "start_from")
    start = model.start_from
    return edge.OrderBy(
        key=model.key,
        direction=member(edge.Direction, model.direction),
        start_from=_iso(start) if isinstance(start, datetime.date) else start,
    )


def search_params(model: models.SearchParams | None) -> Native:
    """How a stage searches; None stays None."""
    if model is None:
        return None
    only(model, "hnsw_ef", "exact", "quantization", "indexed_only")
    return edge.SearchParams(
        hnsw_ef=model.hnsw_ef,
        exact=bool(model.exact),
        indexed_only=bool(model.indexed_only),
        quantization=_quantization(model.quantization),
    )


def _quantization(model: models.QuantizationSearchParams | None) -> Native:
    if model is None:
        return None
    only(model, "ignore", "rescore", "oversampling")
    return edge.QuantizationSearchParams(
        ignore=bool(model.ignore), rescore=model.rescore, oversampling=model.oversampling
    )


def payload_selector(selector: Model) -> Native:
    """Which payload keys to return; None is none of them, as in the server."""
    match selector:
        case None:
            return False
        case bool() | list():
            return selector
        case models.PayloadSelectorInclude():
            return edge.PayloadSelector.Include(selector.include)
        case models.PayloadSelectorExclude():
            return edge.PayloadSelector.Exclude(selector.exclude)
    raise unsupported(f"choosing payload by {type(selector).__name__}")


def client_id(value: int | uuid.UUID) -> int | str:
    """A point id as qdrant-client returns it."""
    return str(value) if isinstance(value, uuid.UUID) else value


def scored_points(found: Sequence[Native], with_payload: Model) -> list[models.ScoredPoint]:
    """What a query found, as qdrant-client returns it."""
    return [models.ScoredPoint(version=hit.version, score=hit.score, **_record(hit, with_payload)) for hit in found]


def records(found: Sequence[Native], with_payload: Model) -> list[models.Record]:
    """What was retrieved or scrolled, as qdrant-client returns it."""
    return [models.Record(**_record(hit, with_payload)) for hit in found]


def _record(found: Native, with_payload: Model) -> dict[str, Any]:
    return {
        "id": client_id(found.id),
        "payload": found.payload if with_payload else None,
        "vector": found.vector,
        "order_value": found.order_value,
    }
