"""Work on a whole collection: verify it, index it again with another model, copy it elsewhere."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from qdrant_client import models
from tqdm import tqdm

from polyvec import Encoder
from polyvec.types import Input
from qdrant_polyvec import limits, points, server
from qdrant_polyvec.ingest import Ingest, identities, source_of, write_points
from qdrant_polyvec.items import Entry, Failure, Identity
from qdrant_polyvec.place import Place, behind_alias, point_alias
from qdrant_polyvec.report import Report
from qdrant_polyvec.retrying import patiently
from qdrant_polyvec.schema import DENSE, LATE, OWN, Schema, value_is

_PASSES = 5  # over a collection that others still add to
Load = Callable[[str, str], Input]  # source, unit → content


@dataclass(frozen=True, slots=True)
class Verification:
    """What is wrong with a collection.

    Attributes:
        n_points: how many there are.
        without_dense: ids of points that have no dense vector.
        without_late: ids of points that have no multi-vector; stock stores add such points.
        foreign: ids of points whose vectors another model made, or nobody knows which.
        orphans: ids of points whose source is not among those that should be there.
        leftovers: collections that no alias stands for, from a `reindex` that was interrupted.
    """

    n_points: int
    without_dense: list[Identity]
    without_late: list[Identity]
    foreign: list[Identity]
    orphans: list[Identity]
    leftovers: list[str]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not any((self.without_dense, self.without_late, self.foreign, self.orphans, self.leftovers))


def verify(place: Place, sources: Iterable[str] | None) -> Verification:
    """See `Collection.verify`. Only what is wrong is read."""

    def ids(condition: models.Filter) -> list[Identity]:
        return [one for page in place.scroll(condition, with_payload=[OWN]) for one in identities(page)]

    ours = value_is(f"{OWN}.fingerprint", place.embedder.fingerprint)
    has_late = place.embedder.multivector_dim > 0
    orphans: list[Identity] = []
    if sources is not None:
        named = models.FieldCondition(key="metadata.source", match=models.MatchAny(any=sorted(set(sources))))
        orphans = ids(place.within(must_not=[named]))
    return Verification(
        n_points=place.client.count(place.name, count_filter=place.within(), **place.cluster.counting()).count,
        without_dense=ids(place.within(must_not=[models.HasVectorCondition(has_vector=DENSE)])),
        without_late=ids(place.within(must_not=[models.HasVectorCondition(has_vector=LATE)])) if has_late else [],
        foreign=ids(place.within(must_not=[ours])),
        orphans=orphans,
        leftovers=_leftovers(place),
    )


def reindex(
    place: Place,
    embedder: Encoder,
    *,
    dim: int,
    schema: Schema,
    load: Load | None,
    batch_size: int,
    keep_old: bool,
    show_progress: bool,
) -> tuple[Place, Report]:
    """See `Collection.reindex`. Returns the place as it is afterwards: the old one if something failed."""
    if place.tenant is not None:
        raise ValueError("`reindex` is for all tenants at once: open the collection without `tenant`.")
    if place.cluster.shard_key is not None:
        raise ValueError("`reindex` is for all shard keys at once: open the collection without `shard_key`.")
    old = behind_alias(place.client, place.name)
    if old is None:
        raise ValueError(
            f"{place.name!r} is the collection itself, not an alias, so nothing can take its place at once: "
            "`copy_to` another name instead."
        )
    wanted = replace(place, embedder=embedder, dim=dim, schema=schema)
    if wanted.real_name() == old:
        raise ValueError(f"Collection {place.name!r} is already of this model and schema: there is nothing to do.")
    new = replace(wanted, name=wanted.real_name())
    found = server.version(place.client)
    server.check(found, schema)
    new.create(new.name, tiers=server.has_memory_tiers(found))
    again = _Again(replace(place, name=old), new, load, batch_size, show_progress=show_progress)
    again.run()
    if again.report.failed:
        return place, again.report
    again.report.removed.extend(_delete_vanished(new, place))
    point_alias(place.client, place.name, new.name, instead=True)
    again.run()  # what was added until the alias was moved
    if not keep_old and not again.report.failed:
        place.client.delete_collection(old)
    return wanted, again.report


class _Again:
    """Encodes one collection's items into another one, and remembers which it has met."""

    def __init__(self, old: Place, new: Place, load: Load | None, batch_size: int, *, show_progress: bool) -> None:
        self.report = Report()
        self._old, self._new, self._load = old, new, load
        self._batch_size, self._show_progress = batch_size, show_progress
        self._met: dict[object, int] = {}

    def run(self) -> None:
        """Encode what was not met before, or is not as it was then; again while others add, but not for ever."""
        for _ in range(_PASSES):
            if self.report.failed:
                return
            n_before = len(self._met)
            ingest = Ingest(self._new, batch_size=self._batch_size)
            total = self._old.client.count(self._old.name).count - n_before
            ingest.run(self._changes(), total=max(total, 0), show_progress=self._show_progress)
            self.report.ok.extend(ingest.report.ok)
            self.report.skipped.extend(ingest.report.skipped)
            self.report.failed.extend(ingest.report.failed)
            if not (ingest.report.ok or ingest.report.skipped):
                return

    def _changes(self) -> Iterator[Entry | Failure]:
        for page in self._old.scroll(models.Filter()):
            for record in page:
                state = hash(json.dumps(record.payload, sort_keys=True))
                if self._met.get(record.id) != state:
                    self._met[record.id] = state
                    yield _entry_again(record, self._load)


