"""Fakes for tests of code that uses embeddings: no weights, no torch, vectors that can be worked out by hand."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from polyvec.images import open_image
from polyvec.inputs import check_text, checked_items
from polyvec.prompts import check_task
from polyvec.types import AnyTask, Embeddings, Grid, Input, UnreadableInputs


class HashEmbedder:
    """An encoder in which equal words have equal vectors.

    A text is its lower-cased words, an image its 28-pixel tiles; each word or tile is a pseudo-random unit vector
    seeded by the SHA-256 of itself and the task. The multi-vector lists those vectors, the dense vector is the unit
    sum of their counterparts in the dense size. A text without words is one fixed vector. Queries and documents are
    encoded alike.
    """

    def __init__(self, *, dim: int = 64, multivector_dim: int = 32, name: str = "hash") -> None:
        self.dim = dim
        self.multivector_dim = multivector_dim
        self.fingerprint = f"{name}-{dim}-{multivector_dim}"

    def encode_query(
        self,
        inputs: Sequence[Input],
        *,
        task: AnyTask,
        truncate_dim: int | None = None,
        multivector: bool = False,
        show_progress: bool = False,  # noqa: ARG002 — the Encoder protocol has it
    ) -> Embeddings:
        return self._encode(inputs, task, self.dim if truncate_dim is None else truncate_dim, multivector)

    encode_document = encode_query

    def _encode(self, inputs: Sequence[Input], task: AnyTask, dim: int, multivector: bool) -> Embeddings:  # noqa: FBT001
        check_task(task)
        if not 1 <= dim <= self.dim:
            raise ValueError(f"`truncate_dim` is {dim}; it may be 1 to {self.dim}.")
        items = checked_items(inputs)
        dense, tokens, grids, failed = [], [], [], {}
        for index, item in enumerate(items):
            try:
                words, grid = self._words(item)
            except ValueError as error:
                failed[index] = str(error)
                continue
            total = np.sum([_direction(f"{task} {word} dense", self.dim) for word in words], axis=0)[:dim]
            dense.append(total / np.linalg.norm(total))
            tokens.append(np.stack([_direction(f"{task} {word}", self.multivector_dim) for word in words]))
            grids.append(grid)
        embeddings = Embeddings(
            dense=np.stack(dense).astype(np.float32) if dense else np.zeros((0, dim), np.float32),
            multivector=tuple(tokens) if multivector else None,
            grids=tuple(grids),
        )
        if failed:
            kept = [index for index in range(len(items)) if index not in failed]
            raise UnreadableInputs(failed, kept, embeddings)
        return embeddings

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
