import pytest

from polyvec.prompts import check_task, prefix


@pytest.mark.parametrize(
    ("task", "side", "words"),
    [
        ("retrieval", "query", "Query: "),
        ("retrieval", "passage", "Passage: "),
        ("code", "query", "Query: "),
        ("code", "passage", "Passage: "),
        ("text-matching", "query", "Query: "),
        ("text-matching", "passage", "Query: "),
    ],
)
def test_prefixes_of_the_specification(task, side, words):
    assert prefix(task, side) == words


@pytest.mark.parametrize("task", ["retrieval", "text-matching", "code"])
def test_the_three_tasks_are_known(task):
    check_task(task)


@pytest.mark.parametrize("task", ["", "Retrieval", "clustering", None, 3, ["code"], "retrieval.other", "a.query"])
def test_other_tasks_are_refused_with_the_right_ones(task):
    with pytest.raises(ValueError, match=r"this model knows 'retrieval', 'text-matching', 'code'\.$") as caught:
        check_task(task)
    assert repr(task) in str(caught.value)


@pytest.mark.parametrize(
    ("task", "advice"),
    [
        ("retrieval.query", "`encode_query(…, task='retrieval')`"),
        ("retrieval.passage", "`encode_document(…, task='retrieval')`"),
        ("code.query", "`encode_query(…, task='code')`"),
        ("code.passage", "`encode_document(…, task='code')`"),
    ],
)
def test_spellings_of_the_hosted_api_are_refused_with_what_to_write(task, advice):
    with pytest.raises(ValueError, match="The side of a search is the method") as caught:
        check_task(task)
    assert advice in str(caught.value)


def test_a_checkpoint_may_know_other_tasks():
    check_task("poetry", ("poetry",))
    with pytest.raises(ValueError, match="this model knows 'poetry'"):
        check_task("code", ("poetry",))
