"""Collection settings: from qdrant-client's models to the embedded engine's own, and back."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import qdrant_edge as edge
from qdrant_client import models

from qdrant_polyvec.edge import translate
from qdrant_polyvec.edge.translate import Model, Native, allow_only, member, unsupported

# Settings of a collection beside its vectors and metadata.
_OPTIONS = ("hnsw_config", "quantization_config", "optimizers_config", "on_disk_payload", "payload", "id_tracker")
_OPTIMIZER_OPTIONS = (
    "deleted_threshold", "vacuum_min_vector_number", "default_segment_number", "max_segment_size",
    "indexing_threshold", "prevent_unoptimized",
)  # fmt: skip

PLACEHOLDER = "placeholder"

# The server's defaults.
_HNSW = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000}
_OPTIMIZERS = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "flush_interval_sec": 0,
}


def client_config(
    vectors: models.VectorParams | Mapping[str, models.VectorParams] | None,
    sparse_vectors_config: Mapping[str, models.SparseVectorParams] | None = None,
    metadata: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> models.CreateCollection:
    """The arguments of `create_collection` as one model."""
    options = {name: kwargs.pop(name) for name in _OPTIONS if name in kwargs}
    translate.check_options("create_collection", kwargs)
    return models.CreateCollection(
        vectors=dict(vectors) if isinstance(vectors, Mapping) else vectors,
        sparse_vectors=dict(sparse_vectors_config) if sparse_vectors_config else None,
        metadata=translate.native_payload(metadata),
        **{name: value for name, value in options.items() if value is not None},
    )


@translate.numbers_in_range
def native_config(config: models.CreateCollection) -> Native:
    """Convert the settings of a new shard. It has a write-ahead log: without it, a crash loses unflushed updates.

    The engine creates no shard without vectors, so such a one gets the vector `PLACEHOLDER`, to be deleted at once.
    """
    allow_only(config, "vectors", "sparse_vectors", "metadata", *_OPTIONS)
    dense = {name: _dense_params(params) for name, params in _dense_vectors(config).items()}
    sparse = {name: _sparse_params(name, params) for name, params in (config.sparse_vectors or {}).items()}
    if both := sparse.keys() & dense.keys():
        raise ValueError(f"vector {min(both)!r} is both dense and sparse; give one of them another name.")
    if not dense and not sparse:
        dense = {PLACEHOLDER: edge.EdgeVectorParams(size=1, distance=edge.Distance.Dot)}
    return edge.EdgeConfig(
        vectors=dense or None,
        sparse_vectors=sparse or None,
        hnsw_config=_hnsw(config.hnsw_config),
        quantization_config=_quantization_config(config.quantization_config),
        optimizers=_optimizers(config.optimizers_config),
        on_disk_payload=config.on_disk_payload,
        payload_memory=_memory(getattr(config, "payload", None)),
        id_tracker_memory=_memory(getattr(config, "id_tracker", None)),
        wal_enabled=True,
    )


def known_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Select the arguments of `create_collection` beside vectors and metadata that the engine knows."""
    known = {name: value for name, value in options.items() if name in _OPTIONS}
    if optimizers := known.get("optimizers_config"):
        chosen = {name: value for name, value in optimizers if name in _OPTIMIZER_OPTIONS}
        known["optimizers_config"] = models.OptimizersConfigDiff(**chosen)
    return known


def vector_params(config: models.CreateCollection) -> dict[str, models.VectorParams | models.SparseVectorParams]:
    """The vectors of a collection by name; the unnamed one has the name ""."""
    return {**_dense_vectors(config), **(config.sparse_vectors or {})}


def with_vector(config: models.CreateCollection, name: str, added: Model) -> models.CreateCollection:
    """Add a vector to the settings unless it is there; a ValueError if it is there with other settings."""
    added = translate.client_model(added, models.VectorNameConfig)
    if isinstance(added, models.DenseVectorNameConfig):
        params: models.VectorParams | models.SparseVectorParams = models.VectorParams(**added.dense.model_dump())
    else:
        sparse = added.sparse
        index = sparse.datatype and models.SparseIndexParams(datatype=sparse.datatype.value)
        params = models.SparseVectorParams(modifier=sparse.modifier, index=index)
    present = vector_params(config)
    if name in present and present[name] != params:
        raise ValueError(f"there is a vector {name!r} with other settings: {present[name]!r}. Delete it first.")
    if isinstance(params, models.SparseVectorParams):
        if not name:
            raise ValueError("a sparse vector needs a name.")
        return config.model_copy(update={"sparse_vectors": {**(config.sparse_vectors or {}), name: params}})
    return config.model_copy(update={"vectors": {**_dense_vectors(config), name: params}})


