"""Where a collection lives: a folder, memory, a server, or a client that is already open."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qdrant_client import AsyncQdrantClient, QdrantClient
from qdrant_client.local.qdrant_local import QdrantLocal
from qdrant_client.qdrant_remote import QdrantRemote

from qdrant_polyvec.async_backend import ThreadedBackend
from qdrant_polyvec.edge import EdgeBackend

Location = str | Path | QdrantClient

_PATIENT = {"timeout": 60}  # seconds; with the client's own 5, a large write to a busy server fails though it is done


def open_client(location: Location, **options: Any) -> QdrantClient:
    """A `QdrantClient` on a location.

    Args:
        location: a folder (created if it is missing) as a `Path` or a string without `://`; the URL of a server;
            `":memory:"` for tests; or a client, which is returned as it is.
        options: of `QdrantClient` for a server: `api_key`, `prefer_grpc`, `timeout`, …

    Raises:
        FolderLockedError: the folder is open in another client.
        TypeError: not a location, or options for one that is no server.
    """
    if isinstance(location, str) and "://" in location:
        return QdrantClient(url=location, **_PATIENT | options)
    _refuse(location, options)
    if isinstance(location, QdrantClient):
        return location
    if location == ":memory:":
        return QdrantClient(":memory:")
    if isinstance(location, str | Path) and str(location):
        return _embedded(Path(location))
    raise TypeError(f"a location is a folder, a URL, ':memory:' or a QdrantClient, not {location!r}.")


def open_async_client(location: Location | AsyncQdrantClient, **options: Any) -> AsyncQdrantClient:
    """An `AsyncQdrantClient` on a location: on the same data if that is a client, without opening it again.

    On a folder or in memory the calls run in threads. Closing it closes what it has opened itself, not a given client.

    Args:
        location: as in `open_client`; an `AsyncQdrantClient` is returned as it is.
        options: of `AsyncQdrantClient` for a server: `api_key`, `prefer_grpc`, `timeout`, …

    Raises:
        FolderLockedError: the folder is open in another client.
        TypeError: not a location, or options for one that is no server.
    """
    if isinstance(location, str) and "://" in location:
        return AsyncQdrantClient(url=location, **_PATIENT | options)
    if isinstance(location, AsyncQdrantClient):
        _refuse(location, options)
        return location
    if isinstance(location, QdrantClient) and isinstance(location._client, QdrantRemote) and not options:  # noqa: SLF001
        return AsyncQdrantClient(**location.init_options)
    client = open_client(location, **options)
    backend = ThreadedBackend(client, owned=client is not location, serial=is_simulated(client))
    twin = AsyncQdrantClient(":memory:")
    twin._client = backend  # noqa: SLF001 — as in `_embedded`
    twin.init_options.update(client.init_options)
    return twin


def is_simulated(client: QdrantClient) -> bool:
    """Whether the client is qdrant-client's in-Python imitation, which warns about indexes and search parameters."""
    return isinstance(client._client, QdrantLocal)  # noqa: SLF001 — the client does not tell what is behind it


def _refuse(location: object, options: Mapping[str, Any]) -> None:
    if options:
        told = repr(str(location)) if isinstance(location, str | Path) else f"a {type(location).__name__}"
        raise TypeError(f"the options {', '.join(options)} are for a server's URL; {told} takes none.")


def _embedded(folder: Path) -> QdrantClient:
    # The constructor of QdrantClient chooses its backend itself and takes none from outside. Built in memory it
    # connects to nothing; then the backend is exchanged. All its methods delegate to `_client`, so integrations
    # written for QdrantClient run on it unchanged.
    backend = EdgeBackend(folder)
    client = QdrantClient(":memory:")
    client._client.close()  # noqa: SLF001
    client._client = backend  # noqa: SLF001
    # Who builds an async twin from these options must be refused by the folder's lock, not get an empty memory.
    client.init_options.update(location=None, path=str(folder))
    return client
