"""A collection on a server, through the real REST client: what is sent is read strictly and executed on Edge."""

import asyncio
import json
from dataclasses import replace

import httpx
import numpy as np
import pytest
from qdrant_client import models

from polyvec.testing import HashEncoder
from qdrant_polyvec import (
    Cluster,
    Collection,
    FingerprintError,
    Group,
    Item,
    Patience,
    Schema,
    SchemaError,
    ServerVersionError,
    StoreRefusedError,
    StoreUnavailableError,
    limits,
    schema,
)

EMBEDDER = HashEncoder(dim=16, multivector_dim=8)
TEXTS = ["the red fox", "a blue whale", "some red whale", "an owl"]
ITEMS = [Item(text, source=source) for text, source in zip(TEXTS, "aabc", strict=True)]


@pytest.fixture
def docs(rest):
    return Collection.open(rest.client(), "docs", embedder=EMBEDDER)


def created(server):
    (body,) = [one["body"] for one in server.requests if one["method"] == "PUT" and one["path"].count("/") == 2]
    return body


def test_a_collection_is_created_with_vectors_metadata_indexes_and_alias(rest, docs):
    body = created(rest)
    assert body["vectors"]["dense"] == {"size": 16, "distance": "Cosine", "datatype": "float16"}
    assert body["vectors"]["late"] == {
        "size": 8, "distance": "Dot", "datatype": "float16", "multivector_config": {"comparator": "max_sim"},
        "hnsw_config": {"m": 0}, "memory": "cold",
    }  # fmt: skip
    assert body["metadata"] == {"polyvec": {"embedder": "hash-16-8", "dense": 16, "late": 8, "schema": 2}}
    assert body.keys() <= {"vectors", "metadata"}
    indexes = {body["field_name"]: body["field_schema"] for body in rest.sent("PUT", "/index")}
    assert indexes == {
        "_polyvec.task": "keyword", "_polyvec.fingerprint": "keyword", "_polyvec.kind": "keyword",
        "_polyvec.content_hash": "keyword", "metadata.source": "keyword",
        "_polyvec.tenant": {"type": "keyword", "is_tenant": True},
    }  # fmt: skip
    (change,) = rest.sent("POST", "/collections/aliases")
    (name,) = (one.name for one in rest.behind.get_collections().collections)
    assert change == {"actions": [{"create_alias": {"collection_name": name, "alias_name": "docs"}}]}
    rest.requests.clear()
    Collection.open(rest.client(), "docs", embedder=EMBEDDER)
    assert {one["method"] for one in rest.requests} == {"GET"}


@pytest.mark.parametrize(
    ("version", "placed"),
    [("1.20.0", {"memory": "cold"}), ("1.19.2", {"memory": "cold"}), ("2.0.0-dev", {"memory": "cold"})],
)
def test_late_vectors_are_placed_as_the_server_knows(rest, version, placed):
    rest.version = version
    Collection.open(rest.client(), "docs", embedder=EMBEDDER)
    late = created(rest)["vectors"]["late"]
    assert {key: late[key] for key in late.keys() & {"memory", "on_disk"}} == placed


def test_an_older_server_is_warned_of_and_gets_what_it_knows(rest):
    rest.version = "1.18.2"
    with pytest.warns(UserWarning, match="the server is Qdrant 1.18: a crash .*mended in 1.19"):
        Collection.open(rest.client(), "docs", embedder=EMBEDDER)
    late = created(rest)["vectors"]["late"]
    assert {key: late[key] for key in late.keys() & {"memory", "on_disk"}} == {"on_disk": True}


@pytest.mark.parametrize("version", ["1.15.4", "0.11.0"])
def test_a_server_that_is_too_old_is_refused_before_anything_is_created(rest, version):
    rest.version = version
    with pytest.raises(ServerVersionError, match=r"or later is needed, 1\.19 recommended"):
        Collection.open(rest.client(), "docs", embedder=EMBEDDER)
    assert rest.behind.get_collections().collections == []


def test_a_precision_that_the_server_does_not_know_is_refused(rest):
    rest.version = "1.19.0"
    with pytest.raises(SchemaError, match=r"late='turbo8' needs Qdrant 1\.20; the server is 1\.19"):
        Collection.open(rest.client(), "docs", embedder=EMBEDDER, schema=Schema(late="turbo8"))
    Collection.open(rest.client(), "docs", embedder=EMBEDDER, schema=Schema(late="turbo4"))


