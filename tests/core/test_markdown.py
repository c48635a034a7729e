import pytest

from polyvec.markdown import Heading, outline, split_front_matter


def test_the_text_of_a_heading_has_no_markup():
    text = "# A *b* `c` [d][1] ![e](f) &amp; <i>g</i>\n\n[1]: https://h.example\n"
    assert outline(text).headings == [Heading(0, 1, 1, "A b c d e & g")]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_whatever_ends_them(line_end):
    text = line_end.join(["one", "two\u2028", "three", "", "Head", "ing", "---", "| a |", "|---|", "| b |"])
    front = "+++\r\na = 1\n+++\n"
    assert outline(text).headings == [Heading(4, 7, 2, "Head ing")]
    assert outline(front + text).headings == [Heading(7, 10, 2, "Head ing")]
    assert outline(front + text).joined == {4, 5, 8}


def test_front_matter_is_a_mapping():
    assert split_front_matter("---\na: 1\n---\ntext") == ({"a": 1}, "text")
    for text in ("---\nwords\n---\ntext", "---\n[\n---\ntext", "a: 1\n---\ntext"):
        assert split_front_matter(text) == ({}, text)


@pytest.mark.parametrize(
    "front_matter",
    [
        "---\na: !!bool x\nb: !!timestamp x\n---\n",
        "---\na: !!timestamp x\n---\n",
        "+++\na" + ".a" * 20_000 + " = 1\n+++\n",  # would take seconds
    ],
)
def test_front_matter_with_impossible_values_is_text(front_matter):
    assert split_front_matter(f"{front_matter}# A") == ({}, f"{front_matter}# A")


def test_mappings_of_front_matter_are_not_merged():
    levels = "".join(f"a{level + 1}: &a{level + 1} {{<<: [*a{level}, *a{level}]}}\n" for level in range(40))
    facts, text = split_front_matter(f"---\na0: &a0 {{b: 1}}\n{levels}---\n# A")
    assert facts["a1"] == {"<<": [{"b": 1}, {"b": 1}]}
    assert text == "# A"
