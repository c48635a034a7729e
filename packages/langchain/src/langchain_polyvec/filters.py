"""Conditions on metadata as plain dicts, in the way of other LangChain stores, and as Qdrant filters."""

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import numpy as np
from qdrant_client import models

FilterLike = models.Filter | Mapping[str, Any]

_RANGES = {"$gt": "gt", "$gte": "gte", "$lt": "lt", "$lte": "lte"}
_OPERATORS = ("$eq", "$ne", "$in", "$nin", *_RANGES)
_EXACT = 2**53  # integers up to here are exact as floats
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
    if not isinstance(key, str):
        raise TypeError(f"{key!r} names no metadata; names are strings.")
    if key in ("$and", "$or"):
        if not isinstance(wanted, list | tuple) or not all(isinstance(one, Mapping) for one in wanted):
            raise TypeError(f"{key!r} combines a list of mappings, not {wanted!r}.")
        parts: list[models.Condition] = [models.Filter(must=_conditions(one, prefix)) for one in wanted]
        if key == "$or":
            return [models.Filter(should=parts) if parts else _nothing()]
        return [models.Filter(must=parts)]
    if key == "$not":
        if not isinstance(wanted, Mapping):
            raise TypeError(f"'$not' takes a mapping, not {wanted!r}.")
        return [models.Filter(must_not=[models.Filter(must=_conditions(wanted, prefix))])]
    if key.startswith("$"):
        raise ValueError(f"{key!r} is not one of {', '.join((*_LOGIC, *_OPERATORS))}; the latter belong to a field.")
    path = _path(key, prefix)
    if isinstance(wanted, Mapping):
        if not wanted:
            raise ValueError(f"the condition on {key!r} is empty; it is a value, a list, or operators such as '$gte'.")
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
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, str | int | float):
        raise TypeError(f"metadata is compared with strings, numbers, booleans and None, not with {value!r}.")
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _EXACT:
        return models.FieldCondition(key=path, range=models.Range(gte=value, lte=value))  # 3 is 3.0
    if isinstance(value, float) or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        raise ValueError(f"{value!r} is beyond the numbers that can be compared.")
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
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"'${bound}' compares numbers, dates and datetimes, not {value!r}.")
    return models.Range(**{bound: value})


def _path(key: str, prefix: str) -> str:
    if '"' in key:
        raise ValueError(f"{key!r} cannot be asked for: a name with quotation marks is not reached by filters.")
    parts = [part if re.fullmatch(r"[\w-]+(\[\d*\])*", part, re.ASCII) else f'"{part}"' for part in key.split(".")]
    return ".".join([prefix, *parts])
