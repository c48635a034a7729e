import pytest

from polyvec.prompts import prefix


@pytest.mark.parametrize(
    ("task", "side", "words"),
    [
        ("retrieval", "query", "Query: "),
        ("retrieval", "document", "Passage: "),
        ("code", "query", "Query: "),
        ("code", "document", "Passage: "),
        ("text-matching", "query", "Query: "),
        ("text-matching", "document", "Query: "),
    ],
)
def test_prefixes_of_the_specification(task, side, words):
    assert prefix(task, side) == words
