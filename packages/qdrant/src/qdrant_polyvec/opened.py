"""Collections that are open: what can be read of them."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Self

from qdrant_client import QdrantClient, models

from polyvec import Embeddings, Encoder
from polyvec.encoder import in_thread
from qdrant_polyvec import points
from qdrant_polyvec.binding import Binding
from qdrant_polyvec.clients import Location, inner, open_client
from qdrant_polyvec.cluster import Cluster
from qdrant_polyvec.fingerprint import Fingerprint
from qdrant_polyvec.hits import Stored, stored
from qdrant_polyvec.items import Identity
from qdrant_polyvec.retrying import Patience
from qdrant_polyvec.schema import Schema
from qdrant_polyvec.search import Search


class OpenCollection:
    """The part of `Collection` that opens, reads and closes it."""

    def __init__(self, binding: Binding, *, owns_client: bool) -> None:
        self._owns_client = owns_client
        self._bind(binding)

    @classmethod
    def open(
        cls,
        location: Location,
        name: str,
        *,
        embedder: Encoder | None,
        truncate_dim: int | None = None,
        schema: Schema | None = None,
        tenant: str | None = None,
        cluster: Cluster | None = None,
        patience: Patience | None = None,
    ) -> Self:
        """Open a collection; create it if it does not exist.

        Args:
            location: a folder, the URL of a server, `":memory:"` for tests, or a `QdrantClient`, which stays open
                when the collection is closed.
            name: the collection's name. It is an alias: the collection behind it is `NAME__…`, so that `reindex` can
                exchange it at once.
            embedder: the model that makes the vectors; it must be the one that the collection was created with. None
                opens an existing collection to read and maintain it; adding items and searching then raise a TypeError.
            truncate_dim: length of the dense vectors, if shorter than the embedder's own.
            schema: which vectors the collection has, and which metadata are indexed. Default: `Schema()` for a new
                collection; an existing one is taken as it is. An existing one gets the indexes that it lacks.
            tenant: restrict every operation to this tenant. Without a tenant, reads, counts and deletions by source
                cover all tenants, and new items have none.
            cluster: how the collection is spread over a cluster, and how consistent reads and writes are.
            patience: how long calls wait for a server. Default: 30 seconds for reads, 300 for writes.

        Every method raises a StoreError if a server does not do what it is asked for: StoreUnavailableError,
        StoreRefusedError or CollectionChangedError.

        Raises:
            FolderLockedError: the folder is open in another process.
            FingerprintError: the collection holds another model's vectors.
            SchemaError: the collection has other vectors or indexes, or the server cannot keep those of `schema`.
            ServerVersionError: the server is too old.
        """
        client = open_client(location)
        owns_client = client is not location
        with contextlib.ExitStack() as on_error:
            if owns_client:
                on_error.callback(client.close)
            binding = Binding.open(
                client,
                name,
                embedder=embedder,
                fingerprint=None if embedder is None else Fingerprint.of(embedder, truncate_dim),
                schema=schema,
                tenant=tenant,
                cluster=cluster,
                patience=patience,
            )
            on_error.pop_all()
        return cls(binding, owns_client=owns_client)

    @property
    def client(self) -> QdrantClient:
        return inner(self._binding.client)

    @property
    def name(self) -> str:
        return self._binding.name

    @property
    def embedder(self) -> Encoder:
        """The model that encodes. A collection that was opened without one raises a TypeError."""
        return self._binding.encoder

    @property
    def schema(self) -> Schema:
        return self._binding.schema

    @property
    def tenant(self) -> str | None:
        return self._binding.tenant

    def close(self) -> None:
        """Write everything to disk and release the folder. A client that was handed in stays open."""
        if self._owns_client:
            self.client.close()

    async def aclose(self) -> None:
        """Close the asynchronous client, which the asynchronous searches opened, and the collection."""
        await self._binding.aclients.aclose()
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def count(self) -> int:
        """Count the items of all tasks."""
        return self._binding.count(self._binding.within())

    def sources(self) -> dict[str, int]:
        """Count the items of each source."""
        pages = self._binding.scroll(self._binding.within(), with_payload=["metadata.source"])
        return dict(Counter(points.source(record.payload) for page in pages for record in page))

    def get(self, ids: Sequence[Identity]) -> list[Stored]:
        """Read the items with these ids, each once, in the order of `ids`. Missing items are left out."""
        return stored(self._binding.records(ids))

    async def aget(self, ids: Sequence[Identity]) -> list[Stored]:
        """`get` on the asynchronous client."""
        return stored(await self._binding.arecords(ids))

    def all(self, filter: models.Filter | None = None) -> Iterator[Stored]:  # noqa: A002 — Qdrant's word
        """Read all items, or those that pass a filter, some hundred at a time, in no particular order."""
        condition = self._binding.within() if filter is None else self._binding.within(filter)
        for page in self._binding.scroll(condition):
            yield from stored(page)

    def embeddings(self, ids: Sequence[Identity], *, multivector: bool = False) -> dict[Identity, Embeddings]:
        """Read the stored vectors of items, by id: each an `Embeddings` of one item. Missing items are left out.

        Args:
            ids: which items.
            multivector: read the multi-vectors, too; an item that has none is left out.

        Raises:
            ValueError: the collection keeps no multi-vectors.
            FingerprintError: it holds another model's vectors by now.
        """
        names = self._binding.readable(multivector=multivector)
        return self._binding.embeddings(self._binding.records(ids, names), names)

    async def aembeddings(self, ids: Sequence[Identity], *, multivector: bool = False) -> dict[Identity, Embeddings]:
        """`embeddings` on the asynchronous client."""
        names = self._binding.readable(multivector=multivector)
        return await in_thread(self._binding.embeddings, await self._binding.arecords(ids, names), names)

    def embeddings_of(self, items: Sequence[Stored], *, multivector: bool = False) -> list[Embeddings | None]:
        """Read the stored vectors of hits or stored items, whatever their tenants; None for an item that is gone.

        Arguments and errors are those of `embeddings`, which takes ids of the collection's own tenant.
        """
        names = self._binding.readable(multivector=multivector)
        read: dict[tuple[str | None, Identity], Embeddings] = {}
        for tenant, ids in _ids_by_tenant(items).items():
            of_tenant = replace(self._binding, tenant=tenant)
            vectors = of_tenant.embeddings(of_tenant.records(ids, names), names)
            read |= {(tenant, key): vector for key, vector in vectors.items()}
        return [read.get((item.tenant, item.id)) for item in items]

    async def aembeddings_of(self, items: Sequence[Stored], *, multivector: bool = False) -> list[Embeddings | None]:
        """`embeddings_of` on the asynchronous client."""
        names = self._binding.readable(multivector=multivector)
        read: dict[tuple[str | None, Identity], Embeddings] = {}
        for tenant, ids in _ids_by_tenant(items).items():
            of_tenant = replace(self._binding, tenant=tenant)
            vectors = await in_thread(of_tenant.embeddings, await of_tenant.arecords(ids, names), names)
            read |= {(tenant, key): vector for key, vector in vectors.items()}
        return [read.get((item.tenant, item.id)) for item in items]

    def _bind(self, binding: Binding) -> None:
        self._binding = binding
        self._search = Search(binding)


def _ids_by_tenant(items: Iterable[Stored]) -> dict[str | None, list[Identity]]:
    ids: dict[str | None, list[Identity]] = {}
    for item in items:
        ids.setdefault(item.tenant, []).append(item.id)
    return ids
