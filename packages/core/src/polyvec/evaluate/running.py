"""Run benchmarks through mteb: rows per task and language beside the paper's figures, skipped tasks, and averages.

Results and counts of queries are stored in a folder, one file per task and model; a run that was interrupted goes on
there. The extra `evaluate` has mteb.
"""

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack, get_args

import numpy as np

from polyvec.encoder import Encoder
from polyvec.evaluate.benchmarks import BENCHMARKS, PAPER, QA_SUFFIX, Benchmark, Rule, rule_of_type
from polyvec.evaluate.mteb_models import Fused, model_of
from polyvec.evaluate.mteb_tasks import qa_task, xtd10_task
from polyvec.evaluate.paper import NOTES, EncodingMode, average, column_of, figures, task_means
from polyvec.evaluate.run_store import counted, store, stored
from polyvec.types import Side

__all__ = ["Average", "Row", "RunOptions", "Section", "Skipped", "benchmarks_of", "rules_of", "run"]

logger = logging.getLogger(__name__)

_SKIPPED = "late interaction has no score for tasks of type {}; they need --mode dense"


class RunOptions(TypedDict, total=False):
    """Options of a run."""

    truncate_dim: int | None
    """Dense vectors are cut to this many numbers."""
    max_pixels: int | None
    """Instead of the pixel budget of each task's rule."""
    max_length: int | None
    """Instead of the token limit of each task's rule."""
    tasks: Sequence[str]
    """Run only these tasks of mteb, whether or not the benchmark has them."""
    languages: Sequence[str]
    """Run only these subsets, by mteb's name of the subset or code of the language (`deu`)."""
    averages: Sequence[str]
    """Rules of averages, by name; see `paper.AVERAGES`. By default `"paper"` and `"tasks"`."""
    fused: Fused
    """How items of image and text get their vectors: `"composed"`, the default, or in one `"sequence"`."""
    xtd10: Path | None
    """Folder of XTD10, which mteb does not have."""
    overwrite: bool
    """Run tasks again that have results."""
    show_progress: bool
    """Show progress bars."""


