"""Collection: texts and images that can be searched, kept in Qdrant."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
from jaxtyping import Float32
from qdrant_client import QdrantClient, models
from tqdm import tqdm

from polyvec.prompts import check_task
from polyvec.types import Embeddings, Encoder, Grid, Input, Task, UnreadableInputs
from qdrant_polyvec import limits, points, schema
from qdrant_polyvec.fingerprint import Fingerprint
from qdrant_polyvec.items import Failure, Identity, Item, Kind, checked_items, content_hash, point_id
from qdrant_polyvec.location import Location, is_simulated, open_client
from qdrant_polyvec.query import Mode, check_search, plan
from qdrant_polyvec.schema import LATE, OWN


@dataclass(frozen=True, slots=True)
class Report:
    """What became of each item that was added.

    Attributes:
        ok: ids of the items that were stored, or whose metadata was.
        skipped: ids of the items that were there already, unchanged.
        failed: the others.
    """

    ok: list[Identity] = field(default_factory=list)
    skipped: list[Identity] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a search.

    Attributes:
        id: as given to `add`, or derived from source, unit and task.
        score: cosine in mode `dense`, otherwise MaxSim, which grows with the number of query tokens.
        content: the text; for an image its source.
        unit: which part of its source it is.
    """

    id: Identity
    score: float
    content: str
    metadata: dict[str, Any]
    source: str
    unit: str
    kind: Kind
    task: Task


