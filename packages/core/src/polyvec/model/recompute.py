"""Layers that forget their activations and compute them again in the backward pass (gradient checkpointing)."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True, slots=True)
class Recompute:
    """Which layers are computed again.

    Attributes:
        every: one layer in so many; the others keep their activations.
        offload: keep the inputs of those layers in the memory of the host.
        options: further arguments of `torch.utils.checkpoint.checkpoint`.
    """

    every: int = 1
    offload: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)  # Any: as torch takes them

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"`every_n_layers` is {self.every}; give 1, or more to compute fewer layers again.")
        if self.options.get("use_reentrant"):
            raise ValueError(
                "`use_reentrant` is True, which trains no adapter: embeddings of frozen weights carry no gradient. "
                "Leave it out, or give False."
            )


def run_layer(
    layer: Callable[[Tensor], Tensor], hidden: Float[Tensor, "*rows dim"], index: int, recompute: Recompute | None
) -> Float[Tensor, "*rows dim"]:
    """Call the `index`-th layer. With `recompute`, and a graph, it may keep only its input for the backward pass."""
    if recompute is None or index % recompute.every or not torch.is_grad_enabled():
        return layer(hidden)
    options = dict(recompute.options) | {"use_reentrant": False}
    device = hidden.device.type
    with save_on_cpu(pin_memory=device != "cpu", device_type=device) if recompute.offload else nullcontext():
        output: Tensor = checkpoint(layer, hidden, **options)
    return output
