"""What the processes of a run tell each other. All of them make the same calls; alone, a process gets its own back."""

import itertools
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import distributed

from polyvec.train.loss.gathering import n_processes

__all__ = ["from_all", "rank", "total"]

_T = TypeVar("_T")


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if n_processes() > 1 else 0


def from_all(own: Sequence[_T]) -> list[_T]:
    """Return the lists of all processes as one, in the order of the processes. Its items must pickle."""
    if n_processes() == 1:
        return list(own)
    parts: list[Sequence[_T]] = [[] for _ in range(n_processes())]
    distributed.all_gather_object(parts, own)
    return list(itertools.chain.from_iterable(parts))


def total(numbers: Sequence[float], device: torch.device) -> list[float]:
    """Add up numbers over all processes."""
    if n_processes() == 1:
        return list(numbers)
    tensor = torch.tensor(numbers, dtype=torch.float64, device=device)
    distributed.all_reduce(tensor)
    sums: list[float] = tensor.tolist()
    return sums
