"""Rank a dataset's documents for its queries with any `Encoder`: the loop of every evaluation. Imports no torch."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Float, Float32, Int
from tqdm import tqdm

from polyvec.data.datasets import Dataset
from polyvec.data.documents import loaded
from polyvec.encoder import Attempt, Encoder, attempt
from polyvec.inputs import checked_whole
from polyvec.scoring import cosine, maxsim
from polyvec.types import Embeddings, Failure, Input, Side

__all__ = [
    "EncodedDataset",
    "Mode",
    "Relevant",
    "Scores",
    "best_documents",
    "encode_dataset",
    "encode_items",
    "grades",
    "late_ranking",
    "ranking",
    "scores",
    "two_stage",
]

_Item = TypeVar("_Item")

Mode = Literal["dense", "late", "two-stage"]
Scores = Float[np.ndarray, "queries documents"]
Relevant = Mapping[int, int | float] | Set[int]  # documents by position: with their grades, or all alike
Multivectors = Sequence[Float32[np.ndarray, "_ _"]]

_WINDOW = 128  # items that are encoded together: a page of A4 at 150 dpi has 6.5 MB
_QUERIES = 512  # whose tokens are at work at a time
_MERGED = 1024  # scores per query that are merged at a time, at least: a merge looks at all of the best again


@dataclass(frozen=True, slots=True, eq=False)
class EncodedDataset:
    """A dataset as vectors.

    Attributes:
        relevant: for each query its relevant documents, by row of `documents`.
        left_out: the queries and documents that are not among the vectors, with reasons.
    """

    queries: Embeddings
    documents: Embeddings
    relevant: Sequence[Relevant]
    left_out: Sequence[Failure] = ()


def encode_dataset(
    encoder: Encoder, dataset: Dataset, *, task: str, dpi: float = 150, show_progress: bool = False
) -> EncodedDataset:
    """Encode a dataset, with multi-vectors if the encoder makes any. `dpi` is the resolution of pages of PDF files.

    Documents and queries that cannot be read are left out, and so are queries whose relevant documents are.

    Raises:
        ValueError: no query is left.
    """
    left_out: list[Failure] = []
    run = partial(encode_items, encoder, task=task, multivector=encoder.multivector_dim > 0)

    def encode(side: Side, ids: Sequence[str], convert: Callable[[int], Input]) -> Attempt:
        result = run(range(len(ids)), convert, side=side, show_progress=show_progress)
        left_out.extend(replace(failure, source=f"{side} {ids[failure.index]!r}") for failure in result.failures)
        return result

    ids = list(dataset.documents)
    documents = encode("document", ids, lambda index: loaded(dataset.documents[ids[index]], dpi=dpi))
    row = {index: row for row, index in enumerate(documents.kept)}
    relevant = [{row[index]: grade for index, grade in judged.items() if index in row} for judged in dataset.relevant]
    texts = list(dataset.queries.values())

    def query(index: int) -> str:
        if not any(grade > 0 for grade in relevant[index].values()):
            raise ValueError("no relevant document of it could be read")
        return texts[index]

    queries = encode("query", list(dataset.queries), query)
    if not queries.kept:
        raise ValueError(f"nothing is left to search: {'; '.join(map(str, left_out[:3]))}")
    judged = [relevant[index] for index in queries.kept]
    return EncodedDataset(queries.embeddings, documents.embeddings, judged, left_out)


def encode_items(
    encoder: Encoder,
    items: Sequence[_Item],
    convert: Callable[[_Item], Input],
    *,
    side: Side,
    task: str,
    multivector: bool,
    show_progress: bool = False,
) -> Attempt:
    """Encode as `attempt` does, but some items at a time, so that few images are in memory."""
    encode = partial(encoder.encode, side=side, task=task, multivector=multivector)
    parts, kept, failures = [encode([])], [], []
    with tqdm(total=len(items), desc="Encoding", unit="item", disable=not show_progress) as bar:
        for start in range(0, len(items), _WINDOW):
            window = items[start : start + _WINDOW]
            result = attempt(encode, window, convert)
            parts.append(result.embeddings)
            kept += [start + index for index in result.kept]
            failures += [replace(failure, index=start + failure.index) for failure in result.failures]
            bar.update(len(window))
    return Attempt(Embeddings.concatenate(parts), kept, failures)


def scores(dataset: EncodedDataset, *, mode: Mode, truncate_dim: int | None = None, candidates: int = 50) -> Scores:
    """Score every document for every query: by cosine of dense vectors, by MaxSim, or in two stages.

    Two-stage search fetches this many `candidates` by dense vector and re-ranks them by MaxSim; all other documents
    score -inf. `truncate_dim` cuts the dense vectors.

    Raises:
        ValueError: the mode needs multi-vectors, and there are none; an impossible `truncate_dim` or `candidates`.
    """
    if candidates < 1:
        raise ValueError(f"`candidates` is {candidates}; it may be 1 or more.")
    queries, documents = dataset.queries, dataset.documents
    if truncate_dim is not None:
        truncate_dim = checked_whole("truncate_dim", truncate_dim, queries.dense.shape[1], "numbers")
    dense = partial(cosine, queries.dense[:, :truncate_dim], documents.dense[:, :truncate_dim])
    if mode == "dense":
        return dense()
    if queries.multivector is None or documents.multivector is None:
        raise ValueError(f"`mode` is {mode!r}; it needs multi-vectors, and these embeddings have none.")
    late = maxsim(queries.multivector, documents.multivector)
    return late if mode == "late" else two_stage(dense(), late, dataset.relevant, candidates=candidates)


def two_stage(first: Scores, second: Scores, relevant: Sequence[Relevant], *, candidates: int) -> Scores:
    """Keep the second scores of the first stage's candidates; all others become -inf. Ties count as in `ranking`."""
    reranked = np.full_like(second, -np.inf)
    for row, judged in enumerate(relevant):
        fetched = ranking(first[row], judged, n=candidates)
        reranked[row, fetched] = second[row, fetched]
    return reranked


