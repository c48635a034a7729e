"""Work on a whole collection: verify it, reindex it with another model, copy it elsewhere."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from qdrant_client import models
from tqdm import tqdm

from polyvec import Encoder, Input
from polyvec.alarms import pass_alarm
from polyvec.pictures import Picture
from polyvec.words import RULES
from qdrant_polyvec import exchange, limits, pictures, points
from qdrant_polyvec import schema as schemas
from qdrant_polyvec.binding import Binding, aliased, point_alias
from qdrant_polyvec.checks import Entry
from qdrant_polyvec.clients import Location, open_client
from qdrant_polyvec.cluster import Cluster
from qdrant_polyvec.fingerprint import Fingerprint
from qdrant_polyvec.ingest import Ingest, Writer, write_points
from qdrant_polyvec.items import Failure, Identity, Report
from qdrant_polyvec.points import Own
from qdrant_polyvec.schema import BM25, DENSE, LATE, LAYOUT, OWN, Schema, value_is
from qdrant_polyvec.settings import Settings

_PASSES = 5  # over a collection that others still add to
Load = Callable[[str, str], Input]  # source, unit → image, or the document of a part that was encoded in it


@dataclass(frozen=True, slots=True)
class Verification:
    """What is wrong with a collection.

    Attributes:
        n_points: number of points.
        without_dense: ids of points that have no dense vector.
        without_late: ids of points that have no multi-vector; stock stores add such points.
        foreign: ids of points whose vectors another or an unknown model made.
        orphans: ids of points whose source is not among the expected sources.
        leftovers: collections without an alias, from an interrupted `reindex`, or kept by it. To take an interrupted
            one up again, call `reindex` with its model and schema; `Collection.delete_leftovers` deletes them.
        unfinished: the leftover that is still to be brought over, because a `reindex` was interrupted after the
            exchange; `reindex` with the present model and schema finishes it. None if there is none.
        old_words: True if the BM25 vectors follow older rules of words; `reindex` makes them anew.
    """

    n_points: int
    without_dense: list[Identity]
    without_late: list[Identity]
    foreign: list[Identity]
    orphans: list[Identity]
    leftovers: list[str]
    unfinished: str | None = None
    old_words: bool = False

    @property
    def ok(self) -> bool:
        """True if nothing is wrong."""
        flaws = (self.without_dense, self.without_late, self.foreign, self.orphans, self.leftovers, self.old_words)
        return not any(flaws)


def verify(binding: Binding, sources: Iterable[str] | None) -> Verification:
    """See `Collection.verify`. Only points with a flaw are read."""

    def ids(condition: models.Filter) -> list[Identity]:
        pages = binding.scroll(condition, with_payload=[OWN])
        return [identity for page in pages for identity in points.identities(page)]

    ours = value_is(f"{OWN}.fingerprint", binding.fingerprint.embedder)
    orphans: list[Identity] = []
    if sources is not None:
        expected = models.FieldCondition(key="metadata.source", match=models.MatchAny(any=sorted(set(sources))))
        orphans = ids(binding.within(must_not=[expected]))
    has_late = models.HasVectorCondition(has_vector=LATE)
    return Verification(
        n_points=binding.count(binding.within()),
        without_dense=ids(binding.within(must_not=[models.HasVectorCondition(has_vector=DENSE)])),
        without_late=ids(binding.within(must_not=[has_late])) if binding.fingerprint.late else [],
        foreign=ids(binding.within(must_not=[ours])),
        orphans=orphans,
        leftovers=exchange.leftovers(binding),
        unfinished=exchange.needed(binding),
        old_words=binding.rules != RULES,
    )


def reindex(
    binding: Binding,
    embedder: Encoder,
    *,
    truncate_dim: int | None,
    schema: Schema,
    load: Load | None,
    batch_size: int,
    keep_old: bool,
    show_progress: bool,
) -> tuple[Binding, Report]:
    """See `Collection.reindex`. Returns the binding as it is afterwards: the old one if something failed."""
    if binding.tenant is not None:
        raise ValueError("`reindex` is for all tenants at once: open the collection without `tenant`.")
    binding = binding.working()
    settings = Settings.of(binding.client, binding.name, binding.engine)
    if binding.cluster.shard_key is not None or settings.is_sharded_by_key:
        raise ValueError(
            f"Collection {binding.name!r} is sharded by keys, and `reindex` would lose the key of each point. For each "
            "key, open it and the new collection with `cluster=Cluster(shard_key=…)`, and add or `copy_to` its items."
        )
    old_name = aliased(binding.client, binding.name)
    if old_name == binding.name:
        raise ValueError(
            f"{binding.name!r} is the collection itself, not an alias, so nothing can take its place at once: "
            "`copy_to` another name instead."
        )
    fingerprint = Fingerprint.of(embedder, truncate_dim)
    schema = replace(schema, indexed={**schemas.indexed_fields(settings.indexes), **schema.indexed})
    exchanged = replace(binding, embedder=embedder, fingerprint=fingerprint, schema=schema, rules=RULES, replaces=None)
    new = replace(exchanged, name=exchanged.new_name())
    unfinished = exchange.unfinished(binding, old_name)
    if new.name != old_name and unfinished is not None:
        raise ValueError(
            f"Collection {binding.name!r} is not of this model and schema, and {unfinished.name!r} is still to be "
            "brought over into it, because a `reindex` was interrupted. Call `reindex` with the present model and "
            "schema first, which finishes it; then call again."
        )
    if new.name == old_name and unfinished is None:
        raise ValueError(f"Collection {binding.name!r} is already of this model and schema: there is nothing to do.")
    schemas.check_server(binding.engine.version, schema)
    old = unfinished or exchange.bound(binding, old_name)
    _check_tasks(old, embedder)
    transfer = _Transfer(old, new, load, batch_size, show_progress=show_progress)
    if unfinished is None:
        new.create(new.name, settings)
        exchange.begin(old, new)
        transfer.run()
        if transfer.report.failed:
            return binding, transfer.report
        exchange.check_alias(binding, old)
        transfer.report.removed.extend(exchange.delete_vanished(old, new))
        exchange.check_alias(binding, old)
        new.create(new.name, Settings.of(binding.client, old.name, binding.engine))  # with indexes that are new
        point_alias(binding.client, binding.name, new.name, instead=True)
    transfer.run(partial(exchange.write_late, old, new))  # items that were added until the alias was moved
    if transfer.report.failed:
        return replace(exchanged, replaces=old.name), transfer.report
    exchange.finish(old, new, keep_old=keep_old)
    return exchanged, transfer.report


def _check_tasks(binding: Binding, embedder: Encoder) -> None:
    """Refuse an embedder that lacks the task of an item."""
    known = models.FieldCondition(key=f"{OWN}.task", match=models.MatchAny(any=list(embedder.tasks)))
    for page in binding.scroll(models.Filter(must_not=[known]), with_payload=[OWN]):
        for task in sorted({Own.of(record.payload).task for record in page}.difference(embedder.tasks)):
            raise ValueError(
                f"Collection {binding.name!r} has items of the task {task!r}; the new embedder knows "
                f"{', '.join(map(repr, embedder.tasks))}. Load an adapter for {task!r} (`load_adapter`, or --adapter "
                "on the command line), or delete these items."
            )


class _Transfer:
    """Encodes one collection's items into another one, and remembers the state in which it read each."""

    def __init__(self, old: Binding, new: Binding, load: Load | None, batch_size: int, *, show_progress: bool) -> None:
        self.report = Report()
        self._old, self._new, self._load = old, new, load
        self._batch_size, self._show_progress = batch_size, show_progress
        self._states: dict[object, int] = {}  # point id → hash of the payload
        of_vectors = old.schema.of_embedder, replace(old.fingerprint, schema=LAYOUT)
        self._same_vectors = of_vectors == (new.schema.of_embedder, new.fingerprint)

    def run(self, write: Writer | None = None) -> None:
        """Copy or encode new and changed items, repeatedly while others add, but not for ever.

        Args:
            write: writes the points. Default: `write_points`.
        """
        for _ in range(_PASSES):
            n_copied = self._copy(write or partial(write_points, self._new)) if self._same_vectors else 0
            if self.report.failed:
                return
            n_before = len(self._states)
            ingest = Ingest(self._new, batch_size=self._batch_size, write=write)
            total = self._old.client.count(self._old.name).count - n_before
            ingest.run(self._changes(), total=max(total, 0), show_progress=self._show_progress)
            self.report.ok.extend(ingest.report.ok)
            self.report.skipped.extend(ingest.report.skipped)
            self.report.failed.extend(ingest.report.failed)
            if self.report.failed or not (n_copied or ingest.report.ok or ingest.report.skipped):
                return

    def _copy(self, write: Writer) -> int:
        """Copy the new and changed items whose vectors stay as they are. Returns their number."""
        names = [DENSE, *([LATE] if self._new.fingerprint.late else [])]
        whole: list[models.Condition] = [models.HasVectorCondition(has_vector=name) for name in names]
        ours, n_copied = value_is(f"{OWN}.fingerprint", self._new.fingerprint.embedder), 0
        for page in self._old.scroll(models.Filter(must=[ours, *whole])):
            records = list(self._changed(page))
            _copy_page(records, self._old, self._new, self.report, write)
            n_copied += len(records)
        return n_copied

    def _changes(self) -> Iterator[Entry | Failure]:
        parts: list[tuple[str, int, int | str]] = []  # of documents, to be encoded together
        for page in self._old.scroll(models.Filter()):
            for record in self._changed(page):
                if span := Own.of(record.payload).span:
                    parts.append((points.source(record.payload), span[0], record.id))  # type: ignore[arg-type]  # no UUID
                else:
                    yield _stored_entry(record, self._load)
        ids = [point_id for _, _, point_id in sorted(parts, key=lambda part: part[:2])]
        for start in range(0, len(ids), self._batch_size):
            page_ids = ids[start : start + self._batch_size]
            records = {record.id: record for record in self._old.retrieve(page_ids)}
            yield from (_stored_entry(records[point_id], self._load) for point_id in page_ids if point_id in records)

    def _changed(self, page: Sequence[models.Record]) -> Iterator[models.Record]:
        """Yield the records of a page that are new or have changed, and remember their states.

        What an earlier call brought over is not read again from where it came. What was deleted and added again in the
        same state is missing in the new collection.
        """
        stored = {record.id: record.payload for record in self._new.retrieve([record.id for record in page])}
        for record in page:
            state = hash(json.dumps(record.payload, sort_keys=True))
            is_known = self._states.get(record.id) == state
            self._states[record.id] = state
            if record.id in stored and is_known:
                continue
            if exchange.is_same(record.payload, stored.get(record.id), self._new.fingerprint.embedder):
                self.report.skipped.append(points.identity(record))
            else:
                yield record


