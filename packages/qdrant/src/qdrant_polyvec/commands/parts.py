"""The parts of files in an index: which ones the command line made, and which ones it removes."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from qdrant_client import QdrantClient, models

from polyvec.alarms import pass_alarm
from polyvec.paths import absolute
from polyvec.pictures import page_of
from qdrant_polyvec import points
from qdrant_polyvec.items import Identity
from qdrant_polyvec.points import Own
from qdrant_polyvec.schema import OWN

_PAGE = 256  # points per request
_FIELDS = ["metadata", *(f"{OWN}.{name}" for name in ("file", "unit", "task", "tenant", "content_hash", "id"))]
_PICTURE = f"{OWN}.picture.uri"  # may be the whole image


@dataclass(frozen=True, slots=True)
class Part:
    """A stored item of a file.

    Attributes:
        id: of the item.
        source: as it is stored.
        path: the file; None if no file is known.
        root: the file or folder that the command line was given, and in which it found the file; None if others made
            the item.
        digest: of the content that the file had.
        is_edited: others have replaced that content since.
        is_new: a run of the command line wrote it and has not ended, or was interrupted.
    """

    id: Identity
    source: str
    path: Path | None
    unit: str
    task: str
    tenant: str | None
    root: Path | None
    digest: str
    is_edited: bool
    is_new: bool


def read(client: QdrantClient, collection: str, *, with_pictures: bool = False) -> Iterator[Part]:
    """Read all items of files that the command line made and, `with_pictures`, those that others made of their path."""
    offset, fields = None, [*_FIELDS, *([_PICTURE] if with_pictures else [])]
    while True:
        page, offset = client.scroll(collection, limit=_PAGE, offset=offset, with_payload=fields)
        yield from (part for part in map(_part, page) if part.path is not None)
        if offset is None:
            return


def of_gone_files(parts: Iterable[Part]) -> dict[str, list[Identity]]:
    """List the items of files that are gone, by their files."""
    ids_by_file: dict[str, list[Identity]] = {}
    is_gone: dict[Path, bool] = {}
    for part in parts:
        assert part.path is not None
        if part.path not in is_gone:
            is_gone[part.path] = is_absent(part.path)
        if is_gone[part.path]:
            ids_by_file.setdefault(part.path.as_posix(), []).append(part.id)
    return dict(sorted(ids_by_file.items()))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call of `polyvec index` has found. It decides which parts go.

    Attributes:
        tasks: of the call; parts for other tasks stay as long as their file has any parts.
        ids: of the parts that the files have.
        files: those that were read as a whole.
        without_text: those of them that have no parts at all.
        failed: files and folders that could not be read; what is below them stays.
        folders: those that the call was given, and that have files.
        empty: those that have none, as if their disks were not mounted; what is below them stays.
        left_out: files and folders in them that are not indexed.
    """

    tasks: Collection[str]
    ids: Mapping[Identity, object]
    files: Collection[Path]
    without_text: Collection[Path]
    failed: Collection[Path]
    folders: Collection[Path]
    empty: Collection[Path]
    left_out: Collection[Path]

    def is_outdated(self, part: Part) -> bool:
        """True for a part that its file no longer has, and for a part of a file that the folder no longer has."""
        if part.tenant is not None or part.id in self.ids or part.path is None:
            return False
        if part.path in self.files:
            return part.root is not None and (part.task in self.tasks or part.path in self.without_text)
        return part.root is not None and self._is_missing(part, part.path, part.root)

    def is_of_empty_folder(self, part: Part) -> bool:
        return part.root is not None and part.path is not None and any(map(part.path.is_relative_to, self.empty))

    def _is_missing(self, part: Part, path: Path, root: Path) -> bool:
        """True if a file was once found in a folder, and is gone or left out now.

        A file that is left out stays if it, or a folder that is left out with it, was named itself.
        """
        ways = (path, *path.parents)
        kept = {*self.failed, *self.empty}
        if not any(folder in ways for folder in self.folders) or any(way in kept for way in ways):
            return False
        if is_absent(path):
            return True
        left_out = next((way for way in ways if way in self.left_out), None)
        return part.task in self.tasks and (left_out is None or not root.is_relative_to(left_out))


def _part(record: models.Record) -> Part:
    own, source, identity = Own.of(record.payload), points.source(record.payload), points.identity(record)
    root = None if own.file is None else own.file.get("root")
    digest = own.content_hash if own.file is None else own.file.get("digest", "")
    uri = str((own.picture or {}).get("uri") or "")
    is_of_file = root is not None or (source != "" and page_of(uri)[0] == source)
    return Part(
        id=identity,
        source=source,
        path=_path(source) if is_of_file else None,
        unit=own.unit,
        task=own.task,
        tenant=own.tenant,
        root=None if root is None else Path(root),
        digest=digest,
        is_edited=digest != own.content_hash,
        is_new=points.is_marked_new(own.file),
    )


def _path(source: str) -> Path | None:
    try:
        return absolute(source)
    except ValueError:  # a URL
        return None


def is_absent(path: Path) -> bool:
    """True if there is no such file. A folder that cannot be entered hides its files, which may be there."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError) as error:
        pass_alarm(error)
    return False
