"""Results of a run and comparisons of two as aligned text, as Markdown and as JSON."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from polyvec.evaluate.metrics import TIE_RULE
from polyvec.evaluate.results import Comparison, Result, Value, first_of_kinds
from polyvec.evaluate.runs import Run
from polyvec.paths import printable
from polyvec.types import Failure

__all__ = [
    "comparison_json",
    "comparison_text",
    "left_out_lines",
    "measure_title",
    "result_json",
    "result_notes",
    "result_text",
]

_TITLES = {"ndcg": "nDCG", "ndcg_exp": "nDCG 2^g", "recall": "recall", "mrr": "MRR", "map": "MAP"}
_EXAMPLES = 3
_TIED = 0.0005  # a difference that a table shows


def result_text(run: Run, found: Sequence[Result], *, markdown: bool = False) -> str:
    """Write a table for each cut k, one for each part of the queries, and what a reader must know of them."""
    text = _markdown if markdown else str
    blocks = [[text(f"{run.title}; " + ", ".join(f"{name} {value}" for name, value in run.settings.items()))]]
    names = list(found[0].values) if found else []
    for k in dict.fromkeys(name.rpartition("@")[2] for name in names):
        measures = [name for name in names if name.endswith(f"@{k}")]
        head = [
            "search",
            "choice",
            "bytes/item",
            "ms/query",
            measure_title(measures[0]),
            "95 %",
            *map(measure_title, measures[1:]),
        ]
        body = [
            [row.kind, row.choice, _bytes(row), f"{row.ms_per_query:.2f}", *_main(row.values, measures)]
            for row in found
        ]
        blocks.append(_lines(head, body, left=2, markdown=markdown))
    blocks += _part_tables(found, names[:1], markdown=markdown)
    blocks.append([f"{'- ' if markdown else 'note: '}{text(printable(note))}" for note in result_notes(run, found)])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def comparison_text(comparisons: Sequence[Comparison], uncompared: Sequence[str], *, markdown: bool = False) -> str:
    """Write the differences of two runs, in each measure, and which searches only one of them has."""
    blocks = []
    for one in comparisons:
        head = ["measure", "difference", "95 %", "p", "p (Holm)"]
        body = [
            [measure_title(name), f"{d.mean:+.4f}", f"{d.low:+.4f} to {d.high:+.4f}", f"{d.p:.4f}", f"{d.p_holm:.4f}"]
            for name, d in one.differences.items()
        ]
        title = f"{one.second} minus {one.first}, {one.n_queries} queries"
        blocks.append("\n".join([title, "", *_lines(head, body, left=1, markdown=markdown)]))
    notes = ["p: paired randomisation test; Holm's correction is for the measures of one table."]
    if uncompared:
        notes.append(f"not compared, for only one run has them: {'; '.join(uncompared)}")
    return "\n\n".join([*blocks, *notes])


def result_json(run: Run, found: Sequence[Result]) -> dict[str, Any]:
    """Return the results as JSON, without the rankings, which `Run.save` writes."""
    return {
        "title": run.title,
        "settings": dict(run.settings),
        "ties": TIE_RULE,
        "left_out": {failure.source: failure.reason for failure in run.left_out},
        "notes": list(run.notes),
        "rows": [asdict(row) for row in found],
    }


def comparison_json(comparisons: Sequence[Comparison], uncompared: Sequence[str]) -> dict[str, Any]:
    """Return comparisons as JSON, with the names of searches that only one run has."""
    return {"comparisons": [asdict(one) for one in comparisons], "uncompared": list(uncompared)}


def _part_tables(found: Sequence[Result], main: Sequence[str], *, markdown: bool) -> Iterator[list[str]]:
    """Write one table for each fact: a row for each part, a column for the first search of each kind."""
    columns = [found[index] for index in first_of_kinds(found)]
    for fact in dict.fromkeys(part.fact for row in columns[:1] for part in row.parts):
        parts = [[part for part in row.parts if part.fact == fact] for row in columns]
        head = [fact, "queries", *(f"{row.kind} {row.choice}" for row in columns)]
        body = [
            [one[0].value, str(one[0].n_queries), *(_with_interval(part.values[main[0]]) for part in one)]
            for one in zip(*parts, strict=True)
        ]
        yield [f"{measure_title(main[0])} by {fact}", "", *_lines(head, body, left=1, markdown=markdown)]


def result_notes(run: Run, found: Sequence[Result]) -> Iterator[str]:
    """Yield what a reader of the tables must know: intervals, ties, notes of the run, and what was left out."""
    if found:
        yield f"means over all {found[0].n_queries} judged queries; 95 % intervals by bootstrap over queries"
        yield f"ties: {TIE_RULE}"
    for row in found:
        for k, n in row.n_ties.items():
            if n:
                yield f"{row.kind}, {row.choice}: {n} of {row.n_queries} queries have a tie at the cut {k}"
        spans = [
            f"{measure_title(name)} {value.worst:.3f} to {value.best:.3f}"
            for name, value in row.values.items()
            if value.worst is not None and value.best is not None and value.best - value.worst >= _TIED
        ]
        if spans:
            yield f"{row.kind}, {row.choice}: by the order of ties, {', '.join(spans)}"
    yield from run.notes
    yield from left_out_lines(run.left_out)


def left_out_lines(failures: Sequence[Failure]) -> Iterator[str]:
    """Count what was left out by reason, with the first examples of each."""
    counts = Counter(failure.reason for failure in failures)
    for reason, n in counts.items():
        sources = [failure.source for failure in failures if failure.reason == reason][:_EXAMPLES]
        yield f"{n} left out or not found: {', '.join(sources)}{', …' if n > len(sources) else ''}: {reason}"


def measure_title(name: str) -> str:
    """Return what tables call a measure such as `ndcg@5`."""
    kind, _, k = name.partition("@")
    return f"{_TITLES[kind]}@{k}"


def _markdown(text: str) -> str:
    """Keep a text from being read as HTML, which Markdown may hold."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _bytes(row: Result) -> str:
    return "" if row.bytes_per_item is None else f"{row.bytes_per_item:,.0f}"


def _main(values: Mapping[str, Value], measures: Sequence[str]) -> list[str]:
    main, *others = (values[name] for name in measures)
    return [f"{main.mean:.3f}", f"{main.low:.3f}–{main.high:.3f}", *(f"{value.mean:.3f}" for value in others)]


def _with_interval(value: Value) -> str:
    return f"{value.mean:.3f} ({value.low:.3f}–{value.high:.3f})"


def _lines(head: Sequence[str], body: Sequence[Sequence[str]], *, left: int, markdown: bool) -> list[str]:
    if markdown:
        rule = ["---"] * left + ["--:"] * (len(head) - left)
        rows = [head, rule, *body]
        return [f"| {' | '.join(_markdown(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    cells = [
        [cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        for row in (head, *body)
    ]
    lines = ["  ".join(row).rstrip() for row in cells]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]
