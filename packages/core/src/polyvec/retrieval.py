"""Rank a dataset's documents for its queries with any `Encoder`: the loop of every evaluation. Imports no torch."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Int

from polyvec.data.folders import Dataset
from polyvec.encoder import Encoder, attempt
from polyvec.scoring import cosine, maxsim
from polyvec.types import Embeddings, Failure, Input, Side

__all__ = ["EncodedDataset", "Relevant", "encode_dataset", "grades", "ranking", "scores", "two_stage"]

Relevant = Mapping[int, int | float] | Set[int]  # documents by position: with their grades, or all alike


@dataclass(frozen=True, slots=True, eq=False)
class EncodedDataset:
    """The queries and documents of a dataset as vectors.

    Attributes:
        queries: dense vectors in full length.
        documents: as `queries`.
        relevant: for each query its relevant documents, by row of `documents`.
        left_out: the queries and documents of the dataset that are not among the vectors.
    """

    queries: Embeddings
    documents: Embeddings
    relevant: Sequence[Relevant]
    left_out: Sequence[Failure] = ()


def encode_dataset(encoder: Encoder, dataset: Dataset, *, task: str, show_progress: bool = False) -> EncodedDataset:
    """Encode a dataset, with multi-vectors if the encoder makes any.

    Documents and queries that cannot be read are left out, and so are queries without a relevant document among those
    that could be read.

    Raises:
        ValueError: no query is left.
    """

    def encode(inputs: list[Input], side: Side) -> Embeddings:
        multivector = encoder.multivector_dim > 0
        return encoder.encode(inputs, side=side, task=task, multivector=multivector, show_progress=show_progress)

    documents = attempt(partial(encode, side="document"), list(dataset.documents.values()))
    row = {index: row for row, index in enumerate(documents.kept)}
    relevant = [{row[index]: grade for index, grade in judged.items() if index in row} for judged in dataset.relevant]

    def query(index_and_text: tuple[int, str]) -> str:
        index, text = index_and_text
        if not grades(relevant[index], len(row)):
            raise ValueError("no relevant document of it could be read")
        return text

    queries = attempt(partial(encode, side="query"), list(enumerate(dataset.queries.values())), query)
    left_out = [
        replace(failure, source=f"{side} {ids[failure.index]!r}")
        for side, ids, failures in (
            ("document", list(dataset.documents), documents.failures),
            ("query", list(dataset.queries), queries.failures),
        )
        for failure in failures
    ]
    if not queries.kept:
        raise ValueError(f"nothing is left to search: {'; '.join(map(str, left_out[:3]))}")
    return EncodedDataset(
        queries.embeddings, documents.embeddings, [relevant[index] for index in queries.kept], left_out
    )


def scores(
    dataset: EncodedDataset,
    *,
    mode: Literal["dense", "late", "two-stage"],
    truncate_dim: int | None = None,
    candidates: int = 50,
) -> Float32[np.ndarray, "queries documents"]:
    """Score every document for every query; -inf for a document that a two-stage search does not fetch.

    Args:
        dataset: what is searched.
        mode: `"dense"` is the cosine of dense vectors, `"late"` is MaxSim, `"two-stage"` fetches candidates by dense
            vector and re-ranks them by MaxSim.
        truncate_dim: cut dense vectors to this many numbers.
        candidates: how many documents the first of two stages fetches.

    Raises:
        ValueError: the mode needs multi-vectors, and there are none.
    """
    queries, documents = dataset.queries, dataset.documents
    dense = partial(cosine, queries.dense[:, :truncate_dim], documents.dense[:, :truncate_dim])
    if mode == "dense":
        return dense()
    if queries.multivector is None or documents.multivector is None:
        raise ValueError(f"`mode` is {mode!r}; it needs multi-vectors, and these embeddings have none.")
    late = maxsim(queries.multivector, documents.multivector)
    return late if mode == "late" else two_stage(dense(), late, dataset.relevant, candidates=candidates)


def two_stage(
    first: Float[np.ndarray, "queries documents"],
    second: Float[np.ndarray, "queries documents"],
    relevant: Sequence[Relevant],
    *,
    candidates: int,
) -> Float[np.ndarray, "queries documents"]:
    """Return the scores of the second stage for the candidates of the first, and -inf for all other documents.

    A tie for the last candidate counts against the search, as in `ranking`.
    """
    reranked = np.full_like(second, -np.inf)
    for row, judged in enumerate(relevant):
        fetched = ranking(first[row], judged, n=candidates)
        reranked[row, fetched] = second[row, fetched]
    return reranked


def ranking(scores: Float[np.ndarray, " documents"], relevant: Relevant, *, n: int) -> Int[np.ndarray, " best"]:
    """Return the positions of the `n` documents with the highest scores, best first; all documents if there are fewer.

    Of equal scores the lower grade comes first, so that luck never improves a measure of the order.

    Raises:
        ValueError: a score is not a number, or a relevant document is unknown.
    """
    if np.isnan(scores).any():
        raise ValueError(f"the score of document {int(np.isnan(scores).argmax())} is not a number.")
    gains = np.zeros(len(scores))
    for index, grade in grades(relevant, len(scores)).items():
        gains[index] = grade
    cut = np.partition(scores, -n)[-n] if n < len(scores) else -np.inf  # sorts a few instead of all
    near = np.flatnonzero(scores >= cut)
    best: np.ndarray = near[np.lexsort((gains[near], -scores[near]))][:n]
    return best


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
