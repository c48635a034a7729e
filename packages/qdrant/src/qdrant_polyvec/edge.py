# ruff: noqa: FBT001, FBT002 — the signatures are those of qdrant-client
"""Qdrant Edge, the embedded engine, behind qdrant-client's own backend interface.

The engine keeps one data set per directory and knows nothing of collections, metadata or other processes; this
backend adds those, and checks what the engine does not.
"""

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qdrant_edge as edge
from qdrant_client import models
from qdrant_client.client_base import QdrantBase
from qdrant_client.http.models import QueryResponse  # in `models` this name is another class

from qdrant_polyvec import limits, shard_config, translate
from qdrant_polyvec.folder import Folder

FLUSH_EVERY_BYTES = 256 * 2**20  # what reopening after a crash must at most replay from the write-ahead log
_DONE = models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)


@dataclass(slots=True)
class _Collection:
    config: models.CreateCollection
    params: translate.VectorParams
    shard: translate.Native
    unflushed: int = 0


class EdgeBackend(QdrantBase):
    """The collections of one folder. It has the folder to itself until it is closed or the process ends.

    Every engine call holds the interpreter lock, so other threads wait while one searches. What a server can do and
    this cannot raises `NotImplementedError`.

    Raises:
        FolderLockedError: the folder is open elsewhere.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._folder = Folder(path)
        self._opened: dict[str, _Collection] = {}
        self._mutex = threading.RLock()
        self._release = weakref.finalize(self, _release, self._opened, self._folder, os.getpid())

    def close(self, **kwargs: Any) -> None:  # noqa: ARG002 — the client hands its gRPC options through
        """Flush and close every shard and unlock the folder. Closing twice does nothing."""
        with self._mutex:
            self._release()

    def create_collection(
        self,
        collection_name: str,
        vectors_config: models.VectorParams | Mapping[str, models.VectorParams],
        hnsw_config: models.HnswConfigDiff | None = None,
        quantization_config: models.QuantizationConfig | None = None,
        on_disk_payload: bool | None = None,
        metadata: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> bool:
        _refuse("create_collection", kwargs)
        config = models.CreateCollection(
            vectors=dict(vectors_config) if isinstance(vectors_config, Mapping) else vectors_config,
            hnsw_config=hnsw_config,
            quantization_config=quantization_config,
            on_disk_payload=on_disk_payload,
            metadata=translate.payload(metadata),
        )
        native = shard_config.shard_config(config)
        with self._mutex:
            if self.collection_exists(collection_name):
                raise ValueError(f"Collection {collection_name!r} already exists in {str(self._folder.path)!r}.")
            self._folder.remove(collection_name)
            shard = edge.EdgeShard.create(str(self._folder.shard(collection_name)), native)
            self._opened[collection_name] = _Collection(config, shard_config.vector_params(config), shard)
            self._folder.write(collection_name, config)
        return True

    def delete_collection(self, collection_name: str, **kwargs: Any) -> bool:
        _refuse("delete_collection", kwargs)
        with self._mutex:
            if not self.collection_exists(collection_name):
                return False
            if opened := self._opened.pop(collection_name, None):
                opened.shard.close()
            self._folder.remove(collection_name)
        return True

    def collection_exists(self, collection_name: str, **kwargs: Any) -> bool:
        _refuse("collection_exists", kwargs)
        self._check_open()
        return self._folder.has(collection_name)

    def get_collections(self, **kwargs: Any) -> models.CollectionsResponse:
        _refuse("get_collections", kwargs)
        self._check_open()
        names = [models.CollectionDescription(name=name) for name in self._folder.names()]
        return models.CollectionsResponse(collections=names)

    def get_collection(self, collection_name: str, **kwargs: Any) -> models.CollectionInfo:
        _refuse("get_collection", kwargs)
        collection = self._collection(collection_name)
        return shard_config.collection_info(collection.config, collection.shard.info())

    def update_collection(self, collection_name: str, metadata: Mapping[str, Any] | None = None, **kwargs: Any) -> bool:
        """Merge `metadata` into the collection's; a key set to None is removed."""
        _refuse("update_collection", kwargs)
        with self._mutex:
            collection = self._collection(collection_name)
            merged = (collection.config.metadata or {}) | translate.payload(metadata)
            kept = {key: value for key, value in merged.items() if value is not None}
            config = collection.config.model_copy(update={"metadata": kept})
            self._folder.write(collection_name, config)
            collection.config = config
        return True

    def upsert(
        self,
        collection_name: str,
        points: models.Batch | Sequence[models.PointStruct],
        update_filter: models.Filter | None = None,
        update_mode: models.UpdateMode | None = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Insert or replace points, in operations of at most 8 MiB. All are checked before any is written."""
        _refuse("upsert", kwargs)
        collection = self._collection(collection_name)
        condition = translate.query_filter(update_filter)
        mode = translate.member(edge.UpdateMode, update_mode)
        sized = [(translate.point(struct, collection.params), _n_bytes(struct)) for struct in _structs(points)]
        for batch in limits.batches(sized, lambda item: item[1], limits.MAX_OPERATION_BYTES):
            operation = edge.UpdateOperation.upsert_points([point for point, _ in batch], condition, mode)
            self._update(collection, operation, n_bytes=sum(n_bytes for _, n_bytes in batch))
        return _DONE

    def upload_points(self, collection_name: str, points: Iterable[models.PointStruct], **kwargs: Any) -> None:
        """As `upsert`, from an iterable of any length."""
        for batch in limits.batches(points, _n_bytes, limits.MAX_OPERATION_BYTES):
            self.upsert(collection_name, batch, **kwargs)

    def delete(self, collection_name: str, points_selector: Any, **kwargs: Any) -> models.UpdateResult:
        _refuse("delete", kwargs)
        return self._change(collection_name, "delete_points", points_selector)

    def set_payload(
        self,
        collection_name: str,
        payload: Mapping[str, Any],
        points: Any,
        key: str | None = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        _refuse("set_payload", kwargs)
        return self._change(collection_name, "set_payload", points, translate.payload(payload), key)

    def overwrite_payload(
        self, collection_name: str, payload: Mapping[str, Any], points: Any, **kwargs: Any
    ) -> models.UpdateResult:
        _refuse("overwrite_payload", kwargs)
        return self._change(collection_name, "overwrite_payload", points, translate.payload(payload))

    def delete_payload(
        self, collection_name: str, keys: Sequence[str], points: Any, **kwargs: Any
    ) -> models.UpdateResult:
        _refuse("delete_payload", kwargs)
        return self._change(collection_name, "delete_payload", points, list(keys))

    def clear_payload(self, collection_name: str, points_selector: Any, **kwargs: Any) -> models.UpdateResult:
        _refuse("clear_payload", kwargs)
        return self._change(collection_name, "clear_payload", points_selector)

    def create_payload_index(
        self, collection_name: str, field_name: str, field_schema: Any = None, field_type: Any = None, **kwargs: Any
    ) -> models.UpdateResult:
        _refuse("create_payload_index", kwargs)
        schema = shard_config.index_schema(field_type if field_schema is None else field_schema)
        operation = edge.UpdateOperation.create_field_index(field_name, schema)
        return self._update(self._collection(collection_name), operation)

    def delete_payload_index(self, collection_name: str, field_name: str, **kwargs: Any) -> models.UpdateResult:
        _refuse("delete_payload_index", kwargs)
        operation = edge.UpdateOperation.delete_field_index(field_name)
        return self._update(self._collection(collection_name), operation)

    def query_points(
        self,
        collection_name: str,
        query: Any = None,
        using: str | None = None,
        prefetch: Any = None,
        query_filter: Any = None,
        search_params: Any = None,
        limit: int = translate.DEFAULT_LIMIT,
        offset: int | None = None,
        with_payload: Any = True,
        with_vectors: Any = False,
        score_threshold: float | None = None,
        lookup_from: Any = None,
        **kwargs: Any,
    ) -> QueryResponse:
        request = models.QueryRequest(
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
        collection = self._collection(collection_name)
        native = [translate.request(request, collection.params) for request in requests]
        found = collection.shard.query_batch(edge.QueryBatchRequest(native))
        return [
            QueryResponse(points=translate.scored_points(hits, request.with_payload))
            for hits, request in zip(found, requests, strict=True)
        ]

    def scroll(
        self,
        collection_name: str,
        scroll_filter: Any = None,
        limit: int = translate.DEFAULT_LIMIT,
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
            filter=translate.query_filter(scroll_filter),
            with_payload=translate.payload_selector(with_payload),
            with_vector=with_vectors or False,
            order_by=translate.order_by(order_by),
        )
        found, following = self._collection(collection_name).shard.scroll(request)
        return translate.records(found, with_payload), None if following is None else translate.client_id(following)

    def retrieve(
        self,
        collection_name: str,
        ids: Sequence[models.ExtendedPointId],
        with_payload: Any = True,
        with_vectors: Any = False,
        **kwargs: Any,
    ) -> list[models.Record]:
        _refuse("retrieve", kwargs)
        wanted = [translate.point_id(value) for value in ids]
        shard = self._collection(collection_name).shard
        found = shard.retrieve(wanted, translate.payload_selector(with_payload), with_vectors or False)
        return translate.records(found, with_payload)

    def count(
        self, collection_name: str, count_filter: Any = None, exact: bool = True, **kwargs: Any
    ) -> models.CountResult:
        _refuse("count", kwargs)
        request = edge.CountRequest(exact=exact, filter=translate.query_filter(count_filter))
        return models.CountResult(count=self._collection(collection_name).shard.count(request))

    def _change(self, collection_name: str, change: str, points: Any, *details: Any) -> models.UpdateResult:
        selected = translate.selection(points)
        by_filter = "_by_filter" if isinstance(selected, edge.Filter) else ""
        operation = getattr(edge.UpdateOperation, change + by_filter)(selected, *details)
        return self._update(self._collection(collection_name), operation)

    def _update(self, collection: _Collection, operation: translate.Native, n_bytes: int = 0) -> models.UpdateResult:
        with self._mutex:
            collection.shard.update(operation)
            collection.unflushed += n_bytes
            if collection.unflushed >= FLUSH_EVERY_BYTES:
                collection.shard.flush()
                collection.unflushed = 0
        return _DONE

    def _collection(self, name: str) -> _Collection:
        with self._mutex:  # two threads must not load one shard
            self._check_open()
            if name not in self._opened:
                config = self._folder.read(name)
                shard = edge.EdgeShard.load(str(self._folder.shard(name)))
                self._opened[name] = _Collection(config, shard_config.vector_params(config), shard)
            return self._opened[name]

    def _check_open(self) -> None:
        if not self._release.alive:
            raise RuntimeError(f"The index in {str(self._folder.path)!r} is closed; open it again.")


def _release(collections: Mapping[str, _Collection], folder: Folder, owner: int) -> None:
    if os.getpid() != owner:
        return  # a forked child has no right to flush its parent's shards or to unlock the folder
    with contextlib.ExitStack() as last_in_first_out:
        last_in_first_out.callback(folder.unlock)
        for collection in collections.values():
            last_in_first_out.callback(collection.shard.close)
            last_in_first_out.callback(collection.shard.flush)


def _n_bytes(struct: models.PointStruct) -> int:
    return limits.ENGINE_BYTES_PER_FLOAT * limits.n_floats(struct.vector)


def _structs(points: models.Batch | Sequence[models.PointStruct]) -> Iterable[models.PointStruct]:
    if not isinstance(points, models.Batch):
        return points
    vectors: Any = points.vectors
    if isinstance(vectors, dict):
        vectors = [dict(zip(vectors, row, strict=True)) for row in zip(*vectors.values(), strict=True)]
    payloads: Sequence[Any] = points.payloads or [None] * len(points.ids)
    return [
        models.PointStruct(id=identity, vector=vector, payload=payload)
        for identity, vector, payload in zip(points.ids, vectors, payloads, strict=True)
    ]


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
