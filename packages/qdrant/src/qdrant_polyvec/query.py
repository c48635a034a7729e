"""The query plan: what one search asks of Qdrant."""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32
from qdrant_client import models

from polyvec.types import Task
from qdrant_polyvec import limits
from qdrant_polyvec.schema import DENSE, LATE, OWN

Mode = Literal["dense", "late", "two-stage"]
MODES: tuple[Mode, ...] = get_args(Mode)

# With a quantized multi-vector, re-ranking would score the quantized copies and not rescore.
_EXACT_SCORES = models.SearchParams(quantization=models.QuantizationSearchParams(ignore=True))


def check_search(mode: str, *, limit: int, candidates: int | None) -> None:
    """Refuse what cannot be planned, before a query is encoded.

    Raises:
        ValueError: an unknown mode, a limit below 1, or fewer candidates than `limit`.
    """
    if mode not in MODES:
        raise ValueError(f"`mode` is {mode!r}; it must be one of {', '.join(map(repr, MODES))}.")
    if limit < 1:
        raise ValueError(f"`limit` is {limit}; it must be at least 1.")
    if candidates is not None and candidates < limit:
        raise ValueError(f"`candidates` is {candidates}; it must be at least `limit`, which is {limit}.")


def plan(
    mode: Mode,
    dense: Float32[np.ndarray, " dim"],
    multivector: Float32[np.ndarray, "tokens late_dim"] | None,
    *,
    task: Task,
    limit: int,
    candidates: int | None = None,
    filter: models.Filter | None = None,  # noqa: A002 — the field's word
) -> models.QueryRequest:
    """One request, restricted to the task at every stage.

    `dense` searches the dense vectors, by graph once there is one. `late` scores every multi-vector by MaxSim.
    `two-stage` takes the best `candidates` by dense vector (100 or four times `limit`, whichever is more, unless
    given) and orders them by MaxSim.

    Raises:
        ValueError: the vectors are not finite, or a multi-vector is needed and missing.
    """
    for name, vector in ((DENSE, dense), (LATE, multivector)):
        if vector is not None and (flaw := limits.flaw(vector)):
            raise ValueError(f"the query's {name} vector {flaw}.")
    within = restricted(task, filter)
    if mode == "dense":
        return models.QueryRequest(query=dense.tolist(), using=DENSE, filter=within, limit=limit, with_payload=True)
    if multivector is None:
        raise ValueError(f"mode {mode!r} needs the query's multi-vector.")
    prefetch = models.Prefetch(
        query=dense.tolist(), using=DENSE, filter=within, limit=candidates or max(100, 4 * limit)
    )
    return models.QueryRequest(
        prefetch=prefetch if mode == "two-stage" else None,
        query=multivector.tolist(),
        using=LATE,
        filter=within,
        params=_EXACT_SCORES,
        limit=limit,
        with_payload=True,
    )


def restricted(task: Task, filter: models.Filter | None) -> models.Filter:  # noqa: A002 — the field's word
    """Points of one task that also pass the filter; vectors of different tasks are not comparable."""
    of_task = models.FieldCondition(key=f"{OWN}.task", match=models.MatchValue(value=task))
    return models.Filter(must=[of_task] if filter is None else [of_task, filter])
