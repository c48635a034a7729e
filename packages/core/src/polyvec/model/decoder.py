"""The decoder's forward pass over transformers' own weights: no cache, no mask, and no padding where rows allow it."""

from jaxtyping import Float, Int
from torch import Tensor
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLAttention, Qwen2_5_VLTextModel

from polyvec.model.attention import Segments, attend
from polyvec.model.layers import gated, rms_norm, rotate


def decode(
    language: Qwen2_5_VLTextModel,
    embedded: Float[Tensor, "*rows dim"],
    position_ids: Int[Tensor, "3 *rows"],
    segments: Segments,
) -> Float[Tensor, "*rows dim"]:
    """The last hidden states, normed.

    Every projection is called as the module it is: PEFT has wrapped it, and hooks tell it which row has which adapter.

    Args:
        language: the decoder.
        embedded: packed tokens (tokens, dim), or padded rows (batch, tokens, dim).
        position_ids: of each token.
        segments: which tokens, counted across rows, are one item's. Padding behind an item may belong to its segment:
            attention is causal.
    """
    hidden = embedded
    # The argument beside the positions says in which dtype angles are given; float32 keeps them exact.
    angles = language.rotary_emb(embedded.flatten()[:1].float(), position_ids.reshape(3, 1, -1))
    cos, sin = (one[0].unsqueeze(1) for one in angles)  # each (tokens, 1, head_dim)
    for layer in language.layers:
        hidden = hidden + _attended(layer.self_attn, rms_norm(layer.input_layernorm, hidden), (cos, sin), segments)
        hidden = hidden + gated(layer.mlp, rms_norm(layer.post_attention_layernorm, hidden))
    return rms_norm(language.norm, hidden)


def _attended(
    attention: Qwen2_5_VLAttention, hidden: Tensor, rotation: tuple[Tensor, Tensor], segments: Segments
) -> Tensor:
    by_head = (-1, attention.head_dim)
    states = (attention.q_proj(hidden), attention.k_proj(hidden), attention.v_proj(hidden))
    queries, keys, values = (one.flatten(0, -2).unflatten(1, by_head) for one in states)  # (tokens, heads, head_dim)
    mixed = attend(
        rotate(queries, *rotation), rotate(keys, *rotation), values, segments, scale=attention.scaling, causal=True
    )
    projected: Tensor = attention.o_proj(mixed.view(*hidden.shape[:-1], -1))
    return projected
