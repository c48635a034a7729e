"""Images in the forms in which LlamaIndex's users and nodes hold them."""

from collections.abc import Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
from llama_index.core.base.llms.types import BaseContentBlock, TextBlock
from llama_index.core.bridge.pydantic import Field, field_serializer
from llama_index.core.schema import (
    BaseNode,
    ImageNode,
    MediaResource,
    MetadataMode,
    Node,
    ObjectType,
    RelatedNodeInfo,
    TextNode,
)
from PIL import Image

from polyvec import ImageInput, Input
from polyvec.images import open_image
from polyvec.paths import path_of
from polyvec.pictures import Picture, PictureLimits, decoded, encoded, of_data, opened
from polyvec.warning import warn

# A string is a path, a `file:` URI or a `data:` URI; bytes and streams are the content of a file.
ImageLike = str | ImageInput | BytesIO | BaseNode | MediaResource


class PictureNode(ImageNode):
    """An image node whose picture is read when it is needed: a page of a PDF, which is drawn, or a thumbnail.

    A cache or document store of LlamaIndex keeps it as an `ImageNode` whose `image_url` says where the picture is, such
    as `/folder/report.pdf#page=1`; the vector store keeps the rest of `picture`, too. Prompts
    get the picture within the `limits` of `polyvec.pictures.PictureLimits`.
    """

    picture: Picture = Field(default_factory=Picture, exclude=True, repr=False)
    limits: Mapping[str, int | None] = Field(default_factory=dict, exclude=True, repr=False)

    def __getattribute__(self, name: str) -> Any:
        if name == "image":  # the field of base64 that LlamaIndex's prompts read
            return self.picture.read(partial(encoded, **cast("PictureLimits", self.limits)))[0]
        if name == "image_mimetype":  # known when the picture is read, from its content; that of a file may be another
            return None
        return super().__getattribute__(name)

    @field_serializer("image_url")
    def _place(self, url: str | None) -> str | None:
        return url or self.picture.uri

    def as_related_node_info(self) -> RelatedNodeInfo:
        """Say that it is a text: an index would fetch any other node from its document store, which draws no pages."""
        return super().as_related_node_info().model_copy(update={"node_type": ObjectType.TEXT})

    @property
    def hash(self) -> str:
        """A hash of the text and of where the picture is."""
        return TextNode(text=f"{self.picture.uri} {self.picture.sha256} {self.text}").hash

    def get_content_blocks(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> list[BaseContentBlock]:
        """Return the blocks of a prompt; the node's text instead of a picture that is lost, with a warning."""
        try:
            return super().get_content_blocks(metadata_mode)
        except ValueError as error:
            warn(f"the picture of node {self.node_id!r} is left out: {error}")
            return [*self.get_metadata_content_blocks(metadata_mode), TextBlock(text=self.text)]


def image_input(image: ImageLike) -> ImageInput:
    """Convert an image in any form to an input of an encoder. Files are not opened.

    Raises:
        TypeError: it is no image.
        ValueError: it is at a URL, which is never fetched, or a node without an image.
    """
    match image:
        case str():
            return _at(image)
        case BytesIO():
            return image.getvalue()
        case MediaResource():
            return _resource_image(image)
        case BaseNode():
            if (converted := node_image(image)) is None:
                raise ValueError(f"node {image.node_id!r} has no image")
            return converted
        case Path() | bytes() | np.ndarray() | Image.Image():
            return image
    raise TypeError(
        f"a {type(image).__name__} is no image: give a path, bytes, BytesIO, a PIL image, a numpy array, or a "
        "node with an image."
    )


def has_image(node: BaseNode) -> bool:
    """True if a node has an image, whatever else it contains."""
    return isinstance(node, ImageNode) or (isinstance(node, Node) and node.image_resource is not None)


def node_image(node: BaseNode) -> ImageInput | None:
    """Return the image of a node; None if the node is a text.

    Raises:
        ValueError: an image node without an image, or with one at a URL, which is never fetched.
    """
    if isinstance(node, PictureNode):
        return node.picture.read(open_image)
    if isinstance(node, ImageNode):
        if node.image is not None:
            return _decoded(node.image)
        if node.image_path is not None:
            return _at(node.image_path)
        if node.image_url is not None:
            return opened(node.image_url)
        raise ValueError("it is an ImageNode without an image: give `image_path`")
    resource = node.image_resource if isinstance(node, Node) else None
    return None if resource is None else _resource_image(resource)


def node_input(node: BaseNode) -> Input:
    """Return what is encoded: the image of a node, or its text in `MetadataMode.EMBED`.

    A blank text is encoded, too.

    Raises:
        ValueError: the node's image cannot be reached.
    """
    image = node_image(node)
    return node.get_content(metadata_mode=MetadataMode.EMBED) if image is None else image


def _resource_image(resource: MediaResource) -> ImageInput:
    if resource.data is not None:
        return _decoded(resource.data)
    if resource.path is not None:
        return Path(resource.path)
    if resource.url is not None:
        return _at(str(resource.url))
    raise ValueError("its image resource has neither data nor path")


def _at(uri: str) -> ImageInput:
    """Return the path that a string names, or the content of a `data:` URI."""
    return of_data(uri) if uri.startswith("data:") else path_of(uri)


def _decoded(data: str | bytes) -> bytes:
    """Return the image of which LlamaIndex keeps base64, or a `data:` URI, or base64 of a `data:` URI."""
    text = data.decode("latin-1") if isinstance(data, bytes) else data
    if text.startswith("data:"):
        return of_data(text)
    content = decoded(text)
    return of_data(content.decode("latin-1")) if content.startswith(b"data:") else content
