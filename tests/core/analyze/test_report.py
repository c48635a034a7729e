from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from polyvec.analyze.captions import Captioned
from polyvec.analyze.paired import Paired
from polyvec.analyze.panel import analyze, rows
from polyvec.analyze.report.document import analysis_report
from polyvec.analyze.report.points import Points

EVIL = "</script><img src=x onerror=alert(1)> \u202e\ud800"


@pytest.fixture
def paired(vectors):
    return Paired(*vectors)


@pytest.fixture
def captioned(paired):
    shades = [Image.new("RGB", (28, 28), (4 * number, 0, 0)) for number in range(60)]
    texts = {f"text {number}": f"shade {number}" for number in range(59)} | {"text 59": EVIL}
    pairs = [(number, number) for number in range(60)]
    return Captioned("shades", {f"image {number}": shade for number, shade in enumerate(shades)}, texts, pairs)


@pytest.fixture
def panels(paired):
    first = analyze(paired, model="before")
    return [first, replace(first, model=f"after $x {EVIL}$")]


def report(panels, paired, captioned, **limits):
    points = Points(**limits)
    for panel in panels:
        points.add(panel, paired, captioned)
    return analysis_report(
        panels, points, title=f"shades {EVIL}", notes=["a note"], left_out={"before": {EVIL: "torn"}}
    )


def cell(page, label, column):
    row = page.locator("tr", has=page.get_by_role("cell", name=label, exact=True))
    return row.locator("td").nth(column).text_content()


def test_tables_figures_and_captions(panels, paired, captioned, in_browser):
    def visit(page):
        return (
            cell(page, "relative gap, 0 to 1 (RMG)", 1),
            page.locator("figure svg").count(),
            page.locator(".drawn figcaption, figcaption").all_text_contents(),
            page.inner_text("body"),
            page.evaluate("document.documentElement.scrollWidth"),
        )

    text = report(panels, paired, captioned)
    gap, n_figures, captions, body, width = in_browser(text, visit, viewport={"width": 360, "height": 700})
    assert gap == rows(panels[0])["relative gap, 0 to 1 (RMG)"]
    assert n_figures >= 4
    assert captions[0].startswith("Modality gap (arXiv 2506.18902, Fig. 2).")
    assert "There is no UMAP" in body
    assert "60 of 60 images have pictures here." in body
    assert "a note" in body
    assert "before: 1 left out" in body
    assert width == 360


def test_a_map_finds_texts_and_shows_the_picture_under_the_pointer(panels, paired, captioned, in_browser):
    def visit(page):
        search, tip = page.get_by_label("search texts and ids"), page.locator(".tip").first
        search.fill("SCRIPT")
        hits = page.locator("figure .legend").filter(has_text="found").first
        hits.get_by_role("button").last.focus()
        told = [hits.inner_text(), tip.inner_text()]
        search.fill("image 7")
        hits.get_by_role("button", name="image image 7").click()
        left, top = (float(tip.evaluate(f"(tip) => tip.style.{side}").removesuffix("px")) for side in ("left", "top"))
        search.fill("")
        told.append(tip.is_visible())
        page.locator("canvas").first.hover(position={"x": left - 12, "y": top - 12})  # where the tip pointed
        return *told, tip.inner_text(), tip.locator("img").evaluate("(image) => image.naturalWidth")

    text = report(panels, paired, captioned)
    hits, hit, is_visible, told, width = in_browser(text, visit, viewport={"width": 1400, "height": 900})
    assert hits.startswith("2 found"), "the text, and its image"
    assert "</script><img src=x" in hit
    assert not is_visible, "a new search forgets the old mark"
    assert "shade 7" in told
    assert "image 7; best score" in told
    assert width == 28


def test_large_maps_are_sampled_and_pictures_bounded(panels, paired, captioned):
    points = Points(most_points=30, picture_bytes=3000)
    for panel in panels:
        points.add(panel, paired, captioned)
    first, second = (panel["points"] for panel in points.data()["panels"])
    assert len(first) == 30
    assert [point[0] for point in first] == [point[0] for point in second], "equal seeds draw equal items"
    assert 0 < sum(map(len, points.pictures.values())) <= 3000
    text = analysis_report(panels, points, title="a")
    assert "The maps have 60 of 240 points, drawn at random." in text


def test_the_histogram_along_the_gap_counts_all(panels, paired, captioned):
    points = Points(most_points=2)
    points.add(panels[0], paired, captioned)
    (panel,) = points.data()["panels"]
    assert [sum(shares) for shares in panel["gap"]["shares"]] == pytest.approx([1, 1], abs=1e-3)
    images, texts = (np.average(panel["gap"]["edges"][:-1], weights=shares) for shares in panel["gap"]["shares"])
    assert images - texts == pytest.approx(panels[0].gap.l2m, rel=0.05)


def test_each_panel_needs_a_map(panels):
    with pytest.raises(ValueError, match="2 panels and 0 maps"):
        analysis_report(panels, Points(), title="a")
