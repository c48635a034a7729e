"""LangChain's documents and what a collection keeps, each made of the other.

A document with `image_uri` in its metadata is an image: a file, or the page of a PDF as `report.pdf#page=3`. Its
`page_content` is what the image says, if that is known.
"""

import hashlib
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.documents.base import Blob

from langchain_polyvec.images import (
    IMAGE_URI,
    NOT_KEPT,
    ImageLike,
    Picture,
    file_content,
    mime_type,
    page_uri,
    picture,
    thumbnail,
)
from polyvec.types import ImageInput
from qdrant_polyvec import Failure, Hit, Item, Stored
from qdrant_polyvec.items import content_hash

_NAMESPACE = uuid.UUID("0c1d5b5e-6a3d-5b0e-8f43-5f1d7a2e9b64")  # never change it: ids of stored items follow from it
_DERIVED_SOURCE = re.compile(r"sha256:[0-9a-f]{32}|unreadable image")  # how a collection names what has no source
_PAGE = re.compile(r"page ([1-9]\d*)")


def document(found: Hit | Stored) -> Document:
    """What was found, as LangChain's users know it: with the metadata that it was added with.

    What `python -m qdrant_polyvec index` has added gets an `image_uri` here, and the `unit` of its source.
    """
    metadata = dict(found.metadata)
    content = found.content
    if _DERIVED_SOURCE.fullmatch(found.source):
        metadata.pop("source", None)
    if found.kind == "image":
        content = "" if found.content == found.source else found.content
        page = _PAGE.fullmatch(found.unit)
        if "image_sha256" in metadata:
            pass  # it was added here, and has a URI if it can have one
        elif found.unit == "image":
            metadata.setdefault(IMAGE_URI, found.source)
        elif page and found.source.lower().endswith(".pdf"):
            metadata.setdefault(IMAGE_URI, page_uri(found.source, int(page[1])))
    if found.unit and not found.unit.isdecimal():
        metadata.setdefault("unit", found.unit)
    return Document(id=str(found.id), page_content=content, metadata=metadata)


def text_item(text: str, metadata: Mapping[str, Any] | None, identity: str | None, task: str) -> Item:
    """A text to add."""
    known = _known(metadata)
    key = _derived("text", text, known, task) if identity is None else identity
    return Item(text, id=key, unit="", metadata=known, task=task)


def image_item(
    image: ImageLike | Picture,
    metadata: Mapping[str, Any] | None,
    identity: str | None,
    task: str,
    *,
    says: str | None = None,
    unit: str = "",
    thumbnails: bool = False,
) -> Item | Failure:
    """An image to add, or why it cannot be.

    An image file is known by its path: added again when it or its metadata have changed, it takes the old one's place.
    What the metadata say of an image that can be seen in itself is replaced by what is seen.
    """
    known = _known(metadata)
    if isinstance(image, Blob):
        known = _known({"source": image.source, **image.metadata, **known})
        identity = image.id if identity is None else identity
    try:
        shown = image if isinstance(image, Picture) else picture(image)
        facts = _facts(shown.content, thumbnails=thumbnails)
    except ImportError:
        raise
    except OSError as error:
        return Failure(identity, _told(image), f"cannot be read: {error.strerror or error}")
    except Exception as error:  # noqa: BLE001 — decoders raise whatever they like, and one bad image loses no other
        return Failure(identity, _told(image), str(error))
    if shown.uri is not None:
        facts[IMAGE_URI] = shown.uri
    if thumbnails is False and "thumbnail" in known and known.get("image_sha256") != facts["image_sha256"]:
        del known["thumbnail"]  # it shows what the image was
    key = identity
    if key is None and shown.key is not None:
        key = _derived("image", shown.key, {}, task)
    elif key is None:
        said = {name: value for name, value in known.items() if name not in _FACTS}
        key = _derived("image", facts["image_sha256"], said, task)
    source = known.get("source", _named(image) or shown.uri)
    return Item(shown.content, id=key, source=source, unit=unit, metadata={**known, **facts}, task=task, text=says)


def document_item(given: Document, identity: str | None, task: str, *, thumbnails: bool = False) -> Item | Failure:
    """A document to add: an image if its metadata has an `image_uri`, otherwise a text."""
    place = given.metadata.get(IMAGE_URI)
    if not place and "image_sha256" in given.metadata:  # a thumbnail must not take the place of the whole
        return Failure(identity, str(given.metadata.get("source", "an image")), NOT_KEPT)
    if not place:
        return text_item(given.page_content, given.metadata, identity, task)
    return image_item(place, given.metadata, identity, task, says=given.page_content or None, thumbnails=thumbnails)


