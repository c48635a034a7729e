"""Clients of a location: a folder, memory, a server, or a client that is already open; and what is behind a client."""

import asyncio
import inspect
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary, WeakSet

import grpc
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client import grpc as messages
from qdrant_client.async_client_base import AsyncQdrantBase
from qdrant_client.client_base import QdrantBase
from qdrant_client.qdrant_remote import QdrantRemote

from polyvec import forking
from qdrant_polyvec.edge import EdgeBackend
from qdrant_polyvec.patient import PatientBackend, apatient
from qdrant_polyvec.retrying import Patience

__all__ = ["AsyncClients", "Location", "open_async_client", "open_client"]

Location = str | Path | QdrantClient
Version = tuple[int, int]

# Seconds; with the client's own 5, a large write to a busy server fails though it is done. `engine` checks the version.
_OPTIONS = {"timeout": 60, "check_compatibility": False}
_PROBE = 2.0  # seconds for the gRPC port to answer


_inherited: list[QdrantClient] = []  # of the parent, in a forked child
_connected: WeakSet[QdrantClient] = WeakSet()  # clients of servers that this module opened
_undecided: WeakSet[QdrantClient] = WeakSet()  # of these, without a choice between REST and gRPC
_without_grpc: set[str] = set()  # servers of which the log says so already
_logger = logging.getLogger(__name__)


class ServerVersionError(RuntimeError):
    """The server is too old."""


def open_client(location: Location, **options: Any) -> QdrantClient:
    """Open a `QdrantClient` on a location.

    Args:
        location: a folder (created if it is missing) as a `Path` or a string without `://`; the URL of a server;
            `":memory:"` for tests; or a client, which is returned as it is.
        options: of `QdrantClient` for a server: `api_key` (default: the environment variable QDRANT_API_KEY),
            `prefer_grpc`, `timeout`, … Without `prefer_grpc`, collections are written over gRPC if its port answers,
            and everything else goes over REST.

    A client of a server that this opened has connections of its own in a forked child.

    Raises:
        FolderLockedError: the folder is open in another process.
        TypeError: not a location, or options for one that is no server.
    """
    if isinstance(location, str) and "://" in location:
        client = QdrantClient(url=location, **_server_options(options))
        _connected.add(client)
        if options.get("prefer_grpc") is None:
            _undecided.add(client)
        return client
    _refuse(location, options)
    if isinstance(location, QdrantClient):
        return location
    if location == ":memory:":
        return QdrantClient(":memory:")
    if isinstance(location, str | Path) and str(location):
        return _embedded(Path(location))
    raise TypeError(f"a location is a folder, a URL, ':memory:' or a QdrantClient, not {location!r}.")


def open_async_client(location: Location | AsyncQdrantClient, **options: Any) -> AsyncQdrantClient:
    """Open an `AsyncQdrantClient` on a location: on the same data if that is a client, without opening it again.

    On a folder or in memory the calls run in threads. Closing it closes what it has opened itself, not a given client.

    Args:
        location: as in `open_client`; an `AsyncQdrantClient` is returned as it is.
        options: of `AsyncQdrantClient` for a server, as in `open_client`.

    Raises:
        FolderLockedError: the folder is open in another process.
        TypeError: not a location, or options for one that is no server.
    """
    if isinstance(location, str) and "://" in location:
        return AsyncQdrantClient(url=location, **_server_options(options))
    if isinstance(location, AsyncQdrantClient):
        _refuse(location, options)
        return location
    if isinstance(location, QdrantClient) and isinstance(backend(location), QdrantRemote) and not options:
        return AsyncQdrantClient(**_options_again(location))
    client = open_client(location, **options)
    twin = AsyncQdrantClient(":memory:")
    twin._client = ThreadedBackend(client, owned=client is not location)  # noqa: SLF001 — no public name
    twin.init_options.update(client.init_options)
    return twin


