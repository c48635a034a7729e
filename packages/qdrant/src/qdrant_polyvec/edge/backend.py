# ruff: noqa: FBT001, FBT002 — the signatures are those of qdrant-client
"""Qdrant Edge, the embedded engine, behind qdrant-client's own backend interface.

The engine keeps one data set per directory. This backend adds collections, metadata, aliases and locks, and checks
arguments that the engine does not check.
"""

import functools
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
from qdrant_polyvec.edge import filters, groups, queries, shard_config, translate, updates
from qdrant_polyvec.edge.folder import client_aliases
from qdrant_polyvec.edge.index import Use
from qdrant_polyvec.edge.translate import check_options, native_payload

_DONE = models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)


class EdgeBackend(QdrantBase):
    """The collections of one folder. No other process can open the folder until `close` or the end of this one.

    Every engine call holds the interpreter lock, so a search blocks all other threads. A feature that only a server
    has raises `NotImplementedError`. A forked child cannot use the backend.

    Raises:
        FolderLockedError: the folder is open elsewhere.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._use = Use(path)

    def close(self, **kwargs: Any) -> None:  # noqa: ARG002 — the client passes its gRPC options
        """Leave the folder; the last client flushes and closes every shard and unlocks it. Twice does nothing."""
        self._use.end()

    def info(self) -> models.VersionInfo:
        return models.VersionInfo(title="Qdrant Edge, embedded", version=importlib.metadata.version("qdrant-edge-py"))

    def create_collection(self, collection_name: str, vectors_config: Any = None, **kwargs: Any) -> bool:
        self._use.index.create(collection_name, shard_config.client_config(vectors_config, **kwargs))
        return True

    def recreate_collection(self, collection_name: str, vectors_config: Any = None, **kwargs: Any) -> bool:
        config = shard_config.client_config(vectors_config, **kwargs)
        shard_config.native_config(config)  # raises before anything is deleted
        self._use.index.delete(collection_name)
        self._use.index.create(collection_name, config)
        return True

    def delete_collection(self, collection_name: str, **kwargs: Any) -> bool:
        """Delete a collection, by its own name, and its aliases. True if it existed."""
        check_options("delete_collection", kwargs)
        return self._use.index.delete(collection_name)

    def collection_exists(self, collection_name: str, **kwargs: Any) -> bool:
        check_options("collection_exists", kwargs)
        return self._use.index.has(collection_name)

    def get_collections(self, **kwargs: Any) -> models.CollectionsResponse:
        check_options("get_collections", kwargs)
        names = [models.CollectionDescription(name=name) for name in self._use.index.names()]
        return models.CollectionsResponse(collections=names)

    def get_collection(self, collection_name: str, **kwargs: Any) -> models.CollectionInfo:
        check_options("get_collection", kwargs)
        collection = self._use.index.collection(collection_name)
        with collection.shard.use("get_collection") as engine:
            return shard_config.collection_info(collection.config, engine.info())

    def update_collection(self, collection_name: str, metadata: Mapping[str, Any] | None = None, **kwargs: Any) -> bool:
        """Merge `metadata` into the collection's; a key set to None is removed."""
        check_options("update_collection", kwargs)
        self._use.index.merge_metadata(collection_name, native_payload(metadata))
        return True

    def create_vector_name(
        self, collection_name: str, vector_name: str, vector_name_config: Any, **kwargs: Any
    ) -> models.UpdateResult:
        """Add a vector to a collection. Stored points lack it until `update_vectors` adds it to them."""
        check_options("create_vector_name", kwargs)
        add = functools.partial(shard_config.with_vector, added=vector_name_config)
        self._use.index.change_vectors(collection_name, vector_name, add)
        return _DONE

    def delete_vector_name(self, collection_name: str, vector_name: str, **kwargs: Any) -> models.UpdateResult:
        check_options("delete_vector_name", kwargs)
        self._use.index.change_vectors(collection_name, vector_name, shard_config.without_vector)
        return _DONE

    def update_collection_aliases(
        self, change_aliases_operations: Sequence[models.AliasOperations], **kwargs: Any
    ) -> bool:
        """Apply all of the operations or, if one of them is invalid, none."""
        check_options("update_collection_aliases", kwargs)
        self._use.index.change_aliases(translate.client_model(list(change_aliases_operations), models.AliasOperations))
        return True

    def get_aliases(self, **kwargs: Any) -> models.CollectionsAliasesResponse:
        check_options("get_aliases", kwargs)
        return client_aliases(self._use.index.aliases())

    def get_collection_aliases(self, collection_name: str, **kwargs: Any) -> models.CollectionsAliasesResponse:
        check_options("get_collection_aliases", kwargs)
        aliases = self._use.index.aliases()
        return client_aliases({alias: name for alias, name in aliases.items() if name == collection_name})

    def optimize(self, collection_name: str, *, in_worker: bool = False) -> bool:
        """Merge and index what was added since the last call. True if anything changed.

        Meanwhile the folder takes up to twice the collection's space.

        Args:
            collection_name: the collection or an alias.
            in_worker: optimize in a child process. Calls to this collection wait for it without holding the
                interpreter lock, and other threads go on. In this process, all threads wait.

        Raises:
            EngineError: optimizing failed. Nothing is lost.
            NotImplementedError: a worker was requested on Windows.
        """
        return self._use.index.optimize(collection_name, in_worker=in_worker)

    def upsert(
        self,
        collection_name: str,
        points: models.Batch | Iterable[models.PointStruct],
        update_filter: models.Filter | None = None,
        update_mode: Any = None,  # a models.UpdateMode, which qdrant-client has since 1.17
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Insert or replace points, in operations of at most 8 MiB. All points are checked before any is written."""
        check_options("upsert", kwargs)
        condition = filters.query_filter(update_filter)
        mode = translate.member(edge.UpdateMode, update_mode and models.UpdateMode(update_mode))
        collection, structs = self._use.index.collection(collection_name), updates.structs(points)
        for natives, n_bytes in updates.operation_batches(structs, translate.native_point, collection.params):
            operation = edge.UpdateOperation.upsert_points(natives, condition, mode)
            collection.shard.update("upsert", operation, n_bytes)
        return _DONE

    def upload_points(self, collection_name: str, points: Iterable[models.PointStruct], **kwargs: Any) -> None:
        """Upsert points from an iterable of any length."""
        for batch in limits.batches(updates.structs(points), updates.point_bytes, limits.MAX_OPERATION_BYTES):
            self.upsert(collection_name, batch, **kwargs)

    def upload_collection(
        self,
        collection_name: str,
        vectors: Any,
        payload: Iterable[Mapping[str, Any]] | None = None,
        ids: Iterable[models.ExtendedPointId] | None = None,
        **kwargs: Any,
    ) -> None:
        self.upload_points(collection_name, updates.structs_of_columns(vectors, payload, ids), **kwargs)

    def update_vectors(
        self,
        collection_name: str,
        points: Sequence[models.PointVectors],
        update_filter: models.Filter | None = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Replace vectors of stored points; their other vectors and their payloads stay."""
        check_options("update_vectors", kwargs)
        condition = filters.query_filter(update_filter)
        collection = self._use.index.collection(collection_name)
        structs = updates.vector_structs(points)
        for natives, n_bytes in updates.operation_batches(structs, translate.native_point_vectors, collection.params):
            operation = edge.UpdateOperation.update_vectors(natives, condition)
            collection.shard.update("update_vectors", operation, n_bytes)
        return _DONE

    def delete_vectors(
        self, collection_name: str, vectors: Sequence[str], points: Any, **kwargs: Any
    ) -> models.UpdateResult:
        names = updates.names("vectors", vectors, self._use.index.collection(collection_name).params)
        return self._change(collection_name, "delete_vectors", kwargs, points, names)

    def delete(self, collection_name: str, points_selector: Any, **kwargs: Any) -> models.UpdateResult:
        return self._change(collection_name, "delete_points", kwargs, points_selector)

    def set_payload(
        self, collection_name: str, payload: Mapping[str, Any], points: Any, key: str | None = None, **kwargs: Any
    ) -> models.UpdateResult:
        return self._change(collection_name, "set_payload", kwargs, points, updates.new_payload(payload), key)

    def overwrite_payload(
        self, collection_name: str, payload: Mapping[str, Any], points: Any, key: str | None = None, **kwargs: Any
    ) -> models.UpdateResult:
        return self._change(collection_name, "overwrite_payload", kwargs, points, updates.new_payload(payload), key)

    def delete_payload(
        self, collection_name: str, keys: Sequence[str], points: Any, **kwargs: Any
    ) -> models.UpdateResult:
        return self._change(collection_name, "delete_payload", kwargs, points, updates.names("keys", keys))

    def clear_payload(self, collection_name: str, points_selector: Any, **kwargs: Any) -> models.UpdateResult:
        return self._change(collection_name, "clear_payload", kwargs, points_selector)

    def batch_update_points(
        self, collection_name: str, update_operations: Sequence[models.UpdateOperation], **kwargs: Any
    ) -> list[models.UpdateResult]:
        """Apply the operations in order. If one is invalid, those before it stay applied and those after it do not."""
        check_options("batch_update_points", kwargs)
        operations = translate.client_model(list(update_operations), models.UpdateOperation)
        return [updates.apply(self, collection_name, operation) for operation in operations]

    def create_payload_index(
        self, collection_name: str, field_name: str, field_schema: Any = None, field_type: Any = None, **kwargs: Any
    ) -> models.UpdateResult:
        check_options("create_payload_index", kwargs)
        schema = shard_config.index_schema(field_type if field_schema is None else field_schema)
        operation = edge.UpdateOperation.create_field_index(field_name, schema)
        self._use.index.collection(collection_name).shard.update("create_payload_index", operation)
        return _DONE

    def delete_payload_index(self, collection_name: str, field_name: str, **kwargs: Any) -> models.UpdateResult:
        check_options("delete_payload_index", kwargs)
        operation = edge.UpdateOperation.delete_field_index(field_name)
        self._use.index.collection(collection_name).shard.update("delete_payload_index", operation)
        return _DONE

    def query_points(
        self,
        collection_name: str,
        query: Any = None,
        using: str | None = None,
        prefetch: Any = None,
        query_filter: Any = None,
        search_params: Any = None,
        limit: int = queries.DEFAULT_LIMIT,
        offset: int | None = None,
        with_payload: Any = True,
        with_vectors: Any = False,
        score_threshold: float | None = None,
        lookup_from: Any = None,
        **kwargs: Any,
    ) -> QueryResponse:
        request = queries.request(
            query, using=using, prefetch=prefetch, filter=query_filter, params=search_params,
            limit=limit, offset=offset, with_payload=with_payload, with_vector=with_vectors,
            score_threshold=score_threshold, lookup_from=lookup_from,
        )  # fmt: skip
        return self.query_batch_points(collection_name, [request], **kwargs)[0]

    def query_batch_points(
        self, collection_name: str, requests: Sequence[models.QueryRequest], **kwargs: Any
    ) -> list[QueryResponse]:
        check_options("query_points", kwargs)
        collection = self._use.index.collection(collection_name)
        target = queries.Target(collection_name, collection.params, self._stored_vector)
        native = [queries.native_request(request, target) for request in requests]
        with collection.shard.use("query_points") as engine:
            hits_by_request = engine.query_batch(edge.QueryBatchRequest(native))
        return [
            QueryResponse(points=translate.client_scored_points(hits, request.with_payload, request.with_vector))
            for hits, request in zip(hits_by_request, requests, strict=True)
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
        """Return the best points of the best groups. A point with several values of the key is in several groups."""
        check_options("query_points_groups", kwargs)
        request = queries.request(
            query, using=using, prefetch=prefetch, filter=query_filter, params=search_params,
            with_payload=with_payload, with_vector=with_vectors, score_threshold=score_threshold,
            lookup_from=lookup_from,
        )  # fmt: skip
        return groups.query_groups(
            self, collection_name, request, group_by, limit=limit, group_size=group_size,
            with_lookup=translate.client_model(with_lookup, models.WithLookup),
            params=self._use.index.collection(collection_name).params,
        )  # fmt: skip

    def scroll(
        self,
        collection_name: str,
        scroll_filter: Any = None,
        limit: int = queries.DEFAULT_LIMIT,
        order_by: Any = None,
        offset: Any = None,
        with_payload: Any = True,
        with_vectors: Any = False,
        **kwargs: Any,
    ) -> tuple[list[models.Record], int | str | None]:
        check_options("scroll", kwargs)
        request = models.ScrollRequest(
            filter=scroll_filter, limit=limit, order_by=order_by, offset=offset,
            with_payload=with_payload, with_vector=with_vectors,
        )  # fmt: skip
        native = queries.native_scroll(request)
        with self._use.index.collection(collection_name).shard.use("scroll") as engine:
            natives, next_id = engine.scroll(native)
        records = translate.client_records(natives, request.with_payload, request.with_vector)
        return records, None if next_id is None else translate.client_id(next_id)

    def retrieve(
        self,
        collection_name: str,
        ids: Sequence[models.ExtendedPointId],
        with_payload: Any = True,
        with_vectors: Any = False,
        **kwargs: Any,
    ) -> list[models.Record]:
        """Return the points that exist, in the order of `ids`."""
        check_options("retrieve", kwargs)
        native_ids = [translate.native_id(value) for value in ids]
        request = models.PointRequest(ids=[], with_payload=with_payload, with_vector=with_vectors)
        payload, vectors = translate.payload_selector(request.with_payload), request.with_vector or False
        with self._use.index.collection(collection_name).shard.use("retrieve") as engine:
            natives = engine.retrieve(native_ids, payload, vectors)
        records = translate.client_records(natives, request.with_payload, request.with_vector)
        by_id = {record.id: record for record in records}
        return [by_id[key] for key in dict.fromkeys(map(translate.client_id, native_ids)) if key in by_id]

    def count(
        self, collection_name: str, count_filter: Any = None, exact: bool = True, **kwargs: Any
    ) -> models.CountResult:
        check_options("count", kwargs)
        request = edge.CountRequest(exact=exact, filter=filters.query_filter(count_filter))
        with self._use.index.collection(collection_name).shard.use("count") as engine:
            return models.CountResult(count=engine.count(request))

    def facet(
        self,
        collection_name: str,
        key: str,
        facet_filter: Any = None,
        limit: int = queries.DEFAULT_LIMIT,
        exact: bool = False,
        **kwargs: Any,
    ) -> models.FacetResponse:
        """Count the points of each value of an indexed key, most frequent first; only a sample unless `exact`."""
        check_options("facet", kwargs)
        request = models.FacetRequest(key=key, limit=limit, exact=exact, filter=facet_filter)
        native = queries.native_facet(request)
        with self._use.index.collection(collection_name).shard.use("facet") as engine:
            natives = sorted(engine.facet(native).hits, key=lambda hit: (-hit.count, hit.value))
        return models.FacetResponse(
            hits=[models.FacetValueHit(value=translate.client_id(hit.value), count=hit.count) for hit in natives]
        )

    def _stored_vector(self, collection_name: str, identity: int | uuid.UUID, name: str) -> Any:
        translate.check_vector_name(name, self._use.index.collection(collection_name).params, repr(collection_name))
        records = self.retrieve(collection_name, [identity], with_payload=False, with_vectors=[name])
        if not records:
            raise ValueError(f"Point {identity}, which the query mentions, is not in {collection_name!r}.")
        vectors = records[0].vector
        vector = vectors.get(name) if isinstance(vectors, dict) else vectors
        if vector is None:
            raise ValueError(f"Point {identity} of {collection_name!r} has no vector {name!r} to search with.")
        return vector

    def _change(
        self, collection_name: str, change: str, options: Mapping[str, Any], points: Any, *details: Any
    ) -> models.UpdateResult:
        check_options(change, options)
        operation = updates.change(change, points, *details)
        self._use.index.collection(collection_name).shard.update(change, operation)
        return _DONE


def _server_only(call: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise translate.unsupported(f"`{call}`")

    return refuse


for _call in vars(QdrantBase).keys() - vars(EdgeBackend).keys():
    if not _call.startswith("_"):
        setattr(EdgeBackend, _call, _server_only(_call))
