import pytest

from polyvec.data.building.material import Query, Rejection
from polyvec.data.building.web.queries import Queries


def finished(rows, **options):
    queries = Queries(**options)
    for text, document in rows:
        queries.add(text, document, language="en", kind="question", origin="question")
    return list(queries.finish("stands for many pages"))


def test_equal_texts_are_one_query_whose_id_tells_the_text():
    first, second = finished([("Who won?", "a"), ("who WON?", "b"), ("Who lost?", "a")], max_relevant=2)
    assert (first.text, dict(first.relevant)) == ("Who won?", {"a": 1, "b": 1})
    assert second.id == finished([("who lost?", "z")], max_relevant=1)[0].id != first.id


def test_texts_of_too_many_documents_are_rejected():
    rejected, kept = finished([("Who won?", "a"), ("Who won?", "b"), ("Who lost?", "a")], max_relevant=1)
    assert isinstance(rejected, Rejection)
    assert (rejected.reason, rejected.detail) == ("stands for many pages", "2 documents have this question")
    assert isinstance(kept, Query)


def test_the_last_row_may_win():
    (query,) = finished([("Who won?", "a"), ("Who won?", "b")], max_relevant=1, last_row_wins=True)
    assert dict(query.relevant) == {"b": 1}


def test_a_limit_of_none_is_refused():
    with pytest.raises(ValueError, match="`max_relevant` is 0"):
        Queries(max_relevant=0)
