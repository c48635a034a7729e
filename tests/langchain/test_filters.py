from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import numpy as np
import pytest
from langchain_classic.retrievers.self_query.base import SelfQueryRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.structured_query import Comparator, Comparison, Operation, Operator, StructuredQuery
from qdrant_client import models

from langchain_polyvec import PolyvecEmbeddings, PolyvecTranslator, PolyvecVectorStore
from langchain_polyvec.filters import qdrant_filter
from polyvec.testing import HashEncoder

ROWS = [
    {"n": 1, "lang": "en", "score": 0.5, "tags": ["a", "b"], "who": {"name": "ann"}, "day": "2026-01-05", "ok": True},
    {"n": 2, "lang": "de", "score": 1.5, "tags": ["b"], "who": {"name": "bob"}, "day": "2026-02-05", "ok": False},
    {"n": 3, "lang": "fr", "score": 2.0, "tags": [], "a key": "x", "list": ["x", "y"], "day": "2026-03-05T10:00:00Z",
     "ok": True},
    {"n": 4, "at": datetime(2026, 4, 1, 12), "id": UUID(int=7), "price": Decimal("1.10"),
     "dc.title": "Report", "size.in cm": 6, "list[]": "x", "page_content": "x", "metadata": "y"},
]  # fmt: skip


@pytest.fixture(scope="module", params=["folder", "memory"])
def store(request, tmp_path_factory):
    location = tmp_path_factory.mktemp("index") if request.param == "folder" else ":memory:"
    embeddings = PolyvecEmbeddings(client=HashEncoder())
    with PolyvecVectorStore.from_texts(["a fox"] * 4, embeddings, ROWS, location=location) as store:
        yield store


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"lang": "en"}, {1}),
        ({"lang": "en", "n": 2}, set()),
        ({"n": 2}, {2}),
        ({"n": 2.0}, {2}),
        ({"score": 2}, {3}),  # which is stored as 2.0
        ({"score": [1.5, 2]}, {2, 3}),
        ({"n": np.int64(2)}, {2}),
        ({"n": {"$gt": np.float32(3)}}, {4}),
        ({"n": 2**60}, set()),
        ({"ok": True}, {1, 3}),
        ({"score": 1.5}, {2}),
        ({"lang": ["en", "de"]}, {1, 2}),
        ({"lang": []}, set()),
        ({"tags": "b"}, {1, 2}),
        ({"who.name": "ann"}, {1}),
        ({"a key": "x"}, {3}),
        ({"dc.title": "Report"}, {4}),
        ({"dc.title": {"$eq": "Report"}}, {4}),
        ({"dc.title": {"$ne": "Report"}}, {1, 2, 3}),
        ({"dc.title": ["Report"]}, {4}),
        ({"dc.title": {"$nin": ["Report"]}}, {1, 2, 3}),
        ({"dc.title": None}, {1, 2, 3}),
        ({"dc.title": {"$ne": None}}, {4}),
        ({"who.name": None}, {3, 4}),
        ({"size.in cm": {"$gt": 5}}, {4}),
        ({'"dc.title"': "Report"}, {4}),
        ({"list[]": "x"}, {3, 4}),  # a field of that name, or an element of a list
        ({"list[1]": "y"}, {3}),
        ({"page_content": "x", "metadata": "y"}, {4}),
        ({"lang": None}, {4}),
        ({"lang": {"$ne": "en"}}, {2, 3, 4}),
        ({"lang": {"$eq": "en"}}, {1}),
        ({"n": {"$in": [1, 4]}}, {1, 4}),
        ({"n": {"$nin": [1, 4]}}, {2, 3}),
        ({"n": {"$gt": 1, "$lte": 3}}, {2, 3}),
        ({"score": {"$gte": 1.5}}, {2, 3}),
        ({"day": {"$lt": date(2026, 2, 5)}}, {1}),
        ({"day": {"$gt": datetime(2026, 3, 5, 9, tzinfo=UTC)}}, {3}),
        ({"day": {"$gte": "2026-02-05", "$lt": "2026-03-05T10:00Z"}}, {2}),
        ({"day": {"$lt": np.datetime64("2026-02-05T00:00", "ns")}}, {1}),
        ({"day": date(2026, 1, 5)}, {1}),
        ({"day": {"$ne": datetime(2026, 3, 5, 11, tzinfo=timezone(timedelta(hours=1)))}}, {1, 2, 4}),  # 10 in UTC
        ({"day": ["2026-01-05", date(2026, 2, 5)]}, {1, 2}),
        ({"day": "2026-03-05T10:00:00+00:00"}, set()),  # a string is compared as it is
        ({"day": {"$eq": {"type": "date", "date": "2026-02-05"}}}, {2}),  # as LangChain's structured queries write it
        ({"day": {"$gt": {"type": "datetime", "datetime": "2026-03-05T09:00:00"}}}, {3}),
        ({"at": datetime(2026, 4, 1, 12)}, {4}),
        ({"at": {"$gt": "2026-04-01 12:00"}}, set()),
        ({"id": UUID(int=7)}, {4}),
        ({"price": Decimal("1.10")}, {4}),
        ({"lang": frozenset({"en"})}, {1}),
        ({"$or": [{"n": 1}, {"lang": "fr"}]}, {1, 3}),
        ({"$and": [{"n": {"$gt": 1}}, {"$not": {"lang": "fr"}}]}, {2, 4}),
        ({"$not": {"lang": "en", "n": 2}}, {1, 2, 3, 4}),
        ({"$or": []}, set()),
        ({}, {1, 2, 3, 4}),
        (None, {1, 2, 3, 4}),
    ],
)
def test_documents_that_pass(store, given, wanted):
    assert {one.metadata["n"] for one in store.similarity_search("fox", k=9, filter=given)} == wanted


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("lang = 'en'", "`filter` is a str; it is a mapping"),
        ({"$gt": 3}, "belong to a field"),
        ({"n": {"$gtx": 3}}, r"'\$gtx' is not one of \$eq, \$ne"),
        ({"n": {"name": 3}}, "write a dot for nested metadata"),
        ({"n": {"$gt": "3"}}, "compares numbers and dates, such as '2026-01-31', not '3'"),
        ({"n": {"$gt": Decimal(3)}}, r"not Decimal\('3'\)"),
        ({"n": {"$gt": "2026-02-31"}}, "'2026-02-31' is no date"),
        ({"n": {"$gt": True}}, "not True"),
        ({"n": {"$in": 3}}, "take a list, not 3"),
        ({"n": {}}, "the condition on 'n' is empty"),
        ({1: 2}, "names are strings"),
        ({"n": 2**63}, "beyond the numbers"),
        ({"n": 2**70}, "beyond 64 bits"),
        ({"n": float("inf")}, "no JSON number"),
        ({'a"b': 1}, "quotation mark or backslash"),
        ({"n": object()}, "the value for 'metadata.n' is <object"),
        ({"n": {"$in": [["a"]]}}, "metadata is compared with strings"),
        ({"$or": {"n": 1}}, "combines a list of mappings"),
        ({"$not": [{"n": 1}]}, "takes a mapping"),
    ],
)
def test_what_is_no_filter_is_refused(given, message):
    with pytest.raises((TypeError, ValueError), match=message):
        qdrant_filter(given)


