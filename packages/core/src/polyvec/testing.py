"""Fakes for tests of code that uses embeddings: no weights, no torch, vectors that can be worked out by hand."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np

from polyvec.chunking import Span, checked_spans, token_spans
from polyvec.content import image_of, text_of
from polyvec.encoder import ChunkOptions, EncodeOptions, Encoder, in_thread
from polyvec.images import open_image, smart_resize
from polyvec.inputs import (
    check_options,
    check_side,
    check_task,
    check_tasks,
    check_text,
    checked_items,
    checked_size,
    checked_whole,
    whole,
)
from polyvec.outcomes import Encoding, Outcome, collect, collect_shown
from polyvec.types import TASKS, Embeddings, Grid, ImageInput, Input, Side, Task
from polyvec.warning import warn

__all__ = ["HashEncoder", "UntrainedTowers"]

_TILE = 28  # pixels
_MOST = 32_768  # words per text
_WORD_BUCKETS = 512


class HashEncoder(Encoder):
    """An encoder in which equal words have equal vectors. It has the methods of an `Embedder`.

    A text is its lower-cased words, an image its 28-pixel tiles; each word or tile is a pseudo-random unit vector
    seeded by the SHA-256 of itself and the task. An item of both is its tiles, then its words. The multi-vector lists
    those vectors, the dense vector is the unit sum of their counterparts in the dense size. A text without words is one
    fixed vector. Queries and documents are encoded alike. `max_length` counts words. An adapter is nothing but another
    task.
    """

    def __init__(self, *, dim: int = 64, multivector_dim: int = 32, name: str = "hash") -> None:
        self.dim, self.multivector_dim = dim, multivector_dim
        self.fingerprint = self._name = f"{name}-{dim}-{multivector_dim}"
        self.tasks: tuple[str, ...] = TASKS
        self.sizes, self.license = (dim,), "Apache-2.0"

    def encode(
        self, inputs: Iterable[Input], *, side: Side, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Embeddings:
        """Encode; see `Encoder.encode`."""
        check_side(side)
        check_options(options, EncodeOptions.__annotations__)
        size = checked_size(options.get("truncate_dim"), self.dim, self.sizes)
        max_length = _limit("max_length", options.get("max_length"), _MOST, "tokens")
        max_pixels = options.get("max_pixels")
        if max_pixels is not None and ((number := whole(max_pixels)) is None or number < _TILE**2):
            raise ValueError(f"`max_pixels` is {max_pixels!r}; an image needs at least {_TILE**2}, one token.")
        items = checked_items(inputs)
        tasks = check_tasks(task, len(items), self.tasks)
        pairs = enumerate(zip(items, tasks, strict=True))
        outcomes = ((index, self._outcome(*pair, max_length, max_pixels)) for index, pair in pairs)
        multivector = options.get("multivector", False)
        show_progress = options.get("show_progress", False)
        collected, cut = collect_shown(
            self, outcomes, len(items), dim=size, multivector=multivector, show_progress=show_progress
        )
        if cut:
            n_texts = sum(text_of(item) is not None for item in items)
            warn(f"{len(cut)} of {n_texts} texts are longer than {max_length} tokens and were cut on the right.")
        return collected.result()

    def encode_chunks(
        self, text: str, spans: Iterable[Span], *, task: str, **options: Unpack[ChunkOptions]
    ) -> Embeddings:
        """Encode spans of a text, each as the words that it touches; see `Embedder.encode_chunks`."""
        if not isinstance(text, str):
            raise TypeError(f"`text` is a {type(text).__name__}; late chunking takes one text (str).")
        check_text(text)
        check_options(options, ChunkOptions.__annotations__)
        check_task(task, self.tasks)
        size = checked_size(options.get("truncate_dim"), self.dim, self.sizes)
        window = _limit("max_length", options.get("max_length"), _MOST, "tokens")
        overlap = options.get("overlap")
        if overlap is not None and not 0 <= overlap < window:
            raise ValueError(f"`overlap` is {overlap}; windows of {window} tokens may share 0 to {window - 1}.")
        ranges = checked_spans(spans, len(text))
        found = list(re.finditer(r"\w+", text.lower()))
        places = token_spans([match.span() for match in found], ranges) if found else [(0, 0)] * len(ranges)
        words = [[match.group() for match in found[start:end]] or ["<empty>"] for start, end in places]
        collected, _ = collect(
            ((index, self._encoding(part, task)) for index, part in enumerate(words)),
            len(ranges),
            dim=size,
            multivector=options.get("multivector", False),
            fingerprint=self.fingerprint,
        )
        return collected.embeddings

    async def aencode_chunks(
        self, text: str, spans: Iterable[Span], *, task: str, **options: Unpack[ChunkOptions]
    ) -> Embeddings:
        """Run `encode_chunks` in a thread."""
        return await in_thread(self.encode_chunks, text, spans, task=task, **options)

    def tokens(self, item: Input, *, task: str, side: Side) -> list[str]:
        """Return the word, or the digest of the tile, of each row of the item's multi-vector."""
        check_side(side)
        check_task(task, self.tasks)
        (item,) = checked_items([item])
        image, text = image_of(item), text_of(item)
        return [*([] if image is None else _tiles(image, None)[0]), *([] if text is None else _words(text))]

    def load_adapter(
        self,
        path: str | Path,  # noqa: ARG002 — the arguments are those of an `Embedder`
        *,
        task: str,
        adapter: str | None = None,  # noqa: ARG002
        base_task: Task | None = None,
    ) -> None:
        """Add a task, under another fingerprint. The files are not read.

        Raises:
            ValueError: the name is taken, or an unknown `base_task`.
        """
        if base_task is not None:
            check_task(base_task)
        if not task or task in self.tasks:
            raise ValueError(f"`task` is {task!r}; give a name other than {', '.join(map(repr, self.tasks))}.")
        self._use((*self.tasks, task))

    def unload_adapter(self, task: str) -> None:
        """Remove a task that `load_adapter` added.

        Raises:
            ValueError: there is no such adapter.
        """
        loaded = self.tasks[len(TASKS) :]
        if task not in loaded:
            known = ", ".join(map(repr, loaded)) or "none"
            raise ValueError(f"`task` is {task!r}; adapters that were loaded: {known}.")
        self._use(tuple(name for name in self.tasks if name != task))

    def _use(self, tasks: tuple[str, ...]) -> None:
        self.tasks = tasks
        self.fingerprint = "-".join([self._name, *sorted(tasks[len(TASKS) :])])

    def _outcome(self, item: Input, task: str, max_length: int, max_pixels: int | None) -> Outcome:
        try:
            image, text = image_of(item), text_of(item)
            if text is not None:
                check_text(text)
            words = [] if text is None else _words(text)
            tiles, grid = ([], None) if image is None else _tiles(image, max_pixels)
        except ValueError as error:
            return str(error)
        return self._encoding([*tiles, *words[:max_length]], task, grid, cut=len(words) > max_length)

    def _encoding(self, words: Sequence[str], task: str, grid: Grid | None = None, *, cut: bool = False) -> Encoding:
        dense = np.sum([_direction(f"{task} {word} dense", self.dim) for word in words], axis=0)
        tokens = np.stack([_direction(f"{task} {word}", self.multivector_dim) for word in words])
        return Encoding((dense / np.linalg.norm(dense)).astype(np.float32), tokens, grid, cut)


