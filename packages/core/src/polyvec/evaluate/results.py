"""What the rankings of a run are worth: measures with intervals, for all queries and for parts of them; two runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polyvec.evaluate.metrics import Measures, measure, measure_names, positive
from polyvec.evaluate.runs import Run, Searched
from polyvec.evaluate.statistics import RESAMPLES, Difference, bootstrap, paired_differences

__all__ = [
    "Comparison",
    "Part",
    "Result",
    "Value",
    "compare_runs",
    "first_of_kinds",
    "paired_searches",
    "query_groups",
    "results",
    "uncompared",
]

ALL = "all"
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Value:
    """A measure: its mean over the queries, and its 95 % interval by bootstrap over queries.

    Attributes:
        worst, best: the mean if ties were ordered in the worst and in the best way; None for parts of the queries.
    """

    mean: float
    low: float
    high: float
    worst: float | None = None
    best: float | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """The queries that have one fact in common.

    Attributes:
        fact: `query language`, `page language` (of the relevant documents) or `kind`.
        value: of the fact; `unknown` where it is missing.
    """

    fact: str
    value: str
    n_queries: int
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Result:
    """What a search is worth. `kind` to `ms_per_query` are those of `Searched`.

    Attributes:
        n_queries: all judged queries.
        values: by the name of the measure; the first is the main one.
        n_ties: for each k, in how many queries the documents at ranks k and k + 1 have equal scores.
        parts: by the facts that are known.
    """

    kind: str
    choice: str
    bytes_per_item: float | None
    ms_per_query: float
    n_queries: int
    values: Mapping[str, Value]
    n_ties: Mapping[int, int]
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two searches over the same queries. Differences are those of the second minus the first."""

    first: str
    second: str
    n_queries: int
    differences: Mapping[str, Difference]


def results(run: Run, *, ks: Sequence[int] = (5, 10), n_resamples: int = RESAMPLES) -> list[Result]:
    """Measure every search of a run.

    Raises:
        ValueError, ImportError: as `measure`.
    """
    _check_depth(run, ks)
    measured = [measure(run.qrels, search.rankings, ks=ks) for search in run.searches]
    if not measured:
        return []
    names, queries = measured[0].names, measured[0].queries
    together = np.hstack([one.values for one in measured])  # (queries, searches × measures): one set of resamples
    groups = {(ALL, ""): list(range(len(queries))), **query_groups(run, queries)}
    values = _values_of_groups(together, groups, names, n_resamples)
    found = []
    for index, (search, one) in enumerate(zip(run.searches, measured, strict=True)):
        parts = [
            Part(*group, len(groups[group]), searched[index]) for group, searched in values.items() if group[0] != ALL
        ]
        whole = _with_ties(values[ALL, ""][index], one)
        facts = (search.kind, search.choice, search.bytes_per_item, search.ms_per_query)
        found.append(Result(*facts, len(queries), whole, one.n_ties, parts))
    return found


def compare_runs(
    first: Run, second: Run, *, ks: Sequence[int] = (5, 10), n_resamples: int = RESAMPLES
) -> list[Comparison]:
    """Compare each search of a run with the search of that name in another; one that is left over with one, too.

    All other searches that only one of the runs has are in `uncompared`.

    Raises:
        ValueError: the runs differ in their judged queries or grades, or have no search in common.
    """
    for run in (first, second):
        _check_depth(run, ks)
    pairs = paired_searches(first, second)
    names = measure_names(first.qrels, ks=ks)
    sides = [
        np.hstack([measure(first.qrels, search.rankings, ks=ks).values for search in side])
        for side in zip(*pairs, strict=True)
    ]  # (queries, pairs × measures): all pairs share the resamples
    differences = paired_differences(*sides, n_resamples=n_resamples, family=len(names))
    return [
        Comparison(
            one.name,
            other.name,
            len(sides[0]),
            dict(zip(names, differences[start : start + len(names)], strict=True)),
        )
        for (one, other), start in zip(pairs, range(0, len(differences), len(names)), strict=True)
    ]


