import pytest
from qdrant_client import models

from qdrant_polyvec import Schema, SchemaError, schema

SPARSE = {"bm25": models.SparseVectorParams(modifier=models.Modifier.IDF)}


def config(vectors, sparse=None):
    params = models.CollectionParams(vectors=vectors, sparse_vectors=sparse)
    hnsw = models.HnswConfig(m=16, ef_construct=100, full_scan_threshold=10_000)
    optimizer = models.OptimizersConfig(default_segment_number=0, flush_interval_sec=5)
    return models.CollectionConfig(params=params, hnsw_config=hnsw, optimizer_config=optimizer)


def vectors(wanted=None, **changes):
    made = schema.vectors_config(8, 4, wanted or Schema())
    return made | {name: made[name].model_copy(update=update) for name, update in changes.items()}


def check(found, wanted=None, sparse=None):
    schema.check("docs", config(found, sparse), wanted or Schema(), dense=8, late=4)


def test_the_default_has_a_graph_for_dense_and_none_for_late():
    made = vectors()
    assert set(made) == {"dense", "late"}
    assert made["dense"] == models.VectorParams(size=8, distance="Cosine", datatype="float16")
    late = made["late"]
    assert (late.size, late.distance.value, late.datatype.value, late.hnsw_config.m) == (4, "Dot", "float16", 0)
    assert late.multivector_config.comparator.value == "max_sim"


def test_where_the_late_vectors_lie_depends_on_the_server(monkeypatch):
    tiered, plain = vectors()["late"], schema.vectors_config(8, 4, tiers=False)["late"]
    assert (tiered.memory, tiered.on_disk) == (models.Memory.COLD, None)
    assert (plain.memory, plain.on_disk) == (None, True)
    monkeypatch.delattr(models, "Memory")  # as in older releases of qdrant-client
    assert vectors()["late"].on_disk is True


@pytest.mark.parametrize("precision", schema.PRECISIONS)
def test_every_precision_is_asked_for_and_recognised(precision):
    wanted = Schema(late=precision, pooled=True)
    made = vectors(wanted)
    assert made["late"].datatype.value == precision
    assert made["pooled"].datatype.value == "float16"
    assert made["pooled"].hnsw_config is None
    assert Schema.of(config(made), None) == wanted
    check(made, wanted)


def test_an_old_client_is_told_to_be_renewed(monkeypatch):
    members = {name: member for name, member in models.Datatype.__members__.items() if name != "TURBO4"}
    monkeypatch.setattr(models, "Datatype", type("Datatype", (), {"__members__": members}))
    with pytest.raises(SchemaError, match="late='turbo4' needs a later qdrant-client"):
        vectors(Schema(late="turbo4"))


def test_the_language_of_the_words_comes_from_the_metadata():
    made = config(vectors(), SPARSE)
    assert Schema.of(made, "german").bm25 == "german"
    assert Schema.of(config(vectors()), "german").bm25 is None


@pytest.mark.parametrize(
    ("found", "difference"),
    [
        ({"dense": vectors()["dense"]}, "'late' is missing"),
        (vectors()["dense"], "'dense' is missing; 'late' is missing"),
        (None, "'dense' is missing; 'late' is missing"),
        (vectors(dense={"size": 9}), "'dense' has size 9, not 8"),
        (vectors(dense={"distance": models.Distance.DOT}), "'dense' has distance Dot, not Cosine"),
        (vectors(late={"datatype": None}), "'late' has datatype float32, not float16"),
        (vectors(late={"hnsw_config": None}), "'late' has graph hnsw, not none"),
        (vectors(late={"multivector_config": None}), "'late' has comparator None, not max_sim"),
        (vectors(Schema(pooled=True)), "'pooled' is there, though not wanted"),
    ],
)
def test_every_difference_is_named(found, difference):
    with pytest.raises(SchemaError, match=f"Collection 'docs' has other vectors than wanted: {difference}\\."):
        check(found)


def test_differences_of_words_and_of_quantized_copies_are_named():
    with pytest.raises(SchemaError, match="'bm25' is missing"):
        check(vectors(), Schema(bm25="english"))
    with pytest.raises(SchemaError, match="'bm25' is there, though not wanted"):
        check(vectors(), sparse=SPARSE)
    with pytest.raises(SchemaError, match="'bm25' has modifier None, not idf"):
        check(vectors(), Schema(bm25="english"), sparse={"bm25": models.SparseVectorParams()})
    int8 = models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8))
    with pytest.raises(SchemaError, match="'late' has quantization None, not"):
        check(vectors(), Schema(quantization=int8))
    check(vectors(Schema(quantization=int8)), Schema(quantization=int8))


def test_the_graph_and_the_quantized_copy_of_dense_are_the_users_own():
    int8 = models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8))
    check(vectors(dense={"hnsw_config": models.HnswConfigDiff(m=0, payload_m=16), "quantization_config": int8}))


def test_further_vectors_do_not_matter():
    check(vectors() | {"mine": vectors()["dense"]})


def info(kind):
    return models.PayloadIndexInfo(data_type=kind, points=0)


def test_indexed_fields_are_read_back_under_the_names_that_made_them():
    found = {
        "metadata.source": info("keyword"), "_polyvec.task": info("keyword"), "page_content": info("text"),
        "metadata.lang": info("keyword"), 'metadata."dc.title"': info("text"), "metadata.dc.title": info("text"),
        'metadata."x y"': info("integer"), "metadata.tags[]": info("uuid"), 'metadata.a."b.c"': info("bool"),
    }  # fmt: skip
    assert Schema.of(config(vectors()), None, found).indexed == {
        "lang": "keyword", "dc.title": "text", "x y": "integer", "tags[]": "uuid", 'a."b.c"': "bool",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("indexed", "message"),
    [
        ({"lang": "string"}, "the index of 'lang' is 'string'; it must be one of 'keyword', 'integer'"),
        ({'a"b': "keyword"}, "cannot be filtered by"),
        ({"source": "text"}, "the index of 'source' is 'text'; every collection has one for it, which is 'keyword'"),
    ],
)
def test_what_cannot_be_indexed_is_refused(indexed, message):
    with pytest.raises(ValueError, match=message):
        Schema(indexed=indexed)


def test_indexes_change_no_name_of_a_collection_and_need_no_multivectors():
    assert schema.vectors_config(8, 0, Schema(indexed={"lang": "keyword"})).keys() == {"dense"}
    with pytest.raises(SchemaError, match="makes none"):
        schema.vectors_config(8, 0, Schema(bm25="english"))
