"""One collection, bound to a model, a schema and a tenant: opened, checked and read."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from typing import Any

from qdrant_client import QdrantClient, models

from polyvec import Embeddings, Encoder
from polyvec.inputs import check_task
from polyvec.paths import printable
from polyvec.warning import warn
from polyvec.words import RULES
from qdrant_polyvec import indexes, points
from qdrant_polyvec import schema as schemas
from qdrant_polyvec.choices import IndexKind
from qdrant_polyvec.clients import AsyncClients, Engine, engine
from qdrant_polyvec.cluster import Cluster
from qdrant_polyvec.errors import CollectionChangedError, StoreRefusedError
from qdrant_polyvec.fingerprint import KEY, REPLACED_BY, REPLACES, Fingerprint
from qdrant_polyvec.items import Identity, earlier_point_id, point_id
from qdrant_polyvec.metadata import check_filter
from qdrant_polyvec.patient import patient
from qdrant_polyvec.pictures import of_layout_1
from qdrant_polyvec.retrying import Patience
from qdrant_polyvec.schema import BM25, DENSE, LATE, OWN, POOLED, TENANT, Schema, SchemaError, value_is
from qdrant_polyvec.settings import Settings

__all__ = ["aliased"]

_PAGE = 256  # points per request, without their multi-vectors
_MULTIVECTORS = 32  # points per request, with them
# How stores answer if a collection is gone, among others. RuntimeError: of a folder, if it is deleted at that moment.
MISSING = (ValueError, RuntimeError, CollectionChangedError)


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """One collection, for one tenant if it has several."""

    client: QdrantClient  # waits for its server as long as `patience` says
    aclients: AsyncClients
    engine: Engine
    name: str  # an alias, so that a collection made with another model can take the place of this one at once
    embedder: Encoder | None  # None where nothing is encoded
    fingerprint: Fingerprint  # the model and sizes of the vectors
    schema: Schema
    tenant: str | None
    cluster: Cluster
    patience: Patience
    rules: int = RULES  # version of the rules of words that the collection's BM25 vectors follow
    replaces: str | None = None  # the collection that a `reindex` has not finished to replace by this one

    @classmethod
    def open(
        cls,
        client: QdrantClient,
        name: str,
        *,
        embedder: Encoder | None,
        fingerprint: Fingerprint | None,
        schema: Schema | None,
        tenant: str | None,
        cluster: Cluster | None,
        patience: Patience | None,
        settings: Settings | None = None,
    ) -> "Binding":
        """Bind a collection as `Collection.open` does. Default: fingerprint and schema of the existing collection.

        A new collection takes over the `settings` of the collection that it is made from.
        """
        if tenant is not None and not (isinstance(tenant, str) and tenant and "\0" not in tenant):
            raise ValueError(
                f"`tenant` is {tenant!r}; it must be a string that is not empty and has no null character."
            )
        for key, value in (("name", name), ("tenant", tenant or "")):
            if printable(value) != value:
                raise ValueError(f"`{key}` is {value!r}: it has a lone surrogate, which is no character.")
        cluster, patience = cluster or Cluster(), patience or Patience()
        client = patient(client, patience)
        aclients = AsyncClients(client, patience)
        behind = engine(client)
        schemas.check_server(behind.version, Schema())  # before any call that an old server does not know
        if not client.collection_exists(name) and aliased(client, name) == name:
            if fingerprint is None:
                raise ValueError(f"there is no collection {name!r}; to create it, give the embedder.")
            binding = cls(
                client, aclients, behind, name, embedder, fingerprint, schema or Schema(), tenant, cluster, patience
            )
            schemas.check_server(behind.version, binding.schema)
            cluster.warn_of_a_lost_node()
            new_name = binding.new_name()
            binding.create(new_name, settings)
            point_alias(client, name, new_name, instead=False)
            return binding
        info = client.get_collection(name)
        config = info.config
        if fingerprint is None:
            fingerprint = Fingerprint.stored(name, config.metadata)
        fingerprint.check(name, config.metadata)
        facts = (config.metadata or {})[KEY]
        existing = Schema.of(config, facts.get("bm25"), info.payload_schema)
        wanted = schema or existing
        schemas.check_server(behind.version, wanted)
        cluster.warn_of_a_lost_node(None if behind.version is None else config.params)
        if cluster.shard_key is not None:
            schemas.ensure_shard_key(client, aliased(client, name), cluster)
        schemas.check(name, config, wanted, dense=fingerprint.dense, late=fingerprint.late)
        if wanted.bm25 != existing.bm25:
            raise SchemaError(
                f"Collection {name!r} has BM25 vectors for {existing.bm25!r}, not {wanted.bm25!r}. Open it without "
                "`schema` to take it as it is, or `reindex` it."
            )
        rules = facts.get("bm25_rules", 1) if existing.bm25 else RULES
        if rules != RULES and embedder is not None:
            warn(_other_rules(name))
        found, replaces = replace(wanted, indexed=existing.indexed), (config.metadata or {}).get(REPLACES)
        binding = cls(
            client, aclients, behind, name, embedder, fingerprint, found, tenant, cluster, patience, rules, replaces
        )
        return binding.indexing(schema.indexed if schema else {})

    def working(self) -> "Binding":
        """Bind the collection with a client that reads with the patience of writes, for long work."""
        return replace(self, client=patient(self.client, self.patience.of_writes()))

    @property
    def encoder(self) -> Encoder:
        """The embedder; a TypeError if the collection was opened without one."""
        if self.embedder is None:
            raise TypeError("nothing can be encoded: open the collection with its embedder.")
        return self.embedder

    @property
    def truncate_dim(self) -> int | None:
        """The `truncate_dim` to encode with."""
        return None if self.fingerprint.dense == self.encoder.dim else self.fingerprint.dense

    @property
    def vector_names(self) -> list[str]:
        """The names of the vectors that points have."""
        has = {LATE: self.fingerprint.late, POOLED: self.schema.pooled, BM25: self.schema.bm25}
        return [DENSE, *(name for name, value in has.items() if value)]

    def metadata(self) -> dict[str, Any]:
        """The metadata that the collection is created with."""
        words = {"bm25": self.schema.bm25, "bm25_rules": self.rules} if self.schema.bm25 else {}
        return self.fingerprint.metadata(**words)

    def new_name(self) -> str:
        """Name a collection to stand behind the alias. Another model or other vectors give another name."""
        quantization = self.schema.quantization
        fields = asdict(self.schema) | {"quantization": quantization and quantization.model_dump(mode="json")}
        del fields["indexed"]  # indexes come and go, and the name stays
        key = json.dumps([self.metadata()[KEY], fields], sort_keys=True)
        return f"{self.name}__{hashlib.sha256(key.encode()).hexdigest()[:8]}"

    def create(self, name: str, settings: Settings | None = None) -> None:
        """Create the collection and its indexes; finish it if an earlier call was interrupted. The alias is not set."""
        settings = settings or Settings()
        settings = replace(settings, indexes=indexes.agreeing(settings.indexes, self.schema.indexed))
        schemas.create(
            self.client,
            name,
            dense=self.fingerprint.dense,
            late=self.fingerprint.late,
            metadata=self.fingerprint.kept(settings.creation.metadata) | self.metadata(),
            schema=self.schema,
            cluster=self.cluster,
            engine=self.engine,
            settings=settings,
        )
        if not self.engine.is_imitation:
            indexes.create_missing(self.client, name, self.schema.indexed, settings.indexes)

    def indexing(self, indexed: Mapping[str, IndexKind], *, under: str = "metadata") -> "Binding":
        """Index fields that are not indexed yet; a SchemaError if one is indexed as another kind."""
        schema = Schema(indexed=indexed)  # checks them
        if under == "metadata":
            schema = replace(self.schema, indexed={**self.schema.indexed, **indexed})
        if indexed and not self.engine.is_imitation:
            existing = self.client.get_collection(self.name).payload_schema
            indexes.check(self.name, indexed, existing, under=under)
            indexes.create_missing(self.client, aliased(self.client, self.name), indexed, existing, under=under)
        return replace(self, schema=schema) if under == "metadata" else self

    def check_model(self) -> None:
        """Raise a FingerprintError or SchemaError if a `reindex` elsewhere exchanged the collection."""
        self.resolved()

    def check_rules(self) -> None:
        """Raise a SchemaError if words of today would not meet those of the collection's BM25 vectors."""
        if self.rules != RULES:
            raise SchemaError(_other_rules(self.name))

    def resolved(self) -> "Binding":
        """Bind the collection that stands behind the alias now, under its own name; errors are those of `check_model`.

        Points that are written under that name cannot end up in another model's collection if the alias is moved.
        """
        name = aliased(self.client, self.name)
        try:
            info = self.client.get_collection(name)
        except MISSING:
            if aliased(self.client, self.name) == name:
                raise
            return self.resolved()  # a `reindex` exchanged it between the two requests
        config = info.config
        self.fingerprint.check(self.name, config.metadata)
        current = Schema.of(config, (config.metadata or {})[KEY].get("bm25"), info.payload_schema)
        if (current.pooled, current.bm25) != (self.schema.pooled, self.schema.bm25):
            raise SchemaError(f"Collection {self.name!r} is {current} by now, not {self.schema}: open it again.")
        # What is written under a collection's own name, as by `reindex` itself, replaces nothing.
        replaces = None if name == self.name else (config.metadata or {}).get(REPLACES)
        return replace(self, name=name, replaces=replaces)

    def within(self, *must: models.Condition, must_not: Sequence[models.Condition] = ()) -> models.Filter:
        """Select the tenant's points that fulfil all of `must` and none of `must_not`."""
        of_tenant = [] if self.tenant is None else [value_is(TENANT, self.tenant)]
        condition = models.Filter(must=[*of_tenant, *must], must_not=list(must_not))
        check_filter(condition)
        return condition

    def chosen(
        self, ids: Sequence[Identity] | None, sources: Sequence[str] | None, task: str | None, keep: Sequence[Identity]
    ) -> models.Filter | None:
        """Select the items that `Collection.delete` describes; None if there are no ids or sources."""
        chosen = sources if ids is None else ids
        if chosen is None or (ids is not None and sources is not None) or isinstance(chosen, str | bytes):
            raise TypeError("give either `ids` or `sources`, as a list.")
        if isinstance(keep, str | bytes):
            raise TypeError("give `keep` as a list.")
        if not chosen:
            return None
        must: list[models.Condition] = []
        if sources is not None:
            must.append(models.FieldCondition(key="metadata.source", match=models.MatchAny(any=list(sources))))
        else:
            must.append(points.has_id(chosen, self.tenant))
        if task is not None:
            if self.embedder is not None:
                check_task(task, self.embedder.tasks)
            must.append(value_is(f"{OWN}.task", task))
        return self.within(*must, must_not=[points.has_id(keep, self.tenant)] if keep else [])

    def count(self, condition: models.Filter) -> int:
        return self.client.count(self.name, count_filter=condition, **self.cluster.count_options()).count

    def scroll(
        self, condition: models.Filter, *, with_payload: bool | Sequence[str] = True
    ) -> Iterator[list[models.Record]]:
        """Read all points that pass, without their vectors, some hundred at a time in the order of their ids."""
        selector = with_payload if isinstance(with_payload, bool) else list(with_payload)
        options = {"limit": _PAGE, "with_payload": selector, **self.cluster.read_options()}
        offset = None
        while True:
            try:
                page, offset = self.client.scroll(self.name, scroll_filter=condition, offset=offset, **options)
            except StoreRefusedError as error:
                if (most := error.most) is None or most >= options["limit"]:
                    raise
                options["limit"] = most  # of a server in strict mode
                continue
            if page:
                yield self._current(page)
            if offset is None:
                return

    def retrieve(
        self,
        ids: Sequence[models.ExtendedPointId],
        *,
        with_payload: bool | Sequence[str] = True,
        with_vectors: bool | Sequence[str] = False,
    ) -> list[models.Record]:
        """Read points by Qdrant's ids, in no particular order."""
        options = {"with_payload": with_payload, "with_vectors": with_vectors, **self.cluster.read_options()}
        return self._current(self.client.retrieve(self.name, list(ids), **options))

    def records(self, ids: Sequence[Identity], vectors: Sequence[str] = ()) -> list[models.Record]:
        """Read the points of items, with some of their vectors, each once, in the order of `ids`."""
        return [
            record
            for page in self._pages(ids, vectors)
            for record in _in_order(page, self.retrieve(list(page), with_vectors=vectors or False))
        ]

    async def arecords(self, ids: Sequence[Identity], vectors: Sequence[str] = ()) -> list[models.Record]:
        """`records` on the asynchronous client."""
        records = []
        for page in self._pages(ids, vectors):
            options = {"with_vectors": vectors or False, **self.cluster.read_options()}
            answer = await self.aclients.current().retrieve(self.name, list(page), **options)
            records += _in_order(page, self._current(answer))
        return records

    def delete(self, selector: models.PointIdsList | models.FilterSelector) -> None:
        """Delete points behind the alias, and from the collections that a `reindex` exchanges.

        A `reindex` copies from one to the other, so points that stayed in either would come back. The old collection
        is first: what `reindex` still finds there, it may copy, since this call is not done with the new one.
        """
        before = self._metadata()
        while True:
            for collection in (before.get(REPLACES), self.name, before.get(REPLACED_BY)):
                if collection is not None:
                    self.erase(selector, collection)
            now = self._metadata()
            if now == before:
                return
            before = now

    def erase(self, selector: models.PointIdsList | models.FilterSelector, collection: str) -> None:
        """Delete points from this collection alone, unless it is gone."""
        try:
            self.client.delete(collection, points_selector=selector, wait=True, **self.cluster.write_options())
        except MISSING:
            if collection == self.name or self.client.collection_exists(collection):
                raise

    def _metadata(self) -> dict[str, Any]:
        return self.client.get_collection(self.name).config.metadata or {}

    def readable(self, *, multivector: bool) -> list[str]:
        """Name the vectors to read, since Qdrant refuses unknown names; a ValueError if there are no multi-vectors."""
        if multivector and not self.fingerprint.late:
            raise ValueError(f"Collection {self.name!r} has no multi-vectors: its embedder makes none.")
        return [DENSE, LATE] if multivector else [DENSE]

    def embeddings(self, records: Sequence[models.Record], names: Sequence[str]) -> dict[Identity, Embeddings]:
        """Convert the vectors of points, by the ids of their items; a FingerprintError if another model made them."""
        if {points.Own.of(record.payload).fingerprint for record in records} - {"", self.fingerprint.embedder}:
            self.check_model()
        return points.stored_embeddings(records, names)

    def _current(self, records: list[models.Record]) -> list[models.Record]:
        """Convert the payloads of a collection of layout 1, which `reindex` and `copy_to` bring over."""
        if self.fingerprint.schema == 1:
            return [record.model_copy(update={"payload": of_layout_1(record.payload or {})}) for record in records]
        return records

    def _pages(
        self, ids: Sequence[Identity], vectors: Sequence[str]
    ) -> Iterator[dict[models.ExtendedPointId, set[Identity]]]:
        """Split Qdrant's ids of items for several requests, each with the ids that an item there may have."""
        if isinstance(ids, str | bytes) or not isinstance(ids, Sequence):
            raise TypeError("give `ids` as a list.")
        wanted: dict[models.ExtendedPointId, set[Identity]] = {}
        for identity in ids:
            for key in (point_id(identity, self.tenant), earlier_point_id(identity, self.tenant)):
                if key is not None:
                    wanted.setdefault(key, set()).add(identity)
        keys, step = list(wanted), _MULTIVECTORS if LATE in vectors else _PAGE
        return ({key: wanted[key] for key in keys[start : start + step]} for start in range(0, len(keys), step))


