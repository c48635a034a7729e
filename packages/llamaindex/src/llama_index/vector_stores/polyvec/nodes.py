"""LlamaIndex's nodes as items of a collection, and back."""

import base64
import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageNode,
    MediaResource,
    MetadataMode,
    Node,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from llama_index.embeddings.polyvec.images import PictureNode, has_image, node_image, node_input
from polyvec import Input
from polyvec.paths import absolute, printable
from polyvec.pictures import Picture, mime_type, of_data, page_of
from polyvec.pictures import absolute as absolute_uri
from qdrant_polyvec import Failure, Item, Stored
from qdrant_polyvec.checks import TEXT, with_context
from qdrant_polyvec.metadata import json_mapping, json_value
from qdrant_polyvec.pictures import is_sha256, named_metadata, page_unit
from qdrant_polyvec.schema import RESERVED

__all__ = ["to_node"]

_LINES = re.compile(r"[^\n:]+: .*\n", re.DOTALL)
_NUMBER = re.compile(r"[1-9]\d*", re.ASCII)  # of a page
_PAGE_NUMBER = "page_number"  # beside `page_label`, if the label of a page is not its number
_OF_PICTURES = ("image_sha256", "page_label", _PAGE_NUMBER)  # metadata that are stored elsewhere


def to_item(node: BaseNode, *, index: int, task: str, dim: int, old: Stored | None) -> Item | Failure:
    """Convert a node to an item with the payload that the stock Qdrant store writes, or to the reason why not.

    `old` is what is stored under its id. The metadata that LlamaIndex embeds are the context of the text.
    The collection's own metadata are the node's, for other readers; what is known about an image stands apart. Of the
    node's embedding only the length is checked: the vectors are made again together with the multi-vector, in one pass.
    """
    document = document_id(node)
    source = _source(node)
    try:
        node = _storable(node.model_copy(update=_json_fields(node)))
        source = _source(node)
        content, picture = _content(node)
        context = None
        if isinstance(content, str):
            content, context = _embedded(node)
            if context is None and old is not None and _is_of_metadata(old):
                context = ""  # the lines in front of the text were those of this node
        kept = _without_data(node) if isinstance(node, ImageNode) else {}
        payload = node_to_metadata_dict(node.model_copy(update=kept), remove_text=False, flat_metadata=False)
        payload |= dict.fromkeys(("document_id", "doc_id", "ref_doc_id"), document)
    except (TypeError, ValueError) as error:
        return Failure(index, printable(source or node.node_id), str(error), node.node_id)
    if node.embedding and len(node.embedding) != dim:
        reason = f"its embedding has {len(node.embedding)} numbers, the store's {dim}: another model made it"
        return Failure(index, source or node.node_id, reason, node.node_id)
    metadata = dict(node.metadata)
    if picture is not None and is_sha256(metadata.get("image_sha256")):
        del metadata["image_sha256"]
    if picture is not None and picture.page is not None and metadata.get("page_label") == picture.label:
        del metadata["page_label"]
        if metadata.get(_PAGE_NUMBER) == picture.page:
            del metadata[_PAGE_NUMBER]
    return Item(
        content,
        id=node.node_id,
        source=source,
        unit="" if picture is None or picture.page is None else page_unit(picture.page),
        task=task,
        metadata=metadata,
        text=None if isinstance(content, str) else _text(node),
        context=context,
        payload={key: value for key, value in payload.items() if key not in RESERVED},
        picture=picture,
    )


def _with_stored_metadata(node: BaseNode, stored: Stored) -> BaseNode:
    """Return a node with the metadata that are stored, which another front end may have changed since it was added.

    What is new was not encoded with the text.
    """
    kept = {key: value for key, value in node.metadata.items() if key in stored.metadata or key in _OF_PICTURES}
    shown = {key: value for key, value in named_metadata(stored.metadata).items() if key != "source" or key in kept}
    metadata = {**kept, **shown}
    hidden = [*node.excluded_embed_metadata_keys, *(key for key in shown if key not in node.metadata)]
    changed = {"metadata": metadata, "excluded_embed_metadata_keys": hidden}
    return node if metadata == node.metadata else node.model_copy(update=changed)


def document_id(node: BaseNode) -> str | None:
    """Return the id of a node's document.

    A document that was not cut into nodes is its own; the stock store writes "None", and could never delete it.
    """
    return node.ref_doc_id or (node.node_id if isinstance(node, Document) else None)


