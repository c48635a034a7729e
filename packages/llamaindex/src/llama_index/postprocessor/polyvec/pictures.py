"""Bounds for the pictures that a multimodal model gets."""

import base64
from pathlib import Path
from typing import Any

from llama_index.core.bridge.pydantic import ConfigDict, Field, ValidationInfo, field_validator
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, ImageNode, NodeWithScore, QueryBundle

from llama_index.embeddings.polyvec.images import PictureNode, node_image
from polyvec.paths import absolute
from polyvec.pictures import MAX_BYTES, MAX_PIXELS, Picture, PictureLimits, check_limits


class PolyvecPictures(BaseNodePostprocessor):
    """Bound the pictures of image nodes in prompts, by pixels and by bytes.

    A picture is read, and shrunk if need be, when a prompt asks for it. The original nodes are not changed. An image
    at a URL, which the model's provider reads, stays as it is. Put this postprocessor last: `PolyvecRerank`
    takes stored multi-vectors of unchanged nodes only.

    Examples:
        ```python
        from llama_index.core.query_engine import RetrieverQueryEngine
        from llama_index.postprocessor.polyvec import PolyvecPictures

        bounds = PolyvecPictures(max_pixels=1_000_000)
        RetrieverQueryEngine.from_args(retriever, llm=llm, multimodal=True, node_postprocessors=[bounds])
        ```
    """

    model_config = ConfigDict(extra="forbid")

    max_pixels: int | None = Field(default=MAX_PIXELS, description="See `polyvec.pictures.PictureLimits`.")
    max_bytes: int | None = Field(default=MAX_BYTES, description="See `polyvec.pictures.PictureLimits`.")

    @field_validator("max_pixels", "max_bytes", mode="before")
    @classmethod
    def _check(cls, value: Any, info: ValidationInfo) -> Any:
        check_limits({str(info.field_name): value})
        return value

    @classmethod
    def class_name(cls) -> str:
        return "PolyvecPictures"

    def _postprocess_nodes(
        self,
        nodes: list[NodeWithScore],
        query_bundle: QueryBundle | None = None,  # noqa: ARG002 — LlamaIndex's signature
    ) -> list[NodeWithScore]:
        limits: PictureLimits = {"max_pixels": self.max_pixels, "max_bytes": self.max_bytes}
        return [NodeWithScore(node=_bounded(item.node, limits), score=item.score) for item in nodes]


def _bounded(node: BaseNode, limits: PictureLimits) -> BaseNode:
    if isinstance(node, PictureNode):
        return node.model_copy(update={"limits": limits})
    if not isinstance(node, ImageNode):
        return node
    try:
        image = node_image(node)
    except ValueError:  # at a URL, or nowhere: LlamaIndex knows
        return node
    if isinstance(image, bytes):
        uri = f"data:application/octet-stream;base64,{base64.b64encode(image).decode()}"
    else:
        assert isinstance(image, Path)
        uri = absolute(image).as_posix()
    # The data stand in the picture alone, and it may get another type than the file.
    update = {"image": None, "image_mimetype": None, "picture": Picture(uri=uri), "limits": limits}
    return PictureNode.model_construct(**{**vars(node), **update})
