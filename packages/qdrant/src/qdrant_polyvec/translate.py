"""From qdrant-client's models to the embedded engine's own, and back.

Whatever has no counterpart here raises `NotImplementedError`; nothing is dropped silently.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import qdrant_edge as edge
from qdrant_client import models
from qdrant_client.conversions import common_types as types

from qdrant_polyvec import limits

DEFAULT_LIMIT = 10  # of a query and of a prefetch, as in the server
DEFAULT_RRF_K = 2  # as in the server

# By class name, because older releases of qdrant-client lack some of these classes.
_MATCHES: dict[str, Callable[[Any], Any]] = {
    "MatchValue": lambda match: edge.MatchValue(match.value),
    "MatchText": lambda match: edge.MatchText(match.text),
    "MatchTextAny": lambda match: edge.MatchTextAny(match.text_any),
    "MatchPhrase": lambda match: edge.MatchPhrase(match.phrase),
    "MatchAny": lambda match: edge.MatchAny(match.any),
    "MatchExcept": lambda match: edge.MatchExcept(match.except_),
}


def unsupported(what: str) -> NotImplementedError:
    """The error for whatever a server can do and an index in a folder cannot."""
    return NotImplementedError(f"{what} needs a Qdrant server: open the collection by its URL instead of a folder.")


def refuse_other(model: Any, *known: str) -> None:  # noqa: ANN401 — any of the client's models
    """Raise if a field beyond `known` is set, so that no option is ignored."""
    for field, value in model:
        if value is not None and field not in known:
            raise unsupported(f"`{type(model).__name__}({field}=…)`")


def enum_member(enum: Any, value: Any) -> Any:  # noqa: ANN401 — the engine's enums have no common type
    """The engine's member for a client's enum value: the names agree but for case and underscores."""
    if value is None:
        return None
    wanted = str(value.value).replace("_", "").lower()
    for name in dir(enum):
        if name.replace("_", "").lower() == wanted:
            return getattr(enum, name)
    raise unsupported(f"`{type(value).__name__}.{value.name}`")


# --- ids, vectors, points ---


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
            pass
    raise ValueError(f"{value!r} is not a point id: use an unsigned 64-bit integer or a UUID.")


def checked_vector(name: str, vector: Any, params_by_name: Mapping[str, models.VectorParams]) -> Any:  # noqa: ANN401
    """The vector as given, once it is known to fit the collection.

    Raises:
        ValueError: unknown name, wrong shape or size, too many rows, NaN or infinity.
    """
    if name not in params_by_name:
        raise ValueError(f"The collection has no vector {name!r}; it has {', '.join(map(repr, params_by_name))}.")
    if not isinstance(vector, list | np.ndarray):
        raise unsupported(f"a vector given as {type(vector).__name__}")
    params = params_by_name[name]
    try:
        array = np.asarray(vector, dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"vector {name!r} is not an array of numbers with rows of one length") from error
    if params.multivector_config is not None and (array.ndim != 2 or array.shape[1] != params.size or not len(array)):
        raise ValueError(f"multi-vector {name!r} has shape {array.shape}; it takes one or more rows of {params.size}.")
    if params.multivector_config is None and array.shape != (params.size,):
        raise ValueError(f"vector {name!r} has shape {array.shape}; it takes {params.size} numbers.")
    if flaw := limits.flaw(array):
        raise ValueError(f"vector {name!r} {flaw}.")
    return vector


def point(struct: models.PointStruct, params_by_name: Mapping[str, models.VectorParams]) -> Any:  # noqa: ANN401
    """An `edge.Point`, checked.

    Raises:
        ValueError: naming the point, as `point_id` and `checked_vector`.
    """
    identity = point_id(struct.id)
    vectors = struct.vector if isinstance(struct.vector, dict) else {"": struct.vector}
    try:
        checked = {name: checked_vector(name, vector, params_by_name) for name, vector in vectors.items()}
    except ValueError as error:
        raise ValueError(f"Point {struct.id}: {error}") from error
    return edge.Point(id=identity, vector=checked, payload=types.to_jsonable_python(struct.payload or {}))


def n_floats(struct: models.PointStruct) -> int:
    """How many numbers a point's vectors have."""
    vectors = struct.vector.values() if isinstance(struct.vector, dict) else [struct.vector]
    return sum(len(v) * (len(v[0]) if len(v) and isinstance(v[0], list) else 1) for v in vectors if isinstance(v, list))
