"""Convert LangChain's documents to items of a collection, and stored items to documents.

A document with `image_uri` in its metadata is an image: a file, or a page of a file as `report.pdf#page=3`. Its
`page_content` is a caption, such as the text layer of the page. The collection keeps what is known about an image apart
from the metadata; documents show both.
"""

import hashlib
import json
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, TypeVar

from langchain_core.documents import Document
from langchain_core.documents.base import Blob

from langchain_polyvec.images import IMAGE_URI, KIND, ImageLike, Located, is_image, located, mark, marked, picture_of
from polyvec.alarms import pass_alarm
from polyvec.images import image_pages, n_image_pages
from polyvec.paths import absolute, check_name, printable
from polyvec.pictures import DPI, MIME_TYPES, NOT_KEPT, Picture, is_thumbnail, page_of, page_uri, thumbnail
from polyvec.types import Page, UnreadablePages
from qdrant_polyvec import Failure, Item, Stored
from qdrant_polyvec.items import content_hash
from qdrant_polyvec.metadata import json_mapping
from qdrant_polyvec.pictures import is_sha256, named_metadata, page_unit

T = TypeVar("T")

_NAMESPACE = uuid.UUID("0c1d5b5e-6a3d-5b0e-8f43-5f1d7a2e9b64")  # never change it: ids of stored items follow from it
_KINDS = ("image", "text")
_START = "start_index"  # where a text splitter of LangChain writes the position of a chunk


def document(item: Stored) -> Document:
    """Convert a stored item to a document: the metadata that it was added with, and what is known about an image."""
    own, content = named_metadata(item.metadata), item.content
    metadata = dict(own)
    if item.kind == "image":
        content = "" if item.content == item.source else item.content
        metadata = _with_facts(metadata, item.picture or Picture())
    if item.unit and not item.unit.isdecimal():
        metadata.setdefault("unit", item.unit)
    hides_uri = IMAGE_URI in own and metadata.get(IMAGE_URI) != own[IMAGE_URI]
    if hides_uri or marked(own)[0] in _KINDS or is_image(metadata) != (item.kind == "image"):
        hidden = [KIND, IMAGE_URI] if hides_uri else [KIND]
        metadata[KIND] = mark(item.kind, {name: own[name] for name in hidden if name in own})
    return Document(id=str(item.id), page_content=content, metadata=metadata)


def text_item(text: str, metadata: Mapping[str, Any] | None, key: str | None, task: str) -> Item | Failure:
    """Convert a text to an item, or say why its metadata cannot be kept.

    Without a `key`, its id is derived from content, metadata and task.
    """
    try:
        metadata = stored_metadata(metadata)
    except ValueError as error:
        return Failure(-1, printable(str((metadata or {}).get("source") or "")), str(error), key)
    key = _derived_id("text", text, metadata, task) if key is None else key
    return Item(text, id=key, unit="", metadata=metadata, task=task)


