# ruff: noqa: FBT001, FBT002 — the signatures are those of qdrant-client
"""Qdrant Edge, the embedded engine, behind qdrant-client's own backend interface.

The engine keeps one data set per directory and knows nothing of collections, metadata or other processes; this
backend adds those, and checks what the engine does not.
"""

import importlib.metadata
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import qdrant_edge as edge
from qdrant_client import models
from qdrant_client.client_base import QdrantBase
from qdrant_client.http.models import QueryResponse  # in `models` this name is another class

from qdrant_polyvec import limits
from qdrant_polyvec.edge import aliases, filters, groups, shard_config, stages, structs, translate, updates
from qdrant_polyvec.edge.index import Index

_DONE = models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)


class EdgeBackend(QdrantBase):
    """The collections of one folder. It has the folder to itself until it is closed or the process ends.

    Every engine call holds the interpreter lock, so other threads wait while one searches. What a server can do and
    this cannot raises `NotImplementedError`. A forked child cannot use it.

    Raises:
        FolderLockedError: the folder is open elsewhere.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._index = Index(path)

    def close(self, **kwargs: Any) -> None:  # noqa: ARG002 — the client hands its gRPC options through
        """Flush and close every shard and unlock the folder. Closing twice does nothing."""
        self._index.close()

    def info(self) -> models.VersionInfo:
        return models.VersionInfo(title="Qdrant Edge, embedded", version=importlib.metadata.version("qdrant-edge-py"))

    # Collections

    def create_collection(self, collection_name: str, vectors_config: Any = None, **kwargs: Any) -> bool:
        self._index.create(collection_name, _config(vectors_config, **kwargs))
        return True

    def recreate_collection(self, collection_name: str, vectors_config: Any = None, **kwargs: Any) -> bool:
        config = _config(vectors_config, **kwargs)
        shard_config.shard_config(config)  # what is refused deletes nothing
        self._index.delete(collection_name)
        self._index.create(collection_name, config)
        return True

    def delete_collection(self, collection_name: str, **kwargs: Any) -> bool:
        """Delete a collection, told by its own name, and its aliases; whether there was one."""
        _refuse("delete_collection", kwargs)
        return self._index.delete(collection_name)

    def collection_exists(self, collection_name: str, **kwargs: Any) -> bool:
        _refuse("collection_exists", kwargs)
        return self._index.has(collection_name)

    def get_collections(self, **kwargs: Any) -> models.CollectionsResponse:
        _refuse("get_collections", kwargs)
        names = [models.CollectionDescription(name=name) for name in self._index.names()]
        return models.CollectionsResponse(collections=names)

    def get_collection(self, collection_name: str, **kwargs: Any) -> models.CollectionInfo:
        _refuse("get_collection", kwargs)
        collection = self._index.collection(collection_name)
        with collection.shard.use("get_collection") as engine:
            return shard_config.collection_info(collection.config, engine.info())

    def update_collection(self, collection_name: str, metadata: Mapping[str, Any] | None = None, **kwargs: Any) -> bool:
        """Merge `metadata` into the collection's; a key set to None is removed."""
        _refuse("update_collection", kwargs)
        self._index.merge_metadata(collection_name, translate.payload(metadata))
        return True

    def create_vector_name(
        self, collection_name: str, vector_name: str, vector_name_config: Any, **kwargs: Any
    ) -> models.UpdateResult:
        """Add a vector to a collection. Points lack it until `update_vectors` gives it to them."""
        _refuse("create_vector_name", kwargs)
        self._index.change_vectors(
            collection_name,
            vector_name,
            lambda config: shard_config.with_vector(config, vector_name, vector_name_config),
        )
        return _DONE

    def delete_vector_name(self, collection_name: str, vector_name: str, **kwargs: Any) -> models.UpdateResult:
        _refuse("delete_vector_name", kwargs)
        self._index.change_vectors(
            collection_name, vector_name, lambda config: shard_config.without_vector(config, vector_name)
        )
        return _DONE

    def update_collection_aliases(
        self, change_aliases_operations: Sequence[models.AliasOperations], **kwargs: Any
    ) -> bool:
        """All of the operations or, if one is refused, none of them."""
        _refuse("update_collection_aliases", kwargs)
        self._index.change_aliases(change_aliases_operations)
        return True

    def get_aliases(self, **kwargs: Any) -> models.CollectionsAliasesResponse:
        _refuse("get_aliases", kwargs)
        return aliases.listed(self._index.aliases())

    def get_collection_aliases(self, collection_name: str, **kwargs: Any) -> models.CollectionsAliasesResponse:
        _refuse("get_collection_aliases", kwargs)
        return aliases.listed({alias: name for alias, name in self._index.aliases().items() if name == collection_name})

    def optimize(self, collection_name: str, *, in_worker: bool = False) -> bool:
        """Merge and index what was added since the last time; whether there was anything to do.

        Meanwhile the folder takes up to twice the collection's space.

        Args:
            collection_name: the collection or an alias.
            in_worker: do it in a process of its own. Calls to this collection wait for it without holding the
                interpreter lock; all else goes on. In this process, everything waits.

        Raises:
            EngineError: it failed. Nothing is lost.
            NotImplementedError: in a worker on Windows.
        """
        return self._index.optimize(collection_name, in_worker=in_worker)

    # Points

    def upsert(
        self,
        collection_name: str,
        points: models.Batch | Iterable[models.PointStruct],
        update_filter: models.Filter | None = None,
        update_mode: Any = None,  # a models.UpdateMode, which qdrant-client has since 1.17
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Insert or replace points, in operations of at most 8 MiB. All are checked before any is written."""
        _refuse("upsert", kwargs)
        collection = self._index.collection(collection_name)
        condition = filters.query_filter(update_filter)
        mode = translate.member(edge.UpdateMode, update_mode)
        params = collection.params
        sized = [(translate.point(struct, params), _n_bytes(struct)) for struct in structs.of_points(points)]
        for batch in limits.batches(sized, lambda item: item[1], limits.MAX_OPERATION_BYTES):
            operation = edge.UpdateOperation.upsert_points([point for point, _ in batch], condition, mode)
            collection.shard.update("upsert", operation, n_bytes=sum(n_bytes for _, n_bytes in batch))
        return _DONE

    def upload_points(self, collection_name: str, points: Iterable[models.PointStruct], **kwargs: Any) -> None:
        """As `upsert`, from an iterable of any length."""
        for batch in limits.batches(points, _n_bytes, limits.MAX_OPERATION_BYTES):
            self.upsert(collection_name, batch, **kwargs)

    def upload_collection(
        self,
        collection_name: str,
        vectors: Any,
        payload: Iterable[Mapping[str, Any]] | None = None,
        ids: Iterable[models.ExtendedPointId] | None = None,
        **kwargs: Any,
    ) -> None:
        self.upload_points(collection_name, structs.of_columns(vectors, payload, ids), **kwargs)

    def update_vectors(
        self,
        collection_name: str,
        points: Sequence[models.PointVectors],
        update_filter: models.Filter | None = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Replace vectors of stored points; their other vectors and their payloads stay."""
        _refuse("update_vectors", kwargs)
        collection = self._index.collection(collection_name)
        params, condition = collection.params, filters.query_filter(update_filter)
        sized = [(translate.point_vectors(struct, params), _n_bytes(struct)) for struct in points]
        for batch in limits.batches(sized, lambda item: item[1], limits.MAX_OPERATION_BYTES):
            operation = edge.UpdateOperation.update_vectors([point for point, _ in batch], condition)
            collection.shard.update("update_vectors", operation, n_bytes=sum(n_bytes for _, n_bytes in batch))
        return _DONE

    def delete_vectors(
        self, collection_name: str, vectors: Sequence[str], points: Any, **kwargs: Any
    ) -> models.UpdateResult:
        _refuse("delete_vectors", kwargs)
        params = self._index.collection(collection_name).params
        if unknown := [name for name in vectors if name not in params]:
            raise ValueError(f"there is no vector {unknown[0]!r}; the collection has {', '.join(map(repr, params))}.")
        return self._change(collection_name, "delete_vectors", points, list(vectors))

    def delete(self, collection_name: str, points_selector: Any, **kwargs: Any) -> models.UpdateResult:
        _refuse("delete", kwargs)
        return self._change(collection_name, "delete_points", points_selector)

    def set_payload(
        self, collection_name: str, payload: Mapping[str, Any], points: Any, key: str | None = None, **kwargs: Any
    ) -> models.UpdateResult:
        _refuse("set_payload", kwargs)
        return self._change(collection_name, "set_payload", points, translate.payload(payload), key)

    def overwrite_payload(
        self, collection_name: str, payload: Mapping[str, Any], points: Any, key: str | None = None, **kwargs: Any
    ) -> models.UpdateResult:
        _refuse("overwrite_payload", kwargs)
        return self._change(collection_name, "overwrite_payload", points, translate.payload(payload), key)

    def delete_payload(
        self, collection_name: str, keys: Sequence[str], points: Any, **kwargs: Any
    ) -> models.UpdateResult:
        _refuse("delete_payload", kwargs)
        return self._change(collection_name, "delete_payload", points, list(keys))

    def clear_payload(self, collection_name: str, points_selector: Any, **kwargs: Any) -> models.UpdateResult:
        _refuse("clear_payload", kwargs)
        return self._change(collection_name, "clear_payload", points_selector)

    def batch_update_points(
        self, collection_name: str, update_operations: Sequence[models.UpdateOperation], **kwargs: Any
    ) -> list[models.UpdateResult]:
        """One after another; a refused operation ends it, and those before it are kept."""
        _refuse("batch_update_points", kwargs)
        return [updates.applied(self, collection_name, operation) for operation in update_operations]

    def create_payload_index(
        self, collection_name: str, field_name: str, field_schema: Any = None, field_type: Any = None, **kwargs: Any
    ) -> models.UpdateResult:
        _refuse("create_payload_index", kwargs)
        schema = shard_config.index_schema(field_type if field_schema is None else field_schema)
        operation = edge.UpdateOperation.create_field_index(field_name, schema)
        self._index.collection(collection_name).shard.update("create_payload_index", operation)
        return _DONE

    def delete_payload_index(self, collection_name: str, field_name: str, **kwargs: Any) -> models.UpdateResult:
        _refuse("delete_payload_index", kwargs)
        operation = edge.UpdateOperation.delete_field_index(field_name)
        self._index.collection(collection_name).shard.update("delete_payload_index", operation)
        return _DONE

    # Questions

    def query_points(
        self,
        collection_name: str,
        query: Any = None,
        using: str | None = None,
        prefetch: Any = None,
        query_filter: Any = None,
        search_params: Any = None,
        limit: int = stages.DEFAULT_LIMIT,
        offset: int | None = None,
        with_payload: Any = True,
        with_vectors: Any = False,
        score_threshold: float | None = None,
        lookup_from: Any = None,
        **kwargs: Any,
    ) -> QueryResponse:
        request = models.QueryRequest.model_construct(
            query=query,
            using=using,
            prefetch=prefetch,
            filter=query_filter,
            params=search_params,
            limit=limit,
            offset=offset,
            with_payload=with_payload,
            with_vector=with_vectors,
            score_threshold=score_threshold,
            lookup_from=lookup_from,
        )
        return self.query_batch_points(collection_name, [request], **kwargs)[0]

    def query_batch_points(
        self, collection_name: str, requests: Sequence[models.QueryRequest], **kwargs: Any
    ) -> list[QueryResponse]:
        _refuse("query_points", kwargs)
        collection = self._index.collection(collection_name)
        target = stages.Target(collection_name, collection.params, self._stored_vector)
        native = [stages.request(request, target) for request in requests]
        with collection.shard.use("query_points") as engine:
            found = engine.query_batch(edge.QueryBatchRequest(native))
        return [
            QueryResponse(points=translate.scored_points(hits, request.with_payload, request.with_vector))
            for hits, request in zip(found, requests, strict=True)
        ]

    def query_points_groups(
        self,
        collection_name: str,
        group_by: str,
        query: Any = None,
        using: str | None = None,
        prefetch: Any = None,
        query_filter: Any = None,
        search_params: Any = None,
        limit: int = groups.DEFAULT_LIMIT,
        group_size: int = groups.DEFAULT_SIZE,
        with_payload: Any = True,
        with_vectors: Any = False,
        score_threshold: float | None = None,
        with_lookup: Any = None,
        lookup_from: Any = None,
        **kwargs: Any,
    ) -> models.GroupsResult:
        """The best points of each of the best groups. A point with several values of the key is in several groups."""
        _refuse("query_points_groups", kwargs)
        request = models.QueryRequest.model_construct(
            query=query,
            using=using,
            prefetch=prefetch,
            filter=query_filter,
            params=search_params,
            with_payload=with_payload,
            with_vector=with_vectors,
            score_threshold=score_threshold,
            lookup_from=lookup_from,
        )
        found = groups.found(self, collection_name, request, group_by, limit=limit, group_size=group_size)
        return groups.looked_up(self, found, with_lookup)

    def scroll(
        self,
        collection_name: str,
        scroll_filter: Any = None,
        limit: int = stages.DEFAULT_LIMIT,
        order_by: Any = None,
        offset: Any = None,
        with_payload: Any = True,
        with_vectors: Any = False,
        **kwargs: Any,
    ) -> tuple[list[models.Record], int | str | None]:
        _refuse("scroll", kwargs)
        if limit < 1:
            raise ValueError(f"`limit` is {limit}; it must be at least 1.")
        request = edge.ScrollRequest(
            offset=None if offset is None else translate.point_id(offset),
            limit=limit,
            filter=filters.query_filter(scroll_filter),
            with_payload=translate.payload_selector(with_payload),
            with_vector=with_vectors or False,
            order_by=stages.order_by(order_by),
        )
        with self._index.collection(collection_name).shard.use("scroll") as engine:
            found, following = engine.scroll(request)
        records = translate.records(found, with_payload, with_vectors)
        return records, None if following is None else translate.client_id(following)

    def retrieve(
        self,
        collection_name: str,
        ids: Sequence[models.ExtendedPointId],
        with_payload: Any = True,
        with_vectors: Any = False,
        **kwargs: Any,
    ) -> list[models.Record]:
        """The points that exist, in the order of `ids`."""
        _refuse("retrieve", kwargs)
        wanted = [translate.point_id(value) for value in ids]
        with self._index.collection(collection_name).shard.use("retrieve") as engine:
            found = engine.retrieve(wanted, translate.payload_selector(with_payload), with_vectors or False)
        by_id = {record.id: record for record in translate.records(found, with_payload, with_vectors)}
        return [by_id[key] for key in dict.fromkeys(map(translate.client_id, wanted)) if key in by_id]

    def count(
        self, collection_name: str, count_filter: Any = None, exact: bool = True, **kwargs: Any
    ) -> models.CountResult:
        _refuse("count", kwargs)
        request = edge.CountRequest(exact=exact, filter=filters.query_filter(count_filter))
        with self._index.collection(collection_name).shard.use("count") as engine:
            return models.CountResult(count=engine.count(request))

    def facet(
        self,
        collection_name: str,
        key: str,
        facet_filter: Any = None,
        limit: int = stages.DEFAULT_LIMIT,
        exact: bool = False,
        **kwargs: Any,
    ) -> models.FacetResponse:
        """How many points have each value of a key that is indexed: the most frequent first, then by value."""
        _refuse("facet", kwargs)
        if limit < 1:
            raise ValueError(f"`limit` is {limit}; it must be at least 1.")
        request = edge.FacetRequest(key=key, limit=limit, exact=exact, filter=filters.query_filter(facet_filter))
        with self._index.collection(collection_name).shard.use("facet") as engine:
            found = [(hit.count, hit.value) for hit in engine.facet(request).hits]
        hits = [
            models.FacetValueHit(value=str(value) if isinstance(value, uuid.UUID) else value, count=count)
            for count, value in sorted(found, key=lambda hit: (-hit[0], hit[1]))
        ]
        return models.FacetResponse(hits=hits)

    # Inside

    def _stored_vector(self, collection_name: str, identity: int | uuid.UUID, name: str) -> Any:
        there = self._index.collection(collection_name).params
        if name not in there:
            raise ValueError(f"{collection_name!r} has no vector {name!r}; it has {', '.join(map(repr, there))}.")
        found = self.retrieve(collection_name, [identity], with_payload=False, with_vectors=[name])
        if not found:
            raise ValueError(f"Point {identity}, which the query mentions, is not in {collection_name!r}.")
        vectors = found[0].vector
        vector = vectors.get(name) if isinstance(vectors, dict) else vectors
        if vector is None:
            raise ValueError(f"Point {identity} of {collection_name!r} has no vector {name!r} to search with.")
        return vector

    def _change(self, collection_name: str, change: str, points: Any, *details: Any) -> models.UpdateResult:
        selected = filters.selection(points)
        by_filter = "_by_filter" if isinstance(selected, edge.Filter) else ""
        operation = getattr(edge.UpdateOperation, change + by_filter)(selected, *details)
        self._index.collection(collection_name).shard.update(change, operation)
        return _DONE


def _n_bytes(struct: models.PointStruct | models.PointVectors) -> int:
    return limits.BINARY_BYTES_PER_FLOAT * limits.n_floats(struct.vector)


def _config(
    vectors: models.VectorParams | Mapping[str, models.VectorParams] | None,
    sparse_vectors_config: Mapping[str, models.SparseVectorParams] | None = None,
    metadata: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> models.CreateCollection:
    settings = {name: kwargs.pop(name) for name in _SETTINGS & kwargs.keys()}
    _refuse("create_collection", kwargs)
    return models.CreateCollection(
        vectors=dict(vectors) if isinstance(vectors, Mapping) else vectors,
        sparse_vectors=dict(sparse_vectors_config) if sparse_vectors_config else None,
        metadata=translate.payload(metadata),
        **{name: value for name, value in settings.items() if value is not None},
    )


_SETTINGS = {"hnsw_config", "quantization_config", "optimizers_config", "on_disk_payload", "payload", "id_tracker"}

# One process, no replicas and no network: these options are fulfilled whatever their value.
_FULFILLED = {"wait", "ordering", "consistency", "timeout", "batch_size", "parallel", "method", "max_retries"}


def _refuse(call: str, options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if value not in (None, {}) and name not in _FULFILLED:
            raise translate.unsupported(f"`{call}({name}=…)`")


def _needs_server(call: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise translate.unsupported(f"`{call}`")

    return refuse


for _call in vars(QdrantBase).keys() - vars(EdgeBackend).keys():
    if not _call.startswith("_"):
        setattr(EdgeBackend, _call, _needs_server(_call))