def to_node(stored: Stored) -> BaseNode:
    """Convert a stored item to the node that was added.

    Items of other writers become texts, which are embedded without their metadata as they were before, or images. A
    text that was a node before LangChain edited its metadata is embedded with the same fields again. The metadata name
    the unit of a text, and a page by LlamaIndex's key and, if that is no number, by its number.
    """
    picture = stored.picture or Picture()
    if "_node_content" in stored.payload:
        node = _with_stored_metadata(metadata_dict_to_node(stored.payload), stored)
        if node.node_id != str(stored.id):  # of a file that was renamed
            source = {"source": stored.source} if "source" in node.metadata else {}
            place = dict.fromkeys(("image_path", "image_url")) if isinstance(node, ImageNode) and picture.uri else {}
            metadata = {**node.metadata, **source}
            node = node.model_copy(update={"id_": str(stored.id), "metadata": metadata, **place})
        if isinstance(node, ImageNode):
            has_place = node.image or node.image_path or node.image_url
            if not has_place or picture.thumbnail or (picture.uri or "").startswith("data:"):
                return _with_picture(node, picture)
        return node
    metadata, identity = named_metadata(stored.metadata), str(stored.id)
    if picture.page is not None:
        if picture.page_label is not None and "page_label" not in metadata:
            metadata.setdefault(_PAGE_NUMBER, picture.page)
        metadata.setdefault("page_label", picture.label)
    elif stored.unit and stored.unit != "image" and not stored.unit.isdecimal():
        metadata.setdefault("unit", stored.unit)
    if stored.kind == "text":
        hidden = [key for key in metadata if not (_has_lines(stored) and f"\n{key}: " in f"\n{stored.context}")]
        return TextNode(id_=identity, text=stored.content, metadata=metadata, excluded_embed_metadata_keys=hidden)
    text = "" if stored.content == stored.source else stored.content
    return _with_picture(ImageNode(id_=identity, text=text, metadata=metadata), picture)


def _with_picture(node: BaseNode, picture: Picture) -> ImageNode:
    """Return an image node with its picture: a file or base64 as LlamaIndex has them, or what is read when needed.

    A file with a thumbnail is read when needed, too, so that a copy of the node keeps the thumbnail.
    """
    uri = picture.uri or ""
    update: dict[str, Any] = {}
    if uri.startswith("data:"):
        update = {"image": base64.b64encode(of_data(uri)).decode()}
    elif uri.startswith(("http://", "https://")):
        update = {"image_url": uri}
    elif uri and Path(uri).is_file():
        update = {"image_path": uri, "image_mimetype": picture.mime_type}
    if picture.thumbnail and "image_path" in update:
        del update["image_mimetype"]  # of the file; the picture may be read as another
    elif update:
        return ImageNode.model_construct(**{**vars(node), **update})
    return PictureNode.model_construct(**{**vars(node), "image_url": None, "picture": picture, **update})


def _content(node: BaseNode) -> tuple[Input, Picture | None]:
    """Return what is encoded, and where it is if it is an image; a ValueError if it cannot be kept."""
    if not has_image(node):
        return node_input(node), None
    page, label = _page(node)
    if isinstance(node, PictureNode):  # a thumbnail must not replace the whole image
        content = node.picture.open()
        small = None if node.picture.is_changed(content) else node.picture.thumbnail
        return content, replace(_labelled(node.picture, page, label), thumbnail=small)
    image = node_image(node)
    if isinstance(image, bytes):
        kind = mime_type(image) or "application/octet-stream"
        return image, Picture(uri=f"data:{kind};base64,{base64.b64encode(image).decode()}", page=page, page_label=label)
    assert isinstance(image, Path)
    return image, Picture(uri=absolute(image).as_posix(), page=page, page_label=label)


def _page(node: BaseNode) -> tuple[int | None, str | None]:
    """Return the number of the page that an image node shows, and the label of the page if that is not its number."""
    label, number = node.metadata.get("page_label"), node.metadata.get(_PAGE_NUMBER)
    if not isinstance(label, str):
        return None, None
    if isinstance(number, int) and number > 0:
        return number, label if label != str(number) else None
    return (int(label) if _NUMBER.fullmatch(label) else None), None


def _labelled(picture: Picture, page: int | None, label: str | None) -> Picture:
    """Return a picture with what the metadata say of its page, unless it knows more."""
    if picture.page is None:
        return replace(picture, page=page, page_label=label)
    return picture if picture.page_label or page != picture.page else replace(picture, page_label=label)


