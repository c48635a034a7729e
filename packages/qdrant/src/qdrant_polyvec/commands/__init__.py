"""The commands of an index, from `polyvec index` to `copy`. Help and completion import this module alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from polyvec.cli import combine_options, command, json_option, loading_options, location_option, model_option
from qdrant_polyvec.choices import INDEX_KINDS, MODES, PRECISIONS, IndexKind

__all__ = ["copy", "delete", "index", "info", "list_collections", "reindex", "search", "show", "verify"]


def _encoding(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    if name is not None:
        from qdrant_polyvec.files.kinds import codec_of

        try:
            codec_of(name)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
    return name


_collection_options = combine_options(
    location_option(), click.option("--collection", default="docs", help="name of the collection"), json_option()
)
_pdf_options = combine_options(
    click.option("--dpi", type=click.IntRange(min=1), default=150, help="resolution of PDF pages"),
    click.option(
        "--password",
        envvar="POLYVEC_PDF_PASSWORD",
        show_envvar=True,
        help="password of encrypted PDFs; set the variable instead, because other users of this machine can see a "
        "command line",
    ),
)
_reading_options = combine_options(
    _pdf_options,
    click.option(
        "--encoding",
        callback=_encoding,
        metavar="NAME",
        help="encoding of texts that are not UTF-8 (default: the most likely one), for example windows-1252",
    ),
)
_save_option = click.option("--save", type=click.Path(), metavar="FILE", help="write the picture of an image or page")
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
@loading_options
@_reading_options
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
def index(dpi: int, password: str | None, encoding: str | None, **options: Any) -> int:
    """Index files and folders, and remove what they no longer have."""
    from qdrant_polyvec.commands import indexing
    from qdrant_polyvec.files import Reading

    return indexing.index(reading=Reading(dpi=dpi, password=password, encoding=encoding), **options)


@command("search")
@click.argument("query", required=False)
@_collection_options
@_stored_model_option
@loading_options
@_pdf_options
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
@click.option("--show", type=click.IntRange(min=1), metavar="RANK", help="print the result of this rank whole")
@_save_option
@click.option("--explain", type=click.Path(), metavar="PNG", help="draw where the best image among the results matches")
def search(query: str | None, image: str | None, dpi: int, password: str | None, **options: Any) -> int:
    """Search for the text QUERY or for an image. The exit code is 1 if nothing is found."""
    if (query is None) == (image is None):
        raise click.UsageError("search for a QUERY or for an --image, one of them")
    if image and options["explain"]:
        raise click.UsageError("--explain shows the words of a QUERY; it cannot be used with --image")
    if options["show"] is not None and options["show"] > options["limit"]:
        raise click.UsageError(f"--show is {options['show']}; it must be at most --limit, which is {options['limit']}")
    if options["save"] and options["show"] is None:
        raise click.UsageError("--save goes with --show: the picture of which result?")
    if options["candidates"] is not None:
        if options["mode"] not in ("two-stage", "hybrid"):
            raise click.UsageError(f"--candidates goes with --mode two-stage or hybrid, not {options['mode']}")
        if options["candidates"] < options["limit"]:
            raise click.UsageError(
                f"--candidates is {options['candidates']}; it must be at least --limit, which is {options['limit']}"
            )
    from qdrant_polyvec.commands import work
    from qdrant_polyvec.files import Reading

    reading = Reading(dpi=dpi, password=password)
    return work.search(query=Path(image) if image else query or "", reading=reading, **options)


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
@loading_options
@_reading_options
@_schema_options
@click.option("--keep-old", is_flag=True, help="keep the old collection under its own name")
def reindex(dpi: int, password: str | None, encoding: str | None, **options: Any) -> int:
    """Encode everything again with another model, and exchange the collections."""
    from qdrant_polyvec.commands import work
    from qdrant_polyvec.files import Reading

    return work.reindex(reading=Reading(dpi=dpi, password=password, encoding=encoding), **options)


@command("info")
@_collection_options
def info(**options: Any) -> int:
    """Say what made an index, what it holds, and how much room it takes."""
    from qdrant_polyvec.commands import stored

    return stored.info(**options)


@command("list")
@location_option()
@click.option("--collection", help="list the sources of this collection (default: list the collections)")
@json_option()
def list_collections(**options: Any) -> int:
    """List the collections of an index, or the sources of one."""
    from qdrant_polyvec.commands import stored

    return stored.list_collections(**options)


@command("show")
@click.argument("item", metavar="ITEM")
@_collection_options
@_save_option
@_pdf_options
def show(dpi: int, password: str | None, **options: Any) -> int:
    """Show an ITEM whole: an id, or SOURCE[:UNIT] as `search` shows it."""
    from qdrant_polyvec.commands import stored
    from qdrant_polyvec.files import Reading

    return stored.show(reading=Reading(dpi=dpi, password=password), **options)


@command("delete")
@_collection_options
@click.option("--id", "ids", multiple=True, metavar="ID", help="of an item; repeatable")
@click.option("--source", "sources", multiple=True, metavar="SOURCE", help="all items of a source; repeatable")
@click.option("--yes", is_flag=True, help="do not ask")
def delete(ids: Sequence[str], sources: Sequence[str], **options: Any) -> int:
    """Delete items from an index. Files stay."""
    if not ids and not sources:
        raise click.UsageError("say what to delete, with --id or --source")
    from qdrant_polyvec.commands import stored

    return stored.delete(ids=ids, sources=sources, **options)


@command("copy")
@_collection_options
@click.option("--to", required=True, type=click.Path(), metavar="LOCATION", help="folder or URL that gets the copy")
@click.option("--to-collection", metavar="NAME", help="name of the copy (default: the same)")
def copy(**options: Any) -> int:
    """Copy an index with its vectors; nothing is encoded."""
    from qdrant_polyvec.commands import stored

    return stored.copy(**options)
