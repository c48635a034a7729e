"""Items to index: what identifies one, and the checks at the door."""

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from polyvec.inputs import check_task
from polyvec.types import Embeddings, ImageInput, Input
from qdrant_polyvec import limits

Identity = str | int  # what a user calls an item
Kind = Literal["text", "image"]

TAKEN = {"page_content", "metadata", "_polyvec"}  # what a collection itself writes into a payload
MAX_DEPTH = 64  # of metadata; the engine stops reading at 128 levels of a payload, and with it every search

_NAMESPACE = uuid.UUID(
    "6f0d6a3c-6a0b-5c5e-9d0a-2d4f2b6c8e11"
)  # never change it: the ids of stored points follow from it


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """Something to add of which more than the content is known.

    Attributes:
        content: a string is text, always; an image is a `Path`, `bytes`, a PIL image or a numpy array.
        id: any string, or an unsigned 64-bit integer; derived from source, unit and task if None.
        source: where it comes from; if None, the metadata's `source`, the path of a file, or a hash of the content.
        unit: which part of its source it is, such as a page; if None, the items of a named source are numbered.
        task: the embedder's task; if None, that of the call.
        metadata: JSON values to keep with it.
        text: what an image says, such as the text layer of a page: it is stored as the item's content, and mode
            `hybrid` finds it by its words.
        embedding: its vectors if they were made elsewhere, as an `Embeddings` of one item with its multi-vector.
        payload: JSON values to keep beside the metadata, at the top level of Qdrant's payload, for other readers of the
            collection; `page_content`, `metadata` and `_polyvec` are taken.
    """

    content: Input
    id: Identity | None = None
    source: str | None = None
    unit: str | None = None
    task: str | None = None
    metadata: Mapping[str, Any] | None = None
    text: str | None = None
    embedding: Embeddings | None = None
    payload: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An item that was not stored, and why. A file that could not be read has no id."""

    id: Identity | None
    source: str
    error: str


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """An item that passed the checks: nothing about it is open any more. `metadata` holds the source, too."""

    content: Input
    id: Identity
    source: str
    unit: str
    task: str
    tenant: str | None
    metadata: dict[str, Any]
    text: str | None
    embedding: Embeddings | None
    payload: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        return "text" if isinstance(self.content, str) else "image"

    @property
    def words(self) -> str | None:
        """The text that it is or that it says."""
        return self.content if isinstance(self.content, str) else self.text

    def failure(self, error: str) -> Failure:
        return Failure(self.id, self.source, error)


def listed_items(
    inputs: Sequence[Input | Item | Failure],
    *,
    ids: Sequence[Identity] | None,
    sources: Sequence[str] | None,
    units: Sequence[str] | None,
    metadatas: Sequence[Mapping[str, Any] | None] | None,
    texts: Sequence[str | None] | None,
    embeddings: Embeddings | None,
) -> list[Item]:
    """The inputs, each with what the lists beside them say about it.

    Raises:
        ValueError: lists of different lengths, or something said twice.
    """
    columns: dict[str, Any] = {
        "ids": ids, "sources": sources, "units": units, "metadatas": metadatas, "texts": texts,
        "embeddings": embeddings,
    }  # fmt: skip
    for name, values in columns.items():
        if values is not None and (isinstance(values, str) or getattr(values, "__len__", int)() != len(inputs)):
            raise ValueError(f"`{name}` must be a list with one entry for each of the {len(inputs)} inputs.")
    fields = {"ids": "id", "sources": "source", "units": "unit", "metadatas": "metadata", "texts": "text"}
    fields["embeddings"] = "embedding"
    items = []
    for index, given in enumerate(inputs):
        if isinstance(given, Failure):
            raise TypeError(f"item {index} is a Failure; only an iterator may hand those on.")
        item = given if isinstance(given, Item) else Item(given)
        said = {fields[name]: values[index] for name, values in columns.items() if values is not None}
        if twice := [field for field in said if getattr(item, field) is not None]:
            raise ValueError(f"item {index}: its {twice[0]} is given by the item and by the list beside it.")
        items.append(replace(item, **said))
    return items


class Checks:
    """The checks of one call; items of a named source without a unit are numbered across the call."""

    def __init__(self, *, task: str, tasks: tuple[str, ...], tenant: str | None) -> None:
        check_task(task, tasks)
        self._task, self._tasks, self._tenant = task, tasks, tenant
        self._n_by_source: Counter[str] = Counter()
        self._n_seen = 0

    def all(self, items: Iterable[Item]) -> list[Entry]:
        """The entries of a list; if one item is bad, none is used. No file is opened yet.

        Raises:
            TypeError: an item is neither text nor image.
            ValueError: a bad id, metadata, task or embedding; the message says of which item.
        """
        return [self._numbered(item) for item in items]

    def each(self, items: Iterable[Input | Item | Failure]) -> Iterator[Entry | Failure]:
        """The entries of a stream, as they come; a bad item is a failure, and failures are handed through."""
        for given in items:
            if isinstance(given, Failure):
                self._number(given.source or None)
                yield given
                continue
            item = given if isinstance(given, Item) else Item(given)
            try:
                yield self._numbered(item)
            except (TypeError, ValueError) as error:
                yield Failure(item.id, _named_source(item) or "", str(error))

    def _numbered(self, item: Item) -> Entry:
        index, self._n_seen = self._n_seen, self._n_seen + 1
        number = self._number(_named_source(item))  # also of a bad item, so that the others keep their ids
        if not isinstance(item.content, (str, *get_args(ImageInput))):
            raise TypeError(
                f"item {index} is a {type(item.content).__name__}; an item is a str (text), or a Path, bytes, PIL "
                "image or numpy array (image)."
            )
        try:
            return self._entry(item, number)
        except (TypeError, ValueError) as error:
            raise ValueError(f"item {index}: {error}") from error

    def _entry(self, item: Item, number: str) -> Entry:
        task = self._task if item.task is None else item.task
        check_task(task, self._tasks)
        metadata = json_metadata(item.metadata)
        source = self._source(item, metadata)
        if metadata.setdefault("source", source) != source:
            raise ValueError(f"its source is {source!r}, but its metadata says {metadata['source']!r}.")
        unit = number if item.unit is None else item.unit
        _check_text("source", source)
        _check_text("unit", unit)
        if item.text is not None:
            _check_text("text", item.text)
            if isinstance(item.content, str):
                raise ValueError("`text` says what an image shows; this item is a text itself.")
        if item.embedding is not None and len(item.embedding) != 1:
            raise ValueError(f"its `embedding` holds {len(item.embedding)} items; it must hold one.")
        identity = derived_id(source, unit, task, self._tenant) if item.id is None else item.id
        point_id(identity, self._tenant)
        embedding = None if item.embedding is None else _arrays(item.embedding)
        payload = json_metadata(item.payload)
        if taken := sorted(payload.keys() & TAKEN):
            raise ValueError(f"its `payload` has {taken[0]!r}, which the collection itself writes.")
        text = item.text or None
        return Entry(item.content, identity, source, unit, task, self._tenant, metadata, text, embedding, payload)

    @staticmethod
    def _source(item: Item, metadata: Mapping[str, Any]) -> str:
        named = metadata.get("source") if item.source is None else item.source
        if named is None:  # a file, or a content that is its own name, is whole
            return _name(item.content)
        if not isinstance(named, str):
            raise TypeError(f"its source is {named!r}; a source is a string.")
        return named

    def _number(self, source: str | None) -> str:
        """Which item of a named source this is; nothing if it is named by itself."""
        if source is None:
            return ""
        number, self._n_by_source[source] = self._n_by_source[source], self._n_by_source[source] + 1
        return str(number)


def _named_source(item: Item) -> str | None:
    """The source that an item, perhaps a bad one, is said to come from."""
    metadata = item.metadata if isinstance(item.metadata, Mapping) else {}
    named = metadata.get("source") if item.source is None else item.source
    return named if isinstance(named, str) else None


def _arrays(embedding: Embeddings) -> Embeddings:
    """The embedding in float32.

    Raises:
        ValueError: it is not made of numbers.
    """
    try:
        rows = embedding.multivector
        late = None if rows is None else tuple(np.asarray(one, np.float32) for one in rows)
        return Embeddings(np.asarray(embedding.dense, np.float32), late, tuple(embedding.grids) or (None,))
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"its embedding is not made of numbers: {error}") from error


def _name(content: Input) -> str:
    if isinstance(content, Path):
        return content.as_posix()
    try:
        return f"sha256:{content_hash(content)[:32]}"
    except OSError:  # an image that was opened but not read; what is wrong with it is told when it is encoded
        return "unreadable image"


def derived_id(source: str, unit: str, task: str, tenant: str | None = None) -> str:
    """The same for the same part of the same source, so that indexing again replaces instead of duplicating."""
    of_tenant = "" if tenant is None else f"{tenant}\0"
    return str(uuid.uuid5(_NAMESPACE, f"{of_tenant}{source}\0{unit}\0{task}"))


def point_id(identity: Identity, tenant: str | None = None) -> int | str:
    """The id that Qdrant gets: UUIDs and unsigned integers as they are, any other string as a UUID made of it.

    What a tenant calls its items is its own affair: there, every id becomes a UUID made of both.

    Raises:
        ValueError: it is neither a string nor an unsigned 64-bit integer.
    """
    if isinstance(identity, str):
        if tenant is not None:
            return str(uuid.uuid5(_NAMESPACE, f"{tenant}\0{identity}"))
        try:
            return str(uuid.UUID(identity))
        except ValueError:
            return str(uuid.uuid5(_NAMESPACE, identity))
    if not isinstance(identity, int) or isinstance(identity, bool) or not 0 <= identity < 2**64:
        raise ValueError(f"{identity!r} is not an id: use a string or an unsigned 64-bit integer.")
    return identity if tenant is None else str(uuid.uuid5(_NAMESPACE, f"{tenant}\0\0{identity}"))


def digest(entry: Entry) -> str:
    """What changes when an item has to be stored anew: SHA-256 of content, text and ready-made vectors.

    Raises:
        OSError: a file cannot be read.
    """
    if entry.text is None and entry.embedding is None:
        return content_hash(entry.content)
    # The vectors of a file may have been made elsewhere: they stand for what is in it.
    parts = [entry.source if entry.embedding is not None and isinstance(entry.content, Path) else entry.content]
    whole = hashlib.sha256(content_hash(parts[0]).encode())
    whole.update((entry.text or "").encode("utf-8", "surrogatepass"))
    if entry.embedding is not None:
        for array in (entry.embedding.dense, *(entry.embedding.multivector or ())):
            whole.update(f"{array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()


def content_hash(content: Input) -> str:
    """SHA-256 of a text, of an image file's bytes, or of an image's pixels with their mode or dtype and size.

    Raises:
        OSError: a file cannot be read.
    """
    match content:
        case str():
            data = content.encode("utf-8", "surrogatepass")
        case Path():
            if content.exists() and not content.is_file():  # to read a pipe may take forever
                raise OSError(f"{str(content)!r} is no regular file")
            data = content.read_bytes()
        case bytes():
            data = content
        case Image.Image():
            data = f"{content.mode} {content.size} ".encode() + content.tobytes() + bytes(content.getpalette() or ())
        case np.ndarray():
            data = f"{content.dtype} {content.shape} ".encode() + content.tobytes()
    return hashlib.sha256(data).hexdigest()


def json_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of the metadata as it comes back from storage.

    Raises:
        TypeError: it is not a mapping.
        ValueError: it is not JSON.
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata is a mapping, not a {type(metadata).__name__}.")
    try:
        copy = dict(json.loads(json.dumps(dict(metadata), allow_nan=False)))
        json.dumps(copy, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
        raise ValueError(f"metadata must be JSON values: {error}.") from error
    if limits.depth(copy) > MAX_DEPTH:
        raise ValueError(f"metadata is nested deeper than {MAX_DEPTH}; Qdrant could not read it again.")
    return copy


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"its `{name}` is {value!r}; it must be a string.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"its `{name}` is no Unicode text: {error.reason} at character {error.start}.") from error
