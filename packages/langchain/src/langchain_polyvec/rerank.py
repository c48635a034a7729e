"""Late-interaction re-ranking of documents from any store."""

import asyncio
import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from langchain_core.callbacks import BaseCallbackManager, Callbacks
from langchain_core.callbacks.manager import adispatch_custom_event, dispatch_custom_event
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field, field_validator

from langchain_polyvec.embeddings import PolyvecEmbeddings, relevance
from langchain_polyvec.images import IMAGE_URI, is_image, picture_of
from polyvec.images import open_image
from polyvec.rerank import scores, stored_multivectors
from polyvec.types import Input

RERANKING, RERANKED = "polyvec_reranking", "polyvec_reranked"  # the custom events


class PolyvecRerank(BaseDocumentCompressor):
    """Order documents by MaxSim between the multi-vectors of the query and of each document, text or image.

    Setup:
        ```bash
        pip install langchain-polyvec
        ```

    Key init args:
        embeddings: makes the multi-vectors.
        top_n: number of documents to keep.
        vectorstore: a `PolyvecVectorStore`. Documents that it holds unchanged are scored by their stored
            multi-vectors; others are encoded.

    Instantiate:
        ```python
        from langchain_polyvec import PolyvecEmbeddings, PolyvecRerank

        rerank = PolyvecRerank(embeddings=PolyvecEmbeddings(model="demo"), top_n=3)
        ```

    Usage:
        ```python
        rerank.compress_documents(documents, "revenue by region")
        ```

    A document with `image_uri` in its metadata counts by that image, or else by its thumbnail; other documents count by
    their text. The returned documents are copies with `metadata["relevance_score"]`: MaxSim per query token on a scale
    from 0 to 1, like the relevance scores of `PolyvecVectorStore`. A document whose image cannot be read counts by its
    text; without a text it comes last, with a warning.

    Within a run, such as that of `ContextualCompressionRetriever`, it dispatches two custom events: `polyvec_reranking`
    (`n_documents`, `top_n`) and `polyvec_reranked` (`n_documents`, `best_score`).
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    embeddings: PolyvecEmbeddings
    top_n: int = Field(default=3, gt=0)
    vectorstore: Any = Field(default=None, repr=False)  # Any: a PolyvecVectorStore, which needs the extra `qdrant`

    @field_validator("vectorstore")
    @classmethod
    def _check_vectorstore(cls, store: Any) -> Any:
        if store is not None and not hasattr(store, "stored"):
            raise ValueError(f"a {type(store).__name__} keeps no multi-vectors; leave `vectorstore` out.")
        return store

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """Return the `top_n` documents, best first."""
        events: Any = {"callbacks": callbacks} if _is_run(callbacks) else None
        if events:
            dispatch_custom_event(RERANKING, self._event(documents), config=events)
        best = self._best(documents, query)
        if events:
            dispatch_custom_event(RERANKED, _outcome(best), config=events)
        return best

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """`compress_documents` without blocking the event loop."""
        events: Any = {"callbacks": callbacks} if _is_run(callbacks) else None
        if events:
            await adispatch_custom_event(RERANKING, self._event(documents), config=events)
        best = await asyncio.to_thread(self._best, documents, query)
        if events:
            await adispatch_custom_event(RERANKED, _outcome(best), config=events)
        return best

    def _best(self, documents: Sequence[Document], query: str) -> list[Document]:
        if not documents:
            return []
        encoder, task = self.embeddings.encoder, self.embeddings.task
        stored = self._stored(documents)
        similarities = scores(query, documents, _content, encoder=encoder, task=task, stored=stored)
        best = np.argsort(-similarities, kind="stable")[: self.top_n]
        return [_with_score(documents[index], relevance(similarities[index])) for index in best]

    def _event(self, documents: Sequence[Document]) -> dict[str, Any]:
        return {"n_documents": len(documents), "top_n": self.top_n}

    def _stored(self, documents: Sequence[Document]) -> dict[int, np.ndarray]:
        """Read the multi-vectors of documents that the store holds unchanged, by position."""
        if self.vectorstore is None:
            return {}
        from langchain_polyvec.documents import document  # needs the extra `qdrant`, which brought the store

        return stored_multivectors(
            [item.id for item in documents],
            lambda index, item: _is_same(documents[index], document(item)),
            get=self.vectorstore.stored,
            embeddings=partial(self.vectorstore.collection.embeddings, multivector=True),
            encoder=self.embeddings.encoder,
            task=self.embeddings.task,
        )


def _content(document: Document) -> Input:
    """Return what is encoded: the image of a document, or its text if it has no image or the image is lost."""
    try:
        picture = picture_of(document.metadata)
        return document.page_content if picture is None else picture.read(open_image)
    except ValueError:
        if document.page_content:
            return document.page_content
        raise


def _is_same(document: Document, stored: Document) -> bool:
    """True if a document is what is stored under its id."""
    if is_image(stored.metadata) != is_image(document.metadata):
        return False
    if not is_image(stored.metadata):
        return document.page_content == stored.page_content
    sha256 = stored.metadata.get("image_sha256")
    is_same_image = document.metadata.get("image_sha256", sha256) == sha256
    return is_same_image and document.metadata.get(IMAGE_URI) == stored.metadata.get(IMAGE_URI)


def _is_run(callbacks: Callbacks | None) -> bool:
    """True if the callbacks are those of a run: LangChain has custom events only within one."""
    return isinstance(callbacks, BaseCallbackManager) and callbacks.parent_run_id is not None


def _outcome(best: Sequence[Document]) -> dict[str, Any]:
    return {"n_documents": len(best), "best_score": best[0].metadata["relevance_score"] if best else None}


def _with_score(document: Document, score: float) -> Document:
    metadata = {**copy.deepcopy(document.metadata), "relevance_score": score}
    return Document(id=document.id, page_content=document.page_content, metadata=metadata)
