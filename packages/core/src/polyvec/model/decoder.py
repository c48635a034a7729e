"""The decoder's forward pass over transformers' own weights: no cache, no mask, rows padded on the right."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLAttention, Qwen2_5_VLTextModel

from polyvec.model.layers import gated, rms_norm, rotate


def decode(
    language: Qwen2_5_VLTextModel,
    embedded: Float[Tensor, "batch tokens dim"],
    position_ids: Int[Tensor, "3 batch tokens"],
) -> Float[Tensor, "batch tokens dim"]:
    """The last hidden states, normed.

    Every projection is called as the module it is: PEFT has wrapped it, and hooks tell it which row has which adapter.
    """
    hidden = embedded
    # The argument beside the positions says in which dtype angles are given; float32 keeps them exact.
    cos, sin = language.rotary_emb(embedded[:1, :1].float(), position_ids)
    rotation = cos.unsqueeze(2), sin.unsqueeze(2)  # (batch, tokens, 1, head_dim)
    for layer in language.layers:
        hidden = hidden + _attended(layer.self_attn, rms_norm(layer.input_layernorm, hidden), rotation)
        hidden = hidden + gated(layer.mlp, rms_norm(layer.post_attention_layernorm, hidden))
    return rms_norm(language.norm, hidden)


def _attended(attention: Qwen2_5_VLAttention, hidden: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    by_head = (*hidden.shape[:2], -1, attention.head_dim)
    queries = rotate(attention.q_proj(hidden).view(by_head), *rotation)
    keys = rotate(attention.k_proj(hidden).view(by_head), *rotation)
    values = attention.v_proj(hidden).view(by_head)
    mixed = functional.scaled_dot_product_attention(
        queries.transpose(1, 2),
        keys.transpose(1, 2),
        values.transpose(1, 2),
        is_causal=True,
        scale=attention.scaling,
        enable_gqa=True,
    )  # (batch, heads, tokens, head_dim)
    projected: Tensor = attention.o_proj(mixed.transpose(1, 2).flatten(2))
    return projected
