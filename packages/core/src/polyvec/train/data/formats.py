"""Row formats: a row of a data set becomes the query, the positives and the negatives that it means."""

import json
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyvec.train.data.bad_rows import RowError
from polyvec.train.data.examples import Document
from polyvec.train.data.fields import (
    DocumentId,
    Reference,
    content,
    described,
    document,
    identity,
    items,
    number,
    one_of,
    page,
    present,
    text,
    value,
)
from polyvec.train.data.tables import RawRow

__all__ = ["FORMATS", "Format", "Row", "check_format", "corpus_row", "recognise"]

_NEGATIVE = re.compile(r"(?:hard_)?negative(?:_(\d+))?")


@dataclass(frozen=True, slots=True)
class Row:
    """What a row means. Its documents may be ids; whether files exist was not checked."""

    query: Document
    positives: Sequence[Reference]
    negatives: Sequence[Reference] = ()
    score: float | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """A published form of rows.

    Attributes:
        read: makes a `Row` of the columns that are not null, and of the folder where relative paths start; None if the
            row is only a document for other rows.
        columns: to recognise it: a row has a column of each of these groups, which "|" divides; none for a format that
            must be named.
        own_corpus: ids are those of rows of the same file.
    """

    read: Callable[[RawRow, Path], Row | None]
    columns: tuple[str, ...] = ()
    own_corpus: bool = False


def recognise(columns: Iterable[str], where: str) -> str:
    """Return the name of the first format whose columns are there.

    Raises:
        ValueError: there is none; the message lists all formats.
    """
    there = set(columns)
    for name, form in FORMATS.items():
        if form.columns and all(there & set(group.split("|")) for group in form.columns):
            return name
    known = "; ".join(f"{name} ({', '.join(form.columns)})" for name, form in FORMATS.items() if form.columns)
    raise ValueError(
        f"{where} has the columns {', '.join(sorted(there))}, which no known format has. Rename them, or set `format`. "
        f"Known are: {known}."
    )


def check_format(name: str) -> None:
    """Raise a `ValueError` that lists all formats if there is none of this name."""
    if name not in FORMATS:
        raise ValueError(f"`format` is {name!r}; known are {', '.join(FORMATS)}.")


def corpus_row(row: RawRow, folder: Path) -> tuple[str, Document]:
    """Return the id and the content of a row of a corpus: an image or a page if it has one, or its title and text."""
    row = present(row)
    name = next((name for name in ("docid", "document_id", "_id", "id") if name in row), "docid")
    if name not in row:
        raise RowError("the row has no id, which is `docid`, `document_id`, `_id` or `id`", described(row))
    return identity(row[name], name).identity, content(row, folder)


def _polyvec(row: RawRow, folder: Path) -> Row:
    group = text(row, "group") if "group" in row else None
    if "first" in row or "second" in row:
        gold = number(row, "score") if "score" in row else None
        return Row(value(row, "first", folder), [value(row, "second", folder)], score=gold, group=group)
    if "score" in row:
        raise RowError(
            "`score` stands beside `query`; a gold similarity is that of `first` and `second`", described(row)
        )
    query = value(row, one_of(row, "query", "query_image"), folder)
    name = one_of(row, "document", "image", "document_id", "pdf")
    positive: Reference
    if name == "document_id":
        positive = identity(row[name], name)
    elif name == "pdf":
        positive = page(row, folder)
        group = group or positive.path.as_posix()
    else:
        positive = value(row, name, folder)
    negatives: list[Reference] = [
        document(cell, "negatives", folder, image=name == "image") for cell in items(row, "negatives")
    ]
    negatives += [identity(cell, "negative_ids") for cell in items(row, "negative_ids")]
    n_scores = len(items(row, "negative_scores"))
    if n_scores and n_scores != len(negatives):
        raise RowError("`negative_scores` and the negatives differ in number", f"{n_scores} and {len(negatives)}")
    return Row(query, [positive], negatives, group=group)


def _sentence_transformers(row: RawRow, folder: Path) -> Row:
    """Read columns of any content, texts or images: a pair, a triplet with any number of negatives, or a gold score."""
    if "label" in row and "score" not in row:
        raise RowError("`label` is no similarity; if it is, rename it to `score`", described(row))
    query = one_of(row, "anchor", "query", "question", "sentence1", "sentence_A")
    positive = one_of(row, "positive", "answer", "document", "sentence2", "sentence_B")
    numbered = [(int(match[1] or -1), name) for name in row if (match := _NEGATIVE.fullmatch(name))]
    return Row(
        value(row, query, folder),
        [value(row, positive, folder)],
        [value(row, name, folder) for _, name in sorted(numbered)],
        score=number(row, "score") if "score" in row else None,
    )


def _scored(row: RawRow, _: Path) -> Row:
    first, second = one_of(row, "sentence1", "sentence_A"), one_of(row, "sentence2", "sentence_B")
    gold = one_of(row, "relatedness_score", "score")
    return Row(text(row, first), [text(row, second)], score=number(row, gold))


