import pytest

from qdrant_polyvec.commands.passages import passage

FILLER = "Nothing to see here, as everybody knows. " * 5


@pytest.mark.parametrize(
    ("text", "query", "shown"),
    [
        ("the red fox", "fox", "the red fox"),
        ("one\n two\tthree ", "none", "one two three"),
        ("", "fox", ""),
        (FILLER + "The red fox sleeps.", "red fox", "…The red fox sleeps."),
        (f"The fox. {FILLER}The red fox sleeps.", "red fox", "…The red fox sleeps."),
        # Of two words, the rarer one counts more.
        (f"The Fox. {FILLER}the the the the Whale", "the whale", "…the the the the Whale"),
        # The place begins a sentence or a line if it can.
        (f"{FILLER}\nparse it\n{'so ' * 40}", "parse", "…parse it so so so so so so s…"),
        (f"{FILLER}parseHTTPResponse()", "response", "…parseHTTPResponse()"),
        ("私は猫が好きです。" * 9 + "東京は大きい。", "東京", "…" + "私は猫が好きです。" * 2 + "東京は大きい。"),
    ],
)
def test_the_passage_has_most_of_the_words(text, query, shown):
    assert passage(text, query, width=30) == shown


@pytest.mark.parametrize("text", [FILLER, "x" * 99, "字" * 99, "a " * 40 + "fox " + "b " * 40, "🏳️‍🌈" * 40])
@pytest.mark.parametrize("width", [10, 33])
def test_a_passage_is_one_line_of_the_width(text, width):
    for query in ("fox", "字", "nothing"):
        shown = passage(text, query, width=width)
        assert 0 < len(shown) <= width
        assert shown.strip("…") in " ".join(text.split())


@pytest.mark.parametrize("head", ["## Red  fox\n\n", "Red fox\n=======\n", "# Red fox #\n"])
def test_headings_that_the_context_repeats_are_left_out(head):
    assert passage(f"{head}It sleeps.", "fox", width=30, names="a.md › Animals › Red fox") == "It sleeps."


def test_other_lines_stay_and_so_does_a_heading_alone():
    assert passage("# Whale\nIt swims.", "fox", width=30, names="a.md › Fox") == "# Whale It swims."
    assert passage("# Fox\n", "fox", width=30, names="a.md › Fox") == "# Fox"
