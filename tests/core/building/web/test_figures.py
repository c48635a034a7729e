import pytest

from polyvec.data.building.web.articles import Article
from polyvec.data.building.web.figures import figures


def of(html, tmp_path):
    return list(figures(Article("id", tmp_path, "a.html", html, language="en")))


def words(html, tmp_path):
    (figure,) = of(html, tmp_path)
    return {spoken.origin: spoken.text for spoken in figure.words}


@pytest.mark.parametrize(
    ("html", "origin", "text"),
    [
        ("<img src=a alt=' Sales  by\nregion '>", "alt text", "Sales by region"),
        ("<img src=a title='Sales'>", "title", "Sales"),
        ("<img src=a aria-label='Sales'>", "label", "Sales"),
        ("<figure><img src=a><figcaption>Figure 3: Sales <b>up</b></figcaption></figure>", "caption", "Sales up"),
        ("<div class=figure><img src=a><p class=caption><span>Sales up</span></p></div>", "caption", "Sales up"),
        ("<p><a href=x><img src=a></a></p><p><em>Sales up</em></p>", "caption", "Sales up"),
        ("<p><img src=a></p><p><em>Sales up</em></p>", "caption", "Sales up"),
        ("<p><img src=a><br><em>Sales up</em></p>", "caption", "Sales up"),
        ("<p>The sales of each region rose, <img src=a> as shown.", "paragraph beside it", None),
        ("<p>The sales of each region rose.<div><a><img src=a></a></div>", "paragraph beside it", None),
        ("<h2>The sales of each region</h2><img src=a><p>All of them rose in June.", "paragraph beside it", None),
        ("<ul><li>The sales of each region rose.</ul><img src=a>", None, None),
        ("<img src=a alt='Sales' role=presentation>", None, None),
        (
            "<p>As figure 3 says, sales rose.<p>Of no interest to anybody.<figure><img src=a><figcaption>Fig. 3. Sales",
            "paragraph that names it",
            "As figure 3 says, sales rose.",
        ),
        (
            "<p>Of no interest to <a href='#s'>anybody</a> here.<p>Other words that stand beside it.<img id=s src=a>",
            "paragraph that names it",
            "Of no interest to anybody here.",
        ),
    ],
)
def test_what_is_written_about_an_image(html, origin, text, tmp_path):
    found = words(html, tmp_path)
    assert (origin in found) == (origin is not None)
    if text:
        assert found[origin] == text
    if origin is None:
        assert found == {}


def test_a_figure_of_another_number_is_not_named(tmp_path):
    page = "<p>As figure 31 says, sales rose.<h1>x</h1><figure><img src=a><figcaption>Fig. 3: Sales"
    assert words(page, tmp_path) == {"caption": "Sales"}


def test_equal_texts_are_said_once(tmp_path):
    page = "<figure><img src=a alt='Sales up' title='Sales up'><figcaption>Sales up</figcaption></figure>"
    assert words(page, tmp_path) == {"alt text": "Sales up"}


@pytest.mark.parametrize(
    ("html", "addresses"),
    [
        ("<img src=a srcset='b.png 1x, c.png 2x'>", ("c.png", "a")),
        ("<picture><source srcset='w.webp 400w, v.webp 800w'><img src=a></picture>", ("v.webp", "a")),
        ("<picture><source srcset=w.webp><img src=a></picture>", ("w.webp", "a")),
        ("<img src=' a b.png '>", ("a b.png",)),
        ("<img src='data:image/png;base64,AA=='>", ("data:image/png;base64,AA==",)),
    ],
)
def test_the_best_address_comes_first(html, addresses, tmp_path):
    (figure,) = of(html, tmp_path)
    assert figure.addresses == addresses


@pytest.mark.parametrize(
    "html",
    [
        "<div hidden><img src=a></div>",
        "<p style='Display : none'><img src=a></p>",
        "<div aria-hidden=true><img src=a></div>",
        "<template><img src=a></template>",
        "<!-- <img src=a> -->",
        "<img alt='no address'>",
        "<img src=''>",
    ],
)
def test_what_nobody_sees_is_no_image(html, tmp_path):
    assert of(html, tmp_path) == []


def test_hidden_words_are_not_said(tmp_path):
    page = (
        "<figure><img src=a><figcaption>Sales<script>x</script><b hidden>not</b><a class=headerlink>¶</a></figcaption>"
    )
    assert words(page, tmp_path) == {"caption": "Sales"}


def test_the_nearest_language_counts(tmp_path):
    page = "<div lang=de-AT><img src=a></div><img src=b><img src=c lang=fr>"
    assert [figure.language for figure in of(page, tmp_path)] == ["de", "en", "fr"]


@pytest.mark.parametrize(
    "html",
    [
        "<div>" * 10_000 + "<img src=a alt='Sales by region'>",
        "<b>" * 10_000 + "<p><img src=a alt='Sales by region'>",
        "<figure" * 10_000 + "><img src=a alt='Sales by region'>",
        "<img src=a alt='Sales by region'" + " class='" * 1000,
        "<table><tr><img src=a alt='Sales by region'></div></p></table><td>",
    ],
    ids=["nested", "inline", "broken", "unended", "misplaced"],
)
def test_malformed_pages_are_read(html, tmp_path):
    assert [spoken.text for figure in of(html, tmp_path) for spoken in figure.words[:1]] in ([], ["Sales by region"])


def test_images_of_a_gallery_share_no_caption(tmp_path):
    gallery = "<div><img src=a><img src=b><p class=caption>Sales by region</p></div>"
    assert [figure.words for figure in of(gallery, tmp_path)] == [(), ()]


def test_images_of_a_figure_share_its_caption(tmp_path):
    page = "<figure><img src=a><img src=b><figcaption>Sales by region</figcaption></figure>"
    assert [figure.words[0].text for figure in of(page, tmp_path)] == ["Sales by region"] * 2
