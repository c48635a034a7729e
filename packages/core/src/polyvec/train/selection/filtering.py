"""Remove examples that would harm training: duplicates, wrong languages, pairs that do not fit each other."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tqdm import tqdm

from polyvec.alarms import pass_alarm
from polyvec.data.documents import loaded
from polyvec.data.languages import Languages
from polyvec.data.near_duplicates import Features, Sketches, features
from polyvec.encoder import Encoder
from polyvec.retrieval import Mode
from polyvec.train.data.documents import Contents
from polyvec.train.data.examples import Document, Example
from polyvec.train.selection.consistency import misfits

__all__ = ["REASONS", "Filtered", "Reason", "Rejection", "filter_examples"]

Reason = Literal["unreadable", "too short", "too long", "exact duplicate", "near duplicate", "language", "inconsistent"]
REASONS: tuple[Reason, ...] = get_args(Reason)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an example was removed.

    Attributes:
        detail: what is wrong in particular, such as the place of the example that it repeats.
    """

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Filtered:
    """What became of the examples, by their positions.

    Attributes:
        kept: positions of the examples that stay, ascending.
        rejected: the others.
        n_unknown: examples that stay although the language of one of their texts is unknown: too short to tell.
    """

    kept: Sequence[int]
    rejected: Mapping[int, Rejection]
    n_unknown: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """The number of examples removed for each reason, zeros included."""
        counts = Counter(rejection.reason for rejection in self.rejected.values())
        return {reason: counts[reason] for reason in REASONS}


def filter_examples(
    examples: Sequence[Example],
    *,
    near_duplicates: float | None = 0.9,
    languages: Sequence[str] = (),
    min_length: int | None = None,
    max_length: int | None = None,
    consistency: int | None = None,
    encoder: Encoder | None = None,
    mode: Mode = "dense",
    task: str = "retrieval",
    truncate_dim: int | None = None,
    dpi: float = 150,
    show_progress: bool = False,
) -> Filtered:
    """Find the examples to train on. Of equal or similar examples, the first stays.

    An example is compared by its query and its positives, together: one document may have many queries, and one query
    many documents. Examples are read several times and never kept in memory.

    Args:
        examples: of one or more sources.
        near_duplicates: remove examples whose query and documents are all near duplicates of an earlier example's:
            texts by the Jaccard similarity of their sequences of six bytes, from this threshold on; images by the edges
            of a thumbnail. None keeps them.
        languages: ISO 639 codes. Examples with a text in another language are removed; texts that are too short to
            tell are kept. None given: languages are not looked at. Not for code.
        min_length: remove examples with a text of fewer characters.
        max_length: remove examples with a text of more characters.
        consistency: remove pairs that do not fit each other: examples of whose documents none is among the first
            `consistency` for its query, among the documents of all examples that stay until then (consistency
            filtering; Dai et al., arXiv 2209.11755, 3.2). Other documents of the same query do not count, and of equal
            scores the example's own document comes last. Examples with a gold score are kept.
        encoder: makes the vectors for `consistency`.
        mode: how documents are ranked for `consistency`. Mode `dense` keeps one vector per document in memory; the
            other modes also keep multi-vectors.
        task: of the encoder.
        truncate_dim: cuts dense vectors.
        dpi: resolution of pages of PDF files.
        show_progress: show progress bars.

    Raises:
        ValueError: an impossible threshold, length or k, an unknown language, or `consistency` without an encoder.
        ImportError: languages need py3langid, in the extra `train`.
    """
    for name, number in (("min_length", min_length), ("max_length", max_length), ("consistency", consistency)):
        if number is not None and number < 1:
            raise ValueError(f"`{name}` is {number}; it may be 1 or more.")
    if min_length and max_length and min_length > max_length:
        raise ValueError(f"`min_length` is {min_length}, above the `max_length` of {max_length}.")
    if consistency is not None and encoder is None:
        raise ValueError("`consistency` compares vectors; give an `encoder` that makes them.")
    if encoder is not None and task not in encoder.tasks:
        raise ValueError(f"`task` is {task!r}; this encoder has {', '.join(map(repr, encoder.tasks))}.")
    sieve = _Sieve(
        examples,
        Sketches(near_duplicates) if near_duplicates is not None else None,
        Languages(languages) if languages else None,
        lengths=(min_length or 0, max_length or math.inf),
        dpi=dpi,
    )
    for position in tqdm(range(len(examples)), desc="Comparing", unit="row", disable=not show_progress):
        sieve.add(position)
    sieve.remove_near_duplicates()
    rejected = sieve.rejected
    if consistency is not None and encoder is not None:
        positions = [position for position in range(len(examples)) if position not in rejected]
        removed = misfits(
            examples,
            positions,
            k=consistency,
            encoder=encoder,
            mode=mode,
            task=task,
            truncate_dim=truncate_dim,
            dpi=dpi,
            show_progress=show_progress,
        )
        for position, misfit in removed.items():
            rejected[position] = Rejection("unreadable" if misfit.is_unreadable else "inconsistent", misfit.detail)
    kept = [position for position in range(len(examples)) if position not in rejected]
    return Filtered(kept, dict(sorted(rejected.items())), len(sieve.unknown - rejected.keys()))


