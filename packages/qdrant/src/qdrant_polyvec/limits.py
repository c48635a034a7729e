"""Limits of Qdrant, and how work is split to fit. The embedded engine checks none of them itself."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
from jaxtyping import Shaped
from qdrant_client import models

T = TypeVar("T")

MAX_MULTIVECTOR_ELEMENTS = 2**20 - 1  # compiled into the server: rows × size, which is 8191 rows of 128
MAX_REQUEST_BYTES = 16 * 2**20  # half of what a server accepts by default
MAX_OPERATION_BYTES = 8 * 2**20  # one entry of the embedded engine's log; larger ones make reopening slow
MAX_METADATA_DEPTH = 64  # below the next, since metadata is nested in a payload, and payloads in requests
MAX_PAYLOAD_DEPTH = 100  # the engine writes 128 levels and more to its log, and cannot read them again
REST_BYTES_PER_FLOAT = 21  # a float32 as JSON
BINARY_BYTES_PER_FLOAT = 4  # in the engine and over gRPC


def batches(items: Iterable[T], n_bytes: Callable[[T], int], max_bytes: int | Callable[[], int]) -> Iterator[list[T]]:
    """Split into groups of at most `max_bytes`, a function if it may change meanwhile; a larger item stays alone."""
    batch: list[T] = []
    filled = 0
    for item in items:
        size = n_bytes(item)
        if batch and filled + size > (max_bytes if isinstance(max_bytes, int) else max_bytes()):
            yield batch
            batch, filled = [], 0
        batch.append(item)
        filled += size
    if batch:
        yield batch


def flaw(vector: Shaped[np.ndarray, "..."]) -> str | None:
    """Say what makes a vector (1-D) or multi-vector (2-D) unfit to store or to search with; None if it is fit."""
    if vector.ndim == 2 and vector.size > MAX_MULTIVECTOR_ELEMENTS:
        rows, size = vector.shape
        most = MAX_MULTIVECTOR_ELEMENTS // size
        return f"has {rows} rows of {size}; Qdrant accepts at most {most}. Split the text or shrink the image"
    if not np.isfinite(vector).all():
        return "contains NaN or infinity"
    return None


def depth(value: object) -> int:
    """Count how deep JSON values are nested, up to one more than `MAX_PAYLOAD_DEPTH`."""
    deepest, level = 0, [value]
    while level and deepest <= MAX_PAYLOAD_DEPTH:
        nested = [value for value in level if isinstance(value, dict | list)]
        level = [item for value in nested for item in (value.values() if isinstance(value, dict) else value)]
        deepest += bool(nested)
    return deepest


def n_floats(vectors: object) -> int:
    """Count the numbers in a point's vector or vectors, and the indices of sparse vectors."""
    if isinstance(vectors, dict):
        return sum(map(n_floats, vectors.values()))
    if isinstance(vectors, np.ndarray):
        return vectors.size
    if isinstance(vectors, models.SparseVector):
        return 2 * len(vectors.indices)
    if not isinstance(vectors, list) or not vectors:
        return 0
    return len(vectors) * (len(vectors[0]) if isinstance(vectors[0], list | np.ndarray) else 1)
