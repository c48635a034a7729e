"""Payload indexes of metadata: what is created when, and what is refused."""

import contextlib

import pytest
from qdrant_client import models

from polyvec.testing import HashEncoder
from qdrant_polyvec import Collection, Schema, SchemaError, field_keys, open_client
from qdrant_polyvec.binding import aliased

EMBEDDER = HashEncoder(dim=16, multivector_dim=8)
INDEXED = {"lang": "keyword", "published": "datetime", "n": "integer"}


@pytest.fixture
def client(tmp_path):
    with contextlib.closing(open_client(tmp_path)) as client:
        yield client


def opened(client, **indexed):
    return Collection.open(client, "docs", embedder=EMBEDDER, schema=Schema(indexed=indexed) if indexed else None)


def kinds(client, name="docs"):
    indexes = client.get_collection(name).payload_schema
    return {key: index.data_type.value for key, index in indexes.items() if not key.startswith("_polyvec")}


def test_a_schema_names_the_fields_that_are_indexed(client):
    docs = opened(client, **INDEXED)
    of_fields = {f"metadata.{field}": kind for field, kind in INDEXED.items()}
    assert kinds(client) == {"metadata.source": "keyword"} | of_fields
    docs.add(["a", "b"], metadatas=[{"lang": "en", "n": 1}, {"lang": "de", "n": 2}], ids=["a", "b"])
    large = models.Filter(must=[models.FieldCondition(key="metadata.n", range=models.Range(gte=2))])
    assert [hit.id for hit in docs.search("a", filter=large)] == ["b"]
    assert opened(client).schema.indexed == INDEXED


def test_a_field_is_indexed_by_every_key_that_conditions_have(client):
    opened(client, **{"dc.title": "text", "page": "integer"})
    assert kinds(client).keys() >= {*field_keys("dc.title"), "metadata.page"}
    facts = client.get_collection("docs").payload_schema  # where LangChain's filters find the page of an image
    assert facts["_polyvec.picture.page"].data_type == models.PayloadSchemaType.INTEGER


def test_an_existing_collection_gets_the_indexes_that_it_lacks(rest):
    opened(rest.client())
    (name,) = (one.name for one in rest.behind.get_collections().collections)
    rest.requests.clear()
    docs = opened(rest.client(), lang="keyword", über="integer")
    assert [body["field_name"] for body in rest.sent("PUT", f"{name}/index")] == ["metadata.lang", 'metadata."über"']
    assert docs.schema.indexed == {"lang": "keyword", "über": "integer"}
    assert aliased(rest.behind, "docs") == name
    rest.requests.clear()
    again = opened(rest.client(), lang="keyword", über="integer")
    assert rest.sent("PUT", "/index") == []
    again.create_index("lang", "keyword")
    assert rest.sent("PUT", "/index") == []
    again.create_index("n", "integer")
    assert rest.sent("PUT", "/index") == [{"field_name": "metadata.n", "field_schema": "integer"}]
    assert again.schema.indexed == {"lang": "keyword", "über": "integer", "n": "integer"}


def test_another_kind_is_refused_and_both_are_named(client):
    docs = opened(client, n="integer")
    message = "Collection 'docs' has an index of 'n' as 'integer', not 'keyword'"
    with pytest.raises(SchemaError, match=message):
        opened(client, lang="keyword", n="keyword")
    with pytest.raises(SchemaError, match=message):
        docs.create_index("n", "keyword")
    with pytest.raises(ValueError, match="the index of 'n' is 'number'; it must be one of"):
        docs.create_index("n", "number")
    assert kinds(client) == {"metadata.source": "keyword", "metadata.n": "integer"}


def test_indexes_survive_reindex_and_copy_to(client):
    docs = opened(client, lang="keyword")
    client.create_payload_index("docs", "metadata.late", models.PayloadSchemaType.BOOL)  # behind its back
    docs.reindex(HashEncoder(dim=12, multivector_dim=6, name="new"), schema=Schema(bm25="english"))
    docs.copy_to(client, "copy")
    expected = {"metadata.source": "keyword", "metadata.lang": "keyword", "metadata.late": "bool"}
    assert kinds(client) == kinds(client, "copy") == expected
    assert docs.schema == Schema(bm25="english", indexed={"lang": "keyword", "late": "bool"})


def test_in_memory_nothing_is_indexed():
    docs = opened(open_client(":memory:"), lang="keyword")
    docs.create_index("n", "integer")
    assert docs.schema.indexed == {"lang": "keyword", "n": "integer"}
    assert docs.client.get_collection("docs").payload_schema == {}


def test_the_name_of_a_collection_does_not_depend_on_its_indexes():
    clients = [open_client(":memory:") for _ in range(2)]
    opened(clients[0])
    opened(clients[1], lang="keyword")
    assert aliased(clients[0], "docs") == aliased(clients[1], "docs")
