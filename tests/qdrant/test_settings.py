"""What a collection keeps when another one is made from it: on a server, in a folder, and from one to the other."""

import contextlib

import pytest
from qdrant_client import models

from polyvec.testing import HashEncoder
from qdrant_polyvec import Cluster, Collection, Schema, open_client
from qdrant_polyvec.binding import aliased, point_alias
from qdrant_polyvec.fingerprint import Model, remember_model, remembered_model

EMBEDDER = HashEncoder(dim=16, multivector_dim=8)
NEW = HashEncoder(dim=12, multivector_dim=6, name="new")
TEXTS = ["the red fox", "a blue whale"]
SPREAD = Cluster(shard_number=6, replication_factor=3, write_consistency_factor=2)
INT8 = models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8))
TEXT = models.TextIndexParams(
    type=models.TextIndexType.TEXT,
    tokenizer=models.TokenizerType.PREFIX,
    min_token_len=2,
    lowercase=True,
    stopwords=models.StopwordsSet(languages=[models.Language.ENGLISH], custom=["foo"]),
    stemmer=models.SnowballParams(type=models.Snowball.SNOWBALL, language=models.SnowballLanguage.GERMAN),
)
TENANT = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)


def configured(rest):
    """A collection on a server whose every kind of setting somebody has changed."""
    docs = Collection.open(rest.client(), "docs", embedder=EMBEDDER, schema=Schema(bm25="english"), cluster=SPREAD)
    docs.add(TEXTS)
    docs.client.update_collection(
        "docs",
        hnsw_config=models.HnswConfigDiff(m=24),
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=5000, flush_interval_sec=7),
        quantization_config=INT8,
        vectors_config={
            "dense": models.VectorParamsDiff(
                hnsw_config=models.HnswConfigDiff(m=32), quantization_config=INT8, memory=models.Memory.COLD
            ),
            "late": models.VectorParamsDiff(
                hnsw_config=models.HnswConfigDiff(payload_m=8), memory=models.Memory.CACHED
            ),
        },
        collection_params=models.CollectionParamsDiff(
            read_fan_out_factor=1, read_fan_out_delay_ms=20, on_disk_payload=False
        ),
        strict_mode_config=models.StrictModeConfig(enabled=True, max_query_limit=100),
        metadata={"owner": "ann"},
    )
    rest.configs[aliased(rest.behind, "docs")]["wal_config"] = {"wal_capacity_mb": 8, "wal_segments_ahead": 1}
    docs.client.create_payload_index("docs", "metadata.lang", TENANT)
    docs.client.create_payload_index("docs", "page_content", TEXT)
    return Collection.open(rest.client(), "docs", embedder=EMBEDDER)


def assert_is_configured(client, name="docs"):
    info = client.get_collection(name)
    config, params = info.config, info.config.params
    assert (params.shard_number, params.replication_factor, params.write_consistency_factor) == (6, 3, 2)
    assert (params.read_fan_out_factor, params.read_fan_out_delay_ms, params.on_disk_payload) == (1, 20, False)
    assert config.hnsw_config.m == 24
    assert (config.optimizer_config.indexing_threshold, config.optimizer_config.flush_interval_sec) == (5000, 7)
    assert (config.wal_config.wal_capacity_mb, config.wal_config.wal_segments_ahead) == (8, 1)
    assert config.quantization_config == INT8
    assert (config.strict_mode_config.enabled, config.strict_mode_config.max_query_limit) == (True, 100)
    assert config.metadata["owner"] == "ann"
    dense, late = params.vectors["dense"], params.vectors["late"]
    assert (dense.hnsw_config.m, dense.quantization_config, dense.memory) == (32, INT8, models.Memory.COLD)
    assert (late.hnsw_config.m, late.hnsw_config.payload_m, late.memory) == (0, 8, models.Memory.CACHED)
    assert info.payload_schema["metadata.lang"].params == TENANT
    assert info.payload_schema["page_content"].params == TEXT
    assert info.payload_schema["_polyvec.tenant"].params.is_tenant


def test_a_collection_that_is_reindexed_stays_as_it_was_configured(rest):
    docs = configured(rest)
    assert_is_configured(docs.client)
    docs.reindex(NEW)
    assert docs.embedder is NEW
    assert_is_configured(docs.client)
    assert docs.schema.indexed == {"lang": "keyword"}


def test_a_copy_on_a_server_is_configured_as_its_original(rest):
    docs = configured(rest)
    assert docs.copy_to(rest.client(), "copy").failed == []
    assert_is_configured(docs.client, "copy")


