"""Filters: from qdrant-client's models to the embedded engine's own."""

from collections.abc import Callable, Sequence

import numpy as np
import qdrant_edge as edge
from qdrant_client import models

from qdrant_polyvec.edge.translate import (
    Model,
    Native,
    allow_only,
    client_model,
    iso,
    native_id,
    numbers_in_range,
    unsupported,
)


@numbers_in_range
def query_filter(model: Model) -> Native:
    """Convert a filter or its JSON form; None stays None. A ValueError if a server would refuse it."""
    if model is None:
        return None
    model = client_model(model, models.Filter)
    allow_only(model, "must", "should", "must_not", "min_should")
    return edge.Filter(
        must=_clause(model.must),
        should=_clause(model.should),
        must_not=_clause(model.must_not),
        min_should=_min_should(model.min_should),
    )


def narrowed(
    allowed: models.Filter | None,
    *,
    must: Sequence[models.Condition] = (),
    must_not: Sequence[models.Condition] = (),
) -> models.Filter | None:
    """Add conditions to a filter.

    As in the server, they stand beside the others: filters of nested stages are merged clause by clause.
    """
    added = {"must": must, "must_not": must_not}
    clauses = {name: [*_listed(getattr(allowed, name, None)), *extra] for name, extra in added.items() if extra}
    return (allowed or models.Filter()).model_copy(update=clauses) if clauses else allowed


def _listed(clause: Model) -> list[Model]:
    return clause if isinstance(clause, list) else [] if clause is None else [clause]


def condition(model: Model) -> Native:
    """Convert one condition of a filter."""
    name = type(model).__name__
    if name not in _CONDITIONS:
        raise unsupported(f"a filter with {name}")
    return _CONDITIONS[name](model)


def geo_point(model: models.GeoPoint) -> Native:
    return edge.GeoPoint(lon=model.lon, lat=model.lat)


def _clause(model: Model) -> Native:
    if model is None:
        return None
    return [condition(part) for part in _listed(model)]


def _min_should(model: models.MinShould | None) -> Native:
    if model is None:
        return None
    if model.min_count < 1:  # it would let everything pass
        raise ValueError(f"`min_count` is {model.min_count}; it must be at least 1.")
    return edge.MinShould(conditions=_clause(model.conditions), min_count=model.min_count)


def _field_condition(model: models.FieldCondition) -> Native:
    allow_only(model, "key", "is_empty", "is_null", *_FIELD_KINDS)
    values = {name: getattr(model, name, None) for name in _FIELD_KINDS}
    if all(value is None for value in (model.is_empty, model.is_null, *values.values())):
        raise ValueError(f"the condition on {model.key!r} says nothing; give it one of {', '.join(_FIELD_KINDS)}.")
    kinds = {name: _FIELD_KINDS[name](value) for name, value in values.items() if value is not None}
    return edge.FieldCondition(key=model.key, is_empty=model.is_empty, is_null=model.is_null, **kinds)


def _match(model: Model) -> Native:
    if type(model).__name__ not in _MATCHES:
        raise unsupported(f"a filter with {type(model).__name__}")
    return _MATCHES[type(model).__name__](model)


def _match_value(value: Native) -> Native:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{value} cannot be matched: integers have 64 bits.")
    # The engine's binding takes Python's bool for an integer, but knows numpy's.
    return np.bool_(value) if isinstance(value, bool) else value


def _range(model: Model) -> Native:
    if isinstance(model, models.Range):
        return edge.RangeFloat(**dict(model))
    if isinstance(model, models.DatetimeRange):
        return edge.RangeDateTime(**{name: iso(value) for name, value in model})
    raise unsupported(f"a filter with {type(model).__name__}")


def _bounding_box(model: models.GeoBoundingBox) -> Native:
    return edge.GeoBoundingBox(top_left=geo_point(model.top_left), bottom_right=geo_point(model.bottom_right))


def _polygon(model: models.GeoPolygon) -> Native:
    return edge.GeoPolygon(exterior=_ring(model.exterior), interiors=[_ring(hole) for hole in model.interiors or []])


def _ring(model: models.GeoLineString) -> list[Native]:
    return [geo_point(corner) for corner in model.points]


# Classes by name, because older releases of qdrant-client lack some of them.
_CONDITIONS: dict[str, Callable[[Model], Native]] = {
    "Filter": query_filter,
    "FieldCondition": _field_condition,
    "HasIdCondition": lambda model: edge.HasIdCondition(point_ids={native_id(value) for value in model.has_id}),
    "HasVectorCondition": lambda model: edge.HasVectorCondition(vector=model.has_vector),
    "IsEmptyCondition": lambda model: edge.IsEmptyCondition(key=model.is_empty.key),
    "IsNullCondition": lambda model: edge.IsNullCondition(key=model.is_null.key),
    "NestedCondition": lambda model: edge.NestedCondition(
        key=model.nested.key, filter=query_filter(model.nested.filter)
    ),
    "SliceCondition": lambda model: edge.SliceCondition(  # type: ignore[attr-defined]  # its stub lacks it
        total=model.slice.total, index=model.slice.index
    ),
}
_MATCHES: dict[str, Callable[[Model], Native]] = {
    "MatchValue": lambda match: edge.MatchValue(_match_value(match.value)),
    "MatchText": lambda match: edge.MatchText(match.text),
    "MatchTextAny": lambda match: edge.MatchTextAny(match.text_any),
    "MatchPhrase": lambda match: edge.MatchPhrase(match.phrase),
    "MatchPrefix": lambda match: edge.MatchPrefix(match.prefix),
    "MatchSubstring": lambda match: edge.MatchSubstring(match.substring),
    "MatchAny": lambda match: edge.MatchAny([_match_value(value) for value in match.any]),
    "MatchExcept": lambda match: edge.MatchExcept([_match_value(value) for value in match.except_]),
}
_FIELD_KINDS: dict[str, Callable[[Model], Native]] = {
    "match": _match,
    "range": _range,
    "geo_bounding_box": _bounding_box,
    "geo_radius": lambda model: edge.GeoRadius(center=geo_point(model.center), radius=model.radius),
    "geo_polygon": _polygon,
    "values_count": lambda model: edge.ValuesCount(**dict(model)),
}
