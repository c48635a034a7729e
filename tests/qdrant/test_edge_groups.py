"""Searches in groups of the embedded backend, where one group has most of the best points."""

import asyncio

import numpy as np
import pytest
from qdrant_client import models

from polyvec.testing import HashEncoder
from qdrant_polyvec import Collection, Item, open_client

N_LONG = 40


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Points on a circle: those of the group `long` are nearest to (1, 0), then come those of small groups."""
    client = open_client(tmp_path_factory.mktemp("index"))
    vectors = {
        name: models.VectorParams(size=2, distance=distance)
        for name, distance in (("dot", models.Distance.DOT), ("euclid", models.Distance.EUCLID))
    }
    client.create_collection("docs", vectors)
    groups = ["long"] * N_LONG + [7, "b", "b", ["c", 7], None, True, "d"]
    for n, group in enumerate(groups):
        angle = 0.02 * n
        vector = [float(np.cos(angle)), float(np.sin(angle))]
        payload = {} if group is None else {"doc": {"id.": group}}
        payload |= {"rare": "x"} if group == "d" else {}
        client.upsert("docs", [models.PointStruct(id=n, vector=dict.fromkeys(vectors, vector), payload=payload)])
    yield client
    client.close()


def asked(client, **request):
    groups = client.query_points_groups("docs", 'doc."id."', **request).groups
    return {group.id: [hit.id for hit in group.hits] for group in groups}


EXPECTED = {"long": [0, 1], 7: [40, 43], "b": [41, 42], "c": [43], "d": [46]}


@pytest.mark.parametrize("using", ["dot", "euclid"])
def test_groups_are_found_behind_a_prefetch_that_one_group_fills(client, using):
    prefetch = models.Prefetch(query=[1.0, 0.0], using="dot", limit=3)
    request = {"query": [1.0, 0.0], "using": using, "limit": 5, "group_size": 2}
    assert asked(client, prefetch=prefetch, **request) == EXPECTED == asked(client, **request)
    nested = models.Prefetch(prefetch=[prefetch], query=[1.0, 0.0], using="euclid", limit=3)
    assert asked(client, prefetch=nested, **request) == EXPECTED


def test_groups_are_filled_from_later_queries(client):
    prefetch = models.Prefetch(query=[1.0, 0.0], using="dot", limit=1)
    found = asked(client, prefetch=prefetch, query=[1.0, 0.0], using="dot", limit=3, group_size=2)
    assert found == {group: EXPECTED[group] for group in ("long", 7, "b")}


def test_points_without_the_key_fill_no_prefetch(client):
    prefetch = models.Prefetch(query=[1.0, 0.0], using="dot", limit=1)
    request = {"prefetch": prefetch, "query": [1.0, 0.0], "using": "dot"}
    assert client.query_points_groups("docs", "rare", **request, group_size=1).groups[0].hits[0].id == 46


def test_the_best_groups_come_first_if_a_later_query_returns_better_points(client):
    # The prefetch ranks by the nearness to (1, 0), so that the best points come last.
    prefetch = models.Prefetch(query=[1.0, 0.0], using="dot", limit=1)
    for using in ("dot", "euclid"):
        found = asked(client, prefetch=prefetch, query=[0.0, 1.0], using=using, limit=5, group_size=1)
        assert list(found.items()) == [("d", [46]), (7, [43]), ("c", [43]), ("b", [41]), ("long", [0])]


def test_ranks_of_several_queries_are_not_compared(client):
    prefetch = [models.Prefetch(query=[1.0, 0.0], using=using, limit=3) for using in ("dot", "euclid")]
    found = asked(client, prefetch=prefetch, query=models.RrfQuery(rrf=models.Rrf(k=60)), limit=5, group_size=2)
    assert found == EXPECTED
    assert list(found) == list(EXPECTED)


def test_a_filter_and_a_threshold_hold_in_every_query(client):
    prefetch = models.Prefetch(query=[1.0, 0.0], using="dot", limit=3)
    below = models.Filter(must_not=models.HasIdCondition(has_id=[0, 40]))
    request = {"prefetch": prefetch, "query": [1.0, 0.0], "using": "dot", "group_size": 2}
    assert asked(client, **request, query_filter=below) == {
        "long": [1, 2],
        "b": [41, 42],
        "c": [43],
        7: [43],
        "d": [46],
    }
    assert asked(client, **request, score_threshold=float(np.cos(0.83))) == {"long": [0, 1], 7: [40], "b": [41]}


def test_points_in_random_or_diverse_order_come_once(client):
    random = asked(client, query=models.SampleQuery(sample=models.Sample.RANDOM), limit=9, group_size=N_LONG)
    assert {group: sorted(ids) for group, ids in random.items()} == {**EXPECTED, "long": list(range(N_LONG))}
    diverse = {"query": models.NearestQuery(nearest=[1.0, 0.0], mmr=models.Mmr(diversity=0.5)), "using": "dot"}
    order = [point.id for point in client.query_points("docs", **diverse, limit=N_LONG + 8).points]
    assert asked(client, **diverse, limit=1, group_size=N_LONG)["long"] == [n for n in order if n < N_LONG]


@pytest.mark.parametrize("where", ["folder", "memory"])
@pytest.mark.parametrize("mode", ["dense", "two-stage"])
def test_one_long_source_hides_no_other(tmp_path, where, mode, monkeypatch):
    monkeypatch.setattr("qdrant_polyvec.search.SMALL", 10)
    location = tmp_path / "index" if where == "folder" else ":memory:"
    with Collection.open(location, "docs", embedder=HashEncoder(dim=16, multivector_dim=8)) as docs:
        texts = [f"apple {n}" for n in range(60)] + [f"pear {n}" for n in range(6)]
        sources = ["long"] * 60 + [f"short {n}" for n in range(6)]
        docs.add([Item(text, source=source) for text, source in zip(texts, sources, strict=True)])
        options = {"limit": 5, "group_size": 2, "mode": mode}
        if mode == "two-stage":
            options["candidates"] = 10
        groups = docs.search_groups("apple", **options)
        assert [len(group.hits) for group in groups] == [2, 1, 1, 1, 1]

        async def again():
            found = await docs.asearch_groups("apple", **options)
            await docs.aclose()
            return found

        assert [len(group.hits) for group in asyncio.run(again())] == [2, 1, 1, 1, 1]
