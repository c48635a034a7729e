"""Dense and multi-vector collections in Qdrant: in a folder, in memory, or on a server."""

from qdrant_polyvec.clients import Location, ServerVersionError, open_async_client, open_client
from qdrant_polyvec.cluster import Cluster
from qdrant_polyvec.collection import Collection
from qdrant_polyvec.edge import EngineError, FolderLockedError
from qdrant_polyvec.fingerprint import FingerprintError
from qdrant_polyvec.hits import Group, Hit, Stored
from qdrant_polyvec.items import Failure, Item, Report, UnstoredItems
from qdrant_polyvec.maintenance import Verification
from qdrant_polyvec.query import MODES, Mode, Query, RankingOptions, SearchOptions, Tasks
from qdrant_polyvec.retrying import StoreUnavailableError
from qdrant_polyvec.schema import Schema, SchemaError

__all__ = [
    "MODES",
    "Cluster",
    "Collection",
    "EngineError",
    "Failure",
    "FingerprintError",
    "FolderLockedError",
    "Group",
    "Hit",
    "Item",
    "Location",
    "Mode",
    "Query",
    "RankingOptions",
    "Report",
    "Schema",
    "SchemaError",
    "SearchOptions",
    "ServerVersionError",
    "StoreUnavailableError",
    "Stored",
    "Tasks",
    "UnstoredItems",
    "Verification",
    "open_async_client",
    "open_client",
]
