"""From queries to results: encode, plan, ask, and check that the answer is of this model."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import grpc
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from polyvec import Encoder
from polyvec.compression import truncate
from polyvec.inputs import check_task
from polyvec.scoring import unit
from polyvec.types import Embeddings, Input
from qdrant_polyvec import hits, limits
from qdrant_polyvec.fingerprint import FingerprintError
from qdrant_polyvec.hits import Group, Hit
from qdrant_polyvec.location import is_simulated, open_async_client
from qdrant_polyvec.place import Place
from qdrant_polyvec.query import Asked, Options, n_terms, plan

T = TypeVar("T")
Tasks = str | Sequence[str]
Query = Input | Embeddings  # one item, or its vectors if they were made already
Queries = Sequence[Query] | Embeddings

_ANSWERS = (ValueError, UnexpectedResponse, grpc.RpcError)  # what an engine says to vectors of another size

SMALL = 2000  # items; so many multi-vectors are scored faster than a second stage would pay
_COUNT_LASTS = 30.0  # seconds until the size of a small collection is asked for again


class Search:
    """The searches of one collection."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._small: tuple[bool, float] | None = None  # whether it is, and when that was found out
        # One for each event loop: connections belong to the loop that they were opened in.
        self._aclients: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncQdrantClient] = WeakKeyDictionary()

    def forget_size(self) -> None:
        """To be called when items were added or deleted."""
        self._small = None

    def requests(self, queries: Queries, tasks: Tasks, options: Options) -> list[models.QueryRequest]:
        """What is sent for each query."""
        wanted = _wanted(tasks, self._place.embedder)
        asked = _one_by_one(queries, wanted, options)
        encoded = {task: self._encode(task, asked, options) for task in wanted}
        return self._planned(asked, encoded, self._effective(options))

    def batch(self, queries: Queries, tasks: Tasks, options: Options) -> list[list[Hit]]:
        """The results of each query."""
        results: list[list[Hit]] = []
        for group in _fitting(self.requests(queries, tasks, options)):
            ask = partial(self._place.client.query_batch_points, **self._batched(group))
            results += [
                self._hits(answer.points, request.query)
                for request, answer in zip(group, self._checked(ask), strict=True)
            ]
        return results

    def groups(self, query: Query, tasks: Tasks, options: Options, group_by: str, group_size: int) -> list[Group]:
        """The results of a query, grouped by a payload field."""
        request = self.requests([query], tasks, _for_groups(self._effective(options), group_size))[0]
        ask = partial(self._place.client.query_points_groups, **self._grouped(request, group_by, group_size))
        return self._as_groups(self._checked(ask), request.query)

    async def abatch(self, queries: Queries, tasks: Tasks, options: Options) -> list[list[Hit]]:
        """`batch` on the asynchronous client."""
        results: list[list[Hit]] = []
        for group in _fitting(await self._arequests(queries, tasks, options)):
            try:
                answers = await self.aclient().query_batch_points(**self._batched(group))
            except _ANSWERS:
                await asyncio.to_thread(self._check_model)
                raise
            for request, answer in zip(group, answers, strict=True):
                if self._suspicious(answer.points):
                    await asyncio.to_thread(self._check_model, answer.points)
                results.append(hits.hits(answer.points, n_terms(request.query)))
        return results

    async def agroups(
        self, query: Query, tasks: Tasks, options: Options, group_by: str, group_size: int
    ) -> list[Group]:
        """`groups` on the asynchronous client."""
        effective = await asyncio.to_thread(self._effective, options)
        request = (await self._arequests([query], tasks, _for_groups(effective, group_size)))[0]
        try:
            found = await self.aclient().query_points_groups(**self._grouped(request, group_by, group_size))
        except _ANSWERS:
            await asyncio.to_thread(self._check_model)
            raise
        return await asyncio.to_thread(self._as_groups, found, request.query)

    async def aclose(self) -> None:
        """Close the asynchronous client of this event loop, if there is one."""
        aclient = self._aclients.pop(asyncio.get_running_loop(), None)
        if aclient is not None:
            await aclient.close()

    async def _arequests(self, queries: Queries, tasks: Tasks, options: Options) -> list[models.QueryRequest]:
        wanted = _wanted(tasks, self._place.embedder)
        asked = _one_by_one(queries, wanted, options)
        encoded = {task: await asyncio.to_thread(self._encode, task, asked, options) for task in wanted}
        effective = await asyncio.to_thread(self._effective, options)
        return self._planned(asked, encoded, effective)

    def aclient(self) -> AsyncQdrantClient:
        """The asynchronous client of this event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._aclients:
            self._aclients[loop] = open_async_client(self._place.client)
        return self._aclients[loop]

    def _encode(self, task: str, queries: Sequence[Query], options: Options) -> list[Embeddings]:
        """The vectors of each query; those made already are as they were given."""
        place, wanted = self._place, options.mode != "dense"
        if wanted and not place.embedder.multivector_dim:
            raise ValueError(
                f"mode {options.mode!r} needs multi-vectors, and this embedder makes none: use mode 'dense'."
            )
        made = {index: _fit(one, place, options) for index, one in enumerate(queries) if isinstance(one, Embeddings)}
        inputs = [one for one in queries if not isinstance(one, Embeddings)]
        encoded: Iterator[Embeddings] = iter(())
        if inputs:
            how: dict[str, Any] = {"task": task, "truncate_dim": place.truncate_dim, "multivector": wanted}
            encoded = iter(place.embedder.encode_query(inputs, **how))
        return [made[index] if index in made else next(encoded) for index in range(len(queries))]

    def _planned(
        self, queries: Sequence[Query], encoded: Mapping[str, Sequence[Embeddings]], options: Options
    ) -> list[models.QueryRequest]:
        place = self._place
        requests = []
        for index, query in enumerate(queries):
            words = query if isinstance(query, str) else None
            asked = [_asked(task, found[index], words) for task, found in encoded.items()]
            request = plan(
                asked, options, schema=place.schema, tenant=place.tenant, params=not is_simulated(place.client)
            )
            request.shard_key = place.cluster.shard_key
            requests.append(request)
        return requests

    def _effective(self, options: Options) -> Options:
        """In a small collection every multi-vector is scored, unless the number of candidates is a wish."""
        if options.mode not in ("two-stage", "hybrid") or options.candidates is not None:
            return options
        if options.mode == "hybrid" and self._place.schema.bm25 is None:
            return options  # the plan says what is missing
        return replace(options, mode="late") if self._is_small() else options

    def _is_small(self) -> bool:
        now = time.monotonic()
        if self._small is None or (self._small[0] and now > self._small[1] + _COUNT_LASTS):
            place = self._place
            n_points = place.client.count(place.name, exact=False, **place.cluster.counting()).count
            self._small = n_points <= SMALL, now
        return self._small[0]

    def _checked(self, ask: Callable[[], T]) -> T:
        """The answer. Vectors of another size make the engine fail; then it is told why."""
        try:
            return ask()
        except _ANSWERS:
            self._check_model()
            raise

    def _hits(self, found: Sequence[models.ScoredPoint], query: object) -> list[Hit]:
        if self._suspicious(found):
            self._check_model(found)
        return hits.hits(found, n_terms(query))

    def _as_groups(self, found: models.GroupsResult, query: object) -> list[Group]:
        groups = [Group(value=group.id, hits=self._hits(group.hits, query)) for group in found.groups]
        if not groups:
            self._check_model()
        return groups

    def _batched(self, requests: list[models.QueryRequest]) -> dict[str, Any]:
        return {"collection_name": self._place.name, "requests": requests, **self._place.cluster.asking()}

    def _grouped(self, request: models.QueryRequest, group_by: str, group_size: int) -> dict[str, Any]:
        return {
            "collection_name": self._place.name,
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
            **self._place.cluster.reading(),
        }

    def _suspicious(self, found: Sequence[models.ScoredPoint]) -> bool:
        """Whether the collection may be of another model by now, as after a `reindex` elsewhere."""
        return hits.fingerprints(found) != {self._place.embedder.fingerprint}

    def _check_model(self, found: Sequence[models.ScoredPoint] = ()) -> None:
        place = self._place
        place.check_model()
        if others := hits.fingerprints(found) - {place.embedder.fingerprint}:
            raise FingerprintError(
                f"Collection {place.name!r} holds points of {', '.join(map(repr, others))}; this embedder is "
                f"{place.embedder.fingerprint!r}. Their vectors cannot be compared: `verify` lists such points."
            )


def _wanted(tasks: Tasks, embedder: Encoder) -> list[str]:
    wanted = [tasks] if isinstance(tasks, str) else list(dict.fromkeys(tasks))
    if not wanted:
        raise ValueError("`task` is an empty list; name at least one task.")
    for task in wanted:
        check_task(task, embedder.tasks)
    return wanted


def _asked(task: str, query: Embeddings, words: str | None) -> Asked:
    return Asked(task, query.dense[0], query.multivector[0] if query.multivector else None, words)


def _fit(query: Embeddings, place: Place, options: Options) -> Embeddings:
    """The vectors of a query that were made elsewhere, as long as the collection's, and of unit length."""
    if len(query) != 1:
        raise ValueError(f"the query's embeddings are of {len(query)} items; a query is one.")
    size = query.dense.shape[1]
    if not place.dim <= size <= place.embedder.dim:
        raise ValueError(f"the query's dense vector has {size} numbers; the collection's have {place.dim}.")
    if not query.dense.any():
        raise ValueError("the query's dense vector is zero: it has no direction.")
    dense = truncate(query.dense, place.dim)
    if options.mode == "dense":
        return replace(query, dense=dense)
    if query.multivector is None:
        raise ValueError(f"mode {options.mode!r} needs the query's multi-vector; mode 'dense' needs none.")
    rows, width = query.multivector[0], place.embedder.multivector_dim
    if rows.ndim != 2 or rows.shape[1] != width:
        raise ValueError(
            f"the query's multi-vector has shape {rows.shape}; the collection's rows have {width} numbers."
        )
    return replace(query, dense=dense, multivector=(unit(rows),))


