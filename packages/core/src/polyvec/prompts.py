"""Which text surrounds an input, per task and side (the checkpoint's own convention; it knows no instructions)."""

from polyvec.types import Side

__all__ = ["IMAGE_INSTRUCTION", "IMAGE_PROMPT", "prefix"]

IMAGE_PROMPT = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Describe the image.<|im_end|>\n"
IMAGE_INSTRUCTION = "Describe the image."  # the text of an item of image and text stands in its place

_PREFIXES: dict[Side, str] = {"query": "Query: ", "document": "Passage: "}


def prefix(task: str, side: Side) -> str:
    """The words before a text. text-matching is symmetric: both sides carry the query's."""
    return _PREFIXES["query" if task == "text-matching" else side]
