"""A server on the loopback that speaks REST and gRPC, and fails when it is told to: `Server`."""

import asyncio
import contextlib
import json
import math
import socket
import struct
import sys
import threading
from concurrent import futures
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient
from qdrant_client.grpc import collections_service_pb2_grpc, points_service_pb2_grpc, qdrant_pb2_grpc

from qdrant_polyvec import Patience
from tests.qdrant.calls import CALLS, Call, RefusedError, Store, call_of_rest, plain
from tests.qdrant.messages import COLLECTIONS, POINTS, ROOT

HOST = "127.0.0.1"
CONNECTIONS = ("refused", "reset", "hang")
NGINX = "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n</body>\r\n</html>\r\n"
TOO_LARGE = "Payload error: JSON payload ({0} bytes) is larger than allowed (limit: {1} bytes)."
HALF_AN_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
ANSWERS = {  # as a server of Qdrant puts them, or a proxy in front of one
    "400 index": RefusedError(
        400,
        'Bad request: Index required but not found for "metadata.n" of one of the following types: [integer]. '
        "Help: Create an index for this key or use a different filter.",
    ),
    "400 limit": RefusedError(
        400,
        'Bad request: Limit exceeded 256 > 100 for "limit". Help: Reduce the "limit" parameter to or below 100.',
    ),
    "400 size": RefusedError(400, TOO_LARGE.format(2**25 + 1, 2**25)),
    "401": RefusedError(401, "Invalid API key or JWT", body="Invalid API key or JWT"),
    "403": RefusedError(403, "Forbidden: Global manage access is required"),
    "404": RefusedError(404, "Not found: Collection `{0}` doesn't exist!"),
    "409": RefusedError(409, "Wrong input: Collection `{0}` already exists!"),
    "413": RefusedError(413, "Request Entity Too Large", body=NGINX.format("413 Request Entity Too Large")),
    "429": RefusedError(429, "Rate limiting exceeded: Write rate limit exceeded, retry later", retry_after=1),
    "500": RefusedError(500, "Service internal error: 1 of 2 read operations failed"),
    "503": RefusedError(
        503, "Shard temporarily unavailable: The replica set for shard 0 on peer 1 has no active replica"
    ),
}
KINDS = (*CONNECTIONS, *ANSWERS)
UNAVAILABLE = (*CONNECTIONS, "429", "500", "503")
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ALREADY_EXISTS,
    413: grpc.StatusCode.OUT_OF_RANGE,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
}
# gRPC waits a second before it connects again, too long for a test, and new clients wait with those before them.
CHANNEL = {f"grpc.{name}_reconnect_backoff_ms": 50 for name in ("initial", "min", "max")} | {
    "grpc.use_local_subchannel_pool": 1
}


