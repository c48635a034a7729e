"""Texts, images and pages in one space, by jina-embeddings-v4."""

from llama_index.embeddings.polyvec.base import PolyvecEmbedding, UnreadableNodes

__all__ = ["PolyvecEmbedding", "UnreadableNodes"]
