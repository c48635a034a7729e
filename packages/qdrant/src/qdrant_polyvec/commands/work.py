"""Do what the commands say. Their `**loading` goes to `load_embedder`: the device and the dtype."""

import contextlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from qdrant_client import QdrantClient

import polyvec
from polyvec.cli import UserError, print_json, resumable
from polyvec.inputs import check_task
from polyvec.loading import load_embedder
from polyvec.prompts import prefix
from polyvec.terminal import echo
from qdrant_polyvec import bm25, files, fingerprint
from qdrant_polyvec.binding import aliased
from qdrant_polyvec.choices import IndexKind, Mode, Precision
from qdrant_polyvec.clients import open_client
from qdrant_polyvec.collection import Collection
from qdrant_polyvec.commands import parts, tables, whole
from qdrant_polyvec.commands.census import Counts
from qdrant_polyvec.errors import StoreError
from qdrant_polyvec.files import Reading
from qdrant_polyvec.fingerprint import Fingerprint, FingerprintError, Model
from qdrant_polyvec.hits import Hit
from qdrant_polyvec.items import Identity, Report
from qdrant_polyvec.patient import patient
from qdrant_polyvec.retrying import Patience
from qdrant_polyvec.schema import Schema

_DEFAULT_MODEL = "demo"
_LANGUAGE = "english"  # whose stop words are not explained, unless the collection names another language
_KINDS = ("text", "code", "image", "page", "other")


def search(
    *,
    query: str | Path,
    location: str,
    collection: str,
    model: str | None,
    reading: Reading,
    tasks: Sequence[str],
    mode: Mode,
    limit: int,
    candidates: int | None,
    explain: str | None,
    show: int | None,
    save: str | None,
    as_json: bool,
    **loading: Any,
) -> int:
    """Search, print the results or one of them whole, and explain the best image. The exit code is 1 if there is none.

    `show` is the rank of the result to print whole.
    """
    with open_search(location, collection, model=model, tasks=tasks, **loading) as docs:
        hits = docs.search(query, limit=limit, mode=mode, task=tasks, candidates=candidates)
        if show is not None and hits:
            if show > len(hits):
                raise UserError(f"--show is {show}; there are only {len(hits)} results")
            whole.show([hits[show - 1]], save=save, reading=reading, as_json=as_json)
        elif as_json:
            ranked = [{"rank": rank, **asdict(hit)} for rank, hit in enumerate(hits, start=1)]
            print_json({"query": str(query), "mode": mode, "hits": ranked})
        else:
            searched = " or ".join(map(repr, tasks))
            words = query if isinstance(query, str) else ""
            echo(*(tables.hits(hits, words) if hits else [f"nothing found for task {searched}"]))
        if explain and isinstance(query, str):
            _explain(docs, hits, query, explain, reading=reading, as_json=as_json)
    return 0 if hits else 1


def verify(*, location: str, collection: str, delete_leftovers: bool, as_json: bool) -> int:
    """Look for damaged items, items of another model, and items whose file is gone."""
    deleted: list[str] = []
    with existing_client(location, collection) as client:
        docs = Collection.open(client, collection, embedder=None)
        if delete_leftovers:
            deleted = docs.delete_leftovers()
        verification = docs.verify()
        gone = parts.of_gone_files(parts.read(client, collection, with_pictures=True))
        verification = replace(verification, orphans=[identity for ids in gone.values() for identity in ids])
    if as_json:
        of_leftovers = {"deleted": deleted} if delete_leftovers else {}
        print_json(asdict(verification) | {"gone_files": gone} | of_leftovers)
    else:
        echo(*tables.verification(verification, list(gone)), *(f"deleted: {name}" for name in deleted))
    return 0 if verification.ok else 1


def reindex(
    *,
    location: str,
    collection: str,
    model: str,
    adapters: Mapping[str, Path],
    reading: Reading,
    truncate_dim: int | None,
    late: Precision | None,
    pooled: bool,
    bm25: str | None,
    keep_old: bool,
    as_json: bool,
    **loading: Any,
) -> int:
    """Encode everything again with another model, and exchange the collections."""
    with existing_client(location, collection) as client:
        docs = Collection.open(client, collection, embedder=None)
        embedder = load_embedder(model, adapters=adapters, **loading)
        with resumable("what is encoded is kept"):
            report = docs.reindex(
                embedder,
                truncate_dim=truncate_dim,
                schema=schema_of(late, bm25, pooled=pooled),
                load=lambda source, unit: files.load(source, unit, reading=reading),
                keep_old=keep_old,
                on_failure="report",
                show_progress=True,
            )
        if not report.failed:
            fingerprint.remember_model(client, aliased(client, collection), Model.of(model, adapters, loading))
    return print_report(report, {}, as_json=as_json)


