"""Scores between embeddings and measures of a search, in numpy. Nothing here knows a model."""

from collections.abc import Callable, Mapping, Sequence, Set

import numpy as np
from jaxtyping import Float, Float32, Int, Real, UInt8

Relevant = Mapping[int, int | float] | Set[int]  # documents by index: with their grades, or all alike

_CHUNK_ROWS = 32_768  # document tokens per matrix product: larger ones fall out of the cache and are slower
_CHUNK_NUMBERS = 1 << 20  # bytes or numbers of packed documents at work at a time; they stay in the cache
_N_BITS = np.array([value.bit_count() for value in range(256)], np.uint8)
_n_bits: Callable[[np.ndarray], np.ndarray] = getattr(np, "bitwise_count", _N_BITS.__getitem__)  # numpy 1 has none


def cosine(
    queries: Real[np.ndarray, "queries dim"], documents: Real[np.ndarray, "documents dim"]
) -> Float32[np.ndarray, "queries documents"]:
    """Cosine similarity of every query with every document. A zero vector has similarity 0 with everything."""
    scores: np.ndarray = unit(queries) @ unit(documents).T
    return scores


def hamming_similarity(
    queries: UInt8[np.ndarray, "queries bytes"], documents: UInt8[np.ndarray, "documents bytes"]
) -> Float32[np.ndarray, "queries documents"]:
    """1 − 2 · (bits that differ) / dim: the cosine of the vectors of ±1 that packed sign bits stand for.

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
    """Cosine of queries in full precision with the vectors of ±1 that packed documents stand for.

    Documents take no more room than for `hamming_similarity`, and what the query knows is not rounded away.
    """
    dim = queries.shape[1]
    asked = unit(queries) / np.float32(np.sqrt(dim))
    scores = np.empty((len(queries), len(documents)), np.float32)
    for start, chunk in _row_chunks(documents, dim):
        scores[:, start : start + len(chunk)] = asked @ signs(chunk).T
    return scores


def signs(packed: UInt8[np.ndarray, "items bytes"]) -> Float32[np.ndarray, "items bytes*8"]:
    """The vectors of +1 and −1 that packed sign bits stand for."""
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1


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


def unit(rows: Real[np.ndarray, "rows dim"]) -> Float32[np.ndarray, "rows dim"]:
    """Each row at unit length; a zero row stays zero, and one with a NaN is NaN."""
    rows = rows.astype(np.float32, copy=False)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    units: np.ndarray = np.divide(rows, norms, out=np.zeros_like(rows), where=norms != 0)
    return units


def ndcg(scores: Float[np.ndarray, "queries documents"], relevant: Sequence[Relevant], *, k: int) -> float:
    """Mean over queries of nDCG@k = DCG / (DCG of the best order), where DCG = Σ grade / log2(1 + rank).

    Args:
        scores: of every query with every document.
        relevant: per query the indices of its relevant documents, with their grades or all alike. A grade that is not
            positive counts as not relevant.
        k: ranks beyond it count for nothing.

    Ties count against the search: of equal scores the lower grade is ranked first.

    Raises:
        ValueError: there are no queries, one has no relevant document or an unknown one, or a score is not a number.
    """
    if not len(scores) or len(scores) != len(relevant):
        raise ValueError(f"there are {len(scores)} queries and judgements for {len(relevant)}; give one or more each.")
    found = []
    for index, (row, judged) in enumerate(zip(scores, relevant, strict=True)):
        grades = _grades(judged, len(row))
        if not grades:
            raise ValueError(f"query {index} has no relevant document; leave such queries out.")
        gained = [grades.get(int(document), 0.0) for document in ranking(row, grades, n=k)]
        found.append(_dcg(gained) / _dcg(sorted(grades.values(), reverse=True)[:k]))
    return float(np.mean(found))


def ranking(scores: Float[np.ndarray, " documents"], relevant: Relevant, *, n: int) -> Int[np.ndarray, " best"]:
    """Indices of the `n` documents with the highest scores, best first; all of them where there are fewer.

    Of equal scores the lower grade comes first, so that a measure taken on the order is never luck.

    Raises:
        ValueError: a score is not a number, or a relevant document is unknown.
    """
    if np.isnan(scores).any():
        raise ValueError(f"the score of document {int(np.isnan(scores).argmax())} is not a number.")
    gains = np.zeros(len(scores))
    for index, grade in _grades(relevant, len(scores)).items():
        gains[index] = grade
    cut = np.partition(scores, -n)[-n] if n < len(scores) else -np.inf  # sorts a few instead of all
    near = np.flatnonzero(scores >= cut)
    best: np.ndarray = near[np.lexsort((gains[near], -scores[near]))][:n]
    return best


def _dcg(gains: Sequence[float]) -> float:
    return float(sum(gain / np.log2(1 + rank) for rank, gain in enumerate(gains, start=1)))


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
    """Some rows at a time with the place of the first, such that `n_numbers` for each row are not too many."""
    step = max(1, _CHUNK_NUMBERS // n_numbers)
    return [(start, rows[start : start + step]) for start in range(0, len(rows), step)]


def _grades(relevant: Relevant, n_documents: int) -> dict[int, float]:
    """The grade of each document that is relevant."""
    grades = dict(relevant) if isinstance(relevant, Mapping) else dict.fromkeys(relevant, 1.0)
    for index in grades:
        if not 0 <= index < n_documents:
            raise ValueError(f"document {index} is relevant, but there are {n_documents} documents.")
    return {index: grade for index, grade in grades.items() if grade > 0}
