"""Late-interaction re-ranking of text and image nodes."""

from llama_index.postprocessor.polyvec.base import PolyvecRerank

__all__ = ["PolyvecRerank"]
