"""Fakes for tests of code that uses embeddings: no weights, no torch, vectors that can be worked out by hand."""

import hashlib
import re
from collections.abc import Iterable
from typing import Unpack

import numpy as np

from polyvec.encoder import EncodeOptions, Encoder
from polyvec.images import open_image
from polyvec.inputs import check_options, check_side, check_tasks, check_text, checked_items, checked_size
from polyvec.outcomes import Encoding, Outcome, collect
from polyvec.types import TASKS, Embeddings, Grid, Input, Side

__all__ = ["HashEncoder"]


class HashEncoder(Encoder):
    """An encoder in which equal words have equal vectors.

    A text is its lower-cased words, an image its 28-pixel tiles; each word or tile is a pseudo-random unit vector
    seeded by the SHA-256 of itself and the task. The multi-vector lists those vectors, the dense vector is the unit
    sum of their counterparts in the dense size. A text without words is one fixed vector. Queries and documents are
    encoded alike.
    """

    def __init__(self, *, dim: int = 64, multivector_dim: int = 32, name: str = "hash") -> None:
        self.dim, self.multivector_dim = dim, multivector_dim
        self.fingerprint = f"{name}-{dim}-{multivector_dim}"
        self.tasks, self.sizes, self.license = TASKS, (dim,), "Apache-2.0"

    def encode(
        self, inputs: Iterable[Input], *, side: Side, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Embeddings:
        """Encode; see `Encoder.encode`. `max_length` and `max_pixels` are refused."""
        check_side(side)
        check_options(options, EncodeOptions.__annotations__, "max_length", "max_pixels")
        size = checked_size(options.get("truncate_dim"), self.dim, self.sizes)
        items = checked_items(inputs)
        tasks = check_tasks(task, len(items), self.tasks)
        outcomes = ((index, self._outcome(*pair)) for index, pair in enumerate(zip(items, tasks, strict=True)))
        multivector = options.get("multivector", False)
        collected, _ = collect(outcomes, len(items), dim=size, multivector=multivector, fingerprint=self.fingerprint)
        return collected.result()

    def _outcome(self, item: Input, task: str) -> Outcome:
        try:
            words, grid = self._words(item)
        except ValueError as error:
            return str(error)
        dense = np.sum([_direction(f"{task} {word} dense", self.dim) for word in words], axis=0)
        tokens = np.stack([_direction(f"{task} {word}", self.multivector_dim) for word in words])
        return Encoding((dense / np.linalg.norm(dense)).astype(np.float32), tokens, grid)

    def _words(self, item: Input) -> tuple[list[str], Grid | None]:
        if isinstance(item, str):
            check_text(item)
            return re.findall(r"\w+", item.lower()) or ["<empty>"], None
        pixels = np.asarray(open_image(item))
        rows, columns = -(-pixels.shape[0] // 28), -(-pixels.shape[1] // 28)
        tiles = [pixels[28 * r : 28 * r + 28, 28 * c : 28 * c + 28] for r in range(rows) for c in range(columns)]
        return [hashlib.sha256(tile.tobytes()).hexdigest() for tile in tiles], Grid(rows, columns, 0)


def _direction(word: str, dim: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(dim)
    return (vector / np.linalg.norm(vector)).astype(np.float32)
