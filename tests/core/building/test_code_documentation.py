"""Questions of documentation, and texts as pages."""

import numpy as np
import pytest

from polyvec.data.building.code.documentation import (
    Article,
    Docstring,
    articles_in,
    docstrings_of,
    explanations,
    questions,
)
from polyvec.data.building.code.functions import module_files
from polyvec.data.building.code.sections import Section, markdown_sections, rest_sections
from polyvec.data.building.code.text_pages import as_pages, draw_page, page_lines
from polyvec.data.building.material import CorpusItem, Query, Rejection

LONG = "It reads each line of the file once and keeps the lines that match the pattern."
MARKDOWN = f"""# Guide

## How do I `filter` [lines](x.md)?

{LONG} ![picture](a.png) See [the page](b.md).

```python
# no heading
```

### Details

More.

## Options

{LONG}
"""


def test_markdown_is_cut_at_headings_as_high():
    sections = list(markdown_sections(MARKDOWN))
    assert [(s.heading, s.level) for s in sections] == [
        ("Guide", 1), ("How do I filter lines?", 2), ("Details", 3), ("Options", 2),
    ]  # fmt: skip
    assert sections[1].text == f"{LONG}  See the page.\n\n```python\n# no heading\n```\n\n### Details\n\nMore."
    assert sections[2].text == "More."


def test_rest_has_the_levels_in_which_its_lines_appear():
    text = "=====\nGuide\n=====\n\nWhat is it?\n-----------\n\nText.\n\n.. image:: a.png\n\n"
    text += "Other\n=====\n\n| a | b |\n-----\n"
    assert list(rest_sections(text)) == [
        Section("Guide", 1, "What is it?\n-----------\n\nText.\n\nOther\n=====\n\n| a | b |\n-----"),
        Section("What is it?", 2, "Text.\n\nOther\n=====\n\n| a | b |\n-----"),
        Section("Other", 3, "| a | b |\n-----"),
    ]


def test_a_heading_that_is_a_question_is_answered_by_its_section():
    items = list(questions([Article("guide.md", MARKDOWN, "markdown", "guide.md")]))
    (document,) = (item for item in items if isinstance(item, CorpusItem))
    (query,) = (item for item in items if isinstance(item, Query))
    assert (query.text, query.kind, dict(query.relevant)) == ("How do I filter lines?", "question", {document.id: 1})
    assert document.content.startswith(LONG)
    assert [(item.what, item.reason) for item in items if isinstance(item, Rejection)] == [
        ("Guide", "no question"), ("Details", "no question"), ("Options", "no question"),
    ]  # fmt: skip
    more = questions([Article("guide.md", MARKDOWN.replace("Options", "All options"), "markdown", "")], headings=True)
    assert [item.text for item in more if isinstance(item, Query)] == ["How do I filter lines?", "All options"]


def test_a_question_with_different_answers_is_none():
    texts = [f"# What is this?\n\n{LONG}{end}\n" for end in ("", " Fast.", "")]
    items = list(questions(Article(f"{n}.md", text, "markdown", "") for n, text in enumerate(texts)))
    assert [item.id for item in items if isinstance(item, CorpusItem)] == ["0.md#1", "1.md#1"]
    assert {item.reason for item in items if isinstance(item, Rejection)} == {"duplicate question"}
    same = list(questions(Article(f"{n}.md", texts[0], "markdown", "") for n in "ab"))
    assert [dict(item.relevant) for item in same if isinstance(item, Query)] == [{"a.md#1": 1}]


def test_files_that_are_no_texts_are_named(tmp_path):
    (tmp_path / "a.md").write_text("# A\n")
    (tmp_path / "b.rst").write_bytes(b"\xff")
    (tmp_path / "c.txt").write_text("no")
    article, rejection = articles_in([tmp_path])
    assert (article.name, article.markup) == (f"{tmp_path.name}/a.md", "markdown")
    assert (rejection.reason, rejection.what) == ("unreadable file", f"{tmp_path.name}/b.rst")


def test_a_docstring_is_asked_for_by_its_first_sentences(tmp_path):
    (tmp_path / "m.py").write_text(f'"""Filter the lines of files.\n\n{LONG} {LONG}\n"""\ndef f():\n    """Short."""\n')
    items = list(explanations(docstrings_of(module_files([tmp_path / "m.py"]))))
    assert [(item.id, item.content) for item in items if isinstance(item, CorpusItem)] == [("m", f"{LONG} {LONG}")]
    assert [item.text for item in items if isinstance(item, Query)] == ["Filter the lines of files."]
    assert [(item.document, item.reason) for item in items if isinstance(item, Rejection)] == [("m:f", "too short")]


def test_a_summary_that_repeats_is_no_query():
    docstrings = [Docstring(f"m:{n}", f"Filter the lines now.\n\n{LONG} {LONG} {n}", "") for n in range(2)]
    assert not any(isinstance(item, Query) for item in explanations(docstrings))


def test_lines_are_wrapped_at_spaces_and_keep_their_indentation():
    lines = page_lines("    " + "word " * 60 + "\n\n\tend\n" + "x" * 200)
    assert all(line.startswith("    word") and not line.endswith(" ") for line in lines[: lines.index("")])
    assert " ".join(" ".join(lines[: lines.index("")]).split()) == " ".join(["word"] * 60)
    assert lines[lines.index("") + 1] == "    end"
    assert "".join(lines[lines.index("") + 2 :]) == "x" * 200
    assert len(page_lines("a\n" * 100)) == 42


def test_a_page_has_ink_inside_its_margins_alone():
    page = np.asarray(draw_page(page_lines("Wide words " * 2000)).convert("L"))
    rows, columns = np.nonzero(page < 128)
    assert page.shape == (1008, 768)
    assert rows.min() >= 36
    assert rows.max() < 1008 - 30
    assert columns.min() >= 35
    assert columns.max() <= 768 - 36


def test_a_text_with_characters_that_the_font_lacks_is_no_page():
    source = [
        CorpusItem("a", "plain"), CorpusItem("b", "\u4e2d"),
        Query("q", "x", {"a": 1, "b": 1}), Query("r", "y", {"b": 1}),
    ]  # fmt: skip
    page, missing, query, unanswered = as_pages(source)
    assert (page.text, page.kind, page.content().size) == ("plain", "page", (768, 1008))
    assert (missing.reason, missing.what, unanswered.reason) == ("missing glyph", "b", "missing glyph")
    assert "\u4e2d" in missing.detail
    assert dict(query.relevant) == {"a": 1}


def test_an_unknown_font_is_refused():
    with pytest.raises(ValueError, match="DejaVuSans"):
        page_lines("a", font="Nothing")


def test_an_explanation_that_repeats_its_question_is_no_answer():
    more = "It is stable, so rows of one price stay in the order in which they were before, whatever their names are, "
    text = f"Sort the rows by price.\n\nSort the rows by price. {more} and it needs no memory but that of the rows."
    (rejection,) = explanations([Docstring("m:f", text, "m.py")])
    assert (rejection.reason, rejection.what) == ("repeated in its answer", "Sort the rows by price.")
