"""An index folder: who may use it, and which collections it holds.

Per collection there is a shard `NAME.edge/`, written by the engine, and a manifest `NAME.edge.json` beside it, which
says what the engine does not keep: the collection's settings and metadata. What has no manifest does not exist.
"""

import json
import os
import shutil
from pathlib import Path

import portalocker
from qdrant_client import models

_FORMAT = 1
_MANIFEST = ".edge.json"
_FORBIDDEN = '<>:"/\\|?*\0\x1f'  # in collection names, as in the server


class FolderLockedError(RuntimeError):
    """Another client, in this process or another, has the index folder open."""


class Folder:
    """The folder, locked for this client alone until `unlock` or the end of the process.

    The lock comes before anything is read: a second opener damages a live shard even though the engine refuses it.

    Raises:
        FolderLockedError: the folder is open elsewhere.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._lock = (path / ".lock").open("a")
        try:
            portalocker.lock(self._lock, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
        except portalocker.exceptions.LockException as error:
            self._lock.close()
            raise FolderLockedError(
                f"The index in {str(path)!r} is open in another client. Close that one first, or share it: open the "
                "folder once with `open_client` and give that client to each collection. For several processes, run "
                "a Qdrant server and open its URL."
            ) from error

    def unlock(self) -> None:
        portalocker.unlock(self._lock)
        self._lock.close()

    def names(self) -> list[str]:
        return sorted(path.name.removesuffix(_MANIFEST) for path in self.path.glob(f"*{_MANIFEST}"))

    def has(self, name: str) -> bool:
        return self._manifest(name).is_file()

    def shard(self, name: str) -> Path:
        return self.path / f"{name}.edge"

    def read(self, name: str) -> models.CreateCollection:
        """The settings and metadata of a collection.

        Raises:
            ValueError: there is no such collection, or its manifest or shard is damaged.
        """
        if not self.has(name):
            there = ", ".join(map(repr, self.names())) or "none"
            raise ValueError(f"Collection {name!r} not found in {str(self.path)!r}; there is {there}.")
        if not self.shard(name).is_dir():
            raise ValueError(f"Collection {name!r} has lost its data: {str(self.shard(name))!r} is missing.")
        try:
            manifest = json.loads(self._manifest(name).read_text("utf-8"))
            config = models.CreateCollection(**manifest["collection"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{str(self._manifest(name))!r} is not the manifest of a collection: {error}") from error
        if manifest.get("format") != _FORMAT:
            raise ValueError(
                f"{str(self._manifest(name))!r} has format {manifest.get('format')!r}; this version reads {_FORMAT}."
            )
        return config

    def write(self, name: str, config: models.CreateCollection) -> None:
        """Replace the manifest as a whole: after a crash there is the old one or the new one."""
        manifest = {"format": _FORMAT, "collection": config.model_dump(mode="json", exclude_none=True)}
        written = self._manifest(name).with_suffix(".tmp")
        with written.open("w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        written.replace(self._manifest(name))

    def remove(self, name: str) -> None:
        """Forget a collection, then delete its data. Also clears what an interrupted creation or removal left."""
        self._manifest(name).unlink(missing_ok=True)
        if self.shard(name).exists():
            shutil.rmtree(self.shard(name))

    def _manifest(self, name: str) -> Path:
        if not name.strip(".") or set(name) & set(_FORBIDDEN) or len(name.encode()) > 200:
            raise ValueError(
                f"{name!r} cannot name a collection: use 1 to 200 bytes, none of {_FORBIDDEN!r}, and not only dots."
            )
        return self.path / f"{name}{_MANIFEST}"
