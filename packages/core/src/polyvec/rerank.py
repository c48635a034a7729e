"""Late-interaction scores of documents for a query: stored multi-vectors are taken, other documents are encoded."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
from jaxtyping import Float32

from polyvec.encoder import Encoder, attempt
from polyvec.scoring import maxsim
from polyvec.types import Embeddings, Input
from polyvec.warning import warn

__all__ = ["scores", "stored_multivectors"]


class _Stored(Protocol):
    @property
    def id(self) -> str | int: ...
    @property
    def task(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...


_Document = TypeVar("_Document")
_StoredT = TypeVar("_StoredT", bound=_Stored)


def scores(
    query: Input,
    documents: Sequence[_Document],
    convert: Callable[[_Document], Input],
    *,
    encoder: Encoder,
    task: str,
    stored: Mapping[int, Float32[np.ndarray, "_ dim"]],
) -> Float32[np.ndarray, " documents"]:
    """Score documents by MaxSim per query token: the mean of each token's best cosine, from -1 to 1.

    A document that cannot be read, of which `convert` raises a `ValueError`, scores -inf, and a warning names the first
    one. `stored` has multi-vectors by position in `documents`; these documents are not encoded.

    Raises:
        ValueError: the encoder makes no multi-vectors.
    """
    query_rows = encoder.encode_query([query], task=task, multivector=True).multivector
    if query_rows is None:
        raise ValueError("this embedder makes no multi-vectors, so it cannot re-rank.")
    positions = [index for index in range(len(documents)) if index not in stored]
    encode = partial(encoder.encode_document, task=task, multivector=True)
    result = attempt(encode, [documents[index] for index in positions], convert)
    if result.failures:
        reason = result.failures[0].reason
        warn(f"{len(result.failures)} documents could not be read and come last; the first: {reason}.")
    encoded = zip((positions[index] for index in result.kept), result.embeddings.multivector or (), strict=True)
    rows = {**stored, **dict(encoded)}
    values = np.full(len(documents), -np.inf, np.float32)
    values[list(rows)] = maxsim(query_rows, list(rows.values()))[0] / len(query_rows[0])
    return values


def stored_multivectors(
    ids: Sequence[str | None],
    is_same: Callable[[int, _StoredT], bool],
    *,
    get: Callable[[list[str]], Iterable[_StoredT]],
    embeddings: Callable[[list[str | int]], Mapping[str | int, Embeddings]],
    encoder: Encoder,
    task: str,
) -> dict[int, Float32[np.ndarray, "_ dim"]]:
    """Read the multi-vectors of documents that a store holds unchanged, made by this encoder for this task.

    A document without an id is None in `ids`. `is_same` decides whether the document at a position is what is stored.
    `get` reads stored items by their ids, `embeddings` their multi-vectors; both leave out missing ones.

    Returns:
        Multi-vectors by position, for `scores`.
    """
    items = {
        str(item.id): item
        for item in get([key for key in ids if key is not None])
        if item.task == task and item.fingerprint == encoder.fingerprint
    }
    keys = {n: items[key].id for n, key in enumerate(ids) if key in items and is_same(n, items[key])}
    vectors = embeddings(list(keys.values())) if keys else {}
    rows = {n: vectors[key].multivector for n, key in keys.items() if key in vectors}
    return {n: multivector[0] for n, multivector in rows.items() if multivector is not None}
