"""The engine of one collection: opened at its first call, one call at a time, errors of distinct types."""

import ctypes
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import qdrant_edge as edge

from qdrant_polyvec.edge import optimizing, room
from qdrant_polyvec.edge.translate import Native

FLUSH_EVERY_BYTES = 256 * 2**20  # at most so much of the write-ahead log is replayed after a crash

# The engine's exceptions have no types. Its messages begin like this if the arguments of a call are invalid.
_INVALID_CALL = (
    "Bad request", "Malformed", "No appropriate index", "No point with id", "No range index",
    "Not existing vector name", "The expression", "Validation failed", "Vector dimension error",
)  # fmt: skip


class EngineError(RuntimeError):
    """The embedded engine failed in a call. All updates that it acknowledged before are kept."""


class Shard:
    """A shard, open or not. Every call of the engine holds `lock`, so that `optimize` can replace the engine.

    No parallelism is lost by that: the engine's calls hold the interpreter lock anyway.
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
        """Lend the engine to this thread; a ValueError if it rejects the arguments, an EngineError if it fails."""
        with self.lock, self._typed_errors(call):
            if self._ended:
                raise RuntimeError(f"The collection {self._collection!r} was closed or deleted meanwhile.")
            if self.engine is None:
                room.check(self._path, room.OPENING, "opening the collection")
                self.engine = edge.EdgeShard.load(str(self._path))
            yield self.engine

    def create(self, config: Native) -> None:
        with self.lock, self._typed_errors("create_collection"):
            room.check(self._path.parent, room.WRITING, "creating a collection")
            self.engine = edge.EdgeShard.create(str(self._path), config)

    def update(self, call: str, operation: Native, n_bytes: int = 0) -> None:
        with self.use(call) as engine:
            room.check(self._path, room.WRITING + room.PER_BYTE * n_bytes, f"`{call}`")
            engine.update(operation)
            self.unflushed += n_bytes
            if self.unflushed >= FLUSH_EVERY_BYTES:
                engine.flush()
                self.unflushed = 0

    def optimize(self, lock_descriptor: int | None) -> bool:
        """Merge and index segments, and free the old ones' space; in a child process if it gets the folder's lock."""
        with self.use("optimize") as engine:
            room.check(self._path, room.WRITING + room.allocated(self._path), "`optimize`")
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
        """Wait for the current call, then flush and close for good."""
        with self.lock, self._typed_errors("close"):
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
        """Never destroy the engine. In a forked child its destructor would write to the parent's files."""
        if self.engine is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.engine))

    @contextmanager
    def _typed_errors(self, call: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if type(error) is not Exception:  # the engine raises plain `Exception` only
                raise
            raise self._error(call, str(error)) from error

    def _error(self, call: str, message: str) -> Exception:
        if "(os error 28)" in message:  # ENOSPC, where the engine writes a file without mapping it
            return room.no_room(self._path, f"`{call}` failed")
        text = f"`{call}` on the collection {self._collection!r}: {message}"
        if message.startswith("Operation cancelled"):  # the engine's message for a formula that it cannot compute
            return ValueError(
                f"{text}. A formula has met a missing value, a division by zero or a result that is not finite; give "
                "it `defaults`, or `by_zero_default` where it divides."
            )
        if message.startswith(_INVALID_CALL):
            return ValueError(text)
        return EngineError(text)