def _in_order(
    wanted: Mapping[models.ExtendedPointId, Set[Identity]], records: Sequence[models.Record]
) -> list[models.Record]:
    by_id = {record.id: record for record in records}
    return [by_id[key] for key, ids in wanted.items() if key in by_id and points.identity(by_id[key]) in ids]


def _other_rules(name: str) -> str:
    return (
        f"The BM25 vectors of collection {name!r} follow other rules of words than this version's, so words would not "
        "meet. `reindex` it with its own embedder, which encodes nothing again, and open it anew. Until then, nothing "
        "can be added, and mode 'hybrid' is refused."
    )


def aliased(client: QdrantClient, name: str) -> str:
    """Return the collection that an alias stands for; the name itself if it is no alias."""
    by_alias = {alias.alias_name: alias.collection_name for alias in client.get_aliases().aliases}
    return by_alias.get(name, name)


def point_alias(client: QdrantClient, name: str, collection: str, *, instead: bool) -> None:
    """Let an alias stand for a collection.

    If it stood for another one (`instead`), all aliases of that one move in the same step: they would be deleted with
    it.
    """
    names = _names_beside(client, name) if instead else [name]
    operations: list[models.AliasOperations] = []
    for alias in names:
        if instead:
            operations.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)))
        target = models.CreateAlias(collection_name=collection, alias_name=alias)
        operations.append(models.CreateAliasOperation(create_alias=target))
    client.update_collection_aliases(operations)


def _names_beside(client: QdrantClient, name: str) -> list[str]:
    """List the aliases of the collection that an alias stands for, this one first."""
    by_alias = {alias.alias_name: alias.collection_name for alias in client.get_aliases().aliases}
    others = [alias for alias, collection in by_alias.items() if collection == by_alias.get(name) and alias != name]
    return [name, *sorted(others)]