def test_a_server_without_a_version_is_refused(rest):
    rest.version = "unknown"
    with pytest.raises(ServerVersionError, match="says it is version 'unknown'"):
        Collection.open(rest.client(), "docs", embedder=EMBEDDER)


def test_an_alias_that_the_server_does_not_count_as_existing_is_found(rest, docs, monkeypatch):
    docs.add(TEXTS)
    exists = rest.behind.collection_exists
    monkeypatch.setattr(rest.behind, "collection_exists", lambda name: name != "docs" and exists(name))
    assert Collection.open(rest.client(), "docs", embedder=EMBEDDER).count() == 4


def test_two_that_create_it_at_once_both_have_it(rest, monkeypatch):
    first = Collection.open(rest.client(), "docs", embedder=EMBEDDER)
    asked = []
    monkeypatch.setattr(rest.behind, "collection_exists", lambda name: bool(asked.append(name)))
    monkeypatch.setattr(rest.behind, "get_aliases", lambda: models.CollectionsAliasesResponse(aliases=[]))
    second = Collection.open(rest.client(), "docs", embedder=EMBEDDER)  # sees none, and creates what is there
    monkeypatch.undo()
    second.add(TEXTS)
    assert first.count() == 4


def test_points_are_sent_with_their_vectors_and_payload(rest, docs):
    docs.add([Item("red fox", id="a", source="s")])
    (body,) = rest.sent("PUT", "/points")
    (point,) = body["points"]
    encoded = EMBEDDER.encode_document(["red fox"], task="retrieval", multivector=True)
    assert np.array(point["vector"]["dense"], np.float32) == pytest.approx(encoded.dense[0], abs=1e-6)
    assert np.array(point["vector"]["late"], np.float32) == pytest.approx(encoded.multivector[0], abs=1e-6)
    assert (point["payload"]["page_content"], point["payload"]["_polyvec"]["id"]) == ("red fox", "a")
    (sent,) = (one for one in rest.requests if one["path"].endswith("/points") and one["method"] == "PUT")
    assert sent["params"] == {"wait": "true"}


def test_requests_stay_below_the_bound(rest, docs, monkeypatch):
    monkeypatch.setattr(limits, "MAX_REQUEST_BYTES", 60_000)
    text = " ".join(str(n) for n in range(140))  # 140 tokens of 8 numbers
    report = docs.add([f"{n} {text}" for n in range(6)])
    assert len(report.ok) == docs.count() == 6
    sizes = [one["size"] for one in rest.requests if one["path"].endswith("/points") and one["method"] == "PUT"]
    assert len(sizes) == 3
    assert max(sizes) < 60_000


def rounded(hits):
    """Equal but for rounding: a search of groups or of a batch adds up in another order."""
    return [replace(hit, score=pytest.approx(hit.score)) for hit in hits]


def like(groups):
    return [Group(group.value, rounded(group.hits)) for group in groups]


def test_the_whole_life_of_a_collection(rest, tmp_path):
    schema = Schema(bm25="english", pooled=True)
    docs = Collection.open(rest.client(), "docs", embedder=EMBEDDER, schema=schema)
    report = docs.add(ITEMS, ids=[1, 2, 3, 4])
    assert docs.add(ITEMS, ids=[1, 2, 3, 4]).skipped == report.ok
    with Collection.open(tmp_path / "here", "docs", embedder=EMBEDDER, schema=schema) as here:
        here.add(ITEMS, ids=[1, 2, 3, 4])
        for mode in ("dense", "late", "two-stage", "hybrid"):
            for candidates in (None, 10):
                assert docs.search("red fox", mode=mode, candidates=candidates) == here.search(
                    "red fox", mode=mode, candidates=candidates
                )
        assert docs.search_groups("red fox", limit=2) == like(here.search_groups("red fox", limit=2))
        for one, other in zip(
            docs.search_batch(["red fox", "some red"]), here.search_batch(["red fox", "some red"]), strict=True
        ):
            assert one == rounded(other)
        assert docs.embeddings([3])[3].dense == pytest.approx(here.embeddings([3])[3].dense)
        assert docs.sources() == here.sources()
        assert here.copy_to(rest.client(), "copy").failed == []
    copied = Collection.open(rest.client(), "copy", embedder=EMBEDDER)
    assert copied.search("red fox") == docs.search("red fox")
    assert docs.delete(sources=["a"]) == 2
    assert docs.verify(sources=["b", "c"]).ok
    assert docs.optimize() is False


