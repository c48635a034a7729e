"""A LangChain retriever that takes a text or an image."""

import asyncio
from typing import Any

from langchain_core.callbacks.manager import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from pydantic import ConfigDict, Field

from langchain_polyvec.documents import document
from langchain_polyvec.embeddings import PolyvecEmbeddings
from langchain_polyvec.images import ImageLike, picture
from langchain_polyvec.vectorstores import PolyvecVectorStore
from polyvec.types import Input
from qdrant_polyvec import Hit, Mode

SEARCHING, FOUND = "polyvec_searching", "polyvec_found"  # the custom events


class PolyvecRetriever(BaseRetriever):
    """The documents of a `PolyvecVectorStore` that suit a text, or an image.

    Setup:
        ```bash
        pip install "langchain-polyvec[qdrant]"
        ```

    Key init args:
        vectorstore: where to search.
        k: how many documents.
        mode: `"two-stage"`, `"late"`, `"dense"` or `"hybrid"`; as the store's unless given.
        search_kwargs: further options of the store's searches: `filter`, `task`, `candidates`, `score_threshold`.

    Instantiate:
        ```python
        from langchain_polyvec import PolyvecRetriever

        retriever = PolyvecRetriever(vectorstore=store, k=4)
        ```

    Usage:
        ```python
        retriever.invoke("revenue by region")
        retriever.invoke("revenue by region", k=1, filter={"lang": "en"})
        retriever.invoke("", image="chart.png")
        ```

    Use within a chain:
        ```python
        chain = {"context": retriever, "question": RunnablePassthrough()} | prompt | model
        ```

    Each search dispatches two custom events, which `astream_events` shows: `polyvec_searching` before it (`mode`, `k`)
    and `polyvec_found` after it (`n_documents`, `best_score`).
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    vectorstore: PolyvecVectorStore
    k: int = Field(default=4, gt=0)
    mode: Mode | None = None
    search_kwargs: dict[str, Any] = Field(default_factory=dict)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        image: ImageLike | None = None,
        **options: Any,  # Any: those of the store's searches
    ) -> list[Document]:
        how = self._how(k, options)
        events: Any = {"callbacks": run_manager.get_child()}
        dispatch_custom_event(SEARCHING, self._told(how), config=events)
        found = self.vectorstore.hits(_asked(query, image), **how)
        dispatch_custom_event(FOUND, _outcome(found), config=events)
        return [document(hit) for hit in found]

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        image: ImageLike | None = None,
        **options: Any,  # Any: those of the store's searches
    ) -> list[Document]:
        how = self._how(k, options)
        events: Any = {"callbacks": run_manager.get_child()}
        await adispatch_custom_event(SEARCHING, self._told(how), config=events)
        asked = await asyncio.to_thread(_asked, query, image)
        found = await self.vectorstore.ahits(asked, **how)
        await adispatch_custom_event(FOUND, _outcome(found), config=events)
        return [document(hit) for hit in found]

    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        params = super()._get_ls_params(**kwargs)
        params["ls_vector_store_provider"] = type(self.vectorstore).__name__
        embeddings = self.vectorstore.embeddings
        params["ls_embedding_provider"] = type(embeddings).__name__
        if isinstance(embeddings, PolyvecEmbeddings):
            client = embeddings.client
            params["ls_embedding_model"] = str(embeddings.model) if client is None else client.fingerprint
        return params

    def _told(self, how: dict[str, Any]) -> dict[str, Any]:
        return {"mode": how["mode"] or self.vectorstore.mode, "k": how["k"]}

    def _how(self, k: int | None, options: dict[str, Any]) -> dict[str, Any]:
        how = {"k": self.k, **self.search_kwargs, **options}
        return {**how, "k": how["k"] if k is None else k, "mode": how.get("mode") or self.mode}


def _asked(query: str, image: ImageLike | None) -> Input:
    if not isinstance(query, str):
        raise TypeError(f"the query is a {type(query).__name__}; an image goes in `image`: invoke('', image=…).")
    if image is None:
        return query
    if query:
        raise ValueError("a query is a text or an image; with an image, the text must be empty: invoke('', image=…).")
    return picture(image).content


def _outcome(found: list[Hit]) -> dict[str, Any]:
    return {"n_documents": len(found), "best_score": found[0].score if found else None}