def copy(
    binding: Binding,
    location: Location,
    name: str,
    *,
    schema: Schema | None,
    cluster: Cluster | None,
    show_progress: bool,
) -> Report:
    """See `Collection.copy_to`."""
    binding = binding.working()
    schema = schema or binding.schema
    if (schema.pooled, schema.bm25) != (binding.schema.pooled, binding.schema.bm25):
        raise ValueError(f"a copy makes no vectors: {schema} has others than {binding.schema}. `reindex` it first.")
    client = open_client(location)
    with contextlib.ExitStack() as stack:
        if client is not location:
            stack.callback(client.close)
        target = Binding.open(
            client,
            name,
            embedder=None,
            fingerprint=replace(binding.fingerprint, schema=LAYOUT),
            schema=schema,
            tenant=binding.tenant,
            cluster=cluster,
            patience=binding.patience,
            settings=Settings.of(binding.client, binding.name, binding.engine),
        ).working()
        target.check_rules()
        progress = stack.enter_context(
            tqdm(total=binding.count(binding.within()), unit="item", disable=not show_progress)
        )
        report = Report()
        for page in binding.scroll(binding.within()):
            _copy_page(page, binding, target, report, partial(write_points, target))
            progress.update(len(page))
        return report


def _copy_page(page: Sequence[models.Record], binding: Binding, target: Binding, report: Report, write: Writer) -> None:
    """Copy points with their vectors. Their BM25 vectors are made anew, by the rules of the target."""
    existing = target.retrieve([record.id for record in page])
    payloads = {record.id: record.payload for record in existing}
    missing = [record for record in page if payloads.get(record.id) != record.payload]
    missing_ids = {record.id for record in missing}
    report.skipped.extend(points.identities(record for record in page if record.id not in missing_ids))
    write(_with_vectors(binding, missing, target.schema.bm25), report)


