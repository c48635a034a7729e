"""Store items: unchanged ones are skipped, and one batch is encoded while another is written."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice

from qdrant_client import models
from tqdm import tqdm

from polyvec import Embeddings, attempt
from polyvec.alarms import pass_alarm
from qdrant_polyvec import points, revisions, upload
from qdrant_polyvec.binding import MISSING, Binding, aliased
from qdrant_polyvec.checks import Entry
from qdrant_polyvec.errors import CollectionChangedError
from qdrant_polyvec.items import Failure, Identity, Report, earlier_point_id
from qdrant_polyvec.points import Own
from qdrant_polyvec.schema import BM25, OWN, of_tenant, value_is

_SOURCES_PER_REQUEST = 100
_COPIES_PER_REQUEST = 32  # points, with their multi-vectors


Writer = Callable[[Iterable[models.PointStruct], Report], None]


@dataclass(slots=True)
class Batch:
    """What is left to do for some items, and what holds of the others if the collection was not exchanged meanwhile."""

    structs: list[models.PointStruct] = field(default_factory=list)  # to be written
    overwritten: list[Identity] = field(default_factory=list)  # only their payloads differed
    skipped: list[Identity] = field(default_factory=list)


class Ingest:
    """One call of `Collection.add`: the items that it has seen, and a report on them."""

    def __init__(
        self, binding: Binding, *, batch_size: int, keep_places: bool = False, write: Writer | None = None
    ) -> None:
        """Begin a call. `write` writes all changed items, also those whose metadata alone differ."""
        if batch_size < 1:
            raise ValueError(f"`batch_size` is {batch_size}; it must be at least 1.")
        self.report = Report()
        self._binding = self._alias = binding.working()
        self._batch_size, self._keep_places = batch_size, keep_places
        self._write_otherwise = write
        self._seen: dict[int | str, bytes] = {}  # point id → the beginning of the digest
        self._sources: dict[tuple[str, str], None] = {}  # with their tasks, in the order of the call

    def run(self, entries: Iterable[Entry | Failure], *, total: int | None, show_progress: bool) -> None:
        """Store all that can be stored. If this is interrupted, whatever is acknowledged stays."""
        self._binding = self._alias.resolved()
        stream = iter(entries)
        written: Future[None] | None = None
        with (
            upload.writer_thread() as writer,
            tqdm(total=total, unit="item", disable=not show_progress) as progress,
        ):
            while batch := list(islice(stream, self._batch_size)):
                stream = _complete(batch, stream)
                prepared = self._prepared(batch)
                if written is not None:
                    written.result()
                written = writer.submit(self._write, prepared)
                if self._binding.engine.is_imitation:  # it reads wrongly what a thread is writing
                    written.result()
                progress.update(len(batch))
            if written is not None:
                written.result()

    def remove_outdated(self) -> None:
        """Delete the parts that the sources no longer have. A source with a failure keeps everything.

        Items without a unit stay: they are no parts of a file, but what somebody else says of it. What `polyvec index`
        made stays, too: the command itself removes it.
        """
        failed = {failure.source for failure in self.report.failed}
        whole = [key for key in self._sources if key[0] not in failed]
        for task in dict.fromkeys(task for _, task in whole):
            sources = [source for source, of_task in whole if of_task == task]
            for start in range(0, len(sources), _SOURCES_PER_REQUEST):
                self._remove_others(sources[start : start + _SOURCES_PER_REQUEST], task)

    def _remove_others(self, sources: Sequence[str], task: str) -> None:
        condition = self._binding.within(
            models.FieldCondition(key="metadata.source", match=models.MatchAny(any=list(sources))),
            value_is(f"{OWN}.task", task),
            of_tenant(self._binding.tenant),  # other tenants keep their own parts of a source
        )
        with self._told():
            outdated = [
                record
                for page in self._binding.scroll(condition, with_payload=[OWN])
                for record in page
                if record.id not in self._seen and (own := Own.of(record.payload)).unit and own.file is None
            ]
            if outdated:
                self._binding.delete(models.PointIdsList(points=[record.id for record in outdated]))
        self.report.removed.extend(points.identities(outdated))

    def _prepared(self, items: Sequence[Entry | Failure]) -> Batch:
        """Make the points of a batch that have to be written; failures go to the report."""
        self.report.failed.extend(item for item in items if isinstance(item, Failure))
        entries = list(self._distinct([item for item in items if isinstance(item, Entry)]))
        batch = Batch()
        with self._told():
            copied, missing = self._copied(self._changed(entries, batch))
        encoded = self._encoded(missing)
        made = (struct for entry, embedding in encoded if (struct := self._struct(entry, embedding)))
        batch.structs = [*copied, *made]
        return batch

    def _copied(self, entries: Sequence[Entry]) -> tuple[list[models.PointStruct], list[Entry]]:
        """Make points with the vectors of stored items of the same content and task; also return the other entries.

        Only parts of files are looked for: files are renamed and lines are inserted.
        """
        digests = {entry.digest for entry in entries if entry.root is not None}
        if not digests:
            return [], list(entries)
        names = [name for name in self._binding.vector_names if name != BM25]
        condition = self._binding.within(
            models.FieldCondition(key=f"{OWN}.content_hash", match=models.MatchAny(any=sorted(digests))),
            value_is(f"{OWN}.fingerprint", self._binding.fingerprint.embedder),
            of_tenant(self._binding.tenant),
        )
        donors: dict[tuple[str, str, str], models.ExtendedPointId] = {}
        for page in self._binding.scroll(condition, with_payload=[OWN]):
            donors |= {_key(Own.of(record.payload)): record.id for record in page}
            if digests <= {digest for digest, _, _ in donors}:
                break
        ids = [
            donor
            for entry in entries
            if entry.root is not None and (donor := donors.get((entry.digest, entry.task, entry.kind))) is not None
        ]
        records: dict[tuple[str, str, str], models.Record] = {}
        for start in range(0, len(ids), _COPIES_PER_REQUEST):
            read = self._binding.retrieve(ids[start : start + _COPIES_PER_REQUEST], with_vectors=names)
            records.update((_key(Own.of(record.payload)), record) for record in read if _has_all(record, names))
        structs, missing = [], []
        for entry in entries:
            record = records.get((entry.digest, entry.task, entry.kind)) if entry.root is not None else None
            if record is None:
                missing.append(entry)
            else:
                structs.append(points.copied_point(entry, record, self._binding.schema))
        return structs, missing

    def _distinct(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield each id once. Files that cannot be read fail here."""
        for entry in entries:
            self._sources[entry.source, entry.task] = None
            try:
                begin = bytes.fromhex(entry.digest[:16]) + entry.task.encode()
            except OSError as error:
                pass_alarm(error)
                self.report.failed.append(entry.failure(f"cannot be read: {error.strerror or error}"))
                continue
            if entry.point_id not in self._seen:
                self._seen[entry.point_id] = begin
                yield entry
            elif self._seen[entry.point_id] == begin:
                self.report.skipped.append(entry.id)
            else:
                self.report.failed.append(
                    entry.failure("an earlier item of this call has the same id, other content or task")
                )

    def _changed(self, entries: Sequence[Entry], batch: Batch) -> list[Entry]:
        """Select the entries to encode. If only the metadata of an entry differ, they are replaced here.

        An entry with the id of another task's item fails.
        """
        # Payloads of other readers are compared only then. The text is needed to know an item again.
        whole = self._keep_places or any(entry.payload or entry.root is not None for entry in entries)
        records = self._records(entries, with_payload=True if whole else [OWN, "metadata", "page_content"])
        fingerprint = self._binding.fingerprint.embedder
        changed = []
        for entry, record in zip(map(self._placed, entries, records), records, strict=True):
            old = (record and record.payload) or {}
            own = Own.of(old)
            if record is not None and points.identity(record) not in (entry.id, entry.point_id):
                self.report.failed.append(
                    entry.failure(
                        f"an earlier version stored the item {points.identity(record)!r} in its place, for ids were "
                        "compared as UUIDs: delete that item, and add both"
                    )
                )
                continue
            if old and own.task != entry.task:
                self.report.failed.append(
                    entry.failure(
                        f"its id is that of an item of the task {own.task!r}, and an id names one item, whatever its "
                        "task: choose another id, or delete that item first"
                    )
                )
                continue
            if own.kind == "image" and entry.kind == "text" and not (entry.words or "").strip():
                self.report.failed.append(
                    entry.failure(
                        "its id is that of an image, and it is an empty text: add the image again, which is a document "
                        "with `image_uri` in LangChain, or delete that item first"
                    )
                )
                continue
            revision = revisions.revision(entry, old, fingerprint, keep_place=self._keep_places)
            # While an exchange is unfinished, all is written: see `_write`.
            if own.late or self._binding.replaces is not None or (new := revision.payload) is None:
                changed.append(revision.entry)
                continue
            if new == old if whole else all(new[key] == old.get(key) for key in (OWN, "metadata")):
                batch.skipped.append(entry.id)
                continue
            if self._write_otherwise is not None:
                changed.append(revision.entry)
                continue
            # If another writer has replaced the content meanwhile, its payload must stay.
            same_content = value_is(f"{OWN}.content_hash", own.content_hash)
            condition = models.Filter(must=[models.HasIdCondition(has_id=[entry.point_id]), same_content])
            options = self._binding.cluster.write_options()
            self._binding.client.overwrite_payload(self._binding.name, new, points=condition, wait=True, **options)
            (batch.skipped if revision.is_mark_only else batch.overwritten).append(entry.id)
        return changed

    def _records(self, entries: Sequence[Entry], *, with_payload: bool | Sequence[str]) -> list[models.Record | None]:
        """Read the stored items with the ids of entries, wherever this version or an earlier one put them."""
        keys = [(entry.point_id, earlier_point_id(entry.id, entry.tenant)) for entry in entries]
        wanted = list(dict.fromkeys(key for pair in keys for key in pair if key is not None))
        found = self._binding.retrieve(wanted, with_payload=with_payload) if wanted else []
        by_key = {record.id: record for record in found}
        records = []
        for entry, (key, earlier) in zip(entries, keys, strict=True):
            moved = None if earlier is None or key in by_key else by_key.get(earlier)
            is_own = moved is not None and points.identity(moved) == entry.id
            records.append(moved if is_own else by_key.get(key))
        return records

    def _placed(self, entry: Entry, record: models.Record | None) -> Entry:
        """Return an entry with the point that its stored item has."""
        if record is None:
            return entry
        if record.id != entry.point_id:  # an earlier version stored it
            place = str(record.id)
            self._seen[place] = self._seen[entry.point_id]
            entry = replace(entry, stored_as=place)
        return entry

    def _encoded(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Embeddings]]:
        """Yield each entry with its embedding, ready-made or encoded here, one task after another."""
        by_task: dict[str, list[Entry]] = {}
        by_document: dict[tuple[str, str], list[Entry]] = {}
        for entry in entries:
            if entry.embedding is not None:
                yield entry, entry.embedding
            elif entry.span is not None and isinstance(entry.content, str):
                by_document.setdefault((entry.task, entry.content), []).append(entry)
            else:
                by_task.setdefault(entry.task, []).append(entry)
        multivector = self._binding.fingerprint.late > 0
        for task, of_task in by_task.items():
            encode = partial(
                self._binding.encoder.encode_document,
                task=task,
                truncate_dim=self._binding.truncate_dim,
                multivector=multivector,
            )
            tried = attempt(encode, of_task, lambda entry: entry.encoded)
            self._check_multivectors(tried.embeddings)
            self.report.failed.extend(of_task[failure.index].failure(failure.reason) for failure in tried.failures)
            for index, embedding in zip(tried.kept, tried.embeddings, strict=True):
                yield of_task[index], embedding

        for (task, document), parts in by_document.items():
            spans = [entry.span for entry in parts if entry.span is not None]
            try:
                embeddings = self._binding.encoder.encode_chunks(
                    document, spans, task=task, truncate_dim=self._binding.truncate_dim, multivector=multivector
                )
            except ValueError as error:
                self.report.failed.extend(entry.failure(str(error)) for entry in parts)
                continue
            self._check_multivectors(embeddings)
            yield from zip(parts, embeddings, strict=True)

    def _check_multivectors(self, embeddings: Embeddings) -> None:
        if self._binding.fingerprint.late and embeddings.multivector is None:
            embedder = type(self._binding.embedder).__name__
            raise TypeError(f"{embedder} returned no multi-vectors although `multivector` is true.")

    def _struct(self, entry: Entry, embedding: Embeddings) -> models.PointStruct | None:
        try:
            return points.point(entry, embedding, schema=self._binding.schema, fingerprint=self._binding.fingerprint)
        except ValueError as error:
            self.report.failed.append(entry.failure(str(error)))
            return None

    def _write(self, batch: Batch) -> None:
        """Write the points. If a `reindex` exchanged the collection meanwhile, report nothing of them and raise.

        A `reindex` looks for new points once more before it deletes the collection, so that points are lost only if
        they are written after that.
        """
        written = Report(ok=batch.overwritten, skipped=batch.skipped)
        with contextlib.ExitStack() as acknowledged:  # also if the store fails in the middle
            acknowledged.callback(self._add_to_report, written)
            try:
                with self._told():
                    write = self._write_otherwise or partial(write_points, self._binding)
                    write(batch.structs, written)
                    self._supersede(batch.structs, written)
                if self._is_exchanged():
                    raise self._changed_error()
            except CollectionChangedError:
                acknowledged.pop_all()
                raise

    def _supersede(self, structs: Sequence[models.PointStruct], written: Report) -> None:
        """Let the written points replace those of the old collection while an exchange is unfinished.

        They are written before and after that: if this is interrupted, one of the two collections has an item, and
        what `reindex` brings over in between is written over.
        """
        stored = set(written.ok)
        done = [struct for struct in structs if points.identity(struct) in stored]
        if self._binding.replaces is not None and done:
            self._binding.erase(models.PointIdsList(points=[struct.id for struct in done]), self._binding.replaces)
            write_points(self._binding, done, Report())

    def _add_to_report(self, written: Report) -> None:
        self.report.ok.extend(written.ok)
        self.report.skipped.extend(written.skipped)
        self.report.failed.extend(written.failed)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Say that the collection was exchanged, if that is why the store refuses something."""
        try:
            yield
        except MISSING as error:
            if self._is_exchanged():
                raise self._changed_error() from error
            raise

    def _is_exchanged(self) -> bool:
        return aliased(self._alias.client, self._alias.name) != self._binding.name

    def _changed_error(self) -> CollectionChangedError:
        return CollectionChangedError(
            f"Collection {self._alias.name!r} was exchanged by a `reindex` while items were added: open it again, and "
            "add the items that `report` does not name as stored."
        )


def _key(own: Own) -> tuple[str, str, str]:
    """Items with the same key have the same vectors."""
    return own.content_hash, own.task, own.kind


def _has_all(record: models.Record, names: Sequence[str]) -> bool:
    return isinstance(record.vector, dict) and all(name in record.vector for name in names)


def _complete(batch: list[Entry | Failure], stream: Iterator[Entry | Failure]) -> Iterator[Entry | Failure]:
    """Move the parts of the batch's last document from the stream to the batch. Returns what is left of the stream."""
    last = batch[-1]
    if isinstance(last, Failure) or last.span is None:
        return stream
    for entry in stream:
        if isinstance(entry, Failure) or entry.span is None or entry.content != last.content:
            return chain([entry], stream)
        batch.append(entry)
    return iter(())


def write_points(
    binding: Binding, structs: Iterable[models.PointStruct], report: Report, **conditions: models.Filter
) -> None:
    """Write points and report what became of them, batch by batch. No acknowledged point is left out of the report.

    Args:
        binding: where to.
        structs: the points.
        report: of the call.
        conditions: of Qdrant's `upsert`.
    """
    options = binding.cluster.write_options() | conditions
    for written in upload.write(binding.client, binding.engine, binding.name, structs, options=options):
        report.ok.extend(points.identities(written.ok))
        report.failed.extend(
            Failure(-1, points.source(struct.payload), reason, points.identity(struct))
            for struct, reason in written.failed
        )
