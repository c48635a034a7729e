"""A vector store that is opened, read by ids, emptied and closed."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from qdrant_client import QdrantClient, models

from langchain_polyvec.documents import document
from langchain_polyvec.embeddings import PolyvecEmbeddings
from langchain_polyvec.encoders import encoder_of, task_of, unwrapped
from langchain_polyvec.filters import FilterLike, qdrant_filter
from langchain_polyvec.stock import StockCollection
from qdrant_polyvec import (
    MODES,
    Cluster,
    Collection,
    FingerprintError,
    Location,
    Mode,
    Patience,
    Schema,
    Stored,
    open_client,
)
from qdrant_polyvec.binding import aliased
from qdrant_polyvec.fingerprint import KEY
from qdrant_polyvec.items import possible_ids
from qdrant_polyvec.patient import patient
from qdrant_polyvec.schema import OWN, of_tenant, value_is

AnyCollection = Collection | StockCollection


class OpenStore(VectorStore):
    """The part of `PolyvecVectorStore` that holds a collection; it neither searches nor adds."""

    def __init__(
        self,
        embedding: Embeddings,
        *,
        location: Location = "./polyvec-index",
        collection_name: str = "langchain",
        mode: Mode | None = None,
        schema: Schema | None = None,
        tenant: str | None = None,
        cluster: Cluster | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Open a collection; create it if it does not exist.

        Args:
            embedding: makes the vectors; it must be the one that the collection was created with. A `PolyvecEmbeddings`
                is loaded here; any other embedding is called once, for the length of its vectors.
            location: a folder, which one process at a time can open; the URL of a server; `":memory:"` for tests in one
                thread; or a `qdrant_client.QdrantClient` (see `qdrant_polyvec.open_client`), which stores may share.
            collection_name: the collection.
            mode: default mode of searches; `"two-stage"`, or `"dense"` for an embedding without multi-vectors.
            schema: which vectors a new collection has and how they are stored; see `qdrant_polyvec.Schema`.
            tenant: whose items are added and searched; see `qdrant_polyvec.Collection.open`.
            cluster: how the collection is spread over a cluster.
            patience: how long calls wait for a server; see `qdrant_polyvec.Patience`.

        Raises:
            qdrant_polyvec.FolderLockedError: the folder is open in another process.
            qdrant_polyvec.FingerprintError: the collection holds another model's vectors.
            qdrant_polyvec.SchemaError: the collection has other kinds of vectors.
            qdrant_polyvec.StoreError: a server does not answer, or refuses. Every other method raises it, too.
            ValueError: a `mode` that the embedding has no vectors for.
        """
        if not isinstance(embedding, Embeddings):
            raise TypeError(f"`embedding` is a {type(embedding).__name__}; it is a langchain_core Embeddings.")
        encoder = encoder_of(embedding)
        mode = _checked_mode(mode, has_late=encoder.multivector_dim > 0)
        try:
            collection = Collection.open(
                location,
                collection_name,
                embedder=encoder,
                truncate_dim=_dimensions(embedding),
                schema=schema,
                tenant=tenant,
                cluster=cluster,
                patience=patience,
            )
        except FingerprintError as error:
            advice = _of_caches(embedding, _stored_embedder(location, collection_name, patience))
            raise FingerprintError(advice or str(error).replace("truncate_dim=", "dimensions=")) from error
        if mode == "hybrid" and collection.schema.bm25 is None:
            collection.close()
            raise ValueError("mode 'hybrid' searches by words, too: it needs a collection with Schema(bm25='english').")
        options = {
            "collection_name": collection_name,
            "mode": mode,
            "tenant": tenant,
            "cluster": cluster,
            "patience": patience,
        }
        self._attach(embedding, collection, mode, location, options)

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
        patience: Patience | None = None,
        **kwargs: Any,  # Any: passed to the constructor
    ) -> Self:
        """Open a store on an existing collection; nothing is created.

        The collection may be one that langchain-qdrant's `QdrantVectorStore` created with the same embedding. Such a
        collection is searched by its dense vectors and never written; the last three arguments are for it.

        Raises:
            ValueError: there is no such collection, or it has no such vector.
        """
        if not _is_stock(location, collection_name, patience):
            if vector_name is not None or (content_payload_key, metadata_payload_key) != ("page_content", "metadata"):
                raise TypeError(f"polyvec created {collection_name!r}: its vectors and payload have their own names.")
            kwargs["patience"] = patience
            return cls(embedding, location=location, collection_name=collection_name, mode=mode, **kwargs)
        if kwargs:
            raise TypeError(f"`{next(iter(kwargs))}` has no meaning for the collection of a stock store.")
        mode = _checked_mode(mode, has_late=False)
        stock = StockCollection(
            location,
            collection_name,
            embedder=encoder_of(embedding),
            dim=_dimensions(embedding),
            vector_name=vector_name,
            content_key=content_payload_key,
            metadata_key=metadata_payload_key,
            patience=patience,
        )
        store = cls.__new__(cls)
        options = {
            "collection_name": collection_name,
            "mode": mode,
            "vector_name": vector_name,
            "content_payload_key": content_payload_key,
            "metadata_payload_key": metadata_payload_key,
            "patience": patience,
        }
        store._attach(embedding, stock, mode, location, options, metadata_payload_key)  # noqa: SLF001 — of this class
        return store

    def _attach(
        self,
        embedding: Embeddings,
        collection: AnyCollection,
        mode: Mode,
        location: Location,
        options: Mapping[str, Any],  # to open it again
        metadata_key: str = "metadata",
    ) -> None:
        self._embedding, self._collection, self._mode = embedding, collection, mode
        self._metadata_key = metadata_key
        self._location, self._options_of_opening = location, options

    def __reduce__(self) -> tuple[Callable[[], Self], tuple[()]]:
        """Pickle the settings, not the client: a pickle opens the existing collection again."""
        location = self._location
        if isinstance(location, QdrantClient) or str(location) == ":memory:":
            what = "in memory" if str(location) == ":memory:" else "on a QdrantClient"
            raise TypeError(
                f"a store {what} cannot be pickled, for nobody else could open it; open the store by a folder or by "
                "the URL of a server."
            )
        if "://" not in str(location):
            location = Path(location).absolute()
        again = partial(
            type(self).from_existing_collection, self._embedding, location=location, **self._options_of_opening
        )
        return again, ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the store itself: copies of a retriever share the client, since a folder has one."""
        return self

    @property
    def embeddings(self) -> Embeddings:
        """The embedding that makes the vectors."""
        return self._embedding

    @property
    def collection(self) -> AnyCollection:
        """The collection underneath, for what LangChain has no words for: `count`, `verify`, and more."""
        return self._collection

    @property
    def mode(self) -> Mode:
        """Default mode of searches."""
        return self._mode

    @property
    def task(self) -> str:
        """Default task of additions and searches: the embedding's task."""
        return task_of(self._embedding)

    def close(self) -> None:
        """Write everything to disk and release the folder. A client that was passed in stays open."""
        self._collection.close()

    async def aclose(self) -> None:
        """Close the asynchronous client of this event loop, and the store."""
        await self._collection.aclose()
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents with these ids, in the order of `ids`. Missing ids are left out."""
        return [document(item) for item in self.stored(ids)]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """`get_by_ids` on the asynchronous client."""
        return [document(item) for item in await self._collection.aget(possible_ids(ids))]

    def stored(self, ids: Sequence[str]) -> list[Stored]:
        """`get_by_ids`, as `qdrant_polyvec.Stored` items, which name their task and model."""
        return self._collection.get(possible_ids(ids))

    def documents(self, *, task: str | None = None) -> Iterator[Document]:
        """Iterate over all documents, to look through them or to add them to another store.

        A store without a tenant iterates over those of nobody. A document holds the text of an item, without its
        context: `store.collection.copy_to` copies both, with their vectors.

        Args:
            task: only documents of this task. A document does not name its task, so add documents task by task.
        """
        collection = self._collection
        if isinstance(collection, Collection):
            items = collection.all(models.Filter(must=[of_tenant(collection.tenant)]))
        else:
            items = collection.all()
        return (document(item) for item in items if task is None or item.task == task)

    def delete(self, ids: Sequence[str] | None = None, *, filter: FilterLike | None = None, **kwargs: Any) -> bool:  # noqa: A002 — LangChain's word
        """Delete documents by their ids, of any task, or those of the store's task and tenant that pass a filter.

        By a filter, a store without a tenant deletes documents of nobody only, although it reads those of all tenants.

        Args:
            ids: missing ids do not matter.
            filter: as for searches; give either `ids` or `filter`.
            kwargs: must be empty.

        Raises:
            ValueError: neither, or an empty filter: nothing deletes a whole store in passing.
        """
        if kwargs:
            raise TypeError(f"`delete` has no option {next(iter(kwargs))!r}; it takes `ids` or `filter`.")
        collection, condition = self._writable(), qdrant_filter(filter)
        if condition == models.Filter() or (ids is None) == (condition is None):
            raise ValueError(
                "`delete` takes either `ids`, a list, or a `filter` that is not empty. To delete everything, delete "
                "the collection with `store.collection.client`."
            )
        if condition is not None:
            own = [value_is(f"{OWN}.task", self.task), of_tenant(collection.tenant)]
            collection.delete_where(models.Filter(must=[*own, condition]))
        else:
            collection.delete(ids=possible_ids(ids or []))
        return True

    def _writable(self) -> Collection:
        if isinstance(self._collection, Collection):
            return self._collection
        raise TypeError(
            f"a stock store created {self._collection.name!r}; it is only read here. Move it once: "
            "`new.add_documents(old.documents())`, into a store with another collection_name."
        )


def _dimensions(embedding: Embeddings) -> int | None:
    return embedding.dimensions if isinstance(embedding, PolyvecEmbeddings) else None


def _checked_mode(mode: Mode | None, *, has_late: bool) -> Mode:
    """Return the default mode of a store: `mode`, or the best that its vectors allow; a ValueError if they do not."""
    possible = MODES if has_late else ("dense",)
    if mode is None:
        return "two-stage" if has_late else "dense"
    if mode not in possible:
        raise ValueError(f"`mode` is {mode!r}; it must be one of {', '.join(map(repr, possible))}.")
    return mode


def _is_stock(location: Location, name: str, patience: Patience | None) -> bool:
    """True if a stock store created the collection: it has no polyvec fingerprint. A ValueError if it is missing."""
    is_folder = isinstance(location, str | Path) and "://" not in str(location) and str(location) != ":memory:"
    if is_folder and not Path(str(location)).is_dir():
        raise ValueError(f"there is no folder {str(location)!r}.")
    return _stored_embedder(location, name, patience) is None


def _stored_embedder(location: Location, name: str, patience: Patience | None) -> str | None:
    """Return the fingerprint of the embedder that made a collection; None if there is none. Errors: as `_is_stock`."""
    opened = open_client(location)
    client = patient(opened, patience or Patience())
    try:
        if not client.collection_exists(aliased(client, name)):
            raise ValueError(f"there is no collection {name!r} there.")
        facts = (client.get_collection(name).config.metadata or {}).get(KEY)
        return None if facts is None else str(facts["embedder"])
    finally:
        if opened is not location:
            opened.close()


def _of_caches(embedding: Embeddings, stored: str | None) -> str | None:
    """Say what is wrong if a collection and an embedding differ in a cache around the embedding only."""
    inner = unwrapped(embedding)
    if not isinstance(inner, PolyvecEmbeddings) or stored is None:
        return None
    if embedding is not inner and stored == inner.encoder.fingerprint:
        return (
            f"this {type(embedding).__name__} keeps dense vectors only, and the collection has multi-vectors of the "
            "same model: open it with the PolyvecEmbeddings itself. To keep both kinds of vectors between runs, give "
            "that `client=polyvec.encoders.cached.CachedEncoder(…)`."
        )
    if embedding is inner and stored == inner.cache_namespace:
        return (
            "the collection was made with a cache around this embedding, such as CacheBackedEmbeddings, and has dense "
            "vectors only: open it with that cache, or add its documents to another collection, with multi-vectors."
        )
    return None
