"""From hidden states to vectors: pooling and normalisation (arXiv 2506.18902, section 3)."""

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from torch.nn import functional

_SPANS_AT_A_TIME = 256


def dense(hidden: Float[Tensor, "batch tokens dim"], spans: Int[Tensor, "batch 2"]) -> Float[Tensor, "batch dim"]:
    """Mean of each row's hidden states over its half-open span, at unit length.

    The mean is taken in float32 whatever the dtype of `hidden`. Positions outside the span never take part.
    """
    places = torch.arange(hidden.shape[1], device=hidden.device)
    inside = (places >= spans[:, :1]) & (places < spans[:, 1:])  # (batch, tokens)
    weights = inside.float() / inside.sum(1, keepdim=True)
    pooled = torch.einsum("btd,bt->bd", hidden.float(), weights)
    return functional.normalize(pooled, dim=-1)


def sums(hidden: Float[Tensor, "tokens dim"], spans: Int[Tensor, "spans 2"]) -> Float32[Tensor, "spans dim"]:
    """Sum of hidden states over each half-open span, in float32: what a mean over several windows is made of."""
    places = torch.arange(len(hidden), device=hidden.device)
    values = hidden.float()
    # Some spans at a time: all of them would be (spans, tokens) numbers.
    parts: list[Tensor] = [
        ((places >= some[:, :1]) & (places < some[:, 1:])).float() @ values
        for some in torch.split(spans, _SPANS_AT_A_TIME)
    ]
    return torch.cat(parts)


def multivector(projected: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
    """Unit length per token, in float32."""
    return functional.normalize(projected.float(), dim=-1)
