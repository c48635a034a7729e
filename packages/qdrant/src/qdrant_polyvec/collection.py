"""Collection: texts and images that can be searched, kept in Qdrant."""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import partial
from types import TracebackType
from typing import Any, Self, Unpack

import numpy as np
from PIL import Image
from qdrant_client import QdrantClient, models

from polyvec import Encoder
from polyvec.inputs import check_task
from polyvec.types import Embeddings, Input
from qdrant_polyvec import hits, maintenance, points, reading
from qdrant_polyvec.cluster import Cluster
from qdrant_polyvec.edge import EdgeBackend
from qdrant_polyvec.fingerprint import Fingerprint
from qdrant_polyvec.hits import Group, Hit, Stored
from qdrant_polyvec.ingest import Ingest, source_of
from qdrant_polyvec.items import Checks, Entry, Failure, Identity, Item, listed_items
from qdrant_polyvec.location import Location, open_client
from qdrant_polyvec.maintenance import Load, Verification
from qdrant_polyvec.opening import opened
from qdrant_polyvec.place import Place
from qdrant_polyvec.query import Options, Queries, Query, SearchOptions
from qdrant_polyvec.report import Report
from qdrant_polyvec.retrying import StoreUnavailableError
from qdrant_polyvec.schema import OWN, Schema, value_is
from qdrant_polyvec.search import Search

_NO_LISTS = (str, bytes, Item, Set, Mapping, np.ndarray, Image.Image)  # iterable, but no items in an order


