"""Scores between embeddings, in numpy. Nothing here knows a model."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32

_CHUNK_ROWS = 32_768  # document tokens per matrix product: larger ones fall out of the cache and are slower


def cosine(
    queries: Float[np.ndarray, "queries dim"], documents: Float[np.ndarray, "documents dim"]
) -> Float32[np.ndarray, "queries documents"]:
    """Cosine similarity of every query with every document. A zero vector has similarity 0 with everything."""
    scores: np.ndarray = _unit(queries) @ _unit(documents).T
    return scores


def maxsim(
    queries: Sequence[Float[np.ndarray, "_ dim"]],
    documents: Sequence[Float[np.ndarray, "_ dim"]],
) -> Float32[np.ndarray, "queries documents"]:
    """Late-interaction score: for each query token its best document token, summed over the query's tokens.

    s(q, p) = Σ_i max_j q_i · p_j (arXiv 2506.18902, eq. 1), not divided by the number of query tokens. Vectors are
    used as given: unit vectors make the terms cosines. Padding never takes part, so a score does not depend on what
    else is in the call. A query or a document without tokens scores 0.
    """
    scores = np.zeros((len(queries), len(documents)), np.float32)
    asked = [index for index, query in enumerate(queries) if len(query)]
    stored = [index for index, document in enumerate(documents) if len(document)]
    if not asked or not stored:
        return scores
    query_tokens = np.concatenate([queries[index] for index in asked]).astype(np.float32, copy=False)
    query_starts = _starts([len(queries[index]) for index in asked])
    for chunk in _chunks(stored, [len(documents[index]) for index in stored]):
        document_tokens = np.concatenate([documents[index] for index in chunk]).astype(np.float32, copy=False)
        document_starts = _starts([len(documents[index]) for index in chunk])
        similarities = query_tokens @ document_tokens.T  # (query tokens, document tokens)
        best = np.maximum.reduceat(similarities, document_starts, axis=1)  # (query tokens, documents)
        scores[np.ix_(asked, chunk)] = np.add.reduceat(best, query_starts, axis=0)
    return scores


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


def _unit(rows: Float[np.ndarray, "rows dim"]) -> Float32[np.ndarray, "rows dim"]:
    rows = rows.astype(np.float32, copy=False)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    units: np.ndarray = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return units
