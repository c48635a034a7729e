"""An item that is added under the id of a stored one: what it keeps of that item, and whether it must be encoded.

Items of files, which `polyvec index` made, have several writers: the command line, and whoever adds them again under
their ids, as the framework packages do. Neither takes from the item what the other one put there. Items of others keep
their places as `Collection.add` describes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from polyvec.pictures import page_of
from qdrant_polyvec import points
from qdrant_polyvec.checks import Entry
from qdrant_polyvec.points import Own
from qdrant_polyvec.schema import OWN


@dataclass(frozen=True, slots=True)
class Revision:
    """What becomes of an entry.

    Attributes:
        entry: the entry, with what it keeps of the stored item.
        payload: what to store if the vectors stay; None if the entry must be encoded.
        is_mark_only: nothing but the mark of the command line differs from what is stored.
    """

    entry: Entry
    payload: dict[str, Any] | None
    is_mark_only: bool = False


def revision(entry: Entry, old: Mapping[str, Any], fingerprint: str, *, keep_place: bool) -> Revision:
    """Compare an entry with the payload of the item under its id; it is empty if there is none."""
    own = Own.of(old)
    if not old:
        return Revision(entry, None)
    if entry.root is not None:
        return _by_command(entry, old, own, fingerprint)
    if own.file is not None or keep_place:
        return _by_others(entry, old, own, fingerprint)
    return _plain(entry, own, fingerprint)


def _plain(entry: Entry, own: Own, fingerprint: str) -> Revision:
    if (own.content_hash, own.fingerprint) != (entry.digest, fingerprint):
        return Revision(entry, None)
    return Revision(entry, points.payload(entry, fingerprint=fingerprint, n_tokens=own.n_tokens, grid=own.grid))


def _by_command(entry: Entry, old: Mapping[str, Any], own: Own, fingerprint: str) -> Revision:
    """The command line indexes a part again. What others added stays; what describes the old content goes with it."""
    made = own.content_hash if own.file is None else own.file.get("digest")
    # Others replaced the text or its context since. A text that has lost its context gets it back.
    is_edited = made == entry.digest != own.content_hash and not _is_bare(entry, old, own)
    if is_edited and own.fingerprint == fingerprint:
        mark = {"root": entry.root, "digest": entry.digest} | (points.IS_NEW if points.is_marked_new(own.file) else {})
        return Revision(entry, {**old, OWN: {**old[OWN], "file": mark}}, is_mark_only=True)
    kept = old.get("metadata")
    metadata = {**(kept if isinstance(kept, Mapping) else {}), **entry.metadata}
    payload = points.others(old) if own.content_hash == entry.digest else {}
    entry = replace(entry, metadata=metadata, payload=payload, content_hash=entry.hashed, file=own.file)
    plain = _plain(entry, own, fingerprint)
    return replace(plain, is_mark_only=plain.payload is not None and _unmarked(plain.payload) == _unmarked(old))


def _by_others(entry: Entry, old: Mapping[str, Any], own: Own, fingerprint: str) -> Revision:
    """Somebody else adds an item again. It stays the part that it is; of the same text, the context stays.

    What a reader wrote beside the metadata stays with the same content, unless this reader has its own.
    """
    if own.file is not None:
        of_file = {"source": points.source(old)} if points.source(old) else {}
        entry = replace(entry, unit="", file=own.file, metadata={**entry.metadata, **of_file})
    entry = replace(points.in_place(entry, old), content_hash=entry.hashed)
    is_same = points.is_same_text(entry, old) or own.content_hash == entry.digest
    if not is_same or own.fingerprint != fingerprint:
        return Revision(entry, None)
    payload = points.payload(entry, fingerprint=fingerprint, n_tokens=own.n_tokens, grid=own.grid)
    kept = {name: old[OWN][name] for name in ("content_hash", "context", "span") if name in old[OWN]}
    beside = {} if entry.payload else points.others(old)
    return Revision(entry, {**beside, **payload, OWN: payload[OWN] | kept})


def inherited(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a part of a file takes over from one with the same content elsewhere; empty if that is nothing.

    What stands beside the metadata describes one content and place, so it is taken over in the same unit only.
    """
    before, own = Own.of(old), Own.of(new)
    beside = points.others(old) if before.unit == own.unit and not _is_edited(before) else {}
    metadata = _metadata_in_place(old, new)
    return {**beside, "metadata": metadata} if beside or metadata != new.get("metadata") else {}


def moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payload of a part whose content others have edited, in the place of the one that takes over.

    In the same unit, it keeps what stands beside its metadata, too.
    """
    before, own = Own.of(old), Own.of(new)
    mine = {name: value for name, value in old[OWN].items() if name != "id"}
    mine |= {name: new[OWN][name] for name in ("unit", "file", "id") if name in new[OWN]}
    source, picture = points.source(old), before.picture or {}
    if own.picture is not None and page_of(str(picture.get("uri") or ""))[0] == source:
        mine["picture"] = {**picture, "uri": own.picture.get("uri")}
    content = points.source(new) if old.get("page_content") == source else old.get("page_content")
    beside = points.others(old) if before.unit == own.unit else {}
    return {**beside, "page_content": content, "metadata": _metadata_in_place(old, new), OWN: mine}


def _metadata_in_place(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    before, own = Own.of(old), Own.of(new)
    metadata = {**(old.get("metadata") or {}), **(new.get("metadata") or {})}
    if metadata.get("unit") == before.unit:  # LlamaIndex writes it there
        metadata["unit"] = own.unit
    return metadata


def _is_bare(entry: Entry, old: Mapping[str, Any], own: Own) -> bool:
    return own.kind == "text" and own.context is None and own.span is None and points.words(old) == entry.words


def _is_edited(own: Own) -> bool:
    return own.file is not None and own.file.get("digest") != own.content_hash


def _unmarked(payload: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in payload[OWN].items() if name != "file"}
    return {**payload, OWN: own}
