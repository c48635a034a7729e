"""A LlamaIndex vector store that is opened, pickled and closed."""

from pathlib import Path
from typing import Any, Self

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.vector_stores.types import BasePydanticVectorStore
from qdrant_client import QdrantClient

from llama_index.embeddings.polyvec import PolyvecEmbedding
from qdrant_polyvec import MODES, Cluster, Collection, FingerprintError, Location, Mode, Schema


class OpenStore(BasePydanticVectorStore):
    """The part of `PolyvecVectorStore` that opens, pickles and closes the collection."""

    _collection: Collection = PrivateAttr()
    _embed_model: PolyvecEmbedding = PrivateAttr()
    _mode: Mode = PrivateAttr()
    _settings: dict[str, Any] = PrivateAttr(default_factory=dict)  # what a pickle keeps

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
            embed_model: makes the vectors. It is loaded here, and must be the one that the collection was created with.
            location: a folder, which one client at a time can open; the URL of a server; `":memory:"` for tests in one
                thread; or a `qdrant_client.QdrantClient` (see `qdrant_polyvec.open_client`), which several stores may
                share.
            collection_name: the collection.
            mode: the mode of queries that name none.
            schema: the vectors of a new collection and how they are stored; see `qdrant_polyvec.Schema`.
            tenant: restricts every operation to this tenant's nodes; see `qdrant_polyvec.Collection.open`.
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
            )
        except FingerprintError as error:
            raise FingerprintError(str(error).replace("truncate_dim=", "dimensions=")) from error
        self._embed_model, self._mode = embed_model, mode
        self._settings = {
            "embed_model": embed_model,
            "location": location,
            "collection_name": collection_name,
            "mode": mode,
            "schema": schema,
            "tenant": tenant,
            "cluster": cluster,
        }

    @property
    def client(self) -> QdrantClient:
        return self._collection.client

    @property
    def collection(self) -> Collection:
        """The collection underneath, for what LlamaIndex has no words for: `count`, `verify`, `reindex`, and more."""
        return self._collection

    @property
    def embed_model(self) -> PolyvecEmbedding:
        return self._embed_model

    @property
    def mode(self) -> Mode:
        """The mode of queries that name none."""
        return self._mode

    def close(self) -> None:
        """Write everything to disk and release the folder. A client that was handed in stays open."""
        self._collection.close()

    async def aclose(self) -> None:
        """Close the asynchronous client, which the asynchronous queries opened, and the store."""
        await self._collection.aclose()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self  # there is one client

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings; the collection is opened again where they are read.

        Raises:
            TypeError: the store is in memory, or on a client that was handed in.
        """
        location = self._settings.get("location")
        if not isinstance(location, str | Path) or location == ":memory:":
            raise TypeError(
                f"a PolyvecVectorStore on {'memory' if isinstance(location, str) else 'a client'} is not pickled: open "
                "it where it is needed, or give it a folder or the URL of a server as `location`, which a pickle names."
            )
        if "://" not in str(location):
            location = Path(location).absolute()
        return _opened, (type(self), {**self._settings, "location": location})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _opened(kind: type[OpenStore], settings: dict[str, Any]) -> OpenStore:
    """Open a store from a pickle."""
    return kind(**settings)