def _one_by_one(queries: Queries, tasks: Sequence[str], options: Options) -> list[Query]:
    if isinstance(queries, Embeddings):
        queries = list(queries)
    if isinstance(queries, str | bytes) or not isinstance(queries, Sequence):
        raise TypeError(f"`queries` is a list of texts and images, not one {type(queries).__name__}: write [query].")
    for query in queries:
        if isinstance(query, list | tuple):
            raise TypeError("a query is one text or image; give several to `search_batch`.")
        if isinstance(query, Embeddings) and len(tasks) > 1:
            raise ValueError("ready-made embeddings are of one task; to search several, give the text or image.")
        if options.mode == "hybrid" and not isinstance(query, str):
            raise ValueError("mode 'hybrid' searches by words, too; the query is no text. Use mode 'two-stage'.")
    return list(queries)


def _for_groups(options: Options, group_size: int) -> Options:
    """As many candidates as fill the groups."""
    if group_size < 1:
        raise ValueError(f"`group_size` is {group_size}; it must be at least 1.")
    if options.candidates is not None or options.mode not in ("two-stage", "hybrid"):
        return options
    return replace(options, candidates=max(options.n_candidates, 4 * options.limit * group_size))


def _fitting(requests: Sequence[models.QueryRequest]) -> Iterator[list[models.QueryRequest]]:
    """The requests in groups that a server accepts at once."""
    return limits.batches(requests, _n_bytes, limits.MAX_REQUEST_BYTES)


def _n_floats(stage: models.QueryRequest | models.Prefetch) -> int:
    vector = getattr(stage.query, "nearest", stage.query)
    inner = stage.prefetch if isinstance(stage.prefetch, list) else []
    return (limits.n_floats(vector) if isinstance(vector, list) else 0) + sum(map(_n_floats, inner))


def _n_bytes(request: models.QueryRequest) -> int:
    return limits.REST_BYTES_PER_FLOAT * _n_floats(request)
