"""Metadata, payloads and the values of filters as JSON values, in the forms in which stock stores keep them."""

import datetime
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from enum import Enum
from typing import Any

import numpy as np
import pydantic_core
from qdrant_client import models

from polyvec.inputs import check_text
from polyvec.paths import printable
from qdrant_polyvec import limits
from qdrant_polyvec.fields import check_names

__all__ = ["EXACT", "check_filter", "comparable", "date_range", "json_mapping", "json_value"]

EXACT = 2**53  # whole numbers up to here are exact as floats
_CONTAINERS = (Mapping, Sequence, Set, np.ndarray)
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?", re.ASCII)


def json_mapping(values: Mapping[str, Any] | None, *, name: str = "metadata") -> dict[str, Any]:
    """Copy metadata as they come back from storage. The `name` stands in messages.

    Raises:
        TypeError: it is no mapping.
        ValueError: a value cannot be kept exactly (the message says where it stands), or a name cannot be filtered by.
    """
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise TypeError(f"{name} is a mapping, not a {type(values).__name__}.")
    copy: dict[str, Any] = json_value(values, name=name)
    check_names(copy)
    return copy


def json_value(value: Any, *, name: str, depth: int = 1) -> Any:  # Any: whatever users keep, and JSON
    """Convert a value to JSON values: dates and times become ISO strings, UUIDs, decimal numbers and paths strings.

    Sets become sorted lists, numpy's numbers and arrays numbers and lists, dataclasses and pydantic models mappings.

    Args:
        value: any value.
        name: what the value is called in messages.
        depth: of the value within metadata, counted from 1.

    Raises:
        ValueError: the value has no JSON form, or is changed by it: NaN, whole numbers beyond 64 bits, and others.
    """
    match value:
        case Enum():
            return json_value(value.value, name=name, depth=depth)
        case np.datetime64() | np.timedelta64():
            return json_value(_exact_time(value, name), name=name, depth=depth)
        case np.generic() if not isinstance(number := value.item(), np.generic):
            return json_value(number, name=name, depth=depth)
        case None | bool():
            return value
        case str():
            try:
                check_text(value)
            except ValueError as error:
                raise ValueError(f"{name} is {_shown(value)}: {error}.") from error
            return str.__str__(value)
        case int():
            if not -(2**63) <= value < 2**64:
                raise ValueError(f"{name} is {_shown(value)}; whole numbers beyond 64 bits are kept as strings only.")
            return int(value)
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{name} is {value}, which is no JSON number: use None or a string.")
            return float(value)
    if isinstance(value, _CONTAINERS) and not isinstance(value, bytes | bytearray | memoryview):
        return _json_container(value, name, depth)
    return json_value(_plain(value, name), name=name, depth=depth)


def comparable(value: Any, *, name: str) -> Any:
    """Convert a value that metadata are compared with to a date or datetime, or else to its JSON form.

    Raises:
        ValueError: metadata have no such values.
    """
    if isinstance(value, np.datetime64):
        value = _exact_time(value, name)
    return value if isinstance(value, datetime.date) else json_value(value, name=name)


def date_range(bound: str, value: Any) -> models.DatetimeRange | None:
    """Make the range of dates with a bound: `gt`, `gte`, `lt` or `lte`. None if the value is no date.

    Strings in ISO 8601 are dates, too. A date without a time means midnight, a time without a zone UTC.

    Raises:
        ValueError: a string looks like a date, but there is none such.
    """
    is_text = isinstance(value, str) and _ISO_DATE.fullmatch(value)
    if not is_text and not isinstance(value, datetime.date):
        return None
    try:
        return models.DatetimeRange(**{bound: value})
    except ValueError as error:
        raise ValueError(f"{value!r} is no date and time in ISO 8601.") from error


def check_filter(condition: models.Filter) -> None:
    """Refuse a filter with strings that are no Unicode text: no engine takes them, and each words it its own way.

    Raises:
        ValueError: a key or value has a lone surrogate.
    """
    shown = json.dumps(condition.model_dump(exclude_none=True), ensure_ascii=False, default=str)
    if printable(shown) != shown:
        raise ValueError(f"a filter has a lone surrogate, which is no character: {printable(shown)[:200]}.")


def _json_container(
    values: Mapping[Any, Any] | Sequence[Any] | Set[Any] | np.ndarray, name: str, depth: int
) -> dict[str, Any] | list[Any]:
    if depth > limits.MAX_METADATA_DEPTH:
        top = name.partition("[")[0]
        raise ValueError(f"{top} is nested deeper than {limits.MAX_METADATA_DEPTH}; Qdrant could not read it again.")
    if isinstance(values, Mapping):
        copy: dict[str, Any] = {}
        for key, value in values.items():
            text = _key(key, name)
            if text in copy:
                raise ValueError(f"{name} has several keys that are {text!r} in JSON.")
            copy[text] = json_value(value, name=f"{name}[{key!r}]", depth=depth + 1)
        return copy
    if isinstance(values, np.ndarray):
        values = values.tolist() if values.ndim else values[()]
        return json_value(values, name=name, depth=depth)  # type: ignore[no-any-return]  # a list unless ndim is 0
    listed = [json_value(value, name=f"{name}[{index}]", depth=depth + 1) for index, value in enumerate(values)]
    return _sorted(listed) if isinstance(values, Set) else listed


def _key(key: object, name: str) -> str:
    """Return the key of a mapping in JSON, where keys are strings."""
    text = json_value(key, name=f"a key of {name}")
    if isinstance(text, dict | list):
        raise ValueError(f"{name} has the key {_shown(key)}; keys are strings.")  # noqa: TRY004 — a bad value
    return text if isinstance(text, str) else json.dumps(text)


def _plain(value: Any, name: str) -> Any:
    """Convert a value of another class as stock stores do; what is inside of it is not checked yet."""
    try:
        if isinstance(value, Iterator):
            raise TypeError("it can be read only once")  # noqa: TRY301 — as for values that pydantic does not know
        if getattr(value, "nanosecond", 0):  # of pandas' datetimes
            raise ValueError("times are kept to the microsecond")  # noqa: TRY301
        return pydantic_core.to_jsonable_python(value, fallback=_of_numpy)
    except (TypeError, ValueError) as error:
        kind = type(value).__name__
        raise ValueError(f"{name} is {_shown(value)}, a {kind} without a JSON form: {error}.") from error


def _of_numpy(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError("give a string, a number, a list or a mapping")


def _exact_time(value: np.datetime64 | np.timedelta64, name: str) -> Any:
    """Convert to Python's own date, time or duration, which ends at microseconds."""
    unit = np.datetime_data(value.dtype)[0]
    is_day = isinstance(value, np.datetime64) and unit in ("Y", "M", "W", "D")
    converted = value.astype(f"{value.dtype.kind}8[{'D' if is_day else 'us'}]")
    exact = converted.item()  # a whole number beyond the range of Python's dates and durations; None for NaT
    is_vague = isinstance(value, np.timedelta64) and unit in ("Y", "M", "generic")
    if is_vague or isinstance(exact, int | None) or converted.astype(value.dtype) != value:
        raise ValueError(
            f"{name} is {value!r}; times are kept to the microsecond, of years 1 to 9999, and missing ones as None."
        )
    return exact


def _sorted(values: list[Any]) -> list[Any]:
    """Sort the values of a set, so that it is the same list in each process."""
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=lambda value: json.dumps(value, sort_keys=True))


def _shown(value: object) -> str:
    try:
        shown = repr(value)
    except ValueError:  # an integer of thousands of digits
        shown = "too long to show"
    return shown if len(shown) <= 60 else f"{shown[:57]}…"
