import base64
import io
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from polyvec.data.building.material import CorpusItem, Query, Rejection
from polyvec.data.building.web.article_images import article_images


def picture(shade, size=(100, 80)):
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).rectangle((0, 0, 9, 9), fill=shade)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def site(tmp_path):
    """A folder with pictures, beside a secret one."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name, shade in (("red", "red"), ("blue", "blue"), ("copy", "red")):
        (folder / f"{name}.png").write_bytes(picture(shade))
    (folder / "icon.png").write_bytes(picture("red", (63, 100)))
    (folder / "blank.png").write_bytes(picture("white"))
    (folder / "broken.png").write_bytes(b"\x89PNG")
    (folder / "vector.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg' width='100' height='80'/>")
    (tmp_path / "secret.png").write_bytes(picture("green"))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    return folder


def built(site, page, **options):
    (site / "page.html").write_text(f"<html lang=en>{page}", encoding="utf-8")
    items = list(article_images([site], **options))
    return [[item for item in items if isinstance(item, kind)] for kind in (CorpusItem, Query, Rejection)]


def test_an_image_is_a_document_and_its_texts_are_queries(site):
    page = (
        "<p>Sales of the red region rose in June.</p><figure><img src=./red.png alt='Sales of red'>"
        "<figcaption>Fig. 1: How sales of red things rose</figcaption></figure>"
    )
    (document,), queries, rejections = built(site, page)
    assert (document.content, document.language, document.kind) == (site / "red.png", "en", "image")
    assert Path(document.source) == site / "page.html"
    assert [(query.text, query.kind, query.origin) for query in queries] == [
        ("Sales of red", "key phrase", "alt text"),
        ("How sales of red things rose", "description", "caption"),
        ("Sales of the red region rose in June.", "statement", "paragraph beside it"),
    ]
    assert all(dict(query.relevant) == {document.id: 1} and query.language == "en" for query in queries)
    assert rejections == []


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("icon.png", "too small"),
        ("blank.png", "one colour"),
        ("broken.png", "unreadable image"),
        ("missing.png", "unreadable image"),
        ("a%00b.png", "unreadable image"),
        ("vector.svg", "SVG without a browser"),
        ("data:image/svg+xml,<svg/>", "SVG without a browser"),
        ("data:image/png;base64,AAAA", "unreadable image"),
        ("data:image/png;base64,A", "unreadable image"),
        ("https://example.org/red.png", "remote image"),
        ("file:///etc/passwd", "outside the folder"),
        ("../secret.png", "unreadable image"),
        ("link.png", "outside the folder"),
        ("//[", "outside the folder"),
    ],
)
def test_images_that_cannot_be_shown_are_rejected(address, reason, site):
    documents, queries, (rejection,) = built(site, f"<img src='{address}' alt='Sales by region'>")
    assert (documents, queries, rejection.reason) == ([], [], reason)
    assert str(site / "page.html") in rejection.detail


def test_the_limit_of_icons_can_be_chosen(site):
    assert len(built(site, "<img src=icon.png alt='Sales by region'>", min_side=63)[0]) == 1


def test_an_image_in_the_page_itself_is_read(site):
    data = base64.b64encode(picture("red")).decode()
    page = f"<img src='data:image/png;base64,{data}' alt='Sales by region'>"
    (document,), _, _ = built(site, page)
    assert document.content().size == (100, 80)


def test_a_source_that_works_replaces_one_that_does_not(site):
    page = "<img src=red.png srcset='https://example.org/large.png 2x' alt='Sales by region'>"
    assert built(site, page)[0][0].content == site / "red.png"


def test_equal_pixels_are_one_document(site):
    page = "<img src=red.png alt='Sales by region'><img src=copy.png alt='Sales by country'>"
    (document,), queries, _ = built(site, page)
    assert [dict(query.relevant) for query in queries] == [{document.id: 1}] * 2


def test_a_text_of_two_images_is_no_query(site):
    page = "<img src=red.png alt='Sales by region'><img src=blue.png alt='Sales by region' title='Sales of blue'>"
    documents, queries, (rejection,) = built(site, page)
    assert (len(documents), [query.text for query in queries]) == (2, ["Sales of blue"])
    assert (rejection.reason, rejection.what) == ("stands for many images", "Sales by region")
    assert len(built(site, page, max_relevant=2)[1]) == 2


def test_an_image_whose_texts_say_nothing_is_no_document(site):
    documents, queries, rejections = built(site, "<img src=red.png alt=red.png title=Image><img src=blue.png alt=''>")
    assert (documents, queries) == ([], [])
    assert [rejection.reason for rejection in rejections] == [
        "file name as alt text",
        "generic text",
        "no text beside it",
    ]


def test_an_image_of_many_articles_is_decoration(site):
    for number in range(4):
        page = f"<html lang=en><p>Paragraph {number} is of no interest.</p><img src=red.png alt='A wave of red colour'>"
        (site / f"{number}.html").write_text(page, encoding="utf-8")
    _, queries, rejections = built(site, "<img src=blue.png alt='Sales by region'>")
    assert [query.text for query in queries] == ["Sales by region"]
    assert {rejection.reason for rejection in rejections} == {"image of many articles"}
    assert len(rejections) == 5


def test_an_svg_file_is_drawn(site):
    seen = []

    def draw(svg):
        seen.append(svg)
        return Image.open(io.BytesIO(picture("red")))

    page = "<img src=vector.svg alt='Sales by region'><img src='data:image/svg+xml,%3Csvg/%3E' alt='Sales by country'>"
    (document,), queries, _ = built(site, page, vectors=draw)
    assert seen[0].startswith(b"<svg xmlns")
    assert seen[1] == b"<svg/>"
    assert document.content().size == (100, 80)
    assert len(queries) == 2


def test_remote_images_are_fetched_if_asked(site, monkeypatch):
    monkeypatch.setattr(
        "polyvec.data.building.web.pictures.fetch", lambda url: {"https://a.org/x": picture("red")}[url]
    )
    (document,), _, _ = built(site, "<img src=https://a.org/x alt='Sales by region'>", remote=True)
    assert document.content().size == (100, 80)


def test_ids_are_the_same_each_time(site):
    page = "<img src=red.png alt='Sales by region'>"
    first, second = built(site, page), built(site, page)
    assert [[item.id for item in items] for items in first[:2]] == [[item.id for item in items] for items in second[:2]]
