"""Convert LangChain's documents to items of a collection, and stored items to documents.

A document with `image_uri` in its metadata is an image: a file, or a page of a file as `report.pdf#page=3`. Its
`page_content` is a caption, such as the text layer of the page.
"""

import hashlib
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from langchain_core.documents import Document
from langchain_core.documents.base import Blob

from langchain_polyvec import images
from langchain_polyvec.images import DPI, IMAGE_URI, NOT_KEPT, ImageLike, Picture, page_uri, picture
from polyvec.alarms import pass_alarm
from polyvec.images import image_pages, n_image_pages, suffixes
from polyvec.types import ImageInput, Page, UnreadablePages
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
        elif page and item.source.lower().endswith((".pdf", *suffixes())):
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
    blob_metadata, key = _with_blob(image, metadata, key)
    try:
        metadata = stored_metadata(blob_metadata)
        located = image if isinstance(image, Picture) else picture(image)
        facts = _image_facts(located.content, thumbnails=thumbnails)
    except ImportError:
        raise
    except (OSError, TypeError, ValueError) as error:
        return _failure(image, error, key)
    if located.uri is not None:
        facts[IMAGE_URI] = located.uri
    if not thumbnails and "thumbnail" in metadata and metadata.get("image_sha256") != facts["image_sha256"]:
        del metadata["thumbnail"]  # it shows an older image
    if key is None and located.key is not None:
        key = _derived_id("image", located.key, {}, task)
    elif key is None:
        others = {name: value for name, value in metadata.items() if name not in _IMAGE_FACTS}
        key = _derived_id("image", facts["image_sha256"], others, task)
    source = metadata.get("source", located.source or located.uri)
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


def image_items(
    image: ImageLike,
    metadata: Mapping[str, Any] | None,
    key: str | None,
    task: str,
    *,
    caption: str | None = None,
    thumbnails: bool = False,
) -> Iterator[Item | Failure]:
    """Convert an image to an item, or each page of a TIFF with several pages; see `image_item`.

    A `key` becomes the key of each page, as `key#page=2`.
    """
    blob_metadata, key = _with_blob(image, metadata, key)
    try:
        metadata = stored_metadata(blob_metadata)
        located = picture(image)
    except (OSError, TypeError, ValueError) as error:
        yield _failure(image, error, key)
        return
    content = located.content
    if not isinstance(content, Path | bytes) or n_image_pages(content) == 1:
        yield image_item(located, metadata, key, task, caption=caption, thumbnails=thumbnails)
        return
    name = metadata.get("source", located.source or located.uri)
    yield from page_items(
        image_pages(content),
        metadata if name is None else {**metadata, "source": name},
        task=task,
        name=name or f"a {type(image).__name__}",
        uri=located.uri,
        key=located.uri or f"{content_hash(content)} {sorted(metadata.items(), key=str)}",
        own_key=key,
        caption=caption,
        thumbnails=thumbnails,
    )


def page_items(
    pages: Iterator[Page],
    metadata: Mapping[str, Any],
    *,
    task: str,
    name: str,
    uri: str | None,
    key: str,  # identifies the file
    own_key: str | None = None,  # the key that the caller gives to the file
    dpi: float = DPI,
    caption: str | None = None,
    thumbnails: bool,
) -> Iterator[Item | Failure]:
    """Convert the pages of a file to items, one at a time. Pages that cannot be read become failures of `name`."""
    try:
        for page in pages:
            yield image_item(
                Picture(page.image, uri and page_uri(uri, page.number, dpi), page_uri(key, page.number)),
                {**metadata, "page": page.number - 1, "page_label": str(page.number)},
                own_key and page_uri(own_key, page.number),
                task,
                caption=page.text.strip() or caption,
                unit=f"page {page.number}",
                thumbnails=thumbnails,
            )
    except UnreadablePages as error:
        yield from (Failure(-1, name, f"page {number}: {reason}") for number, reason in error.reasons.items())
    except (OSError, ValueError) as error:
        pass_alarm(error)
        yield Failure(-1, name, str(error))


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


def _with_blob(
    image: ImageLike | Picture, metadata: Mapping[str, Any] | None, key: str | None
) -> tuple[dict[str, Any], str | None]:
    """Return the metadata and the key of an image. A blob has its own."""
    if isinstance(image, Blob):
        metadata = {"source": image.source, **image.metadata, **(metadata or {})}
        key = image.id if key is None else key
    return dict(metadata or {}), key


def _failure(image: ImageLike | Picture, error: OSError | TypeError | ValueError, key: str | None) -> Failure:
    pass_alarm(error)
    name: object = image if isinstance(image, str | Path) else None
    if isinstance(image, Picture):
        name = image.source or image.uri
    elif isinstance(image, Blob):
        name = image.source
    reason = f"cannot be read: {error.strerror or error}" if isinstance(error, OSError) else str(error)
    return Failure(-1, str(name or f"a {type(image).__name__}")[:200], reason, key)


def _derived_id(kind: str, content: str, metadata: Mapping[str, Any], task: str) -> str:
    """Derive an id. It is the same for the same content and metadata, so that adding them again changes nothing."""
    parts = f"{kind}\0{task}\0{content}\0{json.dumps(metadata, sort_keys=True)}"
    return str(uuid.uuid5(_NAMESPACE, hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()))
