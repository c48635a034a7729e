"""The command `polyvec compress-report`, which is also `python -m polyvec.evaluate`."""

import importlib.util
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import polyvec
from polyvec.cli import command, json_option, max_pixels_option, model_option, print_json, weights_options
from polyvec.data.folders import read_folder
from polyvec.evaluate.run_tables import left_out_lines
from polyvec.evaluate.storage import POOL_FACTORS, compare, table
from polyvec.retrieval import encode_dataset
from polyvec.terminal import echo
from polyvec.types import TASKS, Task

__all__ = ["compress_report"]

_DEMO_LIMIT = 200
_EPILOG = """
FOLDER has the layout of BEIR: corpus.jsonl with a line {"_id": …, "title": …, "text": …} or {"_id": …, "image": path}
per document (the path relative to FOLDER; the image counts where there is a text, too), queries.jsonl with a line
{"_id": …, "text": …} per query, and qrels/test.tsv, or any qrels/*.tsv, with the header query-id corpus-id score.
"""


@command("compress-report", epilog=_EPILOG, short_help="Compare ways of storing vectors: bytes and nDCG.")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@model_option(default="demo")
@weights_options
@max_pixels_option()
@click.option("--task", type=click.Choice(TASKS), default="retrieval", help="task of queries and documents")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="at most N queries, and N documents: those that are relevant to the queries, then others "
    f"(default: all; {_DEMO_LIMIT} of the demo world)",
)
@click.option("--k", type=click.IntRange(min=1), default=5, help="how many results count")
@json_option()
def compress_report(
    folder: Path | None, model: str, task: Task, limit: int | None, k: int, *, as_json: bool, **loading: Any
) -> None:
    """Compare ways of storing the vectors of FOLDER, or of the demo world: bytes per item and nDCG of each."""
    if folder is None:
        from polyvec.synthetic.datasets import TASK_BY_KIND  # needs the extra `train`
        from polyvec.synthetic.datasets import dataset as synthetic_dataset

        kind = next(kind for kind in TASK_BY_KIND if TASK_BY_KIND[kind] == task)
        dataset = synthetic_dataset(kind, limit or _DEMO_LIMIT)
    else:
        dataset = read_folder(folder, limit=limit)
    embedder = polyvec.Embedder.from_pretrained(model, **loading)
    pool_factors = POOL_FACTORS if importlib.util.find_spec("scipy") else ()
    if not pool_factors:
        echo("note: pooled tokens are not tried; that needs pip install 'polyvec[pooling]'", err=True)
    encoded = encode_dataset(embedder, dataset, task=task, show_progress=True)
    rows = compare(encoded, sizes=embedder.sizes, pool_factors=pool_factors, k=k)
    for line in left_out_lines(dataset.left_out):
        echo(f"note: {line}", err=True)
    for failure in encoded.left_out:
        echo(f"left out: {failure.source}: {failure.reason}", err=True)
    title = f"{dataset.title}; task {task}, model {model}"
    if as_json:
        left_out = {failure.source: failure.reason for failure in encoded.left_out}
        report = {"title": title, "k": k, "left_out": left_out, "rows": [asdict(row) for row in rows]}
        print_json(report)
    else:
        echo(title, "", *table(rows, k=k).split("\n"))


if __name__ == "__main__":
    compress_report(prog_name="python -m polyvec.evaluate")
