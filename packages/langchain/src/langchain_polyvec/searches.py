"""How a LangChain vector store is searched: by text, vector or image, for the best or for diverse documents."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from langchain_polyvec.documents import document
from langchain_polyvec.filters import qdrant_filter
from langchain_polyvec.images import ImageLike, picture
from langchain_polyvec.stock import StockCollection
from polyvec import types
from qdrant_polyvec import Collection, Hit, Mode, Stored
from qdrant_polyvec.hits import relevance
from qdrant_polyvec.search import Query

OPTIONS = ("filter", "mode", "task", "candidates", "score_threshold", "oversampling")


class Searches(VectorStore):
    """The half of `PolyvecVectorStore` that searches; LangChain wants both halves to be one class."""

    @property
    @abstractmethod
    def collection(self) -> Collection | StockCollection:
        """What is searched."""

    @property
    @abstractmethod
    def mode(self) -> Mode:
        """How, unless a search says otherwise."""

    @property
    @abstractmethod
    def task(self) -> str:
        """For what, unless a search says otherwise."""

    def similarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        """The documents that suit a text best, best first; `options` are those of the class."""
        return as_documents(self.hits(_text(query), k, **options))

    async def asimilarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        """`similarity_search` on the asynchronous client."""
        return as_documents(await self.ahits(_text(query), k, **options))

    def similarity_search_with_score(self, query: str, k: int = 4, **options: Any) -> list[tuple[Document, float]]:
        """Documents with their scores: cosine in mode `dense`, otherwise MaxSim, which grows with the query."""
        return _scored(self.hits(_text(query), k, **options))

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        """`similarity_search_with_score` on the asynchronous client."""
        return _scored(await self.ahits(_text(query), k, **options))

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **options: Any) -> list[Document]:
        """The documents nearest to a dense vector, in mode `dense`."""
        return as_documents(self.hits(_vector(embedding), k, **_dense(options)))

    async def asimilarity_search_by_vector(self, embedding: list[float], k: int = 4, **options: Any) -> list[Document]:
        """`similarity_search_by_vector` on the asynchronous client."""
        return as_documents(await self.ahits(_vector(embedding), k, **_dense(options)))

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        """The documents nearest to a dense vector, with their cosines."""
        return _scored(self.hits(_vector(embedding), k, **_dense(options)))

    async def asimilarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        """`similarity_search_with_score_by_vector` on the asynchronous client."""
        return _scored(await self.ahits(_vector(embedding), k, **_dense(options)))

    def similarity_search_by_image(self, uri: ImageLike, k: int = 4, **options: Any) -> list[Document]:
        """The documents that suit an image best; it is given as for `PolyvecEmbeddings.embed_images`."""
        return as_documents(self.hits(picture(uri).content, k, **options))

    async def asimilarity_search_by_image(self, uri: ImageLike, k: int = 4, **options: Any) -> list[Document]:
        """`similarity_search_by_image` on the asynchronous client."""
        return as_documents(await self.ahits((await asyncio.to_thread(picture, uri)).content, k, **options))

    def similarity_search_by_image_with_score(
        self, uri: ImageLike, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        """The documents that suit an image best, with their scores."""
        return _scored(self.hits(picture(uri).content, k, **options))

    async def asimilarity_search_by_image_with_score(
        self, uri: ImageLike, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        """`similarity_search_by_image_with_score` on the asynchronous client."""
        return _scored(await self.ahits((await asyncio.to_thread(picture, uri)).content, k, **options))

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """Documents that suit a text and differ from each other (Carbonell and Goldstein 1998).

        The best `fetch_k` are found in the store's mode; of those, `k` are chosen one by one by the cosines of their
        dense vectors: λ · relevance − (1 − λ) · likeness to what is chosen already.

        Args:
            query: a text.
            k: how many documents.
            fetch_k: of how many they are chosen.
            lambda_mult: λ: 1 cares for relevance only, 0 for diversity only.
            options: those of the class.
        """
        how = self._how(query, max(k, fetch_k), **options)
        encoded = self._encoded(_text(query), how)
        asked = query if how["mode"] == "hybrid" else encoded  # which searches by the words, too
        return self._diverse(self.collection.search(asked, **how), encoded, k, lambda_mult)

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """`max_marginal_relevance_search` on the asynchronous client."""
        how = self._how(query, max(k, fetch_k), **options)
        encoded = await asyncio.to_thread(self._encoded, _text(query), how)
        asked = query if how["mode"] == "hybrid" else encoded
        return await self._adiverse(await self.collection.asearch(asked, **how), encoded, k, lambda_mult)

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """`max_marginal_relevance_search` for a dense vector, in mode `dense`."""
        vector = _vector(embedding)
        return self._diverse(self.hits(vector, max(k, fetch_k), **_dense(options)), vector, k, lambda_mult)

    async def amax_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """`max_marginal_relevance_search_by_vector` on the asynchronous client."""
        vector = _vector(embedding)
        found = await self.ahits(vector, max(k, fetch_k), **_dense(options))
        return await self._adiverse(found, vector, k, lambda_mult)

    def hits(self, query: Query, k: int = 4, **options: Any) -> list[Hit]:
        """What all searches find, as `qdrant_polyvec.Hit`s.

        Args:
            query: a text, an image as in `polyvec.Input`, or an `Embeddings` of one query.
            k: how many at most.
            options: those of the class.
        """
        return self.collection.search(query, **self._how(query, k, **options))

    async def ahits(self, query: Query, k: int = 4, **options: Any) -> list[Hit]:
        """`hits` on the asynchronous client."""
        return await self.collection.asearch(query, **self._how(query, k, **options))

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        return _relevant(self.hits(_text(query), k, **options))

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        return _relevant(await self.ahits(_text(query), k, **options))

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return relevance  # of a cosine; where scores are MaxSim, the two methods above know better

    def _how(self, query: Query, k: int, **options: Any) -> dict[str, Any]:  # Any: those of the class
        """The arguments of `Collection.search`."""
        if unknown := sorted(options.keys() - set(OPTIONS)):
            raise TypeError(f"{unknown[0]!r} is no option of a search; those are `k`, {', '.join(OPTIONS)}.")
        default = self.mode
        if default == "hybrid" and not isinstance(query, str):
            default = "two-stage"  # hybrid searches by words, too
        metadata_key = self.collection.metadata_key if isinstance(self.collection, StockCollection) else "metadata"
        task = options.get("task") or self.task
        return {
            **options,
            "limit": k,
            "filter": qdrant_filter(options.get("filter"), metadata_key=metadata_key),
            "mode": options.get("mode") or default,
            "task": task[0] if isinstance(task, list | tuple) and len(task) == 1 else task,
        }

    def _encoded(self, query: str, how: Mapping[str, Any]) -> types.Embeddings:
        if not isinstance(how["task"], str):
            raise TypeError("diverse results are chosen within one task; give one `task`.")
        encoder = self.collection.embedder
        return encoder.encode_query([query], task=how["task"], multivector=how["mode"] != "dense")

    def _diverse(self, found: Sequence[Hit], query: types.Embeddings, k: int, lambda_mult: float) -> list[Document]:
        return _chosen(found, self.collection.embeddings([hit.id for hit in found]), query, k, lambda_mult)

    async def _adiverse(
        self, found: Sequence[Hit], query: types.Embeddings, k: int, lambda_mult: float
    ) -> list[Document]:
        vectors = await self.collection.aembeddings([hit.id for hit in found])
        return await asyncio.to_thread(_chosen, found, vectors, query, k, lambda_mult)


def _chosen(
    found: Sequence[Hit],
    vectors: Mapping[str | int, types.Embeddings],
    query: types.Embeddings,
    k: int,
    lambda_mult: float,
) -> list[Document]:
    if not 0 <= lambda_mult <= 1:
        raise ValueError(f"`lambda_mult` is {lambda_mult}; it is between 0, most diverse, and 1, most relevant.")
    if missing := [hit.id for hit in found if hit.id not in vectors]:
        raise ValueError(
            f"{missing[0]!r} cannot be read by its id: it belongs to a tenant, or is gone by now. Open the store with "
            "its `tenant`."
        )
    if not found:
        return []
    rows = [vectors[hit.id].dense[0] for hit in found]
    asked = query.dense[0, : len(rows[0])]
    order = maximal_marginal_relevance(asked, rows, lambda_mult=lambda_mult, k=k)
    return as_documents([found[index] for index in order])


def as_documents(found: Iterable[Hit | Stored]) -> list[Document]:
    """What was found, in the same order."""
    return [document(one) for one in found]


def _scored(found: Iterable[Hit]) -> list[tuple[Document, float]]:
    return [(document(hit), hit.score) for hit in found]


def _relevant(found: Iterable[Hit]) -> list[tuple[Document, float]]:
    scored = []
    for hit in found:
        if hit.relevance is None:
            raise ValueError("these scores are ranks or distances, which have no relevance: search one task.")
        scored.append((document(hit), hit.relevance))
    return scored


def _text(query: str) -> str:
    if not isinstance(query, str):
        raise TypeError(f"the query is a {type(query).__name__}; images go to `similarity_search_by_image`.")
    return query


def _vector(embedding: Sequence[float]) -> types.Embeddings:
    row = np.asarray(embedding, np.float32)
    if row.ndim != 1:
        raise ValueError(f"the vector has shape {row.shape}; it is one dense vector, (dimensions,).")
    return types.Embeddings(row[None], None, (None,))


def _dense(options: Mapping[str, Any]) -> dict[str, Any]:
    if options.get("mode") not in (None, "dense"):
        raise ValueError(f"mode {options['mode']!r} needs multi-vectors; a dense vector is searched in mode 'dense'.")
    return {**options, "mode": "dense"}
