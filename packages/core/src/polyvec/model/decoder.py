"""The decoder's forward pass on transformers' weights, without cache and mask, and where possible without padding."""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VLAttention,
    Qwen2_5_VLDecoderLayer,
    Qwen2_5_VLTextModel,
)

from polyvec.model.attention import Segments, attend
from polyvec.model.layers import gated, rms_norm, rotate
from polyvec.model.recompute import Recompute, run_layer


def decode(
    language: Qwen2_5_VLTextModel,
    embedded: Float[Tensor, "*rows dim"],
    position_ids: Int[Tensor, "3 *rows"],
    segments: Segments,
    *,
    recompute: Recompute | None = None,
) -> Float[Tensor, "*rows dim"]:
    """Return the normalised last hidden states.

    Projections are called as modules: PEFT has wrapped them, and its hooks select each row's adapter. Tokens are packed
    (tokens, dim), or padded rows (batch, tokens, dim); each has a position in time, row and column. A segment has the
    tokens of an item, and may have the padding after it, because attention is causal.
    """
    hidden = embedded
    rope = language.config.rope_parameters
    by_token = angles(position_ids.flatten(1), theta=rope["rope_theta"], sections=rope["mrope_section"])
    rotation = (by_token.cos().unsqueeze(1), by_token.sin().unsqueeze(1))  # each (tokens, 1, head_dim)
    for index, layer in enumerate(language.layers):
        hidden = run_layer(partial(_layer, layer, rotation, segments), hidden, index, recompute)
    return rms_norm(language.norm, hidden)


def angles(
    position_ids: Int[Tensor, "3 tokens"], *, theta: float, sections: Sequence[int]
) -> Float32[Tensor, "tokens head_dim"]:
    """Return the angle of each rotated pair of a head's numbers; both halves hold the same angles.

    Multimodal rotary embedding (Qwen2-VL, arXiv 2409.12191, section 2.1): the i-th angle is p · θ^(−2i/head_dim), with
    p from the axis (time, height, width) in whose section i falls. Computed here because the result of
    `rotary_emb` differs between releases of transformers.
    """
    n_angles = sum(sections)
    exponents = torch.arange(n_angles, dtype=torch.float32, device=position_ids.device) / n_angles
    by_axis = position_ids[..., None].float() * (1 / theta**exponents)  # (3, tokens, n_angles)
    sectioned = [section[axis] for axis, section in enumerate(torch.split(by_axis, list(sections), dim=-1))]
    return torch.cat(sectioned * 2, dim=-1)


def _layer(
    layer: Qwen2_5_VLDecoderLayer, rotation: tuple[Tensor, Tensor], segments: Segments, hidden: Tensor
) -> Tensor:
    hidden = hidden + _attend(layer.self_attn, rms_norm(layer.input_layernorm, hidden), rotation, segments)
    return hidden + gated(layer.mlp, rms_norm(layer.post_attention_layernorm, hidden))


def _attend(
    attention: Qwen2_5_VLAttention, hidden: Tensor, rotation: tuple[Tensor, Tensor], segments: Segments
) -> Tensor:
    by_head = (-1, attention.head_dim)
    states = (attention.q_proj(hidden), attention.k_proj(hidden), attention.v_proj(hidden))
    # Each (tokens, heads, head_dim):
    queries, keys, values = (state.flatten(0, -2).unflatten(1, by_head) for state in states)
    queries, keys = rotate(queries, *rotation), rotate(keys, *rotation)
    output = attend(queries, keys, values, segments, scale=attention.scaling, causal=True)
    projected: Tensor = attention.o_proj(output.view(*hidden.shape[:-1], -1))
    return projected
