"""Index files and search them from the command line: `python -m qdrant_polyvec index|search|verify|reindex`."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image
from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import ApiException
from tqdm import tqdm

from polyvec import TASKS, Failure
from qdrant_polyvec import files, fingerprint, items, tables
from qdrant_polyvec.binding import aliased
from qdrant_polyvec.clients import open_client
from qdrant_polyvec.collection import Collection
from qdrant_polyvec.files import Unit
from qdrant_polyvec.fingerprint import Fingerprint
from qdrant_polyvec.hits import Hit
from qdrant_polyvec.items import Identity, Item, Report, derived_id
from qdrant_polyvec.query import MODES
from qdrant_polyvec.schema import PRECISIONS, Schema

DEFAULT_MODEL = "demo"
_KINDS = ("text", "code", "image", "page")
_BATCH = 16  # items at a time: the progress bar moves between them


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
    except (ApiException, ImportError, LookupError, OSError, RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def load_embedder(model: str, device: str | None) -> Any:
    """The model by its name or folder."""
    from polyvec import Embedder  # loading torch takes seconds; wrong usage should not wait for it

    return Embedder.from_pretrained(model, device=device)


def index(options: argparse.Namespace) -> int:
    """Index files and folders, and forget the parts of these files that are no more."""
    found = files.find(options.paths, exclude=options.exclude)
    kind_by_id: dict[Identity, str] = {}
    report = Report()
    if any(isinstance(file, Path) for file in found):
        with _opened(options) as client:
            model = options.model or fingerprint.remembered_model(client, options.collection) or DEFAULT_MODEL
            embedder = load_embedder(model, options.device)
            docs = Collection.open(
                client,
                options.collection,
                embedder=embedder,
                truncate_dim=options.truncate_dim or _truncate_dim(client, options.collection, embedder),
                schema=_schema(options),
            )
            fingerprint.remember_model(client, aliased(client, options.collection), model)
            stream = _items(files.units(tqdm(found, unit="file"), dpi=options.dpi), options.task, kind_by_id)
            report = docs.add(stream, replace_sources=True, batch_size=_BATCH)
            if options.optimize:
                docs.optimize()
    else:
        unreadable = [failure for failure in found if isinstance(failure, Failure)]
        report.failed.extend(items.Failure(failure.index, failure.source, failure.reason) for failure in unreadable)
    return _told(report, kind_by_id, options)


def search(options: argparse.Namespace) -> int:
    """Search, print a table, and explain the best image among the results if asked to."""
    with _existing(options) as client:
        model = options.model or fingerprint.remembered_model(client, options.collection) or DEFAULT_MODEL
        embedder = load_embedder(model, options.device)
        truncate_dim = _truncate_dim(client, options.collection, embedder)
        docs = Collection.open(client, options.collection, embedder=embedder, truncate_dim=truncate_dim)
        query = options.query if options.image is None else Path(options.image)
        tasks = options.task or ["retrieval"]
        hits = docs.search(query, limit=options.limit, mode=options.mode, task=tasks)
        if options.json:
            print(tables.as_json({"query": str(query), "mode": options.mode, "hits": tables.hits_json(hits)}))
        else:
            told = " or ".join(map(repr, tasks))
            print("\n".join(tables.hits(hits)) if hits else f"nothing found for task {told}")
        if options.explain:
            _explain(docs, hits, options)
    return 0


def verify(options: argparse.Namespace) -> int:
    """Look for points that searches cannot find, that another model made, or whose file is gone."""
    with _existing(options) as client:
        docs = Collection.open(client, options.collection, embedder=None)
        there = [source for source in docs.sources() if Path(source).exists()]
        found = docs.verify(sources=there)
    print(tables.as_json(asdict(found)) if options.json else "\n".join(tables.verification(found)))
    return 0 if found.ok else 1


def reindex(options: argparse.Namespace) -> int:
    """Encode everything again with another model, and exchange the collections."""
    with _existing(options) as client:
        docs = Collection.open(client, options.collection, embedder=None)
        report = docs.reindex(
            load_embedder(options.model, options.device),
            truncate_dim=options.truncate_dim,
            schema=_schema(options),
            load=lambda source, unit: files.load(source, unit, dpi=options.dpi),
            keep_old=options.keep_old,
            show_progress=True,
        )
        if not report.failed:
            fingerprint.remember_model(client, aliased(client, options.collection), options.model)
    return _told(report, {}, options)


@contextlib.contextmanager
def _opened(options: argparse.Namespace) -> Iterator[QdrantClient]:
    key = os.environ.get("QDRANT_API_KEY")
    server = {"api_key": key} if key and "://" in options.location else {}
    with contextlib.closing(open_client(options.location, **server)) as client:
        yield client


@contextlib.contextmanager
def _existing(options: argparse.Namespace) -> Iterator[QdrantClient]:
    """The client, once the collection is known to be there; nothing is created."""
    if "://" not in options.location and not Path(options.location).is_dir():
        raise ValueError(f"there is no index in {options.location!r}; make one with the command `index`")
    with _opened(options) as client:
        if not client.collection_exists(options.collection):
            raise ValueError(f"there is no collection {options.collection!r} in {options.location!r}")
        yield client


def _truncate_dim(client: QdrantClient, name: str, embedder: Any) -> int | None:
    """What an existing collection was made with."""
    if not client.collection_exists(name):
        return None
    dim = Fingerprint.stored(name, client.get_collection(name).config.metadata).dense
    return dim if dim < embedder.dim else None


def _schema(options: argparse.Namespace) -> Schema | None:
    """As asked for; None leaves it to the collection."""
    given = {"late": options.late, "pooled": options.pooled or None, "bm25": options.bm25}
    wanted: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return Schema(**wanted) if wanted else None


def _items(units: Iterator[Unit | Failure], task: str, kind_by_id: dict[Identity, str]) -> Iterator[Item | Failure]:
    for unit in units:
        if isinstance(unit, Failure):
            yield unit
            continue
        of_task = unit.task if task == "auto" else task
        identity = derived_id(unit.source, unit.unit, of_task)
        kind_by_id[identity] = _kind(unit)
        yield Item(unit.content, id=identity, source=unit.source, unit=unit.unit, task=of_task, text=unit.text)


def _kind(unit: Unit) -> str:
    if isinstance(unit.content, Image.Image):
        return "page"
    if isinstance(unit.content, Path):
        return "image"
    return "code" if unit.task == "code" else "text"


def _told(report: Report, kind_by_id: dict[Identity, str], options: argparse.Namespace) -> int:
    """Print what became of the items; the exit code."""
    if options.json:
        print(tables.as_json(tables.report_json(report)))
    else:
        by_kind = {kind: Report() for kind in (*_KINDS, "other")}
        for name in ("ok", "skipped", "removed"):
            for identity in getattr(report, name):
                getattr(by_kind[kind_by_id.get(identity, "other")], name).append(identity)
        for failure in report.failed:
            by_kind[kind_by_id.get(failure.id or "", "other")].failed.append(failure)
            print(f"failed: {failure.source}: {failure.reason}", file=sys.stderr)
        shown = {kind: one for kind, one in by_kind.items() if any((one.ok, one.skipped, one.removed, one.failed))}
        print("\n".join(tables.summary(shown)))
    return 1 if report.failed else 0


def _explain(docs: Collection, hits: Sequence[Hit], options: argparse.Namespace) -> None:
    best = next((hit for hit in hits if hit.kind == "image"), None)
    if best is None:
        print("none of the results is an image; there is nothing to explain", file=sys.stderr)
        return
    from polyvec.explain import overlay, similarity_map  # draws images, which no other command does
    from polyvec.images import open_image

    embedder: Any = docs.embedder  # an Embedder; the Encoder protocol has no tokens
    query = embedder.encode_query([options.query], task=best.task, multivector=True).multivector[0]
    stored = docs.embeddings([best.id], multivector=True)[best.id]
    if stored.multivector is None or stored.grids[0] is None:
        raise ValueError(f"the index does not say where the patches of {best.source!r} are; index it again")
    maps = similarity_map(query, stored.multivector[0], stored.grids[0])
    words = embedder.tokens(options.query, task=best.task, side="query")
    picture = open_image(files.load(best.source, best.unit))
    overlay(picture, similarity=maps, tokens=words).save(options.explain)
    place = best.source if best.unit == "image" else f"{best.source}:{best.unit}"
    print(f"how {place} matches each word: {options.explain}", file=sys.stderr if options.json else sys.stdout)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m qdrant_polyvec",
        description=__doc__,
        epilog="Exit codes: 0 all went well, 1 something failed, 2 wrong usage. A server's key is read from the "
        "environment variable QDRANT_API_KEY.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--location", default="./index", help="folder or server URL (default: %(default)s)")
    common.add_argument("--collection", default="docs", help="name of the collection (default: %(default)s)")
    common.add_argument("--json", action="store_true", help="print JSON instead of a table")

    encoding = argparse.ArgumentParser(add_help=False)
    encoding.add_argument("--device", help="such as cpu or cuda (default: the first accelerator, else the CPU)")
    encoding.add_argument("--dpi", type=_positive, default=150, help="of PDF pages (default: %(default)s)")

    making = argparse.ArgumentParser(add_help=False)
    making.add_argument("--truncate-dim", type=_positive, help="length of the dense vectors, if shorter than full")
    making.add_argument("--late", choices=PRECISIONS, help="how multi-vectors are stored (default: float16)")
    making.add_argument("--pooled", action="store_true", help="keep means of page rows and columns, too")
    making.add_argument("--bm25", metavar="LANGUAGE", help="keep BM25 vectors for mode hybrid, for example english")

    model_help = f"checkpoint (default: the one the index was made with, else {DEFAULT_MODEL!r})"
    indexing = commands.add_parser("index", parents=[common, encoding, making], help="index files and folders")
    indexing.add_argument("paths", nargs="+", metavar="PATH", help="file or folder")
    indexing.add_argument("--model", help=model_help)
    indexing.add_argument(
        "--task", choices=["auto", *TASKS], default="auto", help="auto: code for code files, else retrieval"
    )
    indexing.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN", help="leave out, as in .gitignore; repeatable"
    )
    indexing.add_argument("--optimize", action="store_true", help="build the search graph of a folder afterwards")
    indexing.set_defaults(run=index)

    searching = commands.add_parser("search", parents=[common, encoding], help="search by a text or an image")
    searching.add_argument("query", nargs="?", metavar="QUERY", help="text to search for")
    searching.add_argument("--image", metavar="FILE", help="image to search for, instead of a text")
    searching.add_argument("--model", help=model_help)
    searching.add_argument(
        "--task", choices=TASKS, action="append", help="repeatable: rankings are merged (default: retrieval)"
    )
    searching.add_argument("--mode", choices=MODES, default="two-stage", help="(default: %(default)s)")
    searching.add_argument("--limit", type=_positive, default=5, help="how many results (default: %(default)s)")
    searching.add_argument("--explain", metavar="PNG", help="draw where the best image among the results matches")
    searching.set_defaults(run=search)

    verifying = commands.add_parser("verify", parents=[common], help="look for damage and for files that are gone")
    verifying.set_defaults(run=verify)

    again = commands.add_parser(
        "reindex", parents=[common, encoding, making], help="encode everything again with another model"
    )
    again.add_argument("--model", required=True, help="the new checkpoint")
    again.add_argument("--keep-old", action="store_true", help="keep the old collection under its own name")
    again.set_defaults(run=reindex)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number


if __name__ == "__main__":
    sys.exit(main())
