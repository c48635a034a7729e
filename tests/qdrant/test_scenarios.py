"""One suite for every location of a collection: each must give what numpy works out by hand.

Locations are a folder (Qdrant Edge), qdrant-client's in-memory imitation, and, if `QDRANT_URL` is set, a real server.
"""

import asyncio
import os
import uuid

import numpy as np
import pytest
from qdrant_client import models

from polyvec import Encoder
from polyvec.scoring import cosine, maxsim
from polyvec.types import Embeddings
from qdrant_polyvec import Collection, Item, Schema, open_client
from qdrant_polyvec.binding import aliased

N, DIM, LATE = 60, 32, 16
TOLERANCE = 4e-3  # vectors are stored as float16
TASKS = ("retrieval", "code")
LOCATIONS = ["folder", "optimized", "memory", *(["server"] if os.environ.get("QDRANT_URL") else [])]
rng = np.random.default_rng(3)


def unit(*shape):
    rows = rng.standard_normal(shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


WORDS = ["fox", "whale", "owl", "hawk", "moth", "newt"]
TEXTS = [f"text {i} about a {WORDS[i % 6]}" + " and more" * i for i in range(N)]  # the longer, the less a word weighs
DENSES = unit(N, DIM)
LATES = [unit(2 + i % 7, LATE) for i in range(N)]
TASK = [TASKS[i % 3 == 0] for i in range(N)]
SOURCE = [f"file-{i % 10}" for i in range(N)]
IDS = [f"id-{i}" if i % 2 else i for i in range(N)]
QUERIES = {name: (unit(DIM), unit(4, LATE)) for name in ("fox", "a whale", "!")}
OF_TASK = {task: [i for i in range(N) if TASK[i] == task] for task in TASKS}


class Prepared(Encoder):
    """Answers with the vectors above, whatever the task."""

    fingerprint, dim, multivector_dim, tasks, sizes, license = "prepared", DIM, LATE, TASKS, (DIM,), ""

    def encode(self, inputs, *, side, task, multivector=False, **options):
        assert side == "query", "every item comes with its embedding"
        dense = np.stack([QUERIES[query][0] for query in inputs])
        late = tuple(QUERIES[query][1] for query in inputs)
        return Embeddings(dense, late if multivector else None, (None,) * len(inputs))


@pytest.fixture(scope="module", params=LOCATIONS)
def docs(request, tmp_path_factory):
    name = f"polyvec-test-{uuid.uuid4().hex[:8]}"
    location = {"memory": ":memory:", "server": os.environ.get("QDRANT_URL")}.get(
        request.param, tmp_path_factory.mktemp("index")
    )
    client = open_client(location)
    with Collection.open(client, name, embedder=Prepared(), schema=Schema(bm25="english")) as docs:
        items = [
            Item(
                TEXTS[i],
                id=IDS[i],
                source=SOURCE[i],
                unit=str(i),
                task=TASK[i],
                metadata={"n": i},
                embedding=Embeddings(DENSES[i : i + 1], (LATES[i],), (None,)),
            )
            for i in range(N)
        ]
        report = docs.add(iter(items), batch_size=7)
        assert (report.ok, report.failed) == (IDS, [])
        if request.param == "optimized":
            docs.optimize()
        yield docs
    client.delete_collection(aliased(client, name))
    client.close()


def ranking(scores, allowed):
    return sorted(((float(scores[i]), IDS[i]) for i in allowed), reverse=True, key=lambda pair: pair[0])


def fused(by_maxsim, by_words):
    scores = {identity: 1 / (10 + rank) for rank, (_, identity) in enumerate(by_maxsim)}
    for rank, identity in enumerate(by_words):
        scores[identity] += 1 / ((rank + 1) / 0.99 + 9)
    return sorted(((score, identity) for identity, score in scores.items()), reverse=True, key=lambda pair: pair[0])


def by_hand(query, mode, *, task="retrieval", limit=5, candidates=N, allowed=range(N)):
    dense, late = QUERIES[query]
    dense_scores, late_scores = cosine(dense[None], DENSES)[0], maxsim([late], LATES)[0]
    among = [i for i in OF_TASK[task] if i in set(allowed)]
    if mode == "hybrid":
        by_words = [IDS[i] for i in among if WORDS[i % 6] == query.split()[-1]]
        return fused(ranking(late_scores, among), by_words)[:limit]
    if mode == "dense":
        return ranking(dense_scores, among)[:limit]
    if mode == "two-stage":
        best = {identity for _, identity in ranking(dense_scores, among)[:candidates]}
        among = [i for i in among if IDS[i] in best]
    return ranking(late_scores, among)[:limit]


def check(hits, wanted):
    assert [hit.id for hit in hits] == [identity for _, identity in wanted]
    assert [hit.score for hit in hits] == pytest.approx([score for score, _ in wanted], abs=TOLERANCE)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("mode", ["dense", "late", "two-stage"])
def test_a_search_finds_what_numpy_finds(docs, mode, task):
    for query in QUERIES:
        check(docs.search(query, mode=mode, task=task), by_hand(query, mode, task=task))


def test_two_stages_re_rank_the_candidates_and_nothing_else(docs):
    for candidates in (5, 9, 20):
        hits = docs.search("fox", candidates=candidates)
        check(hits, by_hand("fox", "two-stage", candidates=candidates))


def test_a_small_collection_is_searched_exactly(docs):
    check(docs.search("fox", limit=30), by_hand("fox", "late", limit=30))


@pytest.mark.parametrize("mode", ["dense", "late", "two-stage"])
def test_a_filter_holds_at_every_stage(docs, mode):
    few = models.Filter(must=[models.FieldCondition(key="metadata.n", range=models.Range(gte=10, lt=40))])
    candidates = 6 if mode == "two-stage" else None
    hits = docs.search("a whale", mode=mode, filter=few, candidates=candidates)
    check(hits, by_hand("a whale", mode, candidates=6, allowed=range(10, 40)))


def test_a_threshold_cuts_the_ranking(docs):
    for mode in ("dense", "late", "two-stage"):
        wanted = by_hand("fox", mode, limit=4)
        threshold = (wanted[1][0] + wanted[2][0]) / 2
        check(docs.search("fox", mode=mode, score_threshold=threshold), wanted[:2])


@pytest.mark.parametrize(("query", "task"), [("fox", "code"), ("a whale", "retrieval")])
def test_hybrid_fuses_the_ranks_of_late_interaction_and_words(docs, query, task):
    """Also in this collection, which is so small that each multi-vector is scored."""
    wanted = by_hand(query, "hybrid", task=task, limit=8)
    assert wanted[0][0] > 1 / 10  # the first has a word: a word decides
    for candidates in (None, N):
        hits = docs.search(query, mode="hybrid", task=task, limit=8, candidates=candidates)
        assert [hit.id for hit in hits] == [identity for _, identity in wanted]
        assert [hit.score for hit in hits] == pytest.approx([score for score, _ in wanted], rel=1e-4)
        assert {hit.similarity for hit in hits} == {None}
    wanted = by_hand(query, "hybrid", task=task, limit=4, allowed=range(10, 40))
    few = models.Filter(must=[models.FieldCondition(key="metadata.n", range=models.Range(gte=10, lt=40))])
    for narrow in ({"filter": few}, {"ids": IDS[10:40]}):
        hits = docs.search(query, mode="hybrid", task=task, limit=4, **narrow)
        assert [hit.id for hit in hits] == [identity for _, identity in wanted]


def test_the_candidates_of_hybrid_are_those_of_both(docs):
    # Of one candidate each, one is the nearest by dense vector, the other one is the best by its word.
    (hit,) = docs.search("a whale", mode="hybrid", limit=1, candidates=1)
    ((_, nearest),) = by_hand("a whale", "dense", limit=1)
    best = next(IDS[i] for i in OF_TASK["retrieval"] if WORDS[i % 6] == "whale")
    first = next(identity for _, identity in by_hand("a whale", "late", limit=N) if identity in (nearest, best))
    assert hit.id == (best if first == best else nearest)


def test_a_threshold_of_hybrid_leaves_out_what_scores_less_by_maxsim(docs):
    by_maxsim = by_hand("a whale", "late", limit=N)
    threshold = (by_maxsim[8][0] + by_maxsim[9][0]) / 2
    for candidates in (None, N):
        hits = docs.search("a whale", mode="hybrid", limit=30, candidates=candidates, score_threshold=threshold)
        assert {hit.id for hit in hits} == {identity for _, identity in by_maxsim[:9]}


def test_the_order_of_a_fusion_is_always_the_same(docs):
    for mode, tasks in (("hybrid", "retrieval"), ("late", TASKS), ("hybrid", TASKS)):
        rankings = [
            [hit.id for hit in docs.search("a whale", mode=mode, task=tasks, limit=9, candidates=15)] for _ in range(9)
        ]
        assert rankings == [rankings[0]] * 9


def test_groups_of_hybrid_are_the_best_sources(docs):
    groups = docs.search_groups("a whale", mode="hybrid", limit=3, group_size=2)
    wanted = {}
    for _, identity in by_hand("a whale", "hybrid", limit=N):
        wanted.setdefault(SOURCE[IDS.index(identity)], []).append(identity)
    assert [group.value for group in groups] == list(wanted)[:3]
    assert groups[0].hits[0].id == wanted[groups[0].value][0]


def test_the_candidates_by_words_are_those_with_the_word(docs):
    request = docs.explain("a whale", mode="hybrid", candidates=20)
    words = request.prefetch[1]
    found = docs.client.query_points(
        docs.name, query=words.query, using=words.using, query_filter=words.filter, limit=N
    ).points
    assert {point.payload["metadata"]["n"] for point in found} == {
        i for i in OF_TASK["retrieval"] if WORDS[i % 6] == "whale"
    }


def test_a_query_of_signs_has_no_words_to_find(docs):
    with pytest.warns(UserWarning, match="'!' has no words: 'hybrid' is 'two-stage' for it"):
        hits = docs.search("!", mode="hybrid", candidates=10)
    check(hits, by_hand("!", "two-stage", candidates=10))


@pytest.mark.parametrize("mode", ["dense", "late"])
def test_several_tasks_are_fused_by_rank_and_never_compared_by_score(docs, mode):
    hits = docs.search("fox", mode=mode, task=TASKS, limit=6)
    by_task = {task: [identity for _, identity in by_hand("fox", mode, task=task, limit=6)] for task in TASKS}
    for task in TASKS:
        assert [hit.id for hit in hits if hit.task == task] == by_task[task][:3]
    # Ties are decided by the order of the tasks.
    assert [hit.task for hit in hits] == [*TASKS] * 3
    wanted = [1 / ((rank // 2 + 1) / [1, 0.99][rank % 2] + 59) for rank in range(6)]
    assert [hit.score for hit in hits] == pytest.approx(wanted, rel=1e-4)


def test_a_batch_answers_each_query_as_if_it_came_alone(docs):
    together = docs.search_batch(list(QUERIES), mode="two-stage", candidates=9)
    for query, hits in zip(QUERIES, together, strict=True):
        check(hits, by_hand(query, "two-stage", candidates=9))


def test_groups_are_the_best_sources_with_their_best_items(docs):
    groups = docs.search_groups("fox", mode="late", limit=3, group_size=2)
    wanted = {}
    for score, identity in by_hand("fox", "late", limit=N):
        wanted.setdefault(SOURCE[IDS.index(identity)], []).append((score, identity))
    assert [group.value for group in groups] == list(wanted)[:3]
    for group in groups:
        check(group.hits, wanted[group.value][:2])
    two_stage = docs.search_groups("fox", limit=3, group_size=2)
    assert [group.value for group in two_stage] == list(wanted)[:3]


def test_groups_of_a_small_collection_are_exact(docs, monkeypatch):
    monkeypatch.setattr("qdrant_polyvec.query.MIN_CANDIDATES", 1)
    for query in QUERIES:
        (group,) = docs.search_groups(query, limit=1, group_size=1)
        check(group.hits, by_hand(query, "late", limit=1))


def test_asynchronous_searches_find_the_same(docs):
    async def everything():
        one = await docs.asearch("fox", mode="two-stage", candidates=9)
        batch = await docs.asearch_batch(["fox", "a whale"], mode="dense")
        groups = await docs.asearch_groups("fox", mode="late", limit=3, group_size=2)
        many = await asyncio.gather(*(docs.asearch("a whale", mode="late") for _ in range(8)))
        await docs._binding.aclients.aclose()
        return one, batch, groups, many

    one, batch, groups, many = asyncio.run(everything())
    assert one == docs.search("fox", mode="two-stage", candidates=9)
    assert batch == docs.search_batch(["fox", "a whale"], mode="dense")
    assert groups == docs.search_groups("fox", mode="late", limit=3, group_size=2)
    assert many == [docs.search("a whale", mode="late")] * 8


def test_counts_sources_and_verification(docs):
    assert docs.count() == N
    assert docs.sources() == {f"file-{i}": 6 for i in range(10)}
    found = docs.verify(sources=[f"file-{i}" for i in range(9)])
    assert (found.n_points, found.without_dense, found.without_late, found.foreign) == (N, [], [], [])
    assert set(found.orphans) == {IDS[i] for i in range(N) if i % 10 == 9}
    assert not found.ok
    assert docs.verify().ok
