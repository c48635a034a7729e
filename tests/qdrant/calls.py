"""What a server of Qdrant does with the calls that the packages send. They are executed on Qdrant Edge.

Settings that only a server has are kept and shown, without effect: here are no consensus, replicas or strict mode.
"""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from qdrant_client import models

from qdrant_polyvec import open_client
from qdrant_polyvec.binding import aliased

CLUSTER_OPTIONS = {"shard_number", "sharding_method", "replication_factor", "write_consistency_factor"}
SERVER_OPTIONS = CLUSTER_OPTIONS | {"wal_config", "strict_mode_config", "optimizers_config"}
MAX_FLOATS = 2**20  # of the vectors under one name, compiled into the server
OF_REST = [  # method, path, call, what the body is
    ("GET", "", "info", None),
    ("GET", "aliases", "get_aliases", None),
    ("GET", "collections", "get_collections", None),
    ("POST", "collections/aliases", "update_collection_aliases", models.ChangeAliasesOperation),
    ("GET", "collections/([^/]+)", "get_collection", None),
    ("PUT", "collections/([^/]+)", "create_collection", models.CreateCollection),
    ("PATCH", "collections/([^/]+)", "update_collection", models.UpdateCollection),
    ("DELETE", "collections/([^/]+)", "delete_collection", None),
    ("GET", "collections/([^/]+)/exists", "collection_exists", None),
    ("PUT", "collections/([^/]+)/index", "create_payload_index", models.CreateFieldIndex),
    ("DELETE", "collections/([^/]+)/index/([^/]+)", "delete_payload_index", None),
    ("PUT", "collections/([^/]+)/shards", "create_shard_key", models.CreateShardingKey),
    ("PUT", "collections/([^/]+)/points", "upsert", models.PointsList),
    ("POST", "collections/([^/]+)/points", "retrieve", models.PointRequest),
    ("POST", "collections/([^/]+)/points/delete", "delete", None),
    ("PUT", "collections/([^/]+)/points/payload", "overwrite_payload", models.SetPayload),
    ("POST", "collections/([^/]+)/points/payload", "set_payload", models.SetPayload),
    ("POST", "collections/([^/]+)/points/payload/delete", "delete_payload", models.DeletePayload),
    ("POST", "collections/([^/]+)/points/count", "count", models.CountRequest),
    ("POST", "collections/([^/]+)/points/scroll", "scroll", models.ScrollRequest),
    ("POST", "collections/([^/]+)/points/query", "query_points", models.QueryRequest),
    ("POST", "collections/([^/]+)/points/query/batch", "query_batch_points", models.QueryRequestBatch),
    ("POST", "collections/([^/]+)/points/query/groups", "query_points_groups", models.QueryGroupsRequest),
]
CALLS = {call for _, _, call, _ in OF_REST}  # in the words of `QdrantClient`


class RefusedError(Exception):
    """A server's answer that is no result."""

    def __init__(self, status, text, *, code=None, body=None, retry_after=None):
        super().__init__(text)
        self.status = status  # of HTTP
        self.code = code  # of gRPC, where it is not the usual one of `status`
        self.text = text
        self.body = body  # of HTTP, where it is not JSON
        self.retry_after = retry_after  # seconds


@dataclass(frozen=True)
class Call:
    name: str  # one of `CALLS`
    collection: str | None = None
    request: Any = None  # one of the client's models


def call_of_rest(method, path, body):
    """Read a request strictly: an unknown field is an error of pydantic."""
    for of_method, pattern, name, model in OF_REST:
        if method == of_method and (match := re.fullmatch(pattern, path.strip("/"))):
            collection, field = ([unquote(part) for part in match.groups()] + [None, None])[:2]
            if name == "delete":
                model = models.FilterSelector if "filter" in body else models.PointIdsList
            try:
                return Call(name, collection, model(**body) if model else field)
            except ValueError as error:
                raise RefusedError(400, f"Format error in JSON body: {error}") from error
    raise AssertionError(f"{method} {path} is not known to the test's server")


