"""A LlamaIndex vector store on a `qdrant_polyvec.Collection`."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self

import numpy as np
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, IndexNode
from llama_index.core.vector_stores.types import (
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import models

from llama_index.embeddings.polyvec import PolyvecEmbedding
from llama_index.embeddings.polyvec.images import ImageLike, image_input
from llama_index.vector_stores.polyvec.nodes import item, node
from polyvec.types import Embeddings, Input
from qdrant_polyvec import (
    MODES,
    Cluster,
    Collection,
    Failure,
    FingerprintError,
    Hit,
    Item,
    Location,
    Mode,
    Schema,
    Stored,
)
from qdrant_polyvec.points import has_id
from qdrant_polyvec.search import Query, Tasks

OPTIONS = ("mode", "task", "candidates", "score_threshold", "oversampling", "qdrant_filters", "node_ids", "query_image")


class PolyvecVectorStore(QdrantVectorStore):
    """Text and image nodes in one collection, with dense vectors and multi-vectors.

    It writes the node payload of the stock `QdrantVectorStore` and takes its filters, so that class reads the
    collection (`dense_vector_name="dense"`); and `qdrant_polyvec.Collection`'s own, so that verification, reindexing
    with another model and the other packages' stores work on it, too.

    Options of a query go into `vector_store_kwargs` of a retriever: `mode` (`"two-stage"`, `"late"`, `"dense"`,
    `"hybrid"`), `task`, `candidates`, `score_threshold`, `oversampling` (see `qdrant_polyvec.Collection.search`),
    `qdrant_filters` (instead of `filters`), `node_ids` (search only these), `query_image`.

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

    _collection: Collection = PrivateAttr()
    _embed_model: PolyvecEmbedding = PrivateAttr()
    _mode: Mode = PrivateAttr()
    _closing: contextlib.ExitStack = PrivateAttr()
    _asked_about: tuple[int, bool] | None = PrivateAttr(default=None)

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
    ) -> None:
        """Open a collection; create it if it does not exist.

        Args:
            embed_model: makes the vectors, and is loaded here; it must be the one that the collection was created with.
            location: a folder, which one client at a time can have; the URL of a server; `":memory:"` for tests in one
                thread; or a `qdrant_client.QdrantClient` (see `qdrant_polyvec.open_client`), which several stores may
                share.
            collection_name: the collection.
            mode: how to search unless a query says otherwise.
            schema: which vectors a new collection has and how they are stored; see `qdrant_polyvec.Schema`.
            tenant: whose nodes are added and found; see `qdrant_polyvec.Collection.open`.
            cluster: how the collection is spread over a cluster.

        Raises:
            qdrant_polyvec.FolderLockedError: the folder is open in another client.
            qdrant_polyvec.FingerprintError: the collection holds another model's vectors.
            qdrant_polyvec.SchemaError: the collection has other kinds of vectors.
        """
        if not isinstance(embed_model, PolyvecEmbedding):
            raise TypeError(f"`embed_model` is a {type(embed_model).__name__}; it is a PolyvecEmbedding.")
        if mode not in MODES:
            raise ValueError(f"`mode` is {mode!r}; it must be one of {', '.join(map(repr, MODES))}.")
        try:
            collection = Collection.open(
                location,
                collection_name,
                embedder=embed_model.encoder,
                truncate_dim=embed_model.dimensions,
                schema=schema,
                tenant=tenant,
                cluster=cluster,
            )
        except FingerprintError as error:
            raise FingerprintError(str(error).replace("truncate_dim=", "dimensions=")) from error
        with contextlib.ExitStack() as on_error:
            on_error.callback(collection.close)
            super().__init__(
                collection_name, client=collection.client, dense_vector_name="dense", text_key="page_content"
            )
            self._collection, self._embed_model, self._mode = collection, embed_model, mode
            self._closing = on_error.pop_all()

    @classmethod
    def class_name(cls) -> str:
        return "PolyvecVectorStore"

    @property
    def collection(self) -> Collection:
        """What the nodes are kept in, for what LlamaIndex has no words for: `count`, `verify`, `reindex`, and more."""
        return self._collection

    @property
    def embed_model(self) -> PolyvecEmbedding:
        return self._embed_model

    @property
    def mode(self) -> Mode:
        """How it is searched unless a query says otherwise."""
        return self._mode

    def close(self) -> None:
        """Write everything to disk and release the folder. A client that was handed in stays open."""
        self._closing.close()

    async def aclose(self) -> None:
        """Close the asynchronous client, which the asynchronous queries opened, and the store."""
        await self._collection.aclose()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self  # there is one client

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("a PolyvecVectorStore is not pickled: it holds a client. Open it where it is needed.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(  # type: ignore[override]  # an unknown option is refused
        self,
        nodes: Sequence[Any],  # Any: BaseNode, as checked here
        *,
        task: str | None = None,
        batch_size: int = 64,
        show_progress: bool = False,
    ) -> list[str]:
        """Encode and store nodes: image nodes by their images, others by their texts as LlamaIndex embeds them.

        What is there already, unchanged, is not encoded again.

        Args:
            nodes: with embeddings or without; dense vectors and multi-vectors are made here, in one pass.
            task: what to encode for; the embedding's task unless given. Queries find nodes of their own task only, and
                a node is of one task: added again for another, it changes over.
            batch_size: how many are encoded and stored at a time.
            show_progress: show a progress bar.

        Returns:
            The nodes' ids, in order.

        Raises:
            UnstoredItems: some could not be stored (no text, no image, a file that has vanished, metadata that are not
                JSON); all others were.
        """
        if isinstance(nodes, BaseNode) or not all(isinstance(one, BaseNode) for one in nodes):
            raise TypeError("`nodes` is a list of LlamaIndex nodes.")
        self._asked_about = None
        of_task = task or self._embed_model.task
        dim = self._embed_model.dimensions or self._embed_model.encoder.dim
        listed = list(nodes)
        found: Iterator[Item | Failure] = (item(one, of_task, dim=dim) for one in listed)
        report = self._collection.add(found, task=of_task, batch_size=batch_size, show_progress=show_progress)
        ids = [one.node_id for one in listed]
        report.check(ids)
        return ids

    async def async_add(self, nodes: Sequence[BaseNode], **how: Any) -> list[str]:  # type: ignore[override]  # as above
        """`add` in a thread, so that the event loop goes on; once begun, it ends even if cancelled."""
        return await asyncio.to_thread(partial(self.add, nodes, **how))

    def delete(self, ref_doc_id: str, *_: Any, **delete_kwargs: Any) -> None:
        """Delete the nodes of a document."""
        _refuse(delete_kwargs)
        self._delete([_of_documents([ref_doc_id])])

    async def adelete(self, ref_doc_id: str, *_: Any, **delete_kwargs: Any) -> None:
        """`delete` in a thread."""
        await asyncio.to_thread(partial(self.delete, ref_doc_id, **delete_kwargs))

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, *_: Any, **delete_kwargs: Any
    ) -> None:
        """Delete nodes: those with these ids that also pass the filters.

        Raises:
            ValueError: neither ids nor filters: `clear` deletes everything.
        """
        _refuse(delete_kwargs)
        if node_ids is None and not _has_condition(filters):
            raise ValueError("give `node_ids`, `filters` or both; `clear()` deletes everything.")
        self._delete(self._conditions(node_ids=node_ids, filters=filters))

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, *_: Any, **delete_kwargs: Any
    ) -> None:
        """`delete_nodes` in a thread."""
        await asyncio.to_thread(partial(self.delete_nodes, node_ids, filters, **delete_kwargs))

    def clear(self) -> None:
        """Delete all nodes; the collection stays."""
        self._delete([])

    async def aclear(self) -> None:
        """`clear` in a thread."""
        await asyncio.to_thread(self.clear)

    def get_nodes(  # type: ignore[override]  # an unknown option is refused
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        limit: int | None = None,
    ) -> list[BaseNode]:
        """The nodes with these ids that also pass the filters; all of them if neither is given.

        They come without their embeddings.
        """
        if node_ids is not None and filters is None:
            return [node(one) for one in self._collection.get(node_ids)][:limit]
        return [node(one) for one in self._scroll(self._conditions(node_ids=node_ids, filters=filters), limit)]

    async def aget_nodes(  # type: ignore[override]  # as above
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        limit: int | None = None,
    ) -> list[BaseNode]:
        """`get_nodes` in a thread."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters, limit)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """What suits a query best; options are those of the class.

        A text is encoded here for its multi-vector; an embedding that the query brings finds the candidates.

        Raises:
            ValueError: the query has neither text nor embedding nor image, or its mode needs a text.
        """
        asked, how = self._plan(query, kwargs)
        return _result(self.hits(self._asked(asked, query, how), query.similarity_top_k, **how))

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """`query` on the asynchronous client; the query is encoded in a thread."""
        asked, how = await asyncio.to_thread(self._plan, query, kwargs)
        ready = await asyncio.to_thread(self._asked, asked, query, how)
        return _result(await self.ahits(ready, query.similarity_top_k, **how))

    def hits(self, query: Query, limit: int, **how: Any) -> list[Hit]:
        """What `Collection.search` finds, in the store's mode and task unless `how` says otherwise."""
        return self._collection.search(query, limit=limit, **self._defaults(how))

    async def ahits(self, query: Query, limit: int, **how: Any) -> list[Hit]:
        """`hits` on the asynchronous client."""
        return await self._collection.asearch(query, limit=limit, **self._defaults(how))

    def condition(
        self,
        filters: MetadataFilters | None,
        *,
        node_ids: Sequence[str] | None = None,
        doc_ids: Sequence[str] | None = None,
    ) -> models.Filter | None:
        """LlamaIndex's filters as Qdrant's; all of them must hold."""
        must = self._conditions(node_ids=node_ids, filters=filters, doc_ids=doc_ids)
        return models.Filter(must=must) if must else None

    def _defaults(self, how: Mapping[str, Any]) -> dict[str, Any]:
        return {**how, "mode": how.get("mode") or self._mode, "task": how.get("task") or self._embed_model.task}

    def _plan(self, query: VectorStoreQuery, kwargs: Mapping[str, Any]) -> tuple[Input | None, dict[str, Any]]:
        """The text or image to encode, if any, and how to search."""
        if unknown := sorted(kwargs.keys() - set(OPTIONS)):
            raise TypeError(f"{unknown[0]!r} is no option of a query; those are {', '.join(OPTIONS)}.")
        if query.mode not in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.HYBRID):
            raise ValueError(
                f"query mode {query.mode.value!r} is not offered: choose by vector_store_kwargs={{'mode': …}}, one of "
                f"{', '.join(map(repr, MODES))}."
            )
        hybrid: Mode | None = "hybrid" if query.mode == VectorStoreQueryMode.HYBRID else None
        how = {key: kwargs[key] for key in ("task", "candidates", "score_threshold", "oversampling") if key in kwargs}
        # An embedding alone, as of an image that an index has embedded itself, has no multi-vector.
        alone: Mode | None = "dense" if not query.query_str and kwargs.get("query_image") is None else None
        how["mode"] = kwargs.get("mode") or hybrid or alone or self._mode
        node_ids = kwargs.get("node_ids")
        if node_ids is None and query.node_ids and not self._of_an_index(query.node_ids):
            node_ids = query.node_ids
        own = kwargs.get("qdrant_filters")
        must = self._conditions(
            node_ids=node_ids, doc_ids=query.doc_ids, filters=query.filters if own is None else None
        )
        if own is not None:
            must.append(own)
        how["filter"] = models.Filter(must=must) if must else None
        image: ImageLike | None = kwargs.get("query_image")
        return (query.query_str or None) if image is None else image_input(image), how

    def _asked(self, asked: Input | None, query: VectorStoreQuery, how: dict[str, Any]) -> Query:
        """What is searched by: the query, or its vectors, of which the dense one is the query's own if it has one."""
        given = query.query_embedding
        if given is None or (asked is not None and not isinstance(asked, str)):
            if asked is None:
                raise ValueError(
                    "the query has neither text nor embedding; an image goes in vector_store_kwargs={'query_image': …} "
                    "or in the `image_path` of a QueryBundle for PolyvecRetriever."
                )
            return asked
        dense = Embeddings(np.asarray([given], np.float32), None, (None,))
        if how["mode"] == "dense" and (asked is None or how.get("task") in (None, self._embed_model.task)):
            return dense
        if asked is None:
            raise ValueError(f"mode {how['mode']!r} needs the query's text; an embedding alone is searched in 'dense'.")
        task: Tasks = how.get("task") or self._embed_model.task
        if how["mode"] == "hybrid" or task != self._embed_model.task:
            return asked  # it is encoded for what is searched; the query's embedding is of the embedding's own task
        encoded = self._collection.embedder.encode_query(
            [asked], task=task, truncate_dim=self._embed_model.dimensions, multivector=True
        )
        return replace(encoded, dense=dense.dense)

    def _of_an_index(self, node_ids: Sequence[str]) -> bool:
        """Whether these are images and index nodes only: then they are not what a user chose.

        A `VectorStoreIndex` remembers only those and hands their ids to every query, which would hide its texts. To
        search some of them only, pass `node_ids` as an option.
        """
        key = hash(tuple(node_ids))
        if self._asked_about is None or self._asked_about[0] != key:
            of_an_index: list[models.Condition] = [
                models.FieldCondition(key="_polyvec.kind", match=models.MatchValue(value="image")),
                models.FieldCondition(key="_node_type", match=models.MatchValue(value=IndexNode.class_name())),
            ]
            others: list[models.Condition] = [
                has_id(node_ids, self._collection.tenant),
                models.Filter(must_not=of_an_index),
            ]
            self._asked_about = key, next(self._scroll(others, 1), None) is None
        return self._asked_about[1]

    def _conditions(
        self,
        *,
        node_ids: Sequence[str] | None = None,
        filters: MetadataFilters | None = None,
        doc_ids: Sequence[str] | None = None,
    ) -> list[models.Condition]:
        must: list[models.Condition] = []
        if doc_ids is not None:
            must.append(_of_documents(doc_ids))
        if node_ids is not None:
            must.append(has_id(node_ids, self._collection.tenant))
        if filters is not None and _has_condition(filters):
            must.append(self._build_subfilter(filters))
        return must

    def _delete(self, must: Sequence[models.Condition]) -> None:
        self._asked_about = None
        self._collection.delete_where(models.Filter(must=list(must)))

    def _scroll(self, must: Sequence[models.Condition], limit: int | None) -> Iterator[Stored]:
        found = self._collection.all(models.Filter(must=list(must)))
        return found if limit is None else (one for one, _ in zip(found, range(limit), strict=False))


def _has_condition(filters: MetadataFilters | None) -> bool:
    """Whether a filter asks for anything; an empty one would let everything pass."""
    parts = filters.filters if filters is not None else []
    return any(_has_condition(part) if isinstance(part, MetadataFilters) else True for part in parts)


def _of_documents(ref_doc_ids: Sequence[str]) -> models.Condition:
    if not ref_doc_ids:
        return models.HasIdCondition(has_id=[])  # of no document is nothing
    return models.FieldCondition(key="doc_id", match=models.MatchAny(any=list(ref_doc_ids)))


def _refuse(unknown: Mapping[str, Any]) -> None:
    if unknown:
        raise TypeError(f"{next(iter(unknown))!r} is no option of a deletion.")


def _result(found: Sequence[Hit]) -> VectorStoreQueryResult:
    return VectorStoreQueryResult(
        nodes=[node(hit) for hit in found],
        similarities=[similarity(hit) for hit in found],
        ids=[str(hit.id) for hit in found],
    )


def similarity(hit: Hit) -> float:
    """A cosine, or the mean of the query tokens' best cosines; of merged rankings, what the fusion gave."""
    return hit.score if hit.relevance is None else 2 * hit.relevance - 1