def image_item(
    image: ImageLike | Located,
    metadata: Mapping[str, Any] | None,
    key: str | None,
    task: str,
    *,
    caption: str | None = None,
    thumbnails: bool = False,
    of_document: bool = False,
    password: str | None = None,  # of the PDF of a page
) -> Item | Failure:
    """Convert an image to an item, or say why it cannot be read.

    Without a `key`, the id of an image file is derived from its path, so that a changed file replaces the old one. The
    ids of documents follow from their metadata and captions, too. What documents show of an image is no metadata of it.
    """
    key = image.id if isinstance(image, Blob) and key is None else key
    try:
        metadata = _image_metadata(image, metadata)
        place = image if isinstance(image, Located) else located(image, password=password)
        check_name(place.uri or "")
        sha256 = content_hash(place.content)
        small = thumbnail(place.content) if thumbnails else _known_thumbnail(metadata, sha256)
    except ImportError:
        raise
    except (OSError, TypeError, ValueError) as error:
        return _failure(image, error, key)
    file = page_of(place.uri)[0] if place.uri and not place.uri.startswith("data:") else None
    if metadata.get(IMAGE_URI) == place.uri:  # of a document
        metadata.pop(IMAGE_URI, None)
    metadata, number, label, unit = _named(metadata, place)
    if metadata.get("source") == file:
        metadata.pop("source", None)
    if key is None:
        is_file = place.key is not None and not of_document
        others = {**metadata, **({"page_content": caption} if of_document and caption else {})}
        key = _derived_id("image", place.key or sha256, {} if is_file else others, task)
    return Item(
        place.content,
        id=key,
        source=None if "source" in metadata else file,
        unit=unit,
        metadata=metadata,
        task=task,
        text=caption,
        picture=Picture(uri=place.uri, page=number, page_label=label, thumbnail=small),
        content_hash=sha256,
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
    key = image.id if isinstance(image, Blob) and key is None else key
    try:
        metadata = _image_metadata(image, metadata)
        place = located(image)
        check_name(place.uri or "")
    except (OSError, TypeError, ValueError) as error:
        yield _failure(image, error, key)
        return
    content = place.content
    if not isinstance(content, Path | bytes) or n_image_pages(content) == 1:
        yield image_item(place, metadata, key, task, caption=caption, thumbnails=thumbnails)
        return
    name = metadata.get("source", place.uri)
    yield from page_items(
        image_pages(content),
        metadata if name is None else {**metadata, "source": name},
        task=task,
        name=str(name or "") or f"a {type(image).__name__}",
        uri=place.uri,
        key=place.uri or f"{content_hash(content)} {sorted(metadata.items(), key=str)}",
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
            number = page.number
            yield image_item(
                Located(page.image, uri and page_uri(uri, number, dpi), page_uri(key, number), number, page.label),
                metadata,
                own_key and page_uri(own_key, number),
                task,
                caption=page.text.strip() or caption,
                thumbnails=thumbnails,
            )
    except UnreadablePages as error:
        yield from (Failure(-1, name, f"page {number}: {reason}") for number, reason in error.reasons.items())
    except (OSError, ValueError) as error:
        pass_alarm(error)
        yield Failure(-1, name, str(error))


def document_item(
    document: Document,
    key: str | None,
    task: str,
    *,
    thumbnails: bool = False,
    is_chunk: bool = False,
    password: str | None = None,
) -> Item | Failure:
    """Convert a document to an item: an image if its metadata have an `image_uri`, otherwise a text."""
    metadata, text = document.metadata, document.page_content
    if is_chunk:
        return text_item(text, _without_facts(metadata), key, task)
    if not is_image(metadata):
        return text_item(text, metadata, key, task)
    name = printable(str(metadata.get("source") or ""))[:200]
    try:
        picture = picture_of(metadata)
        if picture is None or picture.uri is None:  # a thumbnail must not replace the whole image
            return Failure(-1, name, NOT_KEPT, key)
        image: ImageLike | Located = picture.uri
        if picture.uri.startswith("data:"):
            image = Located(picture.open(), picture.uri, None)
    except ValueError as error:
        return Failure(-1, name, str(error), key)
    others = {name: value for name, value in metadata.items() if name != IMAGE_URI}
    return image_item(
        image,
        others,
        key,
        task,
        caption=text or None,
        thumbnails=thumbnails,
        of_document=True,
        password=password,
    )


def document_key(document: Document, task: str) -> str:
    """Derive the id of a document from its text, its metadata and a task; a ValueError if the metadata have no JSON."""
    return _derived_id("document", document.page_content, json_mapping(document.metadata), task)


def chunks(documents: Sequence[Document], keys: Sequence[str | None]) -> Set[int]:
    """Find the documents with an `image_uri` that are parts of a text, by position.

    They name their place in the text, or have no ids and differ from others in nothing but their text: splitters copy
    the metadata of a document to each of its parts.
    """
    positions: defaultdict[str, list[int]] = defaultdict(list)
    for index, (item, key) in enumerate(zip(documents, keys, strict=True)):
        if key is None and item.page_content and is_image(item.metadata):
            positions[repr(item.metadata)].append(index)
    similar = (group for group in positions.values() if len({documents[index].page_content for index in group}) > 1)
    texts = ((n, item.metadata) for n, item in enumerate(documents) if item.page_content or not is_image(item.metadata))
    named = (n for n, metadata in texts if isinstance(metadata.get(_START), int))
    return {index for group in similar for index in group} | {*named}


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
    values = json_mapping(metadata)
    kind, hidden = marked(values)
    if kind in _KINDS:
        del values[KIND]
        values |= hidden
    return {name: value for name, value in values.items() if name != "source" or value is not None}


def blob_metadata(blob: Blob) -> dict[str, Any]:
    """Return the metadata of a blob with its source: its path, which of a blob in memory may be any name."""
    is_file = blob.data is None and "source" not in blob.metadata
    source = absolute(str(blob.path)).as_posix() if is_file else blob.source
    return {"source": source, **blob.metadata}


def _with_facts(metadata: Mapping[str, Any], picture: Picture) -> dict[str, Any]:
    """Add what a document shows of its picture. LangChain's loaders count pages from 0 and label them from 1."""
    others = {name: value for name, value in metadata.items() if name != IMAGE_URI}  # it would be another picture's
    page = {} if picture.page is None else {"page": picture.page - 1, "page_label": picture.label}
    facts = {
        IMAGE_URI: picture.uri,
        "image_sha256": picture.sha256,
        "mime_type": picture.mime_type,
        "thumbnail": picture.thumbnail,
    }
    return page | others | {name: value for name, value in facts.items() if value is not None}


def _image_metadata(image: ImageLike | Located, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the metadata of an image. A blob has its own."""
    return stored_metadata({**(blob_metadata(image) if isinstance(image, Blob) else {}), **(metadata or {})})


def _known_thumbnail(metadata: Mapping[str, Any], sha256: str) -> str | None:
    """Return the thumbnail that a document shows, unless it is of an older image."""
    small = metadata.get("thumbnail")
    return small if is_thumbnail(small) and metadata.get("image_sha256") == sha256 else None


def _without_facts(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out what a document of a store shows of its image. Values of any other form are the user's own."""
    if not is_sha256(metadata.get("image_sha256")):
        return metadata
    forms = {"image_sha256": is_sha256, "mime_type": MIME_TYPES.__contains__, "thumbnail": is_thumbnail}
    return {name: value for name, value in metadata.items() if name not in forms or not forms[name](value)}


def _named(metadata: Mapping[str, Any], place: Located) -> tuple[dict[str, Any], int | None, str | None, str]:
    """Split the metadata of an image into the user's own, the number and the label of its page, and its unit.

    A document shows the number and the label together; a label alone is the user's own.
    """
    own = dict(_without_facts(metadata))
    first, label = own.get("page"), own.get("page_label")
    page, known = place.page, place.page_label
    if page is None and isinstance(first, int):
        is_shown = label == str(first + 1) or own.get("unit") == page_unit(first + 1)
        page = first + 1 if is_shown else None
    if page is not None and first == page - 1 and isinstance(label, str):
        del own["page"], own["page_label"]
        known = known or (label if label != str(page) else None)
    unit = "" if page is None else page_unit(page)
    if own.get("unit") in (unit, "image"):
        unit = own.pop("unit")
    return own, page, known, unit


def _failure(image: ImageLike | Located, error: OSError | TypeError | ValueError, key: str | None) -> Failure:
    pass_alarm(error)
    name: object = image if isinstance(image, str | Path) else None
    if isinstance(image, Located):
        name = image.uri
    elif isinstance(image, Blob):
        name = image.source
    reason = f"cannot be read: {error.strerror or error}" if isinstance(error, OSError) else str(error)
    return Failure(-1, printable(str(name or f"a {type(image).__name__}")[:200]), reason, key)


def _derived_id(kind: str, content: str, metadata: Mapping[str, Any], task: str) -> str:
    """Derive an id. It is the same for the same content and metadata, so that adding them again changes nothing."""
    parts = f"{kind}\0{task}\0{content}\0{json.dumps(metadata, sort_keys=True)}"
    return str(uuid.uuid5(_NAMESPACE, hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()))
