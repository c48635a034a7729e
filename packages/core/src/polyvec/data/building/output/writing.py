"""Write what a source yields to a folder that `polyvec evaluate` and `polyvec train` read."""

import hashlib
import logging
import shutil
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO

from tqdm import tqdm

from polyvec.data.building.material import About, CorpusItem, Query, Rejection, Source
from polyvec.data.building.output.card import Counts, card
from polyvec.data.building.output.folder import CORPUS, QRELS, QUERIES, REJECTED, unfinished
from polyvec.data.building.output.images import ImageFiles
from polyvec.data.building.output.queries import Waiting
from polyvec.data.building.output.spelling import json_line, written_id, written_text

__all__ = ["UNREADABLE", "Summary", "write_dataset"]

logger = logging.getLogger(__name__)

UNREADABLE = "unreadable"
_EMPTY, _NEVER_CAME = "empty text", "missing document"


@dataclass(frozen=True, slots=True)
class Summary:
    """What was written.

    Attributes:
        rejections: number by reason.
    """

    n_documents: int
    n_queries: int
    rejections: Counter[str] = field(default_factory=Counter)


def write_dataset(
    source: Source, folder: Path, about: About, *, overwrite: bool = False, show_progress: bool = False
) -> Summary:
    """Write documents, queries and grades to a folder in the layout of BEIR, with images as files and a card.

    Documents of equal text or equal pixels become the first of them, and queries of equal text one query with all their
    documents; what is left out stands in `rejected.jsonl`. The folder appears when it is complete. Until then, the work
    is in `FOLDER.partial`, where a run that was stopped goes on: an image that is there is not drawn again if its
    document says the same of itself. Remove `FOLDER.partial` after a change of what functions draw.

    Raises:
        ValueError: the folder is there already, an id stands twice with different content, a grade is below 1, or there
            is no document or no query to write.
        OSError: a file cannot be written.
    """
    with unfinished(folder, overwrite=overwrite) as work, _Files(work) as files:
        if files.images.n_left:
            logger.warning(
                "%s is an unfinished run; %d images of it are used again", work.resolve(), files.images.n_left
            )
        for item in tqdm(source, unit=" items", disable=not show_progress):
            match item:
                case CorpusItem():
                    files.add_document(item)
                case Query():
                    files.add_query(item)
                case Rejection():
                    files.reject(replace(item, document=written_id(item.document)))
                case _:
                    raise TypeError(f"the source yielded {item!r}; it must yield CorpusItem, Query and Rejection.")
        files.finish()
        counts = files.counts
        if not counts.documents or not counts.queries:
            if not counts.documents:
                shutil.rmtree(work, ignore_errors=True)
            missing = "query" if counts.documents else "document"
            reasons = ", ".join(f"{reason}: {n}" for reason, n in counts.rejections.most_common())
            last = files.last_rejection
            shown = "" if last is None else f"; the last: {': '.join(filter(None, (last.what, last.detail)))}"
            raise ValueError(
                f"there is no {missing} to write to {str(folder)!r}; rejected were {reasons or 'none'}{shown}."
            )
        name = folder.absolute().name
        (work / "new" / "README.md").write_text(written_text(card(about, counts, name)), "utf-8")
    return Summary(counts.documents.total(), counts.queries.total(), counts.rejections)


