"""Runs as the scripts of reports read them: positions in place of ids, ranks in place of rankings.

The scripts compute every measure from the ranks and grades of the relevant documents, for any choice of queries.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from polyvec.evaluate.metrics import ordered, positive
from polyvec.evaluate.results import query_groups
from polyvec.evaluate.run_tables import measure_title
from polyvec.evaluate.runs import Run, Searched
from polyvec.html.page import escaped

__all__ = ["Documents", "first_hits", "judged_queries", "notes_html", "query_data", "rank_data", "score_data", "titles"]

_QUERY_LETTERS, _ID_LETTERS = 400, 200
_BINS = "0123456789ABCDEFGHIJKLMNOPQRSTUV"  # digits that `parseInt(digit, 36)` reads
_LISTED = 500

Documents = dict[str, int]  # positions by id, in the order in which documents are met


def judged_queries(run: Run) -> list[str]:
    """Return the queries that `measure` measures, in its order."""
    return list(positive(run.qrels))


def query_data(run: Run, queries: Sequence[str], documents: Documents) -> dict[str, Any]:
    """Return the queries: ids, texts, facts, and their relevant documents with grades, the highest grade first."""
    gains = positive(run.qrels)
    relevant = [sorted(gains[query].items(), key=lambda item: -item[1]) for query in queries]
    facts: dict[str, dict[str, list[int]]] = {}
    for (fact, value), rows in query_groups(run, queries).items():
        facts.setdefault(fact, {})[value] = rows
    return {
        "ids": [_shortened(query, _ID_LETTERS) for query in queries],
        "texts": [_shortened(run.queries.get(query, ""), _QUERY_LETTERS) for query in queries],
        "relevant": [[documents.setdefault(key, len(documents)) for key, _ in pairs] for pairs in relevant],
        "grades": [[grade for _, grade in pairs] for pairs in relevant],
        "facts": [
            {"name": fact, "values": list(rows_by_value), "of": _positions(rows_by_value, len(queries))}
            for fact, rows_by_value in facts.items()
        ],
    }


def rank_data(run: Run, search: Searched, queries: Sequence[str], *, depth: int) -> list[list[int]]:
    """Return for each query the ranks of its relevant documents, in the order of `query_data`; 0 beyond `depth`."""
    gains = positive(run.qrels)
    ranks = []
    for query in queries:
        rank = {key: rank for rank, key in enumerate(ordered(search.rankings.get(query, {}))[:depth], start=1)}
        relevant = sorted(gains[query].items(), key=lambda item: -item[1])
        ranks.append([rank.get(key, 0) for key, _ in relevant])
    return ranks


def first_hits(search: Searched, queries: Sequence[str]) -> list[str | None]:
    """Return the document that each query finds first; None if it finds nothing."""
    return [next(iter(ordered(search.rankings.get(query, {}))), None) for query in queries]


def score_data(search: Searched, queries: Sequence[str], *, depth: int) -> dict[str, Any]:
    """Return the bins of each query's scores, best first, as digits; and the range that the bins divide."""
    scores = [sorted(search.rankings.get(query, {}).values(), reverse=True)[:depth] for query in queries]
    finite = [score for row in scores for score in row if math.isfinite(score)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    scale = len(_BINS) / (high - low) if high > low else 0.0
    n = len(_BINS) - 1
    rows = [
        "".join(_BINS[min(n, int((score - low) * scale))] for score in row if math.isfinite(score)) for row in scores
    ]
    return {"low": low, "high": high, "n": len(_BINS), "rows": rows}


def titles(names: Sequence[str]) -> list[dict[str, str]]:
    """Return the kinds of measures among names such as `ndcg@5`, with what tables call them."""
    kinds = dict.fromkeys(name.partition("@")[0] for name in names)
    return [{"kind": kind, "title": measure_title(f"{kind}@").rstrip("@")} for kind in kinds]


def notes_html(notes: Sequence[str], runs: Mapping[str, Run]) -> str:
    """Write notes, and what each of the runs left out, as the last section of a report."""
    parts = ["<section><h2>Notes</h2><ul>", *(f"<li><bdi>{escaped(note)}</bdi></li>" for note in notes), "</ul>"]
    for name, run in runs.items():
        if run.left_out:
            summary = f"{name}{len(run.left_out)} left out or not found"
            items = [
                f"<li><bdi>{escaped(f'{failure.source}: {failure.reason}')}</bdi></li>" for failure in run.left_out
            ]
            more = f"<li>… and {len(items) - _LISTED} more</li>" if len(items) > _LISTED else ""
            parts.append(
                f"<details><summary>{escaped(summary)}</summary><ul>{''.join(items[:_LISTED])}{more}</ul></details>"
            )
    return "".join([*parts, "</section>"])


def _positions(rows_by_value: Mapping[str, Sequence[int]], n: int) -> list[int]:
    of = [0] * n
    for position, rows in enumerate(rows_by_value.values()):
        for row in rows:
            of[row] = position
    return of


def _shortened(text: str, n: int) -> str:
    return text if len(text) <= n else f"{text[:n]}…"