@contextlib.contextmanager
def impatient(kind):
    """Wait hardly at all while a server is unavailable. A refusal is told at once, which is late on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        if kind in UNAVAILABLE:
            patch.setattr(Patience, "limit", lambda *_: 0.02)
        yield


class Seconds(float):
    """A timeout that the client does not round up to whole seconds."""

    def __ceil__(self):
        return self


class CutError(Exception):
    """The connection ends in the middle of an answer."""


@dataclass(frozen=True)
class Sent:
    """A request: `protocol` is `rest` or `grpc`, `size` are its bytes."""

    protocol: str
    call: Call
    size: int


@dataclass
class Fault:
    call: str | None
    kind: str | RefusedError
    times: int | None
    applied: float


class Gate:
    """A port in front of another one, which can be closed and opened again, and whose connections can be reset."""

    def __init__(self, loop, behind):
        self._loop, self._behind = loop, behind
        self._listening = None
        self._transports = set()
        self.port = 0
        self.open()

    def open(self):
        if self._listening is None:
            self._listening = self._run(asyncio.start_server(self._serve, HOST, self.port))
            self.port = self._listening.sockets[0].getsockname()[1]

    def close(self):
        self._run(self._close(listening=True))

    def cut(self):
        """Reset all connections."""
        self._run(self._close(listening=False))

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _close(self, *, listening):
        if listening and self._listening is not None:
            self._listening.close()
            self._listening = None
        for transport in self._transports:
            if not transport.is_closing():
                peer = transport.get_extra_info("socket")
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # to close is to reset
            transport.abort()

    async def _serve(self, reader, writer):
        far_reader, far_writer = await asyncio.open_connection(HOST, self._behind)
        transports = {writer.transport, far_writer.transport}
        self._transports |= transports
        if self._listening is None:  # closed meanwhile
            await self._close(listening=False)
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            self._transports -= transports


async def _last():
    """Wait until all other tasks have ended."""
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})


async def _pump(reader, writer):
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()


class Server:
    """A server of REST and gRPC over one folder.

    Attributes:
        requests: what was sent, in order.
        max_bytes: by protocol; larger requests are refused. By default gRPC takes all, as Qdrant does.
        store: what answers; its `version` may be set.
    """

    def __init__(self, folder):
        self.store = Store(folder)
        self.requests = []
        self.max_bytes = {"rest": 2**25, "grpc": math.inf}
        self._faults = []
        self._turn = threading.Lock()
        self._released = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._http = _HttpServer(self)
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        self._workers = futures.ThreadPoolExecutor(16)
        self._grpc, grpc_port = _grpc_server(self, self._workers)
        self._gates = [Gate(self._loop, port) for port in (self._http.server_port, grpc_port)]

    @property
    def behind(self):
        """A client of the folder: what is really stored."""
        return self.store.behind

    @property
    def url(self):
        return f"http://{HOST}:{self._gates[0].port}"

    @property
    def grpc_port(self):
        return self._gates[1].port

    def client(self, *, prefer_grpc=False, **options):
        """A client of this server. A `timeout` may be less than a second."""
        client = QdrantClient(**self._options(prefer_grpc, **options))
        # The client has written into its own; with them an asynchronous twin would warn.
        client.init_options["grpc_options"] = dict(CHANNEL)
        return client

    def async_client(self, *, prefer_grpc=False, **options):
        return AsyncQdrantClient(**self._options(prefer_grpc, **options))

    def _options(self, prefer_grpc, *, timeout=60, **options):
        usual = {"check_compatibility": False, "grpc_options": dict(CHANNEL), "timeout": Seconds(timeout)}
        usual["verify"] = False  # there is no TLS, but each client would load all certificates
        return {"url": self.url, "grpc_port": self.grpc_port, "prefer_grpc": prefer_grpc} | usual | options

    def calls(self):
        """The names of the calls that were sent."""
        return [sent.call.name for sent in self.requests]

    def fail(self, call, kind, *, times=1, applied=0.0):
        """Let calls go wrong.

        Args:
            call: the client's word for it, as `upsert`; None for any call.
            kind: one of `KINDS`, or a RefusedError of your own. `refused`: the connection is reset, and others are
                refused until `start`.
            times: how many calls; None for all until `heal`.
            applied: the share of the call that is applied nevertheless: True for all, a part only of points.
        """
        assert call is None or call in CALLS, f"{call} is none of {sorted(CALLS)}"
        assert kind in KINDS or isinstance(kind, RefusedError), f"{kind} is none of {KINDS}"
        self._faults.append(Fault(call, kind, times, applied))

    def heal(self):
        """Let nothing go wrong from now on, and end the calls that hang."""
        with self._turn:
            self._faults.clear()
            released, self._released = self._released, threading.Event()
        released.set()

    def stop(self):
        """Refuse connections. The ports stay this server's."""
        for gate in self._gates:
            gate.close()

    def start(self):
        """Take connections again, on the same ports."""
        for gate in self._gates:
            gate.open()

    def cut(self):
        """Reset all connections."""
        for gate in self._gates:
            gate.cut()

    def close(self):
        self.heal()
        self.stop()
        self._http.shutdown()
        self._http.server_close()
        self._grpc.stop(None).wait()
        self._workers.shutdown()
        asyncio.run_coroutine_threadsafe(_last(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.behind.close()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()

    def answer(self, protocol, call, size):
        """The result of a call; a RefusedError or a CutError if it goes wrong."""
        self.requests.append(Sent(protocol, call, size))
        if size > (limit := self.max_bytes[protocol]):
            raise _too_large(protocol, size, limit)
        with self._turn:
            fault, released = self._take(call), self._released
        if fault is None:
            return self.store.answer(call)
        if fault.applied:
            self.store.answer(_part(call, fault.applied))
        if fault.kind in ANSWERS:
            refusal = ANSWERS[fault.kind]
            text = refusal.text.format(call.collection)
            raise RefusedError(refusal.status, text, body=refusal.body, retry_after=refusal.retry_after)
        if isinstance(fault.kind, RefusedError):
            raise fault.kind
        if fault.kind == "hang":
            released.wait()
        if fault.kind == "refused":
            self.stop()
        raise CutError

    def _take(self, call):
        for fault in self._faults:
            if fault.call in (None, call.name):
                if fault.times is not None:
                    fault.times -= 1
                    if not fault.times:
                        self._faults.remove(fault)
                return fault
        return None


def _part(call, share):
    if share == 1 or call.name != "upsert":
        return call
    n_points = max(1, int(len(call.request.points) * share))
    return replace(call, request=call.request.model_copy(update={"points": call.request.points[:n_points]}))


def _too_large(protocol, size, limit):
    if protocol == "grpc":
        return RefusedError(
            413, f"Error, decoded message length too large: found {size} bytes, the limit is: {limit} bytes"
        )
    return RefusedError(400, TOO_LARGE.format(size, limit))


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for them

    def __init__(self, server):
        super().__init__((HOST, 0), _Handler)
        self.server = server

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def answer(self):
        server: Server = self.server.server
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        try:
            call = call_of_rest(self.command, path, json.loads(content) if content else None)
            result = plain(server.answer("rest", call, len(content)))
            self._send(200, result if call.name == "info" else {"result": result, "status": "ok", "time": 0.0})
        except RefusedError as error:
            headers = {"Retry-After": error.retry_after} if error.retry_after else {}
            answer = error.body or {"status": {"error": error.text}, "time": 0.0}
            self._send(error.status, answer, headers)
        except CutError:
            self.wfile.write(HALF_AN_ANSWER)
            self.wfile.flush()
            server.cut()
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = answer

    def _send(self, status, answer, headers=()):
        content = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(status)
        kind = "application/json" if not isinstance(answer, str) else "text/plain"
        for key, value in {**dict(headers), "Content-Type": kind, "Content-Length": len(content)}.items():
            self.send_header(key, str(value))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_message):
        pass


def _grpc_server(server, workers):
    options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
    served = grpc.server(workers, options=options)
    points_service_pb2_grpc.add_PointsServicer_to_server(
        _servicer(points_service_pb2_grpc.PointsServicer, POINTS, server), served
    )
    collections_service_pb2_grpc.add_CollectionsServicer_to_server(
        _servicer(collections_service_pb2_grpc.CollectionsServicer, COLLECTIONS, server), served
    )
    qdrant_pb2_grpc.add_QdrantServicer_to_server(_servicer(qdrant_pb2_grpc.QdrantServicer, ROOT, server), served)
    port = served.add_insecure_port(f"{HOST}:0")
    served.start()
    return served, port


def _servicer(kind, rpcs, server):
    """A servicer that knows some calls; the others are not implemented."""

    def method(rpc):
        def answer(_servicer, message, context):
            try:
                call = Call(rpc.call, getattr(message, "collection_name", None), rpc.read(message))
                return rpc.write(server.answer("grpc", call, message.ByteSize()))
            except RefusedError as error:
                if error.retry_after:
                    context.set_trailing_metadata([("retry-after", str(error.retry_after))])
                context.abort(error.code or CODES[error.status], error.text)
            except CutError:
                context.send_initial_metadata(())
                server.cut()
                context.abort(grpc.StatusCode.UNAVAILABLE, "")

        return answer

    return type(kind.__name__, (kind,), {name: method(rpc) for name, rpc in rpcs.items()})()
