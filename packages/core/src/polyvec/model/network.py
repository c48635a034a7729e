"""Backbone and heads: one pass gives dense vector and multi-vector of each item (arXiv 2506.18902, section 3)."""

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
from polyvec.model.layers import n_fill_rows
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

    def forward(self, batch: Batch, *, multivector: bool = False, packed: bool = False) -> Outputs:
        """Compute the vectors of a batch in one pass.

        It needs no mask: attention is causal and padding is on the right, so no token sees padding. `packed` leaves
        padding out of the decoder; it requires that all rows have the same adapter.
        """
        language = self.model.language_model
        embedded: Float[Tensor, "batch tokens dim"] = language.embed_tokens(batch.input_ids)
        if batch.patches is not None:
            images = encode_images(self.model.visual, batch.patches, batch.grids)
            is_image = (batch.input_ids == self.image_token).unsqueeze(-1)
            embedded = embedded.masked_scatter(is_image, images.to(embedded.dtype))
        hidden: Float[Tensor, "batch tokens dim"]
        if torch.is_grad_enabled():  # transformers' own forward supports gradient checkpointing
            output = language(inputs_embeds=embedded, position_ids=batch.position_ids, use_cache=False)
            hidden = output.last_hidden_state
        elif packed and packs(embedded):
            positions = batch.token_positions().to(embedded.device, non_blocking=True)
            n_tokens, n_fill = len(positions), n_fill_rows(len(positions), embedded)
            rows = functional.pad(positions, (0, n_fill))  # repeats the first token, in a segment that is dropped
            segments = Segments.of([*batch.lengths, n_fill] if n_fill else batch.lengths, embedded.device)
            decoded = decode(language, embedded.flatten(0, 1)[rows], batch.position_ids.flatten(1)[:, rows], segments)
            hidden = torch.zeros_like(embedded).flatten(0, 1)
            hidden = hidden.index_copy(0, positions, decoded[:n_tokens]).view_as(embedded)
        else:
            n_fill = n_fill_rows(embedded.shape[1], embedded, multiple=_PADDED_MULTIPLE)
            padded = functional.pad(embedded, (0, 0, 0, n_fill))
            segments = Segments.of([padded.shape[1]] * len(padded), padded.device)
            hidden = decode(language, padded, functional.pad(batch.position_ids, (0, n_fill)), segments)
        tokens: Float32[Tensor, "batch tokens size"] | None = None
        if multivector:
            projected = self._project(hidden) if packed else self.multi_vector_projector(hidden)
            tokens = functional.normalize(projected.float(), dim=-1)
        sums = None if batch.pieces is None else sums_of_spans(hidden[0], batch.pieces)
        return Outputs(mean_of_spans(hidden, batch.spans), tokens, sums)

    def _project(self, hidden: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens size"]:
        rows = hidden.flatten(0, 1)
        n_fill = n_fill_rows(len(rows), rows)
        projected: Tensor = self.multi_vector_projector(functional.pad(rows, (0, 0, 0, n_fill)))
        return projected[: len(rows)].view(*hidden.shape[:2], -1)


def mean_of_spans(
    hidden: Float[Tensor, "batch tokens dim"], spans: Int[Tensor, "batch 2"]
) -> Float[Tensor, "batch dim"]:
    """Average each row's hidden states over its half-open span, and scale the mean to unit length.

    The mean is taken in float32 whatever the dtype of `hidden`. Positions outside the span never take part.
    """
    positions = torch.arange(hidden.shape[1], device=hidden.device)
    inside = (positions >= spans[:, :1]) & (positions < spans[:, 1:])  # (batch, tokens)
    weights = inside.float() / inside.sum(1, keepdim=True)
    pooled = torch.einsum("btd,bt->bd", hidden.float(), weights)
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
