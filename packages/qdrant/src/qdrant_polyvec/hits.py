"""Points as items: results of searches, and items as they are stored."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from qdrant_client import models

from polyvec.pictures import Picture
from qdrant_polyvec import notebook, pictures, points
from qdrant_polyvec.items import Identity, Kind

__all__ = ["Group", "Hit", "Hits", "Stored"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An item as it is stored.

    Attributes:
        id: the id from `add`, or one derived from source, unit and task.
        content: the text. For an image: `Item.text`, if it has one, else its source.
        unit: which part of its source it is.
        fingerprint: of the model that made its vectors; empty if a stock store added it.
        payload: `Item.payload`.
        context: `Item.context`, which is no part of `content`.
        picture: where the picture of an image is; None for a text.
        tenant: whose item it is; None if it is nobody's. Items of several tenants may have one id.
    """

    id: Identity
    content: str
    metadata: dict[str, Any]
    source: str
    unit: str
    kind: Kind
    task: str
    fingerprint: str = ""
    payload: dict[str, Any] = field(default_factory=dict)
    context: str = ""
    picture: Picture | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit(Stored):
    """One result of a search: a stored item with its score.

    Attributes:
        score: cosine in mode `dense`, otherwise MaxSim, which grows with the number of query tokens; in mode `hybrid`
            and where several tasks were searched, the sum of reciprocal ranks.
        similarity: the score divided by the number of query tokens, that is, a mean of cosines; in mode `dense` the
            cosine. None where the score is a sum of reciprocal ranks.
    """

    score: float
    similarity: float | None

    def _repr_html_(self) -> str:
        return Hits([self])._repr_html_()


class Hits(list[Hit]):
    """The results of a search, best first. Notebooks show them as a table with pictures."""

    def _repr_html_(self) -> str:
        rows = [
            (
                notebook.text(rank),
                notebook.text(f"{hit.score:.3f}"),
                notebook.picture(hit.picture),
                notebook.text(hit.content if hit.content != hit.source else ""),
                notebook.text(
                    ": ".join(filter(None, [hit.source, hit.context, pictures.shown_unit(hit.unit, hit.picture)]))
                ),
            )
            for rank, hit in enumerate(self, start=1)
        ]
        return notebook.table(("rank", "score", "", "content", "source"), rows)


@dataclass(frozen=True, slots=True)
class Group:
    """The best results that share a value.

    Attributes:
        value: the value that they share, for example their source.
        hits: best first.
    """

    value: str | int
    hits: list[Hit]


def hits(scored: Sequence[models.ScoredPoint], n_terms: int | None) -> Hits:
    """Convert points to results, in the same order. Each score is a sum of `n_terms` cosines; None: it is none."""
    return Hits(
        Hit(score=point.score, similarity=None if n_terms is None else point.score / n_terms, **_facts(point))
        for point in scored
    )


def stored(records: Sequence[models.Record]) -> list[Stored]:
    """Convert points to items, in the same order."""
    return [Stored(**_facts(record)) for record in records]


def _facts(point: models.Record | models.ScoredPoint) -> dict[str, Any]:
    payload, own = point.payload or {}, points.Own.of(point.payload)
    return {
        "id": points.identity(point),
        "content": payload.get("page_content", ""),
        "metadata": payload.get("metadata") or {},
        "source": points.source(payload),
        "unit": own.unit,
        "kind": own.kind,
        "task": own.task,
        "fingerprint": own.fingerprint,
        "payload": points.others(payload),
        "context": own.context or "",
        "picture": pictures.of_stored(own.picture),
        "tenant": own.tenant,
    }
