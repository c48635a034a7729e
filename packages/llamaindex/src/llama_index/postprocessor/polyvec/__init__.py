"""Late-interaction re-ranking of text and image nodes, and bounds for the pictures in prompts."""

from llama_index.postprocessor.polyvec.base import PolyvecRerank
from llama_index.postprocessor.polyvec.pictures import PolyvecPictures

__all__ = ["PolyvecPictures", "PolyvecRerank"]
