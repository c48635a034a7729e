"""Look at what is stored, delete it and copy it: `polyvec info`, `list`, `show`, `delete` and `copy`."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import click
from qdrant_client import QdrantClient, models

from polyvec.cli import UserError, print_json, resumable
from polyvec.paths import absolute
from polyvec.terminal import echo, escaped
from qdrant_polyvec import fingerprint
from qdrant_polyvec.collection import Collection
from qdrant_polyvec.commands import tables, whole, work
from qdrant_polyvec.edge import room
from qdrant_polyvec.files import Reading
from qdrant_polyvec.fingerprint import Fingerprint, FingerprintError
from qdrant_polyvec.hits import Stored
from qdrant_polyvec.items import possible_ids
from qdrant_polyvec.pictures import shown_unit
from qdrant_polyvec.schema import SchemaError

_MAX_MISSING = 5  # names that a message lists


def info(*, location: str, collection: str, as_json: bool) -> int:
    """Say what made a collection, and what it holds."""
    with work.existing_client(location, collection) as client:
        docs = Collection.open(client, collection, embedder=None)
        model = fingerprint.remembered_model(client, collection)
        made = Fingerprint.stored(collection, client.get_collection(collection).config.metadata)
        sources: set[str] = set()
        tasks: Counter[str] = Counter()
        kinds: Counter[str] = Counter()
        for item in docs.all():
            sources.add(item.source)
            tasks[item.task] += 1
            kinds[_kind(item)] += 1
        schema = docs.schema
    facts = {
        "model": model and model.name,
        "adapters": {} if model is None else {task: str(path) for task, path in model.adapters.items()},
        "loading": {} if model is None else dict(model.loading),
        "fingerprint": made.embedder,
        "layout": made.schema,
        "dense": made.dense,
        "late": made.late,
        "schema": {
            "late": schema.late if made.late else None,
            "pooled": schema.pooled,
            "bm25": schema.bm25,
            "quantized": schema.quantization is not None,
            "indexed": dict(schema.indexed),
        },
        "items": tasks.total(),
        "sources": len(sources),
        "tasks": dict(sorted(tasks.items())),
        "kinds": dict(sorted(kinds.items())),
        "bytes": _bytes(location),  # once the folder is closed
    }
    if as_json:
        print_json(facts)
    else:
        echo(*tables.facts(_described(facts)))
    return 0


def list_collections(*, location: str, collection: str | None, as_json: bool) -> int:
    """List the collections of a location, or the sources of one collection."""
    rows: list[dict[str, Any]]
    if collection is None:
        with work.existing_location(location) as client:
            rows = [_collection(client, name) for name in _names(client)]
        columns = ("collection", "items", "model")
    else:
        with work.existing_client(location, collection) as client:
            rows = _sources(Collection.open(client, collection, embedder=None))
        columns = ("source", "parts", "tasks")
    if as_json:
        print_json({"collections" if collection is None else "sources": rows})
    else:
        shown = [{**row, "source": tables.place(row["source"])} if "source" in row else row for row in rows]
        echo(*tables.columns(columns, shown))
    return 0


def show(*, item: str, location: str, collection: str, save: str | None, reading: Reading, as_json: bool) -> int:
    """Show items whole: by an id, or by a source and perhaps its unit."""
    with work.existing_client(location, collection) as client:
        items = _named(Collection.open(client, collection, embedder=None), item)
    if not items:
        echo(
            f"there is no item {item!r} in {collection!r}; `polyvec list --collection NAME` lists the sources", err=True
        )
        return 1
    return whole.show(items, save=save, reading=reading, as_json=as_json)


def delete(
    *, location: str, collection: str, ids: Sequence[str], sources: Sequence[str], yes: bool, as_json: bool
) -> int:
    """Delete items by their ids and sources, after a question. Names that select nothing make the exit code 1."""
    with work.existing_client(location, collection) as client:
        docs = Collection.open(client, collection, embedder=None)
        by_id = docs.get(possible_ids(ids))
        by_source = {name: spelled for name in sources if (spelled := _of_source(docs, name))}
        spellings = sorted({item.source for items in by_source.values() for item in items})
        known = {str(item.id) for item in by_id}
        missing = [name for name in ids if name not in known] + [name for name in sources if name not in by_source]
        n = len(by_id) - sum(item.source in spellings for item in by_id)
        n += sum(len(items) for items in {items[0].source: items for items in by_source.values()}.values())
        if n and not yes and not _agrees(f"Delete {n} items of {collection!r}?"):
            echo("nothing was deleted", err=True)
            return 1
        deleted = docs.delete(ids=[item.id for item in by_id]) + docs.delete(sources=spellings) if n else 0
    if as_json:
        print_json({"deleted": deleted, "missing": missing})
    else:
        echo(f"deleted: {deleted} items")
    if missing:
        rest = f" and {len(missing) - _MAX_MISSING} more" if len(missing) > _MAX_MISSING else ""
        echo(f"not in {collection!r}: {', '.join(map(repr, missing[:_MAX_MISSING]))}{rest}", err=True)
    return 1 if missing else 0


def _agrees(question: str) -> bool:
    try:
        return click.confirm(escaped(question), err=True)
    except click.Abort:  # nobody is there to answer, or Ctrl-C
        return False


def copy(*, location: str, collection: str, to: str, to_collection: str | None, as_json: bool) -> int:
    """Copy a collection with its vectors to another place or name."""
    name = to_collection or collection
    is_here = to == location or ("://" not in to + location and absolute(to) == absolute(location))
    if is_here and name == collection:
        raise ValueError("the copy would be the collection itself; choose another --to or --to-collection")
    with ExitStack() as stack:
        client = stack.enter_context(work.existing_client(location, collection))
        target = client if is_here else stack.enter_context(work.connect(to))
        try:
            docs = Collection.open(client, collection, embedder=None)
            with resumable("what is copied is kept"):
                report = docs.copy_to(target, name, on_failure="report", show_progress=True)
        except (SchemaError, FingerprintError) as error:
            if not target.collection_exists(name):
                raise
            raise UserError(
                f"collection {name!r} in {to!r} has vectors of another kind or model; choose another --to-collection"
            ) from error
    return work.print_report(report, {}, as_json=as_json)


def _kind(item: Stored) -> str:
    return "page" if item.picture is not None and item.picture.page is not None else item.kind


def _bytes(location: str) -> dict[str, int] | None:
    """Return the bytes of a folder: those that its files seem to have, and those that they take on the disk."""
    if "://" in location:
        return None
    folder = Path(location)
    apparent = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {"apparent": apparent, "on_disk": room.allocated(folder)}


def _described(facts: Mapping[str, Any]) -> dict[str, str]:
    """The facts as `info` shows them, by their names."""
    schema, size = facts["schema"], facts["bytes"]
    options = ["pooled" if schema["pooled"] else "", "quantized" if schema["quantized"] else ""]
    late = ", ".join([f"{facts['late']} numbers each as {schema['late']}", *filter(None, options)])
    return {
        "model": facts["model"] or "unknown",
        **{f"adapter {task}": path for task, path in facts["adapters"].items()},
        **{name: str(value) for name, value in facts["loading"].items()},
        "fingerprint": facts["fingerprint"],
        "layout": str(facts["layout"]),
        "dense": f"{facts['dense']} numbers",
        "multi-vectors": late if facts["late"] else "none",
        "bm25": schema["bm25"] or "none",
        "indexed": ", ".join(f"{name}:{kind}" for name, kind in schema["indexed"].items()) or "no fields",
        "items": str(facts["items"]),
        "sources": str(facts["sources"]),
        "tasks": _numbers(facts["tasks"]),
        "kinds": _numbers(facts["kinds"]),
        **({"folder": f"{_mib(size['on_disk'])} on the disk, {_mib(size['apparent'])} apparent"} if size else {}),
    }


def _numbers(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items()) or "none"


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.1f} MiB"


def _names(client: QdrantClient) -> list[str]:
    """Name the collections: aliases, and what has none and is no leftover of a `reindex`."""
    aliases = client.get_aliases().aliases
    names = {alias.alias_name for alias in aliases}
    behind = {alias.collection_name for alias in aliases}
    own = {collection.name for collection in client.get_collections().collections}
    return sorted(names | {name for name in own - behind if name.rpartition("__")[0] not in names})


def _collection(client: QdrantClient, name: str) -> dict[str, Any]:
    model = fingerprint.remembered_model(client, name)
    return {"collection": name, "items": client.count(name).count, "model": model and model.name}


def _sources(docs: Collection) -> list[dict[str, Any]]:
    parts: Counter[str] = Counter()
    tasks: dict[str, set[str]] = {}
    for item in docs.all():
        parts[item.source] += 1
        tasks.setdefault(item.source, set()).add(item.task)
    return [{"source": source, "parts": parts[source], "tasks": sorted(tasks[source])} for source in sorted(parts)]


def _named(docs: Collection, name: str) -> list[Stored]:
    """The items of an id, of a source, or of a unit of a source; the first of these that has any."""
    if items := docs.get(possible_ids([name])) or _of_source(docs, name):
        return items
    source, _colon, unit = name.rpartition(":")
    parts = _of_source(docs, source) if source else []
    return [item for item in parts if unit in (item.unit, shown_unit(item.unit, item.picture))]


def _of_source(docs: Collection, name: str) -> list[Stored]:
    """The items of a source in the order of their units. A path may be relative, as the tables show it."""
    spellings = {name}
    with suppress(ValueError):  # a URL is no path
        spellings.add(absolute(name).as_posix())
    match = models.FieldCondition(key="metadata.source", match=models.MatchAny(any=sorted(spellings)))
    return sorted(docs.all(models.Filter(must=[match])), key=_place)


def _place(item: Stored) -> tuple[object, ...]:
    numbers = [(int(word), "") if word.isdecimal() else (-1, word) for word in re.split(r"(\d+)", item.unit)]
    return item.source, numbers, item.task
