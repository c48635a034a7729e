"""The command `polyvec evaluate FOLDER`; see `polyvec.evaluate.searches`."""

import importlib
import importlib.util
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import click
from click.core import ParameterSource

from polyvec.cli import command, json_option, loading_options, location_option, model_option, print_json
from polyvec.data.datasets import Dataset
from polyvec.data.folders import read_folder
from polyvec.encoder import Encoder
from polyvec.encoders.cached import CachedEncoder
from polyvec.evaluate.metrics import measure
from polyvec.evaluate.report.comparison_report import comparison_report
from polyvec.evaluate.report.run_report import WORST, run_report
from polyvec.evaluate.results import compare_runs, results, uncompared
from polyvec.evaluate.run_tables import comparison_json, comparison_text, result_json, result_text
from polyvec.evaluate.runs import Run
from polyvec.evaluate.searches import MODES, EvaluateMode, evaluate, evaluate_search
from polyvec.evaluate.storage import POOL_FACTORS
from polyvec.loading import load_embedder
from polyvec.search import open_search
from polyvec.terminal import echo
from polyvec.types import Input
from polyvec.whole_files import check_replaceable, write_text

__all__ = ["EvaluatedFolder", "evaluate_command", "evaluate_folder", "print_comparison"]

_EPILOG = """
FOLDER is a dataset in the layout of BEIR (corpus.jsonl, queries.jsonl, qrels/test.tsv), Parquet files with the columns
of ViDoRe, Jina-VDR or mteb, or PDF files with a CSV file that has the columns question, file and page, and if you like
id, score, language, kind and page_language.
"""


@dataclass(frozen=True, slots=True, eq=False)
class EvaluatedFolder:
    """A folder's dataset, its run, and what a report can ask for more.

    Attributes:
        encoder: that of the run, still open; None for a collection.
        tokens: names the rows of a query's multi-vector.
    """

    dataset: Dataset
    run: Run
    encoder: Encoder | None = None
    tokens: Callable[[str], Sequence[str]] | None = None


@contextmanager
def evaluate_folder(
    folder: Path,
    *,
    model: str | None,
    adapters: Mapping[str, Path],
    task: str,
    mode: str,
    ks: Sequence[int],
    depth: int,
    language: str | None,
    limit: int | None,
    dpi: float,
    candidates: int,
    storage: bool,
    baselines: bool,
    read_pages: str | None,
    cache: Path | None,
    collection: str | None,
    location: str,
    **loading: Any,
) -> Iterator[EvaluatedFolder]:
    """Search a folder's dataset with a model or in a collection. The encoder is open as long as the context.

    `loading` has options of `Embedder.from_pretrained`.
    """
    depth = max(depth, max(ks) + 1)  # one more than the last cut, to see a tie there
    dataset = read_folder(folder, language=language, limit=limit)
    measure(dataset.qrels, {}, ks=ks)  # refuses grades, and says what is not installed, before anything is encoded
    noted = {"adapters": ", ".join(f"{name}={path}" for name, path in adapters.items())} if adapters else {}
    settings = {"model": model or "demo", **noted}
    if collection is not None:
        if mode == "all":
            raise ValueError("`--mode all` needs a folder alone; name the mode of a collection's search.")
        with open_search(location, collection, model=model, adapters=adapters, **loading) as search:
            settings["model"] = model or "that of the collection"
            choice = f"collection {collection!r}"
            run = evaluate_search(search, dataset, mode=mode, task=task, choice=choice, depth=depth, settings=settings)
        yield EvaluatedFolder(dataset, run)
        return
    embedder = load_embedder(model or "demo", adapters=adapters, only=task, **loading)
    encoder: Encoder = embedder
    with ExitStack() as opened:
        if cache is not None:
            encoder = opened.enter_context(CachedEncoder(encoder, cache))
        has_scipy = importlib.util.find_spec("scipy") is not None
        run = evaluate(
            encoder,
            dataset,
            task=task,
            modes=None if mode == "all" else [cast("EvaluateMode", mode)],
            storage=storage,
            pool_factors=POOL_FACTORS if has_scipy else (),
            baselines=baselines,
            read_page=_function(read_pages),
            candidates=candidates,
            depth=depth,
            dpi=dpi,
            settings=settings,
            show_progress=True,
        )
        if storage and mode != "dense" and encoder.multivector_dim and not has_scipy:
            note = "There are no rows of pooled tokens, because scipy is not installed: pip install 'polyvec[pooling]'."
            run = replace(run, notes=[*run.notes, note])
        yield EvaluatedFolder(dataset, run, encoder, partial(embedder.tokens, task=task, side="query"))


def print_comparison(
    paths: Sequence[Path],
    ks: Sequence[int],
    *,
    json: bool,
    markdown: bool,
    html: Path | None = None,
    dataset: Dataset | None = None,
    n_worst: int = WORST,
) -> None:
    """Print how the second of two runs differs from the first, and write the report if it has a name."""
    first, second = map(Run.load, paths)
    comparisons, alone = compare_runs(first, second, ks=ks), uncompared(first, second)
    if json:
        print_json(comparison_json(comparisons, alone))
    else:
        echo(*comparison_text(comparisons, alone, markdown=markdown).split("\n"))
    if html is not None:
        names = tuple(str(path) for path in paths)
        text = comparison_report(first, second, comparisons, names=names, dataset=dataset, n_most=n_worst)
        write_text(html, text)


