"""The settings of a collection beside its schema, which the collections that are made from it take over."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from qdrant_client import QdrantClient, models

from qdrant_polyvec.clients import Engine
from qdrant_polyvec.cluster import Cluster
from qdrant_polyvec.edge import shard_config

Placed = TypeVar("Placed", models.VectorParams, models.HnswConfigDiff, models.SparseIndexParams)

# Parts of a collection's description that have another name, or no place, among the arguments of `create_collection`.
_RENAMED = {"optimizer_config": "optimizers_config"}
_OF_SCHEMA = ("vectors", "sparse_vectors", "metadata")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user or the server chose for a collection; empty for a new one.

    Attributes:
        creation: the arguments of `create_collection` that make such a collection.
        fan_out: how reads are spread over replicas; it can only be set afterwards.
        indexes: all payload indexes, by key.
    """

    creation: models.CreateCollection = field(default_factory=models.CreateCollection)
    fan_out: models.CollectionParamsDiff | None = None
    indexes: Mapping[str, models.PayloadIndexInfo] = field(default_factory=dict)

    @classmethod
    def of(cls, client: QdrantClient, name: str, engine: Engine) -> "Settings":
        """Read the settings of a collection. In memory, nothing but its metadata is real."""
        info = client.get_collection(name)
        config = info.config
        if engine.is_imitation:
            return cls(models.CreateCollection(metadata=config.metadata))
        # A folder says what was set, and a server also what it chose itself. Null is the default.
        parts = config.model_dump(exclude={"params", "metadata"}, exclude_unset=True, exclude_none=True)
        params = config.params.model_dump(exclude_unset=True, exclude_none=True)
        arguments = params | {_RENAMED.get(part, part): value for part, value in parts.items()}
        known = {key: arguments[key] for key in models.CreateCollection.model_fields if arguments.get(key, {}) != {}}
        fan_out = {key: value for key, value in params.items() if key.startswith("read_fan_out")}
        return cls(
            models.CreateCollection(**known | {"metadata": config.metadata}),
            models.CollectionParamsDiff(**fan_out) if fan_out else None,
            info.payload_schema,
        )

    @property
    def is_sharded_by_key(self) -> bool:
        return self.creation.sharding_method == models.ShardingMethod.CUSTOM

    def create_options(self, engine: Engine, cluster: Cluster) -> dict[str, Any]:
        """Arguments of `create_collection` beside the schema's: what `cluster` does not say, if the engine knows it."""
        options = {key: value for key, value in self.creation if value is not None and key not in _OF_SCHEMA}
        options.pop("sharding_method", None)
        if self.is_sharded_by_key != (cluster.shard_key is not None):
            options.pop("shard_number", None)  # it counts the shards of each key
        if hnsw := options.get("hnsw_config"):
            options["hnsw_config"] = _placed(hnsw, engine)
        if engine.kind == "memory":
            options = {}
        elif engine.kind == "edge":
            options = shard_config.known_options(options)
        return options | cluster.create_options()

    def vector(self, name: str, params: models.VectorParams, engine: Engine) -> models.VectorParams:
        """Complete the parameters of a vector by those of the vector that has this name; `params` go first."""
        vectors = self.creation.vectors
        before = vectors.get(name) if isinstance(vectors, Mapping) else None
        if before is None or engine.is_imitation:
            return params
        kept: dict[str, Any] = {}  # Any: values of several types
        if before.hnsw_config is not None:
            chosen = params.hnsw_config.model_dump(exclude_none=True) if params.hnsw_config else {}
            kept["hnsw_config"] = _placed(before.hnsw_config.model_copy(update=chosen), engine)
        if params.quantization_config is None:
            kept["quantization_config"] = before.quantization_config
        place = {key: value for key, value in before if key in ("on_disk", "memory")}
        if any(value is not None for value in place.values()):
            kept |= place
        return _placed(params.model_copy(update=kept), engine)

    def sparse_index(self, name: str, engine: Engine) -> models.SparseIndexParams | None:
        """Return the parameters of a sparse vector's index."""
        before = (self.creation.sparse_vectors or {}).get(name)
        return None if before is None or before.index is None else _placed(before.index, engine)


def _placed(params: Placed, engine: Engine) -> Placed:
    """Say `on_disk` instead of `memory` to a server that does not know the latter."""
    memory = getattr(params, "memory", None)  # qdrant-client has it since 1.19
    if memory is None or engine.has_memory_tiers:
        return params
    return params.model_copy(update={"memory": None, "on_disk": memory == models.Memory.COLD})
