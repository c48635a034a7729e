"""The command `polyvec data pages`; see `polyvec.data.building.questions.pages`."""

import importlib
import sys
from pathlib import Path
from typing import Any

import click

import polyvec
from polyvec.cli import command, model_option, weights_options
from polyvec.data.building.commands import build, dataset_options
from polyvec.data.building.questions.calls import Usage
from polyvec.data.building.questions.cost import Cost
from polyvec.data.building.questions.models import asked
from polyvec.data.building.questions.pages import MAX_PIXELS, pages
from polyvec.data.building.questions.prompts import KINDS, PROMPTS, read_prompts
from polyvec.terminal import echo

__all__ = ["pages_command"]

_EPILOG = """
MODULE:NAME is a function that takes an image (PIL) and a prompt and returns a text, a chat model of LangChain, or an
LLM of LlamaIndex. MODULE may be a file of the current folder: my_model:ask is ask in my_model.py. All answers are kept
in a file, so that a run that was stopped goes on where it was, and the same run a second time makes no calls.
"""


@command("pages", epilog=_EPILOG, short_help="Let a model write queries for the pages of PDF and image files.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILES_OR_FOLDERS...")
@click.option("--ask", "place", required=True, metavar="MODULE:NAME", help="the model that writes the queries")
@click.option("--ask-name", metavar="NAME", help="of the model; another name asks again")
@click.option("--kind", "kinds", multiple=True, default=KINDS, metavar="KIND", help="of queries; repeat it for several")
@click.option("--language", default="en", metavar="CODE", help="of queries (ISO 639)")
@click.option("--page-language", metavar="CODE", help="of the pages, for the dataset (default: as their text tells)")
@click.option("-n", "n", type=click.IntRange(min=1), default=1, help="queries of each kind and page")
@click.option("--prompts", type=click.Path(path_type=Path), metavar="FILE", help="TOML with prompts by kind")
@click.option("--verify/--no-verify", default=True, help="ask in a second call whether the page answers the query")
@model_option(help="reject queries that fit many pages, as this model sees it: 'demo', a directory or a hub id")
@weights_options
@click.option(
    "--max-other-pages", type=click.IntRange(min=0), default=10, help="that may fit a query as well, with --model"
)
@click.option("--dpi", type=click.FloatRange(min=1), default=150, help="resolution of pages of PDF files")
@click.option("--max-pixels", type=click.IntRange(min=10_000), default=MAX_PIXELS, help="of the picture in a call")
@click.option(
    "--cache", type=click.Path(path_type=Path), metavar="FILE", help="keeps answers (default: OUTPUT.answers.sqlite)"
)
@click.option("--workers", type=click.IntRange(min=1), default=1, help="calls at a time")
@click.option("--timeout", type=click.FloatRange(min=0), default=120, help="seconds for a call; 0 for no limit")
@click.option("--retries", type=click.IntRange(min=0), default=2, help="more tries if the model is busy")
@click.option("--max-failures", type=click.IntRange(min=1), default=10, help="in a row, then the run stops")
@click.option("--dry-run", is_flag=True, help="print what a run would cost, and stop")
@dataset_options
def pages_command(
    paths: tuple[Path, ...],
    place: str,
    ask_name: str | None,
    prompts: Path | None,
    cache: Path | None,
    model: str | None,
    device: Any,
    dtype: Any,
    revision: str | None,
    token_budget: int | None,
    timeout: float,
    kinds: tuple[str, ...],
    language: str,
    n: int,
    page_language: str | None,
    max_other_pages: int,
    dpi: float,
    max_pixels: int,
    workers: int,
    retries: int,
    max_failures: int,
    *,
    verify: bool,
    dry_run: bool,
    output: Path,
    **about: Any,
) -> int:
    """Build a dataset: the pages of PDF and image files, with queries that a model writes and that are checked.

    Rejected are queries that are empty, refused, broken JSON, too short or long, in the wrong language, duplicates, or
    speak of "this page"; those that the page does not answer; and, with --model, those that fit many pages.
    """
    material = pages(
        paths,
        ask=_imported(place),
        name=ask_name,
        kinds=kinds,
        language=language,
        n=n,
        prompts=PROMPTS if prompts is None else read_prompts(prompts),
        verify=verify,
        encoder=None
        if model is None or dry_run
        else polyvec.Embedder.from_pretrained(
            model, revision=revision, device=device, dtype=dtype, token_budget=token_budget
        ),
        max_other_pages=max_other_pages,
        page_language=page_language,
        dpi=dpi,
        max_pixels=max_pixels,
        cache=cache or output.with_name(f"{output.name}.answers.sqlite"),
        workers=workers,
        timeout=timeout or None,
        retries=retries,
        max_failures=max_failures,
        show_progress=True,
    )
    echo(_before(material.cost()))
    if dry_run:
        return 0
    try:
        return build(material, output=output, notes=material.notes, reads=paths, show_progress=False, **about)
    finally:
        echo(_after(material.usage))


def _imported(place: str) -> Any:  # of frameworks that may not be installed
    module, _, name = place.partition(":")
    if not name:
        raise click.BadParameter(f"{place!r} names nothing in a module; give one such as my_model:ask.")
    sys.path.insert(0, str(Path.cwd()))
    try:
        model = getattr(importlib.import_module(module), name)
        asked(model)
    except (ModuleNotFoundError, AttributeError, TypeError) as error:
        raise click.BadParameter(f"{place!r} cannot be used: {error}") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    return model


def _before(cost: Cost) -> str:
    calls = f"{cost.least}" if cost.least == cost.most else f"{cost.least} to {cost.most}"
    return f"files: {cost.n_files}, pages: {cost.n_pages}; calls to make: {calls}; answers in the cache: {cost.cached}"


def _after(usage: Usage) -> str:
    per_call = f", {usage.seconds / usage.calls:.2f} s each" if usage.calls else ""
    told = usage.input_tokens or usage.output_tokens
    tokens = f"{usage.input_tokens} in, {usage.output_tokens} out" if told else "not told"
    return (
        f"calls: {usage.calls}{per_call} (failed: {usage.failures}, tried again: {usage.retries}); "
        f"answers from the cache: {usage.cached}; tokens: {tokens}"
    )
