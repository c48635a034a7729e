import pytest
from qdrant_client import models

from polyvec.testing import HashEncoder
from qdrant_polyvec import Collection, field_keys

AXES = [{"dc.title": "x"}, {"dc": {"title": "x"}}, {"tags[]": "x"}, {"tags": ["x"]}, {"straße 1": "x"}, {"": "x"}]
METADATAS = [*AXES, {"a": {"b.c": "x"}}, {"pages": [{"no.": "x"}]}, {"title": "x"}, {"c\nd.": "x"}]


@pytest.fixture(scope="module", params=["edge", "memory"])
def docs(request, tmp_path_factory):
    location = tmp_path_factory.mktemp("index") if request.param == "edge" else ":memory:"
    with Collection.open(location, "docs", embedder=HashEncoder()) as docs:
        docs.add(["text"] * len(METADATAS), ids=list(range(len(METADATAS))), metadatas=METADATAS).check([])
        yield docs


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("title", {8}),
        ("dc.title", {0, 1}),
        ('"dc.title"', {0}),
        ("tags[]", {2, 3}),
        ("straße 1", {4}),
        ("", {5}),
        ('a."b.c"', {6}),
        ('pages[]."no."', {7}),
        ("c\nd.", {9}),
    ],
)
def test_a_field_is_reached_under_every_reading_of_its_name(docs, name, ids):
    value = models.MatchValue(value="x")
    conditions = [models.FieldCondition(key=key, match=value) for key in field_keys(name)]
    assert {item.id for item in docs.all(models.Filter(should=conditions))} == ids
    assert {item.id for item in docs.all(models.Filter(must_not=conditions))} == set(range(len(METADATAS))) - ids


def test_the_keys_of_a_name_stand_under_another_key():
    assert field_keys("page") == ["metadata.page"]
    assert field_keys("doc.id", under="") == ['"doc.id"', "doc.id"]
    assert field_keys("a.b c", under="m") == ['m."a.b c"', 'm.a."b c"']


@pytest.mark.parametrize("name", ['say "a"', "C:\\x", '"a', '"a"b', 'a."b".', '"a\\"'])
def test_a_name_that_has_no_key_is_refused(name):
    with pytest.raises(ValueError, match="cannot be filtered by"):
        field_keys(name)


@pytest.mark.parametrize("name", ['say "a"', "C:\\x"])
def test_metadata_that_no_filter_could_reach_are_not_stored(memory_docs, name):
    with pytest.raises(ValueError, match=r"metadata has the name .* Rename it"):
        memory_docs.add(["text"], metadatas=[{name: 1}])
    assert memory_docs.add(["text"], metadatas=[{"inner": {name: 1}}]).ok


@pytest.fixture
def memory_docs():
    with Collection.open(":memory:", "docs", embedder=HashEncoder()) as docs:
        yield docs
