"""Compare ways of storing vectors: bytes per item and nDCG of each, measured on a dataset of your own."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Int

from polyvec.compression import binary, int8, pool_columns, pool_rows, pool_tokens, truncate
from polyvec.evaluate.metrics import ndcg
from polyvec.evaluate.on_disk import on_disk
from polyvec.fusion import fused
from polyvec.retrieval import EncodedDataset, Relevant, Scores, ranking
from polyvec.scoring import asymmetric_cosine, cosine, hamming_similarity, maxsim
from polyvec.types import Embeddings, Grid

__all__ = ["POOL_FACTORS", "Choice", "Row", "choices", "compare", "late_choices", "merged", "reranked", "table"]

POOL_FACTORS = (2, 3, 4)
_PREFETCH = 10  # candidates of the first stage, in multiples of k
_SCORES = 1 << 24  # scores at a time


@dataclass(frozen=True, slots=True)
class Row:
    """One way of storing vectors.

    Attributes:
        kind: which vectors the search uses.
        choice: how they are stored; `a -> b` fetches candidates by a and re-ranks them by b.
        bytes_per_item: mean over documents of the size of the vectors, without ids or an index.
        ratio: how many times smaller that is than the first row of the kind, which is not compressed.
        ndcg: mean over queries.
        change: `ndcg` minus that of the first row of the kind.
    """

    kind: str
    choice: str
    bytes_per_item: float
    ratio: float
    ndcg: float
    change: float


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A way of storing vectors, with the search that it makes possible.

    Attributes:
        scores: of every document for some of the queries.
        pairs: for late interaction: scores of some documents for one query.
    """

    kind: str
    name: str
    bytes_per_item: float
    scores: Callable[[slice], Scores]
    pairs: Callable[[int, Int[np.ndarray, " rows"]], Float32[np.ndarray, " rows"]] | None = None


def compare(
    dataset: EncodedDataset, *, sizes: Sequence[int] = (), pool_factors: Sequence[float] = POOL_FACTORS, k: int = 5
) -> list[Row]:
    """Measure bytes per item and nDCG@k of each way of storing vectors. Ties count against it, as in `metrics.ndcg`.

    Late and two-stage rows need multi-vectors on both sides. The row of means of rows and columns needs a document with
    a grid; texts are not pooled there. Queries keep full precision in late interaction; dense vectors are compared in
    the precision of the row unless the row says otherwise. Two-stage search re-ranks the best 10 · k by dense vector.
    Only sizes that are multiples of 8 are packed into bits.

    The dense vectors of `dataset` have full length, beside which the Matryoshka `sizes` are tried. `pool_factors` of
    token pooling are tried in late interaction; pooling needs the extra `pooling`.

    Raises:
        ValueError: an impossible size or k, judgements that do not fit, or vectors that are not finite.
        ImportError: there are `pool_factors` and multi-vectors, but scipy is not installed.
    """
    if k < 1:
        raise ValueError(f"`k` is {k}; it may be 1 or more.")
    rows: list[Row] = []
    full_by_kind: dict[str, Row] = {}
    for choice in choices(dataset, sizes=sizes, pool_factors=pool_factors, candidates=_PREFETCH * k):
        value = _mean_ndcg(choice, dataset, k)
        row = Row(choice.kind, choice.name, choice.bytes_per_item, 1.0, value, 0.0)
        full = full_by_kind.setdefault(choice.kind, row)
        rows.append(replace(row, ratio=full.bytes_per_item / row.bytes_per_item, change=value - full.ndcg))
    return rows


def table(rows: Sequence[Row], *, k: int) -> str:
    """Write the rows as aligned text, at most 100 columns wide."""
    head = f"{'':<9}  {'choice':<46}  {'bytes/item':>10}  {'ratio':>6}  {f'nDCG@{k}':>8}  {'change':>7}"
    lines = [head, "-" * len(head)]
    lines += [
        f"{row.kind:<9}  {row.choice:<46}  {row.bytes_per_item:>10,.0f}  {row.ratio:>5.1f}×  {row.ndcg:>8.3f}  "
        f"{row.change:>+7.3f}"
        for row in rows
    ]
    return "\n".join(lines)


def choices(
    dataset: EncodedDataset,
    *,
    sizes: Sequence[int] = (),
    pool_factors: Sequence[float] = POOL_FACTORS,
    candidates: int = 100,
) -> Iterator[Choice]:
    """Yield the ways of storing vectors that `compare` measures, one at a time; two-stage searches come last.

    Two-stage search re-ranks this many `candidates`. A tie for the last candidate counts against the search. Raises as
    `compare`.
    """
    dim = dataset.documents.dense.shape[1]
    for size in sizes:
        if not 1 <= size <= dim:
            raise ValueError(f"`sizes` has {size}; these vectors can be cut to 1 to {dim} numbers.")
    sizes = sorted({dim, *sizes}, reverse=True)
    full, bits = f"{sizes[0]} float32", f"{sizes[0]} binary, float query"
    pairs = [(full, "float32"), (bits, "float16"), (bits, "int8")]
    pairs += [(bits, f"int8, pooled by {factor:g}") for factor in pool_factors]
    stages = {name for pair in pairs for name in pair}
    stage_by_name: dict[str, Choice] = {}  # only what a pair needs: stored vectors are large
    queries, documents = dataset.queries, dataset.documents
    for choice in itertools.chain(_dense(queries, documents, sizes), late_choices(queries, documents, pool_factors)):
        if choice.name in stages:
            stage_by_name[choice.name] = choice
        yield choice
    for pair in pairs:
        if all(name in stage_by_name for name in pair):
            first, second = (stage_by_name[name] for name in pair)
            n_bytes = first.bytes_per_item + second.bytes_per_item
            scores = reranked([first.scores], second, dataset.relevant, candidates=candidates)
            yield Choice("two-stage", f"{first.name} -> {second.name}", n_bytes, scores)


