"""Datasets for retrieval in the layout of BEIR: queries, documents, and which should be found by which."""

import json
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from polyvec.types import Input

Content = TypeVar("Content")
Key = TypeVar("Key")

_QRELS_HEADER = ["query-id", "corpus-id", "score"]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Queries and documents by id, and per query the grades of the documents it should find, by their position."""

    title: str
    queries: Mapping[str, str]
    documents: Mapping[str, Input]
    relevant: Sequence[Mapping[int, float]]


def read_folder(folder: Path, *, limit: int | None = None) -> Dataset:
    """A dataset in the layout of BEIR: `corpus.jsonl`, `queries.jsonl` and `qrels/test.tsv`, or every `qrels/*.tsv`.

    A document is its title and text, or the image that it names by a path relative to the folder. Queries without a
    relevant document are left out.

    Args:
        folder: where the files are.
        limit: at most so many queries, in the order of their file, and so many documents: all that these queries
            should find, then others from the start of the corpus.

    Raises:
        ValueError: naming file and line of what is missing or not so.
    """
    corpus = _jsonl(folder / "corpus.jsonl", lambda line: _document(line, folder))
    asked = _jsonl(folder / "queries.jsonl", lambda line: _text(line, "text"))
    grades = _qrels(folder / "qrels", asked, corpus)
    chosen = [key for key in asked if has_relevant(grades.get(key, {}))][:limit]
    if not chosen:
        raise ValueError(f"{folder / 'qrels'} names no relevant document for any query.")
    wanted = {document for key in chosen for document, grade in grades[key].items() if grade > 0}
    others = [key for key in corpus if key not in wanted]
    dropped = set() if limit is None else set(others[max(0, limit - len(wanted)) :])
    kept = [key for key in corpus if key not in dropped]
    place_by_key = {key: place for place, key in enumerate(kept)}
    return Dataset(
        title=f"{folder.resolve().name!r}: {len(chosen)} queries, {len(kept)} documents",
        queries={key: asked[key] for key in chosen},
        documents={key: corpus[key] for key in kept},
        relevant=[moved(grades[key], place_by_key) for key in chosen],
    )


def moved(grades: Mapping[Key, float], places: Mapping[Key, int]) -> dict[int, float]:
    """Grades by new positions, without the documents that have none."""
    return {places[key]: grade for key, grade in grades.items() if key in places}


def has_relevant(grades: Mapping[Any, float]) -> bool:
    """Whether any document is relevant at all."""
    return any(grade > 0 for grade in grades.values())


def _jsonl(path: Path, content: Callable[[dict[str, Any]], Content]) -> dict[str, Content]:
    """The content of each line by its `_id`."""
    found: dict[str, Content] = {}

    def take(_: int, line: str) -> None:
        try:
            parsed = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"no JSON: {error.msg} at column {error.colno}") from error
        if not isinstance(parsed, dict):
            raise TypeError(f"no JSON object: {reprlib.repr(parsed)}")
        key = _text(parsed, "_id")
        if key in found:
            raise ValueError(f"`_id` {key!r} stands in an earlier line, too")
        found[key] = content(parsed)

    _each_line(path, take)
    return found


def _qrels(folder: Path, queries: Mapping[str, object], corpus: Mapping[str, object]) -> dict[str, dict[str, float]]:
    """Grades by query and document."""
    grades: dict[str, dict[str, float]] = {}

    def take(number: int, line: str) -> None:
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

    test = folder / "test.tsv"
    for path in [test] if test.exists() else sorted(folder.glob("*.tsv")) or [test]:
        _each_line(path, take)
    return grades


def _each_line(path: Path, take: Callable[[int, str], None]) -> None:
    """Hand over each line that is not blank, with its number; an error then says where."""
    if not path.is_file():
        raise ValueError(f"{path} is missing; a folder has corpus.jsonl, queries.jsonl and qrels/test.tsv.")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                if line.strip():
                    take(number, line.decode("utf-8-sig"))
            except (ValueError, TypeError, OSError, RecursionError) as error:
                raise ValueError(f"{path}:{number}: {error}") from error


def _document(line: Mapping[str, Any], folder: Path) -> Input:
    if line.get("image") is not None:
        return _image(_text(line, "image"), folder)
    if line.get("text") is None:
        raise ValueError("neither `text` nor `image` is there")
    title = "" if line.get("title") is None else _text(line, "title")
    return f"{title} {_text(line, 'text')}".strip()


def _image(name: str, folder: Path) -> Path:
    path = folder / name
    inside = path.resolve().is_relative_to(folder.resolve())
    if Path(name).is_absolute() or ".." in Path(name).parts or not inside:
        raise ValueError(f"image path {name!r} leaves the folder; give one relative to it, without `..`")
    if not path.is_file():
        raise ValueError(f"there is no image file {name!r}")
    return path


def _text(line: Mapping[str, Any], name: str) -> str:
    value = line.get(name)
    if not isinstance(value, str):
        raise TypeError(f"`{name}` is {reprlib.repr(value)}; it must be a text")
    return value
