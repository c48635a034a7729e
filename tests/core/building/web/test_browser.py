import io

import numpy as np
import pytest
from PIL import Image

from polyvec.data.building.web.articles import Article
from polyvec.data.building.web.browser import NotRenderedError, PageSize, find_browser

STYLE = "<!doctype html><style>body { margin: 0; font: 20px/30px sans-serif } p { margin: 0 }</style>"
RED, GREEN = (255, 0, 0), (0, 128, 0)


def pages(browser, folder, html):
    article = Article("id", folder, "deep/page.html", html)
    return list(browser.pages(article, html))


def image(page):
    return Image.open(io.BytesIO(page.png)).convert("RGB")


def colours(page):
    return {colour for _, colour in image(page).getcolors(1 << 20)}


def test_lines_are_divided_into_pages_with_their_text(browser, tmp_path):
    html = STYLE + "".join(f"<p>line {number}</p>" for number in range(15)) + "<h2>The end</h2><p>last</p>"
    found = pages(browser, tmp_path, html)
    lines = [page.text.split("\n") for page in found]
    assert [line for page in lines for line in page] == [f"line {number}" for number in range(15)] + ["The end", "last"]
    assert [page.headings for page in found] == [[], ["The end"]]
    assert lines[0][0] == "line 0"
    assert 8 <= len(lines[0]) <= 10  # lines of 30 pixels on a page of 300
    for page in found:
        pixels = np.asarray(image(page).convert("L"))
        assert pixels.shape[1] == 400
        assert pixels.shape[0] <= 300
        assert (pixels[[0, -1]] == 255).all()  # no line is cut


def test_a_paragraph_over_two_pages_is_text_of_both(browser, tmp_path):
    found = pages(browser, tmp_path, STYLE + f"<p>{' '.join(f'word{number}' for number in range(80))}</p>")
    assert " ".join(page.text for page in found).split() == [f"word{number}" for number in range(80)]
    assert len(found) == 2


def test_pages_are_the_same_each_time(browser, tmp_path):
    html = f"{STYLE}<h1>Title</h1><p>A paragraph with <b>bold</b> words.</p>"
    assert pages(browser, tmp_path, html) == pages(browser, tmp_path, html)


def test_only_files_of_the_folder_are_shown(browser, tmp_path):
    for name, colour in (("in/deep/a.png", RED), ("in/b.png", GREEN), ("secret.png", (0, 0, 255))):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (50, 50), colour).save(tmp_path / name)
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "in" / "style.css").write_text("p { background: green }")
    sources = ["a.png", "/b.png", f"file://{tmp_path}/secret.png", "../../secret.png", "/link.png"]
    html = STYLE + "".join(f"<img src='{source}'>" for source in sources) + f"<iframe src='file://{tmp_path}'></iframe>"
    (page,) = pages(browser, tmp_path / "in", html)
    assert {RED, GREEN} <= colours(page)
    assert (0, 0, 255) not in colours(page)
    (styled,) = pages(browser, tmp_path / "in", "<link rel=stylesheet href=../style.css><p>text</p>")
    assert GREEN in colours(styled)
    Image.new("RGB", (50, 50), RED).save(tmp_path / "b.png")
    (elsewhere,) = pages(browser, tmp_path, STYLE + "<img src=/b.png>")
    assert GREEN not in colours(elsewhere)


def test_nothing_is_fetched_and_no_script_runs(browser, tmp_path):
    html = (
        f"{STYLE}<p id=p>before</p><script>document.body.textContent = 'script'</script><noscript>seen</noscript>"
        "<img src=https://example.org/x.png alt='not shown'><body onload=\"document.body.textContent = 'load'\">"
    )
    assert [page.text for page in pages(browser, tmp_path, html)] == ["before\nseen"]


def test_hidden_texts_are_not_told(browser, tmp_path):
    html = (
        f"{STYLE}<p>seen</p><p hidden>no</p><p style='visibility:hidden'>no</p><p style='opacity:0'>no</p>"
        "<p style='position:absolute;left:-999px'>no</p><p style='position:absolute;width:1px;overflow:hidden'>no</p>"
    )
    assert [page.text for page in pages(browser, tmp_path, html)] == ["seen"]


def test_what_is_fixed_to_the_window_is_shown_once(browser, tmp_path):
    html = (
        f"{STYLE}<div style='position:fixed;top:0;width:9px;height:9px;background:red'></div>"
        "<body style='overflow:hidden;height:100vh'>" + "<p>line</p>" * 15
    )
    assert [RED in colours(page) for page in pages(browser, tmp_path, html)] == [True, False]


def test_characters_without_a_font_are_told(browser, tmp_path):
    (page,) = pages(browser, tmp_path, f"{STYLE}<p>a é ß → \u0378 e\u0301 \u200d</p>")
    assert page.missing == "\u0378"  # Unicode has no such character, so it is a box with any font


def test_pages_without_text_or_images_are_no_pages(browser, tmp_path):
    assert pages(browser, tmp_path, "<p>  </p>") == []


@pytest.mark.parametrize("html", ["<div>" * 10_000 + "deep", "<p>text" + "<b " * 1000], ids=["nested", "broken"])
def test_malformed_pages_are_rendered(html, browser, tmp_path):
    assert len(pages(browser, tmp_path, html)) <= 1


def test_svg_is_drawn_in_its_own_size(browser):
    svg = (
        b"<svg xmlns='http://www.w3.org/2000/svg' width='90' height='40'><rect width='9' height='9' fill='red'/></svg>"
    )
    drawn = browser.drawing(svg)
    assert (drawn.size, drawn.getpixel((4, 4)), drawn.getpixel((80, 30))) == ((90, 40), RED, (255, 255, 255))


def test_broken_svg_is_an_error(browser):
    with pytest.raises(NotRenderedError, match="cannot draw"):
        browser.drawing(b"<svg>")


def test_a_browser_that_crashed_starts_again(browser, tmp_path):
    browser._browser.close()
    assert [page.text for page in pages(browser, tmp_path, "<p>text")] == ["text"]


def test_a_missing_browser_is_named_with_its_package(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="`apt install chromium`"):
        find_browser()
    with pytest.raises(ValueError, match="there is no program"):
        find_browser(tmp_path / "chromium")


def test_sizes_that_make_no_pages_are_refused():
    with pytest.raises(ValueError, match="pages of 100×1123 at scale"):
        PageSize(100)
