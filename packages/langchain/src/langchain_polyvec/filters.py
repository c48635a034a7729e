"""Convert conditions on metadata, plain dicts as other LangChain stores take them, to Qdrant filters."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from qdrant_client import models

from qdrant_polyvec import field_keys
from qdrant_polyvec.metadata import comparable, date_range

FilterLike = models.Filter | Mapping[str, Any]

_RANGES = {"$gt": "gt", "$gte": "gte", "$lt": "lt", "$lte": "lte"}
_OPERATORS = ("$eq", "$ne", "$in", "$nin", *_RANGES)
_EXACT = 2**53  # integers up to here are exact as floats
_LISTS = (list, tuple, set, frozenset)
_LOGIC = ("$and", "$or", "$not")


def qdrant_filter(condition: FilterLike | None, *, metadata_key: str = "metadata") -> models.Filter | None:
    """Convert conditions on metadata to a Qdrant filter.

    Args:
        condition: a Qdrant filter, which is returned as it is, or a mapping of metadata fields to a value, a list of
            values of which one must match, or operators: `{"lang": "en", "page": {"$gte": 3}, "author": ["ann",
            "bob"]}`. All fields must match; `"$and"`, `"$or"` (lists of mappings) and `"$not"` (a mapping) combine
            conditions. `qdrant_polyvec.field_keys` reads the names: a dot is part of a name, or leads into nested
            metadata. The value None matches a missing or null field. Dates and datetimes are compared as moments, and
            so are strings in ISO 8601 after `"$gt"` and the like; other values are compared in the form in which they
            are stored, as `qdrant_polyvec.metadata.json_value` converts them.
        metadata_key: key of the metadata in the payload.

    Raises:
        TypeError: `condition` is neither, or a value cannot be compared.
        ValueError: an unknown operator.
    """
    if condition is None or isinstance(condition, models.Filter):
        return condition
    if not isinstance(condition, Mapping):
        raise TypeError(f"`filter` is a {type(condition).__name__}; it is a mapping or a qdrant_client.models.Filter.")
    return models.Filter(must=_conditions(condition, metadata_key)) if condition else None


def _conditions(fields: Mapping[str, Any], prefix: str) -> list[models.Condition]:
    return [condition for key, value in fields.items() for condition in _field_conditions(key, value, prefix)]


def _field_conditions(key: str, value: Any, prefix: str) -> list[models.Condition]:
    if key in ("$and", "$or"):
        if not isinstance(value, list | tuple) or not all(isinstance(part, Mapping) for part in value):
            raise TypeError(f"{key!r} combines a list of mappings, not {value!r}.")
        parts: list[models.Condition] = [models.Filter(must=_conditions(part, prefix)) for part in value]
        if key == "$or":
            return [models.Filter(should=parts) if parts else _nothing()]
        return [models.Filter(must=parts)]
    if key == "$not":
        if not isinstance(value, Mapping):
            raise TypeError(f"'$not' takes a mapping, not {value!r}.")
        return [models.Filter(must_not=[models.Filter(must=_conditions(value, prefix))])]
    if isinstance(key, str) and key.startswith("$"):
        raise ValueError(f"{key!r} is not one of {', '.join((*_LOGIC, *_OPERATORS))}; the latter belong to a field.")
    paths = field_keys(key, under=prefix)
    if isinstance(value, Mapping):
        if not value:
            raise ValueError(f"the condition on {key!r} is empty; it is a value, a list, or operators such as '$gte'.")
        return [_operation(paths, operator, operand) for operator, operand in value.items()]
    return [_any_of(paths, value) if isinstance(value, _LISTS) else _equal(paths, value)]


def _operation(paths: list[str], operator: str, value: Any) -> models.Condition:
    if operator in _RANGES:
        limits = _range(_RANGES[operator], value)
        return _any([models.FieldCondition(key=path, range=limits) for path in paths])
    match operator:
        case "$eq":
            return _equal(paths, value)
        case "$ne":
            return models.Filter(must_not=[_equal(paths, value)])
        case "$in":
            return _any_of(paths, value)
        case "$nin":
            return models.Filter(must_not=[_any_of(paths, value)])
    raise ValueError(f"{operator!r} is not one of {', '.join(_OPERATORS)}; write a dot for nested metadata.")


def _equal(paths: list[str], value: Any) -> models.Condition:
    value = comparable(_operand(value), name=f"the value for {paths[0]!r}")
    if value is None:
        empty: list[models.Condition] = [
            models.IsEmptyCondition(is_empty=models.PayloadField(key=path)) for path in paths
        ]
        return empty[0] if len(empty) == 1 else models.Filter(must=empty)
    how = _comparison(value)
    return _any([models.FieldCondition(key=path, **how) for path in paths])


def _comparison(value: Any) -> dict[str, Any]:
    """Return the arguments of a condition that a field equals the value."""
    if isinstance(value, date):  # datetimes are dates, too
        return {"range": models.DatetimeRange(gte=value, lte=value)}
    if not isinstance(value, str | int | float):
        raise TypeError(f"metadata is compared with strings, numbers, booleans, dates and None, not with {value!r}.")
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _EXACT:
        return {"range": models.Range(gte=value, lte=value)}  # 3 is 3.0
    if isinstance(value, float) or (isinstance(value, int) and value >= 2**63):
        raise ValueError(f"{value!r} is beyond the numbers that can be compared.")
    return {"match": models.MatchValue(value=value)}


def _any_of(paths: list[str], values: Any) -> models.Condition:
    if not isinstance(values, _LISTS):
        raise TypeError(f"'$in' and '$nin' take a list, not {values!r}.")
    return models.Filter(should=[_equal(paths, value) for value in values]) if values else _nothing()


def _any(conditions: Sequence[models.Condition]) -> models.Condition:
    return conditions[0] if len(conditions) == 1 else models.Filter(should=list(conditions))


def _nothing() -> models.Filter:
    """Match no point: an empty list has no value to match."""
    return models.Filter(must=[models.HasIdCondition(has_id=[])])


def _range(bound: str, value: Any) -> models.Range | models.DatetimeRange:
    limit = comparable(_operand(value), name=f"the value of '${bound}'")
    if dates := date_range(bound, limit):
        return dates
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        raise TypeError(f"'${bound}' compares numbers and dates, such as '2026-01-31', not {value!r}.")
    return models.Range(**{bound: limit})


def _operand(value: Any) -> Any:
    """Return a value, or the date that LangChain's structured queries write as `{"type": "date", "date": …}`."""
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind not in ("date", "datetime") or not isinstance(text := value.get(kind), str):
        return value
    return datetime.fromisoformat(text)
