"""LlamaIndex's nodes and what a collection keeps, each made of the other."""

from pathlib import Path
from typing import Any

from llama_index.core.schema import BaseNode, Document, ImageNode, Node, TextNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from llama_index.embeddings.polyvec.images import has_image, node_image, node_input
from qdrant_polyvec import Failure, Hit, Item, Stored
from qdrant_polyvec.items import TAKEN


def item(node: BaseNode, task: str, *, dim: int) -> Item | Failure:
    """A node to add, with the payload that the stock Qdrant store writes; or why it cannot be.

    The collection's own metadata are the node's, for other readers. An embedding that the node brings is looked at for
    its length only: the vectors are made again together with the multi-vector, in one pass.
    """
    # A document that was not cut into nodes is its own; the stock store writes "None", and could never delete it.
    document = node.ref_doc_id or (node.node_id if isinstance(node, Document) else None)
    try:
        node = _lasting(node)
        content = node_input(node)
        payload = node_to_metadata_dict(node, remove_text=False, flat_metadata=False)
        payload |= dict.fromkeys(("document_id", "doc_id", "ref_doc_id"), document)
    except (TypeError, ValueError) as error:  # what pydantic cannot write as JSON is a ValueError
        return Failure(node.node_id, _source(node) or node.node_id, str(error))
    if node.embedding is not None and len(node.embedding) != dim:
        reason = f"its embedding has {len(node.embedding)} numbers, the store's {dim}: another model made it"
        return Failure(node.node_id, _source(node) or node.node_id, reason)
    source = _source(node)
    metadata = {key: value for key, value in payload.items() if key in node.metadata and key != "source"}
    return Item(
        content,
        id=node.node_id,
        source=source,
        unit="",
        task=task,
        metadata=metadata,
        text=None if isinstance(content, str) else _text(node),
        payload={key: value for key, value in payload.items() if key not in TAKEN},
    )


def node(found: Hit | Stored) -> BaseNode:
    """What was found, as the node that was added; what others have added becomes a text or an image."""
    if "_node_content" in found.payload:
        return metadata_dict_to_node(found.payload)
    if found.kind == "image":
        path = found.metadata.get("image_uri") or found.source
        text = "" if found.content == found.source else found.content
        shown = {"image_path": path} if Path(path).is_file() else {}
        return ImageNode(id_=str(found.id), text=text, metadata=dict(found.metadata), **shown)
    return TextNode(id_=str(found.id), text=found.content, metadata=dict(found.metadata))


def _lasting(node: BaseNode) -> BaseNode:
    """The node as it survives in a payload: an image at a path as an `ImageNode`, whatever class it had.

    Raises:
        ValueError: the image is in memory only, where LlamaIndex's own classes would lose it.
    """
    if isinstance(node, ImageNode):
        is_file = node.image is None and node.image_path is None and str(node.image_url).startswith("file://")
        return node.model_copy(update={"image_path": str(node_image(node)), "image_url": None}) if is_file else node
    if not has_image(node):
        return node
    assert isinstance(node, Node)
    path = node_image(node)
    if not isinstance(path, Path):
        raise ValueError(  # noqa: TRY004 — it is the node that is wrong
            "its image is in memory only and would be lost: save it, and give `image_path` (or keep it as base64 in "
            "`ImageNode(image=…)`)"
        )
    return ImageNode(
        id_=node.node_id,
        text=(node.text_resource.text if node.text_resource else None) or "",
        image_path=str(path),
        metadata=node.metadata,
        relationships=node.relationships,
        excluded_embed_metadata_keys=node.excluded_embed_metadata_keys,
        excluded_llm_metadata_keys=node.excluded_llm_metadata_keys,
        embedding=node.embedding,
    )


def _source(node: BaseNode) -> str | None:
    """Where a node is from: what its metadata say, else its document."""
    for key in ("source", "file_path"):
        if isinstance(named := node.metadata.get(key), str):
            return named
    return node.ref_doc_id


def _text(node: BaseNode) -> str | None:
    """What an image says."""
    text: Any = getattr(node, "text", None)
    return text or None
