"""The command `polyvec evaluate`: public benchmarks by name; see `polyvec.evaluate.running`."""

from pathlib import Path
from typing import Any

import click

import polyvec
from polyvec.cli import command, json_option, model_option, print_json, weights_options
from polyvec.encoder import Encoder
from polyvec.encoders.cached import CachedEncoder
from polyvec.evaluate.benchmark_tables import as_json, overview_table, rules_table, section_table
from polyvec.evaluate.benchmarks import BENCHMARKS
from polyvec.evaluate.paper import AVERAGES, EncodingMode
from polyvec.evaluate.running import RunOptions, benchmarks_of, rules_of, run
from polyvec.terminal import echo

__all__ = ["evaluate_command", "run_benchmarks"]


def _words(_: click.Context, __: click.Parameter, value: str | None) -> list[str]:
    return [word.strip() for word in (value or "").split(",") if word.strip()]


def run_benchmarks(
    encoder: Encoder | None,
    name: str,
    *,
    mode: EncodingMode,
    label: str,
    output: Path,
    json: bool,
    options: RunOptions,
) -> int:
    """Run a benchmark (`"paper"`: several) and print it; without an encoder print the rules.

    Returns:
        The exit code: 1 if a task failed, or none ran.
    """
    benchmarks = benchmarks_of(name, mode)
    if encoder is None and json:
        print_json({"benchmarks": {benchmark.name: rules_of(benchmark) for benchmark in benchmarks}})
        return 0
    if encoder is None:
        echo(*"\n\n".join(map(rules_table, benchmarks)).split("\n"))
        return 0
    sections = []
    for benchmark in benchmarks:
        section = run(encoder, benchmark, mode=mode, label=label, output=output, **options)
        sections.append(section)
        if not json:
            echo(*section_table(section).split("\n"), "")
    if json:
        print_json(as_json(sections, label=label, mode=mode))
    elif name == "paper":
        echo(*overview_table(sections, label=label, mode=mode).split("\n"))
    failed = any(task.failed for section in sections for task in section.skipped)
    return int(failed or not any(section.rows for section in sections))


@command("evaluate", short_help="Run a public benchmark, beside the paper's figures.")
@click.option("--benchmark", type=click.Choice((*BENCHMARKS, "paper")), required=True, metavar="NAME", help="which one")
@model_option(default="demo")
@click.option("--mode", type=click.Choice(("dense", "late")), default="dense", help="vectors to compare")
@weights_options
@click.option("--truncate-dim", type=click.IntRange(min=1), metavar="N", help="length of dense vectors")
@click.option("--max-pixels", type=click.IntRange(min=1), metavar="N", help="instead of each task's pixel budget")
@click.option("--max-length", type=click.IntRange(min=1), metavar="N", help="instead of each task's token limit")
@click.option("--cache", type=click.Path(path_type=Path), metavar="FILE", help="keep embeddings in this SQLite file")
@click.option("--output", type=click.Path(path_type=Path), default="./results", metavar="FOLDER", help="results")
@click.option("--tasks", callback=_words, metavar="A,B", help="run these tasks of mteb only")
@click.option("--languages", callback=_words, metavar="A,B", help="run these subsets only, such as de or deu")
@click.option(
    "--average",
    "averages",
    type=click.Choice(tuple(AVERAGES)),
    multiple=True,
    default=("paper", "tasks"),
    help="rules of averages; repeat it for several",
)
@click.option(
    "--fused",
    type=click.Choice(("composed", "sequence")),
    default="composed",
    help="items of image and text: composed of the vectors of both, as mteb does it, or read as one sequence",
)
@click.option("--xtd10", type=click.Path(path_type=Path), metavar="FOLDER", help="files of XTD10, which mteb lacks")
@click.option("--overwrite", is_flag=True, help="run tasks again that have results")
@click.option("--rules", is_flag=True, help="print how each task is encoded, and exit")
@json_option()
def evaluate_command(
    benchmark: str,
    model: str,
    mode: EncodingMode,
    cache: Path | None,
    output: Path,
    *,
    device: Any,
    dtype: Any,
    revision: str | None,
    token_budget: int | None,
    rules: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Run a public benchmark through mteb, beside the paper's figures. A run that was interrupted goes on."""
    encoder: Encoder | None = None
    if not rules:
        encoder = polyvec.Embedder.from_pretrained(
            model, revision=revision, device=device, dtype=dtype, token_budget=token_budget
        )
        if cache is not None:
            encoder = CachedEncoder(encoder, cache)
    settings: RunOptions = {**options, "show_progress": not as_json}  # type: ignore[typeddict-item]  # click's names
    label = Path(model).name or model
    return run_benchmarks(encoder, benchmark, mode=mode, label=label, output=output, json=as_json, options=settings)


if __name__ == "__main__":
    evaluate_command(prog_name="python -m polyvec.evaluate.benchmark_command")
