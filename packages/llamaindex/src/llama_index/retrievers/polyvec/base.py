"""A LlamaIndex retriever that takes a text, an image, or both."""

import asyncio
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import IndexNode, NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters

from llama_index.embeddings.polyvec.images import image_input
from llama_index.vector_stores.polyvec import PolyvecVectorStore
from llama_index.vector_stores.polyvec.base import similarity
from llama_index.vector_stores.polyvec.nodes import node
from polyvec.types import Input
from qdrant_polyvec import Hit, Mode
from qdrant_polyvec.query import RRF_K
from qdrant_polyvec.search import Tasks


class PolyvecRetriever(BaseRetriever):
    """The nodes of a `PolyvecVectorStore` that suit a query: its text, its `image_path`, or both.

    A query with several parts (a text and an image, or several `custom_embedding_strs`) is searched part by part, and
    the rankings are merged by reciprocal rank fusion. Query and `embedding` of the bundle stay as they are.

    Examples:
        ```python
        from llama_index.core.schema import QueryBundle
        from llama_index.retrievers.polyvec import PolyvecRetriever

        retriever = PolyvecRetriever(store, similarity_top_k=4)
        retriever.retrieve("revenue by region")
        retriever.retrieve(QueryBundle("revenue", image_path="chart.png"))
        ```
    """

    def __init__(
        self,
        vector_store: PolyvecVectorStore,
        *,
        similarity_top_k: int = 4,
        filters: MetadataFilters | None = None,
        mode: Mode | None = None,
        task: Tasks | None = None,
        candidates: int | None = None,
        score_threshold: float | None = None,
        oversampling: float | None = None,
        node_ids: Sequence[str] | None = None,
        doc_ids: Sequence[str] | None = None,
        callback_manager: CallbackManager | None = None,
        object_map: dict[str, Any] | None = None,
        objects: list[IndexNode] | None = None,
        verbose: bool = False,
    ) -> None:
        """Retrieve from a store.

        Args:
            vector_store: where to search.
            similarity_top_k: how many nodes.
            filters: conditions on metadata.
            mode: how to search; as the store does unless given.
            task: for what; the store's unless given. Several are merged.
            candidates: of how many the second stage chooses.
            score_threshold: leave out what scores less: a cosine in mode `dense`, otherwise MaxSim.
            oversampling: for quantized multi-vectors, see `qdrant_polyvec.Collection.search`.
            node_ids: search only these.
            doc_ids: search only nodes of these documents.
            callback_manager: as for all retrievers, like the rest.
            object_map: what index nodes stand for.
            objects: index nodes with what they stand for.
            verbose: tell what is retrieved.
        """
        if not isinstance(vector_store, PolyvecVectorStore):
            raise TypeError(f"`vector_store` is a {type(vector_store).__name__}; it is a PolyvecVectorStore.")
        if similarity_top_k < 1:
            raise ValueError(f"`similarity_top_k` is {similarity_top_k}; it must be at least 1.")
        self._store, self.similarity_top_k = vector_store, similarity_top_k
        self._how: dict[str, Any] = {
            "mode": mode,
            "task": task,
            "candidates": candidates,
            "score_threshold": score_threshold,
            "oversampling": oversampling,
            "filter": vector_store.condition(filters, node_ids=node_ids, doc_ids=doc_ids),
        }
        super().__init__(callback_manager=callback_manager, object_map=object_map, objects=objects, verbose=verbose)

    @property
    def vector_store(self) -> PolyvecVectorStore:
        return self._store

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        parts = _parts(query_bundle)
        found = [self._store.hits(part, **self._plan(part, len(parts))) for part in parts]
        return _scored(found, self.similarity_top_k)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        parts = _parts(query_bundle)
        found = await asyncio.gather(*(self._store.ahits(part, **self._plan(part, len(parts))) for part in parts))
        return _scored(found, self.similarity_top_k)

    def _plan(self, part: Input, n_parts: int) -> dict[str, Any]:
        """How a part of the query is searched: where rankings are merged, for more than are returned."""
        limit = self.similarity_top_k if n_parts == 1 else 4 * self.similarity_top_k
        if self._how["candidates"] is not None and n_parts > 1:
            limit = max(min(limit, self._how["candidates"]), self.similarity_top_k)
        mode = self._how["mode"] or self._store.mode
        if mode == "hybrid" and not isinstance(part, str):
            mode = "two-stage"  # hybrid searches by words, too
        return {**self._how, "mode": mode, "limit": limit}


def _parts(query: QueryBundle) -> list[Input]:
    texts = [text for text in query.embedding_strs if text]
    images = [image_input(image) for image in query.embedding_image]
    if not texts and not images:
        raise ValueError("the query has neither text nor image: give QueryBundle(text), or image_path=….")
    return [*texts, *images]


def _scored(rankings: Sequence[Sequence[Hit]], limit: int) -> list[NodeWithScore]:
    """The nodes with their similarities; of several rankings, merged (Cormack et al. 2009)."""
    if len(rankings) == 1:
        return [NodeWithScore(node=node(hit), score=similarity(hit)) for hit in rankings[0]]
    hits = {hit.id: hit for ranking in rankings for hit in ranking}
    scores = dict.fromkeys(hits, 0.0)
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            scores[hit.id] += 1 / (RRF_K + rank)
    best = sorted(scores, key=lambda key: scores[key], reverse=True)[:limit]
    return [NodeWithScore(node=node(hits[key]), score=scores[key]) for key in best]
