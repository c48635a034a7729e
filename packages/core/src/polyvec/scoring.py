"""Scores between embeddings, in numpy. Nothing here knows a model."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float32, Real, UInt8

from polyvec.vectors import Kind, decoded, kind_of, signs, unit

__all__ = ["asymmetric_cosine", "cosine", "hamming_similarity", "maxsim", "pairwise_cosine", "signs", "unit"]

_CHUNK_ROWS = 1_024  # document tokens per matrix product
_CHUNK_SIMILARITIES = 1 << 19  # numbers per matrix product of MaxSim: the maxima of larger ones miss the cache
_CHUNK_NUMBERS = 1 << 20  # numbers of either side at work at a time; they stay in the cache
_N_BITS = np.array([value.bit_count() for value in range(256)], np.uint8)
_n_bits: Callable[[np.ndarray], np.ndarray] = getattr(np, "bitwise_count", _N_BITS.__getitem__)  # numpy 1 has none

_Unit = Callable[[int, np.ndarray], np.ndarray]  # rows and the index of the first → rows to multiply


def cosine(
    queries: Real[np.ndarray, "queries dim"], documents: Real[np.ndarray, "documents dim"]
) -> Float32[np.ndarray, "queries documents"]:
    """Return the cosine of every query with every document. A zero vector has cosine 0 with everything.

    Either side may be vectors of any length or codes of `polyvec.compression.int8`.

    Raises:
        TypeError: a side is no array.
        ValueError: a side has not two axes, holds packed bits or a number that is not finite, or the sides differ in
            dimension.
    """
    _check_sides("cosine", queries, documents)
    return _products(queries, documents, partial(_units, "queries"), partial(_units, "documents"))


def pairwise_cosine(
    queries: Real[np.ndarray, "pairs dim"], documents: Real[np.ndarray, "pairs dim"]
) -> Float32[np.ndarray, " pairs"]:
    """Return the cosine of each query with the document in the same row; otherwise as `cosine`.

    Raises:
        TypeError, ValueError: as `cosine`; also if the sides differ in length.
    """
    _check_sides("pairwise_cosine", queries, documents)
    if len(queries) != len(documents):
        raise ValueError(f"there are {len(queries)} queries and {len(documents)} documents; give one document each.")
    scores = np.empty(len(queries), np.float32)
    for start, chunk in _row_chunks(queries, queries.shape[1]):
        end = start + len(chunk)
        others = _units("documents", start, documents[start:end])
        scores[start:end] = np.einsum("ij,ij->i", _units("queries", start, chunk), others)
    return scores


def hamming_similarity(
    queries: UInt8[np.ndarray, "queries bytes"], documents: UInt8[np.ndarray, "documents bytes"]
) -> Float32[np.ndarray, "queries documents"]:
    """Return 1 − 2 · (bits that differ) / dim: the cosine of the vectors of ±1 that packed sign bits stand for.

    Both sides come from `polyvec.compression.binary`.

    Raises:
        TypeError: a side is no array.
        ValueError: a side has not two axes or holds no packed bits, or the sides differ in dimension.
    """
    _check_sides("hamming_similarity", queries, documents)
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

    Raises:
        TypeError: a side is no array.
        ValueError: as `cosine`; here `queries` may not be packed bits, and `documents` must be.
    """
    _check_sides("asymmetric_cosine", queries, documents)
    length = np.float32(np.sqrt(queries.shape[1]))  # of the vectors of ±1

    def scaled(start: int, rows: np.ndarray) -> np.ndarray:
        shortened: np.ndarray = _units("queries", start, rows) / length
        return shortened

    return _products(queries, documents, scaled, lambda _, rows: signs(rows))


