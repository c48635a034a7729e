"""Index files and search them from the command line: `python -m qdrant_polyvec index|search`."""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qdrant_client.http.exceptions import ApiException

from polyvec.images import open_image
from polyvec.types import TASKS, Task
from qdrant_polyvec import fingerprint
from qdrant_polyvec.collection import Collection, Hit, Report
from qdrant_polyvec.files import Unit, units
from qdrant_polyvec.items import Identity, derived_id
from qdrant_polyvec.location import open_client
from qdrant_polyvec.query import MODES

DEFAULT_MODEL = "demo"
_WIDTH = 100  # of the table
_PLACE_WIDTH = 40  # of its column for sources


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when all went well, 1 when something failed, 2 (raised by argparse) for wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "search" and (options.query is None) == (options.image is None):
        parser.error("search for a QUERY or for an --image, one of them")
    if options.command == "search" and options.explain and options.image:
        parser.error("--explain shows the words of a QUERY; it cannot be used with --image")
    try:
        return int(options.run(options))
    except (ApiException, LookupError, OSError, RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def load_embedder(model: str, device: str | None) -> Any:
    """The model by its name or folder."""
    from polyvec import Embedder  # loading torch takes seconds; wrong usage should not wait for it

    return Embedder.from_pretrained(model, device=device)


def index(options: argparse.Namespace) -> int:
    """Index files and folders, and forget the parts of these files that are no more."""
    found, failed = units(options.paths)
    report = Report(failed=failed)
    n_outdated = 0
    if found:
        with contextlib.closing(open_client(options.location)) as client:
            model = options.model or fingerprint.remembered_model(client, options.collection) or DEFAULT_MODEL
            embedder = load_embedder(model, options.device)
            docs = Collection.open(client, options.collection, embedder=embedder)
            fingerprint.remember_model(client, options.collection, model)
            for task in TASKS:
                of_task = [unit for unit in found if task == (unit.task if options.task == "auto" else options.task)]
                n_outdated += _index_task(docs, of_task, task, report)
    for failure in report.failed:
        print(f"failed: {failure.source}: {failure.error}", file=sys.stderr)
    outdated = f", {n_outdated} outdated removed" if n_outdated else ""
    print(f"{len(report.ok)} indexed, {len(report.skipped)} unchanged, {len(report.failed)} failed{outdated}")
    return 1 if report.failed else 0


def search(options: argparse.Namespace) -> int:
    """Search, print a table, and explain the best image among the results if asked to."""
    if "://" not in options.location and not Path(options.location).is_dir():
        raise ValueError(f"there is no index in {options.location!r}; make one with the command `index`")
    with contextlib.closing(open_client(options.location)) as client:
        if not client.collection_exists(options.collection):
            raise ValueError(f"there is no collection {options.collection!r} in {options.location!r}")
        model = options.model or fingerprint.remembered_model(client, options.collection) or DEFAULT_MODEL
        embedder = load_embedder(model, options.device)
        docs = Collection.open(client, options.collection, embedder=embedder)
        query = options.query if options.image is None else Path(options.image)
        hits = docs.search(query, limit=options.limit, mode=options.mode, task=options.task)
        print("\n".join(_table(hits)) if hits else f"nothing found for task {options.task!r}")
        if options.explain:
            _explain(docs, hits, options)
    return 0


def _index_task(docs: Collection, of_task: Sequence[Unit], task: Task, report: Report) -> int:
    added = docs.add(
        [unit.content for unit in of_task],
        task=task,
        sources=[unit.source for unit in of_task],
        units=[unit.unit for unit in of_task],
        show_progress=bool(of_task),
    )
    report.ok.extend(added.ok)
    report.skipped.extend(added.skipped)
    report.failed.extend(added.failed)
    ids_by_source: dict[str, list[Identity]] = {}
    for unit in of_task:
        ids_by_source.setdefault(unit.source, []).append(derived_id(unit.source, unit.unit, task))
    return sum(docs.delete(sources=[source], task=task, keep=ids) for source, ids in ids_by_source.items())


def _table(hits: Sequence[Hit]) -> list[str]:
    places = [f"{hit.source}:{hit.unit}" if hit.unit else hit.source for hit in hits]
    place_width = min(max(map(len, places)), _PLACE_WIDTH)
    rows = []
    for rank, (hit, place) in enumerate(zip(hits, places, strict=True), start=1):
        shown = place if len(place) <= place_width else "…" + place[1 - place_width :]
        snippet = " ".join(hit.content.split()) if hit.kind == "text" else "(image)"
        rows.append(f"{rank:>4}  {hit.score:>8.3f}  {hit.task:<13}  {shown:<{place_width}}  {snippet}")
    head = f"{'rank':>4}  {'score':>8}  {'task':<13}  {'source':<{place_width}}  content"
    return [row if len(row) <= _WIDTH else row[: _WIDTH - 1] + "…" for row in [head, *rows]]


def _explain(docs: Collection, hits: Sequence[Hit], options: argparse.Namespace) -> None:
    best = next((hit for hit in hits if hit.kind == "image"), None)
    if best is None:
        print("none of the results is an image; there is nothing to explain", file=sys.stderr)
        return
    from polyvec.explain import overlay, similarity_map  # draws images, which no other command does

    embedder: Any = docs.embedder  # an Embedder; the Encoder protocol has no tokens
    query = embedder.encode_query([options.query], task=options.task, multivector=True).multivector[0]
    document, grid = docs.multivector(best.id)
    if grid is None:
        raise ValueError(f"the index does not say where the patches of {best.source!r} are; index it again")
    maps = similarity_map(query, document, grid)
    words = embedder.tokens(options.query, task=options.task, prompt_name="query")
    overlay(open_image(Path(best.source)), similarity=maps, tokens=words).save(options.explain)
    print(f"how {best.source} matches each word: {options.explain}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m qdrant_polyvec", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--location", default="./index", help="folder or server URL (default: %(default)s)")
    common.add_argument("--collection", default="docs", help="name of the collection (default: %(default)s)")
    common.add_argument(
        "--model", help=f"checkpoint (default: the one the index was made with, else {DEFAULT_MODEL!r})"
    )
    common.add_argument("--device", help="such as cpu or cuda (default: the first accelerator, else the CPU)")

    indexing = commands.add_parser("index", parents=[common], help="index files and folders")
    indexing.add_argument("paths", nargs="+", metavar="PATH", help="file or folder")
    indexing.add_argument(
        "--task", choices=["auto", *TASKS], default="auto", help="auto: code for Python files, else retrieval"
    )
    indexing.set_defaults(run=index)

    searching = commands.add_parser("search", parents=[common], help="search by a text or an image")
    searching.add_argument("query", nargs="?", metavar="QUERY", help="text to search for")
    searching.add_argument("--image", metavar="FILE", help="image to search for, instead of a text")
    searching.add_argument("--task", choices=TASKS, default="retrieval", help="(default: %(default)s)")
    searching.add_argument("--mode", choices=MODES, default="two-stage", help="(default: %(default)s)")
    searching.add_argument("--limit", type=_positive, default=5, help="how many results (default: %(default)s)")
    searching.add_argument("--explain", metavar="PNG", help="draw where the best image among the results matches")
    searching.set_defaults(run=search)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number


if __name__ == "__main__":
    sys.exit(main())
