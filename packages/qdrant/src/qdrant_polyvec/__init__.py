"""Dense and multi-vector collections in Qdrant: in a folder, in memory, or on a server."""

from qdrant_polyvec.collection import Collection, Hit, Report
from qdrant_polyvec.fingerprint import FingerprintError
from qdrant_polyvec.folder import FolderLockedError
from qdrant_polyvec.items import Failure
from qdrant_polyvec.location import Location, open_client
from qdrant_polyvec.query import MODES, Mode
from qdrant_polyvec.schema import SchemaError

__all__ = [
    "MODES",
    "Collection",
    "Failure",
    "FingerprintError",
    "FolderLockedError",
    "Hit",
    "Location",
    "Mode",
    "Report",
    "SchemaError",
    "open_client",
]
