"""Similarities of the samples: what belongs together is more similar than what does not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from polyvec.check.results import Result
from polyvec.check.samples import PAIRS, Pairs
from polyvec.encoder import Encoder
from polyvec.scoring import cosine, maxsim

__all__ = ["Similarities", "check_pairs", "similarities"]


_MARGIN = 0.02  # of right documents over the best wrong ones, on average


@dataclass(frozen=True, slots=True)
class Similarities:
    """Similarities of each query with each document of some pairs; right ones stand on the diagonals.

    Attributes:
        pairs: what was compared.
        dense_by_size: cosines, by the length of the vectors.
        late: late-interaction scores per query token.
    """

    pairs: Pairs
    dense_by_size: Mapping[int, Float32[np.ndarray, "queries documents"]]
    late: Float32[np.ndarray, "queries documents"]


def similarities(encoder: Encoder) -> list[Similarities]:
    """Compare the queries and documents of each kind of pairs whose task the encoder has."""
    compared = []
    for pairs in PAIRS:
        if pairs.task not in encoder.tasks:
            continue
        queries = encoder.encode_query(pairs.queries, task=pairs.task, multivector=True)
        documents = encoder.encode_document(pairs.documents, task=pairs.task, multivector=True)
        assert queries.multivector is not None, "they were requested"
        assert documents.multivector is not None, "they were requested"
        n_tokens = np.array([[len(rows)] for rows in queries.multivector], np.float32)
        dense = {size: cosine(queries.dense[:, :size], documents.dense[:, :size]) for size in encoder.sizes}
        compared.append(Similarities(pairs, dense, maxsim(queries.multivector, documents.multivector) / n_tokens))
    return compared


def check_pairs(compared: Similarities) -> Iterator[Result]:
    """Check that each query is clearly most similar to its own document, dense at every size, and late."""
    name = compared.pairs.name
    full, *shorter = sorted(compared.dense_by_size, reverse=True)
    yield Result(f"{name}, dense", *_ranked(compared.dense_by_size[full]))
    if shorter:
        ranked = {size: _ranked(compared.dense_by_size[size]) for size in shorter}
        detail = "; ".join(f"{size}: {text}" for size, (_, text) in ranked.items())
        yield Result(f"{name}, shorter", all(holds for holds, _ in ranked.values()), detail)
    yield Result(f"{name}, late", *_ranked(compared.late))


def _ranked(scores: Float32[np.ndarray, "queries documents"]) -> tuple[bool, str]:
    right = scores.diagonal()
    wrong = np.where(np.eye(len(scores), dtype=bool), -np.inf, scores).max(axis=1)  # the best of each query
    shown = ", ".join(f"{own:.2f} against {other:.2f}" for own, other in zip(right, wrong, strict=True))
    n_right, margin = int((right > wrong).sum()), float((right - wrong).mean())
    text = f"{n_right} of {len(scores)} right: {shown}"
    if n_right == len(scores) and margin < _MARGIN:
        text += f"; the mean difference is {margin:.3f}, at least {_MARGIN} is needed"
    return n_right == len(scores) and margin >= _MARGIN, text
