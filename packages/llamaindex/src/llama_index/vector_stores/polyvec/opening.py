"""A LlamaIndex vector store that is open: its collection, pickles and its end."""

from pathlib import Path
from typing import Any, Self

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.vector_stores.types import BasePydanticVectorStore
from qdrant_client import QdrantClient

from llama_index.embeddings.polyvec import PolyvecEmbedding
from qdrant_polyvec import Collection, IndexKind, Mode
from qdrant_polyvec.schema import RESERVED

_NODE_INDEXES: dict[str, IndexKind] = {"doc_id": "keyword", "_node_type": "keyword"}


class OpenStore(BasePydanticVectorStore):
    """The part of `PolyvecVectorStore` that pickles and closes the collection, and shows what it was opened with."""

    _collection: Collection = PrivateAttr()
    _embed_model: PolyvecEmbedding = PrivateAttr()
    _mode: Mode = PrivateAttr()
    _settings: dict[str, Any] = PrivateAttr(default_factory=dict)  # what a pickle keeps
    _is_indexed: bool = PrivateAttr(default=False)

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

    def _index_fields(self) -> None:
        """Index what is beside the metadata, once: LlamaIndex's keys, and indexed fields as stock stores write them."""
        if not self._is_indexed:
            for field, kind in {**self._collection.schema.indexed, **_NODE_INDEXES}.items():
                if field not in RESERVED:  # others write that name at the top
                    self._collection.create_index(field, kind, under="")
            self._is_indexed = True

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
