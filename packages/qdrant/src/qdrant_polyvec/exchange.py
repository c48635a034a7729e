"""The exchange of two collections behind an alias: begun and finished by `reindex`, and taken up again if interrupted.

From `begin` to `finish` each of the two names the other one in its metadata. What is deleted through the alias is
deleted from both. After the alias was moved, what is written through it is deleted from the old collection, so that an
item that differs there was added before: it is late, and `write_late` brings it over.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from qdrant_client import models

from qdrant_polyvec import points
from qdrant_polyvec.binding import Binding, aliased
from qdrant_polyvec.errors import CollectionChangedError
from qdrant_polyvec.fingerprint import KEY, REPLACED_BY, REPLACES, Fingerprint
from qdrant_polyvec.ingest import write_points
from qdrant_polyvec.items import Identity, Report
from qdrant_polyvec.schema import OWN, Schema

_OF_MODEL = ("fingerprint", "n_tokens", "grid")  # the keys of our part of a payload that another model changes
_LATE = models.FieldCondition(key=f"{OWN}.late", match=models.MatchValue(value=True))


def bound(binding: Binding, collection: str) -> Binding:
    """Bind a collection under its own name, with the model and schema that it says it has."""
    config = binding.client.get_collection(collection).config
    fingerprint = Fingerprint.stored(collection, config.metadata)
    schema = Schema.of(config, (config.metadata or {})[KEY].get("bm25"))
    return replace(binding, name=collection, fingerprint=fingerprint, schema=schema, replaces=None)


def begin(old: Binding, new: Binding) -> None:
    """Let the two collections name each other. The old one is behind the alias."""
    new.client.update_collection(new.name, metadata={REPLACES: old.name, REPLACED_BY: None})
    old.client.update_collection(old.name, metadata={REPLACED_BY: new.name, REPLACES: None})


def unfinished(binding: Binding, collection: str) -> Binding | None:
    """Bind the old collection that is still to be brought over into the one behind the alias; None if there is none."""
    name = _metadata(binding, collection).get(REPLACES)
    if name is None:
        return None
    if not binding.client.collection_exists(name):  # interrupted after the old one was deleted
        binding.client.update_collection(collection, metadata={REPLACES: None})
        return None
    return bound(binding, name)


def finish(old: Binding, new: Binding, *, keep_old: bool) -> None:
    """Delete the old collection or let it stand by itself. An interruption before the end leaves work for a call."""
    if keep_old:
        old.client.update_collection(old.name, metadata={REPLACED_BY: None})
    else:
        old.client.delete_collection(old.name)
    new.client.update_collection(new.name, metadata={REPLACES: None})


def check_alias(binding: Binding, old: Binding) -> None:
    """Raise a CollectionChangedError if another `reindex` has exchanged the collection meanwhile."""
    if aliased(binding.client, binding.name) != old.name:
        raise CollectionChangedError(
            f"Collection {binding.name!r} was exchanged by another `reindex` meanwhile. Open it again, and reindex it "
            "with one call at a time."
        )


def delete_vanished(old: Binding, new: Binding) -> list[Identity]:
    """Delete the items that were deleted from the old collection while the new one was made."""
    vanished: list[models.Record] = []
    for page in new.scroll(models.Filter(), with_payload=[OWN]):
        existing_ids = _existing(old, [record.id for record in page])
        vanished += [record for record in page if record.id not in existing_ids]
    if vanished:
        new.erase(models.PointIdsList(points=[record.id for record in vanished]), new.name)
    return points.identities(vanished)


def is_same(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, model: str) -> bool:
    """Whether a payload of the new collection is what its model makes of one of the old collection."""
    return points.Own.of(new).fingerprint == model and _without_model(old) == _without_model(new)


def write_late(old: Binding, new: Binding, structs: Iterable[models.PointStruct], report: Report) -> None:
    """Write points of the old collection after the alias was moved, and nothing over what came through the alias.

    Calls through the alias work on the old collection first. A point that is still there after the points of the new
    collection were marked was not touched by a call that has ended on the new one; if a call writes the point from
    then on, the mark is gone, and this write does not happen. A point that vanished from the old collection during
    the write was perhaps deleted through the alias just before it, so it is deleted, as long as it has the mark.
    """
    structs = list(structs)
    if not structs:
        return
    client, options = new.client, new.cluster.write_options()
    ids = [struct.id for struct in structs]
    client.set_payload(new.name, {"late": True}, points=_within(ids), key=OWN, wait=True, **options)
    there = _existing(old, ids)
    write_points(new, [_marked(struct) for struct in structs if struct.id in there], report, update_filter=_within())
    gone = sorted(there - _existing(old, ids), key=str)
    if gone:
        new.erase(models.FilterSelector(filter=_within(gone, _LATE)), new.name)
    client.delete_payload(new.name, keys=[f"{OWN}.late"], points=_within(ids, _LATE), wait=True, **options)


def leftovers(binding: Binding) -> list[str]:
    """Name the collections of `reindex` that have no alias."""
    in_use = {alias.collection_name for alias in binding.client.get_aliases().aliases}
    names = [collection.name for collection in binding.client.get_collections().collections]
    ours = re.compile(re.escape(binding.name) + "__[0-9a-f]{8}")  # as `Binding.new_name`
    candidates = sorted(name for name in names if ours.fullmatch(name) and name not in in_use)
    return [name for name in candidates if KEY in _metadata(binding, name)]  # others may have such a name, too


def needed(binding: Binding) -> str | None:
    """Name the leftover that an unfinished exchange needs."""
    name = _metadata(binding, binding.name).get(REPLACES)
    return name if name in leftovers(binding) else None


def delete_leftovers(binding: Binding) -> list[str]:
    """See `Collection.delete_leftovers`."""
    metadata = _metadata(binding, binding.name)
    names = [name for name in leftovers(binding) if name != metadata.get(REPLACES)]
    for name in names:
        binding.client.delete_collection(name)
    if metadata.get(REPLACED_BY) in names:
        binding.client.update_collection(aliased(binding.client, binding.name), metadata={REPLACED_BY: None})
    return names


def _metadata(binding: Binding, collection: str) -> Mapping[str, Any]:
    return binding.client.get_collection(collection).config.metadata or {}


def _existing(binding: Binding, ids: Sequence[models.ExtendedPointId]) -> set[models.ExtendedPointId]:
    return {record.id for record in binding.retrieve(ids, with_payload=False)}


def _within(ids: Sequence[models.ExtendedPointId] | None = None, *conditions: models.Condition) -> models.Filter:
    """Select points by their ids; without ids, those that have the mark."""
    return models.Filter(must=[_LATE] if ids is None else [models.HasIdCondition(has_id=list(ids)), *conditions])


def _marked(struct: models.PointStruct) -> models.PointStruct:
    payload = struct.payload or {}
    marked = {**payload, OWN: {**payload.get(OWN, {}), "late": True}}
    return models.PointStruct.model_construct(id=struct.id, vector=struct.vector, payload=marked)


def _without_model(payload: Mapping[str, Any] | None) -> dict[str, Any]:
    own = (payload or {}).get(OWN) or {}
    return {**(payload or {}), OWN: {key: value for key, value in own.items() if key not in _OF_MODEL}}
