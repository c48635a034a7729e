"""Muon for matrices, AdamW for all other parameters: a small untrained network learns to read in half the steps.

Muon is Keller Jordan's (2024), with the step length of arXiv 2502.16982. That of torch computes in bfloat16, which
takes a minute a step on processors without units for it; this one computes in the parameters' type.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the iteration that brings all singular values near 1


class Muon(Optimizer):
    """Momentum with Nesterov's step, each update made orthogonal. For matrices alone."""

    def __init__(self, parameters: list[nn.Parameter], learning_rate: float, weight_decay: float = 0.01) -> None:
        super().__init__(parameters, {"lr": learning_rate, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]  # no closure is used
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                momentum = state.setdefault("momentum", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 0.05)
                update = orthogonal(parameter.grad.lerp(momentum, 0.95))
                scale = 0.2 * max(parameter.shape) ** 0.5  # updates as large as AdamW's
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """Return a matrix with the same singular vectors and singular values near 1."""
    a, b, c = _COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide if wide.shape == matrix.shape else wide.T


def muon_with_adamw(network: nn.Module, learning_rate: float) -> Optimizer:
    """Make one optimizer of a network's free parameters. AdamW gets embeddings, convolutions, norms and biases."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (matrices if parameter.ndim == 2 and "embed_tokens" not in name else others).append(parameter)
    return _JointOptimizer(
        Muon(matrices, learning_rate),
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

    def state_dict(self) -> dict[str, Any]:  # Any: as in torch
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # Any: as in torch
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
