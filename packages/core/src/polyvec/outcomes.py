"""Outcomes: the vectors of single items, and their collection into the result of a call. No torch."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from tqdm import tqdm

from polyvec.compression import truncate
from polyvec.encoder import Attempt, Encoder
from polyvec.types import Embeddings, Failure, Grid

__all__ = ["Encoding", "Outcome", "collect", "collect_shown", "once_each"]


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """The vectors of one item.

    Attributes:
        dense: unit vector of full length.
        multivector: one unit vector per token; None unless requested.
        grid: where an image's patches are in the multi-vector.
        cut: the text was longer.
    """

    dense: Float32[np.ndarray, "dim"]
    multivector: Float32[np.ndarray, "tokens late_dim"] | None
    grid: Grid | None = None
    cut: bool = False

    @property
    def finite(self) -> bool:
        """True if all numbers can be compared."""
        return all(np.isfinite(rows).all() for rows in (self.dense, self.multivector) if rows is not None)


Outcome = Encoding | str  # or the reason of a failure


def once_each(
    keys: Sequence[Hashable], run: Callable[[Sequence[int]], Iterator[tuple[int, Outcome]]]
) -> Iterator[tuple[int, Outcome]]:
    """Run one of all items with equal keys, and yield each item's index and outcome. The key None equals no other.

    If it fails, the others run, too, because the reason names the item. `run` encodes items, given their indices; it
    yields positions in the list of indices, and outcomes.
    """
    indices_by_key: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        indices_by_key.setdefault((index, None) if key is None else key, []).append(index)
    groups = list(indices_by_key.values())
    unfinished: list[int] = []
    for position, outcome in run([group[0] for group in groups]):
        first, *others = groups[position]
        yield first, outcome
        if isinstance(outcome, str):
            unfinished += others
        else:
            yield from ((index, outcome) for index in others)
    if unfinished:
        yield from ((unfinished[position], outcome) for position, outcome in run(unfinished))


def collect(
    outcomes: Iterable[tuple[int, Outcome]],
    n: int,
    *,
    dim: int,
    multivector: bool,
    fingerprint: str,
    done: Callable[[], object] = lambda: None,
) -> tuple[Attempt, list[int]]:
    """Put the outcomes of `n` items in order. Dense vectors longer than `dim` are cut and have unit length again.

    `fingerprint` is that of the encoder. `done` is called after each outcome, for progress bars.

    Returns:
        The result, and the ascending indices of the texts that were cut.
    """
    dense = np.zeros((n, dim), np.float32)
    tokens: list[np.ndarray | None] = [None] * n
    grids: list[Grid | None] = [None] * n
    failures: dict[int, Failure] = {}
    cut: list[int] = []
    seen: set[int] = set()  # multi-vectors that an item has, so that equal items have their own
    for index, outcome in outcomes:
        done()
        if isinstance(outcome, str):
            failures[index] = Failure(index, "", outcome)
            continue
        dense[index] = outcome.dense if len(outcome.dense) == dim else truncate(outcome.dense[None], dim)[0]
        rows = outcome.multivector
        tokens[index], grids[index] = rows.copy() if rows is not None and id(rows) in seen else rows, outcome.grid
        seen.add(id(rows))
        if outcome.cut:
            cut.append(index)
    kept = [index for index in range(n) if index not in failures]
    embeddings = Embeddings(
        dense[kept] if failures else dense,
        tuple(rows for rows in tokens if rows is not None) if multivector else None,
        tuple(grids[index] for index in kept),
        fingerprint,
    )
    return Attempt(embeddings, kept, [failures[index] for index in sorted(failures)]), sorted(cut)


def collect_shown(
    encoder: Encoder,
    outcomes: Iterable[tuple[int, Outcome]],
    n: int,
    *,
    dim: int,
    multivector: bool,
    show_progress: bool,
) -> tuple[Attempt, list[int]]:
    """Call `collect` for an encoder, with a progress bar if `show_progress`."""
    with tqdm(total=n, desc="Encoding", unit="item", disable=not show_progress) as bar:
        return collect(outcomes, n, dim=dim, multivector=multivector, fingerprint=encoder.fingerprint, done=bar.update)
