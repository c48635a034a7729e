"""What is stored is read by its ids: items, and their vectors."""

from collections.abc import Sequence
from functools import partial

from qdrant_client import AsyncQdrantClient, models

from polyvec.types import Embeddings
from qdrant_polyvec import hits, points
from qdrant_polyvec.hits import Stored
from qdrant_polyvec.items import Identity, point_id
from qdrant_polyvec.place import Place
from qdrant_polyvec.retrying import patiently
from qdrant_polyvec.schema import DENSE, LATE


def records(place: Place, ids: Sequence[Identity], with_vectors: Sequence[str] = ()) -> list[models.Record]:
    """The points of items, in no order."""
    requests = place.reading(_listed(ids), with_vectors=with_vectors)
    return [record for how in requests for record in patiently(partial(place.client.retrieve, **how))]


async def arecords(
    place: Place, aclient: AsyncQdrantClient, ids: Sequence[Identity], with_vectors: Sequence[str] = ()
) -> list[models.Record]:
    """`records` on the asynchronous client."""
    requests = place.reading(_listed(ids), with_vectors=with_vectors)
    return [record for how in requests for record in await aclient.retrieve(**how)]


def items(place: Place, found: Sequence[models.Record], ids: Sequence[Identity]) -> list[Stored]:
    """The points as items, each once, in the order of `ids`."""
    by_id = {record.id: record for record in found}
    wanted = dict.fromkeys(point_id(identity, place.tenant) for identity in ids)
    return hits.stored([by_id[identity] for identity in wanted if identity in by_id])


def names(place: Place, *, multivector: bool) -> list[str]:
    """Of the vectors to read; Qdrant refuses names that a collection does not have.

    Raises:
        ValueError: it has no multi-vectors.
    """
    if multivector and LATE not in place.vector_names:
        raise ValueError(f"Collection {place.name!r} has no multi-vectors: its embedder makes none.")
    return [DENSE, LATE] if multivector else [DENSE]


def embeddings(place: Place, found: Sequence[models.Record], wanted: Sequence[str]) -> dict[Identity, Embeddings]:
    """The vectors of points, by the ids of their items.

    Raises:
        FingerprintError: the collection holds another model's vectors by now.
    """
    if any(one.fingerprint not in ("", place.embedder.fingerprint) for one in hits.stored(found)):
        place.check_model()
    return points.stored_embeddings(found, wanted)


def _listed(ids: Sequence[Identity]) -> Sequence[Identity]:
    if isinstance(ids, str | bytes) or not isinstance(ids, Sequence):
        raise TypeError("give `ids` as a list.")
    return ids