def _flag_embedding(row: RawRow, folder: Path) -> Row:
    positives, negatives = ([document(cell, name, folder) for cell in items(row, name)] for name in ("pos", "neg"))
    return Row(text(row, "query"), positives, negatives)


def _tevatron(row: RawRow, folder: Path) -> Row:
    """Read ids into a corpus, or passages, which are texts, titles and texts, or ids where they have no text."""
    query = value(row, one_of(row, "query", "query_text", "query_image"), folder)
    if "positive_document_ids" in row:
        return Row(query, _ids(row, "positive_document_ids"), _ids(row, "negative_document_ids"))
    return Row(query, _passages(row, "positive_passages", folder), _passages(row, "negative_passages", folder))


def _wiki_ss(row: RawRow, _: Path) -> Row:
    """Read passages as ids of screenshots, also where they have a text."""
    positives, negatives = (
        [_passage_id(passage, name) for passage in items(row, name)]
        for name in ("positive_passages", "negative_passages")
    )
    return Row(text(row, "query"), positives, negatives)


def _vdr_multilingual(row: RawRow, _: Path) -> Row | None:
    """Read ids of other rows as negatives. A row without a query is a page for them."""
    if not row.get("query"):
        return None
    return Row(text(row, "query"), [identity(row.get("id"), "id")], _ids(row, "negatives"))


def _image(row: RawRow, folder: Path) -> Row:
    return Row(text(row, "query"), [value(row, "image", folder)])


def _code_search_net(row: RawRow, _: Path) -> Row:
    query = one_of(row, "func_documentation_string", "docstring")
    return Row(text(row, query), [text(row, one_of(row, "func_code_string", "code"))])


def _code_feedback(row: RawRow, _: Path) -> Row:
    """Read a query and an answer, or a conversation, whose last message answers all before it."""
    if "messages" not in row:
        return Row(text(row, "query"), [text(row, "answer")])
    messages = items(row, "messages")
    if len(messages) < 2 or not all(isinstance(message, Mapping) for message in messages):
        raise RowError("`messages` are no conversation of two messages or more", reprlib.repr(messages))
    if messages[-1].get("role") != "assistant":
        raise RowError("the last of `messages` is not by the assistant", reprlib.repr(messages[-1].get("role")))
    *before, last = (text(message, "content") for message in messages)
    return Row("\n\n".join(before), [last])


def _apps(row: RawRow, _: Path) -> Row:
    """Read the solutions, which are a JSON list in a text, as positives."""
    solutions = row.get("solutions", ())
    if isinstance(solutions, str):
        try:
            solutions = json.loads(solutions or "[]")
        except (ValueError, RecursionError) as error:
            raise RowError("`solutions` is no JSON", str(error)) from error
    return Row(text(row, "question"), _texts({"solutions": solutions}, "solutions"))


def _cornstack(row: RawRow, folder: Path) -> Row:
    if "negatives" not in row:
        return _sentence_transformers(row, folder)
    return Row(text(row, "query"), [text(row, "document")], _texts(row, "negatives"))


def _texts(row: RawRow, name: str) -> list[str]:
    return [text({name: cell}, name) for cell in items(row, name)]


def _ids(row: RawRow, name: str) -> list[DocumentId]:
    return [identity(cell, name) for cell in items(row, name)]


def _passages(row: RawRow, name: str, folder: Path) -> list[Reference]:
    return [
        _passage_id(passage, name)
        if isinstance(passage, Mapping) and passage.get("text") is None and passage.get("image") is None
        else document(passage, name, folder)
        for passage in items(row, name)
    ]


def _passage_id(passage: Any, name: str) -> DocumentId:  # Any: not checked yet
    if not isinstance(passage, Mapping):
        raise RowError(f"`{name}` has a passage without `docid`", reprlib.repr(passage))
    return identity(passage.get("docid"), "docid")


# In the order in which they are recognised: formats with more columns come before those with fewer of the same.
FORMATS: Mapping[str, Format] = {
    "vdr-multilingual": Format(_vdr_multilingual, ("id", "query", "image", "negatives", "language"), own_corpus=True),
    "tevatron": Format(_tevatron, ("query|query_text|query_image", "positive_document_ids|positive_passages")),
    "wiki-ss": Format(_wiki_ss),
    "flag-embedding": Format(_flag_embedding, ("query", "pos")),
    "cornstack": Format(_cornstack, ("query", "document", "document_score|document_rank|negative_0")),
    "colpali": Format(_image, ("query", "image", "image_filename", "source")),
    "polyvec": Format(_polyvec, ("query|query_image|first", "document|image|document_id|pdf|second")),
    "sick": Format(_scored, ("sentence_A", "sentence_B", "relatedness_score|score")),
    "sts12": Format(_scored, ("sentence1", "sentence2", "score")),
    "code-search-net": Format(_code_search_net, ("func_documentation_string|docstring", "func_code_string|code")),
    "apps": Format(_apps, ("question", "solutions")),
    "code-feedback": Format(_code_feedback, ("query|messages", "answer|messages")),
    "sentence-transformers": Format(
        _sentence_transformers,
        ("anchor|query|question|sentence1|sentence_A", "positive|answer|sentence2|sentence_B"),
    ),
}
