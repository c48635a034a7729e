"""One collection's shard: opened when it is first used, one call at a time, its errors told by type."""

import ctypes
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import qdrant_edge as edge

from qdrant_polyvec.edge import optimizing
from qdrant_polyvec.edge.translate import Native

FLUSH_EVERY_BYTES = 256 * 2**20  # what reopening after a crash must at most replay from the write-ahead log

# How the engine's messages begin where the caller is at fault; its exceptions have no types.
_FAULTS = (
    "Bad request",
    "Malformed",
    "No appropriate index",
    "No point with id",
    "No range index",
    "Not existing vector name",
    "The expression",
    "Validation failed",
    "Vector dimension error",
)


class EngineError(RuntimeError):
    """The embedded engine failed at a call. What was acknowledged before is kept."""


class Shard:
    """An open or unopened shard. All calls of the engine are made under its lock.

    They hold the interpreter lock anyway, so no parallelism is lost, and the engine may be exchanged meanwhile.
    """

    def __init__(self, path: Path, collection: str) -> None:
        self.lock = threading.RLock()
        self.engine: Native = None
        self.unflushed = 0
        self._path = path
        self._collection = collection
        self._ended = False

    @contextmanager
    def use(self, call: str) -> Iterator[Native]:
        """The engine, for this thread alone.

        Raises:
            ValueError: the engine refused what the caller asked.
            EngineError: it failed.
            RuntimeError: the collection was deleted, or its folder closed, while this call waited.
        """
        with self.lock, self._told(call):
            if self._ended:
                raise RuntimeError(f"The collection {self._collection!r} was closed or deleted meanwhile.")
            if self.engine is None:
                self.engine = edge.EdgeShard.load(str(self._path))
            yield self.engine

    def create(self, config: Native) -> None:
        with self.lock, self._told("create_collection"):
            self.engine = edge.EdgeShard.create(str(self._path), config)

    def update(self, call: str, operation: Native, n_bytes: int = 0) -> None:
        with self.use(call) as engine:
            engine.update(operation)
            self.unflushed += n_bytes
            if self.unflushed >= FLUSH_EVERY_BYTES:
                engine.flush()
                self.unflushed = 0

    def optimize(self, lock_descriptor: int | None) -> bool:
        """Merge and index segments, and free the space of the old ones; whether there was anything to do.

        Args:
            lock_descriptor: of the folder's lock, to do it in a process of its own; None for here.
        """
        with self.use("optimize") as engine:
            if lock_descriptor is None:
                engine.flush()
                changed = engine.optimize()
                self._close()  # its flush frees the old segments
            else:
                self._close()
                try:
                    changed = optimizing.in_worker(self._path, lock_descriptor)
                except subprocess.CalledProcessError as error:
                    self.engine = edge.EdgeShard.load(str(self._path))
                    raise EngineError(
                        f"Optimizing the collection {self._collection!r} in a worker process failed with exit status "
                        f"{error.returncode}; the collection is open again and has lost nothing. The worker said: "
                        f"{error.stderr.strip()[-500:] or 'nothing'}"
                    ) from error
            self.engine = edge.EdgeShard.load(str(self._path))
        return bool(changed)

    def end(self) -> None:
        """Flush and close, for good. Waits for the calls that are under way."""
        with self.lock, self._told("close"):
            self._ended = True
            self._close()

    def _close(self) -> None:
        engine, self.engine, self.unflushed = self.engine, None, 0
        if engine is not None:
            try:
                engine.flush()
            finally:
                engine.close()

    def abandon(self) -> None:
        """In a forked child: leave the engine alone for good. Its destructor would write to its parent's files."""
        if self.engine is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.engine))

    @contextmanager
    def _told(self, call: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if type(error) is not Exception:  # the engine's own; it has no other type
                raise
            raise self._error(call, str(error)) from error

    def _error(self, call: str, message: str) -> Exception:
        told = f"`{call}` on the collection {self._collection!r}: {message}"
        if message.startswith("Operation cancelled"):  # the engine's words for a formula that could not be computed
            return ValueError(
                f"{told}. A formula has met a missing value, a division by zero or a result that is not finite; give "
                "it `defaults`, or `by_zero_default` where it divides."
            )
        if message.startswith(_FAULTS):
            return ValueError(told)
        return EngineError(told)
