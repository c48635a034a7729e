import re
from dataclasses import replace

import numpy as np
import pytest

from polyvec.evaluate.metrics import measure
from polyvec.evaluate.report.run_report import run_report
from polyvec.evaluate.results import results
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


def shown_means(rows):
    return [[row[4], *row[6:]] for row in rows]


def test_the_table_has_what_python_measures(run, in_browser, read_table):
    found = results(run, ks=KS, n_resamples=200)
    header, *rows = in_browser(report(run), lambda page: read_table(page, "#searches"))
    assert header[:6] == ["search", "choice", "bytes/item", "ms/query", "nDCG@2", "95 %"]
    assert header[6:] == ["nDCG 2^g@2", "recall@2", "MRR@2", "MAP@2"]
    main = [row.values["ndcg@2"] for row in found]
    assert [row[5] for row in rows] == [f"{value.low:.3f}–{value.high:.3f}" for value in main]
    assert shown_means(rows) == means(run, run.qrels, 2)
    assert rows[0][:4] == ["dense", "8 float32", "32", "0.50"]
    assert rows[1][:4] == ["late", "float32", "", "1.00"]


def test_filters_measure_the_chosen_queries_again(run, evil, in_browser, read_table):
    part = next(part for part in results(run, ks=KS, n_resamples=200)[0].parts if part.value == "de")

    def visit(page):
        choose(page, "k", "3")
        choose(page, "query language", "de (2)")
        one = page.inner_text("#count"), read_table(page, "#searches"), read_table(page, "#parts")
        choose(page, "page language", "unknown (3)")
        choose(page, "query language", "all")
        choose(page, "kind", "unknown (3)")
        return *one, page.inner_text("#count"), read_table(page, "#searches")

    count, (_, *rows), (_, *parts), second_count, (_, *two) = in_browser(report(run), visit)
    assert (count, second_count) == ("2 of 4 queries", "3 of 4 queries")
    assert shown_means(rows) == means(run, ["q1", "q2"], 3)
    interval = part.values["ndcg@3"]
    assert rows[0][5] == f"{interval.low:.3f}–{interval.high:.3f}"
    assert [row[:2] for row in parts] == [["de", "2"]]
    assert parts[0][2].startswith(f"{part.values['ndcg@3'].mean:.3f} (")
    assert shown_means(two) == means(run, ["q1", "q2", evil], 3)
    low, high = map(float, two[0][5].split("–"))
    assert 0 <= low <= float(two[0][4]) <= high <= 1


def test_no_query_may_be_left(run, in_browser):
    def visit(page):
        choose(page, "query language", "de (2)")
        choose(page, "kind", "table (1)")
        return page.inner_text("#count"), page.inner_text("#curves")

    assert in_browser(report(run), visit) == ("0 of 4 queries", "No query has all that is chosen.")


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


def test_the_table_sorts_by_keyboard(run, in_browser, read_table):
    def visit(page):
        button = page.get_by_role("button", name="bytes/item")
        button.focus()
        page.keyboard.press("Enter")
        first = [row[0] for row in read_table(page, "#searches")]
        page.keyboard.press("Enter")
        return first, [row[0] for row in read_table(page, "#searches")], page.locator("[aria-sort]").count()

    assert in_browser(report(run), visit) == (["search", "dense", "late"], ["search", "late", "dense"], 1)


def test_the_worst_queries_stand_with_their_documents(run, dataset, evil, in_browser):
    def visit(page):
        cards = page.locator("#worst .card")
        texts = [cards.nth(index).inner_text() for index in range(cards.count())]
        sizes = page.evaluate("[...document.images].map((image) => [image.naturalWidth, image.naturalHeight])")
        return texts, sizes, page.locator("#worst h3").all_text_contents()

    text = report(run, dataset=dataset, n_worst=3)
    cards, sizes, headings = in_browser(text, visit)
    assert headings == ["blue", "nowhere", evil]
    worst = [re.search(r"^query ([^;\s]+)", card, re.M)[1] for card in cards]
    assert worst == ["q2", "</script><img", "q1"]
    assert "nDCG@2 0.000" in cards[0]
    assert "first right document: not among the first 3" in cards[0]
    assert "found first: d1" in cards[0]
    assert "it cannot be opened any more" in cards[0]
    assert "a text <b>" in cards[1]
    assert sizes == [[56, 28], [56, 84]]


def test_similarity_maps_lie_over_the_pages(run, dataset, in_browser):
    encoder = HashEncoder()
    text = report(run, dataset=dataset, encoder=encoder, tokens=lambda text: text.split(), n_worst=4)

    def visit(page):
        card = page.locator("#worst .card", has_text="query q0;")
        canvas = card.locator("canvas").first
        chosen = card.get_by_label("similarity map")
        options = chosen.locator("option").all_text_contents()
        size = canvas.evaluate("(canvas) => [canvas.width, canvas.height]")
        before = canvas.is_visible()
        chosen.select_option(label="none")
        return options, size, before, canvas.is_visible()

    options, size, before, after = in_browser(text, visit)
    assert options == ["of all tokens", "red", "none"]
    assert (size, before, after) == ([2, 3], True, False)


def test_a_narrow_dark_screen_scrolls_tables_but_not_the_page_and_every_control_has_a_label(run, dataset, in_browser):
    def visit(page):
        width = page.evaluate("document.documentElement.scrollWidth")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        labels = page.evaluate("[...document.querySelectorAll('select')].map((control) => control.labels.length)")
        return width, background, labels

    text = report(run, dataset=dataset, encoder=HashEncoder())
    options = {"viewport": {"width": 360, "height": 700}, "color_scheme": "dark"}
    width, background, labels = in_browser(text, visit, **options)
    assert (width, background) == (360, "rgb(18, 18, 18)")
    assert len(labels) > 5
    assert set(labels) == {1}


def test_notes_ties_and_what_is_left_out_are_told(run, evil, in_browser):
    told = in_browser(report(run), lambda page: page.text_content("body"))
    assert "a note" in told
    assert "equal scores stand in descending order of document ids" in told
    assert "1 left out or not found" in told
    assert "document 'd1': </script><img src=x" in told


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
