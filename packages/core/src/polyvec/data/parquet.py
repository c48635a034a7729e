"""Datasets in Parquet files, with the columns that ViDoRe, Jina-VDR and mteb publish (extra: `data`).

Either three tables, `corpus`, `queries` and `qrels`, each a file or a folder of files; or one table of questions and
answers, with a query and a page in each row. Languages may stand in folders of their own (`de/corpus`, `de-corpus`).
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polyvec.data.datasets import ById, Dataset, assembled, document_facts, query_facts
from polyvec.data.documents import Document, image_in
from polyvec.types import Failure

__all__ = ["has_parquet", "read_parquet"]

_TABLES = ("corpus", "queries", "qrels")
_QUERY_ID, _DOCUMENT_ID = ("query-id", "query_id", "_id", "id"), ("corpus-id", "corpus_id", "_id", "id")
_TEXTS = ("text_description", "markdown", "ocr", "text")
_HEAVY = ("image", "image_bytes")  # columns that are read for one row at a time

_Row = dict[str, Any]  # Any: values of Arrow, not checked yet


def has_parquet(folder: Path) -> bool:
    """Tell whether there are Parquet files in a folder, or in folders of it."""
    return next(folder.rglob("*.parquet"), None) is not None


def read_parquet(folder: Path, *, language: str | None = None, limit: int | None = None) -> Dataset:
    """Read a dataset. `language` chooses one of several folders of languages; `limit` is that of `assembled`.

    In a table of questions and answers, the id of a page is its `image_filename`, and a query that stands in several
    rows keeps the page of the last one, as ViDoRe and the paper count.

    Raises:
        ValueError: the layout is unknown, there are several languages and none is chosen, a row is malformed, an id
            stands twice, or a grade names an unknown id; the message names the table and the row.
        ImportError: pyarrow is not installed.
    """
    layouts = _layouts(folder)
    name = repr(folder.resolve().name)
    if language is None and len(layouts) == 1:
        (language,) = layouts
    if (language or "") not in layouts:
        known = ", ".join(sorted(filter(None, layouts))) or "none"
        raise ValueError(f"`language` is {language!r}; {name} has the languages {known}: choose one.")
    files = layouts[language or ""]
    if language:
        name = f"{name} ({language})"
    return _three(files, name, limit) if set(_TABLES) <= set(files) else _questions(files["questions"], name, limit)


def _layouts(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """Return the files of each table by the language, which is empty if the folder knows none."""
    layouts: dict[str, dict[str, list[Path]]] = {}
    for path in sorted(folder.rglob("*.parquet")):
        parts = list(path.relative_to(folder).with_suffix("").parts)
        places = [part for part in parts[:-1] if part not in ("data", "default")] + [parts[-1]]
        language, table = "", "questions"
        for index, part in enumerate(places):
            before, _, end = part.rpartition("-")
            if part in _TABLES or end in _TABLES:
                table = part if part in _TABLES else end
                language = before if part not in _TABLES else "/".join(places[:index])
                break
        else:
            language = "/".join(part for part in places[:-1] if not part.startswith(("test", "train", "validation")))
        layouts.setdefault(language, {}).setdefault(table, []).append(path)
    for language, files in layouts.items():
        missing = [table for table in _TABLES if table not in files]
        if missing and set(files) != {"questions"}:
            raise ValueError(f"{str(folder / language)!r} has no table {' and no '.join(missing)}.")
    return {
        language: {table: _of_test(folder, paths) for table, paths in files.items()}
        for language, files in layouts.items()
    }


def _of_test(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """Choose the files of the split `test`, if they say so."""
    test = [path for path in paths if any(part.startswith("test") for part in path.relative_to(folder).parts)]
    return test or list(paths)


def _three(files: Mapping[str, Sequence[Path]], name: str, limit: int | None) -> Dataset:
    corpus, queries, qrels = (_Table(files[table], f"{name} {table}") for table in _TABLES)
    row_by_id = corpus.ids(_DOCUMENT_ID)
    facts_of_documents, texts = {}, {}
    has_image = corpus.heavy != ""
    for identity, row in zip(row_by_id, corpus.rows, strict=True):
        facts_of_documents[identity] = document_facts(row)
        if has_image and not _is_text(row) and (text := _first_text(row)):
            texts[identity] = text

    def document(identity: str) -> Document:
        index = row_by_id[identity]
        row = corpus.rows[index]
        return corpus.image(index) if has_image and not _is_text(row) else _title_and_text(row, corpus.place(index))

    facts_of_queries, text_by_query = {}, {}
    for index, (identity, row) in enumerate(zip(queries.ids(_QUERY_ID), queries.rows, strict=True)):
        text_by_query[identity] = _text(row, ("query", "text"), queries.place(index))
        facts_of_queries[identity] = query_facts(row)
    grades: dict[str, dict[str, float]] = {}
    for index, row in enumerate(qrels.rows):
        place = qrels.place(index)
        query, key = (_identity(row, names[:2], place) for names in (_QUERY_ID, _DOCUMENT_ID))
        for identity, known, table in ((query, text_by_query, "queries"), (key, row_by_id, "corpus")):
            if identity not in known:
                raise ValueError(f"{place}: {identity!r} is not in the table {table}.")
        grade = _grade(row, place)
        if grades.setdefault(query, {}).setdefault(key, grade) != grade:
            raise ValueError(f"{place}: query {query!r} and document {key!r} have another score in an earlier row.")
    return assembled(
        name,
        queries=text_by_query,
        documents=ById(row_by_id, document),
        grades=grades,
        limit=limit,
        query_facts=facts_of_queries,
        document_facts=facts_of_documents,
        texts=texts,
    )


def _questions(files: Sequence[Path], name: str, limit: int | None) -> Dataset:
    table = _Table(files, name)
    if not table.heavy or "query" not in table.columns:
        raise ValueError(
            f"{name} has the columns {', '.join(table.columns)}; a table of questions has query and image."
        )
    row_by_page: dict[str, int] = {}
    texts: dict[str, str] = {}
    facts_of_queries, facts_of_documents, left_out = {}, {}, []
    page_by_query: dict[str, str] = {}
    for index, row in enumerate(table.rows):
        page = row.get("image_filename")
        if page is None:
            page = f"row {index + 1}"
        page = str(page)
        if page not in row_by_page:
            row_by_page[page], facts_of_documents[page] = index, document_facts(row, own=False)
        if text := _first_text(row):
            texts.setdefault(page, text)
        if row["query"] is None:  # a page that nobody asks for
            continue
        query = _text(row, ("query",), table.place(index))
        if page_by_query.get(query, page) != page:
            reason = f"it stands in several rows; the last one's page {page!r} counts, not {page_by_query[query]!r}"
            left_out.append(Failure(index, f"answer of query {query!r}", reason))
        page_by_query[query], facts_of_queries[query] = page, query_facts(row)
    return assembled(
        name,
        queries={query: query for query in page_by_query},
        documents=ById(row_by_page, lambda page: table.image(row_by_page[page])),
        grades={query: {page: 1.0} for query, page in page_by_query.items()},
        limit=limit,
        query_facts=facts_of_queries,
        document_facts=facts_of_documents,
        texts=texts,
        left_out=left_out,
    )


class _Table:
    """Rows of Parquet files. Images stay in files until one is asked for, together with those of its row group."""

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        self.name = name
        files = [_opened(path) for path in paths]
        self._folders: list[Path] = []  # of the files, for each group
        self.columns: list[str] = list(dict.fromkeys(column for file in files for column in file.schema_arrow.names))
        self.heavy = next((column for column in _HEAVY if column in self.columns), "")
        self.rows: list[_Row] = []
        self._groups: list[tuple[Any, int]] = []  # of images: a file, and which of its row groups
        self._starts: list[int] = []
        for path, file in zip(paths, files, strict=True):
            self._folders += [path.parent] * file.num_row_groups
            n_before = len(self.rows)
            for group in range(file.num_row_groups):
                self._groups.append((file, group))
                self._starts.append(n_before)
                n_before += file.metadata.row_group(group).num_rows
            light = [column for column in file.schema_arrow.names if column not in _HEAVY]
            self.rows += file.read(columns=light).to_pylist() if light else [{}] * file.metadata.num_rows
        self._read: tuple[int, Any] = (-1, None)

    def image(self, index: int) -> Document:
        """Return the image of a row: its bytes, or the file that it names, relative to the Parquet file."""
        group = bisect_right(self._starts, index) - 1
        if self._read[0] != group:
            file, number = self._groups[group]
            self._read = group, file.read_row_group(number, columns=[self.heavy])[self.heavy]
        cell = self._read[1][index - self._starts[group]].as_py()
        if isinstance(cell, Mapping):
            cell = cell.get("bytes") or (image_in(self._folders[group], cell["path"]) if cell.get("path") else None)
        if not isinstance(cell, bytes | Path):
            raise ValueError(f"{self.place(index)}: there is no image.")  # noqa: TRY004 — one unreadable page of many
        return cell

    def ids(self, names: Sequence[str]) -> dict[str, int]:
        rows: dict[str, int] = {}
        for index, row in enumerate(self.rows):
            identity = _identity(row, names, self.place(index))
            if identity in rows:
                raise ValueError(f"{self.place(index)}: the id {identity!r} stands in row {rows[identity] + 1}, too.")
            rows[identity] = index
        return rows

    def place(self, index: int) -> str:
        return f"{self.name}, row {index + 1}"


def _identity(row: _Row, names: Sequence[str], place: str) -> str:
    value = next((row[name] for name in names if row.get(name) is not None), None)
    if isinstance(value, bool) or not isinstance(value, str | int):
        known = ", ".join(row)
        raise ValueError(f"{place}: there is no id, which is {' or '.join(names)}; it has {known}.")  # noqa: TRY004 — data
    return str(value)


def _grade(row: _Row, place: str) -> float:
    value = row.get("score", 1)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{place}: `score` is {value!r}; it must be a finite number.")
    return float(value)


def _text(row: _Row, names: Sequence[str], place: str) -> str:
    value = next((row[name] for name in names if row.get(name) is not None), None)
    if not isinstance(value, str):
        raise ValueError(f"{place}: `{names[0]}` is {value!r}; it must be a text.")  # noqa: TRY004 — malformed data
    return value


def _title_and_text(row: _Row, place: str) -> str:
    title = row.get("title")
    return (
        f"{title} {_text(row, ('text',), place)}" if isinstance(title, str) and title else _text(row, ("text",), place)
    )


def _is_text(row: _Row) -> bool:
    """Tell whether a row says that it has no image, in a table of texts and images."""
    return row.get("modality") == "text"


def _first_text(row: _Row) -> str:
    return next((row[name] for name in _TEXTS if isinstance(row.get(name), str)), "")


def _opened(path: Path) -> Any:  # Any: as `_parquet`
    try:
        return _parquet().ParquetFile(path)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as a Parquet file: {error}") from error


def _parquet() -> Any:  # Any: an optional extra without annotations
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("Parquet files are read with pyarrow: `pip install 'polyvec[data]'`.") from error
    return parquet
