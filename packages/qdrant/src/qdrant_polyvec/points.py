"""Convert items with their embeddings to Qdrant points, and back. Payloads are written and parsed here only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from qdrant_client import models

from polyvec import Embeddings, Grid
from polyvec.compression import pool_columns, pool_rows, truncate
from polyvec.pictures import Picture, mime_type
from polyvec.vectors import unit, unit_means
from polyvec.warning import warn
from qdrant_polyvec import bm25, limits, pictures
from qdrant_polyvec.checks import Entry, with_context
from qdrant_polyvec.fingerprint import Fingerprint
from qdrant_polyvec.items import Identity, Kind, earlier_point_id, point_id
from qdrant_polyvec.schema import BM25, DENSE, LATE, OWN, POOLED, RESERVED, Schema

__all__ = ["has_id", "identity"]

IS_NEW = {"status": "new"}


@dataclass(frozen=True, slots=True)
class Own:
    """The part of a payload that is ours. A stock store writes none: then the defaults hold."""

    fingerprint: str = ""  # of the model that made the vectors
    kind: Kind = "text"
    task: str = "retrieval"
    unit: str = ""
    content_hash: str = ""  # `Entry.digest`, which decides whether an item has changed
    n_tokens: int = 0  # number of vectors in the multi-vector
    grid: Sequence[int] | None = None  # rows, columns and start of the patches in the multi-vector, as in `Grid`
    tenant: str | None = None
    picture: Mapping[str, Any] | None = None  # of an image, as `pictures.to_stored` writes it
    context: str | None = None
    span: Sequence[int] | None = None  # of the text that the item was encoded in, which is not stored
    # The mark of what `polyvec index` made: `Item.root`, the digest then, and `IS_NEW` until that run has ended.
    file: Mapping[str, str] | None = None
    id: Identity | None = None  # the user's id, if the point's differs
    late: bool | None = None  # while `exchange` brings it over from the collection that was replaced

    @classmethod
    def of(cls, payload: Mapping[str, Any] | None) -> "Own":
        """Read our part of a payload. Keys of later versions are ignored."""
        stored = (payload or {}).get(OWN)
        known = stored if isinstance(stored, Mapping) else {}
        return cls(**{name: known[name] for name in cls.__slots__ if name in known})

    def stored(self) -> dict[str, Any]:
        """Return the stored form, without what is None; `grid` may be None."""
        return {name: value for name, value in asdict(self).items() if name == "grid" or value is not None}


def payload(
    entry: Entry, *, fingerprint: str, n_tokens: int, grid: Sequence[int] | None, is_new: bool = False
) -> dict[str, Any]:
    """Make the payload of a point; stock integrations read `page_content` and `metadata`.

    `is_new` says that its vectors are written with it.
    """
    own = Own(
        fingerprint=fingerprint,
        kind=entry.kind,
        task=entry.task,
        unit=entry.unit,
        content_hash=entry.digest,
        n_tokens=n_tokens,
        grid=None if grid is None else list(grid),
        tenant=entry.tenant,
        picture=_picture(entry),
        context=entry.context,
        span=None if entry.span is None else list(entry.span),
        file=entry.file if entry.root is None else _mark(entry, entry.root, is_new=is_new),
        id=None if entry.point_id == entry.id else entry.id,
    )
    content = entry.source if entry.words is None else entry.words
    return {**entry.payload, "page_content": content, "metadata": entry.metadata, OWN: own.stored()}


def _mark(entry: Entry, root: str, *, is_new: bool) -> dict[str, str]:
    mark = {"root": root, "digest": entry.digest}
    return mark | IS_NEW if is_new or is_marked_new(entry.file) else mark


def is_marked_new(mark: Mapping[str, str] | None) -> bool:
    """True for the mark of a part whose run has not ended: parts that go have not been looked at yet."""
    return mark is not None and mark.items() >= IS_NEW.items()


def _picture(entry: Entry) -> dict[str, Any] | None:
    """Return the stored form of an image's picture, with what its content says; None for a text."""
    if isinstance(entry.content, str):
        return None
    is_of_content = entry.embedding is None or not isinstance(entry.content, Path)
    facts = replace(
        entry.picture or Picture(),
        sha256=entry.hashed if is_of_content else None,
        mime_type=mime_type(entry.content) if isinstance(entry.content, Path | bytes) else None,
    )
    return pictures.to_stored(facts)


