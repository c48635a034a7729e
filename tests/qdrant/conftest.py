"""Servers that the real clients talk to: what they are sent is read by the client's own strict models and executed on
Qdrant Edge. What a server does by itself (consensus, replicas, strict mode) they do not know.
"""

import json
import re
from concurrent import futures

import grpc
import httpx
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.grpc import collections_service_pb2_grpc, points_service_pb2_grpc, qdrant_pb2_grpc
from qdrant_client.grpc import points_pb2 as points_messages
from qdrant_client.grpc import qdrant_pb2 as root_messages

from qdrant_polyvec import open_client

CLUSTER_OPTIONS = {"shard_number", "sharding_method", "replication_factor", "write_consistency_factor"}
TOO_LARGE = "Payload error: JSON payload ({0} bytes) is larger than allowed (limit: {1} bytes)."


class Fault:
    """What goes wrong with one request: an answer, or an error of the connection before or after it is applied."""

    def __init__(self, status=None, text="", *, headers=None, error=None, applied=0.0):
        self.status, self.text, self.headers, self.error, self.applied = status, text, headers, error, applied


class RestServer:
    """Handles the requests of `QdrantClient(transport=httpx.MockTransport(server))`, sync or async.

    Attributes:
        requests: method, path, query parameters, body and size of each.
        faults: by the end of a path, what goes wrong with the next requests there.
        max_bytes: larger bodies are refused, as by a real server.
    """

    def __init__(self, folder):
        self.behind = open_client(folder)
        self.requests = []
        self.faults = {}
        self.version = "1.20.0"
        self.max_bytes = 32 * 2**20
        self.shard_keys = []

    def client(self, **options):
        transport = httpx.MockTransport(self)
        return QdrantClient(url="http://server", transport=transport, check_compatibility=False, **options)

    def sent(self, method, end):
        """The bodies of requests whose path ends so."""
        return [one["body"] for one in self.requests if one["method"] == method and one["path"].endswith(end)]

    def __call__(self, request):
        content = request.content
        body = json.loads(content) if content else None
        path = request.url.path
        self.requests.append(
            {
                "method": request.method,
                "path": path,
                "params": dict(request.url.params),
                "body": body,
                "size": len(content),
            }
        )
        if len(content) > self.max_bytes:
            return self._refusal(400, TOO_LARGE.format(len(content), self.max_bytes))
        fault = self._fault(path)
        if fault and fault.applied:
            self._answer(request.method, path, self._part(body, fault.applied))
        if fault and fault.error:
            raise fault.error
        if fault and fault.status:
            return self._refusal(fault.status, fault.text, fault.headers)
        try:
            result = self._answer(request.method, path, body)
        except ValueError as error:
            return self._refusal(404 if "not found" in str(error) else 400, str(error))
        return httpx.Response(200, json={"result": _plain(result), "status": "ok", "time": 0.0})

    def _fault(self, path):
        for end, faults in self.faults.items():
            if path.endswith(end) and faults:
                return faults.pop(0)
        return None

    @staticmethod
    def _part(body, share):
        points = body["points"]
        return body | {"points": points[: max(1, int(len(points) * share))]}

    @staticmethod
    def _refusal(status, text, headers=None):
        return httpx.Response(status, headers=headers, json={"status": {"error": text}, "time": 0.0})

    def _answer(self, method, path, body):
        if path == "/":
            return None
        match path.strip("/").split("/"):
            case ["aliases"]:
                return self.behind.get_aliases()
            case ["collections"]:
                return self.behind.get_collections()
            case ["collections", "aliases"]:
                changes = models.ChangeAliasesOperation(**body)
                return self.behind.update_collection_aliases(changes.actions)
            case ["collections", name, *rest]:
                call = f"{method} {'/'.join(rest)}".strip()
                return self._of_collection(call, name, body or {})
        raise AssertionError(f"{method} {path} is not known to the test's server")

    def _of_collection(self, call, name, body):
        behind = self.behind
        if field := re.fullmatch("DELETE index/(.*)", call):
            return behind.delete_payload_index(name, field[1])
        match call:
            case "GET exists":
                return {"exists": behind.collection_exists(name)}
            case "GET":
                return behind.get_collection(name)
            case "PUT":
                given = models.CreateCollection(**body)
                settings = {key: getattr(given, key) for key in body if key not in CLUSTER_OPTIONS}
                settings = {
                    {"vectors": "vectors_config", "sparse_vectors": "sparse_vectors_config"}.get(key, key): value
                    for key, value in settings.items()
                }
                return behind.create_collection(name, **settings)
            case "PATCH":
                return behind.update_collection(name, metadata=models.UpdateCollection(**body).metadata)
            case "DELETE":
                return behind.delete_collection(name)
            case "PUT index":
                index = models.CreateFieldIndex(**body)
                return behind.create_payload_index(name, index.field_name, index.field_schema)
            case "PUT shards":
                key = models.CreateShardingKey(**body).shard_key
                if key in self.shard_keys:
                    raise ValueError(f"Bad request: Sharding key {key} already exists")
                self.shard_keys.append(key)
                return True
            case "PUT points":
                points = models.PointsList(**body).points
                for point in points:
                    n_floats = sum(len(row) for row in point.vector.get("late", []))
                    if n_floats >= 2**20:
                        raise ValueError(f"Total size of all vectors ({n_floats}) must be less than 1048576")
                return behind.upsert(name, points, update_filter=models.PointsList(**body).update_filter)
            case "POST points":
                asked = models.PointRequest(**body)
                return behind.retrieve(name, asked.ids, asked.with_payload, asked.with_vector)
            case "POST points/delete":
                kind = models.FilterSelector if "filter" in body else models.PointIdsList
                selector = kind(**body)
                selector.shard_key = None
                return behind.delete(name, selector)
            case "PUT points/payload":
                given = models.SetPayload(**body)
                return behind.overwrite_payload(name, given.payload, given.points or given.filter)
            case "POST points/payload":
                given = models.SetPayload(**body)
                return behind.set_payload(name, given.payload, given.points or given.filter, key=given.key)
            case "POST points/payload/delete":
                given = models.DeletePayload(**body)
                return behind.delete_payload(name, given.keys, given.points or given.filter)
            case "POST points/count":
                asked = models.CountRequest(**body)
                return behind.count(name, asked.filter, exact=True)
            case "POST points/scroll":
                asked = models.ScrollRequest(**body)
                found, following = behind.scroll(
                    name, asked.filter, asked.limit, offset=asked.offset, with_payload=asked.with_payload,
                    with_vectors=asked.with_vector or False,
                )  # fmt: skip
                return {"points": found, "next_page_offset": following}
            case "POST points/query/batch":
                searches = models.QueryRequestBatch(**body).searches
                for search in searches:
                    search.shard_key = None
                return behind.query_batch_points(name, searches)
            case "POST points/query/groups":
                asked = models.QueryGroupsRequest(**body)
                return behind.query_points_groups(
                    name, group_by=asked.group_by, query=asked.query, using=asked.using, prefetch=asked.prefetch,
                    query_filter=asked.filter, search_params=asked.params, limit=asked.limit,
                    group_size=asked.group_size, with_payload=asked.with_payload,
                    score_threshold=asked.score_threshold,
                )  # fmt: skip
        raise AssertionError(f"{call} is not known to the test's server")


