"""Convert LangChain's documents to items of a collection, and stored items to documents.

A document with `image_uri` in its metadata is an image: a file, or the page of a PDF as `report.pdf#page=3`. Its
`page_content` is a caption, such as the text layer of the page.
"""

import hashlib
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from langchain_core.documents import Document
from langchain_core.documents.base import Blob

from langchain_polyvec import images
from langchain_polyvec.images import IMAGE_URI, NOT_KEPT, ImageLike, Picture, page_uri, picture
from polyvec.types import ImageInput
from qdrant_polyvec import Failure, Item, Stored
from qdrant_polyvec.items import content_hash
from qdrant_polyvec.metadata import json_mapping

T = TypeVar("T")

_NAMESPACE = uuid.UUID("0c1d5b5e-6a3d-5b0e-8f43-5f1d7a2e9b64")  # never change it: ids of stored items follow from it
_DERIVED_SOURCE = re.compile(r"sha256:[0-9a-f]{32}|unreadable image")  # a collection's names for items without a source
_PAGE = re.compile(r"page ([1-9]\d*)")
_IMAGE_FACTS = (IMAGE_URI, "image_sha256", "mime_type", "thumbnail")  # metadata that are computed from an image


def document(item: Stored) -> Document:
    """Convert a stored item to a document with the metadata that it was added with.

    Items that the command `index` added get an `image_uri` here, and the `unit` of their source.
    """
    metadata = dict(item.metadata)
    content = item.content
    if _DERIVED_SOURCE.fullmatch(item.source):
        metadata.pop("source", None)
    if item.kind == "image":
        content = "" if item.content == item.source else item.content
        page = _PAGE.fullmatch(item.unit)
        if "image_sha256" in metadata:
            pass  # this package added it, with a URI if the image has one
        elif item.unit == "image":
            metadata.setdefault(IMAGE_URI, item.source)
        elif page and item.source.lower().endswith(".pdf"):
            metadata.setdefault(IMAGE_URI, page_uri(item.source, int(page[1])))
    if item.unit and not item.unit.isdecimal():
        metadata.setdefault("unit", item.unit)
    return Document(id=str(item.id), page_content=content, metadata=metadata)


def text_item(text: str, metadata: Mapping[str, Any] | None, key: str | None, task: str) -> Item | Failure:
    """Convert a text to an item, or say why its metadata cannot be kept.

    Without a `key`, its id is derived from content, metadata and task.
    """
    try:
        metadata = stored_metadata(metadata)
    except ValueError as error:
        return Failure(-1, str((metadata or {}).get("source") or ""), str(error), key)
    key = _derived_id("text", text, metadata, task) if key is None else key
    return Item(text, id=key, unit="", metadata=metadata, task=task)


def image_item(
    image: ImageLike | Picture,
    metadata: Mapping[str, Any] | None,
    key: str | None,
    task: str,
    *,
    caption: str | None = None,
    unit: str = "",
    thumbnails: bool = False,
) -> Item | Failure:
    """Convert an image to an item, or say why it cannot be read.

    Without a `key`, the id of an image file is derived from its path, so that a changed file replaces the old one.
    Facts computed from the image (hash, MIME type) override the same keys in the metadata.
    """
    if isinstance(image, Blob):
        metadata = {"source": image.source, **image.metadata, **(metadata or {})}
        key = image.id if key is None else key
    try:
        metadata = stored_metadata(metadata)
        located = image if isinstance(image, Picture) else picture(image)
        facts = _image_facts(located.content, thumbnails=thumbnails)
    except ImportError:
        raise
    except OSError as error:
        return Failure(-1, _failure_source(image), f"cannot be read: {error.strerror or error}", key)
    except Exception as error:  # noqa: BLE001 — decoders raise whatever they like, and one bad image loses no other
        return Failure(-1, _failure_source(image), str(error), key)
    if located.uri is not None:
        facts[IMAGE_URI] = located.uri
    if not thumbnails and "thumbnail" in metadata and metadata.get("image_sha256") != facts["image_sha256"]:
        del metadata["thumbnail"]  # it shows an older image
    if key is None and located.key is not None:
        key = _derived_id("image", located.key, {}, task)
    elif key is None:
        others = {name: value for name, value in metadata.items() if name not in _IMAGE_FACTS}
        key = _derived_id("image", facts["image_sha256"], others, task)
    source = metadata.get("source", _path_name(image) or located.uri)
    return Item(
        located.content,
        id=key,
        source=source,
        unit=unit,
        metadata={**metadata, **facts},
        task=task,
        text=caption,
        content_hash=facts["image_sha256"],
    )


