"""Images as LlamaIndex's users and nodes have them."""

import base64
import binascii
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
from llama_index.core.schema import BaseNode, ImageNode, MediaResource, MetadataMode, Node
from PIL import Image

from polyvec.types import ImageInput, Input

# A string is a path; bytes and streams are the content of a file.
ImageLike = str | ImageInput | BytesIO | BaseNode | MediaResource


def image_input(image: ImageLike) -> ImageInput:
    """The image that is meant. Files are not opened yet.

    Raises:
        TypeError: it is no image.
        ValueError: it is at a URL, which is never fetched, or a node without an image.
    """
    match image:
        case str():
            return _path(image)
        case BytesIO():
            return image.getvalue()
        case MediaResource():
            return _of_resource(image)
        case BaseNode():
            found = node_image(image)
            if found is None:
                raise ValueError(f"node {image.node_id!r} has no image")
            return found
        case Path() | bytes() | np.ndarray() | Image.Image():
            return image
    raise TypeError(
        f"a {type(image).__name__} is no image: give a path, bytes, BytesIO, a PIL image, a numpy array, or a "
        "node with an image."
    )


def has_image(node: BaseNode) -> bool:
    """Whether a node is an image, whatever else it says."""
    return isinstance(node, ImageNode) or (isinstance(node, Node) and node.image_resource is not None)


def node_image(node: BaseNode) -> ImageInput | None:
    """The image that a node is; None if it is a text.

    Raises:
        ValueError: it is an image, but says not where, or is at a URL, which is never fetched.
    """
    if isinstance(node, ImageNode):
        if node.image is not None:
            return _decoded(node.image)
        if node.image_path is not None:
            return _path(node.image_path)
        if node.image_url is not None:
            return _path(node.image_url)
        raise ValueError("it is an ImageNode without an image: give `image_path`")
    resource = node.image_resource if isinstance(node, Node) else None
    return None if resource is None else _of_resource(resource)


def node_input(node: BaseNode) -> Input:
    """What of a node is encoded: its image, or its text as LlamaIndex means it to be embedded.

    Raises:
        ValueError: it has neither, or its image cannot be had.
    """
    image = node_image(node)
    if image is not None:
        return image
    text = node.get_content(metadata_mode=MetadataMode.EMBED)
    if not text:
        raise ValueError("it has neither text nor image")
    return text


def _of_resource(resource: MediaResource) -> ImageInput:
    if resource.data is not None:
        return _decoded(resource.data)
    if resource.path is not None:
        return Path(resource.path)
    if resource.url is not None:
        return _path(str(resource.url))
    raise ValueError("its image resource has neither data nor path")


def _path(place: str) -> Path:
    if "://" in place and not place.startswith("file://"):
        raise ValueError(
            f"{place[:200]!r} is not fetched: nothing here opens connections by itself. Give the bytes that "
            "`polyvec.images.fetch(url)` returns, or a path"
        )
    return Path(url2pathname(urlsplit(place).path)) if place.startswith("file://") else Path(place)


def _decoded(data: Any) -> bytes:
    """Of base64, in which LlamaIndex keeps what is in memory."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError(f"its image is not valid base64: {error}") from error