@contextlib.contextmanager
def open_search(
    location: str,
    collection: str,
    *,
    model: str | None,
    adapters: Mapping[str, Path] | None = None,
    tasks: Sequence[str] = (),
    **loading: Any,
) -> Iterator[Collection]:
    """Open a collection that exists, to search it with a model, by default the one that it was made with.

    It is the entry point of the group `polyvec.searches`, for `polyvec train mine`.
    """
    with existing_client(location, collection) as client:
        chosen = chosen_model(
            fingerprint.remembered_model(client, collection), collection, model, adapters or {}, loading
        )
        yield open_collection(client, location, collection, chosen, checked_embedder(chosen, tasks, loading))


@contextlib.contextmanager
def connect(location: str) -> Iterator[QdrantClient]:
    try:
        with contextlib.closing(open_client(location)) as client:
            yield patient(client, Patience())
    except (StoreError, RuntimeError) as error:  # the server, the folder's lock, the embedded engine
        raise UserError(str(error)) from error


@contextlib.contextmanager
def existing_location(location: str) -> Iterator[QdrantClient]:
    """Open the client of a location that exists; create nothing."""
    if "://" not in location and not Path(location).is_dir():
        raise ValueError(f"there is no index in {location!r}; make one with the command `index`")
    with connect(location) as client:
        yield client


@contextlib.contextmanager
def existing_client(location: str, collection: str) -> Iterator[QdrantClient]:
    """Open the client of a collection that exists; create nothing."""
    with existing_location(location) as client:
        if not client.collection_exists(collection):
            raise ValueError(f"there is no collection {collection!r} in {location!r}")
        yield client


def is_there(location: str, collection: str) -> bool:
    """True if a collection exists; nothing is created."""
    if "://" not in location and not Path(location).is_dir():
        return False
    with connect(location) as client:
        return client.collection_exists(collection)


def remembered(location: str, collection: str) -> Model | None:
    """What a collection was made with; if there is none, nothing is created."""
    if "://" not in location and not Path(location).is_dir():
        return None
    with connect(location) as client:
        return fingerprint.remembered_model(client, collection)


def chosen_model(
    made: Model | None, collection: str, model: str | None, adapters: Mapping[str, Path], loading: Mapping[str, Any]
) -> Model:
    """The model of the options, and for what they leave open that which a collection was `made` with.

    Its adapters and its options fit its own model alone.
    """
    made = made or Model(_DEFAULT_MODEL, {})
    if model not in (None, made.name):
        made = Model(model or "", {})
    chosen = Model.of(made.name, {**made.adapters, **adapters}, {**made.loading, **_named(loading)})
    for task, path in chosen.adapters.items():
        if not path.is_dir():
            raise ValueError(
                f"collection {collection!r} was made with the adapter {task!r} in {str(path)!r}, and this folder is "
                f"gone: put it back, or say where it is now with --adapter {task}=PATH"
            )
    return chosen


def checked_embedder(chosen: Model, tasks: Sequence[str], loading: Mapping[str, Any]) -> polyvec.Encoder:
    """Load the embedder, and refuse a task that it does not have."""
    embedder = load_embedder(chosen.name, adapters=chosen.adapters, **{**loading, **chosen.loading})
    for task in tasks:
        check_task(task, embedder.tasks)
    return embedder