def in_place(entry: Entry, old: Mapping[str, Any]) -> Entry:
    """Return an item that names no unit as the part of its source that the stored item with its id is.

    Front ends show the unit among the metadata, where it is not kept once more.
    """
    own, metadata = Own.of(old), old.get("metadata") or {}
    if entry.unit or not own.unit:
        return entry
    is_shown = entry.metadata.get("unit") == own.unit and "unit" not in metadata
    kept = {name: value for name, value in entry.metadata.items() if name != "unit" or not is_shown}
    return replace(entry, unit=own.unit, metadata=kept)


def is_same_text(entry: Entry, old: Mapping[str, Any]) -> bool:
    """True if an item that names no context is the text of a stored item, whose context and span then hold on."""
    is_bare = isinstance(entry.content, str) and not entry.names_context and entry.span is None
    return is_bare and entry.embedding is None and Own.of(old).kind == "text" and words(old) == entry.words


def others(payload: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the part of a stored payload that the collection did not write itself."""
    return {key: value for key, value in (payload or {}).items() if key not in RESERVED}


def source(payload: Mapping[str, Any] | None) -> str:
    """Return the source of a stored item; empty if its payload does not say."""
    metadata = (payload or {}).get("metadata")
    return str(metadata.get("source", "")) if isinstance(metadata, Mapping) else ""


def words(payload: Mapping[str, Any] | None) -> str | None:
    """Return the text that a stored item is or, if it is an image, says; None if there is none."""
    content = (payload or {}).get("page_content")
    is_name = Own.of(payload).kind == "image" and content == source(payload)
    return content if isinstance(content, str) and not is_name else None


def sparse(words: str | None, context: str | None, language: str | None) -> models.SparseVector | None:
    """Return the BM25 vector of an item, which its context finds, too; None if it has no words."""
    return bm25.document(with_context(words, context), language) if words and language else None


def point(entry: Entry, embedding: Embeddings, *, schema: Schema, fingerprint: Fingerprint) -> models.PointStruct:
    """Make the point of an item from its `Embeddings`; a ValueError if vectors are missing, zero, not finite or misfit.

    Ready-made vectors of another model are misfit, too. The vectors stay arrays, which `upload` converts for each kind
    of client; a longer dense vector is truncated.
    """
    dense, grid = embedding.dense[0], embedding.grids[0]
    dim, late = fingerprint.dense, fingerprint.late
    if entry.embedding is not None and embedding.fingerprint not in ("", fingerprint.embedder):
        raise ValueError(
            f"its embedding is of the model {embedding.fingerprint!r}; the collection's vectors are of "
            f"{fingerprint.embedder!r}, and vectors of two models are not comparable"
        )
    _check(DENSE, dense, 1)
    if len(dense) < dim:
        raise ValueError(f"its dense vector has {len(dense)} numbers; the collection's have {dim}")
    vectors: dict[str, Any] = {DENSE: truncate(dense[None], dim)[0]}
    if late:
        rows, grid = _fitted(_rows(embedding, late), grid, entry)
        vectors[LATE] = unit(rows)
    if not all(vector.any(axis=-1).all() for vector in vectors.values()):
        raise ValueError("its vectors are zero once they are cut and scaled to unit length")
    if schema.pooled and grid is not None:
        vectors[POOLED] = pooled(rows, grid)
    if (bm25_vector := sparse(entry.words, entry.context, schema.bm25)) is not None:
        vectors[BM25] = bm25_vector
    n_tokens = len(vectors[LATE]) if late else 0
    return models.PointStruct.model_construct(
        id=entry.point_id,
        vector=vectors,
        payload=payload(
            entry,
            fingerprint=fingerprint.embedder,
            n_tokens=n_tokens,
            grid=None if grid is None else astuple(grid),
            is_new=True,
        ),
    )


def copied_point(entry: Entry, record: models.Record, schema: Schema) -> models.PointStruct:
    """Make the point of an item with the vectors of another one that has the same digest; its words are cut anew."""
    stored = record.vector if isinstance(record.vector, dict) else {}
    vectors: dict[str, Any] = {name: np.asarray(vector, np.float32) for name, vector in stored.items()}
    if (bm25_vector := sparse(entry.words, entry.context, schema.bm25)) is not None:
        vectors[BM25] = bm25_vector
    own = Own.of(record.payload)
    kept = payload(entry, fingerprint=own.fingerprint, n_tokens=own.n_tokens, grid=own.grid, is_new=True)
    return models.PointStruct.model_construct(id=entry.point_id, vector=vectors, payload=kept)


def _rows(embedding: Embeddings, late: int) -> np.ndarray:
    if embedding.multivector is None:
        raise ValueError("its embedding has no multi-vector: encode with multivector=True")
    rows = embedding.multivector[0]
    _check(LATE, rows, 2)
    if rows.shape[1] != late:
        raise ValueError(f"the rows of its multi-vector have {rows.shape[1]} numbers; the collection's have {late}")
    return rows


def _fitted(rows: np.ndarray, grid: Grid | None, entry: Entry) -> tuple[np.ndarray, Grid | None]:
    """Return the rows; if there are too many for Qdrant, means of neighbouring rows, and then no grid."""
    most = limits.MAX_MULTIVECTOR_ELEMENTS // rows.shape[1]
    if len(rows) <= most:
        return rows, grid
    factor = -(-len(rows) // most)
    warn(
        f"{entry.source!r} {entry.unit} has {len(rows)} tokens; Qdrant takes at most {most} vectors, so the means of "
        f"{factor} neighbours each are stored. Split the text for finer matches."
    )
    return neighbours(rows, factor), None


def pooled(
    multivector: Float32[np.ndarray, "tokens dim"], grid: Grid
) -> Float32[np.ndarray, "rows_and_columns_and_rest dim"]:
    """Average the rows and the columns of an image's patches; the tokens around the patches stay."""
    end = grid.start + grid.rows * grid.columns
    around = np.concatenate([multivector[: grid.start], multivector[end:]])
    return np.concatenate([pool_rows(multivector, grid), pool_columns(multivector, grid), unit(around)])


def neighbours(
    multivector: Float32[np.ndarray, "tokens dim"], factor: int
) -> Float32[np.ndarray, "tokens_by_factor dim"]:
    """Average `factor` consecutive tokens each, to unit length; the last mean may be of fewer."""
    return unit_means(multivector, np.arange(len(multivector)) // factor)


def identity(stored: models.Record | models.ScoredPoint | models.PointStruct) -> Identity:
    """Return a stored item's id as the user knows it."""
    own = Own.of(stored.payload).id
    known: Identity = stored.id if own is None else own  # type: ignore[assignment]  # a UUID only before it is stored
    return known


def identities(records: Iterable[models.Record | models.PointStruct]) -> list[Identity]:
    return [identity(record) for record in records]


def stored_embeddings(records: Iterable[models.Record], names: Sequence[str]) -> dict[Identity, Embeddings]:
    """Return the vectors of points that have all of these names, `dense` first, by the ids that the user knows."""
    embeddings: dict[Identity, Embeddings] = {}
    for record in records:
        vectors = record.vector if isinstance(record.vector, dict) else {}
        if not all(name in vectors for name in names):
            continue
        arrays = [np.asarray(vectors[name], np.float32) for name in names]
        own = Own.of(record.payload)
        grids = (None if own.grid is None else Grid(*own.grid),)
        late = tuple(arrays[1:]) or None
        embeddings[identity(record)] = Embeddings(arrays[0][None], late, grids, own.fingerprint)
    return embeddings


def has_id(ids: Iterable[Identity], tenant: str | None) -> models.Condition:
    """Select items by the ids that the user knows."""
    listed = list(ids)
    stored = models.HasIdCondition(has_id=[point_id(identity, tenant) for identity in listed])
    earlier = {identity: key for identity in listed if (key := earlier_point_id(identity, tenant)) is not None}
    if not earlier:
        return stored
    named = models.FieldCondition(key=f"{OWN}.id", match=models.MatchAny(any=list(map(str, earlier))))
    moved = models.Filter(must=[models.HasIdCondition(has_id=list(earlier.values())), named])
    return models.Filter(should=[stored, moved])


def _check(name: str, vector: np.ndarray, ndim: int) -> None:
    if vector.ndim != ndim:
        raise ValueError(f"its {name} vector has {vector.ndim} axes, not {ndim}")
    if not len(vector) or not np.isfinite(vector).all():
        raise ValueError(f"its {name} vector " + ("contains NaN or infinity" if len(vector) else "is empty"))
    if not vector.any(axis=-1).all():
        raise ValueError(f"its {name} vector contains a zero vector, which has no direction")