class Collection:
    """Texts and images under one name, each with a dense vector and a multi-vector. Get one by `Collection.open`."""

    def __init__(self, place: Place, *, owns_client: bool) -> None:
        self._place = place
        self._owns_client = owns_client
        self._search = Search(place)

    @classmethod
    def open(
        cls,
        location: Location,
        name: str,
        *,
        embedder: Encoder,
        truncate_dim: int | None = None,
        schema: Schema | None = None,
        tenant: str | None = None,
        cluster: Cluster | None = None,
    ) -> Self:
        """Open a collection; create it if it does not exist.

        Args:
            location: a folder, the URL of a server, `":memory:"` for tests, or a `QdrantClient`, which stays open
                when the collection is closed.
            name: the collection's name. It is an alias: the collection behind it is `NAME__…`, so that `reindex` can
                exchange it at once.
            embedder: makes the vectors; it must be the one that the collection was created with.
            truncate_dim: length of the dense vectors, if shorter than the embedder's own.
            schema: which vectors the collection has and how they are stored; unless given, `Schema()` for a new
                collection and whatever an existing one has.
            tenant: whose items are added, found, counted and deleted; those of others are out of reach. Without one,
                everybody's are found, counted and, by their source, deleted, and new items are nobody's.
            cluster: how it is spread over a cluster, and how sure reads and writes are.

        Raises:
            FolderLockedError: the folder is open in another client.
            FingerprintError: the collection holds another model's vectors.
            SchemaError: the collection has other kinds of vectors, or the server cannot keep those wanted.
            ServerVersionError: the server is too old.
        """
        if tenant is not None and not (isinstance(tenant, str) and tenant and "\0" not in tenant):
            raise ValueError(
                f"`tenant` is {tenant!r}; it must be a string that is not empty and has no null character."
            )
        fingerprint = Fingerprint.of(embedder, truncate_dim)
        client = open_client(location)
        owns_client = client is not location
        with contextlib.ExitStack() as on_error:
            if owns_client:
                on_error.callback(client.close)
            place = Place(client, name, embedder, fingerprint.dense, schema or Schema(), tenant, cluster or Cluster())
            place = opened(place, schema)
            on_error.pop_all()
        return cls(place, owns_client=owns_client)

    @property
    def client(self) -> QdrantClient:
        return self._place.client

    @property
    def name(self) -> str:
        return self._place.name

    @property
    def embedder(self) -> Encoder:
        return self._place.embedder

    @property
    def schema(self) -> Schema:
        return self._place.schema

    @property
    def tenant(self) -> str | None:
        return self._place.tenant

    def close(self) -> None:
        """Write everything to disk and release the folder. A client that was handed in stays open."""
        if self._owns_client:
            self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(
        self,
        inputs: Iterable[Input | Item | Failure],
        *,
        task: str = "retrieval",
        ids: Sequence[Identity] | None = None,
        sources: Sequence[str] | None = None,
        units: Sequence[str] | None = None,
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        texts: Sequence[str | None] | None = None,
        embeddings: Embeddings | None = None,
        replace_sources: bool = False,
        batch_size: int = 64,
        show_progress: bool = False,
    ) -> Report:
        """Encode and store texts and images; what is there already, unchanged, is not encoded again.

        One batch is encoded while another is written. An interrupted call can simply be repeated: what was
        acknowledged is there. An item that cannot be read or stored does not stop the others.

        Args:
            inputs: a string is text, always; an image is a `Path`, `bytes`, a PIL image or a numpy array; an `Item`
                says more. Of a list, all items are checked before any is stored; an iterator is read in batches, a
                bad item in it is reported as failed, and so is a `Failure` that it hands on.
            task: the embedder's task to encode for; searches find items of their own task only.
            ids: as in `Item`, for a list of inputs; so are the next four.
            sources: where each comes from.
            units: which part of its source each is.
            metadatas: JSON values to keep with each.
            texts: what images say.
            embeddings: made elsewhere by the same model for the same task, with multi-vectors; nothing is encoded.
            replace_sources: afterwards, delete what the sources of these items had before for the same task and have
                no more. A source with an item that failed keeps everything.
            batch_size: how many items are encoded and stored at a time.
            show_progress: show a progress bar.

        Raises:
            TypeError: `inputs` is a single item, or a list has an item that is neither text nor image.
            ValueError: an unknown task, lists of different lengths, bad ids or metadata in a list. Nothing is stored
                then.
            FingerprintError: the collection holds another model's vectors by now.
            StoreUnavailableError: the store did not answer for too long; its `report` says what became of which item.
        """
        if isinstance(inputs, _NO_LISTS) or not isinstance(inputs, Iterable):
            raise TypeError(f"`inputs` is a list or iterator of items, not a {type(inputs).__name__}: write [item].")
        checks = Checks(task=task, tasks=self._tasks, tenant=self._place.tenant)
        columns: dict[str, Any] = {  # Any: lists of different things
            "ids": ids, "sources": sources, "units": units, "metadatas": metadatas, "texts": texts,
            "embeddings": embeddings,
        }  # fmt: skip
        ingest = Ingest(self._place, batch_size=batch_size)
        self._search.forget_size()
        total: int | None = None
        if isinstance(inputs, Sequence):
            entries: Iterable[Entry | Failure] = checks.all(listed_items(inputs, **columns))
            total = len(inputs)
        elif given := [name for name, values in columns.items() if values is not None]:
            raise TypeError(f"`{given[0]}` goes with a list; let the iterator give `Item`s, which hold it.")
        else:
            entries = checks.each(inputs)
        try:
            ingest.run(entries, total=total, show_progress=show_progress)
            if replace_sources:
                ingest.remove_the_rest()
        except StoreUnavailableError as error:
            error.report = ingest.report
            raise
        return ingest.report

    async def aadd(self, inputs: Iterable[Input | Item | Failure], **how: Any) -> Report:  # Any: handed to `add`
        """`add` in a thread, so that the event loop goes on; once begun, it ends even if cancelled."""
        return await asyncio.to_thread(partial(self.add, inputs, **how))

    def search(self, query: Query, **options: Unpack[SearchOptions]) -> list[Hit]:
        """Search for the items that suit a text or an image best, best first.

        Args:
            query: a string is text, always; an image is a `Path`, `bytes`, a PIL image or a numpy array; an
                `Embeddings` of one item, if the same model has encoded it as a query for `task` already.
            options: see `SearchOptions`.

        Raises:
            ValueError: an unknown mode or task, a bad limit, or a query that cannot be read.
            FingerprintError: the collection holds another model's vectors by now.
        """
        return self._search.batch([query], Options(**options))[0]

    def search_batch(self, queries: Queries, **options: Unpack[SearchOptions]) -> list[list[Hit]]:
        """Search for several queries, which are encoded and sent together. Each result is that of `search`."""
        return self._search.batch(queries, Options(**options))

    def search_groups(
        self,
        query: Query,
        *,
        group_by: str = "metadata.source",
        group_size: int = 3,
        **options: Unpack[SearchOptions],
    ) -> list[Group]:
        """Search for the best sources, each with its best items, so that no long document crowds out the others.

        Args:
            query: as for `search`.
            group_by: the payload field that the items of a group have in common.
            group_size: largest number of items per group.
            options: see `SearchOptions`; `limit` is the largest number of groups.
        """
        return self._search.groups(query, Options(**options, group_size=group_size), group_by)

    def explain(self, query: Query, **options: Unpack[SearchOptions]) -> models.QueryRequest:
        """Return the request that `search` with the same arguments would send. Nothing is searched."""
        return self._search.plans([query], Options(**options))[0].request

    async def asearch(self, query: Query, **options: Unpack[SearchOptions]) -> list[Hit]:
        """`search` on the asynchronous client; the query is encoded in a thread."""
        return (await self._search.abatch([query], Options(**options)))[0]

    async def asearch_batch(self, queries: Queries, **options: Unpack[SearchOptions]) -> list[list[Hit]]:
        """`search_batch` on the asynchronous client; the queries are encoded in a thread."""
        return await self._search.abatch(queries, Options(**options))

    async def asearch_groups(
        self,
        query: Query,
        *,
        group_by: str = "metadata.source",
        group_size: int = 3,
        **options: Unpack[SearchOptions],
    ) -> list[Group]:
        """`search_groups` on the asynchronous client; the query is encoded in a thread."""
        return await self._search.agroups(query, Options(**options, group_size=group_size), group_by)

    async def aclose(self) -> None:
        """Close the asynchronous client, which the asynchronous searches opened, and the collection."""
        await self._search.aclose()
        await asyncio.to_thread(self.close)

    def count(self) -> int:
        """How many items there are, of all tasks."""
        return self._count(self._place.within())

    def sources(self) -> dict[str, int]:
        """How many items each source has."""
        found: dict[str, int] = {}
        for page in self._place.scroll(self._place.within(), with_payload=["metadata.source"]):
            for record in page:
                source = source_of(record.payload)
                found[source] = found.get(source, 0) + 1
        return found

    def delete(
        self,
        *,
        ids: Sequence[Identity] | None = None,
        sources: Sequence[str] | None = None,
        task: str | None = None,
        keep: Sequence[Identity] = (),
    ) -> int:
        """Delete items by their ids, or all items of some sources; returns how many.

        Args:
            ids: which items.
            sources: all items from these; give either `ids` or `sources`.
            task: only items of this task.
            keep: ids that stay.
        """
        chosen = sources if ids is None else ids
        if chosen is None or (ids is not None and sources is not None) or isinstance(chosen, str | bytes):
            raise TypeError("give either `ids` or `sources`, as a list.")
        if isinstance(keep, str | bytes):
            raise TypeError("give `keep` as a list.")
        if not chosen:
            return 0
        must: list[models.Condition] = []
        if sources is not None:
            must.append(models.FieldCondition(key="metadata.source", match=models.MatchAny(any=list(sources))))
        else:
            must.append(points.has_id(chosen, self._place.tenant))
        if task is not None:
            check_task(task, self._tasks)
            must.append(value_is(f"{OWN}.task", task))
        kept = [points.has_id(keep, self._place.tenant)] if keep else []
        return self._delete(self._place.within(*must, must_not=kept))

    def delete_where(self, filter: models.Filter) -> int:  # noqa: A002 — Qdrant's word
        """Delete all items that pass a filter; an empty one passes everything. Returns how many there were."""
        return self._delete(self._place.within(filter))

    def get(self, ids: Sequence[Identity]) -> list[Stored]:
        """The items with these ids that are there, each once, in the order of `ids`."""
        return reading.items(self._place, reading.records(self._place, ids), ids)

    async def aget(self, ids: Sequence[Identity]) -> list[Stored]:
        """`get` on the asynchronous client."""
        return reading.items(self._place, await reading.arecords(self._place, self._search.aclient(), ids), ids)

    def all(self, filter: models.Filter | None = None) -> Iterator[Stored]:  # noqa: A002 — Qdrant's word
        """All items, or those that pass a filter, some hundred at a time, in no order that means anything."""
        condition = self._place.within() if filter is None else self._place.within(filter)
        for page in self._place.scroll(condition):
            yield from hits.stored(page)

    def embeddings(self, ids: Sequence[Identity], *, multivector: bool = False) -> dict[Identity, Embeddings]:
        """The stored vectors of items, by id: each an `Embeddings` of one item. Items that are not there are left out.

        Args:
            ids: which items.
            multivector: read the multi-vectors, too; an item that has none is left out.

        Raises:
            ValueError: the collection keeps no multi-vectors.
            FingerprintError: it holds another model's vectors by now.
        """
        names = reading.names(self._place, multivector=multivector)
        return reading.embeddings(self._place, reading.records(self._place, ids, names), names)

    async def aembeddings(self, ids: Sequence[Identity], *, multivector: bool = False) -> dict[Identity, Embeddings]:
        """`embeddings` on the asynchronous client."""
        names = reading.names(self._place, multivector=multivector)
        found = await reading.arecords(self._place, self._search.aclient(), ids, names)
        return await asyncio.to_thread(reading.embeddings, self._place, found, names)

    def optimize(self, *, in_worker: bool = False) -> bool:
        """Build the graphs of a collection in a folder and merge its segments; returns whether there was work to do.

        Searches find everything without it, by looking at every dense vector; above some ten thousand items it makes
        them faster. A server does it by itself: nothing is done then.

        Args:
            in_worker: work in a process of its own. In this one, the engine would keep every other thread waiting;
                so, only calls to this collection wait.
        """
        backend = self.client._client  # noqa: SLF001 — the client does not tell what is behind it
        return isinstance(backend, EdgeBackend) and backend.optimize(self.name, in_worker=in_worker)

    def verify(self, *, sources: Iterable[str] | None = None) -> Verification:
        """Look for points that searches cannot find or should not: see `Verification`. Nothing is changed.

        Args:
            sources: those that should be there; points of others are reported as orphans. Unless given, no point is.
        """
        return maintenance.verify(self._place, sources)

    def reindex(
        self,
        embedder: Encoder,
        *,
        truncate_dim: int | None = None,
        schema: Schema | None = None,
        load: Load | None = None,
        batch_size: int = 64,
        keep_old: bool = False,
        show_progress: bool = False,
    ) -> Report:
        """Encode everything again with another model or schema, beside the old vectors, and exchange them at once.

        Searches find the old until the end. If an item fails, nothing is exchanged: mend it, or delete it, and call
        again; what is encoded already stays. The same holds after an interruption. Of what others add at the very
        moment of the exchange, an item may fail afterwards: then the old collection is kept under its own name.
        Points that stock stores added become items of task `retrieval`.

        Args:
            embedder: the new model.
            truncate_dim: length of the new dense vectors, if shorter than the embedder's own.
            schema: of the new collection; the present one unless given.
            load: gives the image of a source and unit again. Without it, images are read from the paths that they
                were added from; the collection keeps no image.
            batch_size: how many items are encoded and stored at a time.
            keep_old: keep the old collection, under its own name.
            show_progress: show a progress bar.

        Returns:
            What became of each item; with failures, the old collection is still in its place.

        Raises:
            ValueError: the collection is of this model and schema already, or the call is for one tenant only.
        """
        dim = Fingerprint.of(embedder, truncate_dim).dense
        place, report = maintenance.reindex(
            self._place,
            embedder,
            dim=dim,
            schema=schema or self.schema,
            load=load,
            batch_size=batch_size,
            keep_old=keep_old,
            show_progress=show_progress,
        )
        self._move(place)
        return report

    def copy_to(
        self,
        location: Location,
        name: str | None = None,
        *,
        schema: Schema | None = None,
        cluster: Cluster | None = None,
        show_progress: bool = False,
    ) -> Report:
        """Copy all points with their vectors, for example from a folder to a server; nothing is encoded.

        An interrupted call can be repeated: what is there already, unchanged, is skipped.

        Args:
            location: where to, as for `open`.
            name: of the collection there; as here unless given.
            schema: of the collection there, with the same vectors, which may be stored otherwise; as here unless given.
            cluster: as for `open`.
            show_progress: show a progress bar.

        Raises:
            ValueError: the schema has other vectors: `reindex` makes those.
        """
        place = self._place
        wanted = schema or place.schema
        if (wanted.pooled, wanted.bm25) != (place.schema.pooled, place.schema.bm25):
            raise ValueError(f"a copy makes no vectors: {wanted} has others than {place.schema}. `reindex` it first.")
        with Collection.open(
            location,
            name or place.name,
            embedder=place.embedder,
            truncate_dim=place.truncate_dim,
            schema=wanted,
            tenant=place.tenant,
            cluster=cluster,
        ) as target:
            return maintenance.copy(place, target._place, show_progress=show_progress)  # noqa: SLF001 — of this class

    @property
    def _tasks(self) -> tuple[str, ...]:
        """Those that the embedder knows."""
        return self.embedder.tasks

    def _delete(self, condition: models.Filter) -> int:
        n_deleted = self._count(condition)
        if n_deleted:
            selector = models.FilterSelector(filter=condition)
            self.client.delete(self.name, selector, wait=True, **self._place.cluster.writing())
            self._search.forget_size()
        return n_deleted

    def _count(self, condition: models.Filter) -> int:
        return self.client.count(self.name, count_filter=condition, **self._place.cluster.counting()).count

    def _move(self, place: Place) -> None:
        self._place = place
        self._search = Search(place)
