"""What the layers of both towers are made of, over transformers' own weights: fewer passes over memory, same numbers.

transformers' versions write every intermediate into a buffer of its own, which on a CPU costs more than the arithmetic.
"""

from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLMLP, Qwen2_5_VLRMSNorm, Qwen2MLP


def rms_norm(norm: Qwen2_5_VLRMSNorm, hidden: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
    """As `norm(hidden)`; in half precision rounded once instead of twice."""
    return functional.rms_norm(hidden, hidden.shape[-1:], norm.weight, norm.variance_epsilon)


def gated(mlp: Qwen2MLP | Qwen2_5_VLMLP, hidden: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
    """As `mlp(hidden)` with SiLU as its activation; the widest tensors of the network are written in place."""
    gate = functional.silu(mlp.gate_proj(hidden), inplace=True)
    projected: Tensor = mlp.down_proj(gate.mul_(mlp.up_proj(hidden)))
    return projected


def rotate(
    states: Float[Tensor, "*rows size"], cos: Float32[Tensor, "*ones size"], sin: Float32[Tensor, "*ones size"]
) -> Float[Tensor, "*rows size"]:
    """Rotary embedding in float32: the pair (x_i, x_{i + size/2}) turned by the i-th angle of its token.

    `cos` and `sin` are broadcast over heads and hold each angle twice, in both halves.
    """
    half = states.shape[-1] // 2
    values = states.float()
    turned = values * cos
    turned[..., :half].addcmul_(values[..., half:], sin[..., half:], value=-1)
    turned[..., half:].addcmul_(values[..., :half], sin[..., :half])
    return turned.to(states.dtype)
