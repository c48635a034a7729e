"""From items to stored points: what is unchanged is skipped, one batch is encoded while another is written."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

from qdrant_client import models
from tqdm import tqdm

from polyvec.types import Embeddings, UnreadableInputs
from qdrant_polyvec import points, upload
from qdrant_polyvec.items import Entry, Failure, Identity, digest, point_id
from qdrant_polyvec.location import is_simulated
from qdrant_polyvec.place import Place
from qdrant_polyvec.report import Report
from qdrant_polyvec.retrying import patiently
from qdrant_polyvec.schema import OWN, TENANT, value_is

_SOURCES_PER_REQUEST = 100

Work = tuple[Entry, str]  # what is to be stored, and its digest


class Ingest:
    """One call of `Collection.add`: what it has met, and what became of it."""

    def __init__(self, place: Place, *, batch_size: int) -> None:
        if batch_size < 1:
            raise ValueError(f"`batch_size` is {batch_size}; it must be at least 1.")
        self.report = Report()
        self._place = place
        self._batch_size = batch_size
        self._seen: dict[int | str, bytes] = {}  # point id → the beginning of the digest
        self._sources: dict[tuple[str, str], None] = {}  # with their tasks, as they came

    def run(self, entries: Iterable[Entry | Failure], *, total: int | None, show_progress: bool) -> None:
        """Store all that can be stored. Whatever is acknowledged stays, should this be interrupted."""
        alias, self._place = self._place, patiently(self._place.resolved)
        alone = is_simulated(self._place.client)  # qdrant-client's imitation reads wrongly what a thread is writing
        stream = iter(entries)
        written: Future[None] | None = None
        with (
            ThreadPoolExecutor(1, thread_name_prefix="polyvec-writer") as writer,
            tqdm(total=total, unit="item", disable=not show_progress) as progress,
        ):
            while batch := list(islice(stream, self._batch_size)):
                structs = self._structs(batch)
                if written is not None:
                    written.result()
                written = writer.submit(self._write, structs, alias)
                if alone:
                    written.result()
                progress.update(len(batch))
            if written is not None:
                written.result()

    def remove_the_rest(self) -> None:
        """Delete what the sources had before and have no more. A source with a failure keeps everything."""
        failed = {failure.source for failure in self.report.failed}
        whole = [key for key in self._sources if key[0] not in failed]
        for task in dict.fromkeys(task for _, task in whole):
            sources = [source for source, of_task in whole if of_task == task]
            for start in range(0, len(sources), _SOURCES_PER_REQUEST):
                self._remove_others(sources[start : start + _SOURCES_PER_REQUEST], task)

    def _remove_others(self, sources: Sequence[str], task: str) -> None:
        of_nobody = models.IsEmptyCondition(is_empty=models.PayloadField(key=TENANT))
        condition = self._place.within(
            models.FieldCondition(key="metadata.source", match=models.MatchAny(any=list(sources))),
            value_is(f"{OWN}.task", task),
            *([of_nobody] if self._place.tenant is None else []),  # what tenants have of a source is their own
        )
        outdated = [
            record
            for page in self._place.scroll(condition, with_payload=[OWN])
            for record in page
            if record.id not in self._seen
        ]
        if outdated:
            selector = models.PointIdsList(points=[record.id for record in outdated])
            self._call(self._place.client.delete, points_selector=selector, wait=True, **self._place.cluster.writing())
            self.report.removed.extend(map(points.identity, outdated))

    def _structs(self, batch: Sequence[Entry | Failure]) -> list[models.PointStruct]:
        """The points to write of a batch; the others go to the report."""
        entries = []
        for one in batch:
            if isinstance(one, Failure):
                self.report.failed.append(one)
            else:
                entries.append(one)
        changed = self._changed(list(self._distinct(entries)))
        return [struct for work, embedding in self._embedded(changed) if (struct := self._struct(work, embedding))]

    def _distinct(self, entries: Iterable[Entry]) -> Iterator[Work]:
        """Each id once, with the digest of its content. Files that cannot be read fail here."""
        for entry in entries:
            self._sources[entry.source, entry.task] = None
            try:
                digested = digest(entry)
            except OSError as error:
                self.report.failed.append(entry.failure(f"cannot be read: {error.strerror or error}"))
                continue
            identity = point_id(entry.id, entry.tenant)
            begin = bytes.fromhex(digested[:16]) + entry.task.encode()
            if identity not in self._seen:
                self._seen[identity] = begin
                yield entry, digested
            elif self._seen[identity] == begin:
                self.report.skipped.append(entry.id)
            else:
                self.report.failed.append(
                    entry.failure("an earlier item of this call has the same id, other content or task")
                )

    def _changed(self, works: Sequence[Work]) -> list[Work]:
        """Those to encode. Where only the metadata differ, they are replaced here."""
        whole = any(entry.payload for entry, _ in works)
        stored = self._stored([point_id(entry.id, entry.tenant) for entry, _ in works], whole=whole)
        fingerprint = self._place.embedder.fingerprint
        changed = []
        for entry, digested in works:
            identity = point_id(entry.id, entry.tenant)
            old = stored.get(identity, {})
            own = old.get(OWN) or {}
            if [own.get(key) for key in ("content_hash", "fingerprint", "task")] != [digested, fingerprint, entry.task]:
                changed.append((entry, digested))
                continue
            new = points.payload(
                entry, content_hash=digested, fingerprint=fingerprint, n_tokens=own["n_tokens"], grid=own["grid"]
            )
            same = new == old if whole else all(new[key] == old.get(key) for key in (OWN, "metadata"))
            if same:
                self.report.skipped.append(entry.id)
            else:
                self._call(
                    self._place.client.overwrite_payload,
                    payload=new,
                    # Should another writer have replaced the content meanwhile, its payload must stay.
                    points=models.Filter(
                        must=[models.HasIdCondition(has_id=[identity]), value_is(f"{OWN}.content_hash", digested)]
                    ),
                    wait=True,
                    **self._place.cluster.writing(),
                )
                self.report.ok.append(entry.id)
        return changed

    def _stored(self, ids: Sequence[int | str], *, whole: bool) -> dict[int | str, dict[str, Any]]:
        """The payloads that are there; of others' keys, only if `whole`."""
        if not ids:
            return {}
        wanted = True if whole else [OWN, "metadata"]
        reading = self._place.cluster.reading()
        found = self._call(self._place.client.retrieve, ids=ids, with_payload=wanted, **reading)
        return {record.id: record.payload or {} for record in found}

    def _embedded(self, works: Sequence[Work]) -> Iterator[tuple[Work, Embeddings]]:
        """Each with its embedding, ready-made or made here, one task after another."""
        by_task: dict[str, list[Work]] = {}
        for work in works:
            if work[0].embedding is not None:
                yield work, work[0].embedding
            else:
                by_task.setdefault(work[0].task, []).append(work)
        for task, of_task in by_task.items():
            embeddings, kept, unreadable = self._encode([entry.content for entry, _ in of_task], task)
            for index, reason in unreadable.items():
                self.report.failed.append(of_task[index][0].failure(reason))
            for index, embedding in zip(kept, embeddings, strict=True):
                yield of_task[index], embedding

    def _encode(self, inputs: Sequence[Any], task: str) -> tuple[Embeddings, Sequence[int], Mapping[int, str]]:
        """The embeddings, which inputs they belong to, and what is wrong with the others."""
        wanted = self._place.embedder.multivector_dim > 0
        try:
            embeddings = self._place.embedder.encode_document(
                inputs, task=task, truncate_dim=self._place.truncate_dim, multivector=wanted
            )
        except UnreadableInputs as error:
            return error.embeddings, error.kept, error.reasons
        if wanted and embeddings.multivector is None:
            embedder = type(self._place.embedder).__name__
            raise TypeError(f"{embedder} returned no multi-vectors though it was asked for them.")
        return embeddings, range(len(inputs)), {}

    def _struct(self, work: Work, embedding: Embeddings) -> models.PointStruct | None:
        entry, digested = work
        try:
            return points.point(
                entry,
                embedding,
                schema=self._place.schema,
                dim=self._place.dim,
                late=self._place.embedder.multivector_dim,
                content_hash=digested,
                fingerprint=self._place.embedder.fingerprint,
            )
        except ValueError as error:
            self.report.failed.append(entry.failure(str(error)))
            return None

    def _write(self, structs: Sequence[models.PointStruct], alias: Place) -> None:
        """Write, and report what is still in place then: a `reindex` looks again for what it had before it moves on."""
        before = len(self.report.ok)
        write_points(self._place, structs, self.report)
        if patiently(alias.resolved).name != self._place.name:
            del self.report.ok[before:]
            raise RuntimeError(f"Collection {alias.name!r} was exchanged while items were added: add them again.")

    def _call(self, call: Any, **how: Any) -> Any:  # Any: one of the client's methods
        return patiently(partial(call, self._place.name, **how))


def write_points(place: Place, structs: Iterable[models.PointStruct], report: Report) -> None:
    """Write points and report what became of them, batch by batch: what is acknowledged is never forgotten."""
    cluster = place.cluster
    for written in upload.write(
        place.client, place.name, structs, ordering=cluster.write_ordering, shard_key=cluster.shard_key
    ):
        report.ok.extend(map(points.identity, written.ok))
        report.failed.extend(
            Failure(points.identity(struct), source_of(struct.payload), reason) for struct, reason in written.failed
        )


def source_of(payload: Mapping[str, Any] | None) -> str:
    """Where a stored item comes from; empty if its payload does not say."""
    metadata = (payload or {}).get("metadata")
    return str(metadata.get("source", "")) if isinstance(metadata, Mapping) else ""


def identities(records: Iterable[models.Record]) -> list[Identity]:
    return [points.identity(record) for record in records]
