"""Write a dataset as Parquet, in the columns of Jina-VDR's datasets or of mteb's own copies (extra: `build`)."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from polyvec.data.building.output.card import without_front_matter
from polyvec.data.building.output.folder import whole
from polyvec.data.building.output.reading import Row, Written, text_of

__all__ = ["Columns", "write_parquet"]

Columns = Literal["jina-vdr", "mteb"]

_GROUP_ROWS, _GROUP_BYTES = 1000, 16 << 20  # of a row group, which readers decode in one piece
_QUERY_FACTS = ("language", "kind", "origin")
_DOCUMENT_FACTS = ("language", "kind", "group", "source")
_QRELS = {"query-id": "string", "corpus-id": "string", "score": "int64"}
_FILE = "test-00000-of-00001.parquet"


@dataclass(frozen=True, slots=True)
class _Names:
    """Of columns."""

    query_id: str
    query: str
    document_id: str


@dataclass(frozen=True, slots=True)
class _Part:
    """The queries of one language, or all if it is None, and the languages of the documents that are searched."""

    name: str
    language: str | None
    document_languages: frozenset[str]

    def has(self, query: Row) -> bool:
        """Tell whether a query belongs to it."""
        return self.language in (None, query.get("language", ""))


def write_parquet(
    folder: Path, output: Path, *, columns: Columns = "jina-vdr", show_progress: bool = False
) -> list[str]:
    """Write a dataset of `write_dataset` to `output/{part}/{queries,corpus,qrels}`, and return the names of the parts.

    If the queries have several languages, each is a part, whose corpus is all documents in the languages that the
    answers to these queries are in. Otherwise the only part is `default`.

    Raises:
        ValueError: `folder` is no dataset, or `output` is there already.
        ImportError: pyarrow is not installed.
    """
    written = Written(folder)
    parts = _parts(written)
    has = {"image" if "image" in row else "text" for row in written.documents()}
    names = _Names("query-id", "query", "corpus-id") if columns == "jina-vdr" else _Names("id", "text", "id")
    with whole(output) as new:
        for part in parts:
            place = new / part.name
            documents = (row for row in written.documents() if row.get("language", "") in part.document_languages)
            corpus = tqdm(documents, f"{part.name}/corpus", unit=" documents", disable=not show_progress)
            _write(place / "corpus", (_document(row, folder, names) for row in corpus), _corpus_columns(names, has))
            queries = (row for row in written.queries() if part.has(row))
            _write(place / "queries", (_query(row, names) for row in queries), _query_columns(names))
            _write(place / "qrels", _qrels(written, part), _QRELS)
        head, body = without_front_matter((folder / "README.md").read_text("utf-8"))
        card = ["---", *head, *_configs(parts), "---", body.partition("## Use\n")[0]]
        (new / "README.md").write_text("\n".join(card), "utf-8")
    return [part.name for part in parts]


def _parts(written: Written) -> list[_Part]:
    answers: dict[str, set[str]] = {}
    for row in written.queries():
        known = answers.setdefault(row.get("language", ""), set())
        known.update(written.language_by_document[document] for document in written.grades[row["_id"]])
    if len(answers) < 2:
        return [_Part("default", None, frozenset(written.language_by_document.values()))]
    return [
        _Part(re.sub(r"[^\w-]+", "-", language) or "default", language, frozenset(answers[language]))
        for language in sorted(answers)
    ]


def _query(row: Row, names: _Names) -> Row:
    return {names.query_id: row["_id"], names.query: row["text"], **_facts(row, _QUERY_FACTS)}


def _document(row: Row, folder: Path, names: _Names) -> Row:
    cells = {names.document_id: row["_id"], "modality": "image" if "image" in row else "text"}
    if "image" in row:
        content = {"bytes": (folder / row["image"]).read_bytes(), "path": Path(row["image"]).name}
        cells |= {"image": content, "text_description": row.get("text", "")}
    else:
        cells["text"] = text_of(row)
    return cells | _facts(row, _DOCUMENT_FACTS)


def _qrels(written: Written, part: _Part) -> Iterator[Row]:
    for row in written.queries():
        if part.has(row):
            for document, grade in written.grades[row["_id"]].items():
                yield {"query-id": row["_id"], "corpus-id": document, "score": grade}


def _facts(row: Row, names: Sequence[str]) -> Row:
    return {name: row.get(name, "") for name in names}  # null would stop mteb


def _query_columns(names: _Names) -> dict[str, str]:
    return dict.fromkeys((names.query_id, names.query, *_QUERY_FACTS), "string")


def _corpus_columns(names: _Names, has: Set[str]) -> dict[str, str]:
    contents = {"image": {"image": "image", "text_description": "string"}, "text": {"text": "string"}}
    columns = {names.document_id: "string", "modality": "string"}
    for kind in sorted(has):
        columns |= contents[kind]
    return columns | dict.fromkeys(_DOCUMENT_FACTS, "string")


def _write(folder: Path, rows: Iterable[Row], columns: Mapping[str, str]) -> None:
    """Write rows as one file, a row group at a time. `columns` are their types as `datasets` calls them, or `image`."""
    pyarrow, parquet = _pyarrow()
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    types = {"image": image, "string": pyarrow.string(), "int64": pyarrow.int64()}
    features = {
        name: {"_type": "Image"} if kind == "image" else {"dtype": kind, "_type": "Value"}
        for name, kind in columns.items()
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()], metadata)
    folder.mkdir(parents=True)
    with parquet.ParquetWriter(folder / _FILE, schema) as writer:
        for group in _groups(rows):
            writer.write_table(pyarrow.Table.from_pylist(group, schema))


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    n_bytes = 0
    for row in rows:
        group.append(row)
        n_bytes += len(row["image"]["bytes"]) if row.get("image") else 0
        if len(group) == _GROUP_ROWS or n_bytes > _GROUP_BYTES:
            yield group
            group, n_bytes = [], 0
    if group:
        yield group


def _configs(parts: Sequence[_Part]) -> Iterator[str]:
    """Yield the lines of YAML that name the tables, as mteb calls them: `corpus`, or `de-corpus`."""
    yield "configs:"
    for part in parts:
        for table in ("corpus", "queries", "qrels"):
            name = table if part.language is None else f"{part.name}-{table}"
            path = f"{part.name}/{table}/test-*.parquet"
            yield from (f"- config_name: {json.dumps(name)}", "  data_files:", "  - split: test")
            yield f"    path: {json.dumps(path)}"


def _pyarrow() -> tuple[Any, Any]:  # Any: an optional extra without annotations
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("Parquet files are written with pyarrow: `pip install 'polyvec[build]'`.") from error
    return pyarrow, parquet
