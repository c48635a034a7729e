"""Collections that langchain-qdrant's `QdrantVectorStore` has made: searched by their dense vectors, never written."""

import asyncio
import contextlib
import uuid
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from polyvec import Encoder
from polyvec.compression import truncate
from polyvec.types import Embeddings
from qdrant_polyvec import Hit, Location, Stored, open_async_client, open_client, points
from qdrant_polyvec.hits import relevance
from qdrant_polyvec.search import Query

_PAGE = 256


class StockCollection:
    """The reading half of `qdrant_polyvec.Collection`, for a collection that knows no multi-vectors.

    Nothing in it says which model made its vectors: that `embedder` is the one is the caller's word.
    """

    def __init__(
        self,
        location: Location,
        name: str,
        *,
        embedder: Encoder,
        dim: int | None = None,
        vector_name: str | None = None,
        content_key: str = "page_content",
        metadata_key: str = "metadata",
    ) -> None:
        self.client, self.name, self.embedder = open_client(location), name, embedder
        self._owns_client = self.client is not location
        self._content_key, self.metadata_key = content_key, metadata_key
        with contextlib.ExitStack() as on_error:
            on_error.callback(self.close)
            self._vector_name, params = _dense_vector(self.client, name, vector_name)
            if params.size != (dim or embedder.dim):
                raise ValueError(
                    f"the vectors of {name!r} have {params.size} numbers, this embedding's {dim or embedder.dim}: "
                    "another model made them, or other `dimensions`."
                )
            on_error.pop_all()
        self._dim, self._is_cosine = params.size, params.distance == models.Distance.COSINE
        # One for each event loop: connections belong to the loop that they were opened in.
        self._aclients: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncQdrantClient] = WeakKeyDictionary()

    def search(self, query: Query, *, task: str, limit: int, **options: Any) -> list[Hit]:
        """As `Collection.search`, in mode `dense`."""
        return self._hits(self.client.query_points(**self._request(query, task, limit, **options)).points)

    async def asearch(self, query: Query, *, task: str, limit: int, **options: Any) -> list[Hit]:
        """`search` on the asynchronous client; the query is encoded in a thread."""
        request = await asyncio.to_thread(self._request, query, task, limit, **options)
        return self._hits((await self._async().query_points(**request)).points)

    def get(self, ids: Sequence[str | int]) -> list[Stored]:
        """The items with these ids that are there."""
        return self._stored(self.client.retrieve(self.name, _point_ids(ids)))

    async def aget(self, ids: Sequence[str | int]) -> list[Stored]:
        """`get` on the asynchronous client."""
        return self._stored(await self._async().retrieve(self.name, _point_ids(ids)))

    def embeddings(self, ids: Sequence[str | int], *, multivector: bool = False) -> dict[str | int, Embeddings]:
        """The stored dense vectors, by id; there are no multi-vectors."""
        if multivector:
            return {}
        return self._vectors(self.client.retrieve(self.name, _point_ids(ids), with_vectors=True))

    async def aembeddings(self, ids: Sequence[str | int], *, multivector: bool = False) -> dict[str | int, Embeddings]:
        """`embeddings` on the asynchronous client."""
        if multivector:
            return {}
        return self._vectors(await self._async().retrieve(self.name, _point_ids(ids), with_vectors=True))

    def all(self) -> Iterator[Stored]:
        """Everything in it, some hundred at a time."""
        offset = None
        while True:
            page, offset = self.client.scroll(self.name, limit=_PAGE, offset=offset)
            yield from self._stored(page)
            if offset is None:
                return

    def close(self) -> None:
        """Release the folder; a client that was handed in stays open."""
        if self._owns_client:
            self.client.close()

    async def aclose(self) -> None:
        """Close the asynchronous client of this event loop, if there is one."""
        aclient = self._aclients.pop(asyncio.get_running_loop(), None)
        if aclient is not None:
            await aclient.close()

    def _async(self) -> AsyncQdrantClient:
        loop = asyncio.get_running_loop()
        if loop not in self._aclients:
            self._aclients[loop] = open_async_client(self.client)
        return self._aclients[loop]

    def _request(
        self,
        query: Query,
        task: str,
        limit: int,
        *,
        mode: str = "dense",
        filter: models.Filter | None = None,  # noqa: A002 — Qdrant's word
        candidates: int | None = None,
        score_threshold: float | None = None,
        oversampling: float | None = None,
    ) -> dict[str, Any]:
        if not isinstance(task, str):
            raise ValueError(f"a stock store made {self.name!r}: it knows no tasks, so `task` is one.")  # noqa: TRY004
        if mode != "dense" or candidates is not None or oversampling is not None:
            raise ValueError(
                f"a stock store made {self.name!r}: it has dense vectors only, so `mode` is 'dense', without "
                "`candidates` and `oversampling`."
            )
        vector = query if isinstance(query, Embeddings) else self.embedder.encode_query([query], task=task)
        return {
            "collection_name": self.name,
            "query": truncate(vector.dense, self._dim)[0].tolist(),
            "using": self._vector_name or None,
            "query_filter": filter,
            "limit": limit,
            "score_threshold": score_threshold,
        }

    def _hits(self, found: Sequence[models.ScoredPoint]) -> list[Hit]:
        return [
            Hit(score=one.score, relevance=relevance(one.score) if self._is_cosine else None, **self._facts(one))
            for one in found
        ]

    def _stored(self, found: Sequence[models.Record]) -> list[Stored]:
        return [Stored(fingerprint="", **self._facts(one)) for one in found]

    def _facts(self, point: models.Record | models.ScoredPoint) -> dict[str, Any]:
        payload = point.payload or {}
        content, metadata = payload.get(self._content_key), payload.get(self.metadata_key)
        metadata = metadata if isinstance(metadata, dict) else {}
        return {
            "id": points.identity(point),
            "content": content if isinstance(content, str) else "",
            "metadata": metadata,
            "source": str(metadata.get("source", "")),
            "unit": "",
            "kind": "text",
            "task": "retrieval",
        }

    def _vectors(self, found: Sequence[models.Record]) -> dict[str | int, Embeddings]:
        vectors: dict[str | int, Embeddings] = {}
        for one in found:
            vector: Any = one.vector  # a list, or a list by name
            dense = vector.get(self._vector_name) if isinstance(vector, dict) else vector
            if dense is not None:
                vectors[points.identity(one)] = Embeddings(np.asarray([dense], np.float32), None, (None,))
        return vectors


def _dense_vector(client: QdrantClient, name: str, wanted: str | None) -> tuple[str, models.VectorParams]:
    """The dense vector to search by; the only one there is unless it is named.

    Raises:
        ValueError: there is no such vector, or more than one to choose from.
    """
    given = client.get_collection(name).config.params.vectors
    by_name = given if isinstance(given, dict) else {"": given} if given is not None else {}
    dense = {name: params for name, params in by_name.items() if not params.multivector_config}
    if wanted is None and len(dense) == 1:
        wanted = next(iter(dense))
    if wanted is None or wanted not in dense:
        raise ValueError(
            f"`vector_name` is {wanted!r}; the dense vectors of {name!r} are {', '.join(map(repr, dense)) or 'none'}."
        )
    return wanted, dense[wanted]


def _point_ids(ids: Sequence[str | int]) -> list[str | int]:
    """Those ids that Qdrant can have; langchain-qdrant knows no others."""
    found: list[str | int] = []
    for identity in ids:
        if isinstance(identity, int) or (identity.isascii() and identity.isdecimal()):
            if int(identity) < 2**64 and str(int(identity)) == str(identity):
                found.append(int(identity))
            continue
        try:
            found.append(str(uuid.UUID(identity)))
        except ValueError:
            continue
    return found
