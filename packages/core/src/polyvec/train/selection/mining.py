"""Mine hard negatives: documents that a search ranks high for a query, although they do not answer it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from tqdm import tqdm

from polyvec.retrieval import Mode
from polyvec.search import Hit, Identity, Search, search_readable
from polyvec.train.data.corpora import identities
from polyvec.train.data.documents import Contents
from polyvec.train.data.examples import Document, Example, file_group
from polyvec.train.selection.negatives import Selection
from polyvec.train.selection.searching import EncoderSearch, document_of

__all__ = ["Mined", "Negative", "mine_negatives"]


@dataclass(frozen=True, slots=True, eq=False)
class Negative:
    """A hard negative, with its score in the mode of the search. `id` is that of the search."""

    id: Identity
    document: Document
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Mined:
    """What was mined for an example.

    Attributes:
        negatives: best first; they may be fewer than wanted.
        positive_score: the smallest score of the example's positives; None if none of them is among what is searched.
        problem: why nothing was mined; else empty.
    """

    negatives: Sequence[Negative] = ()
    positive_score: float | None = None
    problem: str = ""

    def applied(self, example: Example) -> Example:
        """Return the example with these negatives instead of its own."""
        return replace(example, negatives=tuple(negative.document for negative in self.negatives))


def mine_negatives(
    examples: Sequence[Example],
    search: Search,
    *,
    documents: Mapping[Identity, Document] | None = None,
    groups: Mapping[Identity, str] | None = None,
    mode: Mode = "dense",
    task: str = "retrieval",
    ranks: tuple[int, int] = (10, 100),
    selection: Selection | None = None,
    exclude_same_group: bool = True,
    dpi: float = 150,
    batch_size: int = 256,
    show_progress: bool = False,
) -> Iterator[Mined]:
    """Mine hard negatives with anything that searches: an `EncoderSearch`, or a `Collection` of qdrant-polyvec.

    A document is never a negative of a query that it is a positive of, in whatever example, by id or by content. Of
    documents with equal content only the best is taken. One that cannot be read is left out.

    Users of sentence-transformers know this as `mine_hard_negatives`: `range_min`, `range_max` are `ranks`,
    `num_negatives` and `sampling_strategy` are `per_query` and `sampling` of the `selection`, which has the margins
    and limits by the same names; a cross-encoder's place is taken by mode `late` or `two-stage`.

    Args:
        examples: queries and their positives. Examples with a gold score get no negatives.
        search: what is searched.
        documents: what the ids of the search stand for. Default: the documents of an `EncoderSearch`, or what a store
            says of its items: their text, or the file and page that they come from.
        groups: of documents, by id. A page of a PDF belongs to the group of its file.
        mode: how documents are ranked and scored: `dense` by cosine, `late` by MaxSim, `two-stage` by MaxSim among the
            best by cosine.
        task: of the model that searches.
        ranks: the first and the last rank of what may become a negative, counted from 0 and like a slice; the
            positives do not count. The best ranks are left out because many of them are unlabelled positives.
        selection: how many negatives, and their scores. Default: `Selection()`.
        exclude_same_group: leave out documents of the group of the positives, such as other pages of their file.
        dpi: resolution of pages of PDF files that are searched for.
        batch_size: queries that are searched at a time.
        show_progress: show a progress bar.

    Yields:
        For each example, in order, its negatives. `list` collects them all.

    Raises:
        ValueError: at once: impossible `ranks`; later: what the search refuses, such as an unknown mode or task.
    """
    first, last = ranks
    if not 0 <= first < last:
        raise ValueError(f"`ranks` is {first}:{last}; the first is counted from 0 and comes before the last.")
    if batch_size < 1:
        raise ValueError(f"`batch_size` is {batch_size}; it may be 1 or more.")
    if documents is None and isinstance(search, EncoderSearch):
        documents = search.documents
    miner = _Miner(examples, documents, groups or {}, range(first, last), selection or Selection(), exclude_same_group)
    run = partial(search_readable, search, mode=mode, task=task, dpi=dpi)

    def mined() -> Iterator[Mined]:
        with tqdm(total=len(examples), desc="Mining", unit="query", disable=not show_progress) as bar:
            for start in range(0, len(examples), batch_size):
                numbers = range(start, min(start + batch_size, len(examples)))
                block = {number: examples[number] for number in numbers if examples[number].score is None}
                limit = last + max((miner.n_answers(example) for example in block.values()), default=0)
                results = run([example.query for example in block.values()], limit=limit)
                hits = dict(zip(block, results, strict=True))
                for number in numbers:
                    if number not in block:
                        yield Mined(problem="it has a gold score")
                    else:
                        yield miner.mined(number, block[number], hits[number], limit)
                bar.update(len(numbers))

    return mined()


class _Miner:
    """Knows which documents answer which queries, and chooses negatives among the others."""

    def __init__(
        self,
        examples: Sequence[Example],
        documents: Mapping[Identity, Document] | None,
        groups: Mapping[Identity, str],
        ranks: range,
        selection: Selection,
        exclude_same_group: bool,  # noqa: FBT001 — private
    ) -> None:
        self._documents, self._groups, self._exclude_same_group = documents, groups, exclude_same_group
        self._ranks, self._selection = ranks, selection
        self._key_of = Contents().key_or_none
        self._known: dict[Identity, tuple[int | None, str | None]] = {}  # content and file of a document
        self._answers: dict[int | None, set[Identity]] = {}  # contents and ids, by the content of the query
        self._groups_by_key: dict[int, set[str]] = {}
        for example in examples:
            keys, ids = self._keys(example), identities(example.positives)
            self._answers.setdefault(self._key_of(example.query), set()).update(keys, filter(None, ids))
            for key in keys:
                self._groups_by_key.setdefault(key, set()).update(_groups(example))

    def n_answers(self, example: Example) -> int:
        return len(self._answers[self._key_of(example.query)])

    def mined(self, number: int, example: Example, hits: Sequence[Hit] | str, limit: int) -> Mined:
        if isinstance(hits, str):
            return Mined(problem=f"the query cannot be read: {hits}")
        positive, problem = self._positive(example, hits, limit)
        if positive is None and self._selection.needs_positive:
            return Mined(problem=problem)
        answers = self._answers[self._key_of(example.query)]
        own_groups = _groups(example) if self._exclude_same_group else set()
        others = [hit for hit in hits if str(hit.id) not in answers and self._key_of_hit(hit) not in answers]
        in_range = others[self._ranks.start : self._ranks.stop]
        candidates: dict[int, Hit] = {}  # by content
        for hit in in_range:
            key = self._key_of_hit(hit)
            if key is None or key in candidates or (own_groups and own_groups & self._groups_of(hit, key)):
                continue
            candidates[key] = hit
        ranked = list(candidates.values())
        chosen = self._selection.choose([hit.score for hit in ranked], positive, number)
        negatives = [
            Negative(hit.id, document, hit.score)
            for hit in (ranked[place] for place in chosen)
            if (document := document_of(hit, self._documents)) is not None  # only these are read again
        ]
        if negatives:
            return Mined(negatives, positive)
        if not in_range:
            return Mined((), positive, f"no other document has rank {self._ranks.start} or a lower one")
        if not candidates:
            return Mined((), positive, "the documents in the range are of its group, unreadable or not in the corpus")
        return Mined((), positive, "no document in the range has a score within the limits")

    def _positive(self, example: Example, hits: Sequence[Hit], limit: int) -> tuple[float | None, str]:
        """Return the smallest score of the positives, or why it is unknown."""
        scores: dict[Identity | None, float] = {}
        for hit in hits:  # best first
            for name in (str(hit.id), self._key_of_hit(hit)):
                scores.setdefault(name, hit.score)
        scores.pop(None, None)
        smallest = math.inf
        for document, identity in zip(example.positives, identities(example.positives), strict=True):
            names = [name for name in (identity, self._key_of(document)) if name in scores]
            if not names:
                place = f"the first {limit}" if len(hits) >= limit else "what is searched"
                return None, f"its document is not among {place}"
            smallest = min(smallest, max(scores[name] for name in names))
        return smallest, ""

    def _groups_of(self, hit: Hit, key: int) -> set[str]:
        own = self._groups.get(hit.id) or getattr(hit, "metadata", {}).get("group")  # stores have metadata
        groups = {*self._groups_by_key.get(key, ()), self._about(hit)[1], own if isinstance(own, str) else None}
        return {group for group in groups if group is not None}

    def _keys(self, example: Example) -> set[int]:
        keys = map(self._key_of, example.positives)
        return {key for key in keys if key is not None}

    def _key_of_hit(self, hit: Hit) -> int | None:
        return self._about(hit)[0]

    def _about(self, hit: Hit) -> tuple[int | None, str | None]:
        if hit.id not in self._known:
            document = document_of(hit, self._documents)
            about = (None, None) if document is None else (self._key_of(document), file_group(document))
            self._known[hit.id] = about
        return self._known[hit.id]


def _groups(example: Example) -> set[str]:
    groups = {example.group, *map(file_group, example.positives)}
    return {group for group in groups if group is not None}
