import dataclasses
import enum
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import numpy as np
import pydantic
import pytest
from qdrant_client import QdrantClient, models

from polyvec.testing import HashEncoder
from qdrant_polyvec import Collection
from qdrant_polyvec.metadata import comparable, date_range, json_mapping


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


@dataclasses.dataclass
class Place:
    name: str
    heights: object


class Stamp(datetime):
    """As pandas' `Timestamp`."""

    nanosecond = 1


class Page(pydantic.BaseModel):
    number: int
    day: date


@pytest.fixture
def folder(tmp_path):
    with Collection.open(tmp_path / "index", "docs", embedder=HashEncoder()) as collection:
        yield collection


TWO_HOURS_EAST = timezone(timedelta(hours=2))
STOCK = [  # values that stock stores keep, too
    (datetime(2026, 1, 2, 3, 4, 5, 678), "2026-01-02T03:04:05.000678"),
    (datetime(2026, 1, 2, 3, 4, 5, tzinfo=TWO_HOURS_EAST), "2026-01-02T03:04:05+02:00"),
    (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z"),
    (date(2026, 1, 2), "2026-01-02"),
    (time(1, 2, 3), "01:02:03"),
    (timedelta(days=1, seconds=5), "P1DT5S"),
    (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    (Decimal("1.10"), "1.10"),
    (Path("a/b"), "a/b"),
    (Colour.RED, "red"),
    (Size.BIG, 3),
    (b"abc", "abc"),
    ((1, (2, None)), [1, [2, None]]),
    (frozenset({1}), [1]),
    (Place("here", [1.5]), {"name": "here", "heights": [1.5]}),
    (Page(number=1, day=date(2026, 1, 2)), {"number": 1, "day": "2026-01-02"}),
    ({1: "a", None: 2, False: 3}, {"1": "a", "null": 2, "false": 3}),
    (2**64 - 1, 2**64 - 1),
    (-(2**63), -(2**63)),
]
OTHERS = [
    (np.float32(0.1), 0.10000000149011612),
    (np.int64(3), 3),
    (np.bool_(True), True),
    (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
    (np.array(3.0), 3.0),
    (np.datetime64("2026-01-02"), "2026-01-02"),
    (np.datetime64("2026-01-02T00:00:00.1", "ns"), "2026-01-02T00:00:00.100000"),
    (np.timedelta64(5, "s"), "PT5S"),
    (Place("here", np.float32([1.5])), {"name": "here", "heights": [1.5]}),
    # Sorted, since the order of strings in a set differs between processes.
    pytest.param({10, 9, 2}, [2, 9, 10], id="a set of numbers"),
    pytest.param({"b", "a", 1}, ["a", "b", 1], id="a set of mixed values"),
]


@pytest.mark.parametrize(("value", "stored"), [*STOCK, *OTHERS], ids=repr)
def test_values_become_json(value, stored):
    converted = json_mapping({"x": [value]})
    assert converted == {"x": [stored]}
    assert type(converted["x"][0]) is type(stored)


@pytest.mark.parametrize(("value", "stored"), [pair for pair in STOCK if not isinstance(pair[0], dict)], ids=repr)
def test_values_are_stored_as_the_stock_client_stores_them(value, stored):
    client = QdrantClient(":memory:")
    client.create_collection("stock", vectors_config={})
    client.upsert("stock", [models.PointStruct(id=1, vector={}, payload={"x": value})])
    assert client.retrieve("stock", [1])[0].payload == {"x": stored}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a": [{"b": float("nan")}]}, r"metadata\['a'\]\[0\]\['b'\] is nan, which is no JSON number"),
        ({"a": Place("x", float("inf"))}, r"metadata\['a'\]\['heights'\] is inf"),
        ({"a": np.array([1, np.nan])}, r"metadata\['a'\]\[1\] is nan"),
        ({"a": 2**64}, "is 18446744073709551616; whole numbers beyond 64 bits are kept as strings only"),
        ({"a": -(2**63) - 1}, "whole numbers beyond 64 bits"),
        ({"a": 10**5000}, "whole numbers beyond 64 bits"),
        ({"a": b"\xff"}, r"is b'\\xff', a bytes without a JSON form"),
        ({"a": object()}, r"metadata\['a'\] is <object .*>, a object without a JSON form: give a string"),
        ({"a": iter([1])}, "read only once"),
        ({"a": np.datetime64("2026-01-02T00:00:00.000000001", "ns")}, "times are kept to the microsecond"),
        ({"a": Stamp(2026, 1, 2)}, "a Stamp without a JSON form: times are kept to the microsecond"),
        ({"a": np.timedelta64(5, "ns")}, "times are kept to the microsecond"),
        ({"a": np.datetime64("NaT")}, "missing ones as None"),
        ({"a": np.datetime64("20000-01-01")}, r"metadata\['a'\] is .*of years 1 to 9999"),
        ({"a": np.timedelta64(2**62, "s")}, "times are kept"),  # microseconds overflow
        ({"a": np.timedelta64(3, "M")}, "times are kept"),  # a month has no length
        ({"a": "m\udce9moire"}, r"metadata\['a'\] is 'm\\udce9moire': the text has a lone surrogate at position 1"),
        ({"m\udce9": 1}, "a key of metadata is .* lone surrogate"),
        ({1: "a", "1": "b"}, "metadata has several keys that are '1' in JSON"),
        ({"a": {(1, 2): 3}}, r"metadata\['a'\] has the key \(1, 2\); keys are strings"),
    ],
)
def test_values_that_json_would_change_are_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        json_mapping(values)


def test_circles_are_refused():
    circle = []
    circle.append(circle)
    with pytest.raises(ValueError, match="payload is nested deeper than 64"):
        json_mapping({"x": circle}, name="payload")


def test_an_item_with_dates_is_stored_once(folder):
    metadata = {"day": date(2026, 1, 2), "tags": {"b", "a"}, "id": UUID(int=5)}
    assert folder.add(["red"], metadatas=[metadata]).ok
    assert len(folder.add(["red"], metadatas=[metadata]).skipped) == 1
    stored = next(folder.all()).metadata
    assert {**stored, "source": None} == {
        "day": "2026-01-02",
        "tags": ["a", "b"],
        "id": "00000000-0000-0000-0000-000000000005",
        "source": None,
    }


def test_a_path_is_a_source(folder):
    folder.add(["red", "blue"], metadatas=[{"source": Path("a/b.md")}] * 2)
    assert folder.sources() == {"a/b.md": 2}


def test_values_to_compare_with_stay_dates():
    assert comparable(date(2026, 1, 2), name="x") == date(2026, 1, 2)
    assert comparable(np.datetime64("2026-01-02T03:04", "ns"), name="x") == datetime(2026, 1, 2, 3, 4)
    assert comparable(UUID(int=5), name="x") == "00000000-0000-0000-0000-000000000005"


@pytest.mark.parametrize("value", ["2026", "20260102", "5", "10:00", "2026-01-02 is a day", 5, None])
def test_other_values_are_no_dates(value):
    assert date_range("gt", value) is None


def test_impossible_dates_are_refused():
    assert date_range("gt", "2026-01-31T10:00Z").gt == datetime(2026, 1, 31, 10, tzinfo=UTC)
    with pytest.raises(ValueError, match="'2026-02-31' is no date"):
        date_range("gt", "2026-02-31")
