"""The command `polyvec analyze`, which is also `python -m polyvec.analyze`."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from polyvec.analyze import plots
from polyvec.analyze.calibration import check_rates
from polyvec.analyze.captions import demo_captions, read_captions, with_template
from polyvec.analyze.encoding import encode_captions
from polyvec.analyze.panel import Panel, analyze, table, to_json
from polyvec.analyze.projection import check_pyarrow, map_points, write_parquet
from polyvec.analyze.report.document import analysis_report
from polyvec.analyze.report.points import Points
from polyvec.analyze.sampling import MOST_PAIRS
from polyvec.cli import command, json_option, loading_options, model_option, print_json
from polyvec.encoder import Encoder
from polyvec.loading import load_embedder
from polyvec.terminal import echo
from polyvec.testing import UntrainedTowers
from polyvec.whole_files import check_replaceable, write_text

__all__ = ["analyze_command"]

_DEMO_LIMIT = 200
_EPILOG = """
FOLDER is a folder in the layout of BEIR (corpus.jsonl, queries.jsonl, qrels/test.tsv), whose queries are the texts of
the images among their relevant documents; or a .csv file with the header image,caption[,caption…]; or a .jsonl file
with lines {"image": path, "caption": text or list of texts}. Paths of images are relative to the folder or file.
"""


@command("analyze", epilog=_EPILOG, short_help="How images and texts share one space: gap, alignment, cone, cut-offs.")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@model_option(
    "models",
    multiple=True,
    default=("demo",),
    help="'demo', a directory, a hub id, or 'untrained', two random networks for contrast; repeat it to compare",
)
@loading_options
@click.option("--task", default="retrieval", help="task of images and texts")
@click.option("--late", is_flag=True, help="analyze multi-vectors, too; they stay in memory")
@click.option("--template", metavar="TEXT", help="put texts into a template, such as 'a photo of a {}'")
@click.option(
    "--limit",
    type=click.IntRange(min=2),
    metavar="N",
    help=f"at most N images of a file, or queries of a folder (default: all; {_DEMO_LIMIT} pages of the demo world)",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="of every sample")
@click.option("--pairs", "n_aligned", type=click.IntRange(min=2), default=1000, help="pairs drawn for the alignment")
@click.option("--k", type=click.IntRange(min=1), default=10, help="how many results count in the mixed corpus")
@click.option(
    "--rate",
    "rates",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    multiple=True,
    help="false-positive rate of a cut-off; repeat it (default: 0.1 to 0.0001, as far as there are enough pairs)",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="write figures (PNG, SVG), analysis.json and a map of each model (Parquet)",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="write a report to open in a browser, with a map that shows pictures",
)
@json_option()
def analyze_command(
    folder: Path | None,
    models: Sequence[str],
    task: str,
    template: str | None,
    limit: int | None,
    seed: int,
    n_aligned: int,
    k: int,
    rates: Sequence[float],
    output: Path | None,
    html: Path | None,
    *,
    late: bool,
    as_json: bool,
    **loading: Any,
) -> int:
    """Analyze how models place the images and the texts of FOLDER, or of the demo world, in one space."""
    if html is not None:
        check_replaceable(html)
    if output is not None or html is not None:
        plots.check_matplotlib()
    if output is not None:
        check_pyarrow()
        output.mkdir(parents=True, exist_ok=True)
    captioned = demo_captions(limit or _DEMO_LIMIT) if folder is None else read_captions(folder, limit=limit)
    if template is not None:
        captioned = with_template(captioned, template)
    n_unmatched = len(captioned.images) * len(captioned.texts) - len(captioned.pairs)
    check_rates(rates, min(n_unmatched, MOST_PAIRS))
    panels: list[Panel] = []
    points = Points()
    left_out: dict[str, dict[str, str]] = {}
    for note in captioned.notes:
        echo(f"note: {note}", err=True)
    models = list(dict.fromkeys(models))
    for model in models[1:]:  # one at a time in memory; a wrong one would lose what those before it have made
        with _encoder(model, loading, task) as encoder:
            encoder.encode([], side="query", task=task)
    for model in models:
        with _encoder(model, loading, task) as encoder:
            encoded = encode_captions(encoder, captioned, task=task, late=late, show_progress=True)
        if late and encoded.late is None:
            echo(f"note: {model} makes no multi-vectors; only its dense vectors are analyzed", err=True)
        for failure in encoded.left_out:
            echo(f"left out by {model}: {failure.source}: {failure.reason}", err=True)
        left_out[model] = {failure.source: failure.reason for failure in encoded.left_out}
        for paired in (encoded.dense, encoded.late):
            if paired is not None:
                panel = analyze(paired, model=model, seed=seed, n_aligned=n_aligned, k=k, rates=list(rates) or None)
                panels.append(panel)
                if html is not None:
                    points.add(panel, paired, encoded.captioned)
                if output is not None:
                    every = map_points(panel.map, paired, encoded.captioned)
                    write_parquet(output / f"map-{_file_name(model)}-{panel.mode}.parquet", every)
    title = f"{captioned.title}; task {task}"
    report = {
        "title": title,
        "notes": list(captioned.notes),
        "left_out": left_out,
        "panels": list(map(to_json, panels)),
    }
    if as_json:  # before files are written: a full disk loses no results
        print_json(report)
    else:
        echo(title, "", *table(panels).split("\n"))
    if html is not None:
        write_text(html, analysis_report(panels, points, title=title, notes=captioned.notes, left_out=left_out))
    if output is not None:
        for name, draw in (("gap", plots.gap_figure), ("cone", plots.cone_figure), ("map", plots.map_figure)):
            plots.save(draw(panels), output / name)
        (output / "analysis.json").write_text(json.dumps(report, ensure_ascii=False, indent=1), encoding="utf-8")
    return int(any(left_out.values()))


def _encoder(model: str, loading: dict[str, Any], task: str) -> Encoder:
    return UntrainedTowers() if model == "untrained" else load_embedder(model, only=task, **loading)


def _file_name(model: str) -> str:
    return re.sub(r"[^\w.-]+", "-", model).strip("-.")[-100:] or "model"


if __name__ == "__main__":
    analyze_command(prog_name="python -m polyvec.analyze")
