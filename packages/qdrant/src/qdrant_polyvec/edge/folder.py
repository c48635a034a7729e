"""An index folder: who may use it, and which collections it holds.

Per collection there is a shard `NAME.edge/`, written by the engine, and a manifest `NAME.edge.json` beside it, which
says what the engine does not keep: the collection's settings and metadata. What has no manifest does not exist.
Other names of collections are in `aliases.json`.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import portalocker
from qdrant_client import models

_FORMAT = 1
_MANIFEST = ".edge.json"
_FORBIDDEN = '<>:"/\\|?*\0\x1f'  # in collection names, as in the server


class FolderLockedError(RuntimeError):
    """Another client, in this process or another, has the index folder open."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the engine does not keep of a collection."""

    config: models.CreateCollection
    changing: str | None = None
    """The name of a vector that is being created, if `config` has it, or else deleted. The shard may lag behind."""


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

    def lock_descriptor(self) -> int:
        """A process that inherits it holds the lock, too: the folder is free when both have ended."""
        return self._lock.fileno()

    def names(self) -> list[str]:
        return sorted(path.name.removesuffix(_MANIFEST) for path in self.path.glob(f"*{_MANIFEST}"))

    def has(self, name: str) -> bool:
        return self._manifest(name).is_file()

    def shard(self, name: str) -> Path:
        return self.path / f"{name}.edge"

    def read(self, name: str) -> Manifest:
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
        return Manifest(config, manifest.get("changing"))

    def write(self, name: str, manifest: Manifest) -> None:
        content = {"format": _FORMAT, "collection": manifest.config.model_dump(mode="json", exclude_none=True)}
        if manifest.changing is not None:
            content["changing"] = manifest.changing
        _replace(self._manifest(name), content)

    def remove(self, name: str) -> None:
        """Forget a collection and its aliases, then delete its data.

        Also clears what an interrupted creation or removal left.
        """
        removed = self.path / f"{name}.removed"
        if removed.exists():
            shutil.rmtree(removed)
        if self.shard(name).exists():
            self.shard(name).rename(removed)
        self._manifest(name).unlink(missing_ok=True)
        if self._aliases_file.exists():
            self.write_aliases(self.aliases())  # those of missing collections are gone now
        if removed.exists():
            shutil.rmtree(removed)

    def aliases(self) -> dict[str, str]:
        """The collection that each alias stands for; collections that are gone have none.

        Raises:
            ValueError: the file of aliases is damaged.
        """
        if not self._aliases_file.exists():
            return {}
        try:
            aliases = json.loads(self._aliases_file.read_text("utf-8"))["aliases"]
            return {alias: name for alias, name in aliases.items() if self.has(name)}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{str(self._aliases_file)!r} is not a file of aliases: {error}") from error

    def write_aliases(self, aliases: Mapping[str, str]) -> None:
        _replace(self._aliases_file, {"format": _FORMAT, "aliases": dict(aliases)})

    @property
    def _aliases_file(self) -> Path:
        return self.path / "aliases.json"

    def _manifest(self, name: str) -> Path:
        check_name(name)
        return self.path / f"{name}{_MANIFEST}"


def check_name(name: str) -> None:
    """Raise `ValueError` if a collection or an alias cannot have this name."""
    if not name.strip(".") or set(name) & set(_FORBIDDEN) or len(name.encode()) > 200:
        raise ValueError(
            f"{name!r} cannot name a collection: use 1 to 200 bytes, none of {_FORBIDDEN!r}, and not only dots."
        )


def _replace(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a file as a whole: after a crash there is the old one or the new one."""
    written = path.with_suffix(".tmp")
    with written.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)
