"""The results of benchmarks as aligned text and as JSON."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from polyvec.evaluate.benchmarks import Benchmark
from polyvec.evaluate.paper import COLUMNS, EncodingMode, overview, printed
from polyvec.evaluate.running import Section

__all__ = ["as_json", "overview_table", "rules_table", "section_table"]

_Cells = Sequence[str]


def section_table(section: Section) -> str:
    """Write rows per task and language beside the paper's figures, then averages, skipped tasks and notes."""
    lines = [f"{section.benchmark}, {section.mode}", ""]
    if section.rows:
        head = ["task", "subset", "metric", "score", "paper", "diff.", "queries", "dropped"]
        body = [
            [row.task, row.subset, row.metric, *_compared(row.score, row.paper), *_counts(row.n_queries, row.n_dropped)]
            for row in section.rows
        ]
        lines += [*_aligned(head, body, left=3), ""]
    if section.averages:
        head = ["average", "rule", "score", "paper", "diff.", "of"]
        body = [
            [
                mean.column,
                mean.rule,
                *_compared(mean.score, mean.paper, alike=mean.n_tasks == mean.n_expected),
                _of(mean.n_tasks, mean.n_expected),
            ]
            for mean in section.averages
        ]
        lines += [*_aligned(head, body, left=2), ""]
    dropped = sum(row.n_dropped or 0 for row in section.rows)
    hopeless = sum(row.n_hopeless or 0 for row in section.rows)
    notes = [*section.notes]
    if dropped:
        notes.append(f"mteb left out {dropped} queries without a judgement.")
    if hopeless:
        notes.append(f"{hopeless} queries have no relevant document; they count with score 0.")
    lines += [f"{'failed' if task.failed else 'skipped'}: {task.task}: {task.reason}" for task in section.skipped]
    lines += [f"note: {note}" for note in notes]
    return "\n".join(lines).rstrip()


def overview_table(sections: Sequence[Section], *, label: str, mode: EncodingMode) -> str:
    """Write Table 3 of the paper with a row of these results on top; `*` marks an average of fewer tasks."""
    scores = {
        mean.column: printed(mean.score) + ("*" if mean.n_tasks < mean.n_expected else "")
        for section in sections
        for mean in section.averages
        if mean.rule == "paper"
    }
    body = [(f"{label} ({mode})", *(scores.get(column, "") for column in COLUMNS))]
    for model, means in overview().items():
        body.append((model, *(printed(means[column]) if column in means else "" for column in COLUMNS)))
    return "\n".join(_aligned(("Table 3", *COLUMNS), body, left=1))


def rules_table(benchmark: Benchmark) -> str:
    """Write which adapter, prefixes, pixel budget and token limit each task has."""
    head = ("task", "adapter", "query", "document", "pixels", "tokens", "score", "note")
    body = [
        (
            name,
            rule.task,
            *(repr(prefix) for prefix in rule.prefixes),
            f"{rule.max_pixels:,}" if rule.max_pixels else "encoder's",
            f"{rule.max_length:,}" if rule.max_length else "encoder's",
            rule.metric or "mteb's",
            rule.note,
        )
        for name, rule in benchmark.rules.items()
    ]
    return "\n".join(
        [benchmark.name, "", *_aligned(head, body, left=4), *(f"note: {note}" for note in benchmark.notes)]
    )


def as_json(sections: Sequence[Section], *, label: str, mode: EncodingMode) -> dict[str, Any]:
    """Return the results as JSON; a score that is not a number is null."""
    content = {"model": label, "mode": mode, "sections": [asdict(section) for section in sections]}
    return _without_nan(content)  # type: ignore[no-any-return]  # a mapping stays one


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


def _compared(score: float, paper: float | None, *, alike: bool = True) -> tuple[str, str, str]:
    """Write a score, the paper's and their difference, which is left out unless the two are averages `alike`."""
    shown = "nan" if math.isnan(score) else printed(score)
    if paper is None:
        return shown, "", ""
    return shown, printed(paper), f"{score - paper:+.2f}" if alike and not math.isnan(score) else ""


def _counts(*numbers: int | None) -> list[str]:
    return ["" if number is None else str(number) for number in numbers]


def _of(n_tasks: int, n_expected: int) -> str:
    return f"{n_tasks} of {n_expected}" if n_expected else str(n_tasks)


def _aligned(head: _Cells, body: Sequence[_Cells], *, left: int) -> list[str]:
    """Align columns: the first `left` and a last one of notes to the left, the others to the right."""
    rows = [head, *body]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    n_left = left if head[-1] != "note" else len(head)

    def line(row: _Cells) -> str:
        cells = [
            cell.ljust(width) if column < n_left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    text = line(head)
    return [text, "-" * len(text), *map(line, body)]
