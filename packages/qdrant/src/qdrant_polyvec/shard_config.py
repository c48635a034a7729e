"""Collection settings: from qdrant-client's models to the embedded engine's own, and back."""

from collections.abc import Callable

import qdrant_edge as edge
from qdrant_client import models

from qdrant_polyvec.translate import Model, Native, member, only, unsupported

# What the server uses where a setting is left open.
_HNSW = models.HnswConfig(m=16, ef_construct=100, full_scan_threshold=10_000)


def shard_config(config: models.CreateCollection) -> Native:
    """Settings of a new shard, with a write-ahead log: without one, a crash loses what was not flushed."""
    only(config, "vectors", "hnsw_config", "quantization_config", "on_disk_payload", "metadata")
    vectors = config.vectors
    if isinstance(vectors, dict):
        converted = {name: _vector(params) for name, params in vectors.items()}
    elif vectors is not None:
        converted = _vector(vectors)
    else:
        raise unsupported("a collection without dense vectors")
    return edge.EdgeConfig(
        vectors=converted,
        hnsw_config=_hnsw(config.hnsw_config),
        quantization_config=_quantization(config.quantization_config),
        on_disk_payload=config.on_disk_payload,
        wal_enabled=True,
    )


def vector_params(config: models.CreateCollection) -> dict[str, models.VectorParams]:
    """The vectors of a collection by name; the unnamed one has the name ""."""
    if isinstance(config.vectors, dict):
        return config.vectors
    return {"": config.vectors} if config.vectors else {}


def collection_info(config: models.CreateCollection, info: Native) -> models.CollectionInfo:
    """A collection's description as a server gives it; settings that the engine does not have stay empty."""
    hnsw = {name: value for name, value in config.hnsw_config or () if value is not None}
    return models.CollectionInfo(
        status=models.CollectionStatus.GREEN,
        optimizer_status=models.OptimizersStatusOneOf.OK,
        indexed_vectors_count=info.indexed_vectors_count,
        points_count=info.points_count,
        segments_count=info.segments_count,
        payload_schema={field: _index_info(index) for field, index in info.payload_schema.items()},
        config=models.CollectionConfig(
            params=models.CollectionParams(vectors=config.vectors, on_disk_payload=config.on_disk_payload),
            hnsw_config=_HNSW.model_copy(update=hnsw),
            optimizer_config=models.OptimizersConfig(default_segment_number=0, flush_interval_sec=0),
            quantization_config=config.quantization_config,
            metadata=config.metadata,
        ),
    )


def index_schema(schema: Model) -> Native:
    """A payload index, given by its type or by its parameters."""
    if isinstance(schema, str):
        schema = models.PayloadSchemaType(schema)
    if isinstance(schema, models.PayloadSchemaType):
        return member(edge.PayloadSchemaType, schema)
    if schema is None:
        raise ValueError("`field_schema` says what the index holds, for example models.PayloadSchemaType.KEYWORD.")
    kind = type(schema).__name__
    if kind not in {f"{name}IndexParams" for name in _INDEXES}:
        raise unsupported(f"a payload index by {kind}")
    options = {name: value for name, value in schema if value is not None and name != "type"}
    for name, value in options.items():
        if name == "memory":
            options[name] = member(edge.Memory, value)
        elif name == "tokenizer":
            options[name] = member(edge.TokenizerType, value)
        elif not isinstance(value, bool | int | str):
            raise unsupported(f"`{kind}({name}=…)`")
    return getattr(edge, kind)(**options)


_INDEXES = ("Keyword", "Integer", "Float", "Geo", "Text", "Bool", "Datetime", "Uuid")


def _index_info(index: Native) -> models.PayloadIndexInfo:
    kind = next(name for name in _INDEXES if index.data_type == getattr(edge.PayloadSchemaType, name))
    return models.PayloadIndexInfo(data_type=models.PayloadSchemaType(kind.lower()), points=index.points)


def _vector(params: models.VectorParams) -> Native:
    known = ("size", "distance", "hnsw_config", "quantization_config", "on_disk", "memory", "datatype")
    only(params, *known, "multivector_config")
    if not 1 <= params.size <= 65_536:
        raise ValueError(f"vector size {params.size} is outside 1 to 65536.")
    return edge.EdgeVectorParams(
        size=params.size,
        distance=member(edge.Distance, params.distance),
        multivector_config=_multivector(params.multivector_config),
        datatype=member(edge.VectorStorageDatatype, params.datatype),
        hnsw_config=_hnsw(params.hnsw_config),
        quantization_config=_quantization(params.quantization_config),
        on_disk=params.on_disk,
        memory=_memory(params),
    )


def _multivector(config: models.MultiVectorConfig | None) -> Native:
    return None if config is None else edge.MultiVectorConfig(member(edge.MultiVectorComparator, config.comparator))


def _hnsw(config: models.HnswConfigDiff | None) -> Native:
    if config is None:
        return None
    filled = _HNSW.model_copy(update={name: value for name, value in config if value is not None})
    return edge.HnswIndexConfig(
        m=filled.m,
        ef_construct=filled.ef_construct,
        full_scan_threshold=filled.full_scan_threshold,
        max_indexing_threads=filled.max_indexing_threads or 0,
        on_disk=filled.on_disk,
        payload_m=filled.payload_m,
        inline_storage=getattr(filled, "inline_storage", None),
        memory=_memory(filled),
    )


def _memory(settings: Model) -> Native:
    return member(edge.Memory, getattr(settings, "memory", None))  # qdrant-client has it since 1.19


# By class name, because older releases of qdrant-client lack some of these classes.
_QUANTIZATIONS: dict[str, Callable[[Model], Native]] = {
    "ScalarQuantization": lambda config: edge.ScalarQuantizationConfig(
        type=member(edge.ScalarType, config.scalar.type),
        quantile=config.scalar.quantile,
        always_ram=config.scalar.always_ram,
        memory=_memory(config.scalar),
    ),
    "ProductQuantization": lambda config: edge.ProductQuantizationConfig(
        compression=member(edge.CompressionRatio, config.product.compression),
        always_ram=config.product.always_ram,
        memory=_memory(config.product),
    ),
    "BinaryQuantization": lambda config: edge.BinaryQuantizationConfig(
        always_ram=config.binary.always_ram,
        encoding=member(edge.BinaryQuantizationEncoding, config.binary.encoding),
        query_encoding=member(edge.BinaryQuantizationQueryEncoding, config.binary.query_encoding),
        memory=_memory(config.binary),
    ),
    "TurboQuantization": lambda config: edge.TurboQuantQuantizationConfig(
        always_ram=config.turbo.always_ram,
        bits=member(edge.TurboQuantBitSize, config.turbo.bits),
        memory=_memory(config.turbo),
    ),
}


def _quantization(config: Model) -> Native:
    if config is None:
        return None
    if type(config).__name__ not in _QUANTIZATIONS:
        raise unsupported(f"quantization by {type(config).__name__}")
    return _QUANTIZATIONS[type(config).__name__](config)