def copy(place: Place, target: Place, *, show_progress: bool) -> Report:
    """See `Collection.copy_to`."""
    report = Report()
    total = place.client.count(place.name, count_filter=place.within(), **place.cluster.counting()).count
    with tqdm(total=total, unit="item", disable=not show_progress) as progress:
        for page in place.scroll(place.within()):
            there = patiently(
                partial(
                    target.client.retrieve,
                    target.name,
                    [record.id for record in page],
                    with_payload=True,
                    **target.cluster.reading(),
                )
            )
            payloads = {record.id: record.payload for record in there}
            missing = [record for record in page if payloads.get(record.id) != record.payload]
            new = {record.id for record in missing}
            report.skipped.extend(identities(record for record in page if record.id not in new))
            write_points(target, _with_vectors(place, missing), report)
            progress.update(len(page))
    return report


def _entry_again(record: models.Record, load: Load | None) -> Entry | Failure:
    payload: dict[str, Any] = record.payload or {}
    own, text = payload.get(OWN) or {}, payload.get("page_content")
    source, identity = source_of(payload), points.identity(record)
    unit = own.get("unit", "")
    content: Input
    if own.get("kind", "text") == "text":
        if not isinstance(text, str):
            return Failure(identity, source, "its payload has no text under 'page_content'")
        content, text = text, None
    elif load is not None:
        try:
            content = load(source, unit)
        except (OSError, ValueError) as error:
            return Failure(identity, source, str(error))
    elif "path" in own:
        content = Path(own["path"])
    else:
        return Failure(identity, source, "its image is not kept in the collection: pass `load`, which gives it again")
    metadata = payload.get("metadata")
    return Entry(
        content=content,
        id=identity,
        source=source,
        unit=unit,
        task=own.get("task", "retrieval"),
        tenant=own.get("tenant"),
        metadata={"source": source} | (metadata if isinstance(metadata, dict) else {}),
        text=None if text == source else text,
        embedding=None,
        payload=points.others(payload),
    )


def _delete_vanished(new: Place, old: Place) -> list[Identity]:
    """Delete what was deleted from the old collection while the new one was made."""
    vanished = []
    for page in new.scroll(models.Filter(), with_payload=[OWN]):
        there = old.client.retrieve(old.name, [record.id for record in page], with_payload=False)
        kept = {record.id for record in there}
        vanished += [record for record in page if record.id not in kept]
    if vanished:
        selector = models.PointIdsList(points=[record.id for record in vanished])
        new.client.delete(new.name, selector, wait=True, **new.cluster.writing())
    return identities(vanished)


def _with_vectors(place: Place, records: Sequence[models.Record]) -> Iterator[models.PointStruct]:
    """The points with their vectors, of which no more are read at a time than fit one request."""
    for group in limits.batches(records, lambda record: _n_bytes(place, record), limits.MAX_REQUEST_BYTES):
        found = patiently(
            partial(
                place.client.retrieve,
                place.name,
                [record.id for record in group],
                with_vectors=place.vector_names,
                **place.cluster.reading(),
            )
        )
        for record in found:
            given = record.vector if isinstance(record.vector, dict) else {}
            vectors: dict[str, Any] = {
                name: np.asarray(vector, np.float32) if isinstance(vector, list) else vector
                for name, vector in given.items()
            }
            yield models.PointStruct.model_construct(id=record.id, vector=vectors, payload=record.payload)


def _n_bytes(place: Place, record: models.Record) -> int:
    n_tokens: int = ((record.payload or {}).get(OWN) or {}).get("n_tokens", 0)
    return limits.REST_BYTES_PER_FLOAT * (place.dim + n_tokens * place.embedder.multivector_dim)


def _leftovers(place: Place) -> list[str]:
    aliased = {alias.collection_name for alias in place.client.get_aliases().aliases}
    names = [one.name for one in place.client.get_collections().collections]
    return sorted(name for name in names if name.startswith(f"{place.name}__") and name not in aliased)
