import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdrant_polyvec import characters
from qdrant_polyvec.files import cutting
from qdrant_polyvec.files.cutting import MAX_UNIT_CHARS, Outline, parts

FLAGS, FAMILY, JAMO, ACCENT = "🇩🇪🇫🇷", "👨‍👩‍👧", unicodedata.normalize("NFD", "각"), "e\u0301"
PIECES = [
    FLAGS,
    FAMILY,
    JAMO,
    ACCENT,
    "क्षि",
    "\u0600 1",
    " \u0301",
    "👍🏽",
    " ",
    "  ",
    "\n",
    "\n\n",
    "a",
    "Go.",
    "好。",
    "?",
    "\t#",
]


def paths(outline):
    return dict(outline.starts)


def texts(text, outliner):
    lines = text.split("\n")
    return [part.text for part in parts(lines, outliner(lines))]


@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join), st.data())
def test_nothing_is_lost_invented_moved_or_torn(text, data):
    lines = text.split("\n")
    starts = sorted({0} | data.draw(st.sets(st.integers(0, len(lines) - 1))))
    joined = data.draw(st.sets(st.integers(1, len(lines))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "MAX_UNIT_CHARS", 12)
        found = list(parts(lines, Outline(dict.fromkeys(starts, ()), joined)))
    assert "".join("".join(part.text for part in found).split()) == "".join(text.split())
    assert all(text[part.start :].startswith(part.text) and len(part.text) <= 12 for part in found)
    edges = {edge for part in found for edge in (part.start, part.start + len(part.text))}
    assert edges <= {0, *characters.ends(text)}
    assert [part.start for part in found] == sorted({part.start for part in found})


def test_a_character_longer_than_a_part_is_the_only_one_that_is_cut():
    zalgo = "a" + "\u0301" * (MAX_UNIT_CHARS + 5)
    assert texts(f"before {zalgo}", cutting.whole) == ["before", zalgo[:MAX_UNIT_CHARS], zalgo[MAX_UNIT_CHARS:]]


@pytest.mark.parametrize(
    "sentence",
    [
        "This is one sentence, as they go. ",
        "他说：“价格是3.50元。”",
        "Really?! ",
        "(It ends.) ",
        "यह एक वाक्य है। ",
        "Das sagt z. B. Dr. Müller am 3. Mai usw. so. ",
        "Mr. Smith e.g. went to U.S. banks, cf. Fig. A in it. ",
    ],
)
def test_sentences_stay_whole(sentence):
    found = texts((sentence * (3000 // len(sentence))).strip(), cutting.prose)
    assert len(found) > 2
    assert all(text.endswith(sentence.strip()) and text.startswith(sentence[:3]) for text in found)


def test_sentences_go_on_over_the_lines_of_a_paragraph_only():
    line = "of a sentence that is long\n"
    paragraph = f"Here begins the rest {line}{line * 20}it ends here. "
    assert [text[-5:] for text in texts(paragraph * 4, cutting.prose)][:-1] == ["here."] * 3
    rows = "a cell. another | cell\n" * 100
    assert all(text.endswith("cell") for text in texts(rows, cutting.whole))
    items = "- an item. It has two sentences\n" * 100
    assert all(text.endswith("sentences") for text in texts(items, cutting.prose))


def test_headings_are_those_of_commonmark():
    text = (
        "---\n# no: heading\nt: x\n---\n\n``` `a` ``` in a line\n\n# Usage *now*\n\ntext\n\nSetext\n`code`\n---\n\n"
        "more\n> # quoted\n\n- # listed\n\n<div>\n# html\n</div>\n\n    # indented\n\n~~~\n# fenced\n~~~\n"
    )
    lines = text.split("\n")
    found = paths(cutting.markdown_sections(lines))
    assert {lines[line]: path for line, path in found.items()} == {
        "---": (),
        "# Usage *now*": ("Usage now",),
        "Setext": ("Usage now", "Setext code"),
    }


@pytest.mark.parametrize(
    ("text", "n_parts"),
    [
        ("+++\n# no\na = 1\n+++\n# Yes\nx", 2),
        ("---\r\n# no\r\na: 1\r\n---\r\n# Yes\r\nx", 2),
        ("---\nwords\n---\nx\n# B\ny", 3),
    ],
)
def test_front_matter_is_facts_only(text, n_parts):
    assert len(texts(text.replace("\r\n", "\n"), cutting.markdown_sections)) == n_parts


def test_each_part_has_the_headings_above_it():
    text = "# A\n\n## B\n" + "One sentence. " * 200 + "\n## C\nx\n# D\ny"
    found = [
        (part.path, part.text[:4]) for part in parts(text.split("\n"), cutting.markdown_sections(text.split("\n")))
    ]
    assert found == [
        (("A", "B"), "# A\n"),
        (("A", "B"), "One "),
        (("A", "B"), "One "),
        (("A", "C"), "## C"),
        (("D",), "# D\n"),
    ]


def test_comments_and_decorators_stay_with_what_they_explain():
    method = "    # of f\n    @d\n    def f(self):\n        return '" + "x" * MAX_UNIT_CHARS + "'\n        # end of f\n"
    head = "# licence\n\nimport os\n# of C\nclass C:\n    '''Doc.'''\n"
    text = f"{head}{method}    # of g\n    def g(self): ...\n# of h\ndef h(): ...\n"
    lines = text.split("\n")
    assert {lines[line].strip(): path for line, path in cutting.definitions(lines).starts.items()} == {
        "# licence": (),
        "# of C": ("C",),
        "# of f": ("C", "f"),
        "# end of f": ("C",),
        "# of g": ("C", "g"),
        "# of h": ("h",),
        "": (),
    }


def test_a_string_above_a_definition_is_no_comment():
    lines = ["x = '''", "# in a string'''", "def f(): ..."]
    assert paths(cutting.definitions(lines)) == {0: (), 2: ("f",)}


def test_a_text_is_shortened_between_characters():
    assert characters.shortened(FAMILY * 3, 8) == FAMILY + "…"
    assert characters.shortened(FAMILY * 3, 8, from_left=True) == "…" + FAMILY
    assert characters.shortened("abc", 3) == "abc"
