"""Which named vectors and payload indexes a collection has."""

from collections.abc import Mapping
from typing import Any

from qdrant_client import QdrantClient, models

from qdrant_polyvec.location import is_simulated

DENSE = "dense"
LATE = "late"
OWN = "_polyvec"  # the payload key that is ours; `page_content` and `metadata` belong to the stock integrations
INDEXED = (f"{OWN}.task", "metadata.source")  # payload fields that searches and deletions select by


class SchemaError(ValueError):
    """A collection of that name exists, but its vectors are of another kind."""


def vectors_config(dense: int, late: int) -> dict[str, models.VectorParams]:
    """One dense vector with a graph, and a multi-vector that only re-ranks, so it has no graph and stays on disk."""
    # Servers before 1.19 know `on_disk` only, later ones prefer `memory`; so does qdrant-client.
    on_disk: dict[str, Any] = {"on_disk": True}  # Any: the values are of several types
    if hasattr(models, "Memory"):
        on_disk["memory"] = models.Memory.COLD
    return {
        DENSE: models.VectorParams(size=dense, distance=models.Distance.COSINE, datatype=models.Datatype.FLOAT16),
        LATE: models.VectorParams(
            size=late,
            # Of unit vectors this is the cosine, and nothing has to be normalised again at search time.
            distance=models.Distance.DOT,
            datatype=models.Datatype.FLOAT16,
            multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
            hnsw_config=models.HnswConfigDiff(m=0),
            **on_disk,
        ),
    }


def create(client: QdrantClient, name: str, *, dense: int, late: int, metadata: Mapping[str, Any]) -> None:
    """Create the collection and its payload indexes."""
    client.create_collection(name, vectors_config=vectors_config(dense, late), metadata=dict(metadata))
    if not is_simulated(client):
        for field in INDEXED:
            client.create_payload_index(name, field, models.PayloadSchemaType.KEYWORD)


def check(
    name: str, vectors: models.VectorParams | Mapping[str, models.VectorParams] | None, *, dense: int, late: int
) -> None:
    """Compare a collection's vectors with those wanted; further vectors do not matter.

    Raises:
        SchemaError: naming every difference.
    """
    found = vectors if isinstance(vectors, Mapping) else {"": vectors} if vectors else {}
    differences = [
        difference
        for vector, wanted in vectors_config(dense, late).items()
        for difference in _differences(vector, found.get(vector), wanted)
    ]
    if differences:
        raise SchemaError(
            f"Collection {name!r} has other vectors than wanted: {'; '.join(differences)}. "
            "Choose another name, or index again into a new collection."
        )


def _differences(name: str, found: models.VectorParams | None, wanted: models.VectorParams) -> list[str]:
    if found is None:
        return [f"{name!r} is missing"]
    facts, wanted_facts = _facts(found), _facts(wanted)
    return [
        f"{name!r} has {key} {facts[key]}, not {wanted_facts[key]}" for key in facts if facts[key] != wanted_facts[key]
    ]


def _facts(params: models.VectorParams) -> dict[str, object]:
    return {
        "size": params.size,
        "distance": params.distance.value,
        "datatype": (params.datatype or models.Datatype.FLOAT32).value,
        "comparator": params.multivector_config.comparator.value if params.multivector_config else None,
        "graph": "none" if params.hnsw_config and params.hnsw_config.m == 0 else "hnsw",
    }
