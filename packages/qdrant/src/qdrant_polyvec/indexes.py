"""The payload indexes of the fields that a schema names."""

from collections.abc import Iterable, Mapping

from qdrant_client import QdrantClient, models

from qdrant_polyvec.choices import IndexKind
from qdrant_polyvec.fields import canonical, field_keys
from qdrant_polyvec.pictures import FACT_KEYS
from qdrant_polyvec.schema import SchemaError


def check(
    name: str,
    indexed: Mapping[str, IndexKind],
    existing: Mapping[str, models.PayloadIndexInfo],
    *,
    under: str = "metadata",
) -> None:
    """Raise a SchemaError if a field is indexed as another kind."""
    present = {canonical(key): index.data_type.value for key, index in existing.items()}
    for field, kind in indexed.items():
        for key in _keys(field, under):
            if (found := present.get(canonical(key), kind)) != kind:
                raise SchemaError(
                    f"Collection {name!r} has an index of {field!r} as {found!r}, not {kind!r}. Name it {found!r}, or "
                    f"delete that index first, with `client.delete_payload_index({name!r}, {key!r})`."
                )


def create_missing(
    client: QdrantClient,
    collection: str,
    indexed: Mapping[str, IndexKind],
    existing: Iterable[str],
    *,
    under: str = "metadata",
) -> None:
    """Create the indexes of fields whose keys have none."""
    present = set(map(canonical, existing))
    for field, kind in indexed.items():
        for key in _keys(field, under):
            if canonical(key) not in present:
                client.create_payload_index(collection, key, models.PayloadSchemaType(kind))


def agreeing(
    existing: Mapping[str, models.PayloadIndexInfo], indexed: Mapping[str, IndexKind]
) -> dict[str, models.PayloadIndexInfo]:
    """Select the indexes that are of the kind that the schema names, and all those that it does not name."""
    kinds = {canonical(key): kind for field, kind in indexed.items() for key in _keys(field, "metadata")}
    return {
        key: index
        for key, index in existing.items()
        if kinds.get(canonical(key), index.data_type.value) == index.data_type.value
    }


def _keys(field: str, under: str) -> list[str]:
    """List where conditions look for a field: under a key, and for metadata, where an item keeps a fact so named."""
    facts = [FACT_KEYS[field]] if under == "metadata" and field in FACT_KEYS else []
    return [*field_keys(field, under=under), *facts]
