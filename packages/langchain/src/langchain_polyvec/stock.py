"""Search collections that langchain-qdrant's `QdrantVectorStore` created. They are never written."""

import asyncio
import contextlib
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Unpack

import numpy as np
from qdrant_client import QdrantClient, models

from polyvec import Encoder
from polyvec.compression import truncate
from polyvec.inputs import check_options
from polyvec.types import Embeddings
from qdrant_polyvec import Hit, Location, Patience, Query, SearchOptions, Stored, open_client
from qdrant_polyvec.clients import AsyncClients
from qdrant_polyvec.patient import patient
from qdrant_polyvec.points import identity

_PAGE = 256


class StockCollection:
    """The reading methods of `qdrant_polyvec.Collection`, for a collection without multi-vectors.

    The collection does not say which model made its vectors; the caller vouches that it was `embedder`.
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
        patience: Patience | None = None,
    ) -> None:
        opened, patience = open_client(location), patience or Patience()
        self.client, self.name, self.embedder = patient(opened, patience), name, embedder
        self._to_close = None if opened is location else opened
        self._content_key, self._metadata_key = content_key, metadata_key
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
        self._aclients = AsyncClients(self.client, patience)

    def search(self, query: Query, **options: Unpack[SearchOptions]) -> list[Hit]:
        """Search in mode `dense`, as `Collection.search`."""
        return self._hits(self.client.query_points(**self._request(query, options)).points)

    async def asearch(self, query: Query, **options: Unpack[SearchOptions]) -> list[Hit]:
        """`search` on the asynchronous client; the query is encoded in a thread."""
        request = await asyncio.to_thread(self._request, query, options)
        return self._hits((await self._aclients.current().query_points(**request)).points)

    def get(self, ids: Sequence[str | int]) -> list[Stored]:
        """Return the items with these ids. Missing ids are left out."""
        return self._stored(self.client.retrieve(self.name, _point_ids(ids)))

    async def aget(self, ids: Sequence[str | int]) -> list[Stored]:
        """`get` on the asynchronous client."""
        return self._stored(await self._aclients.current().retrieve(self.name, _point_ids(ids)))

    def embeddings(self, ids: Sequence[str | int], *, multivector: bool = False) -> dict[str | int, Embeddings]:
        """Return the stored dense vectors by id; there are no multi-vectors."""
        if multivector:
            return {}
        return self._vectors(self.client.retrieve(self.name, _point_ids(ids), with_vectors=True))

    async def aembeddings(self, ids: Sequence[str | int], *, multivector: bool = False) -> dict[str | int, Embeddings]:
        """`embeddings` on the asynchronous client."""
        if multivector:
            return {}
        return self._vectors(await self._aclients.current().retrieve(self.name, _point_ids(ids), with_vectors=True))

    def embeddings_of(self, items: Sequence[Stored]) -> list[Embeddings | None]:
        """Return the stored dense vectors of items; None for an item that is gone."""
        vectors = self.embeddings([item.id for item in items])
        return [vectors.get(item.id) for item in items]

    async def aembeddings_of(self, items: Sequence[Stored]) -> list[Embeddings | None]:
        """`embeddings_of` on the asynchronous client."""
        vectors = await self.aembeddings([item.id for item in items])
        return [vectors.get(item.id) for item in items]

    def all(self) -> Iterator[Stored]:
        """Iterate over all items."""
        offset = None
        while True:
            page, offset = self.client.scroll(self.name, limit=_PAGE, offset=offset)
            yield from self._stored(page)
            if offset is None:
                return

    def close(self) -> None:
        """Release the folder. A client that was passed in stays open."""
        if self._to_close is not None:
            self._to_close.close()

    async def aclose(self) -> None:
        """Close the asynchronous client of this event loop, if there is one."""
        await self._aclients.aclose()

    def _request(self, query: Query, options: SearchOptions) -> dict[str, Any]:
        check_options(options, sorted(SearchOptions.__optional_keys__))
        task = options.get("task")
        if not isinstance(task, str):
            raise ValueError(f"a stock store created {self.name!r}: it knows no tasks, so `task` is one.")  # noqa: TRY004
        others = [options.get("candidates"), options.get("oversampling")]
        if options.get("mode", "dense") != "dense" or others != [None, None]:
            raise ValueError(
                f"a stock store created {self.name!r}: it has dense vectors only, so `mode` is 'dense', without "
                "`candidates` and `oversampling`."
            )
        vector = query if isinstance(query, Embeddings) else self.embedder.encode_query([query], task=task)
        return {
            "collection_name": self.name,
            "query": truncate(vector.dense, self._dim)[0].tolist(),
            "using": self._vector_name or None,
            "query_filter": options.get("filter"),
            "limit": options.get("limit"),
            "score_threshold": options.get("score_threshold"),
        }

    def _hits(self, points: Sequence[models.ScoredPoint]) -> list[Hit]:
        return [
            Hit(score=point.score, similarity=point.score if self._is_cosine else None, **self._facts(point))
            for point in points
        ]

    def _stored(self, records: Sequence[models.Record]) -> list[Stored]:
        return [Stored(**self._facts(record)) for record in records]

    def _facts(self, point: models.Record | models.ScoredPoint) -> dict[str, Any]:
        payload = point.payload or {}
        content, metadata = payload.get(self._content_key), payload.get(self._metadata_key)
        metadata = metadata if isinstance(metadata, dict) else {}
        return {
            "id": identity(point),
            "content": content if isinstance(content, str) else "",
            "metadata": metadata,
            "source": str(metadata.get("source", "")),
            "unit": "",
            "kind": "text",
            "task": "retrieval",
        }

    def _vectors(self, records: Sequence[models.Record]) -> dict[str | int, Embeddings]:
        vectors: dict[str | int, Embeddings] = {}
        for record in records:
            vector: Any = record.vector  # a list, or a list by name
            dense = vector.get(self._vector_name) if isinstance(vector, dict) else vector
            if dense is not None:
                vectors[identity(record)] = Embeddings(np.asarray([dense], np.float32), None, (None,))
        return vectors


def _dense_vector(client: QdrantClient, collection: str, name: str | None) -> tuple[str, models.VectorParams]:
    """Return name and parameters of the dense vector to search by; a single dense vector needs no name."""
    vectors = client.get_collection(collection).config.params.vectors
    by_name = vectors if isinstance(vectors, dict) else {"": vectors} if vectors is not None else {}
    dense = {key: params for key, params in by_name.items() if not params.multivector_config}
    if name is None and len(dense) == 1:
        name = next(iter(dense))
    if name is None or name not in dense:
        names = ", ".join(map(repr, dense)) or "none"
        raise ValueError(f"`vector_name` is {name!r}; the dense vectors of {collection!r} are {names}.")
    return name, dense[name]


def _point_ids(ids: Sequence[str | int]) -> list[str | int]:
    """Return the ids that a point can have. langchain-qdrant adds no others."""
    possible: list[str | int] = []
    for key in ids:
        if isinstance(key, int) or (key.isascii() and key.isdecimal()):
            if int(key) < 2**64 and str(int(key)) == str(key):
                possible.append(int(key))
            continue
        with contextlib.suppress(ValueError):
            possible.append(str(uuid.UUID(key)))
    return possible
