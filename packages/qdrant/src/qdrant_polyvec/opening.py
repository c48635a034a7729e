"""A collection is opened: made if it is missing, and compared with what is wanted."""

from dataclasses import replace

from qdrant_polyvec import schema, server
from qdrant_polyvec.fingerprint import KEY
from qdrant_polyvec.place import Place, behind_alias, point_alias
from qdrant_polyvec.schema import Schema


def opened(place: Place, schema_wanted: Schema | None) -> Place:
    """The place, its collection being there and of this model and schema.

    Raises:
        FingerprintError, SchemaError, ServerVersionError: it is not, or the server cannot keep what is wanted.
    """
    found = server.version(place.client)
    server.check(found, Schema())  # before anything is asked that an old server does not know
    client, name = place.client, place.name
    if not client.collection_exists(name) and behind_alias(client, name) is None:
        server.check(found, place.schema)
        real_name = place.real_name()
        place.create(real_name, tiers=server.has_memory_tiers(found))
        point_alias(client, name, real_name, instead=False)
        return place
    config = client.get_collection(name).config
    place.fingerprint.check(name, config.metadata)
    language = (config.metadata or {})[KEY].get("bm25")
    there = Schema.of(config, language)
    place = replace(place, schema=schema_wanted or there)
    server.check(found, place.schema)
    if place.cluster.shard_key is not None:
        schema.ensure_shard_key(client, behind_alias(client, name) or name, place.cluster)
    schema.check(name, config, place.schema, dense=place.dim, late=place.embedder.multivector_dim)
    if place.schema.bm25 != there.bm25:
        raise schema.SchemaError(
            f"Collection {name!r} has BM25 vectors for {there.bm25!r}, not {place.schema.bm25!r}. Open it without "
            "`schema` to take it as it is, or `reindex` it."
        )
    return place