class AsyncClients:
    """The asynchronous twins of a client, one per event loop: connections belong to the loop they were opened in."""

    def __init__(self, client: QdrantClient, patience: Patience) -> None:
        self._client, self._patience = inner(client), patience
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncQdrantClient] = WeakKeyDictionary()

    def current(self) -> AsyncQdrantClient:
        """Return the twin of the running event loop; it is opened at the first call."""
        loop = asyncio.get_running_loop()
        if loop not in self._by_loop:
            self._by_loop[loop] = apatient(open_async_client(self._client), self._patience)
        return self._by_loop[loop]

    async def aclose(self) -> None:
        """Close the twin of the running event loop, if there is one."""
        twin = self._by_loop.pop(asyncio.get_running_loop(), None)
        if twin is not None:
            await twin.close()


@dataclass(frozen=True, slots=True)
class Engine:
    """What is behind a client."""

    kind: Literal["edge", "memory", "rest", "grpc"]  # a folder, qdrant-client's imitation, or a server
    version: Version | None = None  # of a server
    writes_over_grpc: bool = False  # items are written over gRPC

    @property
    def is_imitation(self) -> bool:
        """True for memory: it warns about indexes and search parameters, and is not safe in several threads."""
        return self.kind == "memory"

    @property
    def has_memory_tiers(self) -> bool:
        """True if vectors are placed by `memory`, not by `on_disk`."""
        return self.version is None or self.version >= (1, 19)

    @property
    def has_weights(self) -> bool:
        """True if rankings are fused with weights, which decide ties."""
        return "weights" in models.Rrf.model_fields and (self.version is None or self.version >= (1, 17))


def engine(client: QdrantClient) -> Engine:
    """Find out what is behind a client; a server is asked for its version, and must tell it (ServerVersionError)."""
    behind = backend(client)
    if not isinstance(behind, QdrantRemote):
        return Engine("edge" if isinstance(behind, EdgeBackend) else "memory")
    version = client.info().version
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None:
        raise ServerVersionError(f"the server says it is version {version!r}, which is no version of Qdrant.")
    prefers_grpc: bool = behind._prefer_grpc  # noqa: SLF001 — no public name
    writes_over_grpc = prefers_grpc or (inner(client) in _undecided and _answers_over_grpc(client, behind))
    return Engine("grpc" if prefers_grpc else "rest", (int(numbers[1]), int(numbers[2])), writes_over_grpc)


def inner(client: QdrantClient) -> QdrantClient:
    """Return the client of the caller behind one that waits."""
    behind = client._client  # noqa: SLF001 — no public name
    return behind.client if isinstance(behind, PatientBackend) else client


def backend(client: QdrantClient) -> QdrantBase:
    """Return what a client delegates to in the end."""
    return inner(client)._client  # noqa: SLF001 — no public name


def grpc_backend(client: QdrantClient, engine: Engine) -> QdrantBase | None:
    """Return the backend that writes items over gRPC and takes gRPC's messages; None if they are written otherwise.

    A forked child writes over gRPC only if its client prefers it: gRPC does not survive a fork in every version.
    """
    if not engine.writes_over_grpc or (engine.kind == "rest" and inner(client) not in _undecided):
        return None
    behind = client._client  # noqa: SLF001 — no public name
    return behind.over_grpc() if isinstance(behind, PatientBackend) else behind


def _server_options(options: Mapping[str, Any]) -> dict[str, Any]:
    key = os.environ.get("QDRANT_API_KEY")
    given = {name: value for name, value in options.items() if value is not None}
    used = given.get("api_key", key)
    if isinstance(used, str) and not (used.isascii() and used.isprintable()):
        raise ValueError(
            "the API key (`api_key`, or QDRANT_API_KEY) has a line break or another character that no header can hold."
        )
    return _OPTIONS | ({"api_key": key} if key else {}) | given


def _options_again(client: QdrantClient) -> dict[str, Any]:
    """Return the options for another client of the same server. qdrant-client adds to its `grpc_options`, and warns."""
    of_grpc = client.init_options.get("grpc_options")
    ours = {key: value for key, value in (of_grpc or {}).items() if key != "grpc.primary_user_agent"}
    return client.init_options | {"check_compatibility": False, "grpc_options": None if of_grpc is None else ours}


