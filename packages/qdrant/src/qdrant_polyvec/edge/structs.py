"""Points in the forms in which qdrant-client takes them, as `PointStruct`s."""

import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from qdrant_client import models


def of_points(points: models.Batch | Iterable[models.PointStruct]) -> Iterable[models.PointStruct]:
    """One by one; a batch is taken apart.

    Raises:
        ValueError: the parts of a batch differ in length.
    """
    if not isinstance(points, models.Batch):
        return points
    vectors: Any = points.vectors
    if isinstance(vectors, dict):
        vectors = _by_point(vectors)
    payloads: Sequence[Any] = points.payloads or [None] * len(points.ids)
    if not len(points.ids) == len(vectors) == len(payloads):
        raise ValueError(f"a batch of {len(points.ids)} ids has {len(vectors)} vectors and {len(payloads)} payloads.")
    return itertools.starmap(_struct, zip(points.ids, vectors, payloads, strict=True))


def of_columns(
    vectors: Any,  # as in `QdrantBase.upload_collection`
    payload: Iterable[Mapping[str, Any]] | None,
    ids: Iterable[models.ExtendedPointId] | None,
) -> Iterator[models.PointStruct]:
    """From one iterable each; the shortest of them ends it. Points without ids get random UUIDs.

    Raises:
        ValueError: named vectors differ in number.
    """
    if isinstance(vectors, dict):
        vectors = _by_point(vectors)
    identities = (str(uuid.uuid4()) for _ in itertools.count()) if ids is None else ids
    return itertools.starmap(
        _struct, zip(identities, vectors, itertools.repeat(None) if payload is None else payload, strict=False)
    )


def _struct(identity: models.ExtendedPointId, vector: Any, payload: Any) -> models.PointStruct:
    # Unchecked: qdrant-client would take arrays apart, and all is checked on the way to the engine.
    return models.PointStruct.model_construct(id=identity, vector=vector, payload=payload)


def _by_point(vectors: Mapping[str, Sequence[Any] | np.ndarray]) -> list[dict[str, Any]]:
    lengths = {name: len(column) for name, column in vectors.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"named vectors are for the same points, but differ in number: {lengths}.")
    return [dict(zip(vectors, row, strict=True)) for row in zip(*vectors.values(), strict=True)]