class _Sieve:
    """Looks at each example once, and keeps of it what later examples are compared with."""

    def __init__(
        self,
        examples: Sequence[Example],
        sketches: Sketches | None,
        languages: Languages | None,
        *,
        lengths: tuple[float, float],
        dpi: float,
    ) -> None:
        self.rejected: dict[int, Rejection] = {}
        self.unknown: set[int] = set()
        self._examples, self._dpi = examples, dpi
        self._sketches, self._languages, self._lengths = sketches, languages, lengths
        self._contents = Contents()
        self._first: dict[tuple[int, ...], int] = {}  # by the content of an example, its position

    def add(self, position: int) -> None:
        try:
            rejection = self._look(position)
        except (ValueError, OSError) as error:
            pass_alarm(error)
            rejection = Rejection("unreadable", str(error))
        if rejection is not None:
            self.rejected[position] = rejection

    def remove_near_duplicates(self) -> None:
        if self._sketches is not None:
            for position, original in self._sketches.duplicates(self._features_again).items():
                self.rejected[position] = Rejection("near duplicate", f"of {self._place(original)}")

    def _look(self, position: int) -> Rejection | None:
        example = self._examples[position]
        items = [example.query, *example.positives]
        texts = [item for item in items if isinstance(item, str)]
        shortest, longest = min(map(len, texts), default=math.inf), max(map(len, texts), default=0)
        if shortest < self._lengths[0]:
            return Rejection("too short", f"{shortest} characters")
        if longest > self._lengths[1]:
            return Rejection("too long", f"{longest} characters")
        query, *documents = map(self._contents.key, items)
        first = self._first.setdefault((query, *sorted(documents)), position)
        if first != position:
            return Rejection("exact duplicate", f"of {self._place(first)}")
        if self._languages is not None:
            verdicts = [self._languages.judge(text) for text in texts]
            others = [code for verdict, code in verdicts if verdict == "other"]
            if others:
                return Rejection("language", ", ".join(dict.fromkeys(others)))
            if any(verdict == "unknown" for verdict, _ in verdicts):
                self.unknown.add(position)
        if self._sketches is not None:
            self._sketches.add(position, self._features(items))
        return None

    def _features(self, items: Sequence[Document]) -> list[Features]:
        return [features(loaded(item, dpi=self._dpi)) for item in items]

    def _features_again(self, position: int) -> list[Features]:
        example = self._examples[position]
        return self._features([example.query, *example.positives])

    def _place(self, position: int) -> str:
        return self._examples[position].place or f"example {position}"
