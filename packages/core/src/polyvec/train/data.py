"""Pairs, and the batches of training steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from polyvec.data.rows import read_rows, text_field
from polyvec.model.network import Batch
from polyvec.model.processing import Encoded, Processor, collate
from polyvec.prompts import prefix
from polyvec.types import Input, Side, Task


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and the document that answers it."""

    query: str
    document: Input


@dataclass(frozen=True, slots=True)
class Step:
    """The pairs of one optimisation step: B_txt and B_multi of eq. 6. Either may be empty."""

    texts: Sequence[Pair]
    images: Sequence[Pair]


@dataclass(frozen=True, slots=True, eq=False)
class PairBatch:
    """Pairs of one kind as tensors: query i is answered by document `targets[i]`.

    A document that several queries share is there once, so it is never its own negative. Late interaction scores
    the tokens in `document_mask`.
    """

    queries: Batch
    documents: Batch
    targets: Int64[Tensor, "queries"]
    document_mask: Bool[Tensor, "documents tokens"]

    def to(self, device: torch.device | str) -> Self:
        """Return the pairs on a device."""
        return type(self)(
            self.queries.to(device), self.documents.to(device), self.targets.to(device), self.document_mask.to(device)
        )


class PairSteps(IterableDataset[Step]):
    """Steps of `batch_size` text pairs and `batch_size` image pairs, each drawn without replacement per epoch."""

    def __init__(self, texts: Sequence[Pair], images: Sequence[Pair], *, batch_size: int, seed: int) -> None:
        for kind, pairs in (("text", texts), ("image", images)):
            if 0 < len(pairs) < batch_size:
                n = len(pairs)
                raise ValueError(f"there are {n} {kind} pairs; `batch_size` is {batch_size}, give at least that many.")
        if not texts and not images:
            raise ValueError("there are no pairs to train on.")
        self.texts, self.images, self.batch_size, self.seed = texts, images, batch_size, seed

    def __iter__(self) -> Iterator[Step]:
        worker = get_worker_info()
        seed = (self.seed, 0 if worker is None else worker.id)
        texts = _endless_batches(self.texts, self.batch_size, np.random.default_rng((*seed, 0)))
        images = _endless_batches(self.images, self.batch_size, np.random.default_rng((*seed, 1)))
        while True:
            yield Step(next(texts), next(images))


class StepCollator:
    """Turns one step of a data loader into tensors, with the prompts that inference uses for the task.

    With `patches_only`, late interaction scores only an image's patches, not the template around them. The template's
    tokens see the whole image, and a network that is trained from scratch would learn to use only them.
    """

    def __init__(self, processor: Processor, *, task: Task, max_length: int = 512, patches_only: bool = False) -> None:
        self.processor = processor
        self.task, self.max_length, self.patches_only = task, max_length, patches_only

    def __call__(self, steps: Sequence[Step]) -> dict[str, Any]:
        (step,) = steps  # a step is a batch already
        batches = {kind: self._pairs(pairs) for kind, pairs in (("text", step.texts), ("image", step.images)) if pairs}
        # accelerate measures a batch by its first tensor
        return {"n_pairs": torch.tensor([len(step.texts) + len(step.images)]), **batches}

    def _pairs(self, pairs: Sequence[Pair]) -> PairBatch:
        columns: dict[object, int] = {}
        documents: list[Encoded] = []
        targets = []
        for pair in pairs:
            key = pair.document if isinstance(pair.document, str | Path | bytes) else id(pair.document)
            if key not in columns:
                columns[key] = len(documents)
                documents.append(self._document(pair.document))
            targets.append(columns[key])
        batch = collate(documents)
        mask = batch.mask()
        if self.patches_only and batch.patches is not None:
            mask &= batch.input_ids == self.processor.image_token
        queries = collate([self._text(pair.query, "query") for pair in pairs])
        return PairBatch(queries, batch, torch.tensor(targets), mask)

    def _document(self, document: Input) -> Encoded:
        if isinstance(document, str):
            return self._text(document, "document")
        return self.processor.image(document)

    def _text(self, text: str, side: Side) -> Encoded:
        (ids,) = self.processor.texts([text], prefix(self.task, side), max_lengths=[self.max_length])
        return self.processor.text(ids[: self.max_length])


def read_pairs(path: Path) -> tuple[list[Pair], list[Pair]]:
    """Read the text pairs and the image pairs of a JSON Lines file.

    Each line is `{"query": …, "document": …}` for a text or `{"query": …, "image": "path"}` for an image, whose path
    is relative to the file.

    Raises:
        ValueError: a line is malformed; the message names it.
    """

    def parse(row: dict[str, Any]) -> Pair:
        query, document = text_field(row, "query"), text_field(row, "image" if "image" in row else "document")
        return Pair(query, path.parent / document if "image" in row else document)

    pairs = read_rows(path, parse)
    texts = [pair for pair in pairs if isinstance(pair.document, str)]
    return texts, [pair for pair in pairs if isinstance(pair.document, Path)]


def _endless_batches(pairs: Sequence[Pair], size: int, rng: np.random.Generator) -> Iterator[list[Pair]]:
    while True:
        order = rng.permutation(len(pairs))
        yield from ([pairs[i] for i in order[k : k + size]] for k in range(0, max(len(pairs) - size, 0) + 1, size))
