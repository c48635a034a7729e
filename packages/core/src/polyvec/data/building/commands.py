"""What the commands below `polyvec data` share: where a dataset is written, and what its card says."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from polyvec.data.building.material import About, Source
from polyvec.data.building.output.writing import UNREADABLE, write_dataset
from polyvec.terminal import echo

__all__ = ["build", "dataset_options"]

_Function = TypeVar("_Function", bound=Callable[..., Any])  # Any: click's callbacks


def dataset_options(function: _Function) -> _Function:
    """Add the options `output`, `name`, `source`, `licence`, `domain` and `overwrite`, which `build` takes."""
    for option in (
        click.option("--overwrite", is_flag=True, help="replace what is at the output"),
        click.option("--domain", default="", help="such as finance, for the card"),
        click.option("--licence", default="", help="of the material, for the card"),
        click.option("--source", default="", help="where the material comes from, for the card"),
        click.option("--name", help="of the dataset, for the card (default: that of the folder)"),
        click.option(
            "--output", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="folder to write"
        ),
    ):
        function = option(function)
    return function


def build(
    material: Source,
    *,
    output: Path,
    name: str | None,
    source: str,
    licence: str,
    domain: str,
    overwrite: bool,
    notes: tuple[str, ...] = (),
    reads: Iterable[Path] = (),
    show_progress: bool = True,
) -> int:
    """Write a dataset, print what it has, and return the exit code: 1 if something could not be read.

    Raises:
        ValueError: the output is in a folder of `reads`, where a later run would take it for material.
    """
    for folder in reads:
        if folder.is_dir() and output.resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"{str(output)!r} is in {str(folder)!r}, which is read; choose an output elsewhere, or the next run "
                "takes this dataset for material."
            )
    about = About(name or output.resolve().name, source=source, licence=licence, domain=domain, notes=notes)
    summary = write_dataset(material, output, about, overwrite=overwrite, show_progress=show_progress)
    echo(f"{output}: {summary.n_documents} documents, {summary.n_queries} queries")
    for reason, n in summary.rejections.most_common():
        echo(f"  rejected, {reason}: {n}")
    return int(any(reason.startswith(UNREADABLE) for reason in summary.rejections))  # such as `unreadable image`