class Rest(RestServer):
    """With the answer of `GET /`, which is no `{"result": …}`."""

    def __call__(self, request):
        if request.url.path == "/":
            self.requests.append({"method": "GET", "path": "/", "params": {}, "body": None, "size": 0})
            return httpx.Response(200, json={"title": "qdrant - vector search engine", "version": self.version})
        return super().__call__(request)


def _plain(result):
    if isinstance(result, list):
        return [_plain(one) for one in result]
    if isinstance(result, dict):
        return {key: _plain(value) for key, value in result.items()}
    return result.model_dump(mode="json") if hasattr(result, "model_dump") else result


@pytest.fixture
def rest(tmp_path):
    server = Rest(tmp_path / "behind")
    yield server
    server.behind.close()


@pytest.fixture
def fault():
    return Fault


class GrpcPoints(points_service_pb2_grpc.PointsServicer):
    """The calls about points that writing and searching make, executed on Edge."""

    def __init__(self, behind):
        self.behind = behind
        self.faults = []
        self.sizes = []
        self.max_bytes = 2**40

    def Upsert(self, request, context):
        self.sizes.append(request.ByteSize())
        if self.faults:
            code, text = self.faults.pop(0)
            context.abort(code, text)
        if request.ByteSize() > self.max_bytes:
            context.abort(grpc.StatusCode.OUT_OF_RANGE, "Error, decoded message length too large")
        points = [GrpcToRest.convert_point_struct(point) for point in request.points]
        try:
            self.behind.upsert(request.collection_name, points)
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        status = points_messages.UpdateStatus.Completed
        return points_messages.PointsOperationResponse(result=points_messages.UpdateResult(status=status))

    def QueryBatch(self, request, context):
        queries = [GrpcToRest.convert_query_points(one) for one in request.query_points]
        answers = self.behind.query_batch_points(request.collection_name, queries)
        results = [
            points_messages.BatchResult(result=[RestToGrpc.convert_scored_point(point) for point in answer.points])
            for answer in answers
        ]
        return points_messages.QueryBatchResponse(result=results)


class GrpcRoot(qdrant_pb2_grpc.QdrantServicer):
    def HealthCheck(self, request, context):
        return root_messages.HealthCheckReply(title="qdrant", version="1.20.0")


class GrpcServer:
    """A server on the loopback. `client` prefers gRPC."""

    def __init__(self, folder):
        self.behind = open_client(folder)
        self.points = GrpcPoints(self.behind)
        options = [("grpc.max_receive_message_length", -1)]
        self._server = grpc.server(futures.ThreadPoolExecutor(2), options=options)
        points_service_pb2_grpc.add_PointsServicer_to_server(self.points, self._server)
        collections_service_pb2_grpc.add_CollectionsServicer_to_server(
            collections_service_pb2_grpc.CollectionsServicer(), self._server
        )
        qdrant_pb2_grpc.add_QdrantServicer_to_server(GrpcRoot(), self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self.client = QdrantClient(url="http://127.0.0.1", grpc_port=port, prefer_grpc=True, check_compatibility=False)

    def close(self):
        self.client.close()
        self._server.stop(None).wait()
        self.behind.close()


@pytest.fixture
def grpc_server(tmp_path):
    server = GrpcServer(tmp_path / "behind-grpc")
    yield server
    server.close()
