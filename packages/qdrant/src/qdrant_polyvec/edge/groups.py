"""The best points of each of the best groups, which the engine itself does not tell."""

from typing import Any

from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from qdrant_polyvec.edge import stages, translate

DEFAULT_LIMIT = 10
DEFAULT_SIZE = 3
_GROWTH = 4  # each round asks for this many times the points of the last one


def found(
    client: QdrantBase,
    collection_name: str,
    request: models.QueryRequest,
    group_by: str,
    *,
    limit: int,
    group_size: int,
) -> models.GroupsResult:
    """Ask for more and more points until the best groups are full or there are no more points.

    As on the server, prefetches find `group_size` times their limit. A point without the key, or with a value there
    that is neither a string nor an integer, is in no group.
    """
    if limit < 1 or group_size < 1:
        raise ValueError(f"`limit` is {limit} and `group_size` {group_size}; both must be at least 1.")
    prefetch = [_larger(stage, group_size) for stage in stages.prefetches_of(request)] or None
    n_points = client.count(collection_name).count
    asked = min(max(limit * group_size * _GROWTH, 1), max(n_points, 1))
    while True:
        probe = request.model_copy(
            update={"prefetch": prefetch, "limit": asked, "with_payload": [group_by], "with_vector": False}
        )
        points = client.query_batch_points(collection_name, [probe])[0].points
        members: dict[int | str, list[models.ScoredPoint]] = {}
        for point in points:
            for group in _groups(point.payload or {}, group_by):
                members.setdefault(group, []).append(point)
        best = {group: hits[:group_size] for group, hits in list(members.items())[:limit]}
        full = len(best) == limit and all(len(hits) == group_size for hits in best.values())
        if full or len(points) < asked or asked >= n_points or _changes_with_limit(request):
            break
        asked = min(asked * _GROWTH, n_points)
    return _filled(client, collection_name, request, best)


def looked_up(
    client: QdrantBase, result: models.GroupsResult, lookup: str | models.WithLookup | None
) -> models.GroupsResult:
    """With the point of another collection that has the group's value as its id, where there is one."""
    if lookup is None:
        return result
    if isinstance(lookup, str):
        lookup = models.WithLookup(collection=lookup)
    with_payload = True if lookup.with_payload is None else lookup.with_payload
    for group in result.groups:
        try:
            identity = translate.client_id(translate.point_id(group.id))
        except ValueError:
            continue  # a value that no point can have as its id
        records = client.retrieve(lookup.collection, [identity], with_payload, lookup.with_vectors or False)
        group.lookup = records[0] if records else None
    return result


def _filled(
    client: QdrantBase,
    collection_name: str,
    request: models.QueryRequest,
    best: dict[int | str, list[models.ScoredPoint]],
) -> models.GroupsResult:
    identities = list(dict.fromkeys(point.id for hits in best.values() for point in hits))
    with_payload, with_vectors = request.with_payload or False, request.with_vector or False
    records = client.retrieve(collection_name, identities, with_payload, with_vectors)
    by_id = {record.id: record for record in records}
    return models.GroupsResult(
        groups=[
            models.PointGroup(
                id=group,
                hits=[
                    point.model_copy(update={"payload": by_id[point.id].payload, "vector": by_id[point.id].vector})
                    for point in hits
                    if point.id in by_id  # else it was deleted since
                ],
            )
            for group, hits in best.items()
        ]
    )


def _groups(payload: dict[str, Any], path: str) -> list[int | str]:
    values: list[Any] = [payload]
    for part in path.split("."):
        key, spread = part.removesuffix("[]"), part.endswith("[]")
        values = [value[key] for value in values if isinstance(value, dict) and key in value]
        if spread:
            values = [one for value in values if isinstance(value, list) for one in value]
    values = [one for value in values for one in (value if isinstance(value, list) else [value])]
    if any(isinstance(value, bool) or not isinstance(value, int | str) for value in values):
        return []
    return list(dict.fromkeys(values))


def _larger(stage: models.Prefetch, factor: int) -> models.Prefetch:
    inner = [_larger(prefetch, factor) for prefetch in stages.prefetches_of(stage)] or None
    return stage.model_copy(update={"prefetch": inner, "limit": stages.limit_of(stage) * factor})


def _changes_with_limit(request: models.QueryRequest) -> bool:
    """Whether asking for more points gives others, not more of the same."""
    query = request.query
    return isinstance(query, models.SampleQuery) or (isinstance(query, models.NearestQuery) and query.mmr is not None)
