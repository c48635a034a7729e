"""Search in groups, which the engine itself cannot do."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

from qdrant_client import models
from qdrant_client.client_base import QdrantBase
from qdrant_client.local.payload_value_extractor import value_by_key

from qdrant_polyvec.edge import filters, queries, translate

DEFAULT_LIMIT = 10
DEFAULT_SIZE = 3
_GROWTH = 4  # each query of a search requests this many times the points of the query before it
_MOST_QUERIES = 10  # to find enough groups, and again to fill them

Members = dict[int | str, list[models.ScoredPoint]]  # by group, best first


def query_groups(
    client: QdrantBase,
    collection_name: str,
    request: models.QueryRequest,
    group_by: str,
    *,
    limit: int,
    group_size: int,
    with_lookup: str | models.WithLookup | None,
    params: translate.VectorParams,
) -> models.GroupsResult:
    """Return the best points of the best groups.

    As the server does: query until there are enough groups, without the groups that are full and the points that were
    returned before, also in the prefetches; then fill the best groups alike. Prefetches return `group_size` times their
    limit. A point belongs to no group if it lacks the key or has a value there that is neither a string nor an integer.
    """
    if limit < 1 or group_size < 1:
        raise ValueError(f"`limit` is {limit} and `group_size` {group_size}; both must be at least 1.")
    search = _Search(client, collection_name, request, group_by, limit=limit, group_size=group_size, params=params)
    for _ in range(_MOST_QUERIES):
        full = [group for group, points in search.members.items() if len(points) >= group_size]
        if len(search.members) >= limit or not search.ask(_other_than(group_by, full)):
            break
    for _ in range(_MOST_QUERIES):
        unfilled = [group for group, points in search.best().items() if len(points) < group_size]
        if not unfilled or not search.ask([models.Filter(should=_one_of(group_by, unfilled))]):
            break
    best = search.best()
    lookups = _lookups(client, best, with_lookup)
    identities = list(dict.fromkeys(point.id for hits in best.values() for point in hits))
    with_payload, with_vectors = request.with_payload or False, request.with_vector or False
    stored = client.retrieve(collection_name, identities, with_payload, with_vectors)
    records = {record.id: record for record in stored}
    return models.GroupsResult(
        groups=[
            models.PointGroup(
                id=group,
                hits=[
                    point.model_copy(update={"payload": records[point.id].payload, "vector": records[point.id].vector})
                    for point in hits
                    if point.id in records  # else it was deleted since
                ],
                lookup=lookups.get(group),
            )
            for group, hits in best.items()
        ]
    )


class _Search:
    """The queries of one search in groups, and the members of the groups so far."""

    def __init__(
        self,
        client: QdrantBase,
        collection_name: str,
        request: models.QueryRequest,
        group_by: str,
        *,
        limit: int,
        group_size: int,
        params: translate.VectorParams,
    ) -> None:
        self.members: Members = {}
        self._query = functools.partial(client.query_batch_points, collection_name)
        self._n_points = client.count(collection_name).count
        self._group_by, self._limit, self._group_size = group_by, limit, group_size
        self._n_requested = limit * group_size
        self._returned: set[models.ExtendedPointId] = set()
        self._sign = _sign(request, params)
        prefetch = [_with_larger_limits(stage, group_size) for stage in queries.prefetches_of(request)] or None
        self._request = request.model_copy(
            update={"prefetch": prefetch, "with_payload": [group_by], "with_vector": False}
        )

    def ask(self, must: Sequence[models.Condition]) -> int:
        """Query points that no earlier query returned and that fulfil `must`. Returns their number."""
        self._n_requested = min(self._n_requested * _GROWTH, max(self._n_points, 1))
        empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=self._group_by))
        returned = [models.HasIdCondition(has_id=list(self._returned))] if self._returned else []
        others = filters.narrowed(self._request.filter, must=must, must_not=[empty, *returned])
        probe = self._request.model_copy(update={"filter": others, "limit": self._n_requested})
        points = self._query([probe])[0].points
        for point in points:
            for group in _groups_of(point.payload or {}, self._group_by):
                self.members.setdefault(group, []).append(point)
        self._returned.update(point.id for point in points)
        return len(points)

    def best(self) -> Members:
        """Return the best groups with their best points."""
        members = self.members
        if self._sign:
            ordered = {group: sorted(points, key=self._rank) for group, points in members.items()}
            members = dict(sorted(ordered.items(), key=lambda item: self._rank(item[1][0])))
        return {group: points[: self._group_size] for group, points in list(members.items())[: self._limit]}

    def _rank(self, point: models.ScoredPoint) -> float:
        return self._sign * point.score


def _sign(request: models.QueryRequest, params: translate.VectorParams) -> int:
    """Return the sign by which the scores of several queries are in order; 0 if points are in order as they come.

    Ranks within several queries cannot be compared.
    """
    query, name = request.query, type(request.query).__name__
    diverse = isinstance(query, models.NearestQuery) and query.mmr is not None
    if diverse or name in ("RrfQuery", "FusionQuery", "OrderByQuery", "SampleQuery"):
        return 0
    vector = params.get(request.using or "")
    by_distance = isinstance(vector, models.VectorParams) and vector.distance in _DISTANCES
    if isinstance(query, models.RecommendQuery):
        average = models.RecommendStrategy.AVERAGE_VECTOR
        return 1 if by_distance and query.recommend.strategy in (None, average) else -1
    return 1 if by_distance and name not in _LARGER_IS_BETTER else -1


_DISTANCES = (models.Distance.EUCLID, models.Distance.MANHATTAN)
_LARGER_IS_BETTER = ("FormulaQuery", "DiscoverQuery", "ContextQuery", "RelevanceFeedbackQuery", "TextQuery")


def _other_than(key: str, groups: Sequence[int | str]) -> list[models.Condition]:
    """Select points that have a value beside those of `groups`."""
    return [
        models.FieldCondition(key=key, match=models.MatchExcept(**{"except": values}))
        for values in _by_type(groups)
        if values
    ]


def _one_of(key: str, groups: Sequence[int | str]) -> list[models.Condition]:
    return [models.FieldCondition(key=key, match=models.MatchAny(any=values)) for values in _by_type(groups) if values]


def _by_type(groups: Sequence[int | str]) -> tuple[list[int], list[str]]:
    """Split the values: a condition takes integers or strings."""
    integers = [group for group in groups if isinstance(group, int)]
    return integers, [group for group in groups if isinstance(group, str)]


def _lookups(
    client: QdrantBase, groups: Iterable[int | str], lookup: str | models.WithLookup | None
) -> dict[int | str, models.Record]:
    """The point of another collection whose id is the group's value, for each group that has such a point."""
    if lookup is None:
        return {}
    if isinstance(lookup, str):
        lookup = models.WithLookup(collection=lookup)
    with_payload = True if lookup.with_payload is None else lookup.with_payload
    records_by_group: dict[int | str, models.Record] = {}
    for group in groups:
        try:
            identity = translate.client_id(translate.native_id(group))
        except ValueError:
            continue  # the value cannot be a point id
        for record in client.retrieve(lookup.collection, [identity], with_payload, lookup.with_vectors or False):
            records_by_group[group] = record
    return records_by_group


def _groups_of(payload: dict[str, Any], path: str) -> list[int | str]:
    values = value_by_key(payload, path) or []
    if any(isinstance(value, bool) or not isinstance(value, int | str) for value in values):
        return []
    return list(dict.fromkeys(values))


def _with_larger_limits(stage: models.Prefetch, factor: int) -> models.Prefetch:
    inner = [_with_larger_limits(prefetch, factor) for prefetch in queries.prefetches_of(stage)] or None
    return stage.model_copy(update={"prefetch": inner, "limit": queries.limit_of(stage) * factor})
