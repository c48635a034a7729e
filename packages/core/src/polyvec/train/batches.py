"""The pairs of a step: items ready for the network, and what is known of them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from polyvec.model.processing import Encoded

__all__ = ["Labels", "PairBatch", "Vectors"]


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
