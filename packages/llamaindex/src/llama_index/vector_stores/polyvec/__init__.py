"""Texts, images and pages with dense vectors and multi-vectors in Qdrant (extra: `qdrant`)."""

try:
    from llama_index.vector_stores.polyvec.base import PolyvecVectorStore
    from llama_index.vector_stores.polyvec.ingestion import LeaveToStore, replacing
    from llama_index.vector_stores.polyvec.queries import QueryOptions
    from qdrant_polyvec import UnstoredItems
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("qdrant_polyvec", "qdrant_client", "qdrant_edge"):
        raise
    raise ImportError(
        "PolyvecVectorStore keeps nodes in Qdrant; install that with "
        "`pip install 'llama-index-embeddings-polyvec[qdrant]'`."
    ) from error

__all__ = ["LeaveToStore", "PolyvecVectorStore", "QueryOptions", "UnstoredItems", "replacing"]
