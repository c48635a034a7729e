"""Qdrant Edge, the engine in this process, as a backend of qdrant-client."""

from qdrant_polyvec.edge.backend import EdgeBackend
from qdrant_polyvec.edge.folder import FolderLockedError
from qdrant_polyvec.edge.shard import EngineError

__all__ = ["EdgeBackend", "EngineError", "FolderLockedError"]
