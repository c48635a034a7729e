"""Points as each kind of client sends them fastest."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, grpc, models
from qdrant_client.conversions.conversion import RestToGrpc
from qdrant_client.qdrant_remote import QdrantRemote

from qdrant_polyvec import limits
from qdrant_polyvec.edge import EdgeBackend

_BYTES = b"\x0a"  # in protobuf's wire format: field 1, its bytes with their length before them


_BYTES_PER_ROW = 8  # at most


@dataclass(frozen=True, slots=True)
class Wire:
    """How points are sent.

    Attributes:
        upsert: sends points.
        convert: a point whose vectors are arrays → what `upsert` takes.
        bytes_per_float: on the way; each row of a multi-vector has some more around it.
        max_bytes: of one request.
    """

    upsert: Callable[..., models.UpdateResult]
    convert: Callable[[models.PointStruct], Any]
    bytes_per_float: int
    max_bytes: int

    def n_bytes(self, struct: models.PointStruct) -> int:
        """About as long as the point is on the way."""
        payload = json.dumps(struct.payload, ensure_ascii=False, default=str)
        n_rows = sum(len(vector) if np.ndim(vector) == 2 else 1 for _, vector in _named(struct))
        n_bytes = self.bytes_per_float * limits.n_floats(struct.vector) + _BYTES_PER_ROW * n_rows
        return n_bytes + len(payload.encode("utf-8", "surrogatepass"))


def wire(client: QdrantClient) -> Wire:
    """The way that a client sends points."""
    backend = client._client  # noqa: SLF001 — the client does not tell what is behind it
    if isinstance(backend, EdgeBackend):
        return Wire(client.upsert, lambda struct: struct, limits.ENGINE_BYTES_PER_FLOAT, limits.MAX_OPERATION_BYTES)
    if isinstance(backend, QdrantRemote) and backend._prefer_grpc:  # noqa: SLF001
        # The client's own method converts number by number, and warns of messages, which are faster.
        return Wire(backend.upsert, _grpc, limits.ENGINE_BYTES_PER_FLOAT, limits.MAX_REQUEST_BYTES)
    return Wire(client.upsert, _lists, limits.REST_BYTES_PER_FLOAT, limits.MAX_REQUEST_BYTES)


def _lists(struct: models.PointStruct) -> models.PointStruct:
    """With lists of numbers; they take eight times the memory, so never convert more than one request."""
    vectors = {name: vector.tolist() if isinstance(vector, np.ndarray) else vector for name, vector in _named(struct)}
    return models.PointStruct.model_construct(id=struct.id, vector=vectors, payload=struct.payload)


def _grpc(struct: models.PointStruct) -> Any:  # Any: protobuf's classes are not annotated
    """As a message of gRPC; an array's bytes are those that protobuf wants."""
    return grpc.PointStruct(
        id=RestToGrpc.convert_extended_point_id(struct.id),
        vectors=grpc.Vectors(
            vectors=grpc.NamedVectors(vectors={name: _message(vector) for name, vector in _named(struct)})
        ),
        payload=RestToGrpc.convert_payload(struct.payload or {}),
    )


def _message(vector: Any) -> Any:
    if isinstance(vector, models.SparseVector):
        return grpc.Vector(sparse=grpc.SparseVector(indices=vector.indices, values=vector.values))
    array = np.ascontiguousarray(vector, "<f4")
    if array.ndim == 1:
        return grpc.Vector(dense=grpc.DenseVector.FromString(_field(array.tobytes())))
    rows = b"".join(_field(_field(row.tobytes())) for row in array)
    return grpc.Vector(multi_dense=grpc.MultiDenseVector.FromString(rows))


def _field(content: bytes) -> bytes:
    """Field 1 of a message, holding bytes."""
    length, size = b"", len(content)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return _BYTES + length + bytes([size]) + content


def _named(struct: models.PointStruct) -> Iterator[tuple[str, Any]]:
    vectors: Any = struct.vector
    yield from vectors.items()
