"""Documents of all processes, with gradients: each process scores its own queries against everybody's documents.

A loss is a sum over the queries of one process, divided by `mean_count` of them. DDP's mean of the gradients is then
that of the whole batch, without a factor for the number of processes.
"""

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Int64, Shaped
from torch import Tensor
from torch.nn import functional

from polyvec.train.data.batches import Labels, Vectors

__all__ = ["gather_documents", "gather_names", "gather_rows", "mean_count", "n_processes"]


def n_processes() -> int:
    """Return how many processes train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_documents(documents: Vectors, labels: Labels) -> tuple[Vectors, Labels]:
    """Return the documents of all processes in the order of their ranks, and the labels with targets among them.

    Labels of queries stay those of this process.
    """
    if n_processes() == 1:
        return documents, labels
    n_documents, n_tokens = documents.mask.shape
    sizes = _all_sizes(torch.tensor([n_documents, n_tokens], device=documents.mask.device))
    counts, lengths = sizes.T.tolist()
    fill = max(lengths) - n_tokens
    dense, tokens = _gather(counts, documents.dense, functional.pad(documents.tokens, (0, 0, 0, fill)))
    (mask,) = _gather(counts, functional.pad(documents.mask, (0, fill)))
    keys, groups, in_batch = _gather(counts, labels.document_keys, labels.groups, labels.in_batch)
    targets = labels.targets + sum(counts[: dist.get_rank()])
    merged = replace(labels, targets=targets, document_keys=keys, groups=groups, in_batch=in_batch)
    return Vectors(dense, tokens, mask), merged


def gather_rows(rows: Shaped[Tensor, "rows *rest"]) -> Shaped[Tensor, "all_rows *rest"]:
    """Return the rows of all processes, of which each may have another number, in the order of their ranks."""
    if n_processes() == 1:
        return rows
    counts = _all_sizes(torch.tensor([len(rows)], device=rows.device))[:, 0].tolist()
    return _gather(counts, rows)[0]


def gather_names(names: Iterable[str]) -> list[str]:
    """Return the names that any process has, in one order for all processes."""
    if n_processes() == 1:
        return list(names)
    gathered: list[list[str]] = [[] for _ in range(n_processes())]
    dist.all_gather_object(gathered, list(names))
    return list(dict.fromkeys(itertools.chain.from_iterable(gathered)))


def mean_count(n: int) -> float:
    """Return the mean of `n` over the processes: what a sum over rows is to be divided by."""
    if n_processes() == 1:
        return float(n)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    total = torch.tensor(float(n), dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.item() / n_processes()


def _all_sizes(sizes: Int64[Tensor, "sizes"]) -> Int64[Tensor, "processes sizes"]:
    gathered = [torch.empty_like(sizes) for _ in range(n_processes())]
    dist.all_gather(gathered, sizes)
    return torch.stack(gathered)


def _gather(counts: list[int], *tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the rows of all processes for each of the tensors, `counts[rank]` of them from each process."""
    if not max(counts):
        return tensors
    fill = max(counts) - len(tensors[0])
    padded = [torch.cat([tensor, tensor.new_zeros(fill, *tensor.shape[1:])]) for tensor in tensors]
    blocks = _Gather.apply(*padded)  # type: ignore[no-untyped-call]  # torch's own
    return tuple(torch.cat([rows[:n] for rows, n in zip(block, counts, strict=True)]) for block in blocks)


class _Gather(torch.autograd.Function):
    """Stack tensors of all processes; the gradient of each is summed over the processes that used it.

    It is one node for all tensors, so that processes call the same collectives even if the loss of one of them leaves
    out a tensor.
    """

    @staticmethod
    def forward(_: Any, *tensors: Tensor) -> tuple[Tensor, ...]:  # Any: torch's context
        stacked = [tensor.new_empty(n_processes(), *tensor.shape) for tensor in tensors]
        for target, tensor in zip(stacked, tensors, strict=True):
            dist.all_gather(list(target.unbind()), tensor.contiguous())
        return tuple(stacked)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # Any: torch's context
        sums = []
        for gradient in gradients:
            total = gradient.contiguous().clone()
            dist.all_reduce(total)
            sums.append(total[dist.get_rank()])
        return tuple(sums)
