"""A LlamaIndex vector store that is open: its collection, the nodes in it, pickles and its end."""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import BasePydanticVectorStore, MetadataFilters
from qdrant_client import QdrantClient, models

from llama_index.embeddings.polyvec import PolyvecEmbedding
from llama_index.vector_stores.polyvec.filters import has_condition, in_documents, qdrant_filter
from llama_index.vector_stores.polyvec.nodes import to_node
from qdrant_polyvec import Collection, IndexKind, Mode, Stored
from qdrant_polyvec.items import possible_ids
from qdrant_polyvec.points import has_id
from qdrant_polyvec.schema import OWN, RESERVED, of_tenant, value_is

_NODE_INDEXES: dict[str, IndexKind] = {"doc_id": "keyword", "_node_type": "keyword"}


class OpenStore(BasePydanticVectorStore):
    """The part of `PolyvecVectorStore` that reads nodes, pickles and closes the collection, and shows its settings."""

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

    def get_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        limit: int | None = None,
        *,
        task: str | None = None,
    ) -> list[BaseNode]:
        """Return the nodes with these ids that also pass the filters, without their embeddings.

        Without ids and filters, return all nodes. A store without a tenant returns those of nobody. A node holds the
        text of an item, without its context: `store.collection.copy_to` copies both, with their vectors.

        Args:
            node_ids: which nodes, in this order if there is nothing else.
            filters: conditions on the metadata.
            limit: largest number of nodes.
            task: only nodes of this task. A node does not name its task, so add nodes task by task.
        """
        if limit is not None and limit < 0:
            raise ValueError(f"`limit` is {limit}; it must be at least 0.")
        stored: Iterable[Stored]
        if node_ids is not None and filters is None and task is None:
            stored = self._collection.get(possible_ids(node_ids))  # in the order of the ids
        else:
            chosen = self._conditions(node_ids=node_ids, filters=filters)
            own = [of_tenant(self._collection.tenant)] if task is None else self._own(task)
            stored = self._collection.all(models.Filter(must=[*own, *chosen]))
        return [to_node(item) for item in islice(stored, limit)]

    async def aget_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        limit: int | None = None,
        *,
        task: str | None = None,
    ) -> list[BaseNode]:
        """`get_nodes` in a thread."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters, limit, task=task)

    def condition(
        self,
        filters: MetadataFilters | None,
        *,
        node_ids: Sequence[str] | None = None,
        doc_ids: Sequence[str] | None = None,
    ) -> models.Filter | None:
        """Combine filters, node ids and document ids as a filter of Qdrant. All of them must hold."""
        must = self._conditions(node_ids=node_ids, filters=filters, doc_ids=doc_ids)
        return models.Filter(must=must) if must else None

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

    def _conditions(
        self,
        *,
        node_ids: Sequence[str] | None = None,
        filters: MetadataFilters | None = None,
        doc_ids: Sequence[str] | None = None,
    ) -> list[models.Condition]:
        must: list[models.Condition] = []
        if doc_ids is not None:
            must.append(in_documents(doc_ids))
        if node_ids is not None:
            must.append(has_id(possible_ids(node_ids), self._collection.tenant))
        if filters is not None and has_condition(filters):
            must.append(qdrant_filter(filters))
        return must

    def _own(self, task: str | None = None) -> list[models.Condition]:
        """Select the nodes of a task, the store's by default, and of the tenant: others may hold the same documents."""
        return [value_is(f"{OWN}.task", task or self._embed_model.task), of_tenant(self._collection.tenant)]

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
