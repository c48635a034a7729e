"""Carry over what others added to parts of files that are moved: to the new parts that take their places.

A part is marked as new when it is written, and the mark goes when the run ends (`settle`). So a run that was
interrupted anywhere is simply repeated: its new parts still take over what the others had.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from qdrant_client import QdrantClient, models

from qdrant_polyvec import points, revisions
from qdrant_polyvec.commands.parts import Part, is_absent
from qdrant_polyvec.files.content import SEPARATOR
from qdrant_polyvec.items import Identity
from qdrant_polyvec.points import Own
from qdrant_polyvec.schema import OWN

T = TypeVar("T")

_AT_A_TIME = 256  # payloads
_STATUS = f"{OWN}.file.{next(iter(points.IS_NEW))}"


def heirs_of(
    client: QdrantClient, collection: str, leaving: Sequence[Part], new: Sequence[Part]
) -> list[tuple[Part, Part]]:
    """Pair parts that leave their places with new parts of the same content, each new one once.

    They are parts of moved files, parts below inserted lines, or parts of files with another name.
    """
    pairs = list(_of_same_digest(leaving, new))
    paired = {part.id for pair in pairs for part in pair}
    leaving, new = ([part for part in parts if part.id not in paired] for parts in (leaving, new))
    return pairs + _of_renamed_files(client, collection, leaving, new)


def carry_over(client: QdrantClient, collection: str, pairs: Sequence[tuple[Part, Part]]) -> None:
    """Give the heirs the metadata, the payload and the content that others gave to the parts before them."""
    for some in _batches(pairs):
        payloads = _payloads(client, collection, [part.id for pair in some for part in pair])
        for part, heir in some:
            old, new = payloads.get(part.id, {}), payloads.get(heir.id, {})
            if not old or not new:  # somebody else deleted it meanwhile
                continue
            if part.is_edited and not heir.is_edited:
                _copy(client, collection, part.id, heir.id, revisions.moved(old, new))
            elif kept := revisions.inherited(old, new):
                client.set_payload(collection, kept, points=[heir.id], wait=True)


def settle(client: QdrantClient, collection: str, new: Sequence[Part]) -> None:
    """Take the mark from the new parts: from now on they are parts like all others."""
    for some in _batches(new):
        client.delete_payload(collection, keys=[_STATUS], points=[part.id for part in some], wait=True)


def _of_same_digest(leaving: Sequence[Part], new: Sequence[Part]) -> Iterator[tuple[Part, Part]]:
    new_by_digest: defaultdict[tuple[str, str], list[Part]] = defaultdict(list)
    for part in new:
        new_by_digest[part.digest, part.task].append(part)
    for part in leaving:
        if same := new_by_digest[part.digest, part.task]:
            heir = next((one for one in same if one.unit == part.unit), same[0])
            same.remove(heir)
            yield part, heir


def _of_renamed_files(
    client: QdrantClient, collection: str, leaving: Sequence[Part], new: Sequence[Part]
) -> list[tuple[Part, Part]]:
    """Pair the parts of text files whose names have changed, and with them the contexts.

    The parts of a file go to those of the one new file that has all its texts, in the same units below the same
    headings. A part that others have edited goes with them.
    """
    gone = {path for path in {part.path for part in leaving} if path is not None and is_absent(path)}
    leaving = [part for part in leaving if part.path in gone]
    places = set(map(_place, leaving))
    new = [part for part in new if _place(part) in places]
    texts = _texts(client, collection, [*leaving, *new])
    files = _by_file(new)
    pairs = []
    for parts in _by_file(leaving):
        text_by_place = {
            place: texts[part.id] for place, part in parts.items() if not part.is_edited and part.id in texts
        }
        alike = [
            file
            for file in files
            if text_by_place
            and parts.keys() <= file.keys()
            and all(texts.get(file[place].id) == text for place, text in text_by_place.items())
        ]
        if len(alike) == 1:
            pairs += [(part, alike[0].pop(place)) for place, part in parts.items()]
    return pairs


def _by_file(parts: Sequence[Part]) -> list[dict[tuple[str, str], Part]]:
    """The parts of each file by their places."""
    files: defaultdict[str, dict[tuple[str, str], Part]] = defaultdict(dict)
    for part in parts:
        files[part.source][_place(part)] = part
    return list(files.values())


def _place(part: Part) -> tuple[str, str]:
    return part.unit, part.task


def _batches(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[start : start + _AT_A_TIME] for start in range(0, len(values), _AT_A_TIME))


def _texts(client: QdrantClient, collection: str, parts: Sequence[Part]) -> dict[Identity, tuple[int, str]]:
    """A hash of the text of each part that has one, and its context without the name of the file."""
    texts = {}
    for some in _batches(parts):
        payloads = _payloads(client, collection, [part.id for part in some], ["page_content", "metadata", OWN])
        for part in some:
            payload = payloads.get(part.id, {})
            words, context = points.words(payload), Own.of(payload).context
            if words is not None and context is not None and Own.of(payload).kind == "text":
                texts[part.id] = hash(words), context.partition(SEPARATOR)[2]
    return texts


def _payloads(
    client: QdrantClient, collection: str, ids: Sequence[Identity], fields: list[str] | None = None
) -> dict[Identity, Mapping[str, Any]]:
    records = client.retrieve(collection, list(ids), with_payload=fields or True)
    return {points.identity(record): record.payload or {} for record in records}


def _copy(client: QdrantClient, collection: str, of: Identity, to: Identity, payload: Mapping[str, Any]) -> None:
    """Write a point over another one, with its vectors."""
    for record in client.retrieve(collection, [of], with_vectors=True):
        vectors: Any = record.vector  # as the client returns them
        client.upsert(collection, [models.PointStruct(id=to, vector=vectors, payload=dict(payload))], wait=True)
