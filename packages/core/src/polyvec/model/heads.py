"""From hidden states to vectors: pooling and normalisation (arXiv 2506.18902, section 3)."""

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from torch.nn import functional

_SPANS_PER_CHUNK = 256


def dense(hidden: Float[Tensor, "batch tokens dim"], spans: Int[Tensor, "batch 2"]) -> Float[Tensor, "batch dim"]:
    """Average each row's hidden states over its half-open span, and scale the mean to unit length.

    The mean is taken in float32 whatever the dtype of `hidden`. Positions outside the span never take part.
    """
    positions = torch.arange(hidden.shape[1], device=hidden.device)
    inside = (positions >= spans[:, :1]) & (positions < spans[:, 1:])  # (batch, tokens)
    weights = inside.float() / inside.sum(1, keepdim=True)
    pooled = torch.einsum("btd,bt->bd", hidden.float(), weights)
    return functional.normalize(pooled, dim=-1)


def sums(hidden: Float[Tensor, "tokens dim"], spans: Int[Tensor, "spans 2"]) -> Float32[Tensor, "spans dim"]:
    """Sum hidden states over each half-open span, in float32. A mean over several windows is made of such sums."""
    positions = torch.arange(len(hidden), device=hidden.device)
    values = hidden.float()
    # In chunks, because a mask for all spans would have spans × tokens numbers.
    parts: list[Tensor] = [
        ((positions >= chunk[:, :1]) & (positions < chunk[:, 1:])).float() @ values
        for chunk in torch.split(spans, _SPANS_PER_CHUNK)
    ]
    return torch.cat(parts)


def multivector(projected: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
    """Scale each token to unit length, in float32."""
    return functional.normalize(projected.float(), dim=-1)