def without_vector(config: models.CreateCollection, name: str) -> models.CreateCollection:
    """Remove a vector from the settings; a ValueError if there is no such vector."""
    translate.check_vector_name(name, vector_params(config))
    dense = {key: params for key, params in _dense_vectors(config).items() if key != name}
    sparse = {key: params for key, params in (config.sparse_vectors or {}).items() if key != name}
    return config.model_copy(update={"vectors": dense or None, "sparse_vectors": sparse or None})


def vector_creation(name: str, config: models.CreateCollection) -> Native:
    """The engine's operation that adds the vector `name`, as `config` describes it, to a shard."""
    params = vector_params(config)[name]
    if isinstance(params, models.SparseVectorParams):
        native = _sparse_params(name, params)
        return edge.UpdateOperation.create_sparse_vector(name, modifier=native.modifier, datatype=native.datatype)
    native = _dense_params(params)
    return edge.UpdateOperation.create_dense_vector(
        name, native.size, native.distance, multivector_config=native.multivector_config, datatype=native.datatype
    )


def _dense_vectors(config: models.CreateCollection) -> dict[str, models.VectorParams]:
    if isinstance(config.vectors, dict):
        return config.vectors
    return {"": config.vectors} if config.vectors else {}


def collection_info(config: models.CreateCollection, info: Native) -> models.CollectionInfo:
    """Describe a collection as a server does; settings that the engine does not have stay empty."""
    hnsw = {name: value for name, value in config.hnsw_config or () if value is not None}
    optimizers = {name: value for name, value in config.optimizers_config or () if value is not None}
    names = ("vectors", "sparse_vectors", "on_disk_payload", "payload", "id_tracker")
    params = {name: getattr(config, name, None) for name in names} | {"vectors": config.vectors or {}}
    return models.CollectionInfo(
        status=models.CollectionStatus.GREEN,
        optimizer_status=models.OptimizersStatusOneOf.OK,
        indexed_vectors_count=info.indexed_vectors_count,
        points_count=info.points_count,
        segments_count=info.segments_count,
        payload_schema={field: _index_info(index) for field, index in info.payload_schema.items()},
        config=models.CollectionConfig(
            params=models.CollectionParams(**{name: value for name, value in params.items() if value is not None}),
            # Defaults are shown, but are not among the fields that were set, so that no other collection gets them.
            hnsw_config=models.HnswConfig.model_construct(set(hnsw), **_HNSW | hnsw),
            optimizer_config=models.OptimizersConfig.model_construct(set(optimizers), **_OPTIMIZERS | optimizers),
            quantization_config=config.quantization_config,
            metadata=config.metadata,
        ),
    )


@translate.numbers_in_range
def index_schema(schema: Model) -> Native:
    """Convert the type or the parameters of a payload index."""
    schema = translate.client_model(schema, models.PayloadSchemaParams)
    if isinstance(schema, str):
        schema = models.PayloadSchemaType(schema)
    if isinstance(schema, models.PayloadSchemaType):
        return member(edge.PayloadSchemaType, schema)
    if schema is None:
        raise ValueError("give the index a `field_schema`, for example models.PayloadSchemaType.KEYWORD.")
    kind = type(schema).__name__
    if kind not in {f"{name}IndexParams" for name in _INDEXES}:
        raise unsupported(f"a payload index by {kind}")
    options = {name: value for name, value in schema if value is not None and name != "type"}
    for name, value in options.items():
        if name in _INDEX_OPTIONS:
            options[name] = _INDEX_OPTIONS[name](value)
        elif not isinstance(value, bool | int | str):
            raise unsupported(f"`{kind}({name}=…)`")
    return getattr(edge, kind)(**options)


def _stopwords(model: Model) -> Native:
    if isinstance(model, str):
        return member(edge.Language, models.Language(model))
    allow_only(model, "languages", "custom")
    return edge.StopwordsSet(
        languages={member(edge.Language, language) for language in model.languages or []},
        custom=set(model.custom or []),
    )


def _stemmer(model: Model) -> Native:
    if type(model).__name__ == "SnowballParams":
        return edge.SnowballParams(member(edge.SnowballLanguage, model.language))
    if type(model).__name__ == "DisabledStemmerParams":
        return edge.DisabledStemmer()
    raise unsupported(f"a stemmer by {type(model).__name__}")


