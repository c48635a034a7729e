"""Items with their embeddings as Qdrant points, and back."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from qdrant_client import models

from polyvec.compression import pool_columns, pool_rows, truncate
from polyvec.scoring import unit
from polyvec.types import Embeddings, Grid
from qdrant_polyvec import bm25, limits
from qdrant_polyvec.items import TAKEN, Entry, Identity, point_id
from qdrant_polyvec.schema import BM25, DENSE, LATE, OWN, POOLED, Schema


def payload(
    entry: Entry, *, content_hash: str, fingerprint: str, n_tokens: int, grid: Sequence[int] | None
) -> dict[str, Any]:
    """What is stored beside the vectors; stock integrations read `page_content` and `metadata`."""
    own: dict[str, Any] = {
        "fingerprint": fingerprint,
        "kind": entry.kind,
        "task": entry.task,
        "unit": entry.unit,
        "content_hash": content_hash,
        "n_tokens": n_tokens,
        "grid": None if grid is None else list(grid),
    }
    if entry.tenant is not None:
        own["tenant"] = entry.tenant
    if isinstance(entry.content, Path):
        own["path"] = entry.content.as_posix()
    if point_id(entry.id, entry.tenant) != entry.id:
        own["id"] = entry.id
    content = entry.source if entry.words is None else entry.words
    return {**entry.payload, "page_content": content, "metadata": entry.metadata, OWN: own}


def others(payload: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is in a stored payload beside what a collection itself writes."""
    return {key: value for key, value in (payload or {}).items() if key not in TAKEN}


def point(
    entry: Entry, embedding: Embeddings, *, schema: Schema, dim: int, late: int, content_hash: str, fingerprint: str
) -> models.PointStruct:
    """The point to store; its vectors stay arrays, which `upload` writes as each place wants them.

    Args:
        entry: what is stored.
        embedding: its vectors: an `Embeddings` of one item.
        schema: which vectors the collection has.
        dim: length of its dense vectors; a longer dense vector is truncated (Matryoshka).
        late: length of each vector of its multi-vectors; 0 if it has none.
        content_hash: decides next time whether the item has changed.
        fingerprint: of the embedder.

    Raises:
        ValueError: there is no multi-vector, the vectors hold NaN, infinity or a zero vector, or do not fit.
    """
    dense, grid = embedding.dense[0], embedding.grids[0]
    _check(DENSE, dense, 1)
    if len(dense) < dim:
        raise ValueError(f"its dense vector has {len(dense)} numbers; the collection's have {dim}")
    vectors: dict[str, Any] = {DENSE: truncate(dense[None], dim)[0]}
    if late:
        rows, grid = _fitted(_rows(embedding, late), grid, entry)
        vectors[LATE] = unit(rows)
    if not all(np.linalg.norm(vector, axis=-1).all() for vector in vectors.values()):
        raise ValueError("its vectors are zero once they are cut and scaled to unit length")
    if schema.pooled and grid is not None:
        vectors[POOLED] = pooled(rows, grid)
    if schema.bm25 and entry.words and (words := bm25.document(entry.words, schema.bm25)):
        vectors[BM25] = words
    n_tokens = len(vectors[LATE]) if late else 0
    place = None if grid is None else (grid.rows, grid.columns, grid.start)
    return models.PointStruct.model_construct(
        id=point_id(entry.id, entry.tenant),
        vector=vectors,
        payload=payload(entry, content_hash=content_hash, fingerprint=fingerprint, n_tokens=n_tokens, grid=place),
    )


def _rows(embedding: Embeddings, late: int) -> np.ndarray:
    if embedding.multivector is None:
        raise ValueError("its embedding has no multi-vector: encode with multivector=True")
    rows = embedding.multivector[0]
    _check(LATE, rows, 2)
    if rows.shape[1] != late:
        raise ValueError(f"the rows of its multi-vector have {rows.shape[1]} numbers; the collection's have {late}")
    return rows


def _fitted(rows: np.ndarray, grid: Grid | None, entry: Entry) -> tuple[np.ndarray, Grid | None]:
    """The rows, or as many means of neighbours as Qdrant takes; these have no grid any more."""
    most = limits.MAX_MULTIVECTOR_ELEMENTS // rows.shape[1]
    if len(rows) <= most:
        return rows, grid
    factor = -(-len(rows) // most)
    warnings.warn(
        f"{entry.source!r} {entry.unit} has {len(rows)} tokens; Qdrant takes at most {most} vectors, so the means of "
        f"{factor} neighbours each are stored. Split the text for finer matches.",
        stacklevel=3,
    )
    return neighbours(rows, factor), None


def pooled(
    multivector: Float32[np.ndarray, "tokens dim"], grid: Grid
) -> Float32[np.ndarray, "rows_and_columns_and_rest dim"]:
    """The means of the rows and of the columns of an image's patches, and the tokens around the patches."""
    end = grid.start + grid.rows * grid.columns
    around = np.concatenate([multivector[: grid.start], multivector[end:]])
    return np.concatenate([pool_rows(multivector, grid), pool_columns(multivector, grid), unit(around)])


def neighbours(
    multivector: Float32[np.ndarray, "tokens dim"], factor: int
) -> Float32[np.ndarray, "tokens_by_factor dim"]:
    """The means of `factor` consecutive tokens each, at unit length; the last may be of fewer."""
    starts = np.arange(0, len(multivector), factor)
    return unit(np.add.reduceat(multivector, starts, axis=0))  # a sum has the direction of the mean


def identity(stored: models.Record | models.ScoredPoint | models.PointStruct) -> Identity:
    """A stored item's id as the user knows it."""
    own: Mapping[str, Any] = (stored.payload or {}).get(OWN) or {}
    known: Identity = own.get("id", stored.id)
    return known


def stored_embeddings(records: Iterable[models.Record], names: Sequence[str]) -> dict[Identity, Embeddings]:
    """The vectors of points that have all of these names, `dense` first, by the ids that the user knows."""
    found: dict[Identity, Embeddings] = {}
    for record in records:
        vectors = record.vector if isinstance(record.vector, dict) else {}
        if not all(name in vectors for name in names):
            continue
        arrays = [np.asarray(vectors[name], np.float32) for name in names]
        place = ((record.payload or {}).get(OWN) or {}).get("grid")
        grid = None if place is None else Grid(*place)
        found[identity(record)] = Embeddings(arrays[0][None], tuple(arrays[1:]) or None, (grid,))
    return found


def has_id(ids: Iterable[Identity], tenant: str | None) -> models.HasIdCondition:
    """The condition for items by the ids that the user knows."""
    return models.HasIdCondition(has_id=[point_id(identity, tenant) for identity in ids])


def _check(name: str, vector: np.ndarray, ndim: int) -> None:
    if vector.ndim != ndim:
        raise ValueError(f"its {name} vector has {vector.ndim} axes, not {ndim}")
    if not len(vector) or not np.isfinite(vector).all():
        raise ValueError(f"its {name} vector " + ("contains NaN or infinity" if len(vector) else "is empty"))
    if not np.linalg.norm(vector, axis=-1).all():
        raise ValueError(f"its {name} vector contains a zero vector, which has no direction")
