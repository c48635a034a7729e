"""A LlamaIndex vector store on a `qdrant_polyvec.Collection`."""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Unpack, cast

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, IndexNode
from llama_index.core.vector_stores.types import (
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)
from qdrant_client import models

from llama_index.embeddings.polyvec import PolyvecEmbedding
from llama_index.vector_stores.polyvec.filters import has_condition, in_documents
from llama_index.vector_stores.polyvec.nodes import to_item
from llama_index.vector_stores.polyvec.opening import OpenStore
from llama_index.vector_stores.polyvec.queries import (
    QueryOptions,
    check_options,
    diverse,
    mmr_threshold,
    query_content,
    query_limit,
    query_mode,
    query_result,
    search_query,
)
from polyvec import Embeddings
from polyvec.paths import printable
from qdrant_polyvec import (
    MODES,
    Cluster,
    Collection,
    FingerprintError,
    Hit,
    Location,
    Mode,
    Patience,
    Query,
    RankingOptions,
    Schema,
    SearchOptions,
    Stored,
)
from qdrant_polyvec.query import MIN_CANDIDATES
from qdrant_polyvec.schema import of_tenant

_BATCH = 64  # nodes that are looked up at a time


class PolyvecVectorStore(OpenStore):
    """Text and image nodes in one collection, with dense vectors and multi-vectors.

    The store writes the node payload of the stock `QdrantVectorStore` and takes its filters, so that class reads the
    collection (`dense_vector_name="dense"`). It writes the payload of `qdrant_polyvec.Collection`, too, so that
    verification, reindexing with another model and the other packages' stores work on the collection.

    Similarities are cosines, or MaxSim divided by the number of query tokens, so that one cutoff suits all modes.

    Examples:
        `pip install "llama-index-embeddings-polyvec[qdrant]"`

        ```python
        from llama_index.embeddings.polyvec import PolyvecEmbedding
        from llama_index.vector_stores.polyvec import PolyvecVectorStore

        embed_model = PolyvecEmbedding(model_name="demo")
        store = PolyvecVectorStore(embed_model=embed_model, location="./index", collection_name="docs")
        ```
    """

    # Hash of the ids that an index handed on last, and whether they are all of images and index nodes.
    _index_ids: tuple[int, bool] | None = PrivateAttr(default=None)

    def __init__(
        self,
        embed_model: PolyvecEmbedding,
        *,
        location: Location = "./polyvec-index",
        collection_name: str = "llamaindex",
        mode: Mode = "two-stage",
        schema: Schema | None = None,
        tenant: str | None = None,
        cluster: Cluster | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Open a collection; create it if it does not exist.

        Args:
            embed_model: makes the vectors. It is loaded here, and must be the one that the collection was created with.
            location: a folder, which one process at a time can open; the URL of a server; `":memory:"` for tests in one
                thread; or a `qdrant_client.QdrantClient` (see `qdrant_polyvec.open_client`), which several stores may
                share.
            collection_name: the collection.
            mode: the mode of queries that name none.
            schema: the vectors of a new collection and how they are stored; see `qdrant_polyvec.Schema`.
            tenant: restricts every operation to this tenant's nodes; see `qdrant_polyvec.Collection.open`.
            cluster: how the collection is spread over a cluster.
            patience: how long calls wait for a server; see `qdrant_polyvec.Patience`.

        Raises:
            qdrant_polyvec.FolderLockedError: the folder is open in another process.
            qdrant_polyvec.FingerprintError: the collection holds another model's vectors.
            qdrant_polyvec.SchemaError: the collection has other kinds of vectors.
            qdrant_polyvec.StoreError: a server does not answer, or refuses. Every other method raises it, too.
        """
        if not isinstance(embed_model, PolyvecEmbedding):
            raise TypeError(f"`embed_model` is a {type(embed_model).__name__}; it is a PolyvecEmbedding.")
        if mode not in MODES:
            raise ValueError(f"`mode` is {mode!r}; it must be one of {', '.join(map(repr, MODES))}.")
        super().__init__(stores_text=True)
        try:
            self._collection = Collection.open(
                location,
                collection_name,
                embedder=embed_model.watched,
                truncate_dim=embed_model.dimensions,
                schema=schema,
                tenant=tenant,
                cluster=cluster,
                patience=patience,
            )
        except FingerprintError as error:
            raise FingerprintError(str(error).replace("truncate_dim=", "dimensions=")) from error
        if schema is not None and schema.indexed:
            self._index_fields()
        self._embed_model, self._mode = embed_model, mode
        self._settings = {
            "embed_model": embed_model,
            "location": location,
            "collection_name": collection_name,
            "mode": mode,
            "schema": schema,
            "tenant": tenant,
            "cluster": cluster,
            "patience": patience,
        }

    @classmethod
    def class_name(cls) -> str:
        return "PolyvecVectorStore"

    def add(  # type: ignore[override]  # an unknown option is refused
        self,
        nodes: Sequence[Any],  # Any: BaseNode, as checked here
        *,
        task: str | None = None,
        batch_size: int = 64,
        show_progress: bool = False,
    ) -> list[str]:
        """Encode and store nodes: image nodes by their images, others by their texts as LlamaIndex embeds them.

        Nodes that are stored already, unchanged, are not encoded again.

        Args:
            nodes: with embeddings or without; dense vectors and multi-vectors are made here, in one pass.
            task: the task to encode for; the embedding's task unless given. Queries find nodes of their own task only,
                and a node is of one task: added again for another task, it changes over.
            batch_size: number of nodes that are encoded and stored at a time.
            show_progress: show a progress bar.

        Returns:
            The nodes' ids, in order.

        Raises:
            UnstoredItems: some could not be stored (no text, no image, a file that has vanished, metadata that are not
                JSON); all others were.
        """
        if isinstance(nodes, BaseNode) or not all(isinstance(node, BaseNode) for node in nodes):
            raise TypeError("`nodes` is a list of LlamaIndex nodes.")
        self._index_ids = None
        self._index_fields()
        task = task or self._embed_model.task
        dim = self._embed_model.dimensions or self._embed_model.encoder.dim
        pairs = enumerate(self._with_stored(nodes))
        items = (to_item(node, index=index, task=task, dim=dim, old=old) for index, (node, old) in pairs)
        report = self._collection.add(
            items,
            task=task,
            on_failure="report",
            keep_places=True,
            batch_size=batch_size,
            show_progress=show_progress,
        )
        ids = [node.node_id for node in nodes]
        report.check(ids)
        return ids

    async def async_add(self, nodes: Sequence[BaseNode], **options: Any) -> list[str]:
        """`add` in a thread. Once begun, it ends even if it is cancelled."""
        return await asyncio.to_thread(partial(self.add, nodes, **options))

    def delete(self, ref_doc_id: str) -> None:  # type: ignore[override]  # as above
        """Delete the nodes of a document, if they are of the store's task and tenant; without a tenant, of nobody."""
        self._delete([*self._own(), in_documents([ref_doc_id])])

    async def adelete(self, ref_doc_id: str) -> None:  # type: ignore[override]  # as above
        """`delete` in a thread."""
        await asyncio.to_thread(self.delete, ref_doc_id)

    def delete_nodes(  # type: ignore[override]  # as above
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> None:
        """Delete the nodes with these ids that also pass the filters; without ids, of the nodes that `delete` takes.

        Raises:
            ValueError: neither ids nor filters: `clear` deletes everything.
        """
        if node_ids is None and not has_condition(filters):
            raise ValueError("give `node_ids`, `filters` or both; `clear()` deletes everything.")
        own = self._own() if node_ids is None else []  # an id names one node, whatever its task
        self._delete([*own, *self._conditions(node_ids=node_ids, filters=filters)])

    async def adelete_nodes(  # type: ignore[override]  # as above
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> None:
        """`delete_nodes` in a thread."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters)

    def clear(self) -> None:
        """Delete all nodes, of all tasks; without a tenant, those of nobody. The collection stays."""
        self._delete([of_tenant(self._collection.tenant)])

    async def aclear(self) -> None:
        """`clear` in a thread."""
        await asyncio.to_thread(self.clear)

    def query(  # type: ignore[override]  # as above
        self, query: VectorStoreQuery, **options: Unpack[QueryOptions]
    ) -> VectorStoreQueryResult:
        """Search. The query's text is encoded here for its multi-vector; its embedding finds the candidates.

        Args:
            query: a text, an embedding, or both. `hybrid_top_k` is the number of results in mode `hybrid`.
            options: see `QueryOptions`.

        Raises:
            ValueError: the query has neither text nor embedding nor image, its mode needs a text, or it has a field
                that nothing here obeys: `alpha`, `sparse_top_k`, `embedding_field`, `output_fields`; or its embedding
                is of another task or model.
        """
        search_by, search, threshold = self._plan(query, options)
        hits = self._collection.search(search_by, **search)
        if threshold is None:
            return query_result(hits)
        embeddings = self._collection.embeddings_of(hits)
        assert isinstance(search_by, Embeddings)
        return diverse(hits, search_by, embeddings, threshold=threshold, limit=query.similarity_top_k)

    async def aquery(  # type: ignore[override]  # as above
        self, query: VectorStoreQuery, **options: Unpack[QueryOptions]
    ) -> VectorStoreQueryResult:
        """`query` on the asynchronous client; the query is encoded in a thread."""
        search_by, search, threshold = await asyncio.to_thread(self._plan, query, options)
        hits = await self._collection.asearch(search_by, **search)
        if threshold is None:
            return query_result(hits)
        embeddings = await self._collection.aembeddings_of(hits)
        assert isinstance(search_by, Embeddings)
        return diverse(hits, search_by, embeddings, threshold=threshold, limit=query.similarity_top_k)

    def hits(self, query: Query, **options: Unpack[SearchOptions]) -> list[Hit]:
        """`Collection.search`, in the store's mode and for the embedding's task unless the options name others."""
        return self._collection.search(query, **self._with_defaults(options))

    async def ahits(self, query: Query, **options: Unpack[SearchOptions]) -> list[Hit]:
        """`hits` on the asynchronous client."""
        return await self._collection.asearch(query, **self._with_defaults(options))

    def _with_defaults(self, options: SearchOptions) -> SearchOptions:
        mode, task = options.get("mode") or self._mode, options.get("task") or self._embed_model.task
        return {**options, "mode": mode, "task": task}

    def _plan(self, query: VectorStoreQuery, options: QueryOptions) -> tuple[Query, SearchOptions, float | None]:
        """Translate a query into the arguments of `Collection.search`, and the threshold of the query mode `mmr`."""
        check_options(options, QueryOptions.__optional_keys__)
        content, own_filter = query_content(query, options), options.get("qdrant_filters")
        mode = options.get("mode") or query_mode(query, content, self._mode)
        conditions = self._conditions(
            node_ids=self._chosen_ids(query, options),
            doc_ids=query.doc_ids,
            filters=query.filters if own_filter is None else None,
        )
        if own_filter is not None:
            conditions.append(own_filter)
        ranking = {name: value for name, value in options.items() if name in RankingOptions.__optional_keys__}
        search = self._with_defaults(
            {
                **cast("RankingOptions", ranking),
                "mode": mode,
                "limit": query_limit(query, mode),
                "filter": models.Filter(must=conditions) if conditions else None,
            }
        )
        mode, task = search["mode"], search["task"]
        search_by = search_query(
            content,
            query.query_embedding,
            mode=mode,
            task=task,
            embed_model=self._embed_model,
            is_own_task=not options.get("task"),
        )
        threshold = mmr_threshold(query, options)
        if threshold is not None:
            if not isinstance(task, str):
                raise ValueError("the query mode 'mmr' compares vectors, so it searches one task.")
            if not isinstance(search_by, Embeddings):
                encode = self._embed_model.watched.encode_query
                search_by = encode([search_by], task=task, multivector=mode != "dense")
            search["limit"] = search.get("candidates") or max(MIN_CANDIDATES, 4 * search["limit"])
        return search_by, search, threshold

    def _chosen_ids(self, query: VectorStoreQuery, options: QueryOptions) -> Sequence[str] | None:
        """Return the ids that a caller restricts the search to.

        A `VectorStoreIndex` tracks only images and index nodes, and hands their ids to every query, which would hide
        its texts. So ids of such nodes alone are no restriction, unless they are given as an option.
        """
        if options.get("node_ids") is not None or not query.node_ids:
            return options.get("node_ids")
        key = hash(tuple(query.node_ids))
        if self._index_ids is None or self._index_ids[0] != key:
            tracked: list[models.Condition] = [
                models.FieldCondition(key="_polyvec.kind", match=models.MatchValue(value="image")),
                models.FieldCondition(key="_node_type", match=models.MatchValue(value=IndexNode.class_name())),
            ]
            others = models.Filter(must=self._conditions(node_ids=query.node_ids), must_not=tracked)
            self._index_ids = key, next(self._collection.all(others), None) is None
        return None if self._index_ids[1] else query.node_ids

    def _with_stored(self, nodes: Sequence[BaseNode]) -> Iterator[tuple[BaseNode, Stored | None]]:
        """Yield each node with what is stored under its id."""
        for start in range(0, len(nodes), _BATCH):
            batch = nodes[start : start + _BATCH]
            ids = [node.node_id for node in batch if printable(node.node_id) == node.node_id]
            stored = {str(one.id): one for one in self._collection.get(ids)}
            yield from ((node, stored.get(node.node_id)) for node in batch)

    def _delete(self, must: list[models.Condition]) -> None:
        self._index_ids = None
        self._collection.delete_where(models.Filter(must=must))
