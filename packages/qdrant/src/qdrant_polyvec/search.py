"""Search a collection: encode, plan, ask, check that the answer is of this model; synchronously or asynchronously."""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from qdrant_client import models

from polyvec import Embeddings
from polyvec.content import text_of
from polyvec.encoder import in_thread
from polyvec.warning import warn
from qdrant_polyvec import limits
from qdrant_polyvec.binding import Binding
from qdrant_polyvec.errors import StoreRefusedError
from qdrant_polyvec.fingerprint import FingerprintError
from qdrant_polyvec.hits import Group, Hit, Hits, hits
from qdrant_polyvec.query import EncodedQuery, Options, Plan, Queries, Query, check_queries, n_bytes, plan
from qdrant_polyvec.schema import OWN, value_is

T = TypeVar("T")

_REFUSALS = (ValueError, StoreRefusedError)  # how engines answer vectors of another size

SMALL = 2000  # items; so many multi-vectors are scored faster than a second stage would pay
_COUNT_LASTS = 30.0  # seconds until the size of a small collection is asked for again


class Search:
    """The searches of one collection."""

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._small: tuple[bool, float] | None = None  # whether the collection is small, and when it was counted

    def forget_size(self) -> None:
        """Count again at the next search. Call it after adding or deleting items."""
        self._small = None

    def plans(self, queries: Queries, options: Options) -> list[Plan]:
        """Encode each query and plan its request."""
        binding = self._binding
        if options.mode == "hybrid":
            binding.check_rules()
        checked = check_queries(
            queries, options, embedder=binding.encoder, dim=binding.fingerprint.dense, schema=binding.schema
        )
        encoded = {task: self._encode(task, checked, options) for task in options.tasks}
        exhaustive = options.depends_on_size and (options.ids is not None or self._is_small())
        return [
            plan(
                [_encoded_query(task, query, rows[index]) for task, rows in encoded.items()],
                options,
                schema=binding.schema,
                tenant=binding.tenant,
                exhaustive=exhaustive,
                params=not binding.engine.is_imitation,
                weighted=binding.engine.has_weights,
                shard_key=binding.cluster.shard_key,
            )
            for index, query in enumerate(checked)
        ]

    def batch(self, queries: Queries, options: Options) -> list[list[Hit]]:
        """Search for each query."""
        results = []
        for plans in limits.batches(self.plans(queries, options), n_bytes, limits.MAX_REQUEST_BYTES):
            answers = self._ask(partial(self._binding.client.query_batch_points, **self._batch(plans)))
            results += self._hits(plans, answers, options)
        return results

    async def abatch(self, queries: Queries, options: Options) -> list[list[Hit]]:
        """`batch` on the asynchronous client."""
        results = []
        planned = await in_thread(self.plans, queries, options)
        for plans in limits.batches(planned, n_bytes, limits.MAX_REQUEST_BYTES):
            answers = await self._aask(
                partial(self._binding.aclients.current().query_batch_points, **self._batch(plans))
            )
            results += await in_thread(self._hits, plans, answers, options)
        return results

    def groups(self, query: Query, options: Options, group_by: str) -> list[Group]:
        """Search for a query and group the results by a payload field."""
        (planned,) = self.plans([query], options)
        arguments = self._grouped(planned, group_by, options.group_size)
        answer = self._ask(partial(self._binding.client.query_points_groups, **arguments))
        return self._groups(planned, answer, options)

    async def agroups(self, query: Query, options: Options, group_by: str) -> list[Group]:
        """`groups` on the asynchronous client."""
        (planned,) = await in_thread(self.plans, [query], options)
        arguments = self._grouped(planned, group_by, options.group_size)
        answer = await self._aask(partial(self._binding.aclients.current().query_points_groups, **arguments))
        return await in_thread(self._groups, planned, answer, options)

    def _ask(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except _REFUSALS:
            self._binding.check_model()  # names the cause if a `reindex` elsewhere changed the vectors
            raise

    async def _aask(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await call()
        except _REFUSALS:
            await in_thread(self._binding.check_model)
            raise

    def _encode(self, task: str, queries: Sequence[Query], options: Options) -> list[Embeddings]:
        """Encode the queries that are not embeddings already."""
        inputs = [query for query in queries if not isinstance(query, Embeddings)]
        encoded: Iterator[Embeddings] = iter(())
        if inputs:
            encoded = iter(
                self._binding.encoder.encode_query(
                    inputs, task=task, truncate_dim=self._binding.truncate_dim, multivector=options.mode != "dense"
                )
            )
        return [query if isinstance(query, Embeddings) else next(encoded) for query in queries]

    def _is_small(self) -> bool:
        now = time.monotonic()
        if self._small is None or (self._small[0] and now > self._small[1] + _COUNT_LASTS):
            binding = self._binding
            n_points = binding.client.count(binding.name, exact=False, **binding.cluster.count_options()).count
            self._small = n_points <= SMALL, now
        return self._small[0]

    def _hits(
        self, plans: Sequence[Plan], answers: Sequence[models.QueryResponse], options: Options
    ) -> list[list[Hit]]:
        found: list[list[Hit]] = [
            self._checked(hits(answer.points, plan.n_terms)) for plan, answer in zip(plans, answers, strict=True)
        ]
        if not any(found):
            self._warn_of_tasks(options)
        return found

    def _groups(self, plan: Plan, answer: models.GroupsResult, options: Options) -> list[Group]:
        if not answer.groups:
            self._binding.check_model()
            self._warn_of_tasks(options)
        return [Group(group.id, self._checked(hits(group.hits, plan.n_terms))) for group in answer.groups]

    def _warn_of_tasks(self, options: Options) -> None:
        """Warn if nothing was found because all items are of other tasks than those that were searched."""
        binding = self._binding
        others = [name for name in binding.encoder.tasks if name not in options.tasks]

        def has(task: str) -> bool:
            return binding.count(binding.within(value_is(f"{OWN}.task", task))) > 0

        if any(map(has, options.tasks)) or not (filled := [task for task in others if has(task)]):
            return
        warn(
            f"Collection {binding.name!r} has items of {_names(filled)}, none of {_names(options.tasks)}: a search "
            "finds items of its own task only. Search with the `task` that they were added with, or add items for "
            "this one."
        )

    def _checked(self, hits: Hits) -> Hits:
        """Return the hits if this model made all of them. After a `reindex` elsewhere it did not."""
        own = self._binding.fingerprint.embedder
        others = {hit.fingerprint for hit in hits} - {own}
        if others or not hits:
            self._binding.check_model()
        if others:
            raise FingerprintError(
                f"Collection {self._binding.name!r} holds points of {', '.join(map(repr, others))}; this embedder is "
                f"{own!r}. Their vectors cannot be compared: `verify` lists such points."
            )
        return hits

    def _batch(self, plans: Sequence[Plan]) -> dict[str, Any]:
        requests = [plan.request for plan in plans]
        return {"collection_name": self._binding.name, "requests": requests, **self._binding.cluster.query_options()}

    def _grouped(self, plan: Plan, group_by: str, group_size: int) -> dict[str, Any]:
        request = plan.request
        return {
            "collection_name": self._binding.name,
            "group_by": group_by,
            "group_size": group_size,
            "query": request.query,
            "using": request.using,
            "prefetch": request.prefetch,
            "query_filter": request.filter,
            "search_params": request.params,
            "score_threshold": request.score_threshold,
            "limit": request.limit,
            "with_payload": True,
            **self._binding.cluster.read_options(),
        }


def _names(tasks: Sequence[str]) -> str:
    return f"the task{'s' if len(tasks) > 1 else ''} {', '.join(map(repr, tasks))}"


def _encoded_query(task: str, query: Query, embedding: Embeddings) -> EncodedQuery:
    rows = embedding.multivector[0] if embedding.multivector else None
    return EncodedQuery(task, embedding.dense[0], rows, None if isinstance(query, Embeddings) else text_of(query))
