"""Attention within segments of consecutive rows, without masks and without padding."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int32
from torch import Tensor
from torch.nn import functional

try:
    from flash_attn import flash_attn_varlen_func
except ImportError:  # torch's own attention is used instead
    flash_attn_varlen_func = None


@dataclass(frozen=True, slots=True)
class Segments:
    """Segments of consecutive rows; a row attends only to rows of its segment.

    Attributes:
        groups: for each run of segments of equal length, in row order: their number and their length.
        bounds: cumulative lengths of the segments, from 0, on the device.
    """

    groups: tuple[tuple[int, int], ...]
    bounds: Int32[Tensor, "bounds"]

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "Segments":
        """Build segments of these lengths. If equal lengths are adjacent, attention takes fewer calls."""
        groups = tuple((len(list(run)), length) for length, run in itertools.groupby(lengths))
        bounds = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
        return cls(groups, bounds.to(device, non_blocking=True))


def attend(
    queries: Float[Tensor, "rows heads size"],
    keys: Float[Tensor, "rows key_heads size"],
    values: Float[Tensor, "rows key_heads size"],
    segments: Segments,
    *,
    scale: float,
    causal: bool = False,
) -> Float[Tensor, "rows heads size"]:
    """Compute softmax(q · k · scale) · v within each segment. With `causal`, no row attends to later rows."""
    if flash_attn_varlen_func is not None and _flash_computes(values):
        longest = max(length for _, length in segments.groups)
        bounds = segments.bounds
        output: Tensor = flash_attn_varlen_func(
            queries, keys, values, bounds, bounds, longest, longest, softmax_scale=scale, causal=causal
        )
        return output
    outputs = []
    start = 0
    for count, length in segments.groups:
        rows = slice(start, start + count * length)
        # Each (count, heads, length, size):
        q, k, v = (
            states[rows].view(count, length, *states.shape[1:]).transpose(1, 2) for states in (queries, keys, values)
        )
        output = functional.scaled_dot_product_attention(
            q, k, v, scale=scale, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1]
        )
        outputs.append(output.transpose(1, 2).flatten(0, 1))
        start = rows.stop
    return torch.cat(outputs)


def packs(states: Tensor) -> bool:
    """Return True if segments of many lengths are as fast as padded rows. One CUDA kernel per length is slower."""
    return not states.is_cuda or (flash_attn_varlen_func is not None and _flash_computes(states))


def kernel(device: torch.device, dtype: torch.dtype) -> Literal["flash-attn", "torch"]:
    """Name the library that computes attention of this dtype on this device."""
    computes = flash_attn_varlen_func is not None and _flash_computes(torch.empty(0, device=device, dtype=dtype))
    return "flash-attn" if computes else "torch"


def _flash_computes(states: Tensor) -> bool:
    """Return True if flash-attn supports the states: half precision, on an Ampere GPU or later."""
    half = states.dtype in (torch.bfloat16, torch.float16)
    return states.is_cuda and half and torch.cuda.get_device_capability(states.device) >= (8, 0)
