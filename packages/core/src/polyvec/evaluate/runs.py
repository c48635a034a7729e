"""Runs: the rankings of several searches of one dataset, with all that their measures need; kept as a JSON file."""

import json
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from polyvec.data.datasets import Dataset
from polyvec.evaluate.metrics import Qrels, Ranking
from polyvec.types import Failure
from polyvec.whole_files import write_text

__all__ = ["Run", "Searched", "ranked"]

_FORMAT = "polyvec run 1"


@dataclass(frozen=True, slots=True, eq=False)
class Searched:
    """One search.

    Attributes:
        kind: which vectors it uses: `dense`, `late`, `two-stage`, `hybrid`; `text` for baselines that read texts.
        choice: how these are stored, or which baseline it is.
        bytes_per_item: mean size of what is stored of a document; None if unknown.
        ms_per_query: time to rank, of a query that is encoded already; for a collection, with encoding.
        rankings: for each query the scores of its best documents.
    """

    kind: str
    choice: str
    bytes_per_item: float | None
    ms_per_query: float
    rankings: Mapping[str, Ranking]

    @property
    def name(self) -> str:
        """Kind and choice."""
        return f"{self.kind}: {self.choice}"


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """The searches of one dataset.

    Attributes:
        title: of the dataset.
        settings: what the result depends on: model, task and such.
        depth: how many documents of each ranking are kept, at least.
        qrels: the judged queries with their grades.
        queries: their texts.
        query_facts, document_facts: see `Dataset`.
        left_out: what could not be read or judged, with reasons.
        notes: what else a reader of the result must know.
    """

    title: str
    settings: Mapping[str, Any]
    depth: int
    qrels: Qrels
    searches: Sequence[Searched]
    queries: Mapping[str, str] = field(default_factory=dict)
    query_facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    document_facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    left_out: Sequence[Failure] = ()
    notes: Sequence[str] = ()

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        searches: Sequence[Searched],
        *,
        settings: Mapping[str, Any],
        depth: int,
        left_out: Sequence[Failure] = (),
        notes: Sequence[str] = (),
    ) -> "Run":
        """Keep what the dataset knows of its queries, and of the documents that answer them."""
        qrels = dataset.qrels
        answers = {document for gains in qrels.values() for document in gains}
        return cls(
            title=dataset.title,
            settings=settings,
            depth=depth,
            qrels=qrels,
            searches=searches,
            queries=dict(dataset.queries),
            query_facts={query: facts for query, facts in dataset.query_facts.items() if query in qrels and facts},
            document_facts={key: facts for key, facts in dataset.document_facts.items() if key in answers and facts},
            left_out=[*dataset.left_out, *left_out],
            notes=notes,
        )

    def save(self, path: Path) -> None:
        """Write the run to one JSON file. An existing file is replaced.

        Raises:
            OSError: the file cannot be written.
        """
        write_text(path, json.dumps({"format": _FORMAT, **asdict(self)}))

    @classmethod
    def load(cls, path: Path) -> "Run":
        """Read a run that `save` wrote.

        Raises:
            OSError: the file is missing or cannot be read.
            ValueError: it is no file of a run.
        """
        try:
            content = json.loads(path.read_text("utf-8"))
            if content.pop("format", None) != _FORMAT:
                raise ValueError(f"its `format` is not {_FORMAT!r}")  # noqa: TRY301 — as if it were any other fault
            searches = [Searched(**search) for search in content.pop("searches")]
            left_out = [Failure(**failure) for failure in content.pop("left_out")]
            run = cls(**content, searches=searches, left_out=left_out)
            _check(run)
            return run  # noqa: TRY300 — `_check` raises, too
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(f"{str(path)!r} is no run that `polyvec evaluate --output` wrote: {error}.") from error


def ranked(
    scores: Float32[np.ndarray, " documents"], ids: Sequence[str], grades: Mapping[int, int | float], *, n: int
) -> dict[str, float]:
    """Return the scores of the `n` best documents, and of more if they tie with the last of these.

    Of such ties there are as many as the first `n` could have in the best, in the worst and in the usual order of ties,
    so that `metrics.measure` finds all three. Documents that score -inf are not found.

    Raises:
        ValueError: a score is not a number.
    """
    if np.isnan(scores).any():
        raise ValueError(f"the score of document {ids[int(np.isnan(scores).argmax())]!r} is not a number.")
    cut = np.partition(scores, -n)[-n] if n < len(scores) else -np.inf
    chosen: list[int] = np.flatnonzero(scores > cut).tolist()
    if cut > -np.inf:
        tied, room = np.flatnonzero(scores == cut).tolist(), n - len(chosen)
        relevant = sorted((i for i in tied if grades.get(i, 0) > 0), key=lambda i: -grades[i])
        others = [i for i in tied if grades.get(i, 0) <= 0]
        # If the others do not fill the worst order, the lowest grades stand in it.
        best = relevant[:room] if len(others) >= room else relevant
        chosen += _unique(sorted(tied, key=ids.__getitem__, reverse=True)[:room], best, others[:room])
    return {ids[index]: float(scores[index]) for index in chosen}


def _unique(*parts: Iterable[int]) -> list[int]:
    return list(dict.fromkeys(index for part in parts for index in part))


def _check(run: Run) -> None:
    """Refuse what a file may hold that `save` never writes."""
    _check_fields("run", run, title=_is_text, depth=_is_whole, settings=_is_mapping, notes=_list_of(_is_text))
    _check_fields("run", run, queries=_mapping_of(_is_text), qrels=_mapping_of(_mapping_of(_is_finite)))
    _check_fields("run", run, query_facts=_mapping_of(_mapping_of(_is_text)))
    _check_fields("run", run, document_facts=_mapping_of(_mapping_of(_is_text)))
    for search in run.searches:
        _check_fields("search", search, kind=_is_text, choice=_is_text, ms_per_query=_is_number)
        _check_fields("search", search, bytes_per_item=lambda value: value is None or _is_number(value))
        _check_fields("search", search, rankings=_mapping_of(_mapping_of(_is_number)))
    for failure in run.left_out:
        _check_fields("failure", failure, index=_is_whole, source=_is_text, reason=_is_text)


def _check_fields(kind: str, item: object, /, **allowed: Callable[[Any], bool]) -> None:
    for name, is_allowed in allowed.items():
        value = getattr(item, name)
        if not is_allowed(value):
            raise TypeError(f"`{name}` of a {kind} is {reprlib.repr(value)}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return type(value) is int


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (_is_whole(value) and abs(value) < 1 << 53)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _mapping_of(is_allowed: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(is_allowed, value.values()))


def _list_of(is_allowed: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(is_allowed, value))