def test_asynchronous_searches_use_the_asynchronous_client(rest, docs):
    docs.add(TEXTS)

    async def both():
        return await docs.asearch("red fox"), await docs.asearch_groups("red fox")

    for _ in range(2):  # each time in another event loop
        hits, groups = asyncio.run(both())
        assert hits == docs.search("red fox")
        assert groups == like(docs.search_groups("red fox"))


def test_what_is_explained_is_what_is_sent(rest, docs):
    wanted = docs.explain("red fox", candidates=7, limit=3, score_threshold=0.1)
    docs.search("red fox", candidates=7, limit=3, score_threshold=0.1)
    (body,) = rest.sent("POST", "/query/batch")
    (sent,) = body["searches"]
    expected = without_nones(json.loads(wanted.model_dump_json(exclude_unset=True)))
    expected["query"] = {"nearest": expected["query"]}  # as the client writes a vector
    assert without_nones(sent) == expected


def without_nones(value):
    if isinstance(value, dict):
        return {key: without_nones(one) for key, one in value.items() if one is not None}
    return [without_nones(one) for one in value] if isinstance(value, list) else value


def test_deleting_a_source_is_one_filtered_request(rest, docs):
    docs.add(ITEMS)
    assert docs.delete(sources=["a", "b"]) == 3
    (body,) = rest.sent("POST", "/points/delete")
    (condition,) = models.FilterSelector(**body).filter.must
    assert (condition.key, condition.match.any) == ("metadata.source", ["a", "b"])


def test_reindexing_moves_the_alias_in_one_request(rest, docs):
    docs.add(TEXTS)
    (old,) = (one.name for one in rest.behind.get_collections().collections)
    rest.requests.clear()
    docs.reindex(HashEncoder(dim=12, multivector_dim=6, name="new"))
    (change,) = rest.sent("POST", "/collections/aliases")
    (new,) = (one.name for one in rest.behind.get_collections().collections)
    assert change["actions"] == [
        {"delete_alias": {"alias_name": "docs"}},
        {"create_alias": {"collection_name": new, "alias_name": "docs"}},
    ]
    order = [f"{one['method']} {one['path']}" for one in rest.requests]
    assert order.index("POST /collections/aliases") < order.index(f"DELETE /collections/{old}")


def test_a_collection_that_was_exchanged_elsewhere_is_refused(rest, docs):
    docs.add(TEXTS)
    other = Collection.open(rest.client(), "docs", embedder=EMBEDDER)
    other.reindex(HashEncoder(dim=12, multivector_dim=6, name="new"))
    with pytest.raises(FingerprintError, match=r"made by 'new-12-6'.*this embedder is 'hash-16-8'"):
        docs.search("red fox")
    with pytest.raises(FingerprintError, match=r"made by 'new-12-6'"):
        asyncio.run(docs.asearch("red fox"))
    with pytest.raises(FingerprintError, match=r"made by 'new-12-6'"):
        docs.add(["an item of the old model"])


def test_a_lost_connection_is_told_as_such(rest, fault):
    docs = Collection.open(rest.client(), "docs", embedder=EMBEDDER, patience=Patience(reads=0.05, first_wait=0.01))
    rest.faults["/query/batch"] = [fault(error=httpx.ConnectError("refused")) for _ in range(999)]
    rest.requests.clear()
    with pytest.raises(StoreUnavailableError, match=r"http://server:6333 did not .* ConnectError: refused"):
        docs.search("red fox", mode="dense")
    assert {one["path"] for one in rest.requests} == {"/collections/docs/points/query/batch"}  # nothing else is asked


