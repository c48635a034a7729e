"""Where a collection lives: a folder, memory, a server, or a client that is already open."""

from pathlib import Path

from qdrant_client import QdrantClient
from qdrant_client.local.qdrant_local import QdrantLocal

from qdrant_polyvec.edge import EdgeBackend

Location = str | Path | QdrantClient


def open_client(location: Location) -> QdrantClient:
    """A `QdrantClient` on a location.

    Args:
        location: a folder (created if it is missing) as a `Path` or a string without `://`; the URL of a server;
            `":memory:"` for tests; or a client, which is returned as it is.

    Raises:
        FolderLockedError: the folder is open in another client.
    """
    if isinstance(location, QdrantClient):
        return location
    if isinstance(location, str) and "://" in location:
        return QdrantClient(url=location)
    if location == ":memory:":
        return QdrantClient(":memory:")
    if isinstance(location, str | Path) and str(location):
        return _embedded(Path(location))
    raise TypeError(f"a location is a folder, a URL, ':memory:' or a QdrantClient, not {location!r}.")


def is_simulated(client: QdrantClient) -> bool:
    """Whether the client is qdrant-client's in-Python imitation, which warns about indexes and search parameters."""
    return isinstance(client._client, QdrantLocal)  # noqa: SLF001 — the client does not tell what is behind it


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
