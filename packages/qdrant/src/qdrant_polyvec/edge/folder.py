"""An index folder: its lock, and the collections and aliases in it.

A collection has a shard `NAME.edge/`, written by the engine, and beside it a manifest `NAME.edge.json` with the
settings and metadata, which the engine does not keep. Without a manifest, the collection does not exist. Aliases of
collections are in `aliases.json`.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import portalocker
from qdrant_client import models

_FORMAT = 1
_MANIFEST = ".edge.json"
_FORBIDDEN = '<>:"/\\|?*\0\x1f'  # in collection names, as in the server


class FolderLockedError(RuntimeError):
    """Another process has the index folder open."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The part of a collection that the engine does not keep."""

    config: models.CreateCollection
    changing: str | None = None
    """The vector that is being created, if `config` has it, or else deleted. The shard may not have changed yet."""


class Folder:
    """A folder, locked for this object alone until `unlock` or the end of the process, or else a FolderLockedError.

    It is locked before any file is read: a second opener damages a live shard even though the engine refuses it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._lock = (path / ".lock").open("a")
        try:
            portalocker.lock(self._lock, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
        except portalocker.exceptions.LockException as error:
            self._lock.close()
            raise FolderLockedError(_locked(path)) from error

    def unlock(self) -> None:
        portalocker.unlock(self._lock)
        self._lock.close()

    def lock_descriptor(self) -> int:
        """The descriptor of the lock. A process that inherits it holds the lock, too, until both processes end."""
        return self._lock.fileno()

    def names(self) -> list[str]:
        return sorted(path.name.removesuffix(_MANIFEST) for path in self.path.glob(f"*{_MANIFEST}"))

    def has(self, name: str) -> bool:
        return self._manifest(name).is_file()

    def shard(self, name: str) -> Path:
        return self.path / f"{name}.edge"

    def read(self, name: str) -> Manifest:
        """Read the settings and metadata of a collection; a ValueError if it is missing or damaged."""
        if not self.has(name):
            names = ", ".join(map(repr, self.names())) or "none"
            raise ValueError(f"Collection {name!r} not found in {str(self.path)!r}; there is {names}.")
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
        """Delete a collection's manifest and aliases, then its data and the remains of interrupted calls."""
        removed = self.path / f"{name}.removed"
        if removed.exists():
            shutil.rmtree(removed)
        if self.shard(name).exists():
            self.shard(name).rename(removed)
        self._manifest(name).unlink(missing_ok=True)
        if self._aliases_file.exists():
            self.write_aliases(self.aliases())  # without aliases of missing collections
        if removed.exists():
            shutil.rmtree(removed)

    def aliases(self) -> dict[str, str]:
        """The collection of each alias, without aliases of missing collections; a ValueError if the file is damaged."""
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


def _locked(path: Path) -> str:
    return (
        f"The index in {str(path)!r} is open in another process. Close it there first. Processes cannot share a "
        "folder, not even to read it, because the engine writes when it opens one: run a Qdrant server and open its "
        "URL in each of them."
    )


def check_name(name: str) -> None:
    """Raise `ValueError` if a collection or an alias cannot have this name."""
    if not name.strip(".") or set(name) & set(_FORBIDDEN) or len(name.encode()) > 200:
        raise ValueError(
            f"{name!r} cannot name a collection: use 1 to 200 bytes, none of {_FORBIDDEN!r}, and not only dots."
        )


def _replace(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a file as a whole: after a crash, either the old or the new content is there."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def changed_aliases(
    aliases: Mapping[str, str], operations: Sequence[models.AliasOperations], collections: Sequence[str]
) -> dict[str, str]:
    """The collection of each alias after all of the operations, in their order; a ValueError if one is invalid.

    Creating an alias that exists points it to another collection; deleting a missing alias changes nothing.
    """
    result = dict(aliases)
    for operation in operations:
        match operation:
            case models.CreateAliasOperation():
                name, alias = operation.create_alias.collection_name, operation.create_alias.alias_name
                if name not in collections:
                    names = ", ".join(map(repr, collections)) or "none"
                    raise ValueError(f"Collection {name!r} not found for the alias {alias!r}; there is {names}.")
                _check_alias(alias, collections)
                result[alias] = name
            case models.RenameAliasOperation():
                old, new = operation.rename_alias.old_alias_name, operation.rename_alias.new_alias_name
                if old not in result:
                    raise ValueError(f"Alias {old!r} not found; there is {', '.join(map(repr, result)) or 'none'}.")
                _check_alias(new, collections)
                result[new] = result.pop(old)
            case models.DeleteAliasOperation():
                result.pop(operation.delete_alias.alias_name, None)
            case _:
                raise TypeError(f"{type(operation).__name__} neither creates, renames nor deletes an alias.")
    return result


def client_aliases(aliases: Mapping[str, str]) -> models.CollectionsAliasesResponse:
    """Convert aliases to qdrant-client's form."""
    descriptions = [
        models.AliasDescription(alias_name=alias, collection_name=name) for alias, name in sorted(aliases.items())
    ]
    return models.CollectionsAliasesResponse(aliases=descriptions)


def _check_alias(alias: str, collections: Sequence[str]) -> None:
    check_name(alias)
    if alias in collections:
        raise ValueError(f"{alias!r} already exists: it is a collection, so it cannot be an alias.")