class Collection:
    """Texts and images under one name, each with a dense vector and a multi-vector. Get one by `Collection.open`."""

    def __init__(
        self, client: QdrantClient, name: str, embedder: Encoder, *, truncate_dim: int | None, owns_client: bool
    ) -> None:
        self.client = client
        self.name = name
        self.embedder = embedder
        self._truncate_dim = truncate_dim
        self._owns_client = owns_client

    @classmethod
    def open(cls, location: Location, name: str, *, embedder: Encoder, truncate_dim: int | None = None) -> Self:
        """Open a collection; create it if it does not exist.

        Args:
            location: a folder, the URL of a server, `":memory:"` for tests, or a `QdrantClient`, which stays open
                when the collection is closed.
            name: the collection's name.
            embedder: makes the vectors; it must be the one that the collection was created with.
            truncate_dim: length of the dense vectors, if shorter than the embedder's own.

        Raises:
            FolderLockedError: the folder is open in another client.
            FingerprintError: the collection holds another model's vectors.
            SchemaError: a collection of that name has other kinds of vectors.
        """
        fingerprint = Fingerprint.of(embedder, truncate_dim)
        dense, late = fingerprint.dense, fingerprint.late
        client = open_client(location)
        owns_client = client is not location
        with contextlib.ExitStack() as on_error:
            if owns_client:
                on_error.callback(client.close)
            if client.collection_exists(name):
                config = client.get_collection(name).config
                fingerprint.check(name, config.metadata)
                schema.check(name, config.params.vectors, dense=dense, late=late)
            else:
                schema.create(client, name, dense=dense, late=late, metadata=fingerprint.metadata())
            on_error.pop_all()
        return cls(client, name, embedder, truncate_dim=truncate_dim, owns_client=owns_client)

    def close(self) -> None:
        """Write everything to disk and release the folder. A client that was handed in stays open."""
        if self._owns_client:
            self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(
        self,
        inputs: Sequence[Input],
        *,
        task: Task = "retrieval",
        ids: Sequence[Identity] | None = None,
        sources: Sequence[str] | None = None,
        units: Sequence[str] | None = None,
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        batch_size: int = 64,
        show_progress: bool = False,
    ) -> Report:
        """Encode and store texts and images; what is there already, unchanged, is not encoded again.

        An interrupted call can simply be repeated. An item that cannot be read or stored does not stop the others.

        Args:
            inputs: a string is text, always; an image is a `Path`, `bytes`, a PIL image or a numpy array.
            task: the embedder's task to encode for; searches find items of their own task only.
            ids: any strings, or unsigned integers; an item replaces a stored one of the same id. Without them,
                source, unit and task identify an item.
            sources: where each item comes from. Without them: the metadata's `source`, the path of a file, or a hash
                of the content.
            units: which part of its source each item is, such as a page. Without them, the items of a named source
                are numbered.
            metadatas: JSON values to keep with each item.
            batch_size: how many items are encoded and stored at a time.
            show_progress: show a progress bar.

        Raises:
            TypeError: `inputs` is not a sequence of texts and images.
            ValueError: an unknown task, arguments of different lengths, bad ids or metadata. Nothing is stored then.
        """
        if batch_size < 1:
            raise ValueError(f"`batch_size` is {batch_size}; it must be at least 1.")
        items = checked_items(inputs, task=task, ids=ids, sources=sources, units=units, metadatas=metadatas)
        report = Report()
        seen: dict[Identity, str] = {}
        with tqdm(total=len(items), unit="item", disable=not show_progress) as progress:
            for start in range(0, len(items), batch_size):
                batch = items[start : start + batch_size]
                self._add_batch(batch, task, seen, report)
                progress.update(len(batch))
        return report

    def search(
        self,
        query: Input,
        *,
        limit: int = 5,
        mode: Mode = "two-stage",
        task: Task = "retrieval",
        filter: models.Filter | None = None,  # noqa: A002 — Qdrant's word
        candidates: int | None = None,
    ) -> list[Hit]:
        """The items of a task that suit a text or an image best, best first.

        Args:
            query: a string is text, always; an image is a `Path`, `bytes`, a PIL image or a numpy array.
            limit: how many items at most.
            mode: `dense` compares single vectors, `late` scores every multi-vector by MaxSim, `two-stage` takes the
                best `candidates` by dense vector and orders them by MaxSim.
            task: as it was given to `add`.
            filter: Qdrant's conditions on the payload; a user's metadata is under the key `metadata`.
            candidates: for `two-stage`; 100 or four times `limit`, whichever is more, unless given.

        Raises:
            ValueError: an unknown mode or task, a bad limit, or a query that cannot be read.
        """
        check_task(task)
        check_search(mode, limit=limit, candidates=candidates)
        if isinstance(query, list | tuple):
            raise TypeError("`query` is one text or image; search for several one by one.")
        asked = self.embedder.encode_query(
            [query], task=task, truncate_dim=self._truncate_dim, multivector=mode != "dense"
        )
        request = plan(
            mode,
            asked.dense[0],
            None if asked.multivector is None else asked.multivector[0],
            task=task,
            limit=limit,
            candidates=candidates,
            filter=filter,
        )
        found = self.client.query_points(
            self.name,
            query=request.query,
            using=request.using,
            prefetch=request.prefetch,
            query_filter=request.filter,
            search_params=None if is_simulated(self.client) else request.params,
            limit=limit,
            with_payload=True,
        )
        return [_hit(point) for point in found.points]

    def count(self) -> int:
        """How many items there are, of all tasks."""
        return self.client.count(self.name).count

    def delete(
        self,
        *,
        ids: Sequence[Identity] | None = None,
        sources: Sequence[str] | None = None,
        task: Task | None = None,
        keep: Sequence[Identity] = (),
    ) -> int:
        """Delete items by their ids, or all items of some sources; returns how many.

        Args:
            ids: which items.
            sources: all items from these; give either `ids` or `sources`.
            task: only items of this task.
            keep: ids that stay. After adding a source's present parts, `sources=[source], keep=their_ids` removes
                the parts that are no more.
        """
        chosen = sources if ids is None else ids
        if chosen is None or (ids is not None and sources is not None) or isinstance(chosen, str):
            raise TypeError("give either `ids` or `sources`, as a list.")
        if not chosen:
            return 0
        must: list[models.Condition] = []
        if sources is not None:
            must.append(models.FieldCondition(key="metadata.source", match=models.MatchAny(any=list(sources))))
        else:
            must.append(_has_id(chosen))
        if task is not None:
            check_task(task)
            must.append(models.FieldCondition(key=f"{OWN}.task", match=models.MatchValue(value=task)))
        condition = models.Filter(must=must, must_not=[_has_id(keep)] if keep else None)
        n_deleted = self.client.count(self.name, condition).count
        if n_deleted:
            self.client.delete(self.name, models.FilterSelector(filter=condition))
        return n_deleted

    def multivector(self, id: Identity) -> tuple[Float32[np.ndarray, "tokens dim"], Grid | None]:  # noqa: A002
        """A stored item's multi-vector, and where an image's patches stand in it.

        Raises:
            LookupError: no item has this id.
        """
        found = self.client.retrieve(self.name, [point_id(id)], with_payload=True, with_vectors=[LATE])
        if not found or not isinstance(found[0].vector, dict):
            raise LookupError(f"Collection {self.name!r} has no multi-vector of {id!r}.")
        return np.asarray(found[0].vector[LATE], dtype=np.float32), points.stored_grid(found[0])

    def _add_batch(self, items: Sequence[Item], task: Task, seen: dict[Identity, str], report: Report) -> None:
        changed = self._changed(_distinct(items, seen, report), report)
        if not changed:
            return
        embeddings, kept, unreadable = self._encode([item.input for item, _ in changed], task)
        report.failed.extend(changed[index][0].failure(reason) for index, reason in unreadable.items())
        structs = self._points([changed[index] for index in kept], embeddings, report)
        for batch in limits.batches(structs, _rest_bytes, limits.MAX_REQUEST_BYTES):
            self.client.upsert(self.name, batch, wait=True)
            report.ok.extend(map(points.identity, batch))

    def _points(
        self, items: Sequence[tuple[Item, str]], embeddings: Embeddings, report: Report
    ) -> Iterator[models.PointStruct]:
        """One by one: as lists of Python numbers, vectors take eight times the memory that they have as arrays."""
        if embeddings.multivector is None:
            raise TypeError(f"{type(self.embedder).__name__} returned no multi-vectors though it was asked for them.")
        encoded = zip(items, embeddings.dense, embeddings.multivector, embeddings.grids, strict=True)
        for (item, digest), dense, multivector, grid in encoded:
            try:
                yield points.point(
                    item, dense, multivector, grid, content_hash=digest, fingerprint=self.embedder.fingerprint
                )
            except ValueError as error:
                report.failed.append(item.failure(str(error)))

    def _changed(self, items: Sequence[tuple[Item, str]], report: Report) -> list[tuple[Item, str]]:
        """Those to encode. Where only the metadata differ, they are replaced here."""
        ids = [point_id(item.id) for item, _ in items]
        stored = (
            {record.id: record for record in self.client.retrieve(self.name, ids, with_payload=True)} if ids else {}
        )
        changed = []
        for identity, (item, digest) in zip(ids, items, strict=True):
            old = (stored[identity].payload or {}) if identity in stored else {}
            own = old.get(OWN, {})
            if [own.get(key) for key in ("content_hash", "fingerprint", "task")] != [
                digest,
                self.embedder.fingerprint,
                item.task,
            ]:
                changed.append((item, digest))
                continue
            new = points.payload(
                item,
                content_hash=digest,
                fingerprint=self.embedder.fingerprint,
                n_tokens=own["n_tokens"],
                grid=own["grid"],
            )
            if new == old:
                report.skipped.append(item.id)
            else:
                self.client.overwrite_payload(self.name, new, points=[identity], wait=True)
                report.ok.append(item.id)
        return changed

    def _encode(self, inputs: Sequence[Input], task: Task) -> tuple[Embeddings, Sequence[int], Mapping[int, str]]:
        """The embeddings, which inputs they belong to, and what is wrong with the others."""
        try:
            embeddings = self.embedder.encode_document(
                inputs, task=task, truncate_dim=self._truncate_dim, multivector=True
            )
        except UnreadableInputs as error:
            return error.embeddings, error.kept, error.failed
        return embeddings, range(len(inputs)), {}


