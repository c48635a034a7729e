"""Which named vectors and payload indexes a collection has, and which servers can keep them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from qdrant_client import QdrantClient, models

from polyvec.warning import warn
from qdrant_polyvec import bm25
from qdrant_polyvec.choices import INDEX_KINDS, PRECISIONS, IndexKind, Precision
from qdrant_polyvec.clients import Engine, ServerVersionError, Version
from qdrant_polyvec.cluster import Cluster
from qdrant_polyvec.errors import StoreRefusedError
from qdrant_polyvec.fields import field_keys, field_name
from qdrant_polyvec.settings import Settings

__all__ = ["OWN", "PRECISIONS", "RESERVED", "IndexKind", "Precision", "Schema", "SchemaError", "of_tenant", "value_is"]

LAYOUT = 2  # version of the layout that this module describes, kept in the fingerprint of a collection
DENSE = "dense"
LATE = "late"
POOLED = "pooled"
BM25 = "bm25"
OWN = "_polyvec"  # the payload key that is ours; `page_content` and `metadata` belong to the stock integrations
RESERVED = ("page_content", "metadata", OWN)  # the payload keys that a collection itself writes
TENANT = f"{OWN}.tenant"
# Payload fields that searches, deletions and checks select by.
INDEXED = (f"{OWN}.task", f"{OWN}.fingerprint", f"{OWN}.content_hash", f"{OWN}.kind", "metadata.source")

OLDEST: Version = (1, 16)  # since then collections have metadata, where the fingerprint is kept
RECOMMENDED: Version = (1, 19)  # before, a crash could damage a multi-vector that was replaced by a longer one
_NEEDED_BY_PRECISION: dict[str, Version] = {"turbo4": (1, 19), "turbo8": (1, 20)}


class SchemaError(ValueError):
    """A collection of that name exists, but its vectors or payload indexes are of another kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """Which vectors a collection keeps beside `dense`, and how, and which fields of the metadata are indexed.

    Attributes:
        late: how the numbers of multi-vectors are stored. `turbo8` and `turbo4` (8 and 4 bits) are smaller and
            less exact; they need Qdrant 1.20 and 1.19.
        pooled: keep the means of the rows and columns of page images, too: a second way to find candidates.
        bm25: the language whose stems and stop words apply, such as `"english"`, to keep BM25 vectors of texts for
            mode `hybrid`. `"any"` has neither: for other languages and for mixtures. None keeps no such vectors.
        quantization: a quantized copy of the multi-vectors. It is used only by searches that pass `oversampling`.
        indexed: fields of the metadata to filter by, each with the kind of its payload index: `{"lang": "keyword",
            "published": "datetime"}`. Names are those of `field_keys`. An existing collection gets the indexes that
            it lacks; in memory, there are none.
    """

    late: Precision = "float16"
    pooled: bool = False
    bm25: str | None = None
    quantization: models.QuantizationConfig | None = None
    indexed: Mapping[str, IndexKind] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.late not in PRECISIONS:
            raise ValueError(f"`late` is {self.late!r}; it must be one of {', '.join(map(repr, PRECISIONS))}.")
        if self.bm25 is not None:
            bm25.check_language(self.bm25)
        for name, kind in self.indexed.items():
            check_index(name, kind)

    @property
    def of_embedder(self) -> "Schema":
        """What of it concerns the vectors that an embedder makes."""
        return replace(self, bm25=None, indexed={})

    @classmethod
    def of(
        cls,
        config: models.CollectionConfig,
        language: str | None,
        indexes: Mapping[str, models.PayloadIndexInfo] | None = None,
    ) -> "Schema":
        """Read the schema of an existing collection; vectors of other names are left out."""
        vectors = _by_name(config.params.vectors)
        late = vectors.get(LATE)
        datatype = _datatype(late) if late else "float16"
        return cls(
            late=next((precision for precision in PRECISIONS if precision == datatype), "float16"),
            pooled=POOLED in vectors,
            bm25=language if BM25 in (config.params.sparse_vectors or {}) else None,
            quantization=late.quantization_config if late else None,
            indexed=indexed_fields(indexes or {}),
        )


def check_index(name: str, kind: str) -> None:
    """Raise a ValueError if no field has this name, or if there is no such payload index."""
    field_keys(name)
    if kind not in INDEX_KINDS:
        raise ValueError(f"the index of {name!r} is {kind!r}; it must be one of {', '.join(map(repr, INDEX_KINDS))}.")
    if name == "source" and kind != "keyword":
        raise ValueError(f"the index of 'source' is {kind!r}; every collection has one for it, which is 'keyword'.")