def _stored_entry(record: models.Record, load: Load | None) -> Entry | Failure:
    """Make the entry of a stored item again, or the reason why that is not possible."""
    payload, own = record.payload or {}, Own.of(record.payload)
    source, identity, text = points.source(payload), points.identity(record), points.words(payload)
    picture = pictures.of_stored(own.picture)
    content: Input
    is_text = own.kind == "text"
    if is_text and text is None:
        return Failure(-1, source, "its payload has no text under 'page_content'", identity)
    if is_text and own.span is None:
        content = text or ""
    else:
        try:
            content = _content(own, source, picture, load)
        except (OSError, ValueError) as error:
            pass_alarm(error)
            return Failure(-1, source, str(error), identity)
        if own.span is not None and not (isinstance(content, str) and content[slice(*own.span)] == text):
            return Failure(-1, source, "its document has changed since it was added: add it again", identity)
    metadata = payload.get("metadata")
    return Entry(
        content=content,
        id=identity,
        source=source,
        unit=own.unit,
        task=own.task,
        tenant=own.tenant,
        metadata={"source": source} | (metadata if isinstance(metadata, dict) else {}),
        text=None if is_text else text,
        embedding=None,
        payload=points.others(payload),
        picture=picture,
        context=own.context,
        file=own.file,
        span=None if own.span is None else (own.span[0], own.span[1]),
        stored_as=record.id,  # type: ignore[arg-type]  # a UUID only before it is stored
    )


