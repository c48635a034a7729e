"""Points, vectors and records: from qdrant-client's models to the embedded engine's own, and back.

A field or class without a counterpart raises `NotImplementedError`; nothing is dropped silently. Classes that some
supported releases of qdrant-client lack are looked up by name.
"""

import array
import datetime
import functools
import uuid
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pydantic
import pydantic_core
import qdrant_edge as edge
from jaxtyping import Float32
from qdrant_client import models

from qdrant_polyvec import limits

Model = Any  # one of qdrant-client's pydantic models; they share no useful base class
Native = Any  # an object of the engine, which is not annotated
Options = ParamSpec("Options")
Result = TypeVar("Result")
VectorParams = Mapping[str, models.VectorParams | models.SparseVectorParams]  # by name; "" is the unnamed vector

# These options change nothing without a network and replicas, so any value is accepted.
_WITHOUT_EFFECT = {"wait", "ordering", "consistency", "timeout", "batch_size", "parallel", "method", "max_retries"}


def unsupported(feature: str) -> NotImplementedError:
    """The error for a feature that a server has and an index in a folder lacks."""
    return NotImplementedError(f"{feature} needs a Qdrant server: open the collection by its URL instead of a folder.")


def client_model(value: Any, kind: Any) -> Any:
    """Convert a mapping, or the mappings of a list, to a model of qdrant-client; a ValueError if it is none.

    As for a server, which gets JSON. Everything else is returned as it is.
    """
    if isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        return [client_model(part, kind) for part in value]
    return pydantic.TypeAdapter(kind).validate_python(value) if isinstance(value, Mapping) else value


def numbers_in_range(convert: Callable[Options, Result]) -> Callable[Options, Result]:
    """Raise a ValueError where the engine's own types cannot hold a number."""

    @functools.wraps(convert)
    def checked(*args: Options.args, **kwargs: Options.kwargs) -> Result:
        try:
            return convert(*args, **kwargs)
        except OverflowError as error:
            raise ValueError(f"a number in {args[0]!r} is negative or too large.") from error

    return checked


def check_options(call: str, options: Mapping[str, Any]) -> None:
    """Raise if an option is set that a call in a folder cannot follow."""
    for name, value in options.items():
        if value not in (None, {}) and name not in _WITHOUT_EFFECT:
            raise unsupported(f"`{call}({name}=…)`")


def allow_only(model: Model, *fields: str) -> None:
    """Raise if any field beside `fields` is set, so that no option is ignored."""
    for field, value in model:
        if value is not None and field not in fields:
            raise unsupported(f"`{type(model).__name__}({field}=…)`")


def member(enum: Native, value: Enum | None) -> Native:
    """The engine's member for a client's enum value: the spellings agree but for case and underscores."""
    if value is None:
        return None
    spelling = str(value.value).replace("_", "").lower()
    for name in dir(enum):
        if name.replace("_", "").lower() == spelling:
            return getattr(enum, name)
    raise unsupported(f"`{type(value).__name__}.{value.name}`")


def iso(value: datetime.datetime | datetime.date | None) -> str | None:
    return None if value is None else value.isoformat()


def native_id(value: object) -> int | uuid.UUID:
    """Convert a point id to the engine's form; a ValueError if it is neither an unsigned 64-bit integer nor a UUID."""
    if isinstance(value, uuid.UUID):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return value
    if isinstance(value, str):
        try:
            return uuid.UUID(value)
        except ValueError:
            pass  # raised below, as for every other invalid value
    raise ValueError(f"{value!r} is not a point id: use an unsigned 64-bit integer or a UUID.")


def client_id(value: int | uuid.UUID) -> int | str:
    """Convert a point id to qdrant-client's form."""
    return str(value) if isinstance(value, uuid.UUID) else value


def native_point(struct: models.PointStruct, params: VectorParams) -> Native:
    """Check and convert a point; a ValueError, which names the point, if its id or a vector does not fit."""
    return edge.Point(**_id_and_vectors(struct, params), payload=native_payload(struct.payload))


def native_point_vectors(struct: models.PointVectors, params: VectorParams) -> Native:
    """Check and convert new vectors of a stored point, as `native_point` does."""
    return edge.PointVectors(**_id_and_vectors(struct, params))