def paired_searches(first: Run, second: Run) -> list[tuple[Searched, Searched]]:
    """Pair the searches that `compare_runs` compares. Raises as it does."""
    judged, others = positive(first.qrels), positive(second.qrels)
    if judged != others:
        different = [query for query in {**judged, **others} if judged.get(query) != others.get(query)]
        raise ValueError(
            f"the runs differ in the grades of {len(different)} queries, such as {different[0]!r}; compare runs of the "
            "same dataset."
        )
    searches = {search.name: search for search in second.searches}
    pairs = [(search, searches[search.name]) for search in first.searches if search.name in searches]
    alone = _only(first, second), _only(second, first)
    if len(alone[0]) == len(alone[1]) == 1:
        pairs += zip(*alone, strict=True)
    if not pairs:
        known = "; ".join(", ".join(search.name for search in run.searches) for run in (first, second))
        raise ValueError(f"the runs have no search in common: {known}.")
    return pairs


def uncompared(first: Run, second: Run) -> list[str]:
    """Name the searches that `compare_runs` leaves out, for only one of the runs has them."""
    alone = _only(first, second), _only(second, first)
    return [] if len(alone[0]) == len(alone[1]) == 1 else [search.name for search in (*alone[0], *alone[1])]


def query_groups(run: Run, queries: Sequence[str]) -> dict[tuple[str, str], list[int]]:
    """Return the rows of the queries of each part, by fact and value. A fact that all queries share makes no parts."""
    facts: dict[str, list[str]] = {
        "query language": [run.query_facts.get(query, {}).get("language", "") for query in queries],
        "page language": [_page_language(run, query) for query in queries],
        "kind": [run.query_facts.get(query, {}).get("kind", "") for query in queries],
    }
    groups: dict[tuple[str, str], list[int]] = {}
    for fact, values in facts.items():
        if len(set(values)) > 1:
            for row, value in enumerate(values):
                groups.setdefault((fact, value or _UNKNOWN), []).append(row)
    return dict(sorted(groups.items(), key=lambda group: (list(facts).index(group[0][0]), group[0][1])))


def first_of_kinds(rows: Sequence[Result | Searched]) -> list[int]:
    """Return the positions of the first search of each kind, and then of all baselines that read texts."""
    first = {row.kind: index for index, row in reversed(list(enumerate(rows))) if row.kind != "text"}
    return [*sorted(first.values()), *(index for index, row in enumerate(rows) if row.kind == "text")]


def _only(run: Run, other: Run) -> list[Searched]:
    names = {search.name for search in other.searches}
    return [search for search in run.searches if search.name not in names]


def _check_depth(run: Run, ks: Sequence[int]) -> None:
    if max(ks, default=0) > run.depth:
        raise ValueError(f"`ks` is {list(ks)}; the rankings of this run have {run.depth} documents: run it deeper.")


def _page_language(run: Run, query: str) -> str:
    relevant = positive({query: run.qrels[query]})[query]
    languages = {run.document_facts.get(document, {}).get("language", "") for document in relevant}
    return "+".join(sorted(languages - {""}))


def _values_of_groups(
    together: np.ndarray, groups: Mapping[tuple[str, str], Sequence[int]], names: Sequence[str], n_resamples: int
) -> dict[tuple[str, str], list[dict[str, Value]]]:
    """Return the values of each group of queries, by search. Groups of one size share the resamples."""
    by_size: dict[int, list[tuple[str, str]]] = {}
    for group, rows in groups.items():
        by_size.setdefault(len(rows), []).append(group)
    values: dict[tuple[str, str], list[dict[str, Value]]] = {}
    for alike in by_size.values():
        columns = np.hstack([together[groups[group]] for group in alike])
        intervals = np.split(bootstrap(columns, n_resamples=n_resamples), len(alike))
        for group, of_group in zip(alike, intervals, strict=True):
            values[group] = _values(together[groups[group]], of_group, names)
    return {group: values[group] for group in groups}


def _values(together: np.ndarray, intervals: np.ndarray, names: Sequence[str]) -> list[dict[str, Value]]:
    means = together.mean(axis=0)
    values = [Value(float(mean), float(low), float(high)) for mean, (low, high) in zip(means, intervals, strict=True)]
    starts = range(0, len(values), len(names))
    return [dict(zip(names, values[start : start + len(names)], strict=True)) for start in starts]


def _with_ties(values: Mapping[str, Value], measured: Measures) -> dict[str, Value]:
    ends = zip(measured.worst.tolist(), measured.best.tolist(), strict=True)
    return {
        name: Value(value.mean, value.low, value.high, worst, best)
        for (name, value), (worst, best) in zip(values.items(), ends, strict=True)
    }