def maxsim(
    queries: Sequence[Real[np.ndarray, "_ _"]], documents: Sequence[Real[np.ndarray, "_ _"]]
) -> Float32[np.ndarray, "queries documents"]:
    """Return late-interaction scores: the best document token of each query token, summed over the query's tokens.

    s(q, p) = Σ_i max_j q_i · p_j (arXiv 2506.18902, eq. 1), not divided by the number of query tokens. Vectors are
    not normalised: unit vectors make the terms cosines. Padding never takes part, so a score does not depend on what
    else is in the call. A query or a document without tokens scores 0.

    A multi-vector may also consist of codes of `polyvec.compression.int8` or packed bits of `binary`. They stand for
    unit vectors.

    Raises:
        TypeError: a side is no sequence of arrays.
        ValueError: a multi-vector has not two axes or has a number that is not finite, dimensions differ, or a score is
            too large for float32.
    """
    dims: dict[int, str] = {}
    _note_dims(dims, "queries", queries)
    _note_dims(dims, "documents", documents)
    if len(dims) > 1:
        (dim, name), (other_dim, other) = list(dims.items())[:2]
        raise ValueError(
            f"the vectors of {name} have {dim} numbers, and those of {other} have {other_dim}; they must have equally "
            "many. (uint8 means packed bits, eight numbers to a byte.)"
        )
    scores = np.zeros((len(queries), len(documents)), np.float32)
    rows = [index for index, query in enumerate(queries) if len(query)]
    columns = [index for index, document in enumerate(documents) if len(document)]
    if not rows or not columns:
        return scores
    query_tokens = np.concatenate([decoded("queries", queries[index]) for index in rows])
    query_lengths = [len(queries[index]) for index in rows]
    query_by_token = np.repeat(rows, query_lengths)
    blocks: dict[int, list[tuple[slice, np.ndarray, np.ndarray]]] = {}  # by their size, which is mostly one
    space = np.empty(0, np.float32)  # of one product; new room for each would cost time
    for chunk in _chunks(columns, [len(documents[index]) for index in columns], _CHUNK_ROWS):
        document_tokens = np.concatenate([decoded("documents", documents[index]) for index in chunk])
        document_starts = _starts([len(documents[index]) for index in chunk])
        size = max(1, _CHUNK_SIMILARITIES // max(len(document_tokens), _CHUNK_ROWS))
        if size not in blocks:
            slices = _blocks(query_lengths, size)
            blocks[size] = [(block, *np.unique(query_by_token[block], return_index=True)) for block in slices]
        for block, members, starts in blocks[size]:
            with np.errstate(over="ignore", invalid="ignore"):  # numbers that are refused below
                n_similarities = (block.stop - block.start) * len(document_tokens)
                if n_similarities > len(space):
                    space = np.empty(n_similarities, np.float32)
                similarities = space[:n_similarities].reshape(-1, len(document_tokens))
                np.matmul(query_tokens[block], document_tokens.T, out=similarities)
            best = np.maximum.reduceat(similarities, document_starts, axis=1)  # (query tokens, documents)
            scores[members[:, None], chunk] += np.add.reduceat(best, starts, axis=0)
    if not np.isfinite(scores).all():
        _check_finite("queries", queries)
        _check_finite("documents", documents)
        raise ValueError("a score is too large for float32; scale the vectors to unit length, as `unit` does.")
    return scores


def _check_sides(function: str, queries: object, documents: object) -> None:
    """Refuse rows that the function does not compare, and name the function that does."""
    kinds = kind_of("queries", queries), kind_of("documents", documents)
    right = {
        (False, False): ("cosine", "pairwise_cosine"),
        (True, True): ("hamming_similarity",),
        (False, True): ("asymmetric_cosine",),
    }.get((kinds[0] == "bits", kinds[1] == "bits"), ("asymmetric_cosine, with the two sides exchanged",))
    assert isinstance(queries, np.ndarray)
    assert isinstance(documents, np.ndarray)
    if function not in right:
        raise ValueError(
            f"`{function}` does not compare {kinds[0]} ({queries.dtype}) with {kinds[1]} ({documents.dtype}); use "
            f"{right[0]}. (uint8 means packed bits.)"
        )
    dim, other = (_dim(rows, kind) for rows, kind in zip((queries, documents), kinds, strict=True))
    if dim != other or not dim:
        raise ValueError(
            f"the queries have {dim} numbers each and the documents {other}; both sides must come from one model and "
            "have the same size, at least 1."
        )


def _dim(rows: np.ndarray, kind: Kind) -> int:
    n_columns: int = rows.shape[1]
    return n_columns * 8 if kind == "bits" else n_columns


def _note_dims(dims: dict[int, str], name: str, multivectors: object) -> None:
    """Check the multi-vectors of one side, and note the name of the first that has a dimension."""
    if not isinstance(multivectors, Sequence | np.ndarray) or isinstance(multivectors, str | bytes):
        raise TypeError(
            f"`{name}` is a {type(multivectors).__name__}; it must be a list of multi-vectors, such as "
            "`embeddings.multivector` of a call with `multivector=True`."
        )
    for index, rows in enumerate(multivectors):
        kind = kind_of(f"{name}[{index}]", rows)
        if len(rows) and _dim(rows, kind) not in dims:
            dims[_dim(rows, kind)] = f"`{name}[{index}]`"


def _check_finite(name: str, multivectors: Sequence[np.ndarray]) -> None:
    for index, rows in enumerate(multivectors):
        if not np.isfinite(rows).all():
            raise ValueError(f"`{name}[{index}]` has a number that is not finite; make the vectors anew.")


def _units(name: str, start: int, rows: np.ndarray) -> np.ndarray:
    """Scale rows to unit length; `start` is the index of the first row for the message of an error."""
    units = unit(rows)
    flawed = np.isnan(units[:, 0])
    if flawed.any():
        raise ValueError(
            f"row {start + int(flawed.argmax())} of `{name}` has a number that is not finite; make the vectors anew."
        )
    return units


def _products(queries: np.ndarray, documents: np.ndarray, left: _Unit, right: _Unit) -> np.ndarray:
    """Multiply every query with every document, chunk by chunk."""
    scores = np.empty((len(queries), len(documents)), np.float32)
    dim = queries.shape[1]
    for row, some in _row_chunks(queries, dim):
        factors = left(row, some)
        for column, others in _row_chunks(documents, dim):
            scores[row : row + len(some), column : column + len(others)] = factors @ right(column, others).T
    return scores


def _blocks(lengths: Sequence[int], most: int) -> Iterator[slice]:
    """Divide the tokens of all queries into blocks of at most `most`. Only longer queries are divided themselves."""
    starts = _starts(lengths).tolist()
    for chunk in _chunks(range(len(lengths)), lengths, most):
        end = starts[chunk[-1]] + lengths[chunk[-1]]
        yield from (slice(start, min(start + most, end)) for start in range(starts[chunk[0]], end, most))


def _chunks(indices: Sequence[int], lengths: Sequence[int], most: int) -> list[list[int]]:
    """Group items in order, each group of at most `most` rows; an item with more rows is a group of its own."""
    chunks: list[list[int]] = [[]]
    rows = 0
    for index, length in zip(indices, lengths, strict=True):
        if chunks[-1] and rows + length > most:
            chunks.append([])
            rows = 0
        chunks[-1].append(index)
        rows += length
    return chunks


def _starts(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths[:-1], dtype=np.intp)]).astype(np.intp)


def _row_chunks(rows: np.ndarray, n_numbers: int) -> Iterator[tuple[int, np.ndarray]]:
    """Split rows into chunks that stay in the cache at `n_numbers` per row, each with the index of its first row."""
    step = max(1, _CHUNK_NUMBERS // n_numbers)
    return ((start, rows[start : start + step]) for start in range(0, len(rows), step))
