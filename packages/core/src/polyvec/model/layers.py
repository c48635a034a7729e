"""Parts of the layers of both towers on transformers' weights: fewer passes over memory, the same numbers.

transformers writes each intermediate result to a new buffer, which costs more than the arithmetic on a CPU.
"""

from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLMLP, Qwen2_5_VLRMSNorm, Qwen2MLP


def rms_norm(norm: Qwen2_5_VLRMSNorm, hidden: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
    """Compute `norm(hidden)` in the dtype of its weights; in half precision it is rounded once instead of twice."""
    hidden = hidden.to(norm.weight.dtype)  # which autocast may have narrowed
    return functional.rms_norm(hidden, hidden.shape[-1:], norm.weight, norm.variance_epsilon)


def gated(mlp: Qwen2MLP | Qwen2_5_VLMLP, hidden: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
    """Compute `mlp(hidden)` with SiLU activation; the widest tensors of the network are written in place."""
    gate = functional.silu(mlp.gate_proj(hidden), inplace=True)
    projected: Tensor = mlp.down_proj(gate.mul_(mlp.up_proj(hidden)))
    return projected


def at_least_float32(states: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return half precision as float32, and wider numbers as they are."""
    return states.float() if states.dtype.itemsize < 4 else states


def rotate(
    states: Float[Tensor, "*rows size"], cos: Float32[Tensor, "*ones size"], sin: Float32[Tensor, "*ones size"]
) -> Float[Tensor, "*rows size"]:
    """Rotate the pairs (x_i, x_{i + size/2}) by the i-th angle of their token, in float32 or wider (rotary embedding).

    `cos` and `sin` are broadcast over heads and hold each angle twice, in both halves.
    """
    half = states.shape[-1] // 2
    values = at_least_float32(states)
    rotated = values * cos
    rotated[..., :half].addcmul_(values[..., half:], sin[..., half:], value=-1)
    rotated[..., half:].addcmul_(values[..., :half], sin[..., :half])
    return rotated.to(states.dtype)


def n_fill_rows(n_rows: int, states: Tensor, *, multiple: int = 32) -> int:
    """Return how many rows fill `n_rows` up to a multiple of `multiple`; 0 where that saves nothing.

    oneDNN, which computes half precision on CPUs, keeps code for each count of rows.
    """
    return -n_rows % multiple if states.device.type == "cpu" and states.dtype.itemsize < 4 else 0
