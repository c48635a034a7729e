"""Plan batches by token budget, prepare them ahead, halve them when memory runs out."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def plan(lengths: Sequence[int], token_budget: int, *, packed: bool = False) -> list[list[int]]:
    """Indices in batches, longest first, each within the budget of tokens; one item may exceed it alone.

    Items of like length share a batch, so there is little padding; the longest come first, so memory runs out at once
    or not at all.

    Args:
        lengths: tokens of each item.
        token_budget: tokens per batch, padding included.
        packed: padding is not computed, and counts only where it exceeds the budget by itself.
    """
    batches: list[list[int]] = []
    filled = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        padded = (len(batches[-1]) + 1) * lengths[batches[-1][0]] if batches else math.inf
        fits = filled + lengths[index] <= token_budget and padded <= 2 * token_budget
        if fits if packed else padded <= token_budget:
            batches[-1].append(index)
            filled += lengths[index]
        else:
            batches.append([index])
            filled = lengths[index]
    return batches


def windows(items: Iterable[_Item], cost: Callable[[_Item], int], budget: int) -> Iterator[list[_Item]]:
    """Consecutive items, as few as cost `budget` or more together; the last window may cost less."""
    window: list[_Item] = []
    filled = 0
    for item in items:
        window.append(item)
        filled += cost(item)
        if filled >= budget:
            yield window
            window, filled = [], 0
    if window:
        yield window


def prepared(prepare: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[tuple[_Item, _Result]]:
    """Each item with its prepared form; the next one is prepared in a thread while the caller works on this one."""
    if not items:
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="polyvec-prepare") as executor:
        ahead: Future[_Result] = executor.submit(prepare, items[0])
        for index, item in enumerate(items):
            result = ahead.result()
            if index + 1 < len(items):
                ahead = executor.submit(prepare, items[index + 1])
            yield item, result


def halving(run: Callable[[Sequence[_Item]], list[_Result]], items: Sequence[_Item]) -> list[_Result]:
    """`run(items)`; where that runs out of memory, the same in two halves. Any other error passes through."""
    try:
        return run(items)
    except (RuntimeError, MemoryError) as error:
        if len(items) == 1 or not _out_of_memory(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(items) // 2
    return halving(run, items[:middle]) + halving(run, items[middle:])


def _out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Of a GPU, of numpy, or of what has no error of its own: the CPU's allocator, MPS, cuBLAS."""
    signs = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in str(error) for sign in signs)
