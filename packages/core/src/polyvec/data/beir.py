"""Datasets for retrieval in the layout of BEIR: queries, documents, and grades of relevance."""

import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from polyvec.data.datasets import Dataset, assembled, document_facts, query_facts
from polyvec.data.documents import image_in
from polyvec.data.rows import read_lines, read_rows, text_field
from polyvec.types import Input

__all__ = ["read_beir"]

_Content = TypeVar("_Content")

_Grades = dict[str, dict[str, float]]

_QRELS_HEADER = ["query-id", "corpus-id", "score"]


def read_beir(folder: Path, *, limit: int | None = None) -> Dataset:
    """Read a dataset in the layout of BEIR: `corpus.jsonl`, `queries.jsonl`, `qrels/test.tsv` or every `qrels/*.tsv`.

    A document is its title and text, or the image that it names by a path relative to the folder; beside an image,
    `text` is what the image says. `limit` is that of `assembled`.

    Raises:
        ValueError: a file is missing, or a line is malformed; the message names both.
    """
    test = folder / "qrels" / "test.tsv"
    qrels = [test] if test.exists() else sorted(test.parent.glob("*.tsv")) or [test]
    for path in (folder / "corpus.jsonl", folder / "queries.jsonl", *qrels):
        if not path.is_file():
            raise ValueError(
                f"{path} is missing; a folder has corpus.jsonl, queries.jsonl and qrels/test.tsv (BEIR), or "
                "Parquet files, or PDF files and a CSV file of questions."
            )
    facts_of_queries: dict[str, dict[str, str]] = {}
    facts_of_documents: dict[str, dict[str, str]] = {}
    texts: dict[str, str] = {}

    def document(row: dict[str, Any]) -> Input:
        identity = row["_id"]
        facts_of_documents[identity] = document_facts(row)
        if row.get("image") is not None and isinstance(row.get("text"), str):
            texts[identity] = row["text"]
        return _document(row, folder)

    def query(row: dict[str, Any]) -> str:
        facts_of_queries[row["_id"]] = query_facts(row)
        return text_field(row, "text")

    corpus = _by_id(folder / "corpus.jsonl", document)
    queries = _by_id(folder / "queries.jsonl", query)
    return assembled(
        repr(folder.resolve().name),
        queries=queries,
        documents=corpus,
        grades=_grades(qrels, queries, corpus),
        limit=limit,
        query_facts=facts_of_queries,
        document_facts=facts_of_documents,
        texts=texts,
    )


def _by_id(path: Path, content: Callable[[dict[str, Any]], _Content]) -> dict[str, _Content]:
    """Return the content of each line by its `_id`."""
    contents: dict[str, _Content] = {}

    def add(row: dict[str, Any]) -> None:
        identity = text_field(row, "_id")
        if identity in contents:
            raise ValueError(f"`_id` {identity!r} stands in an earlier line, too")
        contents[identity] = content(row)

    read_rows(path, add)
    return contents


def _grades(paths: Sequence[Path], queries: Mapping[str, str], corpus: Mapping[str, Input]) -> _Grades:
    """Read the grades by query and document."""
    grades: _Grades = {}

    def add(number: int, line: str) -> None:
        cells = line.rstrip("\r\n").split("\t")
        if number == 1:
            if cells != _QRELS_HEADER:
                raise ValueError(f"the header is {reprlib.repr(cells)}; it must be query-id, corpus-id, score and tabs")
            return
        if len(cells) != len(_QRELS_HEADER):
            raise ValueError(f"{len(cells)} cells between tabs; it must be query-id, corpus-id and score")
        query, document, score = cells
        if query not in queries:
            raise ValueError(f"query-id {query!r} is not in queries.jsonl")
        if document not in corpus:
            raise ValueError(f"corpus-id {document!r} is not in corpus.jsonl")
        grade = float(score)
        if not math.isfinite(grade):
            raise ValueError(f"score {score!r} is not finite")
        if grades.setdefault(query, {}).setdefault(document, grade) != grade:
            raise ValueError(f"query-id {query!r} and corpus-id {document!r} have another score in an earlier line")

    for path in paths:
        read_lines(path, add)
    return grades


def _document(row: Mapping[str, Any], folder: Path) -> Input:
    if row.get("image") is not None:
        return image_in(folder, text_field(row, "image"))
    if row.get("text") is None:
        raise ValueError("neither `text` nor `image` is there")
    title = "" if row.get("title") is None else text_field(row, "title")
    return f"{title} {text_field(row, 'text')}".strip()
