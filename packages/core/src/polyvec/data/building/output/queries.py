"""The queries of a dataset that is being written: kept in a file until all documents are known."""

import hashlib
import json
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from polyvec.data.building.material import Query
from polyvec.data.building.output.spelling import written_id, written_text
from polyvec.inputs import whole

__all__ = ["Waiting"]


class Waiting:
    """Queries that wait. In memory are their ids and digests of their texts.

    Texts are equal if they are after normalisation (Unicode NFC) and with one space for white space; case counts.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self._first_by_text: dict[bytes, int] = {}  # offsets of lines
        self._text_by_id: dict[str, bytes] = {}
        self._others: dict[int, list[int]] = {}  # by the offset of the first query of a text, those of its duplicates

    def add(self, query: Query) -> None:
        """Keep a query.

        Raises:
            ValueError: its id is empty, or that of another text, or a grade is no whole number of 1 or more.
        """
        if not query.id:
            raise ValueError(f"the query {query.text!r} has an empty id; give it one.")
        relevant = {written_id(key): _checked(grade, key, query.id) for key, grade in query.relevant.items()}
        query = replace(query, id=written_id(query.id), text=written_text(query.text).strip(), relevant=relevant)
        words = " ".join(unicodedata.normalize("NFC", query.text).split())
        text = hashlib.blake2b(words.encode(), digest_size=16).digest()
        if self._text_by_id.setdefault(query.id, text) != text:
            raise ValueError(f"the id {query.id!r} is that of two different queries; give each its own.")
        offset = self._file.tell()
        first = self._first_by_text.setdefault(text, offset)
        if first != offset:
            self._others.setdefault(first, []).append(offset)
        self._file.write(json.dumps(asdict(query)).encode() + b"\n")

    def all(self) -> Iterator[tuple[Query, list[Query]]]:
        """Yield the queries of different texts in their order, each with its duplicates."""
        for offset in self._first_by_text.values():  # in the order in which they came
            yield self._read(offset), [self._read(other) for other in self._others.get(offset, ())]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self, offset: int) -> Query:
        self._file.seek(offset)
        return Query(**json.loads(self._file.readline()))


def _checked(grade: object, document: str, query: str) -> int:
    number = whole(grade)
    if number is None or number < 1:
        raise ValueError(
            f"the grade of document {document!r} for query {query!r} is {grade!r}; it must be a whole number of 1 or "
            "more."
        )
    return number
