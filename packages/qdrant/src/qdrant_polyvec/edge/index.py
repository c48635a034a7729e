"""The collections of an index folder: their shards, manifests and aliases, for the threads of one process."""

import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import qdrant_edge as edge
from qdrant_client import models

from polyvec import forking
from qdrant_polyvec.edge import shard_config, translate
from qdrant_polyvec.edge.folder import Folder, Manifest, changed_aliases
from qdrant_polyvec.edge.shard import EngineError, Shard


@dataclass(slots=True)
class OpenCollection:
    """An open collection, under its own name."""

    name: str
    config: models.CreateCollection
    shard: Shard

    @property
    def params(self) -> translate.VectorParams:
        return shard_config.vector_params(self.config)


class Index:
    """The collections and aliases of a folder. It is locked, as a `Folder` is, until `close` or the end of the process.

    A forked child cannot use it. `create` and `delete` take the name of a collection, other methods an alias, too.
    """

    def __init__(self, path: Path) -> None:
        self.folder = Folder(path)
        self.opened: dict[str, OpenCollection] = {}
        self._aliases: dict[str, str] | None = None  # those of the file; None before it is read
        # Guards the three attributes above and the manifests. A thread takes it after a shard's lock, never before: the
        # shard's lock may be held for as long as a worker optimizes, and other collections must not wait for that.
        self._mutex = threading.RLock()
        self.users: weakref.WeakSet[Use] = weakref.WeakSet()
        self._closed = False
        self._owner = os.getpid()
        self._release = weakref.finalize(self, _release, self.opened, self.folder, self._owner)

    @property
    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Flush and close every shard and unlock the folder. Closing twice does nothing."""
        if os.getpid() == self._owner:
            with self._mutex:
                self._closed = True
        self._release()

    def names(self) -> list[str]:
        self._check_open()
        return self.folder.names()

    def has(self, name: str) -> bool:
        self._check_open()
        return self.folder.has(name) or name in self.aliases()

    def aliases(self) -> Mapping[str, str]:
        """The collection of each alias."""
        self._check_open()
        with self._mutex:
            if self._aliases is None:
                self._aliases = self.folder.aliases()
            return self._aliases

    def change_aliases(self, operations: Sequence[models.AliasOperations]) -> None:
        """Apply all of the operations or, if one of them is invalid, none."""
        with self._mutex:
            changed = changed_aliases(self.aliases(), operations, self.names())
            self.folder.write_aliases(changed)
            self._aliases = changed

    def create(self, name: str, config: models.CreateCollection) -> None:
        native = shard_config.native_config(config)
        with self._mutex:
            if self.has(name):
                kind = "Alias" if name in self.aliases() else "Collection"
                raise ValueError(f"{kind} {name!r} already exists in {str(self.folder.path)!r}.")
            self._check_no_orphan(name)
            self.folder.remove(name)
            shard = Shard(self.folder.shard(name), name)
            shard.create(native)
            if not shard_config.vector_params(config):
                no_vector = edge.UpdateOperation.delete_vector_name(shard_config.PLACEHOLDER)
                shard.update("create_collection", no_vector)
            self.folder.write(name, Manifest(config))
            self.opened[name] = OpenCollection(name, config, shard)

    def _check_no_orphan(self, name: str) -> None:
        """Refuse to create a collection where a shard with points has lost its manifest."""
        if not self.folder.shard(name).is_dir():
            return
        orphan, n_points = Shard(self.folder.shard(name), name), 0
        with contextlib.suppress(EngineError, ValueError):  # a shard that cannot be opened was never complete
            with orphan.use("info") as engine:
                n_points = engine.info().points_count
            orphan.end()
        if n_points:
            raise FileExistsError(
                f"{str(self.folder.shard(name))!r} holds {n_points} points, but its manifest {name}.edge.json is "
                "missing. Restore that file, or move the folder away to start again."
            )

    def delete(self, name: str) -> bool:
        """Delete a collection and its aliases. True if it existed."""
        while True:
            self._check_open()
            collection = self.opened.get(name)
            with collection.shard.lock if collection else contextlib.nullcontext(), self._mutex:
                self._check_open()  # the index may have been closed while this thread waited
                if self.opened.get(name) is not collection:
                    continue  # another thread opened or recreated the collection
                if not self.folder.has(name):
                    return False
                if collection:
                    del self.opened[name]
                    collection.shard.end()
                self.folder.remove(name)
                self._aliases = None
                return True

    def collection(self, name: str) -> OpenCollection:
        """Open a collection unless it is open; a ValueError if it is missing or damaged, a RuntimeError once closed."""
        self._check_open()
        with self._mutex:
            self._check_open()
            if name not in self.opened and not self.folder.has(name):
                name = self.aliases().get(name, name)
            if name not in self.opened:
                manifest = self.folder.read(name)
                shard = Shard(self.folder.shard(name), name)
                if manifest.changing is not None:
                    _complete_change(shard, manifest.config, manifest.changing)
                    self.folder.write(name, Manifest(manifest.config))
                self.opened[name] = OpenCollection(name, manifest.config, shard)
            return self.opened[name]

    def merge_metadata(self, name: str, metadata: Mapping[str, Any]) -> None:
        """Merge `metadata` into the collection's; a key set to None is removed."""
        with self._mutex:
            collection = self.collection(name)
            merged = {**(collection.config.metadata or {}), **metadata}
            merged = {key: value for key, value in merged.items() if value is not None}
            config = collection.config.model_copy(update={"metadata": merged})
            self.folder.write(collection.name, Manifest(config))
            collection.config = config

    def change_vectors(
        self, name: str, vector_name: str, change: Callable[[models.CreateCollection, str], models.CreateCollection]
    ) -> None:
        """Create or delete the vector `vector_name`: `change` maps the settings and this name to the new settings."""
        collection = self.collection(name)
        with collection.shard.lock, self._mutex:
            if self.collection(collection.name) is not collection:
                raise RuntimeError(f"The collection {collection.name!r} was deleted and recreated meanwhile.")
            before = collection.config
            config = change(before, vector_name)
            # The manifest is written first and names the change: after a crash, opening the collection completes it.
            self.folder.write(collection.name, Manifest(config, changing=vector_name))
            try:
                _complete_change(collection.shard, config, vector_name)
            except (ValueError, RuntimeError):
                self.folder.write(collection.name, Manifest(before))
                raise
            self.folder.write(collection.name, Manifest(config))
            collection.config = config

    def optimize(self, name: str, *, in_worker: bool) -> bool:
        """Optimize a shard; see `EdgeBackend.optimize`."""
        if in_worker and sys.platform == "win32":
            raise NotImplementedError("`optimize(in_worker=True)` needs POSIX file locks; leave it out on Windows.")
        shard = self.collection(name).shard
        return shard.optimize(self.folder.lock_descriptor() if in_worker else None)

    def _check_open(self) -> None:
        if os.getpid() != self._owner:
            raise RuntimeError(
                f"The index in {str(self.folder.path)!r} was opened by process {self._owner}; this is its forked "
                "child. Fork before opening it, or run a Qdrant server and open its URL in each process."
            )
        if self._closed or not self._release.alive:
            raise RuntimeError(f"The index in {str(self.folder.path)!r} is closed; open it again.")


