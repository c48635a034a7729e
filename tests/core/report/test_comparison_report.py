import numpy as np
import pytest

from polyvec.evaluate.metrics import measure
from polyvec.evaluate.report.comparison_report import comparison_report
from polyvec.evaluate.results import compare_runs


@pytest.fixture
def runs(make_run, evil):
    """The second run finds what the first does not for two queries, and loses the first one's best."""
    before = make_run({"q0": {"d0": 3.0, "d3": 2.0}, "q1": {"d0": 1.0}, "q2": {"d3": 1.0}})
    after = make_run({"q0": {"d1": 2.0, "d0": 1.0}, "q1": {"d1": 1.0}, evil: {evil: 1.0}, "q2": {"d3": 1.0}})
    return before, after


def report(runs, **options):
    return comparison_report(*runs, compare_runs(*runs, ks=[2], n_resamples=200), **options)


def test_differences_parts_and_what_gained_and_lost_most(runs, dataset, evil, in_browser, read_table):
    def visit(page):
        whole = read_table(page, "#differences")
        gained, lost = (page.locator(f"#{place} .card h3").all_text_contents() for place in ("gained", "lost"))
        card, charts = page.inner_text("#lost .card"), page.inner_text("#charts")
        n_images = page.evaluate("document.images.length")
        told = page.inner_text("body"), page.locator("#choice option").all_text_contents()
        page.get_by_label("query language").select_option(label="de (2)")
        return whole, (gained, lost), card, charts, n_images, told, read_table(page, "#differences")

    text = report(runs, dataset=dataset, n_most=5, names=("a.json", "b</script>.json"))
    (_, main, *_), changed, card, charts, n_images, (body, options), (_, *lines) = in_browser(text, visit)
    expected = compare_runs(*runs, ks=[2], n_resamples=200)[0].differences["ndcg@2"]
    assert main[0] == "nDCG@2"
    assert main[3:] == [
        f"{expected.mean:+.4f}",
        f"{expected.low:+.4f} to {expected.high:+.4f}",
        f"{expected.p:.4f}",
        f"{expected.p_holm:.4f}",
    ]

    assert changed == ([evil, "nowhere"], ["red"])
    # 2/(1 + 0) against 2/log2(3), both over the best 2 + 1/log2(3)
    best = 2 + 1 / np.log2(3)
    assert f"nDCG@2 1.000 → {2 / np.log2(3) / best:.3f}" in card
    assert "first right document: rank 1 → rank 2" in card
    assert "first run found first, right: d0" in card
    assert "second run found first: d1" in card
    assert "2 queries gained, 1 lost, 1 are equal" in charts
    assert n_images == 3, "d0 for q0, d0 for q1, d3 for q0"

    assert options == ["dense: 8 float32", "late: float32"]
    assert "b</script>.json" in body
    assert "a.json: 1 left out or not found" in body

    before, after = (measure(run.qrels, run.searches[0].rankings, ks=[2]) for run in runs)
    rows = [before.queries.index(query) for query in ("q1", "q2")]
    for column, line in enumerate(lines):
        means = [run.values[rows, column].mean() for run in (before, after)]
        assert line[1:4] == [*(f"{mean:.3f}" for mean in means), f"{means[1] - means[0]:+.4f}"]
        assert line[5:] == ["–", "–"], "a part of the queries has no p"


def test_missing_pictures_are_told(runs, dataset):
    assert "There are no pictures" in report(runs)
    assert "There are no pictures" not in report(runs, dataset=dataset)
