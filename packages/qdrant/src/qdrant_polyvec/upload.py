"""Writing points: in requests that fit, again after a failure that may pass, in halves after a refusal."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from qdrant_polyvec.retrying import PATIENCE, Patience, code, patiently, pause, reason
from qdrant_polyvec.wire import Wire, wire

_REFUSED = {400, 413, 422}  # the points are to blame, not the caller's rights or the collection
_TOO_LARGE_FOR_GRPC = {grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.RESOURCE_EXHAUSTED}  # what of it does not pass
_REFUSED_BY_GRPC = {grpc.StatusCode.INVALID_ARGUMENT, *_TOO_LARGE_FOR_GRPC}


@dataclass(frozen=True, slots=True)
class Written:
    """What became of some points.

    Attributes:
        ok: those that the store has acknowledged.
        failed: those that it refused, and why.
    """

    ok: list[models.PointStruct] = field(default_factory=list)
    failed: list[tuple[models.PointStruct, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Room:
    """What fits one request, as far as is known."""

    max_bytes: int


def write(
    client: QdrantClient,
    collection: str,
    structs: Iterable[models.PointStruct],
    *,
    ordering: models.WriteOrdering | None = None,
    shard_key: str | int | None = None,
    patience: Patience = PATIENCE,
    sleep: Callable[[float], None] = pause,
) -> Iterator[Written]:
    """Write points, as many at a time as fit one request, and say after each what the store has acknowledged.

    A request that may yet succeed is sent again; it may have been applied in part, but points keep their ids. One
    that is refused is sent in halves, down to the points that are to blame.

    Args:
        client: where to.
        collection: which.
        structs: points whose vectors are numpy arrays or `SparseVector`.
        ordering: Qdrant's guarantee for writes of several clients.
        shard_key: where the points live.
        patience: how long the store is waited for.
        sleep: waits some seconds.

    Raises:
        StoreUnavailableError: the store did not answer for too long.
        UnexpectedResponse, RpcError: it refuses everything, as without the right to write.
    """
    way = wire(client)
    given = {"ordering": ordering, "shard_key_selector": shard_key}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}

    def send(batch: Sequence[models.PointStruct]) -> None:
        points = [way.convert(struct) for struct in batch]
        upsert = partial(way.upsert, collection, points=points, wait=True, **options)
        patiently(upsert, patience=patience, sleep=sleep)

    room = _Room(way.max_bytes)
    for batch, n_bytes in _batches(structs, way, room):
        for written, too_large in _write(batch, send):
            if too_large:  # what follows is sent in requests of half that size, not refused and halved again and again
                room.max_bytes = min(room.max_bytes, n_bytes // 2)
            yield written


def _write(
    batch: Sequence[models.PointStruct], send: Callable[[Sequence[models.PointStruct]], None]
) -> Iterator[tuple[Written, bool]]:
    """Send points, in halves if they are refused; after each answer, what became of which, and if it was too large."""
    rest = [list(batch)]
    while rest:
        part = rest.pop()
        try:
            send(part)
        except (UnexpectedResponse, grpc.RpcError, ValueError) as error:  # ValueError: a folder's, or of a conversion
            if not _is_refusal(error):
                raise
            if len(part) == 1:
                yield Written(failed=[(part[0], f"refused by the store: {reason(error)}")]), False
            else:
                middle = len(part) // 2
                rest += [part[middle:], part[:middle]]
                yield Written(), _is_too_large(error)
        else:
            yield Written(ok=part), False


def _is_refusal(error: Exception) -> bool:
    if isinstance(error, UnexpectedResponse):
        return error.status_code in _REFUSED
    return isinstance(error, ValueError) or code(error) in _REFUSED_BY_GRPC


def _is_too_large(error: Exception) -> bool:
    if isinstance(error, UnexpectedResponse):
        return error.status_code == 413 or "larger than allowed" in reason(error)
    return code(error) in _TOO_LARGE_FOR_GRPC


def _batches(
    structs: Iterable[models.PointStruct], way: Wire, room: _Room
) -> Iterator[tuple[list[models.PointStruct], int]]:
    """Consecutive points that fit, with their size; what fits may change on the way."""
    batch: list[models.PointStruct] = []
    filled = 0
    for struct in structs:
        size = way.n_bytes(struct)
        if batch and filled + size > room.max_bytes:
            yield batch, filled
            batch, filled = [], 0
        batch.append(struct)
        filled += size
    if batch:
        yield batch, filled