class _Files:
    """The files of a dataset. In memory are the ids of documents and queries, and digests of their contents."""

    def __init__(self, work: Path) -> None:
        self._work, self._new = work, work / "new"
        (self._new / "qrels").mkdir(exist_ok=True)
        self.images = ImageFiles(self._new / "images", work / "journal.jsonl")
        self._queries = Waiting(work / "queries.jsonl")
        self.counts = Counts()
        self.last_rejection: Rejection | None = None
        self._content_by_id: dict[str, bytes] = {}
        self._id_by_content: dict[bytes, str] = {}
        self._problem_by_id: dict[str, str] = {}

    def __enter__(self) -> "_Files":
        self._open = ExitStack()
        self._open.callback(self._queries.close)
        self._corpus, self._rejected = self._opened(CORPUS), self._opened(REJECTED)
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def add_document(self, item: CorpusItem) -> None:
        """Write a document, unless it is a duplicate or cannot be read."""
        item = replace(item, id=written_id(item.id), text=written_text(item.text))
        if not item.id:
            raise ValueError(f"a document of {item.source!r} has an empty id; give it one.")
        width = height = 0
        try:
            if isinstance(item.content, str):
                text = written_text(item.content)
                if not text.strip():
                    self._leave_out(item, _EMPTY, "")
                    return
                row = {"text": text}
                content = hashlib.blake2b(text.strip().encode(), digest_size=16).digest()
            else:
                image = self.images.add(item)
                row, width, height = {"image": f"images/{image.file}", "text": item.text}, image.width, image.height
                content = bytes.fromhex(image.content)
        except ValueError as error:
            self._leave_out(item, UNREADABLE, str(error))
            return
        is_again = item.id in self._content_by_id
        if self._content_by_id.setdefault(item.id, content) != content:
            raise ValueError(f"the id {item.id!r} is that of two different documents; give each its own.")
        first = self._id_by_content.setdefault(content, item.id)
        if is_again or first != item.id:
            self.reject(Rejection("duplicate document", item.id, document=first, detail=first))
            return
        facts = {name: getattr(item, name) for name in ("language", "kind", "group", "source")}
        self._corpus.write(json_line({"_id": item.id, **row, **{name: written_text(facts[name]) for name in facts}}))
        counts = self.counts
        counts.documents[item.language, item.kind] += 1
        counts.n_images += width > 0
        counts.width += width
        counts.height += height

    def add_query(self, query: Query) -> None:
        """Keep a query until all documents are known."""
        if not query.text.strip():
            self.reject(Rejection(_EMPTY, query.id, document=written_id(next(iter(query.relevant), ""))))
        else:
            self._queries.add(query)

    def reject(self, rejection: Rejection) -> None:
        """Write down what was left out, and count it."""
        self._rejected.write(json_line({name: written_text(text) for name, text in asdict(rejection).items()}))
        self.counts.rejections[rejection.reason] += 1
        self.last_rejection = rejection

    def finish(self) -> None:
        """Write the queries, and remove images of documents that are none any more."""
        with self._opened(QUERIES) as queries, self._opened(QRELS) as qrels:
            qrels.write("query-id\tcorpus-id\tscore\n")
            for query, duplicates in self._queries.all():
                self._write_query(query, duplicates, queries, qrels)
        self.images.remove_others()

    def _write_query(self, query: Query, duplicates: list[Query], queries: IO[str], qrels: IO[str]) -> None:
        grades: dict[str, int] = {}
        missing: list[str] = []
        for one in (query, *duplicates):
            for document, grade in one.relevant.items():
                content = self._content_by_id.get(document)
                if content is None:
                    missing.append(document)
                else:
                    first = self._id_by_content[content]
                    grades[first] = max(grade, grades.get(first, grade))
        for document in missing if grades else missing[:1]:
            problem = self._problem_by_id.get(document, _NEVER_CAME)
            reason = "one of several answers left out" if grades else problem
            self.reject(Rejection(reason, query.text, document=document, detail=problem if grades else "a query of it"))
        if not grades:
            if not missing:
                self.reject(Rejection("no relevant document", query.text))
            return
        for duplicate in duplicates:
            self.reject(Rejection("duplicate query", duplicate.text, document=next(iter(grades)), detail=query.id))
        facts = {name: written_text(getattr(query, name)) for name in ("language", "kind", "origin")}
        queries.write(json_line({"_id": query.id, "text": query.text, **facts}))
        qrels.writelines(f"{query.id}\t{document}\t{grade}\n" for document, grade in grades.items())
        self.counts.queries[query.language, query.kind] += 1
        self.counts.origins[query.origin] += 1
        self.counts.most_relevant = max(self.counts.most_relevant, len(grades))

    def _leave_out(self, item: CorpusItem, reason: str, detail: str) -> None:
        self._problem_by_id[item.id] = reason
        self.reject(Rejection(reason, item.source or item.id, document=item.id, detail=detail))

    def _opened(self, name: str) -> IO[str]:
        return self._open.enter_context((self._new / name).open("w", encoding="utf-8", newline="\n"))
