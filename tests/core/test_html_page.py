import json

import pytest

from polyvec.html.page import escaped, javascript, page, table

EVIL = "</script><img src=x onerror=alert(1)> \u2028 \ud800 <!--"


def test_data_arrive_unchanged_and_nothing_of_them_is_html(in_browser):
    text = page(EVIL, f"<p id='p' title='{escaped(EVIL)}'>{escaped(EVIL)}</p>", data={EVIL: [EVIL, None, 1.5]})

    def visit(opened):
        return opened.evaluate(
            "[JSON.stringify(DATA), document.images.length, document.getElementById('p').textContent, document.title]"
        )

    data, n_images, told, title = in_browser(text, visit)
    assert EVIL.encode("utf-8", "surrogatepass") == json.loads(data)[EVIL][0].encode("utf-8", "surrogatepass")
    assert n_images == 0
    assert told == EVIL.replace("\ud800", "\ufffd")
    assert title.startswith("</script><img")


def test_nothing_is_loaded(in_browser):
    text = page("a", "<img src='https://example.org/a.png' alt=''>")
    with pytest.raises(AssertionError, match="example"):
        in_browser(text, lambda opened: opened.wait_for_load_state())


def test_a_table_aligns_numbers_and_escapes():
    made = table(["a<"], [["1.5"], ["-2"], ["−3"], ["- x"], ["<b>"]])
    assert made.count('class="number"') == 3
    assert "<th>a&lt;</th>" in made
    assert "<td>&lt;b&gt;</td>" in made


def test_charts_are_drawn_to_scale(in_browser):
    """The chart is 460 × 280 with margins of 48, 10, 12 and 42."""
    script = (
        javascript("polyvec.html")
        + """
const x = { label: "x", low: 0, high: 2 }, y = { low: 0, high: 1 };
const ten = { x: 10, y: 0.5, text: "ten" };
document.body.append(
  lineChart("lines", x, y, [{ name: "a", points: [[0, 0], [1, 1], [2, 0.5]] }]),
  scatterChart("dots", { label: "x", low: 1, high: 100, isLog: true }, y, [{ name: "a", points: [ten] }]),
  barChart("bars", x, [0, 1, 2], [{ name: "a", values: [1, 2] }]));
"""
    )
    lines, dot, bars, labels = in_browser(
        page("charts", "", script=script),
        lambda opened: opened.evaluate(
            "[document.querySelector('polyline').getAttribute('points'),"
            " ['cx', 'cy'].map((name) => Number(document.querySelector('circle').getAttribute(name))),"
            " [...document.querySelectorAll('rect')].map((bar) => Number(bar.getAttribute('height'))),"
            " [...document.querySelectorAll('svg')].map((svg) => svg.getAttribute('aria-label'))]"
        ),
    )
    assert lines == "48.0,238.0 249.0,12.0 450.0,125.0"
    assert dot == [249, 125]
    assert bars == [113, 226]
    assert labels == ["lines", "dots", "bars"]