def document_item(document: Document, key: str | None, task: str, *, thumbnails: bool = False) -> Item | Failure:
    """Convert a document to an item: an image if its metadata have an `image_uri`, otherwise a text."""
    metadata, text = document.metadata, document.page_content
    if uri := metadata.get(IMAGE_URI):
        return image_item(uri, metadata, key, task, caption=text or None, thumbnails=thumbnails)
    if "image_sha256" in metadata:  # a thumbnail must not replace the whole image
        return Failure(-1, str(metadata.get("source", "an image")), NOT_KEPT, key)
    return text_item(text, metadata, key, task)


def checked_ids(ids: Sequence[str | None] | None, n_items: int) -> list[str | None]:
    """List the ids, one per item or None; an error if they differ in number from the items or hold an id twice."""
    listed = one_each("ids", ids, str, n_items)
    for key, count in Counter(key for key in listed if key is not None).items():
        if count > 1:
            raise ValueError(f"`ids` holds {key!r} twice; each item needs its own. Nothing was stored.")
    return listed


def one_each(name: str, values: Iterable[T | None] | None, kind: type, n_items: int) -> list[T | None]:
    """List the values of the items of a call, one or None per item; an error if number or kind do not fit."""
    if isinstance(values, str | Mapping):
        raise TypeError(f"`{name}` is one {type(values).__name__}; give a list with one entry for each item.")
    listed: list[T | None] = [None] * n_items if values is None else list(values)
    if len(listed) != n_items:
        raise ValueError(f"there are {len(listed)} `{name}` for {n_items} items; give one each, or None.")
    for value in listed:
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"`{name}` holds {value!r}; an entry is a {kind.__name__} or None.")
    return listed


def stored_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Convert metadata to JSON values, without a `source` that is None; a ValueError if some cannot be kept."""
    return {name: value for name, value in json_mapping(metadata).items() if name != "source" or value is not None}


def _image_facts(image: ImageInput, *, thumbnails: bool) -> dict[str, Any]:
    content = images.file_content(image)
    facts: dict[str, Any] = {"image_sha256": content_hash(image if content is None else content)}
    if content is not None and (kind := images.mime_type(content)):
        facts["mime_type"] = kind
    if thumbnails:
        facts["thumbnail"] = images.thumbnail(image)
    return facts


def _path_name(image: ImageLike | Picture) -> str | None:
    """Return the path of an image as the caller wrote it; None if it has none."""
    if isinstance(image, str) and not image.startswith("data:"):
        return image
    return image.as_posix() if isinstance(image, Path) else None


def _failure_source(image: ImageLike | Picture) -> str:
    name: object = image if isinstance(image, str | Path) else None
    if isinstance(image, Picture | Blob):
        name = image.uri if isinstance(image, Picture) else image.source
    return str(name or f"a {type(image).__name__}")[:200]


def _derived_id(kind: str, content: str, metadata: Mapping[str, Any], task: str) -> str:
    """Derive an id. It is the same for the same content and metadata, so that adding them again changes nothing."""
    parts = f"{kind}\0{task}\0{content}\0{json.dumps(metadata, sort_keys=True)}"
    return str(uuid.uuid5(_NAMESPACE, hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()))
