"""The pairs of a step: items ready for the network, and what is known of them."""

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from polyvec.alarms import pass_alarm
from polyvec.content import content_key
from polyvec.data.documents import loaded
from polyvec.model.processing import Encoded, Processor, checked_pixels
from polyvec.prompts import prefix
from polyvec.train.data.examples import Document, Pair, PdfPage, Step, file_group
from polyvec.types import Failure, ImageText, Side, Task

__all__ = ["Labels", "PairBatch", "StepCollator", "Vectors"]


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """The vectors of some items. Late interaction leaves out tokens outside `mask`: padding, for example."""

    dense: Float[Tensor, "items dim"]
    tokens: Float[Tensor, "items tokens late_dim"]
    mask: Bool[Tensor, "items tokens"]


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """The queries and documents of a batch, as the losses know them. A key is a hash of content.

    Attributes:
        targets: for each query, the position of its document.
        query_keys: equal for queries of equal content.
        document_keys: equal for documents of equal content.
        groups: equal, and not 0, for documents of one group, which are never negatives of each other.
        in_batch: True for the documents of pairs, False for hard negatives.
        scores: the gold similarity of each query and its document; NaN where there is none.
        scales: scores are compared only where these are equal.
    """

    targets: Int64[Tensor, "queries"]
    query_keys: Int64[Tensor, "queries"]
    document_keys: Int64[Tensor, "documents"]
    groups: Int64[Tensor, "documents"]
    in_batch: Bool[Tensor, "documents"]
    scores: Float[Tensor, "queries"]
    scales: Int64[Tensor, "queries"]

    def to(self, device: torch.device | str) -> Self:
        """Return the labels on a device."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


@dataclass(frozen=True, slots=True, eq=False)
class PairBatch:
    """Pairs of one kind. A document that several queries share is there once, so it is never its own negative.

    Attributes:
        queries: the query of each pair.
        documents: the documents of the pairs, then hard negatives.
        masks: for each document, the tokens that late interaction scores.
        labels: what the losses know of both.
        places: where each pair comes from, for messages.
    """

    queries: Sequence[Encoded]
    documents: Sequence[Encoded]
    masks: Sequence[Bool[np.ndarray, "_"]]
    labels: Labels
    places: Sequence[str]


class StepCollator:
    """Prepares the one step of a data loader's batch, with the prompts that inference uses for the task.

    Its result has `n_pairs`, the seed of the step, a `PairBatch` as `text` and as `image` unless the half is empty,
    and the failures as `skipped`: a pair whose query or document cannot be read, and a negative that cannot be read,
    are left out of the batch.
    """

    def __init__(
        self,
        processor: Processor,
        *,
        task: Task,
        max_length: int = 512,
        max_pixels: int | None = None,
        patches_only: bool = False,
        dpi: float = 150,
    ) -> None:
        """Choose how items are prepared.

        Args:
            processor: of the checkpoint that is trained.
            task: chooses the prompts.
            max_length: texts are cut to this many tokens.
            max_pixels: images are scaled down to this area; the checkpoint's own limit by default.
            patches_only: late interaction scores only an image's patches, not the template around them. The template's
                tokens see the whole image, and a network that is trained from scratch would learn to use only them.
            dpi: pixels per inch of the pages of PDF files.

        Raises:
            ValueError: `max_length` leaves no room behind the prompts, or `max_pixels` is less than one token.
        """
        for side in get_args(Side):
            processor.check_length(max_length, side=side, task=task)
        checked_pixels(processor.config, max_pixels)
        self.processor, self.task, self.dpi = processor, task, dpi
        self.max_length, self.max_pixels, self.patches_only = max_length, max_pixels, patches_only

    def __call__(self, steps: Sequence[Step]) -> dict[str, Any]:
        (step,) = steps  # a step is a batch already
        skipped: list[Failure] = []
        batches = {"text": self._batch(step.texts, skipped), "image": self._batch(step.images, skipped)}
        present = {kind: batch for kind, batch in batches.items() if batch is not None}
        n_pairs = sum(len(batch.queries) for batch in present.values())
        # accelerate measures a batch by its first tensor
        return {"n_pairs": torch.tensor([n_pairs]), **present, "seed": step.seed, "skipped": skipped}

    def _batch(self, pairs: Sequence[Pair], skipped: list[Failure]) -> PairBatch | None:
        kept: dict[int, Pair] = {}
        queries: list[_Item] = []
        targets: list[int] = []
        documents = _Documents(self._item)
        for index, pair in enumerate(pairs):
            try:
                query, target = self._item(pair.query, "query"), documents.add(pair.document, pair.group)
            except (ValueError, OSError) as error:
                pass_alarm(error)
                skipped.append(Failure(index, pair.place, str(error)))
            else:
                kept[index] = pair
                queries.append(query)
                targets.append(target)
        if not kept:
            return None
        n_positives = len(documents.items)
        for index, negative in ((index, negative) for index, pair in kept.items() for negative in pair.negatives):
            group = file_group(negative)
            try:
                # A page that its row names as a negative, although it is of the same file, stays one.
                documents.add(negative, None if group == kept[index].group else group)
            except (ValueError, OSError) as error:
                pass_alarm(error)
                skipped.append(Failure(index, kept[index].place, f"a negative is left out: {error}"))
        labels = Labels(
            targets=torch.tensor(targets),
            query_keys=torch.tensor([item.key for item in queries]),
            document_keys=torch.tensor([item.key for item in documents.items]),
            groups=torch.tensor(documents.groups),
            in_batch=torch.arange(len(documents.items)) < n_positives,
            scores=torch.tensor([float("nan") if pair.score is None else pair.score for pair in kept.values()]),
            scales=torch.tensor([_name_key(pair.scale) for pair in kept.values()]),
        )
        return PairBatch(
            [item.encoded for item in queries],
            [item.encoded for item in documents.items],
            [self._mask(item.encoded) for item in documents.items],
            labels,
            [pair.place for pair in kept.values()],
        )

    def _item(self, content: Document, side: Side) -> "_Item":
        """Prepare a query or document. Equal texts have equal keys on both sides, and so have equal cut texts."""
        if isinstance(content, str):
            (ids,) = self.processor.texts([content], prefix(self.task, side), max_lengths=[self.max_length])
            encoded = self.processor.text(ids, self.max_length)
            whole = encoded.input_ids.tobytes() if encoded.cut else content.encode()
            return _Item(encoded, _key(hashlib.sha256(whole).digest()))
        image = loaded(content, dpi=self.dpi)
        if isinstance(image, str | ImageText):
            raise ValueError(f"a {type(image).__name__} is no image; training takes texts, images and pages of PDFs.")  # noqa: TRY004 — one bad row
        encoded = self.processor.image(image, self.max_pixels)
        digest = content_key(image, "")
        if digest is None:
            raise ValueError("the image changed while it was read.")
        return _Item(encoded, _key(digest))

    def _mask(self, document: Encoded) -> Bool[np.ndarray, "tokens"]:
        if self.patches_only and document.patches is not None:
            return np.asarray(document.input_ids == self.processor.image_token)
        return np.ones(len(document.input_ids), bool)


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    encoded: Encoded
    key: int


class _Documents:
    """The documents of a batch, each content once."""

    def __init__(self, prepare: Callable[[Document, Side], _Item]) -> None:
        self.items: list[_Item] = []
        self.groups: list[int] = []
        self._prepare = prepare
        self._positions: dict[Hashable, int] = {}  # by what names a document, and by its key

    def add(self, document: Document, group: str | None) -> int:
        """Return the position of a document."""
        name = document if isinstance(document, str | Path | PdfPage) else None
        position = None if name is None else self._positions.get(name)
        if position is None:
            item = self._prepare(document, "document")
            position = self._positions.setdefault(item.key, len(self.items))
            if position == len(self.items):
                self.items.append(item)
                self.groups.append(0)
            if name is not None:
                self._positions[name] = position
        self.groups[position] = self.groups[position] or _name_key(group or "")
        return position


def _key(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "little", signed=True)


def _name_key(name: str) -> int:
    """Return a number that is 0 for the empty name alone."""
    return (_key(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()) or 1) if name else 0