def _embedded(node: BaseNode) -> tuple[str, str | None]:
    """Return the text of a node and its context: what LlamaIndex embeds in front of it, or around it.

    If nothing tells the two apart, as in a node without text, the text is all that is embedded.
    """
    whole, text = node.get_content(metadata_mode=MetadataMode.EMBED), node.get_content(metadata_mode=MetadataMode.NONE)
    if whole == text:
        return text, None
    above = whole.removesuffix(f"\n{text.rstrip()}")
    around = getattr(node, "text_template", "").format(
        content=TEXT, metadata_str=node.get_metadata_str(MetadataMode.EMBED).strip()
    )
    for context, part in product((above, around.strip()), (text.rstrip(), text.strip(), text)):  # the whole is stripped
        if part and context and with_context(part, context) == whole:
            return part, context
    return whole, None


def _is_of_metadata(stored: Stored) -> bool:
    """True if the context of an item is what LlamaIndex embedded of its metadata, not the headings of a file."""
    return bool(stored.context) and (_has_lines(stored) or _embedded(to_node(stored))[1] == stored.context)


def _has_lines(stored: Stored) -> bool:
    """True for a context as LlamaIndex's own template makes it: lines such as `author: ann`, then an empty line."""
    return not stored.unit and _LINES.fullmatch(stored.context) is not None


def _without_data(node: ImageNode) -> dict[str, Any]:
    """Return the changes that leave the data of an image out of a payload: the item's picture keeps them."""
    if isinstance(node, PictureNode):
        return {"picture": Picture()}
    places = ("image_path", "image_url")
    return dict.fromkeys(["image", *(name for name in places if str(getattr(node, name)).startswith("data:"))])


def _json_fields(node: BaseNode) -> dict[str, Any]:
    """Convert metadata to JSON values, also those of related nodes, which the payload repeats."""
    metadata = json_mapping(node.metadata)

    def converted(info: RelatedNodeInfo) -> RelatedNodeInfo:
        return info.model_copy(update={"metadata": json_value(info.metadata, name="metadata of a related node")})

    relationships = {
        kind: list(map(converted, related)) if isinstance(related, list) else converted(related)
        for kind, related in node.relationships.items()
    }
    return {"metadata": metadata, "relationships": relationships}


def _storable(node: BaseNode) -> BaseNode:
    """Return the node in a form that survives in a payload: an image at a path as an `ImageNode` with that path.

    An image in memory becomes base64 of that class: LlamaIndex's other classes would lose it. A document without text,
    which LlamaIndex could not read again, gets an empty one. A page of a file is drawn when it is needed.
    """
    if isinstance(node, PictureNode) and node.image_path not in (None, node.picture.uri):  # given another file
        node = ImageNode.model_construct(**{name: value for name, value in vars(node).items() if name != "picture"})
    if isinstance(node, Document) and not has_image(node) and node.text_resource is None:
        return node.model_copy(update={"text_resource": MediaResource(text="")})
    if isinstance(node, ImageNode) and not node.image_path and (number := page_of(node.image_url or "")[1]):
        return _with_picture(node, Picture(uri=absolute_uri(node.image_url or ""), page=number))
    if not has_image(node) or isinstance(node, PictureNode):
        return node
    image = node_image(node)
    if isinstance(node, ImageNode):
        if not isinstance(image, Path):
            return node
        url = None if node.image_path is None else node.image_url
        return node.model_copy(update={"image_path": str(absolute(image)), "image_url": url})
    assert isinstance(node, Node)
    assert isinstance(image, Path | bytes)
    return ImageNode(
        id_=node.node_id,
        text=(node.text_resource.text if node.text_resource else None) or "",
        image=base64.b64encode(image).decode() if isinstance(image, bytes) else None,
        image_path=str(absolute(image)) if isinstance(image, Path) else None,
        metadata=node.metadata,
        relationships=node.relationships,
        excluded_embed_metadata_keys=node.excluded_embed_metadata_keys,
        excluded_llm_metadata_keys=node.excluded_llm_metadata_keys,
        embedding=node.embedding,
    )


def _source(node: BaseNode) -> str | None:
    """Return the source that the metadata name, or else the node's document; None if their `source` is no string."""
    for key in ("source", "file_path"):
        name = node.metadata.get(key)
        if isinstance(name, str):
            return name
        if key == "source" and name is not None:
            return None
    return node.ref_doc_id


def _text(node: BaseNode) -> str | None:
    """Return the text of an image node; None if it has none."""
    text: Any = getattr(node, "text", None)
    return text or None
