"""The commands `polyvec train filter` and `polyvec train mine`. Help and completion import this module alone."""

from pathlib import Path
from typing import Any, Literal, get_args

import click

from polyvec.cli import combine_options, command, json_option, loading_options, location_option, model_option

__all__ = ["filter_command", "mine_command"]

_Mode = Literal["dense", "late", "two-stage"]  # as in `polyvec.retrieval`, which imports more than help needs

_rows_argument = click.argument("rows", nargs=-1, required=True, metavar="ROWS...", type=click.Path(path_type=Path))
_row_options = combine_options(
    click.option("--format", "row_format", metavar="FORMAT", help="of the rows (default: told by their columns)"),
    click.option("--corpus", type=click.Path(path_type=Path), help="file of documents that rows name by id"),
    click.option("--max-bad-rows", type=click.IntRange(min=0), default=100, help="more malformed rows are an error"),
    click.option("--dpi", type=click.FloatRange(min=1), default=150, help="resolution of PDF pages"),
)
_model_options = combine_options(
    loading_options,
    click.option("--task", default="retrieval", help="of the model"),
    click.option("--truncate-dim", type=click.IntRange(min=1), help="length of dense vectors (default: full)"),
    click.option("--mode", type=click.Choice(get_args(_Mode)), default="dense", help="how to rank documents"),
)


def _range(_: click.Context, __: click.Parameter, value: str) -> tuple[int, int]:
    first, _colon, last = value.partition(":")
    if not (first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise click.BadParameter(f"{value!r} is no range of ranks, such as 10:100")
    return int(first), int(last)


def _margin(_: click.Context, __: click.Parameter, value: str) -> float | None:
    if value == "none":
        return None
    try:
        return float(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is neither a number nor none") from error


@command("filter", short_help="Remove duplicates, wrong languages, and pairs that do not fit.")
@_rows_argument
@click.option("--output", required=True, type=click.Path(path_type=Path), help="file of the rows that stay")
@click.option("--rejected", type=click.Path(path_type=Path), help="file of the removed rows, with reasons")
@click.option(
    "--near-duplicates",
    type=click.FloatRange(min=0, max=1),
    default=0.9,
    help="similarity from which on texts are near duplicates; 0 keeps them",
)
@click.option(
    "--language", "languages", multiple=True, metavar="CODE", help="language of texts, such as en; repeatable"
)
@click.option("--min-length", type=click.IntRange(min=1), help="characters of the shortest text")
@click.option("--max-length", type=click.IntRange(min=1), help="characters of the longest text")
@click.option(
    "--consistency",
    type=click.IntRange(min=1),
    metavar="K",
    help="remove pairs whose document is not among the first K for its query; needs a MODEL",
)
@model_option()
@_model_options
@_row_options
@json_option()
def filter_command(model: str | None, consistency: int | None, **options: Any) -> int:
    """Remove duplicates, wrong languages, and pairs that do not fit each other from the files ROWS.

    Rows that stay are written byte for byte as they were, in their order.
    """
    if (consistency is None) != (model is None):
        raise click.UsageError("--consistency K and --model MODEL belong together")
    if options["adapters"] and model is None:
        raise click.UsageError("--adapter is for a --model MODEL, with --consistency K")
    from polyvec.train.selection import work

    return work.filter_rows(model=model, consistency=consistency, **options)


@command("mine", short_help="Mine hard negatives with a model or a collection.")
@_rows_argument
@click.option("--output", required=True, type=click.Path(path_type=Path), help="file of the rows with negatives")
@model_option(help="checkpoint that searches the corpus, or else the documents of the rows")
@click.option("--collection", metavar="NAME", help="collection of qdrant-polyvec to search instead, in LOCATION")
@location_option()
@click.option(
    "--again",
    is_flag=True,
    help="choose anew among the negatives of mined ROWS by their scores; options of the search are ignored",
)
@_model_options
@click.option(
    "--range", "ranks", callback=_range, default="10:100", help="ranks of negatives, from 0; positives not counted"
)
@click.option(
    "--relative-margin",
    callback=_margin,
    default="0.05",
    help="a negative scores at most P - |P| * margin, where P is the score of the positive; or none",
)
@click.option("--absolute-margin", type=float, help="a negative scores at most P - margin")
@click.option("--min-score", type=float, help="smallest score of a negative")
@click.option("--max-score", type=float, help="largest score of a negative")
@click.option("--per-query", type=click.IntRange(min=1), default=7, help="largest number of negatives")
@click.option("--sampling", type=click.Choice(["top", "random"]), default="top", help="the best negatives, or any")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="of random sampling")
@click.option(
    "--exclude-same",
    type=click.Choice(["group", "none"]),
    default="group",
    help="documents of the group of the positive, such as pages of its file, are no negatives",
)
@_row_options
@json_option()
def mine_command(model: str | None, collection: str | None, *, again: bool, **options: Any) -> int:
    """Mine hard negatives for the queries of the files ROWS, or of a dataset's folder.

    The rows are written in the format `polyvec`, one for each positive, with the negatives and with the scores of both.
    """
    if again and (model or collection):
        raise click.UsageError("--again searches nothing; leave out --model and --collection")
    if not (again or model or collection):
        raise click.UsageError("give a --model or a --collection that searches")
    if collection and options["truncate_dim"]:
        raise click.UsageError(
            "--truncate-dim is for a MODEL without --collection, which has vectors of its own length"
        )
    from polyvec.train.selection import work

    if again:
        return work.choose_again(**options)
    return work.mine_rows(model=model, collection=collection, **options)
