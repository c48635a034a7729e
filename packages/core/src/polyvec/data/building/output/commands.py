"""The commands `polyvec data export` and `polyvec data look`."""

from pathlib import Path
from typing import get_args

import click

from polyvec.cli import command
from polyvec.data.building.output.look import write_look
from polyvec.data.building.output.parquet_files import Columns, write_parquet
from polyvec.data.building.output.training_rows import write_rows
from polyvec.terminal import echo
from polyvec.whole_files import check_replaceable

__all__ = ["export", "look"]

_folder = click.argument("folder", type=click.Path(path_type=Path))


@command("export", short_help="Write a dataset as Parquet, or as rows to train on.")
@_folder
@click.option("--parquet", type=click.Path(path_type=Path), metavar="FOLDER", help="folder of Parquet files to write")
@click.option(
    "--columns", type=click.Choice(get_args(Columns)), default="jina-vdr", help="of the Parquet files: whose names"
)
@click.option("--rows", type=click.Path(path_type=Path), metavar="FILE", help="JSON Lines of pairs to write")
def export(folder: Path, parquet: Path | None, columns: Columns, rows: Path | None) -> None:
    """Write the dataset in FOLDER as Parquet, which mteb and `datasets` read, or as rows for `polyvec train`."""
    if parquet is None and rows is None:
        raise click.UsageError("name what to write: --parquet FOLDER or --rows FILE")
    if rows is not None:
        check_replaceable(rows)
    if parquet is not None:
        parts = write_parquet(folder, parquet, columns=columns, show_progress=True)
        echo(f"{parquet}: {', '.join(parts)}")
    if rows is not None:
        echo(f"{rows}: {write_rows(folder, rows)} pairs")


@command("look", short_help="Write a page to look through a dataset.")
@_folder
@click.option("--html", "output", required=True, type=click.Path(path_type=Path), metavar="FILE", help="file to write")
@click.option(
    "--limit", type=click.IntRange(min=1), default=200, help="most queries, rejections and unasked documents, of each"
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="of the sample, if there are more")
def look(folder: Path, output: Path, limit: int, seed: int) -> None:
    """Write one HTML file that shows queries with their documents, and what was left out and why."""
    shown = write_look(folder, output, limit=limit, seed=seed)
    echo(f"{output}: {shown}")
