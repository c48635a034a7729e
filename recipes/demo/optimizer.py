"""Muon for matrices, AdamW for all other parameters: a small untrained network learns to read in half the steps."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer


def muon_with_adamw(network: nn.Module, learning_rate: float) -> Optimizer:
    """Make one optimizer of a network's free parameters. AdamW gets embeddings, convolutions, norms and biases."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (matrices if parameter.ndim == 2 and "embed_tokens" not in name else others).append(parameter)
    return _JointOptimizer(
        Muon(matrices, lr=learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        AdamW(others, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
    )


class _JointOptimizer(Optimizer):
    """Two optimizers that step together. Their parameter groups are shared, so a schedule changes both."""

    def __init__(self, *parts: Optimizer) -> None:
        groups = [group for part in parts for group in part.param_groups]
        super().__init__([dict(group) for group in groups], {})
        self.parts = parts
        self.param_groups = groups

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]  # no closure is used
        assert closure is None
        for part in self.parts:
            part.step()
