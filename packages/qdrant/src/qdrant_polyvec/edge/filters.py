"""Filters: from qdrant-client's models to the embedded engine's own."""

import uuid
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import qdrant_edge as edge
from qdrant_client import models

from qdrant_polyvec.edge.translate import Model, Native, iso, only, point_id, unsupported


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


def without(points: Collection[models.ExtendedPointId], allowed: models.Filter | None) -> models.Filter | None:
    """A filter that also keeps these points out.

    Beside its other clauses, as in the server: the filters of nested stages are merged clause by clause.
    """
    if not points:
        return allowed
    allowed = allowed or models.Filter()
    given = allowed.must_not or []
    others = given if isinstance(given, list) else [given]
    return allowed.model_copy(update={"must_not": [*others, models.HasIdCondition(has_id=list(points))]})


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


def condition(model: Model) -> Native:
    """One condition of a filter."""
    name = type(model).__name__
    if name not in _CONDITIONS:
        raise unsupported(f"a filter with {name}")
    return _CONDITIONS[name](model)


def geo_point(model: models.GeoPoint) -> Native:
    return edge.GeoPoint(lon=model.lon, lat=model.lat)


def _conditions(given: Model) -> Native:
    if given is None:
        return None
    return [condition(one) for one in (given if isinstance(given, list) else [given])]


def _min_should(model: models.MinShould | None) -> Native:
    if model is None:
        return None
    return edge.MinShould(conditions=_conditions(model.conditions), min_count=model.min_count)


def _field(model: models.FieldCondition) -> Native:
    kinds = {name: convert(getattr(model, name, None)) for name, convert in _FIELD_KINDS.items()}
    only(model, "key", "is_empty", "is_null", *kinds)
    return edge.FieldCondition(key=model.key, is_empty=model.is_empty, is_null=model.is_null, **kinds)


def _match(model: Model) -> Native:
    if model is None:
        return None
    if type(model).__name__ not in _MATCHES:
        raise unsupported(f"a filter with {type(model).__name__}")
    return _MATCHES[type(model).__name__](model)


def _value(value: Native) -> Native:
    """The value to match. The engine's binding takes a bool of Python for an integer; one of numpy it knows."""
    return np.bool_(value) if isinstance(value, bool) else value


def _range(model: Model) -> Native:
    match model:
        case None:
            return None
        case models.Range():
            return edge.RangeFloat(**dict(model))
        case models.DatetimeRange():
            return edge.RangeDateTime(**{name: iso(value) for name, value in model})
    raise unsupported(f"a filter with {type(model).__name__}")


def _values_count(model: models.ValuesCount | None) -> Native:
    return None if model is None else edge.ValuesCount(**dict(model))


def _bounding_box(model: models.GeoBoundingBox | None) -> Native:
    if model is None:
        return None
    return edge.GeoBoundingBox(top_left=geo_point(model.top_left), bottom_right=geo_point(model.bottom_right))


def _radius(model: models.GeoRadius | None) -> Native:
    return None if model is None else edge.GeoRadius(center=geo_point(model.center), radius=model.radius)


def _polygon(model: models.GeoPolygon | None) -> Native:
    if model is None:
        return None
    return edge.GeoPolygon(exterior=_ring(model.exterior), interiors=[_ring(hole) for hole in model.interiors or []])


def _ring(model: models.GeoLineString) -> list[Native]:
    return [geo_point(corner) for corner in model.points]


# Classes by name, because older releases of qdrant-client lack some of them.
_CONDITIONS: dict[str, Callable[[Model], Native]] = {
    "Filter": query_filter,
    "FieldCondition": _field,
    "HasIdCondition": lambda model: edge.HasIdCondition(point_ids={point_id(value) for value in model.has_id}),
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
    "MatchValue": lambda match: edge.MatchValue(_value(match.value)),
    "MatchText": lambda match: edge.MatchText(match.text),
    "MatchTextAny": lambda match: edge.MatchTextAny(match.text_any),
    "MatchPhrase": lambda match: edge.MatchPhrase(match.phrase),
    "MatchPrefix": lambda match: edge.MatchPrefix(match.prefix),
    "MatchSubstring": lambda match: edge.MatchSubstring(match.substring),
    "MatchAny": lambda match: edge.MatchAny(match.any),
    "MatchExcept": lambda match: edge.MatchExcept(match.except_),
}
_FIELD_KINDS: dict[str, Callable[[Model], Native]] = {
    "match": _match,
    "range": _range,
    "geo_bounding_box": _bounding_box,
    "geo_radius": _radius,
    "geo_polygon": _polygon,
    "values_count": _values_count,
}
