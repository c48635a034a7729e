import re
from dataclasses import replace

import numpy as np
import pytest

from polyvec.evaluate.metrics import measure
from polyvec.evaluate.report.run_report import run_report
from polyvec.evaluate.results import Value, results
from polyvec.evaluate.runs import Run, Searched
from polyvec.testing import HashEncoder

KS = (2, 3)


def report(run, **options):
    return run_report(run, results(run, ks=options.pop("ks", KS), n_resamples=200), **options)


def choose(page, label, text):
    page.get_by_label(label, exact=True).select_option(label=text)


def means(run, queries, k):
    """The means that Python has over some of the queries, as the table prints them."""
    measured = [measure(run.qrels, search.rankings, ks=[k]) for search in run.searches]
    rows = [measured[0].queries.index(query) for query in queries]
    return [[f"{value:.3f}" for value in one.values[rows].mean(axis=0)] for one in measured]


def interval(value):
    return f"{value.low:.3f}–{value.high:.3f}"


def shown_means(rows):
    return [[row[4], *row[6:]] for row in rows]


def test_tables_follow_python_filters_and_the_keyboard(run, evil, in_browser, read_table):
    found = results(run, ks=KS, n_resamples=200)
    part = next(part for part in found[0].parts if part.value == "de")

    def visit(page):
        told = page.text_content("body")
        whole = read_table(page, "#searches")
        button = page.get_by_role("button", name="bytes/item")
        button.focus()
        page.keyboard.press("Enter")
        orders = [[row[0] for row in read_table(page, "#searches")]]
        page.keyboard.press("Enter")
        orders.append([row[0] for row in read_table(page, "#searches")])
        n_sorted = page.locator("[aria-sort]").count()
        choose(page, "k", "3")
        choose(page, "query language", "de (2)")
        one = page.inner_text("#count"), read_table(page, "#searches"), read_table(page, "#parts")
        choose(page, "page language", "unknown (3)")
        choose(page, "query language", "all")
        choose(page, "kind", "unknown (3)")
        two = page.inner_text("#count"), read_table(page, "#searches")
        choose(page, "query language", "de (2)")
        choose(page, "kind", "table (1)")
        none = page.inner_text("#count"), page.inner_text("#curves")
        halves = page.evaluate("[0.0625, 0.1875, -0.0625, 0.5635, 0.0005].map((value) => decimal(value))")
        return told, whole, (orders, n_sorted), one, two, none, halves

    told, (header, *rows), order, one, two, none, halves = in_browser(report(run), visit)
    assert header[:6] == ["search", "choice", "bytes/item", "ms/query", "nDCG@2", "95 %"]
    assert header[6:] == ["nDCG 2^g@2", "recall@2", "MRR@2", "MAP@2"]
    assert [row[5] for row in rows] == [interval(row.values["ndcg@2"]) for row in found]
    assert shown_means(rows) == means(run, run.qrels, 2)
    assert rows[0][:4] == ["dense", "8 float32", "32", "0.50"]
    assert rows[1][:4] == ["late", "float32", "", "1.00"]

    assert order == ([["search", "dense", "late"], ["search", "late", "dense"]], 1)

    count, (_, *rows), (_, *parts) = one
    assert count == "2 of 4 queries"
    assert shown_means(rows[::-1]) == means(run, ["q1", "q2"], 3), "in the order that was chosen"
    assert rows[1][5] == interval(part.values["ndcg@3"])
    assert [row[:2] for row in parts] == [["de", "2"]]
    assert parts[0][2].startswith(f"{part.values['ndcg@3'].mean:.3f} (")

    count, (_, *rows) = two
    assert count == "3 of 4 queries"
    assert shown_means(rows[::-1]) == means(run, ["q1", "q2", evil], 3)
    low, high = map(float, rows[1][5].split("–"))
    assert 0 <= low <= float(rows[1][4]) <= high <= 1

    assert none == ("0 of 4 queries", "No query has all that is chosen.")
    assert halves == [f"{value:.3f}" for value in (0.0625, 0.1875, -0.0625, 0.5635, 0.0005)]

    assert "a note" in told
    assert "equal scores stand in descending order of document ids" in told
    assert "1 left out or not found" in told
    assert "document 'd1': </script><img src=x" in told


