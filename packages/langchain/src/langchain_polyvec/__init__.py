"""Texts, images and pages in LangChain: embeddings, a multi-vector store, a retriever, a re-ranker."""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from langchain_polyvec.embeddings import PolyvecEmbeddings
from langchain_polyvec.loaders import PolyvecLoader
from langchain_polyvec.messages import content_blocks
from langchain_polyvec.rerank import PolyvecRerank
from langchain_polyvec.self_query import PolyvecTranslator

if TYPE_CHECKING:
    from langchain_polyvec.retrievers import PolyvecRetriever
    from langchain_polyvec.vectorstores import PolyvecVectorStore
    from qdrant_polyvec import UnstoredItems

__all__ = [
    "PolyvecEmbeddings",
    "PolyvecLoader",
    "PolyvecRerank",
    "PolyvecRetriever",
    "PolyvecTranslator",
    "PolyvecVectorStore",
    "UnstoredItems",
    "content_blocks",
]

_MODULES = {
    "PolyvecRetriever": f"{__name__}.retrievers",
    "PolyvecVectorStore": f"{__name__}.vectorstores",
    "UnstoredItems": "qdrant_polyvec",
}


def __getattr__(name: str) -> Any:  # whatever the name stands for
    """Import the store on first access, since it needs the extra `qdrant`."""
    if name == "__version__":
        return metadata.version("langchain-polyvec")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(_MODULES[name])
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("qdrant_polyvec", "qdrant_client", "qdrant_edge"):
            raise
        raise ImportError(
            f"{name} keeps things in Qdrant; install that with `pip install 'langchain-polyvec[qdrant]'`."
        ) from error
    return getattr(module, name)
