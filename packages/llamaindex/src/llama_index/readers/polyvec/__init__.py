"""Images and PDFs as documents that keep their pictures."""

from llama_index.readers.polyvec.base import PolyvecReader

__all__ = ["PolyvecReader"]
