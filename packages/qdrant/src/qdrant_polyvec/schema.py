"""Which named vectors and payload indexes a collection has, and which servers can keep them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from qdrant_client import QdrantClient, models

from polyvec.warning import warn
from qdrant_polyvec import bm25
from qdrant_polyvec.choices import PRECISIONS, Precision
from qdrant_polyvec.clients import Engine, ServerVersionError, Version
from qdrant_polyvec.cluster import Cluster
from qdrant_polyvec.errors import StoreRefusedError

__all__ = ["OWN", "PRECISIONS", "RESERVED", "Precision", "Schema", "SchemaError", "of_tenant", "value_is"]

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
    """A collection of that name exists, but its vectors are of another kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """Which vectors a collection keeps beside `dense`, and how.

    Attributes:
        late: how the numbers of multi-vectors are stored. `turbo8` and `turbo4` (8 and 4 bits) are smaller and
            less exact; they need Qdrant 1.20 and 1.19.
        pooled: keep the means of the rows and columns of page images, too: a second way to find candidates.
        bm25: the language whose stems and stop words apply, such as `"english"`, to keep BM25 vectors of texts for
            mode `hybrid`. `"any"` has neither: for other languages and for mixtures. None keeps no such vectors.
        quantization: a quantized copy of the multi-vectors. It is used only by searches that pass `oversampling`.
    """

    late: Precision = "float16"
    pooled: bool = False
    bm25: str | None = None
    quantization: models.QuantizationConfig | None = None

    def __post_init__(self) -> None:
        if self.late not in PRECISIONS:
            raise ValueError(f"`late` is {self.late!r}; it must be one of {', '.join(map(repr, PRECISIONS))}.")
        if self.bm25 is not None:
            bm25.check_language(self.bm25)

    @classmethod
    def of(cls, config: models.CollectionConfig, language: str | None) -> "Schema":
        """Read the schema of an existing collection; vectors of other names are left out."""
        vectors = _by_name(config.params.vectors)
        late = vectors.get(LATE)
        datatype = _datatype(late) if late else "float16"
        return cls(
            late=next((precision for precision in PRECISIONS if precision == datatype), "float16"),
            pooled=POOLED in vectors,
            bm25=language if BM25 in (config.params.sparse_vectors or {}) else None,
            quantization=late.quantization_config if late else None,
        )


def vectors_config(
    dense: int, late: int, schema: Schema | None = None, *, tiers: bool = True
) -> dict[str, models.VectorParams]:
    """Configure the dense vectors and, unless `late` is 0, the multi-vectors of a schema, by name.

    `dense` has a graph; `late` only re-ranks, so it has none and stays on disk. A server since 1.19 has `tiers`: it
    knows `memory` instead of `on_disk`.
    """
    schema = schema or Schema()
    if not late:
        if schema != Schema():
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
) -> None:
    """Create a collection and its payload indexes; finish it if an earlier call was interrupted."""
    schema, cluster = schema or Schema(), cluster or Cluster()
    sparse = {BM25: models.SparseVectorParams(modifier=models.Modifier.IDF)} if schema.bm25 else None
    if not client.collection_exists(name):
        with _unless_there():  # another process may create it at the same time
            client.create_collection(
                name,
                vectors_config=vectors_config(dense, late, schema, tiers=engine.has_memory_tiers),
                sparse_vectors_config=sparse,
                metadata=dict(metadata),
                **cluster.create_options(),
            )
    ensure_shard_key(client, name, cluster)
    if not engine.is_imitation:
        for field in INDEXED:
            client.create_payload_index(name, field, models.PayloadSchemaType.KEYWORD)
        by_tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
        client.create_payload_index(name, TENANT, by_tenant)


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
    for key, fact in facts.items():
        if fact != expected_facts[key]:
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
