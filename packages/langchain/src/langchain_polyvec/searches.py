"""Search a vector store by text, vector or image, for the best or for diverse documents."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Unpack, cast

import numpy as np
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStoreRetriever
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from langchain_polyvec.documents import document
from langchain_polyvec.embeddings import relevance
from langchain_polyvec.filters import FilterLike, qdrant_filter
from langchain_polyvec.images import ImageLike, located
from langchain_polyvec.opening import OpenStore
from polyvec import types
from polyvec.inputs import checked_whole
from qdrant_polyvec import Hit, Query, RankingOptions, SearchOptions

_MOST = 2**31 - 1

Scored = list[tuple[Document, float]]


class StoreOptions(RankingOptions, total=False):
    """Options of every search of a `PolyvecVectorStore`."""

    filter: FilterLike | None
    """A `qdrant_client.models.Filter`, or a mapping as for `filters.qdrant_filter`."""


class SearchableStore(OpenStore):
    """The part of `PolyvecVectorStore` that searches; it adds nothing."""

    def as_retriever(self, **kwargs: Any) -> VectorStoreRetriever:
        """Return LangChain's own retriever. Options of searches, `k` too, stand in its `search_kwargs`.

        Raises:
            TypeError: an argument that LangChain's retriever would ignore.
        """
        for name in kwargs.keys() - VectorStoreRetriever.model_fields:
            raise TypeError(
                f"{name!r} is no argument of `as_retriever`; options of searches go into `search_kwargs`, as in "
                "as_retriever(search_kwargs={'k': 4})."
            )
        return super().as_retriever(**kwargs)

    def similarity_search(self, query: str, k: int = 4, **options: Unpack[StoreOptions]) -> list[Document]:
        """Return the documents that suit a text best, best first."""
        return _documents(self.hits(_text(query), k, **options))

    async def asimilarity_search(self, query: str, k: int = 4, **options: Unpack[StoreOptions]) -> list[Document]:
        """`similarity_search` on the asynchronous client."""
        return _documents(await self.ahits(_text(query), k, **options))

    def similarity_search_with_score(self, query: str, k: int = 4, **options: Unpack[StoreOptions]) -> Scored:
        """Return documents with scores: cosine in mode `dense`, otherwise MaxSim, which grows with the query."""
        return _with_score(self.hits(_text(query), k, **options))

    async def asimilarity_search_with_score(self, query: str, k: int = 4, **options: Unpack[StoreOptions]) -> Scored:
        """`similarity_search_with_score` on the asynchronous client."""
        return _with_score(await self.ahits(_text(query), k, **options))

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, **options: Unpack[StoreOptions]
    ) -> list[Document]:
        """Return the documents nearest to a dense vector, in mode `dense`."""
        return _documents(self.hits(_vector(embedding), k, **_dense(options)))

    async def asimilarity_search_by_vector(
        self, embedding: list[float], k: int = 4, **options: Unpack[StoreOptions]
    ) -> list[Document]:
        """`similarity_search_by_vector` on the asynchronous client."""
        return _documents(await self.ahits(_vector(embedding), k, **_dense(options)))

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, **options: Unpack[StoreOptions]
    ) -> Scored:
        """Return the documents nearest to a dense vector, with their cosines."""
        return _with_score(self.hits(_vector(embedding), k, **_dense(options)))

    async def asimilarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, **options: Unpack[StoreOptions]
    ) -> Scored:
        """`similarity_search_with_score_by_vector` on the asynchronous client."""
        return _with_score(await self.ahits(_vector(embedding), k, **_dense(options)))

    def similarity_search_by_image(self, uri: ImageLike, k: int = 4, **options: Unpack[StoreOptions]) -> list[Document]:
        """Return the documents that suit an image best. Images are those of `PolyvecEmbeddings.embed_images`."""
        return _documents(self.hits(located(uri).content, k, **options))

    async def asimilarity_search_by_image(
        self, uri: ImageLike, k: int = 4, **options: Unpack[StoreOptions]
    ) -> list[Document]:
        """`similarity_search_by_image` on the asynchronous client."""
        return _documents(await self.ahits((await asyncio.to_thread(located, uri)).content, k, **options))

    def similarity_search_by_image_with_score(
        self, uri: ImageLike, k: int = 4, **options: Unpack[StoreOptions]
    ) -> Scored:
        """Return the documents that suit an image best, with their scores."""
        return _with_score(self.hits(located(uri).content, k, **options))

    async def asimilarity_search_by_image_with_score(
        self, uri: ImageLike, k: int = 4, **options: Unpack[StoreOptions]
    ) -> Scored:
        """`similarity_search_by_image_with_score` on the asynchronous client."""
        return _with_score(await self.ahits((await asyncio.to_thread(located, uri)).content, k, **options))

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Unpack[StoreOptions]
    ) -> list[Document]:
        """Return documents that suit a text and differ from each other (Carbonell and Goldstein 1998).

        The search returns `fetch_k` documents. `k` of them are chosen one by one by the cosines of their dense vectors:
        λ · relevance − (1 − λ) · largest cosine with a chosen document.

        Args:
            query: a text.
            k: number of documents.
            fetch_k: number of documents to choose from.
            lambda_mult: λ: 1 maximizes relevance, 0 diversity.
            options: see `StoreOptions`.
        """
        return _documents(self.diverse_hits(_text(query), k, fetch_k=fetch_k, lambda_mult=lambda_mult, **options))

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Unpack[StoreOptions]
    ) -> list[Document]:
        """`max_marginal_relevance_search` on the asynchronous client."""
        hits = await self.adiverse_hits(_text(query), k, fetch_k=fetch_k, lambda_mult=lambda_mult, **options)
        return _documents(hits)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **options: Unpack[StoreOptions],
    ) -> list[Document]:
        """`max_marginal_relevance_search` for a dense vector, in mode `dense`."""
        how = _dense(options)
        return _documents(self.diverse_hits(_vector(embedding), k, fetch_k=fetch_k, lambda_mult=lambda_mult, **how))

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **options: Unpack[StoreOptions],
    ) -> list[Document]:
        """`max_marginal_relevance_search_by_vector` on the asynchronous client."""
        how = _dense(options)
        hits = await self.adiverse_hits(_vector(embedding), k, fetch_k=fetch_k, lambda_mult=lambda_mult, **how)
        return _documents(hits)

    def hits(self, query: Query, k: int = 4, **options: Unpack[StoreOptions]) -> list[Hit]:
        """Search. All searches for the best documents call this method.

        Args:
            query: a text, an image as in `polyvec.Input`, or an `Embeddings` of one query.
            k: largest number of hits.
            options: see `StoreOptions`.
        """
        return self._collection.search(query, **self._options(k, options))

    async def ahits(self, query: Query, k: int = 4, **options: Unpack[StoreOptions]) -> list[Hit]:
        """`hits` on the asynchronous client."""
        return await self._collection.asearch(query, **self._options(k, options))

    def diverse_hits(
        self, query: Query, k: int = 4, *, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Unpack[StoreOptions]
    ) -> list[Hit]:
        """Search for hits that differ from each other; see `max_marginal_relevance_search`, which this method serves.

        The query is any that `hits` takes. Hits are in the order of their choice.
        """
        search = self._options(_n_fetched(k, fetch_k), options)
        encoded = self._encoded(query, search)
        hits = self._collection.search(_reusable(query, encoded, search), **search)
        return _chosen(hits, self._collection.embeddings_of(hits), encoded, k, lambda_mult)

    async def adiverse_hits(
        self, query: Query, k: int = 4, *, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Unpack[StoreOptions]
    ) -> list[Hit]:
        """`diverse_hits` on the asynchronous client."""
        search = self._options(_n_fetched(k, fetch_k), options)
        encoded = await asyncio.to_thread(self._encoded, query, search)
        hits = await self._collection.asearch(_reusable(query, encoded, search), **search)
        vectors = await self._collection.aembeddings_of(hits)
        return await asyncio.to_thread(_chosen, hits, vectors, encoded, k, lambda_mult)

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **options: Unpack[StoreOptions]
    ) -> Scored:
        return _with_relevance(self.hits(_text(query), k, **options))

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **options: Unpack[StoreOptions]
    ) -> Scored:
        return _with_relevance(await self.ahits(_text(query), k, **options))

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return relevance  # for cosines; where scores are MaxSim, the two methods above use `Hit.similarity`

    def _options(self, k: int, options: StoreOptions) -> SearchOptions:
        if unknown := sorted(options.keys() - StoreOptions.__optional_keys__):
            names = ", ".join(sorted(StoreOptions.__optional_keys__))
            raise TypeError(f"{unknown[0]!r} is no option of a search; those are `k`, {names}.")
        task = options.get("task") or self.task
        search: SearchOptions = {
            **cast("RankingOptions", options),
            "limit": checked_whole("k", k, _MOST, "documents"),
            "filter": qdrant_filter(options.get("filter"), metadata_key=self._metadata_key),
            "mode": options.get("mode") or self.mode,
            "task": task[0] if isinstance(task, list | tuple) and len(task) == 1 else task,
        }
        return search

    def _encoded(self, query: Query, options: SearchOptions) -> types.Embeddings:
        task = options["task"]
        if not isinstance(task, str):
            raise TypeError("diverse results are chosen within one task; give one `task`.")
        if isinstance(query, types.Embeddings):
            return query
        encoder = self._collection.embedder
        return encoder.encode_query([query], task=task, multivector=options["mode"] != "dense")


def _n_fetched(k: int, fetch_k: int) -> int:
    """Return the number of documents to choose from: `fetch_k`, or `k` if that is more."""
    return max(checked_whole("k", k, _MOST, "documents"), checked_whole("fetch_k", fetch_k, _MOST, "documents"))


def _reusable(query: Query, encoded: types.Embeddings, options: SearchOptions) -> Query:
    """Return the encoded query, or the query itself in mode `hybrid`, which needs its words."""
    return query if options["mode"] == "hybrid" else encoded


def _chosen(
    hits: Sequence[Hit],
    vectors: Sequence[types.Embeddings | None],
    query: types.Embeddings,
    k: int,
    lambda_mult: float,
) -> list[Hit]:
    if not 0 <= lambda_mult <= 1:
        raise ValueError(f"`lambda_mult` is {lambda_mult}; it is between 0, most diverse, and 1, most relevant.")
    pairs = [(hit, vector.dense[0]) for hit, vector in zip(hits, vectors, strict=True) if vector is not None]
    if not pairs:  # there are none, or all are gone by now
        return []
    rows = [row for _, row in pairs]
    order = maximal_marginal_relevance(query.dense[0, : len(rows[0])], rows, lambda_mult=lambda_mult, k=k)
    return [pairs[index][0] for index in order]


def _documents(hits: Iterable[Hit]) -> list[Document]:
    return [document(hit) for hit in hits]


def _with_score(hits: Iterable[Hit]) -> Scored:
    return [(document(hit), hit.score) for hit in hits]


def _with_relevance(hits: Iterable[Hit]) -> Scored:
    return [(document(hit), hit_relevance(hit)) for hit in hits]


def hit_relevance(hit: Hit) -> float:
    """Return the relevance of a hit, from 0 to 1; a ValueError if its score has none."""
    if hit.similarity is None:
        raise ValueError(
            "these scores are sums of ranks, or distances, which have no relevance: search one task, and not in mode "
            "'hybrid'."
        )
    return relevance(hit.similarity)


def _text(query: str) -> str:
    if not isinstance(query, str):
        raise TypeError(f"the query is a {type(query).__name__}; images go to `similarity_search_by_image`.")
    return query


def _vector(embedding: Sequence[float]) -> types.Embeddings:
    row = np.asarray(embedding, np.float32)
    if row.ndim != 1:
        raise ValueError(f"the vector has shape {row.shape}; it is one dense vector, (dimensions,).")
    return types.Embeddings(row[None], None, (None,))


def _dense(options: StoreOptions) -> StoreOptions:
    if options.get("mode") not in (None, "dense"):
        raise ValueError(f"mode {options['mode']!r} needs multi-vectors; a dense vector is searched in mode 'dense'.")
    return {**options, "mode": "dense"}
