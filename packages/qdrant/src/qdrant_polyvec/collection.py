"""Collection: texts and images that can be searched, kept in Qdrant."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Unpack

from qdrant_client import models

import polyvec
from polyvec import Embeddings, Encoder, Input
from qdrant_polyvec import exchange, maintenance
from qdrant_polyvec.checks import Checks
from qdrant_polyvec.clients import Location, backend
from qdrant_polyvec.cluster import Cluster
from qdrant_polyvec.edge import EdgeBackend
from qdrant_polyvec.errors import StoreError
from qdrant_polyvec.hits import Group, Hit
from qdrant_polyvec.ingest import Ingest
from qdrant_polyvec.items import Identity, Item, OnFailure, Report, check_on_failure, told
from qdrant_polyvec.maintenance import Load, Verification
from qdrant_polyvec.opened import OpenCollection
from qdrant_polyvec.query import Options, Queries, Query, QueryOptions
from qdrant_polyvec.schema import IndexKind, Schema


class Collection(OpenCollection):
    """Texts and images under one name, each with a dense vector and a multi-vector. Get one by `Collection.open`."""

    def add(
        self,
        inputs: Iterable[Input | Item | polyvec.Failure],
        *,
        task: str = "retrieval",
        ids: Sequence[Identity] | None = None,
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        embeddings: Embeddings | None = None,
        replace_sources: bool = False,
        on_failure: OnFailure = "warn",
        keep_places: bool = False,
        batch_size: int = 64,
        show_progress: bool = False,
    ) -> Report:
        """Encode and store texts and images. Items that are stored already, unchanged, are not encoded again.

        One batch is encoded while another is written. An interrupted call can simply be repeated: acknowledged items
        are kept. An item that cannot be read or stored does not stop the others.

        Args:
            inputs: a string is text, always; an image is a `Path`, `bytes`, a PIL image or a numpy array; an `Item`
                says more. All items of a list are checked before any is stored. An iterator is read in batches; a bad
                item in it is reported as failed, and so is a `Failure` that it yields.
            task: the embedder's task to encode for; searches find items of their own task only.
            ids: as in `Item`, one for each input of a list.
            metadatas: values to keep (`Item.metadata`), one mapping for each input of a list.
            embeddings: vectors of the inputs of a list, made elsewhere by the same model for the same task, with
                multi-vectors; nothing is encoded.
            replace_sources: afterwards, delete the parts that the sources of these items no longer have, for the same
                task. A source with an item that failed keeps everything, and items whose unit is empty stay.
            on_failure: what tells of items that were not stored, beside the report: a warning that names them, an
                UnstoredItems that is raised when all others are stored (`"raise"`), or nothing (`"report"`).
            keep_places: an item with an empty unit keeps the unit of the stored item with its id. If it is the same
                text and names no context, it keeps context and span, too, and is not encoded again.
            batch_size: number of items that are encoded and stored at a time.
            show_progress: show a progress bar.

        Raises:
            TypeError: `inputs` is a single item, or a list has an item that is neither text nor image.
            ValueError: an unknown task, lists of different lengths, bad ids or metadata in a list. Nothing is stored
                then.
            FingerprintError: the collection holds another model's vectors by now.
            SchemaError: its BM25 vectors follow older rules of words: `reindex` it.
            StoreError: the server stopped the work, or a `reindex` exchanged the collection; its `report` says what
                became of which item.
        """
        check_on_failure(on_failure)
        self._binding.check_rules()
        checks = Checks(task=task, tasks=self.embedder.tasks, tenant=self.tenant)
        ingest = Ingest(self._binding, batch_size=batch_size, keep_places=keep_places)
        entries = checks.entries(inputs, ids=ids, metadatas=metadatas, embeddings=embeddings)
        self._search.forget_size()
        try:
            total = len(inputs) if isinstance(inputs, Sequence) else None
            ingest.run(entries, total=total, show_progress=show_progress)
            if replace_sources:
                ingest.remove_outdated()
        except StoreError as error:
            error.report = ingest.report
            raise
        return told(ingest.report, on_failure)

    async def aadd(self, inputs: Iterable[Input | Item | polyvec.Failure], **options: Any) -> Report:  # Any: of `add`
        """`add` in a thread, so that the event loop goes on; once begun, it ends even if cancelled."""
        return await asyncio.to_thread(partial(self.add, inputs, **options))

    def search(self, query: Query, **options: Unpack[QueryOptions]) -> list[Hit]:
        """Search for the items that suit a text or an image best, best first.

        Args:
            query: a string is text, always; an image is a `Path`, `bytes`, a PIL image or a numpy array; an
                `Embeddings` of one item, if the same model has encoded it as a query for `task` already.
            options: see `QueryOptions`.

        Raises:
            ValueError: an unknown mode or task, a bad limit, or a query that cannot be read.
            FingerprintError: the collection holds another model's vectors by now.
        """
        return self._search.batch([query], Options(**options))[0]

    def search_batch(self, queries: Queries, **options: Unpack[QueryOptions]) -> list[list[Hit]]:
        """Search for several queries, which are encoded and sent together. Each result is that of `search`."""
        return self._search.batch(queries, Options(**options))

    def search_groups(
        self, query: Query, *, group_by: str = "metadata.source", group_size: int = 3, **options: Unpack[QueryOptions]
    ) -> list[Group]:
        """Search for the best sources, each with its best items, so that no long document crowds out the others.

        Args:
            query: as for `search`.
            group_by: the payload field that the items of a group have in common.
            group_size: largest number of items per group.
            options: see `QueryOptions`; `limit` is the largest number of groups.
        """
        return self._search.groups(query, Options(**options, group_size=group_size), group_by)

    def explain(self, query: Query, **options: Unpack[QueryOptions]) -> models.QueryRequest:
        """Return the request that `search` with the same arguments would send. Nothing is searched."""
        return self._search.plans([query], Options(**options))[0].request

    async def asearch(self, query: Query, **options: Unpack[QueryOptions]) -> list[Hit]:
        """`search` on the asynchronous client; the query is encoded in a thread."""
        return (await self._search.abatch([query], Options(**options)))[0]

    async def asearch_batch(self, queries: Queries, **options: Unpack[QueryOptions]) -> list[list[Hit]]:
        """`search_batch` on the asynchronous client; the queries are encoded in a thread."""
        return await self._search.abatch(queries, Options(**options))

    async def asearch_groups(
        self, query: Query, *, group_by: str = "metadata.source", group_size: int = 3, **options: Unpack[QueryOptions]
    ) -> list[Group]:
        """`search_groups` on the asynchronous client; the query is encoded in a thread."""
        return await self._search.agroups(query, Options(**options, group_size=group_size), group_by)

    def delete(
        self,
        *,
        ids: Sequence[Identity] | None = None,
        sources: Sequence[str] | None = None,
        task: str | None = None,
        keep: Sequence[Identity] = (),
    ) -> int:
        """Delete items by their ids, or all items of some sources. Returns their number.

        Args:
            ids: which items.
            sources: all items from these; give either `ids` or `sources`.
            task: only items of this task.
            keep: ids of items that stay.
        """
        chosen = self._binding.chosen(ids, sources, task, keep)
        return 0 if chosen is None else self._delete(chosen)

    def delete_where(self, filter: models.Filter) -> int:  # noqa: A002 — Qdrant's word
        """Delete all items that pass a filter; an empty one passes everything. Returns their number."""
        return self._delete(self._binding.within(filter))

    def create_index(self, field: str, kind: IndexKind, *, under: str = "metadata") -> None:
        """Index a field of the metadata that an existing collection is filtered by, as `Schema.indexed` does.

        Args:
            field: a name or a path, as for `field_keys`.
            kind: of its values.
            under: the payload key that the field is nested in; empty if it stands at the top of the payload.

        Raises:
            SchemaError: the field has another kind of index.
        """
        self._bind(self._binding.indexing({field: kind}, under=under))

    def optimize(self, *, in_worker: bool = False) -> bool:
        """Build the graphs of a collection in a folder and merge its segments. Returns True if there was work to do.

        Searches find everything without it, by looking at every dense vector; above some ten thousand items it makes
        them faster. A server does it by itself: nothing is done then.

        Args:
            in_worker: work in a process of its own, so that only calls to this collection wait. In this process, the
                engine would keep every other thread waiting.
        """
        engine = backend(self.client)
        return isinstance(engine, EdgeBackend) and engine.optimize(self.name, in_worker=in_worker)

    def verify(self, *, sources: Iterable[str] | None = None) -> Verification:
        """Look for points that searches cannot find or should not: see `Verification`. Nothing is changed.

        Args:
            sources: the expected sources. Points of other sources are reported as orphans. Default: no point is.
        """
        return maintenance.verify(self._binding, sources)

    def delete_leftovers(self) -> list[str]:
        """Delete the leftovers of `verify`, except an `unfinished` one. Returns their names.

        Be sure that no `reindex` is running elsewhere: it looks like an interrupted one, and its work would be lost.
        """
        return exchange.delete_leftovers(self._binding)

    def reindex(
        self,
        embedder: Encoder,
        *,
        truncate_dim: int | None = None,
        schema: Schema | None = None,
        load: Load | None = None,
        batch_size: int = 64,
        keep_old: bool = False,
        on_failure: OnFailure = "warn",
        show_progress: bool = False,
    ) -> Report:
        """Encode everything again with another model or schema, beside the old vectors, and exchange them at once.

        Searches find the old vectors until the end. If an item fails, nothing is exchanged: mend it, or delete it, and
        call again; encoded items are kept. After an interruption, a call with the same model and schema finishes what
        was begun, also after the exchange. If an item fails that others add at the very moment of the exchange, the
        old collection stays until a later call finishes. Points that stock stores added become items of task
        `retrieval`. If only the BM25 vectors change, the other vectors are copied, not encoded. Shards, replicas,
        indexes, the engine's settings and metadata of the collection stay; its aliases move along.

        Args:
            embedder: the new model.
            truncate_dim: length of the new dense vectors, if shorter than the embedder's own.
            schema: of the new collection. Default: the present one.
            load: gives the image of a source and unit again. Without it, and where it raises a ValueError, images are
                read from where they were added from, and pages are drawn again; the collection keeps no image.
            batch_size: number of items that are encoded and stored at a time.
            keep_old: keep the old collection, under its own name.
            on_failure: as for `add`.
            show_progress: show a progress bar.

        Raises:
            ValueError: nothing would change, the model lacks an item's task, there is a tenant or a shard key, or an
                exchange with another model is not finished.
        """
        check_on_failure(on_failure)
        binding, report = maintenance.reindex(
            self._binding,
            embedder,
            truncate_dim=truncate_dim,
            schema=schema or self.schema,
            load=load,
            batch_size=batch_size,
            keep_old=keep_old,
            show_progress=show_progress,
        )
        self._bind(binding)
        return told(report, on_failure)

    def copy_to(
        self,
        location: Location,
        name: str | None = None,
        *,
        schema: Schema | None = None,
        cluster: Cluster | None = None,
        on_failure: OnFailure = "warn",
        show_progress: bool = False,
    ) -> Report:
        """Copy all points with their vectors, for example from a folder to a server; nothing is encoded.

        A new copy takes over what `reindex` keeps, as far as its location knows it. An interrupted call can be
        repeated: points that are copied already, unchanged, are skipped.

        Args:
            location: where the copy goes, as for `open`.
            name: of the copy. Default: the present name.
            schema: of the copy, with the same vectors, which may be stored otherwise. Default: the present one. A
                ValueError if it has other vectors: `reindex` makes those.
            cluster: as for `open`. Default: as here, but without shard keys.
            on_failure: as for `add`.
            show_progress: show a progress bar.
        """
        check_on_failure(on_failure)
        report = maintenance.copy(
            self._binding, location, name or self.name, schema=schema, cluster=cluster, show_progress=show_progress
        )
        return told(report, on_failure)

    def _delete(self, condition: models.Filter) -> int:
        n_deleted = self._binding.count(condition)  # even if there is none, a `reindex` may be about to bring some over
        self._binding.delete(models.FilterSelector(filter=condition))
        self._search.forget_size()
        return n_deleted