def test_cluster_options_are_handed_through_and_nothing_more(rest):
    cluster = Cluster(
        shard_number=6, replication_factor=3, write_consistency_factor=1, shard_key="eu",
        read_consistency=models.ReadConsistencyType.MAJORITY, write_ordering=models.WriteOrdering.STRONG, timeout=7,
    )  # fmt: skip
    docs = Collection.open(rest.client(), "docs", embedder=EMBEDDER, cluster=cluster)
    assert {key: value for key, value in created(rest).items() if key not in ("vectors", "metadata")} == {
        "shard_number": 6, "replication_factor": 3, "write_consistency_factor": 1, "sharding_method": "custom",
    }  # fmt: skip
    assert rest.sent("PUT", "/shards") == [{"shard_key": "eu"}]
    Collection.open(rest.client(), "docs", embedder=EMBEDDER, cluster=cluster)  # the key is there already
    docs.add(TEXTS, ids=[1, 2, 3, 4])
    docs.add(TEXTS, ids=[1, 2, 3, 4], metadatas=[{"n": 1}] * 4)
    docs.search("red fox")
    docs.search_groups("red fox")
    docs.delete(ids=[1])
    by_path = {}
    for one in rest.requests:
        by_path.setdefault(f"{one['method']} /{one['path'].split('/', 3)[-1]}", one)
    for path in ("PUT /points", "PUT /points/payload", "POST /points/delete"):
        assert by_path[path]["params"]["ordering"] == "strong"
        assert by_path[path]["body"]["shard_key"] == "eu"
    for path in ("POST /points", "POST /points/query/groups"):
        assert by_path[path]["params"]["consistency"] == "majority"
        assert by_path[path]["body"]["shard_key"] == "eu"
    batch = by_path["POST /points/query/batch"]
    assert (batch["params"]["consistency"], batch["params"]["timeout"]) == ("majority", "7")
    assert batch["body"]["searches"][0]["shard_key"] == "eu"


def test_reindexing_would_lose_the_other_shard_keys_and_is_refused(rest):
    docs = Collection.open(rest.client(), "docs", embedder=EMBEDDER, cluster=Cluster(shard_key="eu"))
    for opened in (docs, Collection.open(rest.client(), "docs", embedder=EMBEDDER)):
        with pytest.raises(
            ValueError, match="'docs' is sharded by keys, and `reindex` would lose the key of each point"
        ):
            opened.reindex(HashEncoder(dim=12, multivector_dim=6, name="new"))
    assert len(rest.behind.get_collections().collections) == 1


def test_without_cluster_options_none_are_sent(rest, docs):
    docs.add(TEXTS)
    docs.search("red fox")
    for one in rest.requests:
        assert not one["params"].keys() & {"ordering", "consistency", "timeout"}
        assert "shard_key" not in json.dumps(one["body"])


def test_a_folder_takes_no_shards(tmp_path):
    with pytest.raises(NotImplementedError, match="shard_number"):
        Collection.open(tmp_path, "docs", embedder=EMBEDDER, cluster=Cluster(shard_number=2))
    ordered = Cluster(write_ordering=models.WriteOrdering.STRONG, read_consistency=2, timeout=5)
    with Collection.open(tmp_path, "docs", embedder=EMBEDDER, cluster=ordered) as docs:
        docs.add(TEXTS)
        assert len(docs.search("fox")) == 4


def test_an_old_server_is_told_before_its_collections_are_read(rest, docs):
    rest.version = "1.15.0"
    with pytest.raises(ServerVersionError):
        Collection.open(rest.client(), "docs", embedder=EMBEDDER)


def test_reading_survives_a_bad_moment(rest, docs, fault, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    docs.add([Item(text, source="a") for text in TEXTS])
    rest.faults["/scroll"] = [fault(status=503), fault(status=503), fault(status=503)]
    assert len(docs.add([Item(text, source="a") for text in TEXTS[:2]], replace_sources=True).removed) == 2
    assert docs.copy_to(tmp_path / "copy").failed == []
    assert docs.verify().ok


@pytest.mark.parametrize("status", [400, 409])
def test_a_shard_key_that_is_there_is_no_error(status):
    with schema._unless_there():
        raise StoreRefusedError("Sharding key eu already exists" if status == 400 else "conflict", status)
    with pytest.raises(StoreRefusedError), schema._unless_there():
        raise StoreRefusedError("no right to do so", 403)
