"""Consistency filtering: pairs whose document a search does not find by their query (Dai et al., arXiv 2209.11755)."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from tqdm import tqdm

from polyvec.encoder import Encoder
from polyvec.retrieval import Mode
from polyvec.search import Hit, Identity, search_readable
from polyvec.train.data.documents import Contents, ExampleDocuments
from polyvec.train.data.examples import Example
from polyvec.train.selection.searching import EncoderSearch

__all__ = ["Misfit", "misfits"]

_QUERIES = 1024  # searched at a time
_TIE = 1e-6  # of a score: rounding depends on a document's place in a block


@dataclass(frozen=True, slots=True)
class Misfit:
    """An example to remove: it cannot be read, or its documents do not fit its query."""

    is_unreadable: bool
    detail: str


def misfits(
    examples: Sequence[Example],
    positions: Sequence[int],
    *,
    k: int,
    encoder: Encoder,
    mode: Mode,
    task: str,
    truncate_dim: int | None,
    dpi: float,
    show_progress: bool,
) -> dict[int, Misfit]:
    """Return the examples of whose documents none is among the first `k` for its query, by position.

    Documents are those of the examples at `positions`, each content once. Other documents of an equal query do not
    count. Of equal scores, the example's own document comes last. Examples with a gold score always fit.
    """
    contents = Contents()
    documents = ExampleDocuments(examples, positions, contents)
    answers = _answers(examples, positions, contents)
    search = EncoderSearch(
        encoder,
        documents,
        task=task,
        multivector=mode != "dense",
        truncate_dim=truncate_dim,
        dpi=dpi,
        show_progress=show_progress,
    )
    removed: dict[int, Misfit] = {}
    unscored = [position for position in positions if examples[position].score is None]
    with tqdm(total=len(unscored), desc="Searching", unit="query", disable=not show_progress) as bar:
        for start in range(0, len(unscored), _QUERIES):
            block = unscored[start : start + _QUERIES]
            queries = [examples[position].query for position in block]
            known = [answers.get(contents.key_or_none(query), frozenset()) for query in queries]
            limit = k + max(map(len, known))
            results = search_readable(search, queries, limit=limit, mode=mode, task=task, dpi=dpi)
            for position, hits, others in zip(block, results, known, strict=True):
                if (misfit := _judge(examples[position], hits, others, k, contents, search.failures)) is not None:
                    removed[position] = misfit
            bar.update(len(block))
    return removed


def _answers(
    examples: Sequence[Example], positions: Sequence[int], contents: Contents
) -> dict[int | None, Set[Identity]]:
    """Return the keys of all documents of equal queries, by the key of the query."""
    answers: dict[int | None, set[Identity]] = {}
    for position in positions:
        example = examples[position]
        known = answers.setdefault(contents.key_or_none(example.query), set())
        known.update(_keys(example, contents))
    return dict(answers)


def _judge(
    example: Example,
    hits: Sequence[Hit] | str,
    answers: Set[Identity],
    k: int,
    contents: Contents,
    failures: Mapping[Identity, str],
) -> Misfit | None:
    if isinstance(hits, str):
        return Misfit(is_unreadable=True, detail=hits)
    own = _keys(example, contents)
    if not own - failures.keys():
        reason = next((failures[identity] for identity in own), "its documents cannot be read.")
        return Misfit(is_unreadable=True, detail=reason)
    best = max((hit.score for hit in hits if hit.id in own), default=None)
    others = [hit.score for hit in hits if hit.id not in answers]
    if best is None:
        return Misfit(is_unreadable=False, detail=f"{len(others)} or more other documents fit the query better")
    n_better = sum(score >= best - _TIE * max(1.0, abs(best)) for score in others)
    if n_better < k:
        return None
    return Misfit(is_unreadable=False, detail=f"{n_better} or more other documents fit the query at least as well")


def _keys(example: Example, contents: Contents) -> set[Identity]:
    keys = map(contents.key_or_none, example.positives)
    return {key for key in keys if key is not None}