def reranked(
    firsts: Sequence[Callable[[slice], Scores]], second: Choice, relevant: Sequence[Relevant], *, candidates: int
) -> Callable[[slice], Scores]:
    """Return a search that scores the candidates of all first stages by the second; all others score -inf.

    A document that scores -inf in a first stage is no candidate of it. `second` has `pairs`.
    """

    def scores(block: slice) -> Scores:
        found = [first(block) for first in firsts]
        result = np.full(found[0].shape, -np.inf, np.float32)
        assert second.pairs is not None, "the second stage is late interaction"
        for row, query in enumerate(range(len(relevant))[block]):
            best = [ranking(stage[row], relevant[query], n=candidates) for stage in found]
            fetched = np.unique(
                np.concatenate([rows[stage[row, rows] > -np.inf] for stage, rows in zip(found, best, strict=True)])
            )
            result[row, fetched] = second.pairs(query, fetched)
        return result

    return scores


def merged(
    stages: Sequence[Callable[[slice], Scores]], relevant: Sequence[Relevant], *, k: int, candidates: int
) -> Callable[[slice], Scores]:
    """Return a search that fuses the `candidates` best of each stage by rank; all others score -inf.

    A document that scores -inf in a stage has no rank there.
    """

    def scores(block: slice) -> Scores:
        found = [stage(block) for stage in stages]
        result = np.empty(found[0].shape, np.float32)
        for row, query in enumerate(range(len(relevant))[block]):
            best = [ranking(stage[row], relevant[query], n=candidates) for stage in found]
            ranks = [rows[stage[row, rows] > -np.inf] for stage, rows in zip(found, best, strict=True)]
            result[row] = fused(ranks, len(result[row]), k=k)
        return result

    return scores


def _mean_ndcg(choice: Choice, dataset: EncodedDataset, k: int) -> float:
    n, size = len(dataset.queries), max(1, _SCORES // max(1, len(dataset.documents)))
    blocks = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    total = sum(
        ndcg(choice.scores(block), dataset.relevant[block], k=k) * (block.stop - block.start) for block in blocks
    )
    return total / n


def _dense(queries: Embeddings, documents: Embeddings, sizes: Sequence[int]) -> Iterator[Choice]:
    cuts = {size: (truncate(queries.dense, size), truncate(documents.dense, size)) for size in sizes}
    for size, cut in cuts.items():
        yield _compared(f"{size} float32", 4.0 * size, cosine, *cut)
    yield _compared(
        f"{sizes[0]} float16", 2.0 * sizes[0], cosine, *(side.astype(np.float16) for side in cuts[sizes[0]])
    )
    for size, cut in cuts.items():
        yield _compared(f"{size} int8", float(size), cosine, *map(int8, cut))
    packable = {size: cut for size, cut in cuts.items() if size % 8 == 0}
    for size, cut in packable.items():
        yield _compared(f"{size} binary", size / 8, hamming_similarity, *map(binary, cut))
    for size, (query_cut, document_cut) in packable.items():
        yield _compared(f"{size} binary, float query", size / 8, asymmetric_cosine, query_cut, binary(document_cut))


def _compared(
    name: str,
    bytes_per_item: float,
    similarity: Callable[[np.ndarray, np.ndarray], Scores],
    queries: np.ndarray,
    documents: np.ndarray,
) -> Choice:
    return Choice("dense", name, bytes_per_item, lambda block: similarity(queries[block], documents))


def late_choices(queries: Embeddings, documents: Embeddings, pool_factors: Sequence[float] = ()) -> Iterator[Choice]:
    """Yield the ways of storing multi-vectors; none if a side has none."""
    if queries.multivector is None or documents.multivector is None:
        return
    for name, stored in _stored(documents.multivector, documents.grids, pool_factors):
        yield _late(name, queries.multivector, stored)


def _late(name: str, queries: Sequence[np.ndarray], stored: Sequence[np.ndarray]) -> Choice:
    def pairs(query: int, rows: Int[np.ndarray, " rows"]) -> Float32[np.ndarray, " rows"]:
        scores: np.ndarray = maxsim([queries[query]], [stored[row] for row in rows])[0]
        return scores

    n_bytes = sum(tokens.nbytes for tokens in stored) / max(1, len(stored))
    return Choice("late", name, n_bytes, lambda block: maxsim(queries[block], stored), pairs)


def _stored(
    multivectors: Sequence[np.ndarray], grids: Sequence[Grid | None], pool_factors: Sequence[float]
) -> Iterator[tuple[str, Sequence[np.ndarray]]]:
    """Yield a name for each way of storing multi-vectors, and the stored arrays, on disk."""
    yield "float32", multivectors
    yield "float16", on_disk(tokens.astype(np.float16) for tokens in multivectors)
    yield "int8", on_disk(int8(tokens) for tokens in multivectors)
    if all(tokens.shape[1] % 8 == 0 for tokens in multivectors):
        yield "binary", on_disk(binary(tokens) for tokens in multivectors)
    for factor in pool_factors:
        pooled = on_disk(pool_tokens(tokens, factor) for tokens in multivectors)
        yield f"float32, pooled by {factor:g}", pooled
        yield f"int8, pooled by {factor:g}", on_disk(int8(tokens) for tokens in pooled)
    if any(grids):
        means = (
            tokens if grid is None else np.concatenate([pool_rows(tokens, grid), pool_columns(tokens, grid)])
            for tokens, grid in zip(multivectors, grids, strict=True)
        )
        yield "float32, means of rows and columns", on_disk(means)
