"""The command `polyvec data tables`."""

from pathlib import Path
from typing import Any, get_args

import click

from polyvec.cli import command
from polyvec.data.building.commands import build, dataset_options
from polyvec.data.building.tables.sheets import Form

__all__ = ["tables_command"]

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@command("tables", short_help="Draw tables as charts, pages, forms and listings, with queries.")
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE…")
@click.option(
    "--render", multiple=True, type=click.Choice(get_args(Form)), help="forms of documents (default: what fits)"
)
@click.option("--language", "languages", multiple=True, default=("en",), metavar="CODE", help="of queries; several")
@click.option("--page-language", default="en", metavar="CODE", help="of titles and labels on pages")
@click.option("--label", metavar="COLUMN", help="what names the rows")
@click.option("--value", "values", multiple=True, metavar="COLUMN", help="numbers that count; several (default: all)")
@click.option("--date", metavar="COLUMN", help="dates of the rows")
@click.option("--group-by", metavar="COLUMN", help="what divides the table into subjects")
@click.option("--decimal", type=click.Choice([".", ","]), help="decimal mark, if numbers may be read in two ways")
@click.option("--rows", type=int, help="most rows on a page")
@click.option("--title", help="of tables without groups (default: name of the file)")
@click.option("--encoding", default="utf-8", help="of text files")
@click.option("--templates", type=_FILE, help="own wordings, as TOML")
@click.option("--font", "fonts", multiple=True, type=_FILE, help="font for the pages; several")
@click.option("--queries", type=int, default=2, help="most per document and language")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="of queries; several (default: all)")
@click.option("--max-answers", type=int, default=10, help="reject queries that more documents answer")
@click.option("--limit", type=int, help="most documents")
@click.option("--seed", type=int, default=0, help="decides looks and choices")
@dataset_options
def tables_command(**options: Any) -> int:  # Any: click's values
    """Draw the rows of CSV, TSV and Parquet files as images, and ask about them.

    Columns are told by their cells: numbers, dates, names, groups. Queries come from templates, and have exactly those
    documents as answers that say what they ask for.
    """
    from polyvec.data.building.tables.source import material

    about = {name: options.pop(name) for name in ("output", "name", "source", "licence", "domain", "overwrite")}
    files = options.pop("files")
    notes = (
        f"Drawn from {len(files)} tables with seed {options['seed']}. Queries are made from templates; the "
        "documents that answer each are computed from the cells that all documents show.",
    )
    return build(material(files, **options), notes=notes, **about)
