"""Convert conditions on metadata, plain dicts as other LangChain stores take them, to Qdrant filters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from qdrant_client import models

from qdrant_polyvec import field_keys
from qdrant_polyvec.metadata import EXACT, comparable, date_range
from qdrant_polyvec.pictures import FACT_KEYS

FilterLike = models.Filter | Mapping[str, Any]

_RANGES = {"$gt": "gt", "$gte": "gte", "$lt": "lt", "$lte": "lte"}
_OPERATORS = ("$eq", "$ne", "$in", "$nin", *_RANGES)
_LISTS = (list, tuple, set, frozenset)
_LOGIC = ("$and", "$or", "$not")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a field may stand in the payload."""

    key: str
    names: Sequence[str] = ()  # keys of the user's own field of that name, which goes first
    offset: int = 0  # of numbers: documents count pages from 0

    def where(self, **how: Any) -> models.Condition:  # Any: arguments of a condition
        condition = models.FieldCondition(key=self.key, **how)
        return models.Filter(must=[*map(_is_empty, self.names), condition]) if self.names else condition

    def stored(self, value: Any) -> Any:
        return value + self.offset if isinstance(value, int | float) and not isinstance(value, bool) else value


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
    places = _places(key, prefix)
    if isinstance(value, Mapping):
        if not value:
            raise ValueError(f"the condition on {key!r} is empty; it is a value, a list, or operators such as '$gte'.")
        return [_operation(places, operator, operand) for operator, operand in value.items()]
    return [_any_of(places, value) if isinstance(value, _LISTS) else _equal(places, value)]


def _places(name: str, prefix: str) -> list[_Place]:
    """List where a field stands: in the metadata, or, if they have none of that name, among the facts of an item."""
    keys = field_keys(name, under=prefix)
    fact = FACT_KEYS.get(name)
    facts = [] if fact is None else [_Place(fact, keys, 1 if name == "page" else 0)]
    return [*map(_Place, keys), *facts]


def _operation(places: list[_Place], operator: str, value: Any) -> models.Condition:
    if operator in _RANGES:
        bound, limit = _RANGES[operator], _limit(operator, value)
        return _any([place.where(range=_range(bound, place.stored(limit))) for place in places])
    match operator:
        case "$eq":
            return _equal(places, value)
        case "$ne":
            return models.Filter(must_not=[_equal(places, value)])
        case "$in":
            return _any_of(places, value)
        case "$nin":
            return models.Filter(must_not=[_any_of(places, value)])
    raise ValueError(f"{operator!r} is not one of {', '.join(_OPERATORS)}; write a dot for nested metadata.")


def _equal(places: list[_Place], value: Any) -> models.Condition:
    value = comparable(_operand(value), name=f"the value for {places[0].key!r}")
    if value is None:
        empty = [_is_empty(place.key) for place in places]
        return empty[0] if len(empty) == 1 else models.Filter(must=empty)
    return _any([place.where(**_comparison(place.stored(value))) for place in places])


def _is_empty(key: str) -> models.Condition:
    return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))


def _comparison(value: Any) -> dict[str, Any]:
    """Return the arguments of a condition that a field equals the value."""
    if isinstance(value, date):  # datetimes are dates, too
        return {"range": models.DatetimeRange(gte=value, lte=value)}
    if not isinstance(value, str | int | float):
        raise TypeError(f"metadata is compared with strings, numbers, booleans, dates and None, not with {value!r}.")
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= EXACT:
        return {"range": models.Range(gte=value, lte=value)}  # 3 is 3.0
    if isinstance(value, float) or (isinstance(value, int) and value >= 2**63):
        raise ValueError(f"{value!r} is beyond the numbers that can be compared.")
    return {"match": models.MatchValue(value=value)}


def _any_of(places: list[_Place], values: Any) -> models.Condition:
    if not isinstance(values, _LISTS):
        raise TypeError(f"'$in' and '$nin' take a list, not {values!r}.")
    return models.Filter(should=[_equal(places, value) for value in values]) if values else _nothing()


def _any(conditions: Sequence[models.Condition]) -> models.Condition:
    return conditions[0] if len(conditions) == 1 else models.Filter(should=list(conditions))


def _nothing() -> models.Filter:
    """Match no point: an empty list has no value to match."""
    return models.Filter(must=[models.HasIdCondition(has_id=[])])


def _limit(operator: str, value: Any) -> Any:
    """Return the date or number that a field is compared with."""
    limit = comparable(_operand(value), name=f"the value of {operator!r}")
    is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
    if not is_number and date_range("gt", limit) is None:
        raise TypeError(f"{operator!r} compares numbers and dates, such as '2026-01-31', not {value!r}.")
    return limit


def _range(bound: str, limit: Any) -> models.Range | models.DatetimeRange:
    return date_range(bound, limit) or models.Range(**{bound: limit})


def _operand(value: Any) -> Any:
    """Return a value, or the date that LangChain's structured queries write as `{"type": "date", "date": …}`."""
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind not in ("date", "datetime") or not isinstance(text := value.get(kind), str):
        return value
    return datetime.fromisoformat(text)
