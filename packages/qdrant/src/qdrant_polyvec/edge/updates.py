"""Updates of points: the forms in which qdrant-client takes them, as operations of the embedded engine."""

import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import qdrant_edge as edge
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from qdrant_polyvec import limits
from qdrant_polyvec.edge import translate
from qdrant_polyvec.edge.filters import query_filter
from qdrant_polyvec.edge.translate import Native, VectorParams, allow_only, native_id

Struct = TypeVar("Struct", models.PointStruct, models.PointVectors)

_CONDITIONS = ("update_filter", "update_mode")  # qdrant-client has the second since 1.17


def structs(points: models.Batch | Iterable[models.PointStruct]) -> Iterable[models.PointStruct]:
    """Points one by one, those of a batch too; a ValueError if the parts of a batch differ in length."""
    if not isinstance(points, models.Batch):
        return (translate.client_model(point, models.PointStruct) for point in points)
    vectors = _vectors_by_point(points.vectors)
    payloads: Sequence[Any] = points.payloads or [None] * len(points.ids)
    if not len(points.ids) == len(vectors) == len(payloads):
        raise ValueError(f"a batch of {len(points.ids)} ids has {len(vectors)} vectors and {len(payloads)} payloads.")
    return itertools.starmap(_struct, zip(points.ids, vectors, payloads, strict=True))


def vector_structs(points: Iterable[models.PointVectors]) -> Iterable[models.PointVectors]:
    """Return the new vectors of points one by one; dicts become models."""
    return (translate.client_model(point, models.PointVectors) for point in points)


def names(what: str, values: Sequence[str], known: VectorParams | None = None) -> list[str]:
    """List names; a ValueError if they are no list, or if vectors (`known`) are to be named and are not."""
    if isinstance(values, str) or (known is not None and not values):
        raise ValueError(f"`{what}` is {values!r}; it must be a list of names.")
    for name in values if known is not None else ():
        translate.check_vector_name(name, known or {})
    return list(values)


def new_payload(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a payload that is to be written; a ValueError if it is None, which could be meant to keep the old one."""
    if payload is None:
        raise ValueError("`payload` is None; it must be a mapping.")
    return translate.native_payload(payload)


def structs_of_columns(
    vectors: Any,  # as in `QdrantBase.upload_collection`
    payloads: Iterable[Mapping[str, Any]] | None,
    ids: Iterable[models.ExtendedPointId] | None,
) -> Iterator[models.PointStruct]:
    """Points from one iterable per column, as many as the shortest has. Points without ids get random UUIDs."""
    identities = (str(uuid.uuid4()) for _ in itertools.count()) if ids is None else ids
    columns = identities, _vectors_by_point(vectors), itertools.repeat(None) if payloads is None else payloads
    return itertools.starmap(_struct, zip(*columns, strict=False))


def _struct(identity: models.ExtendedPointId, vector: Any, payload: Any) -> models.PointStruct:
    # Not validated: qdrant-client would turn arrays into lists, and all is checked on the way to the engine.
    return models.PointStruct.model_construct(id=identity, vector=vector, payload=payload)


def _vectors_by_point(vectors: Any) -> Any:
    """Turn columns of named vectors into one dict per point; leave unnamed vectors as they are."""
    if not isinstance(vectors, dict):
        return vectors
    lengths = {name: len(column) for name, column in vectors.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"named vectors are for the same points, but differ in number: {lengths}.")
    return [dict(zip(vectors, row, strict=True)) for row in zip(*vectors.values(), strict=True)]


def operation_batches(
    structs: Iterable[Struct], convert: Callable[[Struct, VectorParams], Native], params: VectorParams
) -> Iterator[tuple[list[Native], int]]:
    """Convert all points, then group them into operations of bounded size. Yields points and their size in bytes.

    A ValueError if there are none: a server refuses an update without points.
    """
    sized = [(convert(_checked(struct), params), point_bytes(struct)) for struct in structs]
    if not sized:
        raise ValueError("an update needs at least one point.")
    for batch in limits.batches(sized, lambda item: item[1], limits.MAX_OPERATION_BYTES):
        yield [native for native, _ in batch], sum(size for _, size in batch)


def _checked(struct: Struct) -> Struct:
    if not isinstance(struct, models.PointStruct | models.PointVectors):
        raise TypeError(f"points are a list of models.PointStruct or dicts, not {type(struct).__name__}.")
    return struct


def point_bytes(struct: models.PointStruct | models.PointVectors) -> int:
    return limits.BINARY_BYTES_PER_FLOAT * limits.n_floats(struct.vector)


def change(name: str, points: Any, *details: Any) -> Native:
    """The operation `name` on points that are selected by their ids or a filter."""
    selected = _selected(points)
    if selected == []:
        raise ValueError(f"`{name}` without any point; give it at least one id, or a filter.")
    by_filter = "_by_filter" if isinstance(selected, edge.Filter) else ""
    return getattr(edge.UpdateOperation, name + by_filter)(selected, *details)


def _selected(points: Any) -> list[int | uuid.UUID] | Native:
    match points:
        case models.Filter():
            return query_filter(points)
        case models.FilterSelector():
            allow_only(points, "filter")
            return query_filter(points.filter)
        case models.PointIdsList():
            allow_only(points, "points")
            return [native_id(value) for value in points.points]
        case list() | tuple() | set():
            return [native_id(value) for value in points]
    raise TypeError(f"select points by a list of ids, a Filter or a selector, not by {type(points).__name__}.")


def apply(client: QdrantBase, collection_name: str, operation: models.UpdateOperation) -> models.UpdateResult:
    """Apply one operation of a batch by the client's method for it."""
    match operation:
        case models.UpsertOperation(upsert=models.PointsBatch() as batch):
            allow_only(batch, "batch", *_CONDITIONS)
            return client.upsert(collection_name, batch.batch, **_conditions(batch))
        case models.UpsertOperation(upsert=models.PointsList() as points):
            allow_only(points, "points", *_CONDITIONS)
            return client.upsert(collection_name, points.points, **_conditions(points))
        case models.DeleteOperation():
            return client.delete(collection_name, operation.delete)
        case models.SetPayloadOperation(set_payload=request):
            return client.set_payload(collection_name, request.payload, _selector(request), key=request.key)
        case models.OverwritePayloadOperation(overwrite_payload=request):
            return client.overwrite_payload(collection_name, request.payload, _selector(request), key=request.key)
        case models.DeletePayloadOperation(delete_payload=request):
            return client.delete_payload(collection_name, request.keys, _selector(request))
        case models.ClearPayloadOperation():
            return client.clear_payload(collection_name, operation.clear_payload)
        case models.UpdateVectorsOperation(update_vectors=request):
            allow_only(request, "points", "update_filter")
            condition = getattr(request, "update_filter", None)
            return client.update_vectors(collection_name, request.points, update_filter=condition)
        case models.DeleteVectorsOperation(delete_vectors=request):
            return client.delete_vectors(collection_name, request.vector, _selector(request))
    raise TypeError(f"{type(operation).__name__} is not an update of points.")


def _conditions(points: models.PointsBatch | models.PointsList) -> dict[str, Any]:
    return {name: getattr(points, name, None) for name in _CONDITIONS}


def _selector(request: models.SetPayload | models.DeletePayload | models.DeleteVectors) -> Any:
    allow_only(request, "payload", "keys", "vector", "key", "points", "filter")
    selector = request.filter if request.points is None else request.points
    if selector is None:
        raise ValueError(f"`{type(request).__name__}` changes nothing; give it `points` or `filter`.")
    return selector