class Store:
    """A folder that answers calls.

    Attributes:
        behind: the client of the folder.
        version: what the server says it is.
    """

    def __init__(self, folder):
        self.behind = open_client(folder)
        self.version = "1.20.0"
        self.shard_keys = []
        self.configs = {}  # by collection, what only a server has, in the form of a collection's description

    def answer(self, call):
        """The client's model of the result, or a RefusedError."""
        try:
            return self._perform(call)
        except ValueError as error:
            text = str(error)
            if "already exists in " in text:
                raise RefusedError(409, f"Wrong input: Collection `{call.collection}` already exists!") from error
            if re.match("Collection .* not found", text):
                raise RefusedError(404, f"Not found: Collection `{call.collection}` doesn't exist!") from error
            raise RefusedError(400, text) from error

    def _perform(self, call):
        behind, name, request = self.behind, call.collection, call.request
        match call.name:
            case "info":
                return models.VersionInfo(title="qdrant - vector search engine", version=self.version)
            case "get_aliases" | "get_collections":
                return getattr(behind, call.name)()
            case "update_collection_aliases":
                return behind.update_collection_aliases(request.actions)
            case "get_collection":
                info = plain(behind.get_collection(name))
                info["config"]["wal_config"] = {"wal_capacity_mb": 32, "wal_segments_ahead": 0}
                info["config"] = _merged(info["config"], self.configs.get(aliased(behind, name), {}))
                return models.CollectionInfo(**info)
            case "delete_collection":
                return behind.delete_collection(name)
            case "collection_exists":
                return models.CollectionExistence(exists=behind.collection_exists(name))
            case "create_collection":
                given = request.model_dump(mode="json", exclude_unset=True, exclude_none=True, include=SERVER_OPTIONS)
                self.configs[name] = _config(given)
                settings = {
                    {"vectors": "vectors_config", "sparse_vectors": "sparse_vectors_config"}.get(key, key): value
                    for key in request.model_fields_set - SERVER_OPTIONS
                    if (value := getattr(request, key)) is not None
                }
                return behind.create_collection(name, **settings)
            case "update_collection":
                changes, real = (
                    _config(request.model_dump(mode="json", exclude_unset=True, exclude_none=True)),
                    aliased(behind, name),
                )
                self.configs[real] = _merged(self.configs.get(real, {}), changes)
                return behind.update_collection(name, metadata=request.metadata)
            case "create_payload_index":
                return behind.create_payload_index(name, request.field_name, request.field_schema)
            case "delete_payload_index":
                return behind.delete_payload_index(name, request)
            case "create_shard_key":
                if request.shard_key in self.shard_keys:
                    raise RefusedError(400, f"Bad request: Sharding key {request.shard_key} already exists")
                self.shard_keys.append(request.shard_key)
                return True
            case "upsert":
                for point in request.points:
                    rows = point.vector.get("late", []) if isinstance(point.vector, dict) else []
                    n_floats = sum(map(len, rows))
                    if n_floats >= MAX_FLOATS:
                        text = f"Total size of all vectors ({n_floats}) must be less than {MAX_FLOATS}"
                        raise RefusedError(400, text)
                return behind.upsert(name, request.points, update_filter=request.update_filter)
            case "retrieve":
                return behind.retrieve(name, request.ids, request.with_payload, request.with_vector)
            case "delete":
                return behind.delete(name, request.model_copy(update={"shard_key": None}))
            case "overwrite_payload":
                return behind.overwrite_payload(name, request.payload, request.points or request.filter)
            case "set_payload":
                chosen = request.points or request.filter
                return behind.set_payload(name, request.payload, chosen, key=request.key)
            case "delete_payload":
                return behind.delete_payload(name, request.keys, request.points or request.filter)
            case "count":
                return behind.count(name, request.filter, exact=True)
            case "scroll":
                points, following = behind.scroll(
                    name, request.filter, request.limit, offset=request.offset, with_payload=request.with_payload,
                    with_vectors=request.with_vector or False,
                )  # fmt: skip
                return models.ScrollResult(points=points, next_page_offset=following)
            case "query_points":
                return self._searched(name, [request])[0]
            case "query_batch_points":
                return self._searched(name, request.searches)
            case "query_points_groups":
                return behind.query_points_groups(
                    name, group_by=request.group_by, query=request.query, using=request.using,
                    prefetch=request.prefetch, query_filter=request.filter, search_params=request.params,
                    limit=request.limit, group_size=request.group_size, with_payload=request.with_payload,
                    score_threshold=request.score_threshold,
                )  # fmt: skip
        raise AssertionError(f"{call.name} is not known to the test's server")

    def _searched(self, name, requests):
        one_shard = [request.model_copy(update={"shard_key": None}) for request in requests]
        return self.behind.query_batch_points(name, one_shard)


def _config(body):
    """Settings of a request as a collection's description has them."""
    params = {key: body[key] for key in CLUSTER_OPTIONS & body.keys()} | body.get("params", {})
    params |= {"vectors": body["vectors"]} if "vectors" in body else {}
    names = ("hnsw_config", "quantization_config", "wal_config", "strict_mode_config")
    optimizers = {"optimizer_config": body["optimizers_config"]} if "optimizers_config" in body else {}
    return {"params": params} | optimizers | {name: body[name] for name in names if name in body}


def _merged(settings, changes):
    both = {key: _merged(settings[key], value) for key, value in changes.items() if isinstance(settings.get(key), dict)}
    return settings | changes | both


def plain(result):
    """A result as JSON has it."""
    if isinstance(result, list):
        return [plain(one) for one in result]
    return result.model_dump(mode="json") if hasattr(result, "model_dump") else result
