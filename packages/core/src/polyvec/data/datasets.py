"""What is evaluated: queries, documents and grades, with what is known of each; every reader ends in `assembled`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from polyvec.data.documents import Document
from polyvec.types import Failure

__all__ = ["ById", "Dataset", "Facts", "assembled", "document_facts", "query_facts"]

_Value = TypeVar("_Value")

Facts = Mapping[str, Mapping[str, str]]  # by id: `language`, `kind` and such

# Names of columns, the first that is there counts.
_QUERY_COLUMNS = {
    "language": ("query_language", "language", "lang"),
    "kind": ("kind", "query_type", "query_types", "type"),
    "origin": ("origin",),
}
_DOCUMENT_COLUMNS = {
    "language": ("document_language", "page_language", "language", "lang"),
    "kind": ("kind",),
    "group": ("group",),
    "source": ("source",),
}


class ById(Mapping[str, _Value]):
    """A mapping whose values are read when they are needed."""

    def __init__(self, ids: Iterable[str], read: Callable[[str], _Value]) -> None:
        self._ids, self._read = dict.fromkeys(ids), read

    def __getitem__(self, identity: str) -> _Value:
        if identity not in self._ids:
            raise KeyError(identity)
        return self._read(identity)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Queries and documents by id, and for each query, in order, the grades of documents by their position.

    Attributes:
        documents: a page of a PDF or an image in a table is read when it is looked up.
        query_facts: what is known of queries: `language`, `kind`, and `origin`, which says why it is a query.
        document_facts: what is known of documents: `language`, `kind`, `group` (as in training) and `source`.
        texts: what pages and images say, for baselines that read texts. Texts themselves are not in it.
        left_out: what the files have and the dataset does not, with reasons.
    """

    title: str
    queries: Mapping[str, str]
    documents: Mapping[str, Document]
    relevant: Sequence[Mapping[int, float]]
    query_facts: Facts = field(default_factory=dict)
    document_facts: Facts = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    left_out: Sequence[Failure] = ()

    @property
    def qrels(self) -> dict[str, dict[str, float]]:
        """Grades by the ids of queries and documents."""
        ids = list(self.documents)
        judged = zip(self.queries, self.relevant, strict=True)
        return {query: {ids[index]: grade for index, grade in gains.items()} for query, gains in judged}


def assembled(
    name: str,
    *,
    queries: Mapping[str, str],
    documents: Mapping[str, Document],
    grades: Mapping[str, Mapping[str, float]],
    limit: int | None = None,
    query_facts: Facts | None = None,
    document_facts: Facts | None = None,
    texts: Mapping[str, str] | None = None,
    left_out: Sequence[Failure] = (),
) -> Dataset:
    """Make a dataset of the queries that have a relevant document. All other queries are in `Dataset.left_out`.

    `limit` takes at most this many queries, in their order, and this many documents: every document that is relevant to
    these queries, then other documents from the start of the corpus. Every grade names a query and a document.

    Raises:
        ValueError: there are no documents, or no query has a relevant one.
    """
    if not documents:
        raise ValueError(f"{name} has no documents to search.")
    judged = [query for query in queries if any(grade > 0 for grade in grades.get(query, {}).values())]
    if not judged:
        raise ValueError(f"{name} names no relevant document for any query.")
    there = set(judged)
    dropped = [
        Failure(index, f"query {query!r}", "it has no relevant document" if query in grades else "it has no grades")
        for index, query in enumerate(queries)
        if query not in there
    ]
    chosen = judged[:limit]
    relevant = {document for query in chosen for document, grade in grades[query].items() if grade > 0}
    ids: Iterable[str] = documents
    if limit is not None:
        n_others = max(0, limit - len(relevant))
        others = {document for document, _ in zip((d for d in documents if d not in relevant), range(n_others))}  # noqa: B905 — cut
        ids = [document for document in documents if document in relevant or document in others]
    position = {document: index for index, document in enumerate(ids)}
    return Dataset(
        title=f"{name}: {len(chosen)} queries, {len(position)} documents",
        queries={query: queries[query] for query in chosen},
        documents=ById(position, documents.__getitem__),
        relevant=[
            {position[key]: grade for key, grade in grades[query].items() if key in position} for query in chosen
        ],
        query_facts=query_facts or {},
        document_facts=document_facts or {},
        texts={} if texts is None else ById((key for key in texts if key in position), texts.__getitem__),
        left_out=[*left_out, *dropped],
    )


def query_facts(row: Mapping[str, Any]) -> dict[str, str]:
    """Return what a row says of its query."""
    return _facts(row, _QUERY_COLUMNS)


def document_facts(row: Mapping[str, Any], *, own: bool = True) -> dict[str, str]:
    """Return what a row says of its document; if the row is not the document's `own`, by names that say so."""
    columns = _DOCUMENT_COLUMNS if own else {"language": _DOCUMENT_COLUMNS["language"][:2]}
    return _facts(row, columns)


def _facts(row: Mapping[str, Any], columns: Mapping[str, Sequence[str]]) -> dict[str, str]:
    metadata = row.get("metadata")
    there = {**(metadata if isinstance(metadata, Mapping) else {}), **row}
    facts = {}
    for fact, names in columns.items():
        value = next((there[name] for name in names if there.get(name) not in (None, "", [])), None)
        if value is not None:
            text = "+".join(sorted(map(str, value))) if isinstance(value, list | tuple) else str(value)
            facts[fact] = " ".join(text.split())  # it stands in one line of a table
    return facts
