"""Clients of servers whose every call waits and raises one family of errors; see `Patience` and `StoreError`."""

import asyncio
import copy
import inspect
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakSet

import httpx
from qdrant_client import AsyncQdrantClient, QdrantClient
from qdrant_client.async_client_base import AsyncQdrantBase
from qdrant_client.async_qdrant_remote import AsyncQdrantRemote
from qdrant_client.client_base import QdrantBase
from qdrant_client.qdrant_remote import QdrantRemote

from qdrant_polyvec.retrying import Attempts, Patience, apatiently, patiently, seconds_left

__all__ = ["patient"]

Remote = QdrantRemote | AsyncQdrantRemote

_bounded: WeakSet[Any] = WeakSet()  # REST clients whose requests end with the running attempt


class PatientBackend(QdrantBase):
    """The backend of a client of a server. Closing it closes nothing: the client belongs to somebody else."""

    def __init__(self, client: QdrantClient, patience: Patience, *, uses_grpc: bool | None = None) -> None:
        """Args: `uses_grpc` overrules the client's own choice."""
        super().__init__()
        self.client, self.patience = client, patience
        self._uses_grpc = uses_grpc

    @property
    def remote(self) -> QdrantRemote:
        """The backend of the client; in a forked child it is another one than in its parent."""
        behind = self.client._client  # noqa: SLF001 — no public name
        assert isinstance(behind, QdrantRemote)
        return behind

    def close(self, **kwargs: Any) -> None:
        pass

    def over_grpc(self) -> "PatientBackend":
        """Return the same backend for calls over gRPC."""
        return PatientBackend(self.client, self.patience, uses_grpc=True)

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        remote = self.remote
        uses_grpc = remote._prefer_grpc if self._uses_grpc is None else self._uses_grpc  # noqa: SLF001 — no public name
        attempts = Attempts(_url(remote, uses_grpc=uses_grpc), self.patience.limit(name), self.patience)

        def attempt(seconds: float) -> Any:
            bounded = _bounded_options(kwargs, seconds)
            return getattr(_within(remote, seconds, uses_grpc=uses_grpc), name)(*args, **bounded)

        return patiently(attempt, attempts, lambda seconds: time.sleep(seconds))


class AsyncPatientBackend(AsyncQdrantBase):
    """`PatientBackend` on an asynchronous client, which it owns."""

    def __init__(self, client: AsyncQdrantClient, patience: Patience) -> None:
        super().__init__()
        self._client, self._patience = client, patience

    async def close(self, **kwargs: Any) -> None:
        await self._client.close(**kwargs)

    async def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        remote = self._client._client  # noqa: SLF001 — no public name
        assert isinstance(remote, AsyncQdrantRemote)
        uses_grpc = remote._prefer_grpc  # noqa: SLF001 — no public name
        attempts = Attempts(_url(remote, uses_grpc=uses_grpc), self._patience.limit(name), self._patience)

        def attempt(seconds: float) -> Awaitable[Any]:
            bounded = _bounded_options(kwargs, seconds)
            result: Awaitable[Any] = getattr(_within(remote, seconds, uses_grpc=uses_grpc), name)(*args, **bounded)
            return result

        return await apatiently(attempt, attempts, asyncio.sleep)


def patient(client: QdrantClient, patience: Patience) -> QdrantClient:
    """Return a client on the same connections that waits, if `client` is one of a server; else `client` itself."""
    behind = client._client  # noqa: SLF001 — no public name
    inner = behind.client if isinstance(behind, PatientBackend) else client
    if not isinstance(inner._client, QdrantRemote):  # noqa: SLF001 — no public name
        return client
    twin = copy.copy(inner)
    twin._client = PatientBackend(inner, patience)  # noqa: SLF001 — no public name
    return twin


def apatient(client: AsyncQdrantClient, patience: Patience) -> AsyncQdrantClient:
    """`patient` for asynchronous clients. Closing the result closes `client`."""
    if not isinstance(client._client, AsyncQdrantRemote):  # noqa: SLF001 — no public name
        return client
    twin = copy.copy(client)
    twin._client = AsyncPatientBackend(client, patience)  # noqa: SLF001 — no public name
    return twin


def _within(remote: Remote, seconds: float, *, uses_grpc: bool) -> Any:
    """Return the backend of one attempt: a copy on the same connections, since the original may be busy elsewhere."""
    if uses_grpc:  # the stubs are made at first use; a copy must share them
        _ = remote.grpc_points, remote.grpc_collections, remote.grpc_root
    else:
        _bound(remote)
    attempt: Any = copy.copy(remote)
    attempt._prefer_grpc = uses_grpc  # noqa: SLF001 — no public name
    attempt._timeout = min(remote._timeout, seconds)  # noqa: SLF001 — of gRPC; no public name
    return attempt


def _bounded_options(options: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return the options of a call whose own `timeout`, whole seconds on the server, is no longer than the attempt."""
    timeout = options.get("timeout")
    return options if timeout is None else options | {"timeout": min(timeout, math.ceil(seconds))}


def _bound(remote: Remote) -> None:
    """Let the requests of a client over REST end with the running attempt. Other requests of it are not changed."""
    sender = remote.openapi_client.client
    if sender in _bounded:
        return
    _bounded.add(sender)
    if isinstance(remote, AsyncQdrantRemote):
        remote.openapi_client.client.add_middleware(_abound)
    else:
        remote.openapi_client.client.add_middleware(_bound_request)


def _shorten(request: httpx.Request) -> None:
    if (seconds := seconds_left()) is not None:
        timeouts = request.extensions.get("timeout") or dict.fromkeys(("connect", "read", "write", "pool"))
        request.extensions["timeout"] = {
            phase: seconds if limit is None else min(limit, seconds) for phase, limit in timeouts.items()
        }


def _bound_request(request: httpx.Request, send: Callable[[httpx.Request], httpx.Response]) -> httpx.Response:
    _shorten(request)
    return send(request)


async def _abound(request: httpx.Request, send: Callable[[httpx.Request], Awaitable[httpx.Response]]) -> httpx.Response:
    _shorten(request)
    return await send(request)


def _url(remote: Remote, *, uses_grpc: bool) -> str:
    if not uses_grpc:
        return remote.rest_uri
    return f"{remote._host}:{remote._grpc_port} (gRPC)"  # noqa: SLF001 — no public name


def _delegated(name: str) -> Callable[..., Any]:
    def call(self: PatientBackend, *args: Any, **kwargs: Any) -> Any:
        return self.call(name, *args, **kwargs)

    return call


def _adelegated(name: str) -> Callable[..., Any]:
    async def call(self: AsyncPatientBackend, *args: Any, **kwargs: Any) -> Any:
        return await self.call(name, *args, **kwargs)

    return call


for _name, _method in vars(QdrantBase).items():
    if not _name.startswith("_") and inspect.isfunction(_method) and _name not in vars(PatientBackend):
        setattr(PatientBackend, _name, _delegated(_name))
for _name, _method in vars(AsyncQdrantBase).items():
    if inspect.iscoroutinefunction(_method) and _name not in vars(AsyncPatientBackend):
        setattr(AsyncPatientBackend, _name, _adelegated(_name))
