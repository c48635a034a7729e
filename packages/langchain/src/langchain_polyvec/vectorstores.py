"""A LangChain vector store on a `qdrant_polyvec.Collection`."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from langchain_polyvec.additions import Additions, Metadata
from langchain_polyvec.documents import document
from langchain_polyvec.embeddings import PolyvecEmbeddings
from langchain_polyvec.encoders import encoder_of, task_of
from langchain_polyvec.images import ImageLike
from langchain_polyvec.searches import Searches, as_documents
from langchain_polyvec.stock import StockCollection
from qdrant_polyvec import MODES, Cluster, Collection, FingerprintError, Location, Mode, Schema, Stored, open_client
from qdrant_polyvec.fingerprint import KEY
from qdrant_polyvec.place import behind_alias


class PolyvecVectorStore(Additions, Searches):
    """Texts, images and pages with dense vectors and multi-vectors, in a folder, on a server, or on a cluster.

    Setup:
        ```bash
        pip install "langchain-polyvec[qdrant]"
        ```

    Key init args:
        embedding: a `PolyvecEmbeddings`; any other `Embeddings` has texts only, in mode `"dense"`.
        location: a folder, the URL of a server, or a `QdrantClient`.
        collection_name: the collection.
        mode: `"two-stage"`, `"late"`, `"dense"` or `"hybrid"`.

    Instantiate:
        ```python
        from langchain_polyvec import PolyvecEmbeddings, PolyvecVectorStore

        store = PolyvecVectorStore(PolyvecEmbeddings(model="demo"), location="./index", collection_name="docs")
        ```

    Add documents, images, and PDFs:
        ```python
        store.add_documents(documents)
        store.add_images(["page-1.png"])
        store.add_pdfs(["report.pdf"])
        ```

    Search:
        ```python
        store.similarity_search("revenue by region", k=4, filter={"lang": "en"})
        ```

    Use as retriever:
        ```python
        retriever = store.as_retriever(search_kwargs={"k": 4, "mode": "late"})
        ```

    Searches take `filter` (a `qdrant_client.models.Filter`, or a mapping as in `filters.qdrant_filter`), `mode`,
    `task` (one, or several to merge), `candidates`, `score_threshold` and `oversampling`, as
    `qdrant_polyvec.Collection.search` explains them. Nothing else is taken.
    """

    def __init__(
        self,
        embedding: Embeddings,
        *,
        location: Location | StockCollection = "./polyvec-index",
        collection_name: str = "langchain",
        mode: Mode | None = None,
        schema: Schema | None = None,
        tenant: str | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        """Open a collection; create it if it does not exist.

        Args:
            embedding: makes the vectors; it must be the one that the collection was created with. A `PolyvecEmbeddings`
                is loaded here, any other one is asked for one vector.
            location: a folder, which one client at a time can have; the URL of a server; `":memory:"` for tests in one
                thread; or a `qdrant_client.QdrantClient` (see `qdrant_polyvec.open_client`), which several stores may
                share; or a `StockCollection`, for which the other arguments mean nothing.
            collection_name: the collection.
            mode: how to search unless a search says otherwise; `"two-stage"`, or `"dense"` for an `Embeddings` that
                makes no multi-vectors.
            schema: which vectors a new collection has and how they are stored; see `qdrant_polyvec.Schema`.
            tenant: whose items are added and found; see `qdrant_polyvec.Collection.open`.
            cluster: how the collection is spread over a cluster.

        Raises:
            qdrant_polyvec.FolderLockedError: the folder is open in another client.
            qdrant_polyvec.FingerprintError: the collection holds another model's vectors.
            qdrant_polyvec.SchemaError: the collection has other kinds of vectors.
            ValueError: a `mode` that the embedding has no vectors for.
        """
        if not isinstance(embedding, Embeddings):
            raise TypeError(f"`embedding` is a {type(embedding).__name__}; it is a langchain_core Embeddings.")
        self._closing = contextlib.ExitStack()
        self._embedding = embedding
        if isinstance(location, StockCollection):
            if any(one is not None for one in (schema, tenant, cluster)):
                raise TypeError("`schema`, `tenant` and `cluster` have no meaning for the collection of a stock store.")
            self._closing.callback(location.close)  # which closes what it has opened itself
            self._collection: Collection | StockCollection = location
            self._mode = _checked_mode(mode, has_late=False)
            return
        encoder = encoder_of(embedding)
        self._mode = _checked_mode(mode, has_late=encoder.multivector_dim > 0)
        try:
            collection = Collection.open(
                location,
                collection_name,
                embedder=encoder,
                truncate_dim=embedding.dimensions if isinstance(embedding, PolyvecEmbeddings) else None,
                schema=schema,
                tenant=tenant,
                cluster=cluster,
            )
        except FingerprintError as error:
            raise FingerprintError(str(error).replace("truncate_dim=", "dimensions=")) from error
        if self._mode == "hybrid" and collection.schema.bm25 is None:
            collection.close()
            raise ValueError("mode 'hybrid' searches by words, too: it needs a collection with Schema(bm25='english').")
        self._collection = collection
        self._closing.callback(collection.close)

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings,
        metadatas: Iterable[Metadata | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,  # Any: handed to the constructor
    ) -> Self:
        """A store, as the constructor makes it, with these texts added."""
        return cls._filled(embedding, lambda store: store.add_texts(texts, metadatas, ids=ids), kwargs)

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,  # Any: handed to the constructor
    ) -> Self:
        """A store, as the constructor makes it, with these documents added."""
        return cls._filled(embedding, lambda store: store.add_documents(documents, ids=ids), kwargs)

    @classmethod
    def from_images(
        cls,
        uris: Iterable[ImageLike],
        embedding: Embeddings,
        metadatas: Iterable[Metadata | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,  # Any: handed to the constructor
    ) -> Self:
        """A store, as the constructor makes it, with these images added."""
        return cls._filled(embedding, lambda store: store.add_images(uris, metadatas, ids=ids), kwargs)

    @classmethod
    async def afrom_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings,
        metadatas: Iterable[Metadata | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,  # Any: handed to the constructor
    ) -> Self:
        """`from_texts` in a thread."""
        return await asyncio.to_thread(partial(cls.from_texts, texts, embedding, metadatas, ids=ids, **kwargs))

    @classmethod
    async def afrom_images(
        cls,
        uris: Iterable[ImageLike],
        embedding: Embeddings,
        metadatas: Iterable[Metadata | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,  # Any: handed to the constructor
    ) -> Self:
        """`from_images` in a thread."""
        return await asyncio.to_thread(partial(cls.from_images, uris, embedding, metadatas, ids=ids, **kwargs))

    @classmethod
    async def afrom_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,  # Any: handed to the constructor
    ) -> Self:
        """`from_documents` in a thread."""
        return await asyncio.to_thread(partial(cls.from_documents, documents, embedding, ids=ids, **kwargs))

    @classmethod
    def from_existing_collection(
        cls,
        embedding: Embeddings,
        *,
        location: Location = "./polyvec-index",
        collection_name: str = "langchain",
        mode: Mode | None = None,
        vector_name: str | None = None,
        content_payload_key: str = "page_content",
        metadata_payload_key: str = "metadata",
        **kwargs: Any,  # Any: handed to the constructor
    ) -> Self:
        """A store on a collection that is there; nothing is created.

        It may be one that langchain-qdrant's `QdrantVectorStore` has made, with the same embedding: that is searched by
        its dense vectors and never written. The last three arguments are for those.

        Raises:
            ValueError: there is no such collection, or it has no such vector.
        """
        if _is_stock(location, collection_name):
            if kwargs:
                raise TypeError(f"`{next(iter(kwargs))}` has no meaning for the collection of a stock store.")
            stock = StockCollection(
                location,
                collection_name,
                embedder=encoder_of(embedding),
                dim=embedding.dimensions if isinstance(embedding, PolyvecEmbeddings) else None,
                vector_name=vector_name,
                content_key=content_payload_key,
                metadata_key=metadata_payload_key,
            )
            return cls(embedding, location=stock, mode=mode)
        if vector_name is not None or (content_payload_key, metadata_payload_key) != ("page_content", "metadata"):
            raise TypeError(f"{collection_name!r} was made by polyvec: its vectors and payload have their own names.")
        return cls(embedding, location=location, collection_name=collection_name, mode=mode, **kwargs)

    @property
    def embeddings(self) -> Embeddings:
        return self._embedding

    @property
    def collection(self) -> Collection | StockCollection:
        """What the items are kept in, for what LangChain has no words for: `count`, `verify`, and more."""
        return self._collection

    @property
    def mode(self) -> Mode:
        """How it is searched unless a search says otherwise."""
        return self._mode

    @property
    def task(self) -> str:
        """What items are encoded and searched for unless a call says otherwise: the embedding's task."""
        return task_of(self._embedding)

    @property
    def has_multivectors(self) -> bool:
        """Whether items have multi-vectors, and so other modes than `dense`."""
        return isinstance(self._collection, Collection) and self._collection.embedder.multivector_dim > 0

    @property
    def _show_progress(self) -> bool:
        """Whether progress bars are shown unless a call says otherwise: as the embedding says."""
        return isinstance(self._embedding, PolyvecEmbeddings) and self._embedding.show_progress

    def close(self) -> None:
        """Write everything to disk and release the folder. A client that was handed in stays open."""
        self._closing.close()

    async def aclose(self) -> None:
        """Close the asynchronous client, which the asynchronous searches opened, and the store."""
        await self._collection.aclose()
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids that are there, in the order of `ids`."""
        return as_documents(self.stored(ids))

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """`get_by_ids` on the asynchronous client."""
        return as_documents(await self._collection.aget(_with_numbers(ids)))

    def stored(self, ids: Sequence[str]) -> list[Stored]:
        """What `get_by_ids` gives, as `qdrant_polyvec.Stored` items, which know their task and model."""
        return self._collection.get(_with_numbers(ids))

    def _writable(self) -> Collection:
        """Where items are added and deleted."""
        if isinstance(self._collection, Collection):
            return self._collection
        raise TypeError(
            f"a stock store made {self._collection.name!r}; it is only read here. Move it once: "
            "`new.add_documents(old.documents())`, into a store with another collection_name."
        )

    def documents(self, *, task: str | None = None) -> Iterator[Document]:
        """All documents, some hundred at a time: to look through them, or to add them to another store.

        Args:
            task: only those of this task; a document itself does not say which it is of, so add them task by task.
        """
        return (document(one) for one in self._collection.all() if task is None or one.task == task)

    def delete(self, ids: Sequence[str] | None = None, **kwargs: Any) -> bool:
        """Delete documents by their ids; those that are not there do not matter.

        Raises:
            ValueError: no `ids`: nothing deletes a whole store in passing.
        """
        if ids is None or kwargs:
            raise ValueError(
                "`delete` takes `ids`, a list. By source: `store.collection.delete(sources=[…])`; everything: delete "
                "the collection with `store.collection.client`."
            )
        self._writable().delete(ids=_with_numbers(ids))
        return True

    async def adelete(self, ids: Sequence[str] | None = None, **kwargs: Any) -> bool:
        """`delete` in a thread."""
        return await asyncio.to_thread(partial(self.delete, ids, **kwargs))

    @classmethod
    def _filled(cls, embedding: Embeddings, add: Callable[[Self], object], options: Mapping[str, Any]) -> Self:
        """A store with something added; should that fail, the folder is released, and what was stored stays."""
        with contextlib.ExitStack() as on_error:
            store = cls(embedding, **options)
            on_error.callback(store.close)
            add(store)
            on_error.pop_all()
        return store


def _checked_mode(mode: Mode | None, *, has_late: bool) -> Mode:
    """The mode of a store; by default the best that it has vectors for.

    Raises:
        ValueError: an unknown one, or one that it has no vectors for.
    """
    possible = MODES if has_late else ("dense",)
    if mode is None:
        return "two-stage" if has_late else "dense"
    if mode not in possible:
        raise ValueError(f"`mode` is {mode!r}; it must be one of {', '.join(map(repr, possible))}.")
    return mode


def _with_numbers(ids: Sequence[str]) -> list[str | int]:
    """The ids, and the numbers that they are written as: a `Collection` may have items with such ids."""
    if isinstance(ids, str | bytes) or not isinstance(ids, Sequence):
        raise TypeError("give `ids` as a list.")
    numbers = [int(identity) for identity in ids if identity.isascii() and identity.isdecimal()]
    return [*ids, *(number for number in numbers if number < 2**64 and str(number) in ids)]


def _is_stock(location: Location, name: str) -> bool:
    """Whether an existing collection does not say which model made it, as none of ours fails to.

    Raises:
        ValueError: there is no such collection.
    """
    is_folder = isinstance(location, str | Path) and "://" not in str(location) and str(location) != ":memory:"
    if is_folder and not Path(str(location)).is_dir():
        raise ValueError(f"there is no folder {str(location)!r}.")
    client = open_client(location)
    try:
        if not client.collection_exists(name) and behind_alias(client, name) is None:
            raise ValueError(f"there is no collection {name!r} there.")
        return KEY not in (client.get_collection(name).config.metadata or {})
    finally:
        if client is not location:
            client.close()