def indexed_fields(indexes: Mapping[str, models.PayloadIndexInfo]) -> dict[str, IndexKind]:
    """Name the indexed fields of the metadata but `source`, with the kinds of their indexes."""
    # Keys in quotation marks come first: where both readings of `dc.title` are indexed, the kind is that of the path.
    ordered = sorted(indexes.items(), key=lambda item: ('"' not in item[0], item[0]))
    named = ((field_name(key), index.data_type.value) for key, index in ordered if key not in INDEXED)
    return {name: kind for name, value in named for kind in INDEX_KINDS if name is not None and kind == value}


def vectors_config(
    dense: int, late: int, schema: Schema | None = None, *, tiers: bool = True
) -> dict[str, models.VectorParams]:
    """Configure the dense vectors and, unless `late` is 0, the multi-vectors of a schema, by name.

    `dense` has a graph; `late` only re-ranks, so it has none and stays on disk. A server since 1.19 has `tiers`: it
    knows `memory` instead of `on_disk`.
    """
    schema = schema or Schema()
    if not late:
        if schema.of_embedder != Schema() or schema.bm25:
            raise SchemaError(f"{schema} is about multi-vectors, and this embedder makes none: give Schema().")
        return {DENSE: _dense(dense)}
    if schema.late.upper() not in models.Datatype.__members__:
        raise SchemaError(f"late={schema.late!r} needs a later qdrant-client: `pip install -U qdrant-client`.")
    # The dot product of unit vectors is the cosine, so nothing has to be normalised again at search time.
    rows: dict[str, Any] = {"size": late, "distance": models.Distance.DOT}
    max_sim = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    cold: dict[str, Any] = {"on_disk": True}  # Any: the values are of several types
    if tiers and hasattr(models, "Memory"):
        cold = {"memory": models.Memory.COLD}
    vectors = {
        DENSE: _dense(dense),
        LATE: models.VectorParams(
            **rows,
            datatype=models.Datatype(schema.late),
            multivector_config=max_sim,
            hnsw_config=models.HnswConfigDiff(m=0),
            quantization_config=schema.quantization,
            **cold,
        ),
    }
    if schema.pooled:
        vectors[POOLED] = models.VectorParams(**rows, datatype=models.Datatype.FLOAT16, multivector_config=max_sim)
    return vectors


def value_is(key: str, value: str) -> models.FieldCondition:
    """Select points by a value of their payload."""
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def of_tenant(tenant: str | None) -> models.Condition:
    """Select the items that a call with this tenant may replace or delete in passing: without one, those of nobody."""
    if tenant is None:
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=TENANT))
    return value_is(TENANT, tenant)


def _dense(dim: int) -> models.VectorParams:
    return models.VectorParams(size=dim, distance=models.Distance.COSINE, datatype=models.Datatype.FLOAT16)


def create(
    client: QdrantClient,
    name: str,
    *,
    dense: int,
    late: int,
    metadata: Mapping[str, Any],
    schema: Schema | None = None,
    cluster: Cluster | None = None,
    engine: Engine,
    settings: Settings | None = None,
) -> None:
    """Create a collection and its payload indexes; finish it if an earlier call was interrupted.

    `settings` are those of the collection that it is made from. The schema and the cluster go first.
    """
    schema, cluster, settings = schema or Schema(), cluster or Cluster(), settings or Settings()
    vectors = vectors_config(dense, late, schema, tiers=engine.has_memory_tiers)
    vectors = {vector: settings.vector(vector, params, engine) for vector, params in vectors.items()}
    if late:  # it has a quantized copy if the schema says so
        vectors[LATE] = vectors[LATE].model_copy(update={"quantization_config": schema.quantization})
    words = models.SparseVectorParams(modifier=models.Modifier.IDF, index=settings.sparse_index(BM25, engine))
    if not client.collection_exists(name):
        with _unless_there():  # another process may create it at the same time
            client.create_collection(
                name,
                vectors_config=vectors,
                sparse_vectors_config={BM25: words} if schema.bm25 else None,
                metadata=dict(metadata),
                **settings.create_options(engine, cluster),
            )
    ensure_shard_key(client, name, cluster)
    if (fan_out := settings.fan_out) is not None and engine.version is not None:
        client.update_collection(name, collection_params=fan_out)
    if not engine.is_imitation:
        by_tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
        indexes = dict.fromkeys(INDEXED, models.PayloadSchemaType.KEYWORD) | {TENANT: by_tenant}
        kept = {key: index.params or index.data_type for key, index in settings.indexes.items()}
        if not getattr(kept.get(TENANT), "is_tenant", None):
            kept.pop(TENANT, None)
        for key, index in (indexes | kept).items():
            client.create_payload_index(name, key, index)


