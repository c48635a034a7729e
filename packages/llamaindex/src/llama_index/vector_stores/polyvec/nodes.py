"""LlamaIndex's nodes as items of a collection, and back."""

from pathlib import Path
from typing import Any

from llama_index.core.schema import BaseNode, Document, ImageNode, Node, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from llama_index.embeddings.polyvec.images import has_image, node_image, node_input
from polyvec.paths import absolute, printable
from qdrant_polyvec import Failure, Item, Stored
from qdrant_polyvec.metadata import json_mapping, json_value
from qdrant_polyvec.schema import RESERVED

__all__ = ["to_node"]


def to_item(node: BaseNode, *, index: int, task: str, dim: int) -> Item | Failure:
    """Convert a node to an item with the payload that the stock Qdrant store writes, or to the reason why not.

    The collection's own metadata are the node's, for other readers. Of the node's embedding only the length is checked:
    the vectors are made again together with the multi-vector, in one pass.
    """
    # A document that was not cut into nodes is its own; the stock store writes "None", and could never delete it.
    document = node.ref_doc_id or (node.node_id if isinstance(node, Document) else None)
    source = _source(node)
    try:
        node = _storable(node.model_copy(update=_json_fields(node)))
        source = _source(node)
        content = node_input(node)
        payload = node_to_metadata_dict(node, remove_text=False, flat_metadata=False)
        payload |= dict.fromkeys(("document_id", "doc_id", "ref_doc_id"), document)
    except (TypeError, ValueError) as error:
        return Failure(index, printable(source or node.node_id), str(error), node.node_id)
    if node.embedding is not None and len(node.embedding) != dim:
        reason = f"its embedding has {len(node.embedding)} numbers, the store's {dim}: another model made it"
        return Failure(index, source or node.node_id, reason, node.node_id)
    metadata = {key: value for key, value in node.metadata.items() if key != "source"}
    return Item(
        content,
        id=node.node_id,
        source=source,
        unit="",
        task=task,
        metadata=metadata,
        text=None if isinstance(content, str) else _text(node),
        payload={key: value for key, value in payload.items() if key not in RESERVED},
    )


def to_node(stored: Stored) -> BaseNode:
    """Convert a stored item to the node that was added. Items of other writers become texts or images."""
    if "_node_content" in stored.payload:
        return metadata_dict_to_node(stored.payload)
    if stored.kind == "image":
        path = stored.metadata.get("image_uri") or stored.source
        text = "" if stored.content == stored.source else stored.content
        # The file of a page would show its first page.
        fields = {"image_path": path} if not stored.unit.startswith("page ") and Path(path).is_file() else {}
        return ImageNode(id_=str(stored.id), text=text, metadata=dict(stored.metadata), **fields)
    return TextNode(id_=str(stored.id), text=stored.content, metadata=dict(stored.metadata))


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

    Raises:
        ValueError: the image is in memory only, where LlamaIndex's own classes would lose it.
    """
    if not has_image(node):
        return node
    path = node_image(node)
    if isinstance(node, ImageNode):
        if not isinstance(path, Path):
            return node
        url = None if node.image_path is None else node.image_url
        return node.model_copy(update={"image_path": str(absolute(path)), "image_url": url})
    assert isinstance(node, Node)
    if not isinstance(path, Path):
        raise ValueError(  # noqa: TRY004 — the node is wrong, not a type
            "its image is in memory only and would be lost: save it, and give `image_path` (or keep it as base64 in "
            "`ImageNode(image=…)`)"
        )
    return ImageNode(
        id_=node.node_id,
        text=(node.text_resource.text if node.text_resource else None) or "",
        image_path=str(absolute(path)),
        metadata=node.metadata,
        relationships=node.relationships,
        excluded_embed_metadata_keys=node.excluded_embed_metadata_keys,
        excluded_llm_metadata_keys=node.excluded_llm_metadata_keys,
        embedding=node.embedding,
    )


def _source(node: BaseNode) -> str | None:
    """Return the source that the metadata name, or else the node's document."""
    for key in ("source", "file_path"):
        if isinstance(name := node.metadata.get(key), str):
            return name
    return node.ref_doc_id


def _text(node: BaseNode) -> str | None:
    """Return the text of an image node; None if it has none."""
    text: Any = getattr(node, "text", None)
    return text or None
