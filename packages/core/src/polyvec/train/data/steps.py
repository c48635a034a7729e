"""The steps of a run: which pairs each of them draws from which source."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64
from torch.utils.data import Dataset

from polyvec.train.data.examples import Document, Example, Pair, PdfPage, Step
from polyvec.train.data.sources import Source

__all__ = ["Steps"]

Kind = Literal["text", "image"]

# These keep the streams of random numbers apart.
_STREAMS: dict[Kind, int] = {"text": 0, "image": 1}
_CHOICE, _ORDER, _DRAW, _STEP = range(2, 6)


class Steps(Dataset[Step]):
    """Steps of text pairs and image pairs. Each half of a step is drawn from one source.

    Step i depends on the sources, the seed and i alone, and nothing before it is read from disk. So a run that resumes
    at step i draws what it would have drawn, whatever the number of loader workers, and a longer run begins with the
    steps of a shorter run. A source is drawn without replacement within each of its epochs; examples that do not fill
    a batch wait for the next epoch. Each epoch draws other positives and negatives of an example with several.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[Example]],
        weights: Sequence[float | None] | None = None,
        *,
        n_texts: int,
        n_images: int,
        seed: int,
        n_steps: int,
        n_negatives: int = 0,
        temperature: float = 1.0,
    ) -> None:
        """Plan which source each step draws from.

        Args:
            sources: an example whose documents are texts belongs to the text half of a step, others to the image half.
            weights: how often each source is drawn, relative to the others. Without weights, a source is drawn in
                proportion to (its examples of the kind) ** `temperature`.
            n_texts: text pairs of a step. Without examples of a kind, its half is empty.
            n_images: image pairs of a step.
            seed: of every random choice.
            n_steps: length of the sequence.
            n_negatives: hard negatives of each pair, or fewer if the example has fewer.
            temperature: 1 draws all examples equally often, 0 all sources.

        Raises:
            ValueError: a source has fewer examples of a kind than a batch, there is nothing to draw, or an argument is
                impossible.
        """
        counts = {"n_texts": n_texts, "n_images": n_images, "n_negatives": n_negatives, "n_steps": n_steps}
        for argument, number in {**counts, "seed": seed, "temperature": temperature}.items():
            if not 0 <= number < math.inf:
                raise ValueError(f"`{argument}` is {number}; it must be 0 or more, and finite.")
        self.sources, self.seed, self.n_negatives, self.n_steps = list(sources), seed, n_negatives, n_steps
        self._names = [getattr(source, "name", f"source {position}") for position, source in enumerate(sources)]
        self._weights, self._temperature = _checked_weights(weights, self._names), temperature
        indices = [_by_kind(source) for source in self.sources]
        self._texts = self._half("text", [rows["text"] for rows in indices], n_texts)
        self._images = self._half("image", [rows["image"] for rows in indices], n_images)
        if self._texts is None and self._images is None:
            n_text, n_image = (sum(len(rows[kind]) for rows in indices) for kind in _STREAMS)
            raise ValueError(
                f"there is nothing to draw: the sources have {n_text:,} text examples and {n_image:,} image examples, "
                f"`n_texts` is {n_texts} and `n_images` is {n_images}."
            )

    def _half(self, kind: Kind, indices: Sequence[Int64[np.ndarray, "_"]], size: int) -> "_Half | None":
        lengths = np.array([len(rows) for rows in indices], np.float64)
        if not size or not lengths.any():
            return None
        weights = lengths**self._temperature if self._weights is None else np.array(self._weights, np.float64)
        weights = np.where(lengths > 0, weights, 0.0)
        for position, (name, rows) in enumerate(zip(self._names, indices, strict=True)):
            if 0 < len(rows) < size and weights[position]:
                raise ValueError(
                    f"{name} has {len(rows)} {kind} examples, and a step takes {size}; set `n_{kind}s` to at most "
                    f"{len(rows)}, or add examples."
                )
        if not weights.any():
            raise ValueError(f"every source of {kind} examples has the weight 0; give a source another weight.")
        return _Half(indices, weights, size, self.n_steps, (self.seed, _STREAMS[kind]))

    def __len__(self) -> int:
        return self.n_steps

    def __getitem__(self, index: int) -> Step:
        if not 0 <= index < self.n_steps:
            raise IndexError(f"step {index} is not among the {self.n_steps} steps.")
        texts, images = (
            [self._pair(*row) for row in half.rows(index)] if half else [] for half in (self._texts, self._images)
        )
        seed = int(np.random.SeedSequence((self.seed, _STEP, index)).generate_state(1, np.uint64)[0])
        return Step(texts, images, seed=seed >> 1)  # torch takes seeds of 63 bits

    def _pair(self, source: int, epoch: int, row: int) -> Pair:
        example = self.sources[source][row]
        rng = np.random.default_rng((self.seed, _DRAW, source, epoch, row))
        document = example.positives[int(rng.integers(len(example.positives)))]
        negatives = rng.permutation(len(example.negatives))[: self.n_negatives]
        return Pair(
            example.query,
            document,
            tuple(example.negatives[int(position)] for position in negatives),
            score=example.score,
            scale="" if example.score is None else self._names[source],
            group=example.group or _file_of(document),
            place=example.place,
        )