def test_intervals_are_not_rounded_twice(run):
    found = results(run, ks=[2], n_resamples=200)
    values = {**found[0].values, "ndcg@2": Value(0.25, 0.12346, 0.56349999)}
    assert "[0.12346,0.56349999]" in run_report(run, [replace(found[0], values=values), found[1]])


def test_the_browser_measures_as_trec_eval_does(in_browser):
    rng = np.random.default_rng(0)
    ids = [f"d{number}" for number in range(12)]
    qrels = {f"q{row}": dict(zip(ids, rng.integers(0, 4, 12).tolist(), strict=True)) for row in range(30)}
    rankings = {query: dict(zip(ids, rng.integers(0, 30, 12).astype(float).tolist(), strict=True)) for query in qrels}
    run = Run("random", {}, 10, qrels, [Searched("dense", "a", 1.0, 1.0, rankings)])
    ks = list(range(1, 11))
    expected = measure(qrels, rankings, ks=ks)
    shown = in_browser(
        report(run, ks=ks),
        lambda page: page.evaluate("DATA.ks.flatMap((k) => DATA.measures.map(({ kind }) => [...values(0, kind, k)]))"),
    )
    np.testing.assert_allclose(np.array(shown).T, expected.values, atol=1e-12)


def test_the_worst_queries_stand_with_their_documents_and_maps_on_a_narrow_dark_screen(run, dataset, evil, in_browser):
    text = report(run, dataset=dataset, encoder=HashEncoder(), tokens=lambda text: text.split(), n_worst=4)

    def visit(page):
        width = page.evaluate("document.documentElement.scrollWidth")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        labels = page.evaluate("[...document.querySelectorAll('select')].map((control) => control.labels.length)")
        cards = page.locator("#worst .card")
        texts = [cards.nth(index).inner_text() for index in range(cards.count())]
        sizes = page.evaluate("[...document.images].map((image) => [image.naturalWidth, image.naturalHeight])")
        headings = page.locator("#worst h3").all_text_contents()
        card = page.locator("#worst .card", has_text="query q0;")
        canvas = card.locator("canvas").first
        chosen = card.get_by_label("similarity map")
        options = chosen.locator("option").all_text_contents()
        size = canvas.evaluate("(canvas) => [canvas.width, canvas.height]")
        before = canvas.is_visible()
        chosen.select_option(label="none")
        map_data = options, size, before, canvas.is_visible()
        page.evaluate("DATA.nWorst = 2; draw()")
        return (width, background, labels), texts, sizes, headings, map_data, cards.count()

    options = {"viewport": {"width": 360, "height": 700}, "color_scheme": "dark"}
    screen, cards, sizes, headings, map_data, n_fewer = in_browser(text, visit, **options)
    width, background, labels = screen
    assert (width, background) == (360, "rgb(18, 18, 18)"), "tables scroll, the page does not"
    assert len(labels) > 5
    assert set(labels) == {1}

    assert headings == ["blue", "nowhere", evil, "red"]
    worst = [re.search(r"^query ([^;\s]+)", card, re.M)[1] for card in cards]
    assert worst == ["q2", "</script><img", "q1", "q0"]
    assert "nDCG@2 0.000" in cards[0]
    assert "first right document: not among the first 3" in cards[0]
    assert "found first: d1" in cards[0]
    assert "it cannot be opened any more" in cards[0]
    assert "a text <b>" in cards[1]
    assert sizes == [[56, 28], [56, 84], [56, 84], [56, 28]]
    assert n_fewer == 2

    assert map_data == (["of all tokens", "red", "none"], [2, 3], True, False)


def test_many_queries_make_a_small_file():
    n = 400
    qrels = {f"q{row}": {f"d{row}": 1} for row in range(n)}
    rankings = {f"q{row}": {f"d{(row + rank) % n}": -float(rank) for rank in range(20)} for row in range(n)}
    searches = [Searched("dense", str(number), 1.0, 1.0, rankings) for number in range(5)]
    run = Run("many", {}, 20, qrels, searches, queries=dict.fromkeys(qrels, "which page is it?" * 2))
    small, large = (len(report(replace(run, qrels=dict(list(qrels.items())[:some])), ks=[5])) for some in (200, n))
    assert (large - small) / 200 < 200, "bytes per query"


def test_a_run_without_searches_is_refused(run):
    with pytest.raises(ValueError, match="no searches"):
        run_report(run, [])
