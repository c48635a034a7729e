"""Conditions on metadata as plain dicts, in the way of other LangChain stores, and as Qdrant filters."""

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from qdrant_client import models

FilterLike = models.Filter | Mapping[str, Any]

_RANGES = {"$gt": "gt", "$gte": "gte", "$lt": "lt", "$lte": "lte"}
_OPERATORS = ("$eq", "$ne", "$in", "$nin", *_RANGES)
_LOGIC = ("$and", "$or", "$not")


def qdrant_filter(given: FilterLike | None, *, metadata_key: str = "metadata") -> models.Filter | None:
    """A filter for Qdrant.

    Args:
        given: a Qdrant filter, which is returned as it is, or a mapping of metadata fields to a value, a list of values
            of which one must match, or operators: `{"lang": "en", "page": {"$gte": 3}, "author": ["ann", "bob"]}`.
            All fields must match; `"$and"`, `"$or"` (lists of mappings) and `"$not"` (a mapping) combine. A dot
            leads into nested metadata. None as a value means that the field is missing or null.
        metadata_key: where the metadata is in the payload.

    Raises:
        TypeError: it is neither, or a value is of no kind that can be compared.
        ValueError: an unknown operator.
    """
    if given is None or isinstance(given, models.Filter):
        return given
    if not isinstance(given, Mapping):
        raise TypeError(f"`filter` is a {type(given).__name__}; it is a mapping or a qdrant_client.models.Filter.")
    return models.Filter(must=_conditions(given, metadata_key)) if given else None


def _conditions(given: Mapping[str, Any], prefix: str) -> list[models.Condition]:
    return [condition for key, wanted in given.items() for condition in _of_field(key, wanted, prefix)]


def _of_field(key: str, wanted: Any, prefix: str) -> list[models.Condition]:
    if key in ("$and", "$or"):
        if not isinstance(wanted, list | tuple) or not all(isinstance(one, Mapping) for one in wanted):
            raise TypeError(f"{key!r} combines a list of mappings, not {wanted!r}.")
        parts: list[models.Condition] = [models.Filter(must=_conditions(one, prefix)) for one in wanted]
        return [models.Filter(must=parts) if key == "$and" else models.Filter(should=parts)]
    if key == "$not":
        if not isinstance(wanted, Mapping):
            raise TypeError(f"'$not' takes a mapping, not {wanted!r}.")
        return [models.Filter(must_not=[models.Filter(must=_conditions(wanted, prefix))])]
    if key.startswith("$"):
        raise ValueError(f"{key!r} is not one of {', '.join((*_LOGIC, *_OPERATORS))}; the latter belong to a field.")
    path = _path(key, prefix)
    if isinstance(wanted, Mapping):
        return [_operation(path, operator, value) for operator, value in wanted.items()]
    return [_one_of(path, wanted) if isinstance(wanted, list | tuple | set) else _equal(path, wanted)]


def _operation(path: str, operator: str, value: Any) -> models.Condition:
    if operator in _RANGES:
        return models.FieldCondition(key=path, range=_range(_RANGES[operator], value))
    match operator:
        case "$eq":
            return _equal(path, value)
        case "$ne":
            return models.Filter(must_not=[_equal(path, value)])
        case "$in":
            return _one_of(path, value)
        case "$nin":
            return models.Filter(must_not=[_one_of(path, value)])
    raise ValueError(f"{operator!r} is not one of {', '.join(_OPERATORS)}; write a dot for nested metadata.")


def _equal(path: str, value: Any) -> models.Condition:
    if value is None:
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=path))
    if isinstance(value, float):
        return models.FieldCondition(key=path, range=models.Range(gte=value, lte=value))
    if not isinstance(value, str | int):
        raise TypeError(f"metadata is compared with strings, numbers, booleans and None, not with {value!r}.")
    return models.FieldCondition(key=path, match=models.MatchValue(value=value))


def _one_of(path: str, values: Any) -> models.Condition:
    if not isinstance(values, list | tuple | set):
        raise TypeError(f"'$in' and '$nin' take a list, not {values!r}.")
    return models.Filter(should=[_equal(path, value) for value in values]) if values else _nothing()


def _nothing() -> models.Filter:
    """What no point passes: one of no values is none."""
    return models.Filter(must=[models.HasIdCondition(has_id=[])])


def _range(bound: str, value: Any) -> models.Range | models.DatetimeRange:
    if isinstance(value, datetime | date):
        return models.DatetimeRange(**{bound: value})
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"'${bound}' compares numbers, dates and datetimes, not {value!r}.")
    return models.Range(**{bound: value})


def _path(key: str, prefix: str) -> str:
    parts = [part if re.fullmatch(r"[\w-]+(\[\d*\])*", part, re.ASCII) else f'"{part}"' for part in key.split(".")]
    return ".".join([prefix, *parts])