def _scoring(model: Model) -> Native:
    return model if isinstance(model, bool) else edge.TextScoringParams(member(edge.TextScoringType, model.type))


_INDEX_OPTIONS: dict[str, Callable[[Model], Native]] = {
    "memory": partial(member, edge.Memory),
    "tokenizer": partial(member, edge.TokenizerType),
    "stopwords": _stopwords,
    "stemmer": _stemmer,
    "scoring": _scoring,
}
_INDEXES = ("Keyword", "Integer", "Float", "Geo", "Text", "Bool", "Datetime", "Uuid")


def _index_info(index: Native) -> models.PayloadIndexInfo:
    kind = next(name for name in _INDEXES if index.data_type == getattr(edge.PayloadSchemaType, name))
    data_type = models.PayloadSchemaType(kind.lower())
    native = index.params
    options = {name: _plain(getattr(native, name)) for name in dir(native) if not name.startswith("_")}
    chosen = {name: value for name, value in options.items() if value is not None}
    params = getattr(models, f"{kind}IndexParams")(type=data_type.value, **chosen) if chosen else None
    return models.PayloadIndexInfo(data_type=data_type, params=params, points=index.points)


def _plain(value: Native) -> Any:
    """The JSON of a parameter of an index."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, edge.StopwordsSet):
        return {"languages": sorted(map(_plain, value.languages or ())), "custom": sorted(value.custom or ())}
    if isinstance(value, edge.SnowballParams):
        return {"type": "snowball", "language": _plain(value.language)}
    if isinstance(value, edge.DisabledStemmer):
        return {"type": "none"}
    if isinstance(value, edge.TextScoringParams):
        return {"type": _plain(value.type)}
    return str(value).rpartition(".")[2].lower()  # a member of an enumeration


def _dense_params(params: models.VectorParams) -> Native:
    fields = ("size", "distance", "hnsw_config", "quantization_config", "on_disk", "memory", "datatype")
    allow_only(params, *fields, "multivector_config")
    if not 1 <= params.size <= 65_536:
        raise ValueError(f"vector size {params.size} is outside 1 to 65536.")
    return edge.EdgeVectorParams(
        size=params.size,
        distance=member(edge.Distance, params.distance),
        multivector_config=_multivector(params.multivector_config),
        datatype=member(edge.VectorStorageDatatype, params.datatype),
        hnsw_config=_hnsw(params.hnsw_config),
        quantization_config=_quantization_config(params.quantization_config),
        on_disk=params.on_disk,
        memory=_memory(params),
    )


def _sparse_params(name: str, params: models.SparseVectorParams) -> Native:
    if not name:
        raise ValueError("a sparse vector needs a name.")
    allow_only(params, "index", "modifier")
    index = params.index or models.SparseIndexParams()
    allow_only(index, "full_scan_threshold", "on_disk", "memory", "datatype")
    return edge.EdgeSparseVectorParams(
        full_scan_threshold=index.full_scan_threshold,
        on_disk=index.on_disk,
        modifier=member(edge.Modifier, None if params.modifier == models.Modifier.NONE else params.modifier),
        datatype=member(edge.VectorStorageDatatype, index.datatype),
        memory=_memory(index),
    )


def _optimizers(config: models.OptimizersConfigDiff | None) -> Native:
    if config is None:
        return None
    allow_only(config, *_OPTIMIZER_OPTIONS)
    return edge.EdgeOptimizersConfig(**{name: value for name, value in config if value is not None})


def _multivector(config: models.MultiVectorConfig | None) -> Native:
    return None if config is None else edge.MultiVectorConfig(member(edge.MultiVectorComparator, config.comparator))


def _hnsw(config: models.HnswConfigDiff | None) -> Native:
    if config is None:
        return None
    settings = models.HnswConfig(**_HNSW | {name: value for name, value in config if value is not None})
    n_threads = settings.max_indexing_threads or 0
    return edge.HnswIndexConfig(**{**dict(settings), "max_indexing_threads": n_threads, "memory": _memory(settings)})


def _memory(settings: Model) -> Native:
    return member(edge.Memory, getattr(settings, "memory", None))  # qdrant-client has it since 1.19


# By class name because older releases of qdrant-client lack some of these classes.
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


def _quantization_config(config: Model) -> Native:
    if config is None:
        return None
    if type(config).__name__ not in _QUANTIZATIONS:
        raise unsupported(f"quantization by {type(config).__name__}")
    return _QUANTIZATIONS[type(config).__name__](config)