def _id_and_vectors(struct: models.PointStruct | models.PointVectors, params: VectorParams) -> dict[str, Any]:
    vectors = struct.vector if isinstance(struct.vector, dict) else {"": struct.vector}
    identity = native_id(struct.id)
    try:
        return {"id": identity, "vector": {name: native_vector(value, name, params) for name, value in vectors.items()}}
    except ValueError as error:
        raise ValueError(f"Point {struct.id}: {error}") from error


def native_payload(value: Mapping[str, Any] | None) -> dict[str, Any]:
    """Convert a payload to JSON values as for a server: dates become ISO strings, UUIDs strings."""
    if not isinstance(value, Mapping | None):
        raise ValueError(f"a payload or metadata is a mapping, not {value!r}.")  # noqa: TRY004 — as for a server
    plain = dict(pydantic_core.to_jsonable_python(value or {}))
    if limits.depth(plain) > limits.MAX_PAYLOAD_DEPTH:
        raise ValueError(
            f"the payload is nested deeper than {limits.MAX_PAYLOAD_DEPTH}; the engine cannot read it again."
        )
    return plain


def check_vector_name(name: str, params: VectorParams, collection: str = "the collection") -> None:
    """Raise `ValueError` if the collection has no vector of this name."""
    if name not in params:
        names = ", ".join(map(repr, params)) or "none"
        raise ValueError(f"there is no vector {name!r}; {collection} has {names}.")


def native_vector(value: Any, name: str | None, params: VectorParams) -> Native:
    """Check that a dense, multi- or sparse vector fits the collection, and convert it; a ValueError if it does not."""
    name = name or ""
    check_vector_name(name, params)
    settings = params[name]
    if isinstance(settings, models.SparseVectorParams):
        return _native_sparse(value, name)
    if isinstance(value, models.SparseVector):
        raise ValueError(  # noqa: TRY004 — one type for all values that do not fit the collection
            f"vector {name!r} is dense; it takes numbers, not a SparseVector."
        )
    if not isinstance(value, list | np.ndarray):
        raise unsupported(f"a vector or query given as {type(value).__name__}")
    try:
        with np.errstate(over="ignore"):  # numbers that exceed float32 become infinity, which is refused below
            numbers = np.asarray(value, dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"vector {name!r} must be numbers, in rows of one length.") from error
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
    # The engine reads any sequence number by number: a numpy array takes three times as long as an `array`.
    return array.array("f", row.tobytes())


def _native_sparse(value: Any, name: str) -> Native:
    if not isinstance(value, models.SparseVector):
        raise ValueError(  # noqa: TRY004 — as in `native_vector`
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
    """Convert the choice of payload keys to return; None returns no payload, as in the server."""
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


def client_scored_points(hits: Sequence[Native], with_payload: Model, with_vectors: Model) -> list[models.ScoredPoint]:
    """Convert the results of a query."""
    return [
        models.ScoredPoint(version=hit.version, score=hit.score, **_record_fields(hit, with_payload, with_vectors))
        for hit in hits
    ]


def client_records(natives: Sequence[Native], with_payload: Model, with_vectors: Model) -> list[models.Record]:
    """Convert the results of `retrieve` or `scroll`."""
    return [models.Record(**_record_fields(native, with_payload, with_vectors)) for native in natives]


def _record_fields(native: Native, with_payload: Model, with_vectors: Model) -> dict[str, Any]:
    return {
        "id": client_id(native.id),
        "payload": native.payload if with_payload is not None and with_payload is not False else None,
        "vector": _client_vectors(native.vector, with_vectors),
        "order_value": native.order_value,
    }


def _client_vectors(native: Native, with_vectors: Model) -> Any:
    if with_vectors == []:
        return {}  # as a server does
    if native is None or not with_vectors:
        return None  # a query by MMR returns vectors even if the caller did not request them
    if not isinstance(native, dict):
        return client_vector(native)
    return {
        name: client_vector(value) for name, value in native.items() if with_vectors is True or name in with_vectors
    }


def client_vector(value: Native) -> Any:
    """Convert a vector to qdrant-client's form."""
    if isinstance(value, edge.SparseVector):
        return models.SparseVector(indices=list(value.indices), values=list(value.values))
    return value
