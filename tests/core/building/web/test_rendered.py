import io
import re

import pytest
from PIL import Image

from polyvec.data.building.material import CorpusItem, Query, Rejection
from polyvec.data.building.web.browser import NotRenderedError, RenderedPage
from polyvec.data.building.web.rendered import read_descriptions, rendered_articles


class Renders:
    """Stands for a browser: each line of text that is left of the HTML is a page, and its own heading."""

    def __init__(self, missing=""):
        self.missing, self.html = missing, []

    def pages(self, article, html):
        self.html.append(html)
        if "crash" in html:
            raise NotRenderedError("Target crashed")
        file = io.BytesIO()
        Image.new("RGB", (9, 9)).save(file, "PNG")
        for line in re.sub(r"<(title|style)>.*?</\1>|<[^>]*>", "", html, flags=re.S).split("\n"):
            if line.strip():
                yield RenderedPage(file.getvalue(), line, [line], self.missing if "box" in line else "")


def built(folder, browser=None, **options):
    items = list(rendered_articles([folder], browser or Renders(), **options))
    return [[item for item in items if isinstance(item, kind)] for kind in (CorpusItem, Query, Rejection)]


def test_titles_and_headings_ask_for_the_pages_that_show_them(tmp_path):
    (tmp_path / "a.md").write_text(
        "---\ntitle: Sales report\nlang: en\n---\n# 1. Regions of the north\n\n## Regions of the south\n"
    )
    pages, queries, _ = built(tmp_path)
    first, second = (page.id for page in pages)
    assert [(query.text, query.origin, query.kind, list(query.relevant)) for query in queries] == [
        ("Sales report", "title", "key phrase", [first]),
        ("Regions of the north", "heading", "key phrase", [first]),
        ("Regions of the south", "heading", "key phrase", [second]),
    ]
    assert [(page.text, page.language, page.group) for page in pages] == [
        ("1. Regions of the north", "en", first[:-2]),
        ("Regions of the south", "en", first[:-2]),
    ]
    assert pages[0].content().size == (9, 9)


README = "# Sales\n\nA program that counts sales of all regions.\n\n## How to use it\n"


def test_the_first_paragraph_is_cut_out_if_it_is_the_description(tmp_path):
    (tmp_path / "README.md").write_text(README)
    pages, queries, _ = built(tmp_path)
    assert [query.text for query in queries if query.origin == "first paragraph"] == [
        "A program that counts sales of all regions."
    ]
    assert [page.text for page in pages] == ["Sales", "How to use it"]


def test_a_description_of_its_own_or_of_the_table_replaces_the_first_paragraph(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "README.md").write_text(f"---\ndescription: Counts what was sold\nlang: en\n---\n{README}")
    (tmp_path / "d.csv").write_text("file,description,language\nREADME.md,Zählt den Absatz aller Regionen,de\n")
    pages, queries, _ = built(folder)
    assert [query.text for query in queries if query.kind == "description"] == ["Counts what was sold"]
    assert "A program that counts sales of all regions." in [page.text for page in pages]
    _, queries, _ = built(folder, descriptions=read_descriptions(tmp_path / "d.csv"))
    assert [(query.text, query.language) for query in queries if query.kind == "description"] == [
        ("Zählt den Absatz aller Regionen", "de")
    ]


@pytest.mark.parametrize(
    "page",
    [
        "# Sales\n\nToo short.\n",
        "# Sales\n\n## How to use it\n\nA program that counts sales of all regions.\n",
        "# Sales\n\n> A program that counts sales of all regions.\n",
        "# Sales\n\nA program that counts sales of all regions\n",
    ],
)
def test_paragraphs_that_describe_nothing_stay(page, tmp_path):
    (tmp_path / "a.md").write_text(page)
    assert [query.origin for query in built(tmp_path)[1] if query.kind == "description"] == []


def test_markdown_has_a_style_and_html_its_own(tmp_path):
    (tmp_path / "a.md").write_text("Text & text\n")
    (tmp_path / "b.html").write_text(
        "<!doctype html><html lang=en><base href=https://a.org/><img loading=lazy src=a>\n<p>b"
    )
    browser = Renders()
    built(tmp_path, browser)
    markdown, html = browser.html
    assert "font:" in markdown
    assert markdown.startswith("<!doctype html>")
    assert html.startswith("<!DOCTYPE html>")
    assert "base" not in html
    assert "lazy" not in html


def test_pages_with_boxes_for_letters_are_rejected(tmp_path):
    (tmp_path / "a.md").write_text("A box of letters\n\nThe other page\n")
    pages, _, rejections = built(tmp_path, Renders("日ह🚀"))
    assert [page.text for page in pages] == ["The other page"]
    assert (rejections[0].reason, rejections[0].detail) == (
        "no font for CJK, Devanagari, symbols",
        "page 1 shows 日ह🚀",
    )


def test_what_is_not_rendered_is_rejected_and_nothing_else_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr("polyvec.data.building.web.rendered._MOST_CHARACTERS", 3000)
    for name, text in {"a": "crash", "b": "first\n\nsecond\n\nthird", "c": "x" * 3000, "d": "Last page"}.items():
        (tmp_path / f"{name}.md").write_text(text)
    pages, _, rejections = built(tmp_path, max_pages=2)
    assert [page.text for page in pages] == ["first", "second", "Last page"]
    reasons = {rejection.what[-4:]: rejection.reason for rejection in rejections if rejection.reason != "too short"}
    assert reasons == {"a.md": "not rendered", "b.md": "beyond the page limit", "c.md": "too large"}


def test_headings_of_many_pages_are_no_queries(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.md").write_text(f"<p lang=en>\n\n# How to use it\n\n## Part {name} of the guide\n")
    _, queries, rejections = built(tmp_path)
    assert [query.text for query in queries] == ["Part a of the guide", "Part b of the guide"]
    assert ("stands for many pages", "How to use it") in [(item.reason, item.what) for item in rejections]


@pytest.mark.parametrize("table", ["file,text\na,b\n", "description\na\n"])
def test_a_table_without_the_columns_is_refused(table, tmp_path):
    (tmp_path / "d.csv").write_text(table)
    with pytest.raises(ValueError, match=r"d\.csv, row 1 has the columns .*; `file` and `description` must be there"):
        read_descriptions(tmp_path / "d.csv")


def test_a_limit_of_no_pages_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`max_pages` is 0"):
        built(tmp_path, max_pages=0)


def test_an_article_of_one_paragraph_keeps_it(tmp_path):
    text = "The market of the north sold more apples than ever before."
    (tmp_path / "a.html").write_text(f"<title>Apples of the north</title><p>{text}</p>")
    pages, queries, rejections = built(tmp_path)
    assert ([page.text for page in pages], rejections) == ([text], [])
    assert "Apples of the north" in {query.text for query in queries}
    assert "first paragraph" not in {query.origin for query in queries}
