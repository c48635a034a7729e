"""A synchronous backend behind qdrant-client's asynchronous backend interface."""

import asyncio
import inspect
import threading
from collections.abc import Callable
from typing import Any

from qdrant_client import QdrantClient
from qdrant_client.async_client_base import AsyncQdrantBase


class ThreadedBackend(AsyncQdrantBase):
    """The backend of a client, each call in a thread: the event loop goes on while it waits.

    Args:
        client: the client that has the backend; it is kept for as long as this one is.
        owned: closing this one closes the client.
        serial: one call at a time, for a backend that is not safe in several threads.
    """

    def __init__(self, client: QdrantClient, *, owned: bool, serial: bool) -> None:
        super().__init__()
        self.client = client
        self._owned = owned
        self._turn = threading.Lock() if serial else None
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
        method = getattr(self.client._client, name)  # noqa: SLF001 — the client does not tell what is behind it
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
