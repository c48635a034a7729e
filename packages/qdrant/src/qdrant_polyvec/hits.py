"""What a search finds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from qdrant_client import models

from qdrant_polyvec import points
from qdrant_polyvec.items import Identity, Kind
from qdrant_polyvec.schema import OWN


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a search.

    Attributes:
        id: as given to `add`, or derived from source, unit and task.
        score: cosine in mode `dense`, otherwise MaxSim, which grows with the number of query tokens; where several
            tasks were searched, what reciprocal rank fusion made of the ranks.
        relevance: the score on a scale from 0 to 1 that does not depend on the length of the query:
            (1 + score / n) / 2, where n is the number of query tokens, or 1 in mode `dense`. None where several tasks
            were searched.
        content: the text; for an image what it says, if that is known, else its source.
        unit: which part of its source it is.
        payload: what `Item.payload` was.
    """

    id: Identity
    score: float
    relevance: float | None
    content: str
    metadata: dict[str, Any]
    source: str
    unit: str
    kind: Kind
    task: str
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """An item as it is kept; the meanings are those of `Hit`.

    Attributes:
        fingerprint: which model made its vectors; empty if a stock store added it.
    """

    id: Identity
    content: str
    metadata: dict[str, Any]
    source: str
    unit: str
    kind: Kind
    task: str
    fingerprint: str
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """The best results that have something in common.

    Attributes:
        value: what, for example their source.
        hits: best first.
    """

    value: str | int
    hits: list[Hit]


def hits(found: Sequence[models.ScoredPoint], n_terms: int | None) -> list[Hit]:
    """The points as results, in the same order.

    Args:
        found: what the engine found.
        n_terms: how many cosines a score is the sum of; None if it is none.
    """
    relevances = [None if n_terms is None else relevance(point.score / n_terms) for point in found]
    return [
        Hit(score=point.score, relevance=known, **_facts(point)) for point, known in zip(found, relevances, strict=True)
    ]


def relevance(similarity: float) -> float:
    """A cosine, or a mean of cosines, on a scale from 0 to 1; rounding does not lead out of it."""
    return min(max((1 + similarity) / 2, 0.0), 1.0)


def stored(found: Sequence[models.Record]) -> list[Stored]:
    """The points as items, in the same order."""
    return [
        Stored(fingerprint=((record.payload or {}).get(OWN) or {}).get("fingerprint", ""), **_facts(record))
        for record in found
    ]


def fingerprints(found: Sequence[models.ScoredPoint]) -> set[str | None]:
    """Which models made the points."""
    return {((point.payload or {}).get(OWN) or {}).get("fingerprint") for point in found}


def _facts(point: models.Record | models.ScoredPoint) -> dict[str, Any]:
    payload = point.payload or {}
    own, metadata = payload.get(OWN) or {}, payload.get("metadata") or {}
    return {
        "id": points.identity(point),
        "content": payload.get("page_content", ""),
        "metadata": metadata,
        "source": metadata.get("source", ""),
        "unit": own.get("unit", ""),
        "kind": own.get("kind", "text"),
        "task": own.get("task", "retrieval"),
        "payload": points.others(payload),
    }
