"""The paper's figures: each task and language, the averages, and its Table 3 (arXiv 2506.18902). All in percent.

A column is one of Table 3: `"J-VDR"`, `"ViDoRe"`, `"CLIPB"`, `"MMTEB"`, `"MTEB-en"`, `"CoIR"`, `"LongEmbed"`, `"STS-m"`
or `"STS-en"`. Tasks have mteb's names, and subsets (mostly languages) have mteb's, too. The subset of a task's own
figure is `""`.
"""

import csv
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from importlib import resources
from typing import Literal, get_args

import numpy as np

__all__ = [
    "AVERAGES",
    "COLUMNS",
    "NOTES",
    "EncodingMode",
    "average",
    "column_of",
    "figures",
    "overview",
    "printed",
    "task_means",
    "tasks_of",
]

EncodingMode = Literal["dense", "late"]
Figures = Mapping[tuple[str, str], float]  # by task and subset

COLUMNS = ("J-VDR", "ViDoRe", "CLIPB", "MMTEB", "MTEB-en", "CoIR", "LongEmbed", "STS-m", "STS-en")

NOTES: Mapping[str, tuple[str, ...]] = {
    "J-VDR": (
        "Table 3 averages the languages of each of 4 multilingual sets first, then 43 sets. The average of Table A2 "
        "(75.47 dense, 81.52 late) is that of its 39 monolingual rows.",
        "The paper used the QA format, where one page is relevant to a query; mteb loads the BEIR format, whose scores "
        "differ slightly.",
        "The paper speaks of 30 new sets and lists 43, of which 10 are derived from ViDoRe.",
    ),
    "ViDoRe": ("Table A3 says nDCG@10 and Table 3 nDCG@5; the baselines' figures are those of nDCG@5, which is used.",),
    "CLIPB": (
        "Table 3 says nDCG@5; its figures are the Recall@5 of Table A8, which counts here.",
        "Seven of the paper's languages of XM3600 are known here, and the average of all. The 26 that its baseline "
        "jina-clip-v2 was trained for are run; that these are the paper's is an inference.",
        "The ten languages of XTD10, which are printed with one decimal, average 89.45; the paper prints 89.46.",
    ),
    "MMTEB": (
        "Table A12 prints one decimal, and its 18 rows average 66.46; Table 3 prints 66.49.",
        "LEMBPasskeyRetrieval is 69.8 in Table A12 and 65.50 in A13, and StackOverflowQA 91.9 in A12 and 93.45 in A16. "
        "Here a task has one setting: 32,768 tokens for the former, the code adapter for the latter.",
    ),
    "MTEB-en": (
        "Table 3 prints 55.97; Table A11 prints 55.91, which is the average of its 10 rows.",
        "A footnote of Table A11 (text-matching adapter) is attached to the whole row; it counts for ArguAna here.",
    ),
    "CoIR": ("Table 3 averages 9 tasks, without COIRCodeSearchNetRetrieval; with it the average is 72.84.",),
    "STS-m": (
        "The figures of STS17 and STS22.v2 are those of Table A14, of the English subsets; mteb runs all subsets.",
        "GermanSTSBenchmark and STSB, which mteb's benchmark has, are not in Table A15.",
    ),
}  # fmt: skip

_LEFT_OUT = {"CoIR": {"COIRCodeSearchNetRetrieval"}}  # of the averages of Table 3
_VIDORE_COPIES = frozenset(
    f"JinaVDR{name}"
    for name in (
        "ArxivQARetrieval", "DocVQARetrieval", "DocQAAI", "DocQAEnergyRetrieval", "DocQAGovReportRetrieval",
        "DocQAHealthcareIndustryRetrieval", "InfovqaRetrieval", "ShiftProjectRetrieval", "TabFQuadRetrieval",
        "TatQARetrieval",
    )
)  # fmt: skip


