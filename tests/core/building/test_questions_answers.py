import time

import pytest

from polyvec.data.building.questions.answers import AnswerError, Entry, Verdict, read_queries, read_verdict

TWO = [Entry("a", "1"), Entry("b", "2")]


@pytest.mark.parametrize(
    "text",
    [
        '[{"query": "a", "answer": "1"}, {"query": "b", "answer": 2}]',
        '```json\n[{"query": "a", "answer": "1"}, {"query": "b", "answer": "2"}]\n```',
        'Sure [as you asked], here:\n[{"query": "a", "answer": "1"},\n {"query": "b", "answer": "2"}]\nGood luck {x}!',
        '[{"query": "a", "answer": "1",}, {"query": "b", "answer": "2"},]',
        "[{“query”: “a”, “answer”: “1”}, {“query”: “b”, “answer”: “2”}]",
        '{"queries": [{"question": "a", "answer": "1"}, {"text": " b ", "answer": "2"}]}',
    ],
    ids=["plain", "fenced", "prose around", "trailing commas", "smart quotes", "within an object"],
)
def test_lists_are_read_as_models_write_them(text):
    assert read_queries(text) == TWO


def test_texts_and_single_objects_are_lists_too():
    assert read_queries('["a, ] b", "c\nd"]') == [Entry("a, ] b"), Entry("c d")]
    assert read_queries('{"query": "a"}') == [Entry("a")]


def test_quotation_marks_within_a_query_stay():
    assert read_queries('[{"query": "Who said “no, never”, and „why“?"}]') == [
        Entry("Who said “no, never”, and „why“?")
    ]


def test_an_entry_without_a_text_is_empty_and_loses_no_other():
    assert read_queries('[{"query": "a"}, {"note": "b"}, 3]') == [Entry("a"), Entry(""), Entry("")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" [] ", "empty"),
        ("I’m sorry, but I can’t help with that.", "refused"),
        ("Es tut mir leid, dabei kann ich nicht helfen.", "refused"),
        ("申し訳ありませんが、お手伝いできません。", "refused"),
        ("The page shows a chart of sales.", "broken JSON"),
        ('[{"query": "a"}, {"query": "What was the rev', "broken JSON"),
        ('{"queries": [{"query": "a"}, {"que', "broken JSON"),
        ('[{"note": "b"}]', "broken JSON"),
        ("[" * 100_000, "broken JSON"),
    ],
)
def test_what_has_no_queries_says_why(text, reason):
    with pytest.raises(AnswerError) as error:
        read_queries(text)
    assert error.value.reason == reason
    assert error.value.detail


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('{"answerable": true, "answer": "42"}', Verdict(True, "42")),
        ('[{"answerable": "No", "answer": null}]', Verdict(False)),
        ("yes", Verdict(True)),
        ("```json\nfalse\n```", Verdict(False)),
    ],
)
def test_verdicts_are_read(text, verdict):
    assert read_verdict(text) == verdict


@pytest.mark.parametrize("text", ['{"answer": "42"}', '{"answerable": "perhaps"}', "It depends."])
def test_what_is_no_verdict_is_broken(text):
    with pytest.raises(AnswerError) as error:
        read_verdict(text)
    assert error.value.reason == "broken JSON"


def test_numbers_may_have_more_digits_than_python_converts():
    digits = "1" * 5000
    assert read_queries(f'[{{"query": "a", "answer": {digits}}}]') == [Entry("a", digits)]
    assert read_verdict(f'{{"answerable": true, "answer": {digits}}}') == Verdict(True, digits)


def test_a_long_answer_that_is_cut_off_takes_no_time():
    start = time.process_time()
    with pytest.raises(AnswerError, match="Unterminated string"):
        read_queries('["' + r"\"" * 100_000)  # took minutes
    assert time.process_time() - start < 5
