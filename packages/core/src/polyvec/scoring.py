"""Scores between embeddings, in numpy. Nothing here knows a model."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Float32, Real, UInt8

__all__ = ["asymmetric_cosine", "cosine", "hamming_similarity", "maxsim", "signs", "unit"]

_CHUNK_ROWS = 32_768  # document tokens per matrix product: larger ones fall out of the cache and are slower
_CHUNK_NUMBERS = 1 << 20  # bytes or numbers of packed documents at work at a time; they stay in the cache
_N_BITS = np.array([value.bit_count() for value in range(256)], np.uint8)
_n_bits: Callable[[np.ndarray], np.ndarray] = getattr(np, "bitwise_count", _N_BITS.__getitem__)  # numpy 1 has none


def cosine(
    queries: Real[np.ndarray, "queries dim"], documents: Real[np.ndarray, "documents dim"]
) -> Float32[np.ndarray, "queries documents"]:
    """Return the cosine of every query with every document. A zero vector has cosine 0 with everything."""
    scores: np.ndarray = unit(queries) @ unit(documents).T
    return scores


def hamming_similarity(
    queries: UInt8[np.ndarray, "queries bytes"], documents: UInt8[np.ndarray, "documents bytes"]
) -> Float32[np.ndarray, "queries documents"]:
    """Return 1 − 2 · (bits that differ) / dim: the cosine of the vectors of ±1 that packed sign bits stand for.

    Both sides come from `polyvec.compression.binary`.
    """
    n_differing = np.empty((len(queries), len(documents)), np.float32)
    for start, chunk in _row_chunks(documents, documents.shape[1]):
        for index, query in enumerate(queries):
            n_differing[index, start : start + len(chunk)] = _n_bits(chunk ^ query).sum(axis=1, dtype=np.int32)
    scores: np.ndarray = 1 - n_differing / np.float32(4 * documents.shape[1])  # half of its bits
    return scores


def asymmetric_cosine(
    queries: Real[np.ndarray, "queries dim"], documents: UInt8[np.ndarray, "documents dim//8"]
) -> Float32[np.ndarray, "queries documents"]:
    """Return the cosine of queries in full precision with the vectors of ±1 that packed documents stand for.

    Documents take no more room than for `hamming_similarity`, and queries are not rounded.
    """
    dim = queries.shape[1]
    scaled = unit(queries) / np.float32(np.sqrt(dim))  # the vectors of ±1 have length √dim
    scores = np.empty((len(queries), len(documents)), np.float32)
    for start, chunk in _row_chunks(documents, dim):
        scores[:, start : start + len(chunk)] = scaled @ signs(chunk).T
    return scores


def signs(packed: UInt8[np.ndarray, "items bytes"]) -> Float32[np.ndarray, "items bytes*8"]:
    """Unpack sign bits into vectors of +1 and −1."""
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1


def maxsim(
    queries: Sequence[Float[np.ndarray, "_ dim"]], documents: Sequence[Float[np.ndarray, "_ dim"]]
) -> Float32[np.ndarray, "queries documents"]:
    """Return late-interaction scores: the best document token of each query token, summed over the query's tokens.

    s(q, p) = Σ_i max_j q_i · p_j (arXiv 2506.18902, eq. 1), not divided by the number of query tokens. Vectors are
    not normalised: unit vectors make the terms cosines. Padding never takes part, so a score does not depend on what
    else is in the call. A query or a document without tokens scores 0.
    """
    scores = np.zeros((len(queries), len(documents)), np.float32)
    rows = [index for index, query in enumerate(queries) if len(query)]
    columns = [index for index, document in enumerate(documents) if len(document)]
    if not rows or not columns:
        return scores
    query_tokens = np.concatenate([queries[index] for index in rows]).astype(np.float32, copy=False)
    query_starts = _starts([len(queries[index]) for index in rows])
    for chunk in _chunks(columns, [len(documents[index]) for index in columns]):
        document_tokens = np.concatenate([documents[index] for index in chunk]).astype(np.float32, copy=False)
        document_starts = _starts([len(documents[index]) for index in chunk])
        similarities = query_tokens @ document_tokens.T  # (query tokens, document tokens)
        best = np.maximum.reduceat(similarities, document_starts, axis=1)  # (query tokens, documents)
        scores[np.ix_(rows, chunk)] = np.add.reduceat(best, query_starts, axis=0)
    return scores


def unit(rows: Real[np.ndarray, "rows dim"]) -> Float32[np.ndarray, "rows dim"]:
    """Scale each row to unit length. A zero row stays zero; a row with a NaN becomes NaN."""
    rows = rows.astype(np.float32, copy=False)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    units: np.ndarray = np.divide(rows, norms, out=np.zeros_like(rows), where=norms != 0)
    return units


def _chunks(indices: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    chunks: list[list[int]] = [[]]
    rows = 0
    for index, length in zip(indices, lengths, strict=True):
        if chunks[-1] and rows + length > _CHUNK_ROWS:
            chunks.append([])
            rows = 0
        chunks[-1].append(index)
        rows += length
    return chunks


def _starts(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths[:-1], dtype=np.intp)]).astype(np.intp)


def _row_chunks(rows: np.ndarray, n_numbers: int) -> list[tuple[int, np.ndarray]]:
    """Split rows into chunks that stay in the cache at `n_numbers` per row, each with the index of its first row."""
    step = max(1, _CHUNK_NUMBERS // n_numbers)
    return [(start, rows[start : start + step]) for start in range(0, len(rows), step)]