def _answers_over_grpc(client: QdrantClient, remote: QdrantRemote) -> bool:
    """True if the server's gRPC port answers, and it is no other server's: it has the same collections."""
    names = {collection.name for collection in client.get_collections().collections}
    try:
        answer = remote.grpc_collections.List(messages.ListCollectionsRequest(), timeout=_PROBE)
        is_same = {collection.name for collection in answer.collections} == names
    except grpc.RpcError:
        is_same = False
    if not is_same:
        if remote.rest_uri not in _without_grpc:
            _without_grpc.add(remote.rest_uri)
            _logger.warning(
                "port %s does not answer over gRPC for the Qdrant server at %s, so items are written over REST, which "
                "takes longer. Open that port, name another one by open_client(url, grpc_port=…), or choose REST by "
                "prefer_grpc=False.",
                remote._grpc_port,  # noqa: SLF001 — no public name
                remote.rest_uri,
            )
        return False
    return True


class ThreadedBackend(AsyncQdrantBase):
    """The backend of a client, each call in a thread: the event loop goes on while it waits."""

    def __init__(self, client: QdrantClient, *, owned: bool) -> None:
        super().__init__()
        self.client = client
        self._owned = owned  # closing this one closes the client
        is_thread_safe = isinstance(backend(client), EdgeBackend | QdrantRemote)
        self._turn = None if is_thread_safe else forking.lock()
        self._closed = False

    async def close(self, **kwargs: Any) -> None:  # noqa: ARG002 — the client hands its gRPC options through
        self._closed = True
        if self._owned:
            await asyncio.to_thread(self.client.close)

    async def optimize(self, collection_name: str, *, in_worker: bool = False) -> bool:
        """As `EdgeBackend.optimize`."""
        return bool(await asyncio.to_thread(self.call, "optimize", collection_name, in_worker=in_worker))

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if self._closed:
            raise RuntimeError("This asynchronous client is closed; open another one.")
        method = getattr(backend(self.client), name)
        if self._turn is None:
            return method(*args, **kwargs)
        with self._turn:
            return method(*args, **kwargs)


def _delegated(name: str, asynchronous: bool) -> Callable[..., Any]:  # noqa: FBT001 — one place below
    async def in_thread(self: ThreadedBackend, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(self.call, name, *args, **kwargs)

    def directly(self: ThreadedBackend, *args: Any, **kwargs: Any) -> Any:
        return self.call(name, *args, **kwargs)

    return in_thread if asynchronous else directly


for _name, _method in vars(AsyncQdrantBase).items():
    if not _name.startswith("_") and _name not in vars(ThreadedBackend):
        setattr(ThreadedBackend, _name, _delegated(_name, inspect.iscoroutinefunction(_method)))


def _refuse(location: object, options: Mapping[str, Any]) -> None:
    if options:
        shown = repr(str(location)) if isinstance(location, str | Path) else f"a {type(location).__name__}"
        raise TypeError(f"the options {', '.join(options)} are for a server's URL; {shown} takes none.")


def _reconnect() -> None:
    """Give clients new connections in a forked child: it shares the old ones with its parent, answers included."""
    _undecided.clear()
    for client in _connected:
        other = QdrantClient(**_options_again(client))
        client._client, other._client = other._client, client._client  # noqa: SLF001 — no public name
        _inherited.append(other)  # closing it would end connections of the parent


def _embedded(folder: Path) -> QdrantClient:
    # The constructor of QdrantClient chooses its backend itself and takes none from outside. Built in memory it
    # connects to nothing; then the backend is exchanged. All its methods delegate to `_client`, so integrations
    # written for QdrantClient run on it unchanged.
    behind = EdgeBackend(folder)
    client = QdrantClient(":memory:")
    backend(client).close()
    client._client = behind  # noqa: SLF001 — no public name
    # Code that builds an async twin from these options must be refused by the folder's lock, not get an empty memory.
    client.init_options.update(location=None, path=str(folder))
    return client


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reconnect)
