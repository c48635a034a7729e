"""Points, vectors and records: from qdrant-client's models to the embedded engine's own, and back.

Whatever has no counterpart raises `NotImplementedError`; nothing is dropped silently. Classes that some supported
release of qdrant-client lacks are told by their name.
"""

import array
import datetime
import uuid
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
import pydantic_core
import qdrant_edge as edge
from jaxtyping import Float32
from qdrant_client import models

from qdrant_polyvec import limits

Model = Any  # one of qdrant-client's pydantic models; they share no useful base class
Native = Any  # an object of the engine, which is not annotated
VectorParams = Mapping[str, models.VectorParams | models.SparseVectorParams]  # by name; "" is the unnamed vector


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


def iso(value: datetime.datetime | datetime.date | None) -> str | None:
    return None if value is None else value.isoformat()


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


def client_id(value: int | uuid.UUID) -> int | str:
    """A point id as qdrant-client returns it."""
    return str(value) if isinstance(value, uuid.UUID) else value


def point(struct: models.PointStruct, params: VectorParams) -> Native:
    """A point, checked.

    Raises:
        ValueError: a bad id, or a vector that does not fit; the message names the point.
    """
    return edge.Point(**_located(struct, params), payload=payload(struct.payload))


def point_vectors(struct: models.PointVectors, params: VectorParams) -> Native:
    """New vectors of a stored point, checked as in `point`."""
    return edge.PointVectors(**_located(struct, params))


def _located(struct: models.PointStruct | models.PointVectors, params: VectorParams) -> dict[str, Any]:
    given = struct.vector if isinstance(struct.vector, dict) else {"": struct.vector}
    identity = point_id(struct.id)
    try:
        return {"id": identity, "vector": {name: vector(value, name, params) for name, value in given.items()}}
    except ValueError as error:
        raise ValueError(f"Point {struct.id}: {error}") from error


def payload(value: Mapping[str, Any] | None) -> dict[str, Any]:
    """A payload as JSON values; dates become ISO strings and UUIDs strings, as on the way to a server."""
    plain = dict(pydantic_core.to_jsonable_python(value or {}))
    if limits.depth(plain) > limits.MAX_PAYLOAD_DEPTH:
        raise ValueError(
            f"the payload is nested deeper than {limits.MAX_PAYLOAD_DEPTH}; the engine cannot read it again."
        )
    return plain


def vector(value: Any, name: str | None, params: VectorParams) -> Native:
    """A dense, multi- or sparse vector, once it is known to fit the collection.

    Raises:
        ValueError: unknown name, wrong shape or kind, too many rows, NaN or infinity.
    """
    name = name or ""
    if name not in params:
        raise ValueError(f"there is no vector {name!r}; the collection has {', '.join(map(repr, params)) or 'none'}.")
    settings = params[name]
    if isinstance(settings, models.SparseVectorParams):
        return _sparse(value, name)
    if isinstance(value, models.SparseVector):
        raise ValueError(  # noqa: TRY004 — one type for whatever does not fit the collection
            f"vector {name!r} is dense; it takes numbers, not a SparseVector."
        )
    if not isinstance(value, list | np.ndarray):
        raise unsupported(f"a vector or query given as {type(value).__name__}")
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold is told as infinity
            numbers = np.asarray(value, dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"vector {name!r} is not made of numbers in rows of one length.") from error
    size, multi = settings.size, settings.multivector_config is not None
    if multi and (numbers.ndim != 2 or numbers.shape[1] != size or len(numbers) == 0):
        raise ValueError(f"multi-vector {name!r} has shape {numbers.shape}; it takes one or more rows of {size}.")
    if not multi and numbers.shape != (size,):
        raise ValueError(f"vector {name!r} has shape {numbers.shape}; it takes {size} numbers.")
    if flaw := limits.flaw(numbers):
        raise ValueError(f"vector {name!r} {flaw}.")
    if isinstance(value, list) and not isinstance(value[0], np.ndarray):
        return value
    return [_floats(row) for row in numbers] if multi else _floats(numbers)


def _floats(row: Float32[np.ndarray, " dim"]) -> Native:
    # The engine takes any sequence apart number by number. From numpy that is three times as slow as from these.
    return array.array("f", row.tobytes())


def _sparse(value: Any, name: str) -> Native:
    if not isinstance(value, models.SparseVector):
        raise ValueError(  # noqa: TRY004 — as in `vector`
            f"vector {name!r} is sparse; it takes models.SparseVector(indices=…, values=…), not {type(value).__name__}."
        )
    indices, values = list(value.indices), list(value.values)
    if len(indices) != len(values):
        raise ValueError(f"sparse vector {name!r} has {len(indices)} indices for {len(values)} values.")
    if len(set(indices)) != len(indices):
        raise ValueError(f"sparse vector {name!r} names an index twice; add up the values of one index.")
    if indices and not 0 <= min(indices) <= max(indices) < 2**32:
        raise ValueError(f"sparse vector {name!r} has an index outside 0 to {2**32 - 1}.")
    with np.errstate(over="ignore"):
        if flaw := limits.flaw(np.asarray(values, dtype=np.float32)):
            raise ValueError(f"sparse vector {name!r} {flaw}.")
    return edge.SparseVector(indices, values)


def payload_selector(selector: Model) -> Native:
    """Which payload keys to return; None is none of them, as in the server."""
    match selector:
        case None:
            return False
        case bool() | list():
            return selector
        case tuple():
            return list(selector)
        case models.PayloadSelectorInclude():
            return edge.PayloadSelector.Include(selector.include)
        case models.PayloadSelectorExclude():
            return edge.PayloadSelector.Exclude(selector.exclude)
    raise unsupported(f"choosing payload by {type(selector).__name__}")


def scored_points(found: Sequence[Native], with_payload: Model, with_vectors: Model) -> list[models.ScoredPoint]:
    """What a query found, as qdrant-client returns it."""
    return [
        models.ScoredPoint(version=hit.version, score=hit.score, **_record(hit, with_payload, with_vectors))
        for hit in found
    ]


def records(found: Sequence[Native], with_payload: Model, with_vectors: Model) -> list[models.Record]:
    """What was retrieved or scrolled, as qdrant-client returns it."""
    return [models.Record(**_record(hit, with_payload, with_vectors)) for hit in found]


def _record(found: Native, with_payload: Model, with_vectors: Model) -> dict[str, Any]:
    return {
        "id": client_id(found.id),
        "payload": found.payload if with_payload is not None and with_payload is not False else None,
        "vector": _vectors(found.vector, with_vectors),
        "order_value": found.order_value,
    }


def _vectors(found: Native, wanted: Model) -> Any:
    if found is None or not wanted:
        return None  # a query by MMR brings vectors along whether they were wanted or not
    if not isinstance(found, dict):
        return client_vector(found)
    return {name: client_vector(value) for name, value in found.items() if wanted is True or name in wanted}


def client_vector(value: Native) -> Any:
    """A vector as qdrant-client returns it."""
    if isinstance(value, edge.SparseVector):
        return models.SparseVector(indices=list(value.indices), values=list(value.values))
    return value
