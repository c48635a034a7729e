"""The commands `polyvec data code`, `documentation` and `python`."""

import platform
from pathlib import Path
from typing import Literal, TypedDict, Unpack, get_args

import click

from polyvec.cli import command
from polyvec.data.building.code.documentation import articles_in, questions
from polyvec.data.building.code.functions import functions_of, module_files
from polyvec.data.building.code.installed import Part, installed_modules, licences, part_of
from polyvec.data.building.code.pairs import code_to_description, description_to_code
from polyvec.data.building.code.real import KINDS, Kind, python_material
from polyvec.data.building.code.text_pages import as_pages
from polyvec.data.building.code.variants import code_to_code
from polyvec.data.building.commands import build, dataset_options
from polyvec.data.building.material import Source

__all__ = ["code_command", "documentation_command", "python_command"]

CodeKind = Literal["description-to-code", "code-to-description", "code-to-code"]


class Written(TypedDict):
    """What `build` takes."""

    output: Path
    name: str | None
    source: str
    licence: str
    domain: str
    overwrite: bool


_material = click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FOLDER...")


@command("code", short_help="Functions and their descriptions, or functions that do the same.")
@_material
@click.option(
    "--kind", type=click.Choice(get_args(CodeKind)), default="description-to-code", help="queries to documents"
)
@click.option("--tests", is_flag=True, help="use test files and test functions, too")
@click.option("--most-alike", default=3, help="functions that may share one description, or one body")
@click.option("--seed", default=0, help="of new names and rewrites")
@click.option("--language", default="", help="of the descriptions, such as en")
@dataset_options
def code_command(
    folders: tuple[Path, ...],
    kind: CodeKind,
    *,
    tests: bool,
    most_alike: int,
    seed: int,
    language: str,
    **written: Unpack[Written],
) -> int:
    """Build a dataset from the Python files of FOLDERs.

    A function is described by the first paragraph of its docstring, or by the comment above it. Neither is part of its
    code. For code-to-code, each function is searched for by its code; what is found does the same under other names
    (renamed), and in other words, too (rewritten). Other languages than Python are not read.
    """
    functions = functions_of(module_files(folders), tests=tests)
    material: Source
    if kind == "code-to-code":
        material = code_to_code(functions, seed=seed)
        note = "Queries are functions. Documents are variants of them that do the same: renamed, and rewritten."
    else:
        make = description_to_code if kind == "description-to-code" else code_to_description
        material = make(functions, most_alike=most_alike, language=language)
        note = "Descriptions are first paragraphs of docstrings, or comments above functions; code is without them."
    return build(material, **written, notes=(note,), reads=folders)


@command("documentation", short_help="Questions of Markdown and reST files and the sections that answer them.")
@_material
@click.option("--headings", is_flag=True, help="use headings that are no questions, too")
@click.option("--pages", is_flag=True, help="draw the sections as images of pages")
@click.option("--language", default="", help="of the files, such as en")
@dataset_options
def documentation_command(
    folders: tuple[Path, ...], *, headings: bool, pages: bool, language: str, **written: Unpack[Written]
) -> int:
    """Build a dataset from the Markdown and reST files of FOLDERs.

    A heading that is a question ("Why …?", "How to …") is a query, and its section is the document.
    """
    material: Source = questions(articles_in(folders), headings=headings, language=language)
    notes = ("Queries are headings of technical documentation, documents are the sections below them.",)
    return build(as_pages(material) if pages else material, **written, notes=notes, reads=folders)


@command("python", short_help="Real data from the standard library and installed packages, in two parts.")
@click.option("--part", type=click.Choice(get_args(Part)), required=True, help="which of the two parts")
@click.option("--kind", type=click.Choice(KINDS), default="description-to-code", help="queries to documents")
@click.option("--packages", is_flag=True, help="use the installed packages, too")
@click.option("--only", multiple=True, metavar="MODULE", help="top-level module to use; repeat it for several")
@dataset_options
def python_command(*, part: Part, kind: Kind, packages: bool, only: tuple[str, ...], **written: Unpack[Written]) -> int:
    """Build a dataset from what this Python has: functions, docstrings and descriptions of packages.

    Modules are in one part or the other by a digest of their names. What the part for training shares with the held-out
    part, or nearly shares, is left out of it.
    """
    modules = {file.name.partition(".")[0] for file in installed_modules(packages=packages, only=only)}
    by_licence = licences({module for module in modules if part_of(module) == part})
    named = "; ".join(f"{licence}: {', '.join(names)}" for licence, names in sorted(by_licence.items()))
    notes = (
        f"The {part} part of Python {platform.python_version()} ({platform.python_implementation()}). "
        "Modules are in one part or the other by a digest of their top-level name.",
        f"The texts keep the licences of their modules. {named}.",
    )
    filled = {"source": f"Python {platform.python_version()}", "licence": " AND ".join(sorted(by_licence))}
    defaults: Written = {
        **written,
        "source": written["source"] or filled["source"],
        "licence": written["licence"] or filled["licence"],
    }
    return build(python_material(part, kind=kind, packages=packages, only=only), **defaults, notes=notes)
