from dataclasses import replace

import numpy as np
import pytest

from polyvec.evaluate.results import compare_runs, results, uncompared
from polyvec.evaluate.run_tables import comparison_text, result_json, result_text
from polyvec.evaluate.runs import Run, Searched
from polyvec.types import Failure

QRELS = {"q1": {"a": 1}, "q2": {"b": 1}, "q3": {"a": 1, "b": 1}}
GOOD = {"q1": {"a": 2.0, "b": 1.0}, "q2": {"b": 2.0, "a": 1.0}, "q3": {"a": 2.0, "b": 1.0}}
BAD = {"q1": {"b": 2.0, "a": 1.0}, "q2": {"a": 2.0, "b": 1.0}, "q3": {"a": 2.0, "c": 1.0}}


def search(rankings, choice="8 float32", kind="dense"):
    return Searched(kind, choice, 32.0, 0.25, rankings)


def run(*searches, qrels=QRELS, **options):
    facts = {
        "query_facts": {"q1": {"language": "en", "kind": "fact"}, "q2": {"language": "de"}, "q3": {"language": "en"}},
        "document_facts": {"a": {"language": "en"}, "b": {"language": "de"}},
    }
    return Run("'docs': 3 queries", {"model": "demo"}, 5, qrels, searches, **facts | options)


def test_measures_of_each_search_with_intervals():
    good, bad = results(run(search(GOOD), search(BAD, "8 binary")), ks=[1, 2])
    assert (good.n_queries, good.values["mrr@1"].mean, good.values["mrr@1"].low) == (3, 1, 1)
    assert good.values["recall@1"].mean == pytest.approx((1 + 1 + 1 / 2) / 3)
    mrr = bad.values["mrr@2"]
    assert mrr.mean == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert mrr.low == 0.5
    assert mrr.high == 1
    assert next(iter(bad.values)) == "ndcg@1"


def test_parts_of_the_queries_by_what_is_known_of_them():
    (bad,) = results(run(search(BAD)), ks=[1])
    parts = {(part.fact, part.value): (part.n_queries, part.values["mrr@1"].mean) for part in bad.parts}
    assert parts == {
        ("query language", "de"): (1, 0),
        ("query language", "en"): (2, 1 / 2),
        ("page language", "de"): (1, 0),
        ("page language", "de+en"): (1, 1),
        ("page language", "en"): (1, 0),
        ("kind", "fact"): (1, 0),
        ("kind", "unknown"): (2, 1 / 2),
    }
    (one,) = results(run(search(BAD), query_facts={}, document_facts={}), ks=[1])
    assert not one.parts


def test_the_text_says_what_a_reader_must_know():
    tied = {"q1": {"a": 1.0, "b": 1.0}, "q2": {"b": 1.0, "a": 1.0}}
    failures = [Failure(index, f"document 'd{index}'", "broken") for index in range(4)]
    one = run(search(GOOD), search(tied, "8 binary"), left_out=failures, notes=["Mind the gap."])
    found = results(one, ks=[1])
    text = result_text(one, found)
    assert text.startswith("'docs': 3 queries; model demo\n")
    assert "dense   8 float32          32      0.25" in text
    assert "nDCG@1 by page language" in text
    assert "note: means over all 3 judged queries" in text
    assert "note: ties: equal scores stand in descending order of document ids" in text
    assert "dense, 8 binary: 2 of 3 queries have a tie at the cut 1" in text
    assert "dense, 8 binary: by the order of ties, nDCG@1 0.000 to 0.667" in text
    assert "4 left out or not found: document 'd0', document 'd1', document 'd2', …: broken" in text
    assert "note: Mind the gap." in text
    content = result_json(one, found)
    assert content["rows"][1]["values"]["ndcg@1"]["best"] == pytest.approx(2 / 3)
    assert content["left_out"]["document 'd3'"] == "broken"


def test_markdown_has_cells_and_escapes_bars():
    one = run(search(GOOD, "a|b"))
    lines = result_text(one, results(one, ks=[1]), markdown=True).splitlines()
    assert "| search | choice | bytes/item | ms/query | nDCG@1 | 95 % | recall@1 | MRR@1 | MAP@1 |" in lines
    assert any(line.startswith("| dense | a\\|b | 32 | 0.25 | 1.000 | 1.000–1.000 |") for line in lines)


def test_markdown_holds_no_html_of_its_texts():
    evil = "<script> & |"
    one = replace(run(search(GOOD, evil)), title=evil, notes=[evil])
    text = result_text(one, results(one, ks=[1]), markdown=True)
    assert "<script" not in text
    assert text.startswith("&lt;script> &amp; |;")
    assert "| &lt;script> &amp; \\| |" in text
    assert "- &lt;script> &amp; |" in text


def test_two_runs_are_compared_by_name_or_one_with_one():
    both = compare_runs(run(search(BAD), search(BAD, "x")), run(search(GOOD), search(GOOD, "y")), ks=[1])
    assert [(one.first, one.second, one.n_queries) for one in both] == [
        ("dense: 8 float32", "dense: 8 float32", 3),
        ("dense: x", "dense: y", 3),
    ]
    difference = both[0].differences["mrr@1"]
    assert difference.mean == pytest.approx(2 / 3)
    assert difference.p == pytest.approx(0.5, abs=0.02), "the signs of two of three queries: 2 of 4 give as much"
    (one,) = compare_runs(run(search(BAD, "x")), run(search(GOOD, "y")), ks=[1])
    assert (one.first, one.second) == ("dense: x", "dense: y")
    assert "dense: y minus dense: x, 3 queries" in comparison_text([one], [])


def test_searches_that_one_run_has_alone_are_said():
    first, second = run(search(BAD), search(BAD, "x"), search(BAD, "y")), run(search(GOOD))
    assert len(compare_runs(first, second, ks=[1])) == 1
    assert uncompared(first, second) == ["dense: x", "dense: y"]
    assert uncompared(run(search(BAD, "x")), run(search(GOOD, "y"))) == []
    assert "only one run has them: dense: x; dense: y" in comparison_text([], ["dense: x", "dense: y"])


def test_a_query_of_which_only_grades_of_zero_differ_is_the_same():
    first, second = run(search(GOOD)), run(search(GOOD), qrels={**QRELS, "q1": {"a": 1, "c": 0}})
    assert len(compare_runs(first, second, ks=[1])) == 1


@pytest.mark.parametrize(
    ("second", "ks", "message"),
    [
        (run(search(GOOD), qrels={"q1": {"a": 1}}), [1], "differ in the grades of 2 queries, such as 'q2'"),
        (run(search(GOOD, "x"), search(GOOD, "y")), [1], "no search in common: dense: 8 float32; dense: x, dense: y"),
        (run(search(GOOD)), [6], r"`ks` is \[6\]; the rankings of this run have 5 documents"),
    ],
)
def test_what_cannot_be_compared_is_refused(second, ks, message):
    with pytest.raises(ValueError, match=message):
        compare_runs(run(search(GOOD)), second, ks=ks)


def test_a_run_without_searches_has_no_results():
    assert results(run(), ks=[1]) == []
    assert np.isfinite(results(run(search({})), ks=[1])[0].values["ndcg@1"].mean)
