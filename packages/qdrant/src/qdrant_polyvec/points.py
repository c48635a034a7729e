"""Items with their embeddings as Qdrant points, and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32
from qdrant_client import models

from polyvec.types import Grid
from qdrant_polyvec import limits
from qdrant_polyvec.items import Identity, Item, point_id
from qdrant_polyvec.schema import DENSE, LATE, OWN


def payload(
    item: Item, *, content_hash: str, fingerprint: str, n_tokens: int, grid: Sequence[int] | None
) -> dict[str, Any]:
    """What is stored beside the vectors; stock integrations read `page_content` and `metadata`."""
    own: dict[str, Any] = {
        "fingerprint": fingerprint,
        "kind": item.kind,
        "task": item.task,
        "unit": item.unit,
        "content_hash": content_hash,
        "n_tokens": n_tokens,
        "grid": None if grid is None else list(grid),
    }
    if point_id(item.id) != item.id:
        own["id"] = item.id
    content = item.input if isinstance(item.input, str) else item.source
    return {"page_content": content, "metadata": item.metadata, OWN: own}


def point(
    item: Item,
    dense: Float32[np.ndarray, " dim"],
    multivector: Float32[np.ndarray, "tokens late_dim"],
    grid: Grid | None,
    *,
    content_hash: str,
    fingerprint: str,
) -> models.PointStruct:
    """The point to store.

    Raises:
        ValueError: the vectors hold NaN, infinity or a zero vector, or a multi-vector has too many rows.
    """
    for name, vector in ((DENSE, dense), (LATE, multivector)):
        if flaw := limits.flaw(vector):
            raise ValueError(f"its {name} vector {flaw}")
        if not len(vector) or not np.linalg.norm(vector, axis=-1).all():
            raise ValueError(f"its {name} vector is empty or contains a zero vector, which has no direction")
    place = None if grid is None else (grid.rows, grid.columns, grid.start)
    return models.PointStruct(
        id=point_id(item.id),
        vector={DENSE: dense.tolist(), LATE: multivector.tolist()},
        payload=payload(
            item, content_hash=content_hash, fingerprint=fingerprint, n_tokens=len(multivector), grid=place
        ),
    )


def identity(stored: models.Record | models.ScoredPoint | models.PointStruct) -> Identity:
    """A stored item's id as the user knows it."""
    own: Mapping[str, Any] = (stored.payload or {}).get(OWN, {})
    known: Identity = own.get("id", stored.id)
    return known


def stored_grid(stored: models.Record) -> Grid | None:
    """Where the image's patches stand in the stored multi-vector; None for a text."""
    place = (stored.payload or {}).get(OWN, {}).get("grid")
    return None if place is None else Grid(*place)
