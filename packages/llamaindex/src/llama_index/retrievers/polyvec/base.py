"""A LlamaIndex retriever that takes a text, an image, or both."""

import asyncio
from collections.abc import Sequence
from typing import Any, Unpack

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import IndexNode, NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters

from llama_index.embeddings.polyvec.images import image_input
from llama_index.embeddings.polyvec.watching import watched_by
from llama_index.vector_stores.polyvec import PolyvecVectorStore
from llama_index.vector_stores.polyvec.nodes import to_node
from llama_index.vector_stores.polyvec.queries import check_options, similarity
from polyvec import Input
from polyvec.fusion import RRF_K
from qdrant_polyvec import Hit, RankingOptions, SearchOptions


class PolyvecRetriever(BaseRetriever):
    """Retrieve the nodes of a `PolyvecVectorStore` that suit a query: its text, its `image_path`, or both.

    A query with several parts (a text and an image, or several `custom_embedding_strs`) is searched part by part, and
    the rankings are merged by reciprocal rank fusion. The query bundle is not changed.

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
        node_ids: Sequence[str] | None = None,
        doc_ids: Sequence[str] | None = None,
        callback_manager: CallbackManager | None = None,
        object_map: dict[str, Any] | None = None,
        objects: list[IndexNode] | None = None,
        verbose: bool = False,
        **options: Unpack[RankingOptions],
    ) -> None:
        """Retrieve from a store.

        Args:
            vector_store: the store to search.
            similarity_top_k: number of nodes.
            filters: conditions on metadata.
            node_ids: search only these nodes.
            doc_ids: search only nodes of these documents.
            callback_manager: as for all retrievers, like the following three.
            object_map: objects that index nodes stand for, by node id.
            objects: index nodes with the objects that they stand for.
            verbose: print what is retrieved.
            options: see `qdrant_polyvec.RankingOptions`; mode and task are the store's unless given.
        """
        if not isinstance(vector_store, PolyvecVectorStore):
            raise TypeError(f"`vector_store` is a {type(vector_store).__name__}; it is a PolyvecVectorStore.")
        if similarity_top_k < 1:
            raise ValueError(f"`similarity_top_k` is {similarity_top_k}; it must be at least 1.")
        check_options(options, RankingOptions.__optional_keys__)
        self._store, self.similarity_top_k = vector_store, similarity_top_k
        self._filter = vector_store.condition(filters, node_ids=node_ids, doc_ids=doc_ids)
        self._options: RankingOptions = options
        super().__init__(callback_manager=callback_manager, object_map=object_map, objects=objects, verbose=verbose)

    @property
    def vector_store(self) -> PolyvecVectorStore:
        return self._store

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        parts = _parts(query_bundle)
        options = self._search_options(len(parts))
        with watched_by(self.callback_manager):
            rankings = [self._store.hits(part, **options) for part in parts]
        return _merged(rankings, self.similarity_top_k)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        parts = _parts(query_bundle)
        options = self._search_options(len(parts))
        with watched_by(self.callback_manager):
            rankings = await asyncio.gather(*(self._store.ahits(part, **options) for part in parts))
        return _merged(rankings, self.similarity_top_k)

    def _handle_recursive_retrieval(self, query_bundle: QueryBundle, nodes: list[NodeWithScore]) -> list[NodeWithScore]:
        """Follow index nodes. LlamaIndex's own also drops nodes of other tenants with the same id."""
        if _has_index_node(nodes):
            return super()._handle_recursive_retrieval(query_bundle, nodes)
        return nodes

    async def _ahandle_recursive_retrieval(
        self, query_bundle: QueryBundle, nodes: list[NodeWithScore]
    ) -> list[NodeWithScore]:
        """`_handle_recursive_retrieval` for `aretrieve`."""
        if _has_index_node(nodes):
            return await super()._ahandle_recursive_retrieval(query_bundle, nodes)
        return nodes

    def _search_options(self, n_parts: int) -> SearchOptions:
        """Rankings to be merged are longer than the result."""
        limit = self.similarity_top_k
        if n_parts > 1:
            limit = max(limit, min(4 * limit, self._options.get("candidates") or 4 * limit))
        return {**self._options, "limit": limit, "filter": self._filter}


def _has_index_node(nodes: Sequence[NodeWithScore]) -> bool:
    return any(isinstance(item.node, IndexNode) for item in nodes)


def _parts(query: QueryBundle) -> list[Input]:
    texts = [text for text in query.embedding_strs if text]
    images = [image_input(image) for image in query.embedding_image]
    if not texts and not images:
        raise ValueError("the query has neither text nor image: give QueryBundle(text), or image_path=….")
    return [*texts, *images]


def _merged(rankings: Sequence[Sequence[Hit]], limit: int) -> list[NodeWithScore]:
    """Convert a ranking to nodes with their similarities. Merge several by reciprocal rank (Cormack et al. 2009)."""
    if len(rankings) == 1:
        return [NodeWithScore(node=to_node(hit), score=similarity(hit)) for hit in rankings[0]]
    hits = {(hit.tenant, hit.id): hit for ranking in rankings for hit in ranking}
    scores = dict.fromkeys(hits, 0.0)
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            scores[hit.tenant, hit.id] += 1 / (RRF_K + rank)
    best = sorted(scores, key=lambda key: scores[key], reverse=True)[:limit]
    return [NodeWithScore(node=to_node(hits[key]), score=scores[key]) for key in best]