def ensure_shard_key(client: QdrantClient, name: str, cluster: Cluster) -> None:
    """Create the shard key of the points, if they have one and it does not exist."""
    if cluster.shard_key is not None:
        with _unless_there():
            client.create_shard_key(name, cluster.shard_key)


@contextmanager
def _unless_there() -> Iterator[None]:
    try:
        yield
    except (ValueError, StoreRefusedError) as error:
        if "already exists" not in str(error) and getattr(error, "status", None) != 409:
            raise


def check_server(version: Version | None, schema: Schema) -> None:
    """Refuse a server (None: there is none) that cannot keep such collections; warn of one that may damage them."""
    if version is None:
        return
    if version < OLDEST:
        raise ServerVersionError(
            f"the server is Qdrant {_dotted(version)}; {_dotted(OLDEST)} or later is needed, "
            f"{_dotted(RECOMMENDED)} recommended."
        )
    if version < (needed := _NEEDED_BY_PRECISION.get(schema.late, OLDEST)):
        raise SchemaError(f"late={schema.late!r} needs Qdrant {_dotted(needed)}; the server is {_dotted(version)}.")
    if version < RECOMMENDED:
        warn(
            f"the server is Qdrant {_dotted(version)}: a crash while an item is replaced by a longer one may damage "
            f"its multi-vector (mended in {_dotted(RECOMMENDED)}). Upgrade it before you index again."
        )


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def check(name: str, config: models.CollectionConfig, schema: Schema, *, dense: int, late: int) -> None:
    """Raise a SchemaError that names every difference to the schema; vectors of other names do not matter."""
    vectors = _by_name(config.params.vectors)
    differences = [
        difference
        for vector, expected in vectors_config(dense, late, schema).items()
        for difference in _differences(vector, vectors.get(vector), expected)
    ]
    if not schema.pooled and POOLED in vectors:
        differences.append(f"{POOLED!r} is there, though not wanted")
    sparse = (config.params.sparse_vectors or {}).get(BM25)
    if (sparse is not None) != (schema.bm25 is not None):
        differences.append(f"{BM25!r} is {'there, though not wanted' if sparse else 'missing'}")
    elif sparse is not None and sparse.modifier != models.Modifier.IDF:
        differences.append(f"{BM25!r} has modifier {sparse.modifier}, not idf")
    if differences:
        raise SchemaError(
            f"Collection {name!r} has other vectors than wanted: {'; '.join(differences)}. "
            "Open it without `schema` to take it as it is, choose another name, or `reindex` it."
        )


def _by_name(vectors: models.VectorParams | Mapping[str, models.VectorParams] | None) -> dict[str, models.VectorParams]:
    return dict(vectors) if isinstance(vectors, Mapping) else {"": vectors} if vectors else {}


def _differences(name: str, params: models.VectorParams | None, expected: models.VectorParams) -> Iterator[str]:
    if params is None:
        yield f"{name!r} is missing"
        return
    facts, expected_facts = _facts(params), _facts(expected)
    free = () if name == LATE else ("graph", "quantization")  # a schema does not speak of those of other vectors
    for key, fact in facts.items():
        if fact != expected_facts[key] and key not in free:
            yield f"{name!r} has {key} {fact}, not {expected_facts[key]}"


def _facts(params: models.VectorParams) -> dict[str, object]:
    quantization = params.quantization_config
    return {
        "size": params.size,
        "distance": params.distance.value,
        "datatype": _datatype(params),
        "comparator": params.multivector_config.comparator.value if params.multivector_config else None,
        "graph": "none" if params.hnsw_config and params.hnsw_config.m == 0 else "hnsw",
        "quantization": quantization.model_dump(mode="json", exclude_none=True) if quantization else None,
    }


def _datatype(params: models.VectorParams) -> str:
    return (params.datatype or models.Datatype.FLOAT32).value