def open_collection(
    client: QdrantClient,
    location: str,
    collection: str,
    chosen: Model,
    embedder: polyvec.Encoder,
    *,
    truncate_dim: int | None = None,
    schema: Schema | None = None,
) -> Collection:
    """Open a collection, or create it. If it was made with other adapters, the error says how to go on."""
    truncate_dim = truncate_dim or _stored_dim(client, collection, embedder)
    try:
        return Collection.open(client, collection, embedder=embedder, truncate_dim=truncate_dim, schema=schema)
    except FingerprintError as error:
        made = fingerprint.remembered_model(client, collection)
        stored = Fingerprint.stored(collection, client.get_collection(collection).config.metadata)
        if made is None or stored.embedder == embedder.fingerprint or not (made.adapters or chosen.adapters):
            raise
        again = ["reindex", "--location", location, "--collection", collection, "--model", chosen.name]
        again += [part for pair in _pairs(chosen) for part in ("--adapter", pair)]
        again += ["--truncate-dim", str(truncate_dim)] if truncate_dim else []
        before, now = (f"{model.name} and {', '.join(_pairs(model)) or 'no adapter'}" for model in (made, chosen))
        difference = f"this call loads {now}" if before != now else "their files have changed since"
        raise FingerprintError(
            f"Collection {collection!r} was made with {before}; {difference}. Their vectors cannot be compared: encode "
            f"the collection again with `polyvec {shlex.join(again)}`, or choose another one with --collection."
        ) from error


def index_fields(docs: Collection, indexed: Mapping[str, IndexKind]) -> None:
    """Index fields of the metadata; an error names the option."""
    for name, kind in indexed.items():
        try:
            docs.create_index(name, kind)
        except ValueError as error:
            raise ValueError(f"--index-field {shlex.quote(f'{name}:{kind}')}: {error}") from error


def _named(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _pairs(model: Model) -> list[str]:
    """The adapters as the option --adapter takes them."""
    return [f"{task}={path}" for task, path in model.adapters.items()]


def _stored_dim(client: QdrantClient, collection: str, embedder: polyvec.Encoder) -> int | None:
    """The `truncate_dim` of an existing collection."""
    if not client.collection_exists(collection):
        return None
    dim = Fingerprint.stored(collection, client.get_collection(collection).config.metadata).dense
    return dim if dim < embedder.dim else None


def schema_of(late: Precision | None, bm25: str | None, *, pooled: bool) -> Schema | None:
    """The schema of the options; None, which keeps an existing collection's, if there are none."""
    options = {"late": late, "pooled": pooled or None, "bm25": bm25}
    chosen: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    return Schema(**chosen) if chosen else None


def print_report(
    report: Report,
    kind_by_id: dict[Identity, str],
    *,
    as_json: bool,
    files: Counts | None = None,
) -> int:
    """Print what became of the items, and of the `files` they come from, and return the exit code."""
    if as_json:
        print_json(asdict(report) | ({} if files is None else {"files": asdict(files)}))
    else:
        by_kind = {kind: Report() for kind in _KINDS}
        for name in ("ok", "skipped", "removed"):
            for identity in getattr(report, name):
                getattr(by_kind[kind_by_id.get(identity, "other")], name).append(identity)
        for failure in report.failed:
            by_kind[kind_by_id.get(failure.id or "", "other")].failed.append(failure)
            echo(f"failed: {tables.place(failure.source)}: {failure.reason}", err=True)
        used = {kind: part for kind, part in by_kind.items() if any(asdict(part).values())}
        echo(*tables.summary(used), *(tables.files(files) if files else []))
    return 1 if report.failed else 0


def _explain(docs: Collection, hits: Sequence[Hit], query: str, file: str, *, reading: Reading, as_json: bool) -> None:
    best = next((hit for hit in hits if hit.kind == "image"), None)
    if best is None:
        echo("none of the results is an image; there is nothing to explain", err=True)
        return
    from polyvec.explain import overlay, similarity_map, word_maps  # draws images, which no other command does

    embedder: Any = docs.embedder  # an Embedder; other Encoders have no tokens
    encoded = embedder.encode_query([query], task=best.task, multivector=True).multivector[0]
    (stored,) = docs.embeddings_of([best], multivector=True)
    if stored is None or stored.multivector is None or stored.grids[0] is None:
        raise ValueError(f"the index does not say where the patches of {best.source!r} are; index it again")
    maps = similarity_map(encoded, stored.multivector[0], stored.grids[0])
    tokens = embedder.tokens(query, task=best.task, side="query")
    language = docs.schema.bm25 or _LANGUAGE
    is_stop_word = partial(bm25.is_stop_word, language=language)
    maps, words = word_maps(maps, tokens, prefix=prefix(best.task, "query"), is_left_out=is_stop_word)
    overlay(whole.picture_of(best, reading), similarity=maps, tokens=words).save(file)
    shown = tables.address(best).removesuffix(":image")
    echo(f"how {shown} matches each word: {file}", err=as_json)