def test_what_is_asked_for_goes_before_what_the_collection_has(rest):
    configured(rest)
    three = Cluster(shard_number=3)
    docs = Collection.open(rest.client(), "docs", embedder=EMBEDDER, cluster=three)
    docs.reindex(EMBEDDER, schema=Schema(quantization=INT8, indexed={"lang": "text"}))
    info = docs.client.get_collection("docs")
    assert (info.config.params.shard_number, info.config.params.replication_factor) == (3, 3)
    assert info.config.params.vectors["late"].quantization_config == INT8
    assert info.payload_schema["metadata.lang"].data_type == "text"
    docs.reindex(EMBEDDER, schema=Schema())
    assert docs.client.get_collection("docs").config.params.vectors["late"].quantization_config is None
    docs.copy_to(rest.client(), "keyed", cluster=Cluster(shard_key="eu"))
    sent = rest.sent("PUT", aliased(rest.behind, "keyed"))[0]
    assert (sent["sharding_method"], sent["replication_factor"], "shard_number" in sent) == ("custom", 3, False)


def test_a_copy_in_a_folder_keeps_what_a_folder_has(rest, tmp_path):
    docs = configured(rest)
    with contextlib.closing(open_client(tmp_path / "here")) as folder:
        docs.copy_to(folder)
        info = folder.get_collection("docs")
        assert (info.config.hnsw_config.m, info.config.optimizer_config.indexing_threshold) == (24, 5000)
        assert (info.config.quantization_config, info.config.metadata["owner"]) == (INT8, "ann")
        assert info.config.params.vectors["dense"].hnsw_config.m == 32
        assert info.payload_schema["page_content"].params == TEXT


def test_a_copy_on_a_server_has_no_defaults_of_the_folder(rest, tmp_path):
    with Collection.open(tmp_path / "here", "docs", embedder=EMBEDDER) as docs:
        docs.client.update_collection("docs", metadata={"owner": "ann"})
        docs.client.create_payload_index("docs", "page_content", TEXT)
        docs.copy_to(rest.client())
    (sent,) = [one["body"] for one in rest.requests if one["method"] == "PUT" and one["path"].count("/") == 2]
    assert sent.keys() == {"vectors", "metadata"}
    assert sent["metadata"]["owner"] == "ann"
    index = {body["field_name"]: body["field_schema"] for body in rest.sent("PUT", "/index")}["page_content"]
    assert models.TextIndexParams(**index) == TEXT


def test_an_older_server_is_told_places_in_its_own_words(rest, tmp_path):
    with Collection.open(tmp_path / "here", "docs", embedder=EMBEDDER) as docs:
        rest.version = "1.18.0"
        with pytest.warns(UserWarning, match="1.18"):
            docs.copy_to(rest.client())
    late = rest.sent("PUT", aliased(rest.behind, "docs"))[0]["vectors"]["late"]
    assert (late["on_disk"], "memory" in late) == (True, False)


@pytest.mark.parametrize("place", ["folder", "memory"])
def test_metadata_of_the_user_stay_and_the_model_is_remembered_while_it_is_the_same(place, tmp_path):
    with contextlib.closing(open_client(tmp_path / "index" if place == "folder" else ":memory:")) as client:
        docs = Collection.open(client, "docs", embedder=EMBEDDER)
        client.update_collection(aliased(client, "docs"), metadata={"owner": "ann", "polyvec_other": 1})
        remember_model(client, aliased(client, "docs"), Model("demo", {}))
        docs.reindex(EMBEDDER, schema=Schema(bm25="english"))
        docs.copy_to(client, "copy")
        for name in ("docs", "copy"):
            assert client.get_collection(name).config.metadata["owner"] == "ann"
            assert remembered_model(client, name) == Model("demo", {})
        docs.reindex(NEW)
        assert client.get_collection("docs").config.metadata.keys() == {"polyvec", "owner"}


def test_other_aliases_of_a_collection_move_with_it(tmp_path):
    with contextlib.closing(open_client(tmp_path)) as client:
        docs = Collection.open(client, "docs", embedder=EMBEDDER)
        docs.add(TEXTS)
        point_alias(client, "live", aliased(client, "docs"), instead=False)
        Collection.open(client, "other", embedder=EMBEDDER)
        other = aliased(client, "other")
        docs.reindex(NEW)
        assert aliased(client, "live") == aliased(client, "docs")
        assert client.count("live").count == 2
        assert aliased(client, "other") == other
