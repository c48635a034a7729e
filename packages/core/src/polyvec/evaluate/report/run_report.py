"""The report of one run."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from polyvec.data.datasets import Dataset
from polyvec.encoder import Encoder
from polyvec.evaluate.metrics import measure
from polyvec.evaluate.report.compact import (
    Documents,
    first_hits,
    judged_queries,
    notes_html,
    query_data,
    rank_data,
    score_data,
    titles,
)
from polyvec.evaluate.report.pictures import shown_documents, similarity_maps
from polyvec.evaluate.results import Result, Value, first_of_kinds, query_groups
from polyvec.evaluate.run_tables import result_notes, result_text
from polyvec.evaluate.runs import Run, Searched
from polyvec.html.page import escaped, javascript, page
from polyvec.paths import printable

__all__ = ["MOST_RIGHT", "WORST", "run_report"]

WORST = 10  # queries of each search
MOST_RIGHT = 3  # relevant documents of a query that are shown

_BODY = """
<div id="filters" class="controls sticky"></div>
<section><h2>Searches</h2><div id="searches"></div><div id="parts"></div></section>
<section><h2>Curves</h2><div id="curves" class="charts"></div></section>
<section><h2>One search</h2><div id="choice" class="controls"></div><div id="distributions" class="charts"></div>
<h3>Worst queries</h3><p class="note" id="pictures"></p><div id="worst"></div></section>
"""


def run_report(
    run: Run,
    found: Sequence[Result],
    *,
    dataset: Dataset | None = None,
    encoder: Encoder | None = None,
    tokens: Callable[[str], Sequence[str]] | None = None,
    n_worst: int = WORST,
    dpi: float = 150,
) -> str:
    """Return one HTML file with tables, curves and the worst queries of a run. It needs no network.

    Tables and curves are computed again in the browser for the queries that a reader chooses. Only the first search of
    each kind, and the baselines, have histograms and worst queries.

    Args:
        run: the rankings.
        found: what `results` says of them.
        dataset: shows the documents: those that the worst queries found first, and those that are right.
        encoder: draws similarity maps over them, if it makes multi-vectors. It encodes these queries and pages again.
        tokens: names the rows of a query's multi-vector. Default: they are numbered.
        n_worst: worst queries of a search.
        dpi: resolution of pages of PDF files when they are encoded.

    Raises:
        ValueError: `found` is empty.
    """
    if not found:
        raise ValueError("the run has no searches, so there is nothing to report.")
    queries, documents = judged_queries(run), Documents()
    names = list(found[0].values)
    detailed = first_of_kinds(run.searches)
    worst = {index: _worst(run, run.searches[index], queries, names[0], n_worst) for index in detailed}
    pairs = [pair for index in detailed for pair in _pairs(run, run.searches[index], worst[index])]
    shown = {} if dataset is None else shown_documents(dataset, (document for _, document in pairs))
    maps = {}
    if dataset is not None and encoder is not None and encoder.multivector_dim:
        pictures = [(query, document) for query, document in pairs if "picture" in shown[document]]
        task = str(run.settings.get("task", "retrieval"))
        maps = similarity_maps(encoder, dataset, pictures, task=task, tokens=tokens, dpi=dpi)
    row = {query: index for index, query in enumerate(queries)}
    data = {
        "ks": list(dict.fromkeys(int(name.rpartition("@")[2]) for name in names)),
        "measures": titles(names),
        "depth": run.depth,
        "nWorst": n_worst,
        "mostRight": MOST_RIGHT,
        "queries": query_data(run, queries, documents),
        "searches": [
            _search_data(run, search, result, queries) for search, result in zip(run.searches, found, strict=True)
        ],
        "detailed": [
            {
                "search": index,
                "first": [-1 if key is None else documents.setdefault(key, len(documents)) for key in first],
                "scores": score_data(run.searches[index], queries, depth=run.depth),
            }
            for index in detailed
            for first in [first_hits(run.searches[index], queries)]
        ],
        "hasPictures": dataset is not None,
        "hasMaps": bool(maps),
        "shown": {documents.setdefault(key, len(documents)): content for key, content in shown.items()},
        "maps": {f"{row[query]} {documents[document]}": content for (query, document), content in maps.items()},
    }
    data["documents"] = list(map(printable, documents))
    settings = ", ".join(f"{name} {value}" for name, value in run.settings.items())
    body = (
        f"<h1><bdi>{escaped(run.title)}</bdi></h1>\n<p class='note'><bdi>{escaped(settings)}</bdi></p>"
        f"<noscript><p>Without JavaScript only the tables are here.</p><pre>{escaped(result_text(run, found))}</pre>"
        f"</noscript>{_BODY}{notes_html(list(result_notes(run, found)), {'': run})}"
    )
    script = javascript("polyvec.evaluate.report", "queries.js", "cards.js", "run_report.js")
    return page(run.title, body, script=script, data=data)


def _search_data(run: Run, search: Searched, result: Result, queries: Sequence[str]) -> dict[str, Any]:
    groups = list(query_groups(run, queries))
    positions = {fact: [value for name, value in groups if name == fact] for fact, _ in groups}
    order = list(positions)
    intervals = {"": _intervals(result.values.items())}
    for part in result.parts:
        key = f"{order.index(part.fact)}:{positions[part.fact].index(part.value)}"
        intervals[key] = _intervals(part.values.items())
    return {
        "kind": search.kind,
        "choice": search.choice,
        "bytes": search.bytes_per_item,
        "ms": search.ms_per_query,
        "ranks": rank_data(run, search, queries, depth=run.depth),
        "intervals": intervals,
    }


def _intervals(values: Any) -> dict[str, list[float]]:  # Any: items of a mapping
    """Return the intervals of the main measure, by k."""
    named: list[tuple[str, Value]] = list(values)
    main = named[0][0].partition("@")[0]
    return {name.partition("@")[2]: [value.low, value.high] for name, value in named if name.partition("@")[0] == main}


def _worst(run: Run, search: Searched, queries: Sequence[str], main: str, n: int) -> list[str]:
    k = int(main.rpartition("@")[2])
    values = measure(run.qrels, search.rankings, ks=[k]).values[:, 0]
    return [queries[index] for index in sorted(range(len(queries)), key=lambda index: float(values[index]))[:n]]


def _pairs(run: Run, search: Searched, queries: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each query with the document that it found first, and with those that are right."""
    for query, first in zip(queries, first_hits(search, queries), strict=True):
        if first is not None:
            yield query, first
        gains = {key: grade for key, grade in run.qrels[query].items() if grade > 0}
        yield from ((query, key) for key in sorted(gains, key=lambda key: -gains[key])[:MOST_RIGHT])