class Use:
    """One client's use of the index of a folder, which all clients of a process share."""

    _indexes: ClassVar[weakref.WeakValueDictionary[tuple[int, Path], Index]] = (
        weakref.WeakValueDictionary()
    )  # by process and folder
    _turn = forking.lock()

    def __init__(self, path: Path) -> None:
        self._path, key = path, (os.getpid(), path.resolve())
        with self._turn:
            index = self._indexes.get(key)
            if index is None or index.is_closed:
                index = self._indexes[key] = Index(path)
            self._index: Index | None = index
            index.users.add(self)

    @property
    def index(self) -> Index:
        """The index; a RuntimeError after the end of its use."""
        if self._index is None:
            raise RuntimeError(f"The index in {str(self._path)!r} is closed; open it again.")
        return self._index

    def end(self) -> None:
        """Close the index if nobody else in this process uses it. Ending twice does nothing."""
        with self._turn:
            index, self._index = self._index, None
            if index is None:
                return
            index.users.discard(self)
            if not index.users:
                index.close()


def _complete_change(shard: Shard, config: models.CreateCollection, vector_name: str) -> None:
    """Create or delete a vector, even if the shard did so before."""
    if vector_name in shard_config.vector_params(config):
        shard.update("create_vector_name", shard_config.vector_creation(vector_name, config))
    else:
        shard.update("delete_vector_name", edge.UpdateOperation.delete_vector_name(vector_name))


def _release(opened: Mapping[str, OpenCollection], folder: Folder, owner: int) -> None:
    if os.getpid() != owner:
        for collection in opened.values():
            collection.shard.abandon()
        return
    with contextlib.ExitStack() as callbacks:  # called last in, first out
        callbacks.callback(folder.unlock)
        for collection in opened.values():
            callbacks.callback(collection.shard.end)
