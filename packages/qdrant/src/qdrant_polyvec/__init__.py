"""Dense and multi-vector collections in Qdrant: in a folder, in memory, or on a server."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qdrant_polyvec.choices import INDEX_KINDS, MODES, IndexKind, Mode
    from qdrant_polyvec.clients import Location, ServerVersionError, open_async_client, open_client
    from qdrant_polyvec.cluster import Cluster
    from qdrant_polyvec.collection import Collection
    from qdrant_polyvec.edge import EngineError, FolderLockedError
    from qdrant_polyvec.errors import (
        CollectionChangedError,
        NoRoomError,
        StoreError,
        StoreRefusedError,
        StoreUnavailableError,
    )
    from qdrant_polyvec.fields import field_keys
    from qdrant_polyvec.fingerprint import FingerprintError
    from qdrant_polyvec.hits import Group, Hit, Hits, Stored
    from qdrant_polyvec.items import Failure, Item, Report, UnstoredItems
    from qdrant_polyvec.maintenance import Verification
    from qdrant_polyvec.query import Query, QueryOptions, RankingOptions, SearchOptions, Tasks
    from qdrant_polyvec.retrying import Patience
    from qdrant_polyvec.schema import Schema, SchemaError

__all__ = [
    "INDEX_KINDS",
    "MODES",
    "Cluster",
    "Collection",
    "CollectionChangedError",
    "EngineError",
    "Failure",
    "FingerprintError",
    "FolderLockedError",
    "Group",
    "Hit",
    "Hits",
    "IndexKind",
    "Item",
    "Location",
    "Mode",
    "NoRoomError",
    "Patience",
    "Query",
    "QueryOptions",
    "RankingOptions",
    "Report",
    "Schema",
    "SchemaError",
    "SearchOptions",
    "ServerVersionError",
    "StoreError",
    "StoreRefusedError",
    "StoreUnavailableError",
    "Stored",
    "Tasks",
    "UnstoredItems",
    "Verification",
    "field_keys",
    "open_async_client",
    "open_client",
]

_MODULES = (
    "choices", "clients", "cluster", "collection", "edge", "errors", "fields", "fingerprint", "hits", "items",
    "maintenance", "query", "retrying", "schema",
)  # fmt: skip


def __getattr__(name: str) -> Any:  # whatever the name stands for
    """Import qdrant_client at the first use of a name, not for the help of the command line."""
    if name == "__version__":
        return version("qdrant-polyvec")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for module in _MODULES:
        public = vars(import_module(f"{__name__}.{module}"))
        globals().update({key: public[key] for key in __all__ if key in public})
    return globals()[name]
