"""Items to index: what identifies one, and the checks at the door."""

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from polyvec.prompts import check_task
from polyvec.types import Input, Task

Identity = str | int  # what a user calls an item
Kind = Literal["text", "image"]

_NAMESPACE = uuid.UUID(
    "6f0d6a3c-6a0b-5c5e-9d0a-2d4f2b6c8e11"
)  # never change it: the ids of stored points follow from it


@dataclass(frozen=True, slots=True)
class Failure:
    """An item that was not stored, and why. A file that could not be read has no id."""

    id: Identity | None
    source: str
    error: str


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One input to index.

    Attributes:
        id: as the user gave it, or derived from source, unit and task.
        source: where it comes from.
        unit: which part of its source it is.
        metadata: the user's own, with the source.
    """

    input: Input
    id: Identity
    source: str
    unit: str
    task: Task
    metadata: dict[str, Any]

    @property
    def kind(self) -> Kind:
        return "text" if isinstance(self.input, str) else "image"

    def failure(self, error: str) -> Failure:
        return Failure(self.id, self.source, error)


def checked_items(
    inputs: Sequence[Input],
    *,
    task: Task,
    ids: Sequence[Identity] | None,
    sources: Sequence[str] | None,
    units: Sequence[str] | None,
    metadatas: Sequence[Mapping[str, Any] | None] | None,
) -> list[Item]:
    """The inputs with what belongs to each. No file is opened yet.

    Raises:
        TypeError: `inputs` is not a sequence of texts and images.
        ValueError: an unknown task, arguments of different lengths, or a bad id or metadata.
    """
    check_task(task)
    if isinstance(inputs, str | bytes | Path | Image.Image) or not isinstance(inputs, Sequence):
        raise TypeError(f"`inputs` is a list of texts and images, not a single {type(inputs).__name__}: write [item].")
    for name, values in (("ids", ids), ("sources", sources), ("units", units), ("metadatas", metadatas)):
        if isinstance(values, str) or (values is not None and len(values) != len(inputs)):
            raise ValueError(f"`{name}` must be a list with one entry for each of the {len(inputs)} inputs.")
    n_by_source: Counter[str] = Counter()
    items = []
    for index, content in enumerate(inputs):
        if not isinstance(content, str | bytes | Path | Image.Image | np.ndarray):
            raise TypeError(
                f"item {index} is a {type(content).__name__}; an item is a str (text), or a Path, bytes, PIL image or "
                "numpy array (image)."
            )
        try:
            item = _item(
                content,
                task,
                metadata=json_metadata(metadatas[index] if metadatas else None),
                identity=ids[index] if ids else None,
                source=sources[index] if sources else None,
                unit=units[index] if units else None,
                n_by_source=n_by_source,
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"item {index}: {error}") from error
        items.append(item)
    return items


def derived_id(source: str, unit: str, task: Task) -> str:
    """The same for the same part of the same source, so that indexing again replaces instead of duplicating."""
    return str(uuid.uuid5(_NAMESPACE, f"{source}\0{unit}\0{task}"))


def point_id(identity: Identity) -> int | str:
    """The id that Qdrant gets: UUIDs and unsigned integers as they are, any other string as a UUID made of it.

    Raises:
        ValueError: it is neither a string nor an unsigned 64-bit integer.
    """
    if isinstance(identity, str):
        try:
            return str(uuid.UUID(identity))
        except ValueError:
            return str(uuid.uuid5(_NAMESPACE, identity))
    if not isinstance(identity, int) or isinstance(identity, bool) or not 0 <= identity < 2**64:
        raise ValueError(f"{identity!r} is not an id: use a string or an unsigned 64-bit integer.")
    return identity


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
            data = f"{content.mode} {content.size} ".encode() + content.tobytes()
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
        return dict(json.loads(json.dumps(dict(metadata), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata must be JSON values: {error}.") from error


def _item(
    content: Input,
    task: Task,
    *,
    metadata: dict[str, Any],
    identity: Identity | None,
    source: str | None,
    unit: str | None,
    n_by_source: Counter[str],
) -> Item:
    named = metadata.get("source") if source is None else source
    if named is None:  # a file, or a content that is its own name, is whole
        source = content.as_posix() if isinstance(content, Path) else f"sha256:{content_hash(content)[:32]}"
        number = ""
    elif isinstance(named, str):  # the parts of a named source are told apart by their number
        source, number = named, str(n_by_source[named])
        n_by_source[named] += 1
    else:
        raise ValueError(f"its source is {named!r}; a source is a string.")
    if metadata.setdefault("source", source) != source:
        raise ValueError(f"its source is {source!r}, but its metadata says {metadata['source']!r}.")
    unit = number if unit is None else unit
    identity = derived_id(source, unit, task) if identity is None else identity
    point_id(identity)
    return Item(content, identity, source, unit, task, metadata)
