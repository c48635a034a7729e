"""Retrieve documents by a text or an image."""

import asyncio
from typing import Any, Literal, Self, Unpack

from langchain_core.callbacks.manager import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from pydantic import ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from langchain_polyvec.documents import document
from langchain_polyvec.embeddings import PolyvecEmbeddings
from langchain_polyvec.images import ImageLike, located
from langchain_polyvec.searches import StoreOptions, hit_relevance
from langchain_polyvec.vectorstores import PolyvecVectorStore
from polyvec.types import Input
from qdrant_polyvec import Hit, Mode

SEARCHING, FOUND = "polyvec_searching", "polyvec_found"  # the custom events


SearchType = Literal["similarity", "mmr", "similarity_score_threshold"]


class RetrieverOptions(StoreOptions, total=False):
    """Options of every call of a `PolyvecRetriever`, beside `k` and `image`."""

    fetch_k: int
    """Of search type `mmr`: number of documents to choose from. Default: 20."""
    lambda_mult: float
    """Of search type `mmr`: 1 maximizes relevance, 0 diversity. Default: 0.5."""


class PolyvecRetriever(BaseRetriever):
    """Retrieve the documents of a `PolyvecVectorStore` that suit a text or an image.

    Setup:
        ```bash
        pip install "langchain-polyvec[qdrant]"
        ```

    Key init args:
        vectorstore: the store to search.
        k: number of documents.
        mode: `"two-stage"`, `"late"`, `"dense"` or `"hybrid"`; by default the store's mode.
        search_type: `"similarity"`; `"mmr"` for documents that differ from each other; `"similarity_score_threshold"`
            for those with a relevance of at least `search_kwargs["score_threshold"]`, from 0 to 1.
        search_kwargs: further options; see `retrievers.RetrieverOptions`.
        scores: give each document its relevance, from 0 to 1, as `metadata["relevance_score"]`.

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

    vectorstore: SkipJsonSchema[PolyvecVectorStore]
    k: int = Field(default=4, gt=0)
    mode: Mode | None = None
    search_type: SearchType = "similarity"
    scores: bool = False
    search_kwargs: dict[str, Any] = Field(default_factory=dict)  # Any: options, and `k`

    @model_validator(mode="after")
    def _has_threshold(self) -> Self:
        if self.search_type == "similarity_score_threshold":
            _checked_threshold(self.search_kwargs.get("score_threshold"))
        return self

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        image: ImageLike | None = None,
        **options: Unpack[RetrieverOptions],
    ) -> list[Document]:
        search = self._options(k, options)
        events: Any = {"callbacks": run_manager.get_child()}
        dispatch_custom_event(SEARCHING, self._event(search), config=events)
        threshold, is_diverse = self._threshold(search), self.search_type == "mmr"
        find = self.vectorstore.diverse_hits if is_diverse else self.vectorstore.hits
        hits = _relevant(find(_input(query, image), **search), threshold)
        dispatch_custom_event(FOUND, _outcome(hits), config=events)
        return self._documents(hits)

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        image: ImageLike | None = None,
        **options: Unpack[RetrieverOptions],
    ) -> list[Document]:
        search = self._options(k, options)
        events: Any = {"callbacks": run_manager.get_child()}
        await adispatch_custom_event(SEARCHING, self._event(search), config=events)
        item = await asyncio.to_thread(_input, query, image)
        threshold, is_diverse = self._threshold(search), self.search_type == "mmr"
        find = self.vectorstore.adiverse_hits if is_diverse else self.vectorstore.ahits
        hits = _relevant(await find(item, **search), threshold)
        await adispatch_custom_event(FOUND, _outcome(hits), config=events)
        return self._documents(hits)

    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        params = super()._get_ls_params(**kwargs)
        params["ls_vector_store_provider"] = type(self.vectorstore).__name__
        embeddings = self.vectorstore.embeddings
        params["ls_embedding_provider"] = type(embeddings).__name__
        if isinstance(embeddings, PolyvecEmbeddings):
            client = embeddings.client
            params["ls_embedding_model"] = str(embeddings.model) if client is None else client.fingerprint
        return params

    def _event(self, search: dict[str, Any]) -> dict[str, Any]:
        return {"mode": search["mode"] or self.vectorstore.mode, "k": search["k"]}

    def _threshold(self, search: dict[str, Any]) -> float | None:
        """Take the smallest relevance out of the options; None if the search type has none."""
        if self.search_type != "similarity_score_threshold":
            return None
        return _checked_threshold(search.pop("score_threshold"))

    def _documents(self, hits: list[Hit]) -> list[Document]:
        documents = [document(hit) for hit in hits]
        if self.scores:
            for hit, shown in zip(hits, documents, strict=True):
                shown.metadata["relevance_score"] = hit_relevance(hit)
        return documents

    def _options(self, k: int | None, options: RetrieverOptions) -> dict[str, Any]:
        search = {"k": self.k, **self.search_kwargs, **options}
        return {**search, "k": search["k"] if k is None else k, "mode": search.get("mode") or self.mode}


def _input(query: str, image: ImageLike | None) -> Input:
    if not isinstance(query, str):
        raise TypeError(f"the query is a {type(query).__name__}; an image goes in `image`: invoke('', image=…).")
    if image is None:
        return query
    if query:
        raise ValueError("a query is a text or an image; with an image, the text must be empty: invoke('', image=…).")
    return located(image).content


def _checked_threshold(value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(
            f"`score_threshold` is {value!r}; search type 'similarity_score_threshold' needs a relevance from 0 to 1, "
            "as in search_kwargs={'score_threshold': 0.8}."
        )
    return value


def _relevant(hits: list[Hit], threshold: float | None) -> list[Hit]:
    return hits if threshold is None else [hit for hit in hits if hit_relevance(hit) >= threshold]


def _outcome(hits: list[Hit]) -> dict[str, Any]:
    return {"n_documents": len(hits), "best_score": hits[0].score if hits else None}
