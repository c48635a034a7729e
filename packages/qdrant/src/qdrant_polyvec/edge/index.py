"""The collections of an index folder: their shards, manifests and aliases, for the threads of one process."""

import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qdrant_edge as edge
from qdrant_client import models

from qdrant_polyvec.edge import aliases, shard_config, translate
from qdrant_polyvec.edge.folder import Folder, Manifest
from qdrant_polyvec.edge.shard import EngineError, Shard


@dataclass(slots=True)
class Collection:
    """An open collection, under its own name."""

    name: str
    config: models.CreateCollection
    shard: Shard

    @property
    def params(self) -> translate.VectorParams:
        return shard_config.vector_params(self.config)


class Index:
    """What is in a folder, which is locked until `close` or the end of the process. A forked child cannot use it.

    Collections are given by name or, but for `create` and `delete`, by alias.

    Raises:
        FolderLockedError: the folder is open elsewhere.
    """

    def __init__(self, path: Path) -> None:
        self.folder = Folder(path)
        self.opened: dict[str, Collection] = {}
        self._aliases: dict[str, str] | None = None  # of the file, once it was read
        # Guards the three above and the manifests. Taken after a shard's lock, never before: that one may be held
        # for as long as a worker optimizes, and other collections must not wait for it.
        self._mutex = threading.RLock()
        self._closed = False
        self._owner = os.getpid()
        self._release = weakref.finalize(self, _release, self.opened, self.folder, self._owner)

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
        """The collection that each alias stands for."""
        self._check_open()
        with self._mutex:
            if self._aliases is None:
                self._aliases = self.folder.aliases()
            return self._aliases

    def change_aliases(self, operations: Sequence[models.AliasOperations]) -> None:
        """All of the operations or, if one is refused, none of them."""
        with self._mutex:
            changed = aliases.changed(self.aliases(), operations, self.names())
            self.folder.write_aliases(changed)
            self._aliases = changed

    def create(self, name: str, config: models.CreateCollection) -> None:
        native = shard_config.shard_config(config)
        with self._mutex:
            if self.has(name):
                kind = "Alias" if name in self.aliases() else "Collection"
                raise ValueError(f"{kind} {name!r} already exists in {str(self.folder.path)!r}.")
            self._check_nothing_is_lost(name)
            self.folder.remove(name)
            shard = Shard(self.folder.shard(name), name)
            shard.create(native)
            self.folder.write(name, Manifest(config))
            self.opened[name] = Collection(name, config, shard)

    def _check_nothing_is_lost(self, name: str) -> None:
        """Refuse to create a collection where a shard with points has lost its manifest."""
        if not self.folder.shard(name).is_dir():
            return
        left, n_points = Shard(self.folder.shard(name), name), 0
        with contextlib.suppress(EngineError, ValueError):  # what cannot be opened was not ready when it was left
            with left.use("info") as engine:
                n_points = engine.info().points_count
            left.end()
        if n_points:
            raise FileExistsError(
                f"{str(self.folder.shard(name))!r} holds {n_points} points, but its manifest {name}.edge.json is "
                "missing. Restore that file, or move the folder away to begin anew."
            )

    def delete(self, name: str) -> bool:
        """Delete a collection and its aliases; whether there was one."""
        while True:
            self._check_open()
            opened = self.opened.get(name)
            with opened.shard.lock if opened else contextlib.nullcontext(), self._mutex:
                self._check_open()  # it may have been closed while this waited
                if self.opened.get(name) is not opened:
                    continue  # it was opened, or made anew, in between
                if not self.folder.has(name):
                    return False
                if opened:
                    del self.opened[name]
                    opened.shard.end()
                self.folder.remove(name)
                self._aliases = None
                return True

    def collection(self, name: str) -> Collection:
        """An open collection.

        Raises:
            ValueError: there is none of this name or alias, or it is damaged.
            RuntimeError: the index is closed, or this is a forked child.
        """
        self._check_open()
        with self._mutex:
            self._check_open()
            if name not in self.opened and not self.folder.has(name):
                name = self.aliases().get(name, name)
            if name not in self.opened:
                manifest = self.folder.read(name)
                shard = Shard(self.folder.shard(name), name)
                if manifest.changing is not None:
                    _end_change(shard, manifest.config, manifest.changing)
                    self.folder.write(name, Manifest(manifest.config))
                self.opened[name] = Collection(name, manifest.config, shard)
            return self.opened[name]

    def merge_metadata(self, name: str, metadata: Mapping[str, Any]) -> None:
        """Merge into the collection's metadata; a key set to None is removed."""
        with self._mutex:
            collection = self.collection(name)
            merged = {**(collection.config.metadata or {}), **metadata}
            kept = {key: value for key, value in merged.items() if value is not None}
            config = collection.config.model_copy(update={"metadata": kept})
            self.folder.write(collection.name, Manifest(config))
            collection.config = config

    def change_vectors(
        self, name: str, vector_name: str, change: Callable[[models.CreateCollection], models.CreateCollection]
    ) -> None:
        """Create or delete the vector `vector_name`: what `change` makes of the collection's settings."""
        collection = self.collection(name)
        with collection.shard.lock, self._mutex:
            if self.collection(collection.name) is not collection:
                raise RuntimeError(f"The collection {collection.name!r} was deleted and made anew meanwhile.")
            before = collection.config
            config = change(before)
            # The manifest comes first and says what is under way: whoever opens the folder after a crash ends it.
            self.folder.write(collection.name, Manifest(config, changing=vector_name))
            try:
                _end_change(collection.shard, config, vector_name)
            except (ValueError, RuntimeError):
                self.folder.write(collection.name, Manifest(before))
                raise
            self.folder.write(collection.name, Manifest(config))
            collection.config = config

    def optimize(self, name: str, *, in_worker: bool) -> bool:
        """As `EdgeBackend.optimize`."""
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


def _end_change(shard: Shard, config: models.CreateCollection, vector_name: str) -> None:
    """Create or delete a vector, whether or not the shard has done so before."""
    if vector_name in shard_config.vector_params(config):
        shard.update("create_vector_name", shard_config.creation(vector_name, config))
    else:
        shard.update("delete_vector_name", edge.UpdateOperation.delete_vector_name(vector_name))


def _release(opened: Mapping[str, Collection], folder: Folder, owner: int) -> None:
    if os.getpid() != owner:
        for collection in opened.values():
            collection.shard.abandon()
        return
    with contextlib.ExitStack() as last_in_first_out:
        last_in_first_out.callback(folder.unlock)
        for collection in opened.values():
            last_in_first_out.callback(collection.shard.end)
