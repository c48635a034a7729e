"""Check items at the door: each becomes an `Entry`, or a failure that stops nobody else."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image

import polyvec
from polyvec import Embeddings, ImageInput, ImageText, Input
from polyvec.alarms import pass_alarm
from polyvec.chunking import Span, checked_spans
from polyvec.inputs import check_task, check_text
from polyvec.paths import absolute, check_name, printable
from polyvec.pictures import Picture
from qdrant_polyvec.items import Failure, Identity, Item, Kind, content_hash, derived_id, point_id
from qdrant_polyvec.metadata import json_mapping
from qdrant_polyvec.pictures import page_picture
from qdrant_polyvec.schema import RESERVED

__all__ = ["TEXT", "with_context"]

TEXT = "\N{OBJECT REPLACEMENT CHARACTER}"  # the place of the text in a context that does not end above it

_NO_LISTS = (str, bytes, Item, Set, Mapping, np.ndarray, Image.Image)  # iterable, but no items in an order
_FIELDS = {"ids": "id", "metadatas": "metadata", "embeddings": "embedding"}  # of `Item`, by the lists beside inputs


@dataclass(frozen=True, eq=False)  # no slots: two properties are cached
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
    picture: Picture | None = None
    content_hash: str | None = None
    context: str | None = None
    names_context: bool = False  # also if it says that there is none
    span: Span | None = None
    root: str | None = None
    file: Mapping[str, str] | None = None  # the mark of the stored item that it replaces, see `points.Own.file`
    index: int = -1  # position in the call, from 0; -1 if there is none
    stored_as: int | str | None = None  # the id of its point, if the item is stored already

    @property
    def kind(self) -> Kind:
        return "text" if isinstance(self.content, str) else "image"

    @property
    def words(self) -> str | None:
        """The text that the item is or, if it is an image, says."""
        if not isinstance(self.content, str):
            return self.text
        return self.content if self.span is None else self.content[slice(*self.span)]

    @property
    def encoded(self) -> Input:
        """What is encoded if the item is encoded by itself."""
        return with_context(self.content, self.context) if isinstance(self.content, str) else self.content

    @cached_property
    def point_id(self) -> int | str:
        return point_id(self.id, self.tenant) if self.stored_as is None else self.stored_as

    @cached_property
    def hashed(self) -> str:
        """SHA-256 of the content. May raise an OSError."""
        if self.embedding is not None and isinstance(self.content, Path):
            return content_hash(self.source)  # the vectors stand for the file, which may be elsewhere
        return self.content_hash or _hash(self.content)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that is encoded or searched, and of ready-made vectors. May raise an OSError.

        Items whose digest has changed are stored again.
        """
        place = "" if self.context is None and self.span is None else f"\0{self.context}\0{self.span}"
        if self.text is None and self.embedding is None and not place:
            return self.hashed
        whole = hashlib.sha256(self.hashed.encode())
        whole.update(f"{self.text or ''}{place}".encode("utf-8", "surrogatepass"))
        if self.embedding is not None:
            for array in (self.embedding.dense, *(self.embedding.multivector or ())):
                whole.update(f"{array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())
        return whole.hexdigest()

    def failure(self, reason: str) -> Failure:
        return Failure(self.index, self.source, reason, self.id)


class Checks:
    """The checks of one call; items of a named source without a unit are numbered across the call."""

    def __init__(self, *, task: str, tasks: tuple[str, ...], tenant: str | None) -> None:
        check_task(task, tasks)
        self._task, self._tasks, self._tenant = task, tasks, tenant
        self._n_by_source: Counter[str] = Counter()
        self._n_seen = 0

    def entries(
        self,
        inputs: Iterable[Input | Item | polyvec.Failure],
        *,
        ids: Sequence[Identity] | None = None,
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        embeddings: Embeddings | None = None,
    ) -> Iterable[Entry | Failure]:
        """Check all items of a list at once, or those of an iterator as they come; errors as in `Collection.add`."""
        if isinstance(inputs, _NO_LISTS) or not isinstance(inputs, Iterable):
            raise TypeError(f"`inputs` is a list or iterator of items, not a {type(inputs).__name__}: write [item].")
        lists: dict[str, Any] = {"ids": ids, "metadatas": metadatas, "embeddings": embeddings}  # Any: of several types
        columns = {name: values for name, values in lists.items() if values is not None}
        if isinstance(inputs, Sequence):
            return [self._entry(item) for item in _items(inputs, columns)]
        for name in columns:
            raise TypeError(f"`{name}` goes with a list; let the iterator give `Item`s, which hold it.")
        return self._each(inputs)

    def _each(self, inputs: Iterable[Input | Item | polyvec.Failure]) -> Iterator[Entry | Failure]:
        for value in inputs:
            if isinstance(value, polyvec.Failure):
                self._count(value.source or None)
                yield value if isinstance(value, Failure) else Failure(value.index, value.source, value.reason)
                continue
            item = value if isinstance(value, Item) else Item(value)
            index = self._n_seen
            try:
                yield self._entry(item)
            except (TypeError, ValueError) as error:
                yield Failure(index, printable(_named_source(item) or ""), str(error), item.id)

    def _entry(self, item: Item) -> Entry | Failure:
        index, number = self._count(_named_source(item))  # also of a bad item, so that the others keep their ids
        if isinstance(item.content, ImageText):
            raise TypeError(
                f"item {index} is an ImageText, which a collection does not store; write Item(image, text=text), which "
                "embeds the image and keeps its text for BM25 and display."
            )
        if not isinstance(item.content, (str, *get_args(ImageInput))):
            raise TypeError(
                f"item {index} is a {type(item.content).__name__}; an item is a str (text), or a Path, bytes, PIL "
                "image or numpy array (image)."
            )
        if reason := _unkeepable(item.content):
            name = _named_source(item) or (str(item.content) if isinstance(item.content, Path) else "")
            return Failure(index, printable(name), reason, item.id)
        try:
            return self._checked(item, index, number)
        except (TypeError, ValueError) as error:
            raise ValueError(f"item {index}: {error}") from error

    def _checked(self, item: Item, index: int, number: str) -> Entry:
        task = self._task if item.task is None else item.task
        check_task(task, self._tasks)
        metadata = json_mapping(item.metadata)
        source, hashed = _source(item, metadata)
        if metadata.get("source") is None:
            metadata["source"] = source
        if str(metadata["source"]) != source:
            raise ValueError(f"its source is {source!r}, but its metadata says {metadata['source']!r}.")
        if item.span is not None:
            number = "{}-{}".format(*_checked_span(item))
        unit = number if item.unit is None else item.unit
        _check_text("source", source)
        _check_text("unit", unit)
        identity = derived_id(source, unit, task, self._tenant) if item.id is None else item.id
        point_id(identity, self._tenant)  # refuses a bad id
        if item.text is not None:
            _check_text("text", item.text)
            if isinstance(item.content, str):
                raise ValueError("`text` says what an image shows; this item is a text itself.")
        if item.context is not None:
            _check_text("context", item.context)
            if not isinstance(item.content, str):
                raise ValueError("`context` is encoded with a text; this item is an image, which may have a `text`.")
        if item.embedding is not None and len(item.embedding) != 1:
            raise ValueError(f"its `embedding` holds {len(item.embedding)} items; it must hold one.")
        if not isinstance(item.picture, Picture | None):
            raise TypeError(f"its `picture` is a {type(item.picture).__name__}; it is a polyvec.pictures.Picture.")
        if item.picture is not None and isinstance(item.content, str):
            raise ValueError("`picture` is where an image is; this item is a text.")
        payload = json_mapping(item.payload, name="payload")
        if reserved := sorted(payload.keys() & set(RESERVED)):
            raise ValueError(f"its `payload` has {reserved[0]!r}, which the collection itself writes.")
        return Entry(
            content=item.content,
            id=identity,
            source=source,
            unit=unit,
            task=task,
            tenant=self._tenant,
            metadata=metadata,
            text=item.text or None,
            embedding=None if item.embedding is None else _arrays(item.embedding),
            payload=payload,
            picture=_picture(item, source, unit),
            content_hash=hashed,
            context=item.context or None,
            names_context=item.context is not None,
            span=None if item.span is None else _checked_span(item),
            root=item.root,
            index=index,
        )

    def _count(self, source: str | None) -> tuple[int, str]:
        """Count an item: its position in the call, and its number in a named source (empty if it has none)."""
        index, self._n_seen = self._n_seen, self._n_seen + 1
        if source is None:
            return index, ""
        number, self._n_by_source[source] = self._n_by_source[source], self._n_by_source[source] + 1
        return index, str(number)


def _items(inputs: Sequence[Input | Item | polyvec.Failure], columns: Mapping[str, Any]) -> Iterator[Item]:
    """Merge the inputs of a list with the lists beside them."""
    for name, values in columns.items():
        if isinstance(values, str) or getattr(values, "__len__", int)() != len(inputs):
            raise ValueError(f"`{name}` must be a list with one entry for each of the {len(inputs)} inputs.")
    for index, value in enumerate(inputs):
        if isinstance(value, polyvec.Failure):
            raise TypeError(f"item {index} is a Failure; only an iterator may yield failures.")
        item = value if isinstance(value, Item) else Item(value)
        values_by_field = {_FIELDS[name]: values[index] for name, values in columns.items()}
        if twice := [field for field in values_by_field if getattr(item, field) is not None]:
            raise ValueError(f"item {index}: its {twice[0]} is given by the item and by the list beside it.")
        yield replace(item, **values_by_field)


def with_context(text: str, context: str | None) -> str:
    """Return a text below its context, or in the place that the context names, as it is encoded and searched."""
    if context is None:
        return text
    before, place, after = context.partition(TEXT)
    return f"{before}{text}{after}" if place else f"{context}\n{text}"


def _unkeepable(content: Input) -> str | None:
    """Say why no index can keep a text or the path of an image; None if it can."""
    try:
        if isinstance(content, str):
            check_text(content)
        elif isinstance(content, Path):
            check_name(str(absolute(content)))
    except ValueError as error:
        return str(error)
    return None


def _source(item: Item, metadata: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the source of an item, and the hash of its content if it is known."""
    hashed = item.content_hash
    if hashed is not None and not (isinstance(hashed, str) and len(hashed) == 64):
        raise ValueError(f"its `content_hash` is {hashed!r}; it must be a SHA-256 in hexadecimal.")
    if item.source is not None and not isinstance(item.source, str):
        raise TypeError(f"its source is {item.source!r}; a source is a string.")
    source = metadata.get("source") if item.source is None else item.source
    if source is not None:
        return str(source), hashed
    if isinstance(item.content, Path):
        return absolute(item.content).as_posix(), hashed
    try:
        hashed = hashed or _hash(item.content)
    except OSError as error:  # an image that was opened but not read; the encoder will say what is wrong with it
        pass_alarm(error)
        return "unreadable image", None
    return f"sha256:{hashed[:32]}", hashed


def _picture(item: Item, source: str, unit: str) -> Picture | None:
    """Return where the picture of an item is; None for texts, and if nobody knows."""
    if item.picture is not None or isinstance(item.content, str):
        return item.picture
    if isinstance(item.content, Path):
        return Picture(uri=absolute(item.content).as_posix())
    return page_picture(source, unit)


def _hash(content: Input) -> str:
    return _document_hash(content) if isinstance(content, str) else content_hash(content)


@lru_cache(maxsize=1)
def _document_hash(text: str) -> str:
    """Compute the hash of a text once for all of its parts that follow each other."""
    return content_hash(text)


def _checked_span(item: Item) -> Span:
    if not isinstance(item.content, str):
        raise TypeError("`span` is a part of a text; this item is an image.")
    (span,) = checked_spans([item.span], len(item.content))
    return span


def _named_source(item: Item) -> str | None:
    """Return the source that an item names. The item may be a bad one."""
    metadata = item.metadata if isinstance(item.metadata, Mapping) else {}
    source = metadata.get("source") if item.source is None else item.source
    return None if source is None else str(source)


def _arrays(embedding: Embeddings) -> Embeddings:
    """Convert an embedding to float32; a ValueError if it is not made of numbers."""
    try:
        rows = embedding.multivector
        late = None if rows is None else tuple(map(_floats, rows))
        dense, grids = _floats(embedding.dense), tuple(embedding.grids) or (None,)
        return Embeddings(dense, late, grids, embedding.fingerprint)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"its embedding is not made of numbers: {error}") from error


def _floats(rows: Any) -> np.ndarray:  # Any: an array by its type, which nobody has checked
    array = np.asarray(rows)
    if array.dtype.kind in "bc" or array.dtype == np.uint8:
        raise ValueError(f"its dtype is {array.dtype}; vectors are floats or int8 codes (uint8 means packed bits)")
    return array.astype(np.float32, copy=False)


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"its `{name}` is {value!r}; it must be a string.")
    try:
        check_text(value)
    except ValueError as error:
        raise ValueError(f"its `{name}` is {value!r}: {error}.") from error