def _distinct(items: Sequence[Item], seen: dict[Identity, str], report: Report) -> list[tuple[Item, str]]:
    """Readable items with their content's hash, the first of each id."""
    distinct = []
    for item in items:
        try:
            digest = content_hash(item.input)
        except OSError as error:
            report.failed.append(item.failure(f"cannot be read: {error.strerror or error}"))
            continue
        identity = point_id(item.id)
        if identity not in seen:
            seen[identity] = digest
            distinct.append((item, digest))
        elif seen[identity] == digest:
            report.skipped.append(item.id)
        else:
            report.failed.append(item.failure("an earlier item of this call has the same id and other content"))
    return distinct


def _rest_bytes(struct: models.PointStruct) -> int:
    return limits.REST_BYTES_PER_FLOAT * limits.n_floats(struct.vector)


def _has_id(ids: Sequence[Identity]) -> models.HasIdCondition:
    return models.HasIdCondition(has_id=[point_id(identity) for identity in ids])


def _hit(point: models.ScoredPoint) -> Hit:
    payload = point.payload or {}
    own, metadata = payload[OWN], payload["metadata"]
    return Hit(
        id=points.identity(point),
        score=point.score,
        content=payload["page_content"],
        metadata=metadata,
        source=metadata["source"],
        unit=own["unit"],
        kind=own["kind"],
        task=own["task"],
    )
