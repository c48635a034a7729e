"""Queries that are collected until it is known for how many documents each of them stands."""

import hashlib
from collections.abc import Iterator

from polyvec.data.building.material import Query, Rejection

__all__ = ["Queries"]


class Queries:
    """Texts and their documents. Equal texts become one query; case makes no difference."""

    def __init__(self, *, max_relevant: int, last_row_wins: bool = False) -> None:
        """Choose what becomes of a text that stands for several documents.

        Args:
            max_relevant: texts that stand for more documents are rejected.
            last_row_wins: the last document of a text is its only one, as in the QA format of Jina-VDR.

        Raises:
            ValueError: `max_relevant` is less than 1.
        """
        if max_relevant < 1:
            raise ValueError(f"`max_relevant` is {max_relevant}; it must be at least 1.")
        self._max_relevant, self._last_row_wins = max_relevant, last_row_wins
        self._queries: dict[str, Query] = {}
        self._documents: dict[str, dict[str, int]] = {}

    def add(self, text: str, document: str, *, language: str, kind: str, origin: str) -> None:
        """Add a text that asks for a document."""
        key = text.casefold()
        documents = self._documents.setdefault(key, {})
        if self._last_row_wins:
            documents.clear()
        documents[document] = 1
        if key not in self._queries:
            digest = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:16]
            self._queries[key] = Query(digest, text, documents, language, kind, origin)

    def finish(self, many: str) -> Iterator[Query | Rejection]:
        """Yield the queries in the order of their first rows; `many` is the reason against texts of many documents."""
        for query in self._queries.values():
            if len(query.relevant) > self._max_relevant:
                first = next(iter(query.relevant))
                yield Rejection(many, query.text, first, f"{len(query.relevant)} documents have this {query.origin}")
            else:
                yield query