ACL = {"secret": "secret", "public": "public", "none": None, "null": None, "empty": [], "both": ["public", "secret"]}


@pytest.mark.parametrize("location", ["folder", "memory"])
def test_what_lacks_a_value_is_not_that_value(location, tmp_path):
    """Missing, null and empty fields are not `secret`, and a list that holds it is."""
    embeddings = PolyvecEmbeddings(client=HashEncoder())
    rows = [{"name": name, "acl": value} if name != "none" else {"name": name} for name, value in ACL.items()]
    where = tmp_path if location == "folder" else ":memory:"
    with PolyvecVectorStore.from_texts([*ACL], embeddings, rows, location=where) as store:

        def names(condition):
            return {one.metadata["name"] for one in store.similarity_search("a", k=9, filter=condition)}

        open_to_all = {"public", "none", "null", "empty"}
        assert names({"acl": "secret"}) == {"secret", "both"}
        assert names({"acl": {"$ne": "secret"}}) == names({"acl": {"$nin": ["secret"]}}) == open_to_all
        assert names({"$not": {"acl": "secret"}}) == names({"$not": {"acl": {"$in": ["secret"]}}}) == open_to_all
        assert names({"acl": {"$nin": ["secret", "public"]}}) == names({"acl": None}) == {"none", "null", "empty"}
        assert names({"acl": {"$ne": None}}) == {"secret", "public", "both"}
        assert names({"acl": {"$nin": []}}) == names({"$not": {"acl": {"$ne": "x", "$eq": "x"}}}) == {*ACL}
        assert store.delete(filter={"acl": {"$ne": "secret"}})
        assert names(None) == {"secret", "both"}


def test_deletions_by_filter_are_of_the_stores_task_and_never_of_everything(tmp_path):
    with PolyvecVectorStore(PolyvecEmbeddings(client=HashEncoder()), location=tmp_path) as store:
        for task in ("retrieval", "code"):
            store.add_texts(["a", "b"], [{"n": 1}, {"n": 2}], task=task)
        for how in ({}, {"filter": {}}, {"filter": models.Filter()}, {"ids": ["a"], "filter": {"n": 1}}):
            with pytest.raises(ValueError, match="either `ids`, a list, or a `filter` that is not empty"):
                store.delete(**how)
        store.delete(filter={"n": 1})
        assert sorted((one.task, one.metadata["n"]) for one in store.collection.all()) == [
            ("code", 1), ("code", 2), ("retrieval", 2),
        ]  # fmt: skip


def test_a_structured_query_becomes_a_filter(store):
    def found(condition):
        constructor = RunnableLambda(lambda _: StructuredQuery("a fox", condition, limit=3))
        retriever = SelfQueryRetriever(
            query_constructor=constructor, vectorstore=store, structured_query_translator=PolyvecTranslator()
        )
        return {one.metadata["n"] for one in retriever.invoke("any")}

    def compare(name, field, value):
        return Comparison(Comparator(name), field, value)

    day = {"type": "date", "date": "2026-02-05"}
    assert found(None) <= {1, 2, 3, 4}
    assert found(compare("gte", "day", day)) == {2, 3}
    assert found(compare("eq", "day", day)) == {2}
    assert found(compare("lt", "score", 1.75)) == {1, 2}
    assert found(compare("in", "lang", ["en", "fr"])) == {1, 3}
    assert found(compare("ne", "lang", "en")) == {2, 3, 4}
    both = Operation(Operator.AND, [compare("nin", "lang", ["en"]), compare("gt", "n", 2)])
    assert found(both) == {3, 4}
    assert found(Operation(Operator.NOT, [both])) == {1, 2}
    assert found(Operation(Operator.OR, [compare("eq", "tags", "a"), compare("eq", "n", 4)])) == {1, 4}
    with pytest.raises(ValueError, match="disallowed comparator"):
        found(compare("like", "lang", "e%"))


def test_a_qdrant_filter_stays_as_it_is():
    given = models.Filter(must=[])
    assert qdrant_filter(given) is given


def test_the_metadata_may_be_elsewhere_in_the_payload():
    assert qdrant_filter({"n": 1}, metadata_key="meta").must[0].key == "meta.n"