def ranking(scores: Float[np.ndarray, " documents"], relevant: Relevant, *, n: int) -> Int[np.ndarray, " best"]:
    """Return the positions of the `n` documents with the highest scores, best first; all documents if there are fewer.

    Of equal scores the lower grade comes first, so that luck never improves a measure of the order.

    Raises:
        ValueError: `n` is less than 1, a score is not a number, or a relevant document is unknown.
    """
    if n < 1:
        raise ValueError(f"`n` is {n}; it may be 1 or more.")
    if np.isnan(scores).any():
        raise ValueError(f"the score of document {int(np.isnan(scores).argmax())} is not a number.")
    gains = np.zeros(len(scores))
    for index, grade in grades(relevant, len(scores)).items():
        gains[index] = grade
    cut = np.partition(scores, -n)[-n] if n < len(scores) else -np.inf  # sorts a few instead of all
    near = np.flatnonzero(scores >= cut)
    best: np.ndarray = near[np.lexsort((gains[near], -scores[near]))][:n]
    return best


def late_ranking(
    queries: Multivectors, documents: Iterable[Multivectors], *, n: int
) -> tuple[Int[np.ndarray, "queries best"], Float32[np.ndarray, "queries best"]]:
    """Return the positions and the MaxSim scores of each query's `n` best documents, best first.

    The documents come in parts of any size, and only one part is in memory at a time. Queries are sliced, so a sequence
    may read them from disk. Memory beyond a part is that of the result. Ties and errors are those of `best_documents`.

    Raises:
        TypeError, ValueError: as `maxsim`.
    """

    def blocks() -> Iterable[Scores]:
        for part in documents:
            scores = np.empty((len(queries), len(part)), np.float32)
            for start in range(0, len(queries), _QUERIES):
                scores[start : start + _QUERIES] = maxsim(queries[start : start + _QUERIES], part)
            yield scores

    return best_documents(blocks(), n_queries=len(queries), n=n)


def best_documents(
    blocks: Iterable[Float[np.ndarray, "queries _"]], *, n_queries: int, n: int
) -> tuple[Int[np.ndarray, "queries best"], Float32[np.ndarray, "queries best"]]:
    """Merge blocks of scores: return the positions and scores of each query's `n` best documents, best first.

    A block has the scores of the next documents for all queries. Of equal scores the document that comes first wins, so
    the result does not depend on how the documents are divided. There are fewer columns if there are fewer documents.

    Raises:
        ValueError: `n` is less than 1, or a score is not a number.
    """
    if n < 1:
        raise ValueError(f"`n` is {n}; it may be 1 or more.")
    positions, best = np.zeros((n_queries, 0), np.int64), np.zeros((n_queries, 0), np.float32)
    pending: list[np.ndarray] = []
    n_seen = n_merged = 0

    def merge() -> tuple[np.ndarray, np.ndarray]:
        candidates = np.concatenate([best, *pending], axis=1)
        ranks = np.zeros((n_queries, min(n, candidates.shape[1])), np.int64)
        for row, values in enumerate(candidates):
            ranks[row] = ranking(values, frozenset(), n=n)
        new = np.broadcast_to(np.arange(n_merged, n_seen), (n_queries, n_seen - n_merged))
        known = np.concatenate([positions, new], axis=1)
        return np.take_along_axis(known, ranks, axis=1), np.take_along_axis(candidates, ranks, axis=1)

    for block in blocks:
        pending.append(block)
        n_seen += block.shape[1]
        if n_seen - n_merged >= max(n, _MERGED):
            positions, best = merge()
            pending, n_merged = [], n_seen
    return merge() if pending else (positions, best)


def grades(relevant: Relevant, n_documents: int) -> dict[int, float]:
    """Return the grade of each relevant document; a grade that is not positive counts as not relevant.

    Raises:
        ValueError: a document is not among the `n_documents`.
    """
    judged = dict(relevant) if isinstance(relevant, Mapping) else dict.fromkeys(relevant, 1.0)
    for index in judged:
        if not 0 <= index < n_documents:
            raise ValueError(f"document {index} is relevant, but there are {n_documents} documents.")
    return {index: grade for index, grade in judged.items() if grade > 0}