class UntrainedTowers(Encoder):
    """Two random networks that were never trained, one for texts and one for images: what an analysis must find bad.

    Either tower has three hidden layers of ReLU with weights of its own. A text goes in as counts of hashed words, an
    image as 28 × 28 pixels of RGB. Both outputs are narrow cones in different directions (arXiv 2203.02053), and an
    image is no nearer to its own text than to others. An item of both has the unit sum. Sides and tasks change nothing;
    there are no multi-vectors.
    """

    def __init__(self, *, dim: int = 256, seed: int = 0) -> None:
        self.dim, self.multivector_dim, self.sizes = dim, 0, (dim,)
        self.fingerprint = f"untrained-{dim}-{seed}"
        self.tasks, self.license = TASKS, "Apache-2.0"
        rng = np.random.default_rng(seed)
        self._text_tower, self._image_tower = (
            [rng.standard_normal(shape) * np.sqrt(2 / shape[0]) for shape in ((n_inputs, dim), *[(dim, dim)] * 3)]
            for n_inputs in (_WORD_BUCKETS, 3 * _TILE**2)
        )

    def encode(
        self, inputs: Iterable[Input], *, side: Side, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Embeddings:
        """Encode; see `Encoder.encode`. Texts and images are never cut or shrunk further."""
        check_side(side)
        check_options(options, EncodeOptions.__annotations__)
        size = checked_size(options.get("truncate_dim"), self.dim, self.sizes)
        items = checked_items(inputs)
        check_tasks(task, len(items), self.tasks)
        outcomes = ((index, self._outcome(item)) for index, item in enumerate(items))
        show_progress = options.get("show_progress", False)
        collected, _ = collect_shown(
            self, outcomes, len(items), dim=size, multivector=False, show_progress=show_progress
        )
        return collected.result()

    def _outcome(self, item: Input) -> Outcome:
        try:
            parts = [self._output(part) for part in (image_of(item), text_of(item)) if part is not None]
        except ValueError as error:
            return str(error)
        dense = parts[0] if len(parts) == 1 else _unit(np.sum(parts, axis=0))
        return Encoding(dense.astype(np.float32), None)

    def _output(self, item: str | ImageInput) -> np.ndarray:
        if isinstance(item, str):
            check_text(item)
            digests = [hashlib.sha256(word.encode()).digest() for word in _words(item)]
            buckets = [int.from_bytes(digest[:8], "little") % _WORD_BUCKETS for digest in digests]
            signal, tower = np.bincount(buckets, minlength=_WORD_BUCKETS).astype(np.float64), self._text_tower
        else:
            picture = open_image(item).resize((_TILE, _TILE))
            signal, tower = np.asarray(picture, np.float64).ravel() + 1, self._image_tower  # black is no zero
        for weights in tower[:-1]:
            signal = np.maximum(signal @ weights, 0)
        return _unit(signal @ tower[-1])


def _unit(vector: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = vector / np.linalg.norm(vector)
    return scaled


def _limit(name: str, value: int | None, most: int, unit: str) -> int:
    return most if value is None else checked_whole(name, value, most, unit)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower()) or ["<empty>"]


def _tiles(image: ImageInput, max_pixels: int | None) -> tuple[list[str], Grid]:
    picture = open_image(image)
    if max_pixels is not None and picture.width * picture.height > max_pixels:
        picture = picture.resize(smart_resize(*picture.size, factor=_TILE, min_pixels=1, max_pixels=max_pixels))
    pixels = np.asarray(picture)
    rows, columns = -(-pixels.shape[0] // _TILE), -(-pixels.shape[1] // _TILE)
    tiles = [pixels[_TILE * r :, _TILE * c :][:_TILE, :_TILE] for r in range(rows) for c in range(columns)]
    return [hashlib.sha256(tile.tobytes()).hexdigest() for tile in tiles], Grid(rows, columns, 0)


def _direction(word: str, dim: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(dim)
    return (vector / np.linalg.norm(vector)).astype(np.float32)
