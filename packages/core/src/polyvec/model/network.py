"""Backbone and heads: one pass gives dense vector and multi-vector of each item (arXiv 2506.18902, section 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2_5_VLModel

from polyvec.model.attention import Segments, packs
from polyvec.model.config import ModelConfig
from polyvec.model.decoder import decode
from polyvec.model.layers import at_least_float32, n_fill_rows
from polyvec.model.recompute import Recompute
from polyvec.model.vision import encode_images

_PADDED_MULTIPLE = 8  # of the tokens of each row, whereas packed tokens are filled up once
_SPANS_PER_CHUNK = 256


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Items as tensors. Rows are padded on the right, so causal attention never sees padding.

    Attributes:
        input_ids: token ids; `<|image_pad|>` at the positions of an image's vectors.
        lengths: tokens per row.
        spans: half-open range of positions over which the dense vector is the mean.
        position_ids: temporal, row and column position of each token (M-RoPE).
        patches: pixels of all images of the batch, in row order; None without images.
        grids: rows and columns of merged tokens, per image.
        pieces: ranges of positions to sum, if the batch has a single row (late chunking).
    """

    input_ids: Int[Tensor, "batch tokens"]
    lengths: tuple[int, ...]
    spans: Int[Tensor, "batch 2"]
    position_ids: Int[Tensor, "3 batch tokens"]
    patches: Float[Tensor, "patches pixels"] | None
    grids: tuple[tuple[int, int], ...]
    pieces: Int[Tensor, "pieces 2"] | None = None

    def mask(self) -> Bool[Tensor, "batch tokens"]:
        """Return True for each token and False for padding."""
        lengths = torch.tensor(self.lengths, device=self.input_ids.device)
        return torch.arange(self.input_ids.shape[1], device=lengths.device) < lengths[:, None]

    def token_positions(self) -> Int[Tensor, "all_tokens"]:
        """Return the positions of all tokens, counted across rows, on the CPU."""
        inside = np.arange(self.input_ids.shape[1]) < np.array(self.lengths)[:, None]
        return torch.from_numpy(np.flatnonzero(inside))

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on a device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {  # Any: the type of each field
            name: value.to(device, non_blocking=True) for name, value in values.items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """The vectors of a batch. Rows of `multivector` beyond an item's length are padding."""

    dense: Float[Tensor, "batch dim"]
    multivector: Float[Tensor, "batch tokens size"] | None
    sums: Float32[Tensor, "pieces hidden"] | None = None


class Network(nn.Module):
    """transformers' Qwen2.5-VL and the multi-vector projector, under the names that checkpoints use."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.model = Qwen2_5_VLModel._from_config(config.backbone)  # noqa: SLF001 — the constructor that sets sdpa
        self.multi_vector_projector = nn.Linear(config.dim, config.multivector_dim)
        self.image_token = config.backbone.image_token_id
        self.recompute: Recompute | None = None

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: Mapping[str, Any] | None = None,  # Any: as torch takes them
        every_n_layers: int = 1,
        offload: bool = False,  # noqa: FBT001, FBT002 — transformers' signature
    ) -> None:
        """Keep only the inputs of layers for the backward pass. transformers' Trainer calls this.

        Nothing marks the embeddings as in need of a gradient, because only the reentrant kind needs that.
        """
        self.recompute = Recompute(every_n_layers, offload, activation_checkpointing_kwargs or {})

    def activation_checkpointing_disable(self) -> None:
        """Keep all activations for the backward pass."""
        self.recompute = None

    def gradient_checkpointing_enable(
        self,
        gradient_checkpointing_kwargs: Mapping[str, Any] | None = None,  # Any: as torch takes them
        **options: Any,  # Any: as above
    ) -> None:
        """Do the same under the name that transformers had before 5.23."""
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs, **options)

    def gradient_checkpointing_disable(self) -> None:
        """Do the same under the name that transformers had before 5.23."""
        self.activation_checkpointing_disable()

    def forward(self, batch: Batch, *, multivector: bool = False, packed: bool = False) -> Outputs:
        """Compute the vectors of a batch in one pass.

        It needs no mask: attention is causal and padding is on the right, so no token sees padding. `packed` leaves
        padding out of the decoder; it requires that all rows have the same adapter.
        """
        language = self.model.language_model
        embedded: Float[Tensor, "batch tokens dim"] = language.embed_tokens(batch.input_ids)
        if batch.patches is not None:
            images = self._images(batch.patches, batch.grids)
            is_image = (batch.input_ids == self.image_token).unsqueeze(-1)
            embedded = embedded.masked_scatter(is_image, images.to(embedded.dtype))
        hidden: Float[Tensor, "batch tokens dim"]
        if packed and packs(embedded):
            positions = batch.token_positions().to(embedded.device, non_blocking=True)
            n_tokens, n_fill = len(positions), n_fill_rows(len(positions), embedded)
            rows = functional.pad(positions, (0, n_fill))  # repeats the first token, in a segment that is dropped
            segments = Segments.of([*batch.lengths, n_fill] if n_fill else batch.lengths, embedded.device)
            packed_ids = batch.position_ids.flatten(1)[:, rows]
            decoded = decode(language, embedded.flatten(0, 1)[rows], packed_ids, segments, recompute=self.recompute)
            hidden = torch.zeros_like(embedded).flatten(0, 1)
            hidden = hidden.index_copy(0, positions, decoded[:n_tokens]).view_as(embedded)
        else:
            n_fill = n_fill_rows(embedded.shape[1], embedded, multiple=_PADDED_MULTIPLE)
            padded = functional.pad(embedded, (0, 0, 0, n_fill))
            segments = Segments.of([padded.shape[1]] * len(padded), padded.device)
            padded_ids = functional.pad(batch.position_ids, (0, n_fill))
            hidden = decode(language, padded, padded_ids, segments, recompute=self.recompute)
        tokens: Float[Tensor, "batch tokens size"] | None = None
        if multivector:
            hidden = hidden.to(self.multi_vector_projector.weight.dtype)  # while it is trained it may be wider
            projected = self._project(hidden) if packed else self.multi_vector_projector(hidden)
            tokens = functional.normalize(at_least_float32(projected), dim=-1)
        sums = None if batch.pieces is None else sums_of_spans(hidden[0], batch.pieces)
        return Outputs(mean_of_spans(hidden, batch.spans), tokens, sums)

    def _images(
        self, patches: Float[Tensor, "patches pixels"], grids: Sequence[tuple[int, int]]
    ) -> Float[Tensor, "tokens dim"]:
        """Run the image tower; without a graph while all of it is frozen."""
        visual = self.model.visual
        learns = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in visual.parameters())
        with torch.set_grad_enabled(learns):
            return encode_images(visual, patches, grids, recompute=self.recompute)

    def _project(self, hidden: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens size"]:
        rows = hidden.flatten(0, 1)
        n_fill = n_fill_rows(len(rows), rows)
        projected: Tensor = self.multi_vector_projector(functional.pad(rows, (0, 0, 0, n_fill)))
        return projected[: len(rows)].view(*hidden.shape[:2], -1)


def mean_of_spans(
    hidden: Float[Tensor, "batch tokens dim"], spans: Int[Tensor, "batch 2"]
) -> Float[Tensor, "batch dim"]:
    """Average each row's hidden states over its half-open span, and scale the mean to unit length.

    The mean of half precision is taken in float32. Positions outside the span never take part.
    """
    values = at_least_float32(hidden)
    positions = torch.arange(hidden.shape[1], device=hidden.device)
    inside = (positions >= spans[:, :1]) & (positions < spans[:, 1:])  # (batch, tokens)
    weights = inside.to(values.dtype) / inside.sum(1, keepdim=True)
    with torch.autocast(values.device.type, enabled=False):
        pooled = torch.einsum("btd,bt->bd", values, weights)
    return functional.normalize(pooled, dim=-1)


def sums_of_spans(hidden: Float[Tensor, "tokens dim"], spans: Int[Tensor, "spans 2"]) -> Float32[Tensor, "spans dim"]:
    """Sum hidden states over each half-open span, in float32. A mean over several windows is made of such sums."""
    positions = torch.arange(len(hidden), device=hidden.device)
    values = hidden.float()
    # In chunks, because a mask for all spans would have spans × tokens numbers.
    parts: list[Tensor] = [
        ((positions >= chunk[:, :1]) & (positions < chunk[:, 1:])).float() @ values
        for chunk in torch.split(spans, _SPANS_PER_CHUNK)
    ]
    return torch.cat(parts)
