"""The commands `polyvec index`, `search`, `verify` and `reindex`. Help and completion import this module alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from polyvec.cli import combine_options, command, json_option, loading_options, location_option, model_option
from qdrant_polyvec.choices import INDEX_KINDS, MODES, PRECISIONS, IndexKind

__all__ = ["index", "reindex", "search", "verify"]

_collection_options = combine_options(
    location_option(), click.option("--collection", default="docs", help="name of the collection"), json_option()
)
_encoding_options = combine_options(
    loading_options,
    click.option("--dpi", type=click.IntRange(min=1), default=150, help="resolution of PDF pages"),
)
_schema_options = combine_options(
    click.option("--truncate-dim", type=click.IntRange(min=1), help="length of the dense vectors (default: full)"),
    click.option("--late", type=click.Choice(PRECISIONS), help="precision of multi-vectors (default: float16)"),
    click.option("--pooled", is_flag=True, help="keep the means of page rows and columns, too"),
    click.option("--bm25", metavar="LANGUAGE", help="keep BM25 vectors for mode hybrid, for example english"),
)


def _index_fields(_: click.Context, __: click.Parameter, values: Sequence[str]) -> dict[str, IndexKind]:
    """Read FIELD:KIND pairs; a field may have colons in its name."""
    indexed: dict[str, IndexKind] = {}
    for value in values:
        name, _colon, word = value.rpartition(":")
        kind = next((kind for kind in INDEX_KINDS if kind == word), None)
        if not name or kind is None:
            raise click.BadParameter(f"{value!r} is not FIELD:KIND, with a kind of {', '.join(INDEX_KINDS)}")
        if indexed.setdefault(name, kind) != kind:
            raise click.BadParameter(f"{name!r} is named as {indexed[name]} and as {kind}; name it once")
    return indexed


_stored_model_option = model_option(help="checkpoint (default: the model of the index, else 'demo')")
_TASK = "a task of the model or of an --adapter"


@command("index")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@_collection_options
@_stored_model_option
@_encoding_options
@_schema_options
@click.option("--task", default="auto", metavar="TASK", help=f"{_TASK}, or auto: code for code files, else retrieval")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="leave out files, as in .gitignore; repeatable")
@click.option("--late-chunking", is_flag=True, help="encode each part of a text within the whole text")
@click.option(
    "--index-field",
    "indexed",
    multiple=True,
    callback=_index_fields,
    metavar="FIELD:KIND",
    help="index a field of the metadata for filters, for example lang:keyword; repeatable",
)
@click.option("--keep", is_flag=True, help="keep what was indexed of files that a folder no longer has")
@click.option("--optimize", is_flag=True, help="build the search graph of a folder afterwards")
def index(**options: Any) -> int:
    """Index files and folders, and remove what they no longer have."""
    from qdrant_polyvec.commands import indexing

    return indexing.index(**options)


@command("search")
@click.argument("query", required=False)
@_collection_options
@_stored_model_option
@_encoding_options
@click.option("--image", type=click.Path(), metavar="FILE", help="image to search for, instead of a QUERY")
@click.option(
    "--task",
    "tasks",
    multiple=True,
    default=["retrieval"],
    metavar="TASK",
    help=f"{_TASK}; repeatable, rankings are merged",
)
@click.option("--mode", type=click.Choice(MODES), default="two-stage", help="how to search")
@click.option("--limit", type=click.IntRange(min=1), default=5, help="number of results")
@click.option(
    "--candidates",
    type=click.IntRange(min=1),
    metavar="N",
    help="candidates of each kind in modes two-stage and hybrid (default: 100, or four times --limit if that is more)",
)
@click.option("--explain", type=click.Path(), metavar="PNG", help="draw where the best image among the results matches")
def search(query: str | None, image: str | None, **options: Any) -> int:
    """Search for the text QUERY or for an image."""
    if (query is None) == (image is None):
        raise click.UsageError("search for a QUERY or for an --image, one of them")
    if image and options["explain"]:
        raise click.UsageError("--explain shows the words of a QUERY; it cannot be used with --image")
    if options["candidates"] is not None:
        if options["mode"] not in ("two-stage", "hybrid"):
            raise click.UsageError(f"--candidates goes with --mode two-stage or hybrid, not {options['mode']}")
        if options["candidates"] < options["limit"]:
            raise click.UsageError(
                f"--candidates is {options['candidates']}; it must be at least --limit, which is {options['limit']}"
            )
    from qdrant_polyvec.commands import work

    return work.search(query=Path(image) if image else query or "", **options)


@command("verify")
@_collection_options
@click.option(
    "--delete-leftovers",
    is_flag=True,
    help="delete what an interrupted reindex or --keep-old left; be sure that no reindex is running",
)
def verify(**options: Any) -> int:
    """Look for damaged items, items of another model, and items whose file is gone."""
    from qdrant_polyvec.commands import work

    return work.verify(**options)


@command("reindex")
@_collection_options
@model_option(required=True, help="the new checkpoint")
@_encoding_options
@_schema_options
@click.option("--keep-old", is_flag=True, help="keep the old collection under its own name")
def reindex(**options: Any) -> int:
    """Encode everything again with another model, and exchange the collections."""
    from qdrant_polyvec.commands import work

    return work.reindex(**options)
