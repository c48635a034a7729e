"""Search in groups, which the engine itself cannot do."""

from collections.abc import Iterable
from typing import Any

from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from qdrant_polyvec.edge import queries, translate

DEFAULT_LIMIT = 10
DEFAULT_SIZE = 3
_GROWTH = 4  # each query requests this many times the points of the last query


def query_groups(
    client: QdrantBase,
    collection_name: str,
    request: models.QueryRequest,
    group_by: str,
    *,
    limit: int,
    group_size: int,
    with_lookup: str | models.WithLookup | None,
) -> models.GroupsResult:
    """Query more and more points until the best groups are full or no points are left.

    As on the server, prefetches return `group_size` times their limit. A point belongs to no group if it lacks the key
    or has a value there that is neither a string nor an integer.
    """
    if limit < 1 or group_size < 1:
        raise ValueError(f"`limit` is {limit} and `group_size` {group_size}; both must be at least 1.")
    prefetch = [_with_larger_limits(stage, group_size) for stage in queries.prefetches_of(request)] or None
    n_points = client.count(collection_name).count
    n_requested = min(limit * group_size * _GROWTH, max(n_points, 1))
    while True:
        probe = request.model_copy(
            update={"prefetch": prefetch, "limit": n_requested, "with_payload": [group_by], "with_vector": False}
        )
        points = client.query_batch_points(collection_name, [probe])[0].points
        members: dict[int | str, list[models.ScoredPoint]] = {}
        for point in points:
            for group in _groups_of(point.payload or {}, group_by):
                members.setdefault(group, []).append(point)
        best = {group: hits[:group_size] for group, hits in list(members.items())[:limit]}
        full = len(best) == limit and all(len(hits) == group_size for hits in best.values())
        if full or len(points) < n_requested or n_requested >= n_points or _changes_with_limit(request):
            break
        n_requested = min(n_requested * _GROWTH, n_points)
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
    values: list[Any] = [payload]
    for part in path.split("."):
        key, spread = part.removesuffix("[]"), part.endswith("[]")
        values = [value[key] for value in values if isinstance(value, dict) and key in value]
        if spread:
            values = [entry for value in values if isinstance(value, list) for entry in value]
    values = [entry for value in values for entry in (value if isinstance(value, list) else [value])]
    if any(isinstance(value, bool) or not isinstance(value, int | str) for value in values):
        return []
    return list(dict.fromkeys(values))


def _with_larger_limits(stage: models.Prefetch, factor: int) -> models.Prefetch:
    inner = [_with_larger_limits(prefetch, factor) for prefetch in queries.prefetches_of(stage)] or None
    return stage.model_copy(update={"prefetch": inner, "limit": queries.limit_of(stage) * factor})


def _changes_with_limit(request: models.QueryRequest) -> bool:
    """True if a larger limit returns other points, not the same points and more."""
    query = request.query
    return isinstance(query, models.SampleQuery) or (isinstance(query, models.NearestQuery) and query.mmr is not None)
