"""A collection as the other modules see it: where it is, and what its vectors are."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from qdrant_client import QdrantClient, models

from polyvec import Encoder
from qdrant_polyvec import schema
from qdrant_polyvec.cluster import Cluster
from qdrant_polyvec.fingerprint import KEY, Fingerprint
from qdrant_polyvec.items import Identity, point_id
from qdrant_polyvec.retrying import patiently
from qdrant_polyvec.schema import BM25, DENSE, LATE, POOLED, TENANT, Schema, SchemaError, value_is

_PAGE = 256  # points per request, without their multi-vectors
_MULTIVECTORS = 32  # points per request, with them


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One collection, for one tenant if it has several.

    Attributes:
        name: an alias. The collection behind it has a name of its own, so that another one, made with another model,
            can take its place at once.
        dim: length of the dense vectors.
    """

    client: QdrantClient
    name: str
    embedder: Encoder
    dim: int
    schema: Schema
    tenant: str | None
    cluster: Cluster

    @property
    def truncate_dim(self) -> int | None:
        """What the embedder is asked for."""
        return None if self.dim == self.embedder.dim else self.dim

    @property
    def vector_names(self) -> list[str]:
        """Of the vectors that its points have."""
        has = {LATE: self.embedder.multivector_dim, POOLED: self.schema.pooled, BM25: self.schema.bm25}
        return [DENSE, *(name for name, there in has.items() if there)]

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self.embedder.fingerprint, self.dim, self.embedder.multivector_dim)

    def metadata(self) -> dict[str, Any]:
        """What the collection says about itself."""
        return self.fingerprint.metadata(**({"bm25": self.schema.bm25} if self.schema.bm25 else {}))

    def real_name(self) -> str:
        """The name of the collection behind the alias when it is made: another model or schema gives another one."""
        quantization = self.schema.quantization
        how = asdict(self.schema) | {"quantization": quantization and quantization.model_dump(mode="json")}
        key = json.dumps([self.metadata()[KEY], how], sort_keys=True)
        return f"{self.name}__{hashlib.sha256(key.encode()).hexdigest()[:8]}"

    def create(self, real_name: str, *, tiers: bool) -> None:
        """Create the collection and its indexes; finish it if an earlier call was interrupted. The alias is not set."""
        schema.create(
            self.client,
            real_name,
            dense=self.dim,
            late=self.embedder.multivector_dim,
            metadata=self.metadata(),
            schema=self.schema,
            cluster=self.cluster,
            tiers=tiers,
        )

    def check_model(self) -> None:
        """Refuse to go on if another model's collection stands behind the alias by now.

        Raises:
            FingerprintError, SchemaError: as after a `reindex` elsewhere.
        """
        self.resolved()

    def resolved(self) -> "Place":
        """The collection that stands behind the alias now, under its own name.

        What is written there cannot end up in another model's collection, should the alias be moved meanwhile.

        Raises:
            FingerprintError: it is another model's by now.
            SchemaError: it has other vectors by now.
        """
        real_name = behind_alias(self.client, self.name) or self.name
        config = self.client.get_collection(real_name).config
        self.fingerprint.check(self.name, config.metadata)
        there = Schema.of(config, (config.metadata or {})[KEY].get("bm25"))
        if (there.pooled, there.bm25) != (self.schema.pooled, self.schema.bm25):
            raise SchemaError(f"Collection {self.name!r} is {there} by now, not {self.schema}: open it again.")
        return replace(self, name=real_name)

    def within(self, *must: models.Condition, must_not: Sequence[models.Condition] = ()) -> models.Filter:
        """A filter for the tenant's points that fulfil all of `must` and none of `must_not`."""
        of_tenant = [] if self.tenant is None else [value_is(TENANT, self.tenant)]
        return models.Filter(must=[*of_tenant, *must], must_not=list(must_not))

    def scroll(
        self, condition: models.Filter, *, with_payload: bool | Sequence[str] = True
    ) -> Iterator[list[models.Record]]:
        """All points that pass, without their vectors, some hundred at a time in the order of their ids."""
        selector = with_payload if isinstance(with_payload, bool) else list(with_payload)
        offset = None
        while True:
            page, offset = patiently(
                partial(
                    self.client.scroll,
                    self.name,
                    scroll_filter=condition,
                    limit=_PAGE,
                    offset=offset,
                    with_payload=selector,
                    **self.cluster.reading(),
                )
            )
            if page:
                yield page
            if offset is None:
                return

    def reading(self, ids: Sequence[Identity], *, with_vectors: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
        """The arguments of `retrieve`, for some items at a time."""
        step = _MULTIVECTORS if LATE in with_vectors else _PAGE
        for start in range(0, len(ids), step):
            yield {
                "collection_name": self.name,
                "ids": [point_id(identity, self.tenant) for identity in ids[start : start + step]],
                "with_payload": True,
                "with_vectors": list(with_vectors) or False,
                **self.cluster.reading(),
            }


def behind_alias(client: QdrantClient, name: str) -> str | None:
    """The collection that an alias stands for; None if there is no such alias."""
    aliases = client.get_aliases().aliases
    return next((one.collection_name for one in aliases if one.alias_name == name), None)


def point_alias(client: QdrantClient, name: str, real_name: str, *, instead: bool) -> None:
    """Let an alias stand for a collection, in one step even if it stood for another one (`instead`)."""
    create = models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=real_name, alias_name=name))
    delete = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=name))
    client.update_collection_aliases([delete, create] if instead else [create])