def _content(own: Own, source: str, picture: Picture | None, load: Load | None) -> Input:
    """Return the image or the document of a stored item again; an OSError or ValueError if it is lost."""
    kept = picture if picture is not None and picture.uri is not None else None
    if load is not None:
        try:
            return load(source, own.unit)
        except (OSError, ValueError) as error:
            pass_alarm(error)
            if kept is None:
                raise
            try:
                return kept.open()
            except ValueError:
                raise error from None  # `load` knows more: passwords, and what the caller names things
    if kept is not None:
        return kept.open()
    missing = "document" if own.kind == "text" else "image"
    raise ValueError(f"its {missing} is not kept in the collection: pass `load`, which gives it again")


def _with_vectors(
    binding: Binding, records: Sequence[models.Record], language: str | None
) -> Iterator[models.PointStruct]:
    """Read points with their vectors, no more at a time than fit one request, and make their BM25 vectors."""
    names = [name for name in binding.vector_names if name != BM25]
    for group in limits.batches(records, lambda record: _n_bytes(binding, record), limits.MAX_REQUEST_BYTES):
        for record in binding.retrieve([record.id for record in group], with_vectors=names):
            stored = record.vector if isinstance(record.vector, dict) else {}
            vectors: dict[str, Any] = {
                name: np.asarray(vector, np.float32) if isinstance(vector, list) else vector
                for name, vector in stored.items()
            }
            context = Own.of(record.payload).context
            if (sparse := points.sparse(points.words(record.payload), context, language)) is not None:
                vectors[BM25] = sparse
            yield models.PointStruct.model_construct(id=record.id, vector=vectors, payload=record.payload)


def _n_bytes(binding: Binding, record: models.Record) -> int:
    n_floats = binding.fingerprint.dense + Own.of(record.payload).n_tokens * binding.fingerprint.late
    return limits.REST_BYTES_PER_FLOAT * n_floats
