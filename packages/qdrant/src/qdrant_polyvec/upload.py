"""Write points: in requests that fit, again after a failure that may pass, in halves after a refusal."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as messages
from qdrant_client.conversions.conversion import RestToGrpc

from qdrant_polyvec import limits
from qdrant_polyvec.clients import Engine, grpc_backend
from qdrant_polyvec.errors import TOO_LARGE, StoreRefusedError

_REFUSED = {400, TOO_LARGE, 422}  # the points are to blame, not the caller's rights or the collection

_BYTES = b"\x0a"  # in protobuf's wire format: field 1, its bytes with their length before them
_BYTES_PER_ROW = 8  # at most


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of one request."""

    ok: list[models.PointStruct] = field(default_factory=list)
    failed: list[tuple[models.PointStruct, str]] = field(default_factory=list)  # with the reasons


@dataclass(slots=True)
class Wire:
    """How a client sends points fastest."""

    upsert: Callable[..., models.UpdateResult]
    convert: Callable[[models.PointStruct], Any]  # a point whose vectors are arrays → what `upsert` takes
    bytes_per_float: int  # on the way; each row of a multi-vector has some more around it
    max_bytes: int  # of one request; halved when a server says that a request is too large

    def n_bytes(self, struct: models.PointStruct) -> int:
        """Estimate the size of a point on the way."""
        payload = json.dumps(struct.payload, ensure_ascii=False, default=str)
        n_rows = sum(len(vector) if np.ndim(vector) == 2 else 1 for _, vector in _named(struct))
        n_bytes = self.bytes_per_float * limits.n_floats(struct.vector) + _BYTES_PER_ROW * n_rows
        return n_bytes + len(payload.encode("utf-8", "surrogatepass"))


def write(
    client: QdrantClient,
    engine: Engine,
    collection: str,
    structs: Iterable[models.PointStruct],  # their vectors are numpy arrays or `SparseVector`
    *,
    options: Mapping[str, Any] | None = None,  # of the client's `upsert`, as `Cluster.write_options`
) -> Iterator[Written]:
    """Write points, as many at a time as fit one request, and yield the outcome of each request.

    A request that may yet succeed is sent again by the client (see `patient`); it may have been applied in part, but
    points keep their ids. One that is refused is sent in halves, down to the points that are to blame. A StoreError
    that no point is to blame for is raised, as without the right to write.
    """
    wire = _wire(client, engine)

    def send(batch: Sequence[models.PointStruct]) -> None:
        wire.upsert(collection, points=list(map(wire.convert, batch)), wait=True, **(options or {}))

    for batch in limits.batches(structs, wire.n_bytes, lambda: wire.max_bytes):
        for written, too_large in _write(batch, send):
            if too_large:  # later requests have half that size, instead of being refused and halved again and again
                wire.max_bytes = min(wire.max_bytes, sum(map(wire.n_bytes, batch)) // 2)
            yield written


@contextmanager
def writer_thread() -> Iterator[ThreadPoolExecutor]:
    """Run the thread that writes. Its work is done at the end, but nobody who interrupts the call waits for it."""
    writer = ThreadPoolExecutor(1, thread_name_prefix="polyvec-writer")
    is_interrupted = False
    try:
        yield writer
    except (KeyboardInterrupt, SystemExit):
        is_interrupted = True
        raise
    finally:
        writer.shutdown(wait=not is_interrupted, cancel_futures=is_interrupted)


def _write(
    batch: Sequence[models.PointStruct], send: Callable[[Sequence[models.PointStruct]], None]
) -> Iterator[tuple[Written, bool]]:
    """Send points, in halves if they are refused. Yield the outcome of each request, and True if it was too large."""
    unsent = [list(batch)]
    while unsent:
        part = unsent.pop()
        try:
            send(part)
        except (StoreRefusedError, ValueError) as error:  # ValueError: a folder's, or of a conversion
            status = error.status if isinstance(error, StoreRefusedError) else 400
            if status not in _REFUSED:
                raise
            if len(part) == 1:
                yield Written(failed=[(part[0], f"refused by the store: {error}")]), False
            else:
                middle = len(part) // 2
                unsent += [part[middle:], part[:middle]]
                yield Written(), status == TOO_LARGE
        else:
            yield Written(ok=part), False


def _wire(client: QdrantClient, engine: Engine) -> Wire:
    if engine.kind == "edge":
        return Wire(client.upsert, lambda struct: struct, limits.BINARY_BYTES_PER_FLOAT, limits.MAX_OPERATION_BYTES)
    if behind := grpc_backend(client, engine):
        # The client's own method converts number by number, and warns of messages, which are faster.
        return Wire(behind.upsert, _grpc, limits.BINARY_BYTES_PER_FLOAT, limits.MAX_REQUEST_BYTES)
    return Wire(client.upsert, _lists, limits.REST_BYTES_PER_FLOAT, limits.MAX_REQUEST_BYTES)


def _lists(struct: models.PointStruct) -> models.PointStruct:
    """Convert to lists of numbers. They take eight times the memory, so never convert more than one request."""
    vectors = {name: vector.tolist() if isinstance(vector, np.ndarray) else vector for name, vector in _named(struct)}
    return models.PointStruct.model_construct(id=struct.id, vector=vectors, payload=struct.payload)


def _grpc(struct: models.PointStruct) -> Any:  # Any: protobuf's classes are not annotated
    """Convert to a message of gRPC. An array's bytes are those that protobuf wants."""
    return messages.PointStruct(
        id=RestToGrpc.convert_extended_point_id(struct.id),
        vectors=messages.Vectors(
            vectors=messages.NamedVectors(vectors={name: _message(vector) for name, vector in _named(struct)})
        ),
        payload=RestToGrpc.convert_payload(struct.payload or {}),
    )


def _message(vector: Any) -> Any:
    if isinstance(vector, models.SparseVector):
        return messages.Vector(sparse=messages.SparseVector(indices=vector.indices, values=vector.values))
    array = np.ascontiguousarray(vector, "<f4")
    if array.ndim == 1:
        return messages.Vector(dense=messages.DenseVector.FromString(_field(array.tobytes())))
    rows = b"".join(_field(_field(row.tobytes())) for row in array)
    return messages.Vector(multi_dense=messages.MultiDenseVector.FromString(rows))


def _field(content: bytes) -> bytes:
    """Encode bytes as field 1 of a message."""
    length, size = b"", len(content)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return _BYTES + length + bytes([size]) + content


def _named(struct: models.PointStruct) -> Iterator[tuple[str, Any]]:
    vectors: Any = struct.vector
    yield from vectors.items()
