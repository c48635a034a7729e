"""What a search finds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qdrant_client import models

from polyvec.types import AnyTask
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
        content: the text; for an image what it says, if that is known, else its source.
        unit: which part of its source it is.
    """

    id: Identity
    score: float
    content: str
    metadata: dict[str, Any]
    source: str
    unit: str
    kind: Kind
    task: AnyTask


@dataclass(frozen=True, slots=True)
class Group:
    """The best results that have something in common.

    Attributes:
        value: what, for example their source.
        hits: best first.
    """

    value: str | int
    hits: list[Hit]


def hits(found: Sequence[models.ScoredPoint]) -> list[Hit]:
    """The points as results, in the same order."""
    return [_hit(point) for point in found]


def fingerprints(found: Sequence[models.ScoredPoint]) -> set[str | None]:
    """Which models made the points."""
    return {((point.payload or {}).get(OWN) or {}).get("fingerprint") for point in found}


def _hit(point: models.ScoredPoint) -> Hit:
    payload = point.payload or {}
    own, metadata = payload[OWN], payload.get("metadata") or {}
    return Hit(
        id=points.identity(point),
        score=point.score,
        content=payload.get("page_content", ""),
        metadata=metadata,
        source=metadata.get("source", ""),
        unit=own.get("unit", ""),
        kind=own.get("kind", "text"),
        task=own["task"],
    )