@command("evaluate", epilog=_EPILOG, short_help="Measure searches of your own documents, and what each choice costs.")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@model_option()
@loading_options
@click.option("--task", default="retrieval", metavar="TASK", help="task of queries and documents")
@click.option("--mode", type=click.Choice([*MODES, "all"]), default="all", help="how documents are ranked")
@click.option(
    "--k", "ks", type=click.IntRange(min=1), multiple=True, default=(5, 10), help="cuts; repeat it for several"
)
@click.option("--depth", type=click.IntRange(min=1), default=20, help="documents that are kept of each ranking")
@click.option("--language", metavar="NAME", help="which of several folders of languages, in Parquet")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="at most N queries, and about N documents")
@click.option("--dpi", type=click.FloatRange(min=1), default=150, help="resolution of pages of PDF files")
@click.option("--candidates", type=click.IntRange(min=1), default=100, help="of the first stage of two stages")
@click.option("--storage/--no-storage", default=True, help="try each Matryoshka size and way of storing vectors")
@click.option("--baselines/--no-baselines", default=True, help="add BM25 and dense search over the text of pages")
@click.option("--read-pages", metavar="MODULE:FUNCTION", help="reads an image, for the text of pages; an OCR, say")
@click.option("--cache", type=click.Path(path_type=Path), metavar="FILE", help="keep embeddings in this SQLite file")
@click.option("--collection", metavar="NAME", help="search this collection, in the mode that --mode names")
@location_option()
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="keep the rankings as JSON")
@click.option(
    "--compare",
    nargs=2,
    type=click.Path(path_type=Path),
    metavar="A B",
    help="compare two such files; with --html, FOLDER gives the pictures",
)
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="write a report to open in a browser")
@click.option(
    "--worst",
    type=click.IntRange(min=1),
    default=WORST,
    metavar="N",
    help="queries of a search with pictures in --html",
)
@json_option()
@click.option("--markdown", is_flag=True, help="print tables as Markdown")
def evaluate_command(
    folder: Path | None,
    ks: tuple[int, ...],
    output: Path | None,
    compare: tuple[Path, Path] | None,
    html: Path | None,
    worst: int,
    *,
    as_json: bool,
    markdown: bool,
    **options: Any,
) -> int:
    """Measure searches of the documents in FOLDER: nDCG, recall, MRR and MAP, bytes and milliseconds."""
    if folder is None and compare is None:
        raise click.UsageError("Give either FOLDER or --compare with two files.")
    if html is None:
        _refuse(("worst",), beside="a run without --html")
    _check_written([output, html], [*(compare or ()), options["cache"]])
    if compare is not None:
        if folder is not None and html is None:
            raise click.UsageError("Give either FOLDER or --compare with two files; both only with --html.")
        _refuse((options.keys() | {"output"}) - ({"language"} if folder else set()), beside="--compare")
        dataset = None if folder is None else read_folder(folder, language=options["language"])
        print_comparison(compare, ks, json=as_json, markdown=markdown, html=html, dataset=dataset, n_worst=worst)
        return 0
    assert folder is not None, "checked above"
    if options["collection"] is not None:
        _refuse(("storage", "baselines", "read_pages", "cache", "candidates", "dpi"), beside="--collection")
    else:
        _refuse(("location",), beside="a folder alone; it needs --collection")
    with evaluate_folder(folder, ks=ks, **options) as evaluated:
        dataset, run = evaluated.dataset, evaluated.run
        found = results(run, ks=ks)
        if as_json:  # before files are written: a full disk loses no results
            print_json(result_json(run, found))
        else:
            echo(*result_text(run, found, markdown=markdown).split("\n"))
        if output is not None:
            run.save(output)
        if html is not None:
            text = run_report(
                run,
                found,
                dataset=dataset,
                encoder=evaluated.encoder,
                tokens=evaluated.tokens,
                n_worst=worst,
                dpi=options["dpi"],
            )
            write_text(html, text)
    return int(len(run.left_out) > len(dataset.left_out))


def _check_written(written: Sequence[Path | None], others: Sequence[Path | None]) -> None:
    """Refuse files that cannot be written, or that the command reads or writes as something else, too."""
    paths = [path for path in written if path is not None]
    for path in paths:
        check_replaceable(path)
        if path.is_file() or not path.exists():
            names = [other.resolve() for other in (*paths, *others) if other is not None]
            if names.count(path.resolve()) > 1:
                raise click.UsageError(f"{str(path)!r} is named twice; give each file its own name.")


def _refuse(names: Container[str], *, beside: str) -> None:
    """Refuse options that nothing obeys."""
    ctx = click.get_current_context()
    for parameter in ctx.command.params:
        name = str(parameter.name)
        if name in names and ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[0]} does not go with {beside}.")


def _function(name: str | None) -> Callable[[Input], str] | None:
    """Import a function by `module:function`."""
    if name is None:
        return None
    module, _, attribute = name.partition(":")
    function = getattr(importlib.import_module(module), attribute, None) if attribute else None
    if not callable(function):
        raise click.BadParameter(f"{name!r} names no function; give one such as my_ocr:read.")
    return cast("Callable[[Input], str]", function)
