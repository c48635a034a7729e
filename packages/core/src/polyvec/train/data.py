"""Pairs, and the batches that one training step draws."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from polyvec.model.network import Batch
from polyvec.model.processing import Encoded, Processor, collate
from polyvec.prompts import prefix
from polyvec.types import ImageInput, Input, PromptName, Task


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and the document that answers it."""

    query: str
    document: Input


@dataclass(frozen=True, slots=True)
class Step:
    """What one optimisation step sees: B_txt and B_multi of eq. 6. Either may be empty."""

    texts: Sequence[Pair]
    images: Sequence[Pair]


@dataclass(frozen=True, slots=True, eq=False)
class PairBatch:
    """Pairs of one kind as tensors: row i of `queries` belongs to row i of `documents`."""

    queries: Batch
    documents: Batch

    def to(self, device: torch.device | str) -> Self:
        """The same pairs on another device."""
        return type(self)(self.queries.to(device), self.documents.to(device))


class PairSteps(IterableDataset[Step]):
    """Steps of `batch_size` text pairs and `batch_size` image pairs, each drawn without replacement per epoch."""

    def __init__(self, texts: Sequence[Pair], images: Sequence[Pair], *, batch_size: int, seed: int) -> None:
        for kind, pairs in (("text", texts), ("image", images)):
            if 0 < len(pairs) < batch_size:
                raise ValueError(
                    f"there are {len(pairs)} {kind} pairs; `batch_size` is {batch_size}, give at least so many."
                )
        if not texts and not images:
            raise ValueError("there are no pairs to train on.")
        self.texts, self.images, self.batch_size, self.seed = texts, images, batch_size, seed

    def __iter__(self) -> Iterator[Step]:
        worker = get_worker_info()
        seed = (self.seed, 0 if worker is None else worker.id)
        texts = _endless(self.texts, self.batch_size, np.random.default_rng((*seed, 0)))
        images = _endless(self.images, self.batch_size, np.random.default_rng((*seed, 1)))
        while True:
            yield Step(next(texts), next(images))


class StepCollator:
    """Turns the one step that a data loader hands over into tensors, with the prompts of inference."""

    def __init__(self, processor: Processor, image_token: int, *, task: Task, max_length: int = 512) -> None:
        self.processor, self.image_token = processor, image_token
        self.task, self.max_length = task, max_length

    def __call__(self, steps: Sequence[Step]) -> dict[str, Any]:
        (step,) = steps  # a step is a batch already
        passages = self._texts([str(pair.document) for pair in step.texts], "passage")
        images = [self._image(pair.document) for pair in step.images]
        batches = {
            kind: PairBatch(collate(self._texts([pair.query for pair in pairs], "query")), collate(documents))
            for kind, pairs, documents in (("text", step.texts, passages), ("image", step.images, images))
            if pairs
        }
        # accelerate measures a batch by its first tensor
        return {"n_pairs": torch.tensor([len(step.texts) + len(step.images)]), **batches}

    def _texts(self, texts: Sequence[str], prompt_name: PromptName) -> list[Encoded]:
        rows = self.processor.texts(texts, prefix(self.task, prompt_name))
        return [self.processor.text(ids[: self.max_length]) for ids in rows]

    def _image(self, document: Input) -> Encoded:
        if isinstance(document, str):
            raise TypeError(f"the document {document!r} of an image pair is a text; give an image.")
        return self.processor.image(document, self.image_token)


def read_pairs(path: Path) -> tuple[list[Pair], list[Pair]]:
    """Text pairs and image pairs of a JSON Lines file.

    Each line is `{"query": …, "document": …}` for a text or `{"query": …, "image": "path"}` for an image, whose path
    is relative to the file.

    Raises:
        ValueError: naming the line that is not so.
    """
    texts: list[Pair] = []
    images: list[Pair] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            query = row["query"]
            document: ImageInput | str = path.parent / row["image"] if "image" in row else row["document"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f'{path}:{number} is no pair: {error!r}. A line is {{"query": …, "document": …}} or '
                '{"query": …, "image": path}.'
            ) from error
        (images if isinstance(document, Path) else texts).append(Pair(query, document))
    return texts, images


def _endless(pairs: Sequence[Pair], size: int, rng: np.random.Generator) -> Iterator[list[Pair]]:
    while True:
        order = rng.permutation(len(pairs))
        yield from ([pairs[i] for i in order[a : a + size]] for a in range(0, max(len(pairs) - size, 0) + 1, size))