class _Half:
    """The text pairs or the image pairs of all steps: `size` of each step, from one source.

    `indices` are those of the examples of this kind in each source; `weights` are never negative.
    """

    def __init__(
        self,
        indices: Sequence[Int64[np.ndarray, "_"]],
        weights: Float64[np.ndarray, "sources"],
        size: int,
        n_steps: int,
        stream: tuple[int, int],
    ) -> None:
        self._indices, self._size, self._stream = indices, size, stream
        # One random number per step, so the numbers of the first steps do not depend on the number of steps.
        numbers = np.random.default_rng((*stream, _CHOICE)).random(n_steps)
        self._sources = np.searchsorted(np.cumsum(weights) / weights.sum(), numbers, side="right")
        self._turns = np.zeros(n_steps, np.int64)  # how often the source of a step was drawn before
        for source in range(len(indices)):
            steps = np.flatnonzero(self._sources == source)
            self._turns[steps] = np.arange(len(steps))
        self._orders: dict[int, tuple[int, Int64[np.ndarray, _]]] = {}  # by source: of the epoch drawn from last

    def rows(self, step: int) -> Iterator[tuple[int, int, int]]:
        """Yield the source, its epoch, and the index in the source of each example of a step."""
        source, turn = int(self._sources[step]), int(self._turns[step])
        epoch, batch = divmod(turn, len(self._indices[source]) // self._size)
        order = self._order(source, epoch)[batch * self._size : (batch + 1) * self._size]
        return ((source, epoch, int(row)) for row in self._indices[source][order])

    def _order(self, source: int, epoch: int) -> Int64[np.ndarray, "_"]:
        known = self._orders.get(source)
        if known is None or known[0] != epoch:
            rng = np.random.default_rng((*self._stream, _ORDER, source, epoch))
            known = self._orders[source] = epoch, rng.permutation(len(self._indices[source]))
        return known[1]


def _by_kind(source: Sequence[Example]) -> dict[Kind, Int64[np.ndarray, "_"]]:
    """Return the indices of a source's text examples and of its image examples."""
    if isinstance(source, Source):
        is_image = source.is_image
    else:
        is_image = np.array([not isinstance(example.positives[0], str) for example in source], bool)
    return {"text": np.flatnonzero(~is_image), "image": np.flatnonzero(is_image)}


def _checked_weights(weights: Sequence[float | None] | None, names: Sequence[str]) -> list[float] | None:
    given = list(weights or [])
    if all(weight is None for weight in given):
        return None
    if len(given) != len(names):
        raise ValueError(f"there are {len(given)} weights for {len(names)} sources; give each source its weight.")
    for weight, name in zip(given, names, strict=True):
        if weight is None:
            raise ValueError(f"{name} has no weight, and other sources have one; give all sources a weight, or none.")
        if not 0 <= weight < math.inf:
            raise ValueError(f"the weight of {name} is {weight}; it must be 0 or more, and finite.")
    return [weight for weight in given if weight is not None]


def _file_of(document: Document) -> str | None:
    """Return the group of a page whose example names none: its file."""
    return document.path.as_posix() if isinstance(document, PdfPage) else None