def checked_texts(texts: Iterable[str]) -> list[str]:
    """The texts, as a list.

    Raises:
        TypeError: one is none.
    """
    if isinstance(texts, str):
        raise TypeError("`texts` is one string; give a list of them.")
    listed = list(texts)
    for index, text in enumerate(listed):
        if not isinstance(text, str):
            raise TypeError(f"text {index} is a {type(text).__name__}; images go to `add_images`.")
    return listed


def checked_ids(ids: Sequence[str | None] | None, n: int) -> list[str | None]:
    """One id for each of `n` items, None for those that have none.

    Raises:
        ValueError: not as many, or one twice.
        TypeError: one is no string.
    """
    if ids is None:
        return [None] * n
    if isinstance(ids, str):
        raise TypeError("`ids` is a list of strings, not one string.")
    listed = list(ids)
    if len(listed) != n:
        raise ValueError(f"there are {len(listed)} `ids` for {n} items; give one each, or None for those without.")
    given = [identity for identity in listed if identity is not None]
    for identity in given:
        if not isinstance(identity, str):
            raise TypeError(f"`ids` holds {identity!r}; an id is a string.")
    if twice := [identity for identity, times in Counter(given).items() if times > 1]:
        raise ValueError(f"`ids` holds {twice[0]!r} twice; each item needs its own. Nothing was stored.")
    return listed


def checked_metadatas(metadatas: Iterable[Mapping[str, Any] | None] | None, n: int) -> list[Mapping[str, Any] | None]:
    """The metadata of each of `n` items.

    Raises:
        ValueError: not as many.
        TypeError: one is no mapping.
    """
    if isinstance(metadatas, Mapping):
        raise TypeError("`metadatas` is one mapping; give a list with one for each item.")
    listed: list[Mapping[str, Any] | None] = [None] * n if metadatas is None else list(metadatas)
    if len(listed) != n:
        raise ValueError(f"there are {len(listed)} `metadatas` for {n} items; give one each.")
    for index, one in enumerate(listed):
        if one is not None and not isinstance(one, Mapping):
            raise TypeError(f"the metadata of item {index} are a {type(one).__name__}; they are a mapping, or None.")
    return listed


def checked_captions(captions: Sequence[str | None] | None, n: int) -> Sequence[str | None]:
    """What each of `n` images says.

    Raises:
        ValueError: not as many.
    """
    if captions is None:
        return [None] * n
    if isinstance(captions, str) or len(captions) != n:
        raise ValueError(f"`captions` must be a list with one entry for each of the {n} images.")
    return captions


_FACTS = (IMAGE_URI, "image_sha256", "mime_type", "thumbnail")  # what is known of an image by itself


def _known(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of the metadata, in which a source that is None is none."""
    copy = dict(metadata or {})
    if copy.get("source", "") is None:
        del copy["source"]
    return copy


def _facts(image: ImageInput, *, thumbnails: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {"image_sha256": content_hash(image)}
    content = file_content(image)
    if content is not None and (kind := mime_type(content)):
        facts["mime_type"] = kind
    if thumbnails:
        facts["thumbnail"] = thumbnail(image)
    return facts


def _named(image: ImageLike | Picture) -> str | None:
    """What an image's source is called: its path as it was given."""
    if isinstance(image, str) and not image.startswith("data:"):
        return image
    return image.as_posix() if isinstance(image, Path) else None


def _told(image: ImageLike | Picture) -> str:
    """How a failure names an image."""
    name = image if isinstance(image, str | Path) else getattr(image, "uri", None) or getattr(image, "source", None)
    return str(name or f"a {type(image).__name__}")[:200]


def _derived(kind: str, content: str, metadata: Mapping[str, Any], task: str) -> str:
    """The same for the same content with the same metadata, so that adding it again changes nothing."""
    try:
        told = json.dumps(metadata, sort_keys=True, default=str)
    except (TypeError, ValueError, RecursionError):  # they are refused, each for itself, where items are checked
        told = ""
    whole = hashlib.sha256(f"{kind}\0{task}\0{content}\0{told}".encode("utf-8", "surrogatepass")).hexdigest()
    return str(uuid.uuid5(_NAMESPACE, whole))
