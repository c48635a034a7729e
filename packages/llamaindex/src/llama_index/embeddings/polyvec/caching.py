"""A cache of embeddings that tells queries from texts, and models, tasks and sizes from each other."""

import uuid
from typing import Any

from llama_index.core.storage.kvstore.types import BaseKVStore

_COLLECTION = "embeddings"  # where LlamaIndex's own classes keep theirs


class SidedCache(BaseKVStore):
    """A key-value store as `PolyvecEmbedding` uses it.

    LlamaIndex's base class keys its cache by the bare text, and so hands out vectors of texts for queries. It asks
    whether the cache is true before it uses it: this one is not, so the base class leaves it to the embedding.
    """

    def __init__(self, store: BaseKVStore) -> None:
        self.store = store

    def __bool__(self) -> bool:
        return False

    def vector(self, key: str) -> list[float] | None:
        """What is kept under a key."""
        return _only(self.store.get(key, collection=_COLLECTION))

    async def avector(self, key: str) -> list[float] | None:
        """`vector`, asynchronously."""
        return _only(await self.store.aget(key, collection=_COLLECTION))

    def keep(self, key: str, vector: list[float]) -> None:
        """Keep a vector."""
        self.store.put(key, {str(uuid.uuid4()): vector}, collection=_COLLECTION)

    async def akeep(self, key: str, vector: list[float]) -> None:
        """`keep`, asynchronously."""
        await self.store.aput(key, {str(uuid.uuid4()): vector}, collection=_COLLECTION)

    def put(self, key: str, val: dict[str, Any], collection: str = _COLLECTION) -> None:
        self.store.put(key, val, collection=collection)

    async def aput(self, key: str, val: dict[str, Any], collection: str = _COLLECTION) -> None:
        await self.store.aput(key, val, collection=collection)

    def get(self, key: str, collection: str = _COLLECTION) -> dict[str, Any] | None:
        return self.store.get(key, collection=collection)

    async def aget(self, key: str, collection: str = _COLLECTION) -> dict[str, Any] | None:
        return await self.store.aget(key, collection=collection)

    def get_all(self, collection: str = _COLLECTION) -> dict[str, dict[str, Any]]:
        return self.store.get_all(collection=collection)

    async def aget_all(self, collection: str = _COLLECTION) -> dict[str, dict[str, Any]]:
        return await self.store.aget_all(collection=collection)

    def delete(self, key: str, collection: str = _COLLECTION) -> bool:
        return self.store.delete(key, collection=collection)

    async def adelete(self, key: str, collection: str = _COLLECTION) -> bool:
        return await self.store.adelete(key, collection=collection)


def _only(kept: dict[str, Any] | None) -> list[float] | None:
    return None if not kept else next(iter(kept.values()))
