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
_QUERIES = 192  # whose tokens are at work at a time


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
    take: Callable[[Multivectors], object] | None = None,
) -> Attempt:
    """Encode as `attempt` does, but some items at a time, so that few images are in memory.

    `take` is called with the multi-vectors of each part, to keep them elsewhere; the result has none then.
    """
    encode = partial(encoder.encode, side=side, task=task, multivector=multivector)
    empty = encode([])
    parts, kept, failures = [empty if take is None else replace(empty, multivector=None)], [], []
    with tqdm(total=len(items), desc="Encoding", unit="item", disable=not show_progress) as bar:
        for start in range(0, len(items), _WINDOW):
            window = items[start : start + _WINDOW]
            result = attempt(encode, window, convert)
            if take is not None:
                take(result.embeddings.multivector or ())
            parts.append(result.embeddings if take is None else replace(result.embeddings, multivector=None))
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
    best = _Best(len(queries), n)
    start = 0
    for part in documents:
        for first in range(0, len(queries), _QUERIES):
            best.add(first, start, maxsim(queries[first : first + _QUERIES], part))
        start += len(part)
    return best.until(start)


def best_documents(
    blocks: Iterable[Float[np.ndarray, "queries _"]], *, n_queries: int, n: int
) -> tuple[Int[np.ndarray, "queries best"], Float32[np.ndarray, "queries best"]]:
    """Merge blocks of scores: return the positions and scores of each query's `n` best documents, best first.

    A block has the scores of the next documents for all queries. Of equal scores the document that comes first wins, so
    the result does not depend on how the documents are divided. There are fewer columns if there are fewer documents.

    Raises:
        ValueError: `n` is less than 1, or a score is not a number.
    """
    best = _Best(n_queries, n)
    start = 0
    for block in blocks:
        for first in range(0, n_queries, _QUERIES):
            best.add(first, start, block[first : first + _QUERIES])
        start += block.shape[1]
    return best.until(start)


class _Best:
    """The best documents of each query so far. It holds the result and nothing else."""

    def __init__(self, n_queries: int, n: int) -> None:
        if n < 1:
            raise ValueError(f"`n` is {n}; it may be 1 or more.")
        self._n = n
        self._positions = np.zeros((n_queries, 0), np.int64)
        self._scores = np.zeros((n_queries, 0), np.float32)

    def add(self, first: int, start: int, scores: Float[np.ndarray, "queries documents"]) -> None:
        """Add scores of some queries, from query `first` on, for the documents from `start` on."""
        flawed = np.isnan(scores)
        if flawed.any():
            raise ValueError(f"the score of document {start + int(flawed.any(axis=0).argmax())} is not a number.")
        n_seen = min(start, self._n)
        self._widen(min(start + scores.shape[1], self._n))
        rows: Iterable[int] = range(len(scores))
        if n_seen == self._n:  # a document that ties with the last of these came later
            better = scores > self._scores[first : first + len(scores), -1:]
            rows = np.flatnonzero(better.any(axis=1)).tolist()
        for row in rows:
            new = np.flatnonzero(better[row]) if n_seen == self._n else np.arange(scores.shape[1])
            positions, best = self._positions[first + row], self._scores[first + row]
            candidates = np.concatenate([best[:n_seen], scores[row, new]])
            ranks = ranking(candidates, frozenset(), n=self._n)
            best[: len(ranks)] = candidates[ranks]
            positions[: len(ranks)] = np.concatenate([positions[:n_seen], start + new])[ranks]

    def _widen(self, width: int) -> None:
        missing = width - self._scores.shape[1]
        if missing > 0:  # until there are as many documents as results
            self._positions = np.pad(self._positions, ((0, 0), (0, missing)))
            self._scores = np.pad(self._scores, ((0, 0), (0, missing)))

    def until(self, n_documents: int) -> tuple[Int[np.ndarray, "queries best"], Float32[np.ndarray, "queries best"]]:
        """Return the positions and scores after all of `n_documents`."""
        width = min(n_documents, self._n)
        return self._positions[:, :width], self._scores[:, :width]


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
