"""The report of two runs of one dataset, side by side."""

from collections.abc import Iterator, Sequence
from typing import Any

from polyvec.data.datasets import Dataset
from polyvec.evaluate.metrics import TIE_RULE, measure
from polyvec.evaluate.report.compact import (
    Documents,
    first_hits,
    judged_queries,
    notes_html,
    query_data,
    rank_data,
    titles,
)
from polyvec.evaluate.report.pictures import shown_documents
from polyvec.evaluate.report.run_report import MOST_RIGHT, WORST
from polyvec.evaluate.results import Comparison, paired_searches, uncompared
from polyvec.evaluate.run_tables import comparison_text
from polyvec.evaluate.runs import Run, Searched
from polyvec.html.page import escaped, javascript, page
from polyvec.paths import printable

__all__ = ["comparison_report"]

_BODY = """
<div id="filters" class="controls sticky"></div>
<section><h2>Differences</h2><div id="choice" class="controls"></div><div id="differences"></div></section>
<section><h2>Query by query</h2><div id="charts" class="charts"></div></section>
<section><h2>Queries that gained most</h2><div id="gained"></div></section>
<section><h2>Queries that lost most</h2><div id="lost"></div></section>
"""


def comparison_report(
    first: Run,
    second: Run,
    comparisons: Sequence[Comparison],
    *,
    names: Sequence[str] = ("first", "second"),
    dataset: Dataset | None = None,
    n_most: int = WORST,
) -> str:
    """Return one HTML file that shows how the second of two runs differs from the first. It needs no network.

    Args:
        first: the rankings before.
        second: the rankings after.
        comparisons: what `compare_runs` says of them.
        names: what the report calls the runs.
        dataset: shows the documents that the queries which changed most found first, and those that are right. Runs
            hold no documents, and this report has no similarity maps.
        n_most: queries that gained most, and as many that lost most.

    Raises:
        ValueError: as `compare_runs`.
    """
    queries, documents = judged_queries(first), Documents()
    pairs = paired_searches(first, second)
    depth = min(first.depth, second.depth)
    measures = list(comparisons[0].differences)
    content = query_data(first, queries, documents)
    shown = {}
    if dataset is not None:
        wanted = [key for pair in pairs for key in _wanted(first, pair, queries, measures[0], n_most)]
        shown = shown_documents(dataset, wanted)
    data = {
        "ks": list(dict.fromkeys(int(name.rpartition("@")[2]) for name in measures)),
        "measures": titles(measures),
        "depth": depth,
        "nMost": n_most,
        "mostRight": MOST_RIGHT,
        "names": list(map(printable, names)),
        "queries": content,
        "pairs": [
            _pair_data((first, second), pair, comparison, queries, documents, depth)
            for pair, comparison in zip(pairs, comparisons, strict=True)
        ],
        "hasPictures": dataset is not None,
        "shown": {documents.setdefault(key, len(documents)): facts for key, facts in shown.items()},
    }
    data["documents"] = list(map(printable, documents))
    alone = uncompared(first, second)
    rows = "".join(
        f"<li><bdi>{escaped(name)}</bdi>: <bdi>{escaped(run.title)}</bdi>; <bdi>{escaped(_settings(run))}</bdi></li>"
        for name, run in zip(names, (first, second), strict=True)
    )
    body = (
        f"<h1>Two runs of <bdi>{escaped(first.title)}</bdi></h1>\n<ol>{rows}</ol>"
        f"<noscript><p>Without JavaScript only the tables are here.</p><pre>"
        f"{escaped(comparison_text(comparisons, alone))}</pre></noscript>{_BODY}"
        f"{notes_html(list(_notes(first, second, dataset, alone)), {f'{names[0]}: ': first, f'{names[1]}: ': second})}"
    )
    script = javascript("polyvec.evaluate.report", "queries.js", "cards.js", "comparison_report.js")
    return page(f"Two runs of {first.title}", body, script=script, data=data)


def _pair_data(
    runs: tuple[Run, Run],
    pair: tuple[Searched, Searched],
    comparison: Comparison,
    queries: Sequence[str],
    documents: Documents,
    depth: int,
) -> dict[str, Any]:
    found = [
        [-1 if key is None else documents.setdefault(key, len(documents)) for key in first_hits(search, queries)]
        for search in pair
    ]
    return {
        "names": [comparison.first, comparison.second],
        "differences": {
            name: [one.mean, one.low, one.high, one.p, one.p_holm] for name, one in comparison.differences.items()
        },
        "ranks": [rank_data(run, search, queries, depth=depth) for run, search in zip(runs, pair, strict=True)],
        "found": found,
    }


def _wanted(run: Run, pair: tuple[Searched, Searched], queries: Sequence[str], main: str, n: int) -> Iterator[str]:
    """Yield the documents to show for the queries that changed most."""
    k = int(main.rpartition("@")[2])
    before, after = (measure(run.qrels, search.rankings, ks=[k]).values[:, 0] for search in pair)
    change = (after - before).tolist()
    order = sorted(range(len(queries)), key=lambda index: float(change[index]))
    hits = [first_hits(search, queries) for search in pair]
    for index in (*order[:n], *order[::-1][:n]):
        if not change[index]:
            continue
        yield from (key for found in hits if (key := found[index]) is not None)
        gains = {key: grade for key, grade in run.qrels[queries[index]].items() if grade > 0}
        yield from sorted(gains, key=lambda key: -gains[key])[:MOST_RIGHT]


def _notes(first: Run, second: Run, dataset: Dataset | None, alone: Sequence[str]) -> Iterator[str]:
    yield f"ties: {TIE_RULE}"
    yield "p: paired randomisation test over all queries; Holm's correction is for the measures of all k together."
    yield "For some of the queries the intervals are computed in the browser, and there is no p."
    if dataset is None:
        yield "There are no pictures: runs hold rankings and texts. Name the folder beside --compare to add them."
    if alone:
        yield f"not compared, for only one run has them: {'; '.join(alone)}"
    yield from dict.fromkeys([*first.notes, *second.notes])


def _settings(run: Run) -> str:
    return ", ".join(f"{name} {value}" for name, value in run.settings.items())