@cache
def figures(column: str, mode: EncodingMode) -> Figures:
    """Return the figures of a column by task and subset; those of subsets only as far as they are known.

    Raises:
        ValueError: an unknown column or mode.
    """
    if column not in COLUMNS or mode not in get_args(EncodingMode):
        raise ValueError(f"there are no figures of {column!r}, {mode!r}; columns are {', '.join(map(repr, COLUMNS))}.")
    rows = (row for row in _rows("paper_tasks.csv") if row["column"] == column and row[mode])
    return {(row["task"], row["subset"]): float(row[mode]) for row in rows}


def tasks_of(column: str) -> tuple[str, ...]:
    """Name the tasks of a column, in mteb's words."""
    return tuple(dict.fromkeys(task for task, _ in figures(column, "dense")))


def column_of(task: str, columns: tuple[str, ...] = COLUMNS) -> str | None:
    """Name the first of these columns that has the task; None if there is none."""
    return next((column for column in columns if task in tasks_of(column)), None)


def overview() -> dict[str, dict[str, float]]:
    """Return Table 3: for each model its printed averages by column."""
    rows = _rows("paper_overview.csv")
    return {row["Model"]: {column: float(row[column]) for column in COLUMNS if row[column]} for row in rows}


def task_means(rows: Figures) -> dict[str, float]:
    """Return the score of each task: its own figure if it has one, else the mean of its subsets."""
    values_by_task: dict[str, dict[str, float]] = {}
    for (task, subset), value in rows.items():
        values_by_task.setdefault(task, {})[subset] = value
    return {task: values.get("", float(np.mean([*values.values()]))) for task, values in values_by_task.items()}


def _without(names: frozenset[str] | set[str], rows: Figures) -> Figures:
    return {key: value for key, value in rows.items() if key[0] not in names}


def _monolingual(rows: Figures) -> Figures:
    tasks = [task for task, _ in rows]
    return {key: value for key, value in rows.items() if tasks.count(key[0]) == 1}


def _each_alone(rows: Figures) -> Figures:
    divided = {task for task, subset in rows if subset}
    return {(f"{task} {subset}", ""): value for (task, subset), value in rows.items() if subset or task not in divided}


_Choice = Callable[[str, Figures], Figures]
_CHOICES: Mapping[str, _Choice] = {
    "paper": lambda column, rows: _without(_LEFT_OUT.get(column, set()), rows),
    "tasks": lambda _, rows: rows,
    "monolingual": lambda _, rows: _monolingual(rows),
    "vidore-copies": lambda _, rows: {key: value for key, value in rows.items() if key[0] in _VIDORE_COPIES},
    "new-sets": lambda column, rows: _without(_VIDORE_COPIES, rows) if column == "J-VDR" else {},
    "rows": lambda _, rows: _each_alone(rows),
}

AVERAGES: Mapping[str, str] = {
    "paper": "as in Table 3: languages of a task first, then tasks; CoIR without COIRCodeSearchNetRetrieval",
    "tasks": "languages of a task first, then all tasks",
    "monolingual": "tasks of one language only, as in Table A2",
    "vidore-copies": "the ten sets of Jina-VDR that are derived from ViDoRe",
    "new-sets": "all other sets",
    "rows": "all rows alike, however many languages a task has",
}


def average(rule: str, column: str, rows: Figures) -> tuple[float, int] | None:
    """Average scores of a column by the rule of this name; None if the rule takes none of them.

    Returns:
        The average, and the number of tasks (or rows) that it is the average of.

    Raises:
        ValueError: there is no such rule.
    """
    if rule not in AVERAGES:
        raise ValueError(f"`average` is {rule!r}; it may be {', '.join(map(repr, AVERAGES))}.")
    means = task_means(_CHOICES[rule](column, rows))
    return (float(np.mean([*means.values()])), len(means)) if means else None


def printed(value: float) -> str:
    """Write a score with two decimals; halves are rounded up, as by hand."""
    return str(Decimal(repr(round(value, 9))).quantize(Decimal("0.01"), ROUND_HALF_UP))


@cache
def _rows(name: str) -> tuple[dict[str, str], ...]:
    return tuple(csv.DictReader(resources.files(__package__).joinpath(name).read_text(encoding="utf-8").splitlines()))