@dataclass(frozen=True, slots=True)
class Row:
    """The score of one task and subset.

    Attributes:
        column: the column of the paper's Table 3, if it has the task.
        subset: mteb's name, mostly of a language; empty if the task has only one.
        metric: mteb's name of the score.
        score: in percent, the mean over the task's splits.
        paper: the paper's figure; None if it has none.
        n_queries: None if the task has no queries.
        n_dropped: queries without a judgement, which mteb leaves out.
        n_hopeless: queries whose documents all have grade 0; they count with score 0.
        settings: what the results are stored under.
    """

    column: str | None
    task: str
    subset: str
    metric: str
    score: float
    paper: float | None
    n_queries: int | None
    n_dropped: int | None
    n_hopeless: int | None
    settings: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A task that has no score, and why. `failed` is True if it was tried."""

    task: str
    reason: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Average:
    """An average over tasks, or over the subsets of one task.

    Attributes:
        column: that of the paper's Table 3, or the task.
        rule: see `paper.AVERAGES`; `"subsets"` for a task.
        n_tasks: tasks (or rows) that it is the average of.
        n_expected: as many as the paper has, or the task; 0 if the paper has none.
        paper: the average of the paper's figures by the same rule.
    """

    column: str
    rule: str
    score: float
    n_tasks: int
    n_expected: int
    paper: float | None


@dataclass(frozen=True, slots=True)
class Section:
    """The result of one benchmark."""

    benchmark: str
    mode: EncodingMode
    rows: tuple[Row, ...]
    averages: tuple[Average, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]


def benchmarks_of(name: str, mode: EncodingMode) -> tuple[Benchmark, ...]:
    """Return the benchmark of this name; `"paper"` is those of Table 3 that have a figure in this mode.

    Raises:
        ValueError: there is no such benchmark.
    """
    if name == "paper":
        parts = (BENCHMARKS[part] for part in PAPER)
        return tuple(part for part in parts if any(figures(column, mode) for column in part.columns))
    if name not in BENCHMARKS:
        raise ValueError(f"`benchmark` is {name!r}; it may be {', '.join(map(repr, (*BENCHMARKS, 'paper')))}.")
    return (BENCHMARKS[name],)


def run(
    encoder: Encoder,
    benchmark: Benchmark,
    *,
    mode: EncodingMode,
    label: str,
    output: Path,
    **options: Unpack[RunOptions],
) -> Section:
    """Run a benchmark, or what is missing of it in `output`. `label` names the encoder in the results.

    A task that cannot be loaded or fails is among `skipped` with its reason; all others run.

    Raises:
        ImportError: mteb is not installed.
        OSError: `output` is no folder and cannot be made.
        ValueError: an unknown task or average, an impossible size or limit, or multi-vectors that the encoder does not
            make.
    """
    size, fused = options.get("truncate_dim"), options.get("fused", "composed")
    make = partial(model_of(mode), encoder, label=label, truncate_dim=size, fused=fused)
    make(Rule(encoder.tasks[0]))  # checks
    own: dict[str, Any] = {
        name: options[name] for name in ("max_pixels", "max_length") if options.get(name)
    }  # Any: a limit
    for side in get_args(Side) if own else ():
        encoder.encode([], side=side, task=encoder.tasks[0], **own)  # checks
    averages = options.get("averages") or ("paper", "tasks")
    for name in averages:
        average(name, "", {})
    output.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    skipped: list[Skipped] = []
    notes = [*benchmark.notes, *(note for column in benchmark.columns for note in NOTES.get(column, ()))]
    if languages := options.get("languages"):
        notes.append(f"Only these languages ran: {', '.join(languages)}. Averages are over their subsets alone.")
    n_subsets: dict[str, int] = {}
    for task, rule, n_subsets_of_task in _tasks(benchmark, skipped, options):
        name = task.metadata.name
        n_subsets[name] = n_subsets_of_task
        if mode == "late" and not _is_search(task):
            skipped.append(Skipped(name, _SKIPPED.format(task.metadata.type)))
            continue
        model = make(rule)
        try:
            result, counts, n_unreadable = _result(model, task, output, options)
        except Exception as error:  # a data set, a server or the encoder may fail in any way; the other tasks go on
            logger.info("%s failed", name, exc_info=error)
            skipped.append(Skipped(name, f"{type(error).__name__}: {' '.join(str(error).split())}", failed=True))
            continue
        rows += _rows(benchmark, task, rule, result, counts, model, mode)
        unreadable = [f"{n_unreadable} inputs could not be encoded and score 0"] if n_unreadable else []
        notes += [f"{name}: {note}." for note in (*model.notes, *unreadable)]
    means = (*_task_averages(rows, n_subsets, mode), *_averages(benchmark, rows, averages, mode))
    return Section(benchmark.name, mode, tuple(rows), means, tuple(skipped), tuple(dict.fromkeys(notes)))


def rules_of(benchmark: Benchmark) -> list[dict[str, Any]]:
    """Return the rule of each task as a row of a table."""
    return [
        {"task": name, **asdict(rule), "prefixes": rule.prefixes, "subsets": list(rule.subsets)}
        for name, rule in benchmark.rules.items()
    ]


def _tasks(benchmark: Benchmark, skipped: list[Skipped], options: RunOptions) -> Iterator[tuple[Any, Rule, int]]:
    """Yield mteb's tasks, their rules, and their number of subsets in all languages.

    Names of the benchmark that mteb does not know are skipped.
    """
    mteb = _mteb()
    known = (
        {task.metadata.name: task for task in mteb.get_benchmark(benchmark.source).tasks} if benchmark.source else {}
    )
    names = tuple(options.get("tasks") or ()) or tuple(benchmark.rules)
    for name in names:
        try:
            task = copy.deepcopy(known[name]) if name in known else _by_name(name, options)
        except KeyError as error:
            if name not in benchmark.rules:
                raise ValueError(f"`tasks` has {name!r}, which neither {benchmark.name} nor mteb has.") from error
            skipped.append(Skipped(name, "the installed mteb has no such task"))
            continue
        if task is None:
            skipped.append(Skipped(name, "mteb does not have it; give the folder of its files with --xtd10"))
            continue
        rule = benchmark.rules.get(name) or rule_of_type(
            name, task.metadata.type, programming="Programming" in (task.metadata.domains or ())
        )
        rule = replace(
            rule,
            max_pixels=options.get("max_pixels") or rule.max_pixels,
            max_length=options.get("max_length") or rule.max_length,
        )
        _choose(task, rule.subsets)
        n_subsets = len(task.hf_subsets)
        if _choose(task, options.get("languages")):
            yield task, rule, n_subsets
        else:
            skipped.append(Skipped(name, f"it has none of these languages: {', '.join(options['languages'])}"))


def _by_name(name: str, options: RunOptions) -> Any:
    """Return the task of this name, or None if it needs a folder. Raise `KeyError` if there is none."""
    if name == "XTD10T2IRetrieval":
        folder = options.get("xtd10")
        return xtd10_task(folder) if folder else None
    task = _mteb().get_task(name.removesuffix(QA_SUFFIX))
    return qa_task(task) if name.endswith(QA_SUFFIX) else task


def _choose(task: Any, languages: Iterable[str] | None) -> bool:
    """Keep these subsets of a task; return False if it has none of them."""
    if not languages:
        return True
    chosen = set(languages)
    codes_by_subset = task.metadata.hf_subsets_to_langscripts
    kept = [
        subset
        for subset in task.hf_subsets
        if subset in chosen or chosen.intersection(code.partition("-")[0] for code in codes_by_subset[subset])
    ]
    task.hf_subsets = kept
    return bool(kept)


def _is_search(task: Any) -> bool:
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    return all(isinstance(part, AbsTaskRetrieval) for part in getattr(task, "tasks", [task]))


def _result(model: Any, task: Any, output: Path, options: RunOptions) -> tuple[Any, Mapping[str, list[int]], int]:
    """Return mteb's result of a task, stored or new, the counts of its queries by subset, and of unreadable inputs.

    Raises:
        ValueError: a file of results is damaged.
    """
    mteb = _mteb()
    cache = mteb.ResultCache(output)
    name, meta = task.metadata.name, model.mteb_model_meta
    path = output / "queries" / f"{name}.json"
    unreadable_path = output / "unreadable" / meta.revision / f"{name}.json"
    overwrite = options.get("overwrite", False)
    counts: dict[str, list[int]] = {}
    unreadable: dict[str, int] = {}
    if not overwrite:
        stored(cache.get_task_result_path(name, meta))  # mteb would not name it
        counts, unreadable = stored(path), stored(unreadable_path)
    load = task.load_data

    def load_and_count(*args: Any, **kwargs: Any) -> None:
        load(*args, **kwargs)
        if _is_search(task):
            counts.update(counted(task))
            store(path, counts)

    if not hasattr(task, "tasks"):  # an aggregate loads nothing itself
        task.load_data = load_and_count
    show_progress = options.get("show_progress", False)
    try:
        result = mteb.evaluate(
            model,
            task,
            co2_tracker=False,
            encode_kwargs={"batch_size": 8, "show_progress_bar": show_progress},
            cache=cache,
            overwrite_strategy="always" if overwrite else "only-missing",
            show_progress_bar=False,
            public_only=False,  # a private task that cannot be loaded is an error, not a warning
        )
    finally:  # mteb has stored the subsets before the one that failed
        unreadable |= model.n_unreadable
        if any(unreadable.values()) or unreadable_path.exists():
            store(unreadable_path, unreadable)
    n_unreadable = sum(n for place, n in unreadable.items() if place.rpartition("/")[2] in task.hf_subsets)
    return result.task_results[0], counts, n_unreadable


def _rows(
    benchmark: Benchmark,
    task: Any,
    rule: Rule,
    result: Any,
    counts: Mapping[str, list[int]],
    model: Any,
    mode: EncodingMode,
) -> Iterator[Row]:
    name = task.metadata.name
    figure_name = name.removesuffix(QA_SUFFIX)
    column = column_of(figure_name, benchmark.columns) if benchmark.columns else None
    paper = figures(column, mode) if column else {}
    for subset in task.hf_subsets:
        splits = [result.scores[split] for split in task.eval_splits]
        values = [
            entry[rule.metric or "main_score"] for split in splits for entry in split if entry["hf_subset"] == subset
        ]
        label = "" if subset == "default" or len(task.metadata.hf_subsets) == 1 else subset
        n_queries, n_dropped, n_hopeless = counts.get(subset, [None, None, None])
        yield Row(
            column=column,
            task=name,
            subset=label,
            metric=rule.metric or task.metadata.main_score,
            score=100 * float(np.mean(values)),
            paper=paper.get((figure_name, label)),
            n_queries=n_queries,
            n_dropped=n_dropped,
            n_hopeless=n_hopeless,
            settings=model.revision,
        )


def _task_averages(rows: Sequence[Row], n_subsets: Mapping[str, int], mode: EncodingMode) -> Iterator[Average]:
    """Average the subsets of each task that has any, beside the paper's figure of the task."""
    for task in dict.fromkeys(row.task for row in rows if row.subset):
        parts = [row for row in rows if row.task == task]
        name, column = task.removesuffix(QA_SUFFIX), parts[0].column
        paper = task_means(figures(column, mode)).get(name) if column else None
        mean = float(np.mean([row.score for row in parts]))
        yield Average(task, "subsets", mean, len(parts), n_expected=n_subsets[task], paper=paper)


def _averages(benchmark: Benchmark, rows: Sequence[Row], rules: Sequence[str], mode: EncodingMode) -> Iterator[Average]:
    for column in (*benchmark.columns, None):
        scores = {(row.task.removesuffix(QA_SUFFIX), row.subset): row.score for row in rows if row.column == column}
        paper = figures(column, mode) if column else {}
        for rule in rules:
            mean = average(rule, column or "", scores)
            if mean is None or (column is None and rule == "paper"):
                continue
            expected = average(rule, column or "", paper)
            score, n_tasks = expected or (None, 0)
            yield Average(column or "other tasks", rule, *mean, n_expected=n_tasks, paper=score)


def _mteb() -> Any:
    try:
        import mteb
    except ImportError as error:
        raise ImportError("benchmarks need mteb: pip install 'polyvec[evaluate]'") from error
    return mteb
