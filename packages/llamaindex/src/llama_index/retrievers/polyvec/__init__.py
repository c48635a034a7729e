"""A retriever for texts, images, or both at once (extra: `qdrant`)."""

from llama_index.retrievers.polyvec.base import PolyvecRetriever

__all__ = ["PolyvecRetriever"]
