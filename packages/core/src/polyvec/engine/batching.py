"""Plan batches by token budget and prepare them ahead."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

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


def prepared(prepare: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[tuple[_Item, _Result]]:
    """Each item with its prepared form; the next one is prepared in a thread while the caller works on this one."""
    if len(items) < 2:
        yield from ((item, prepare(item)) for item in items)
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="polyvec-prepare") as executor:
        ahead: Future[_Result] = executor.submit(prepare, items[0])
        for index, item in enumerate(items):
            result = ahead.result()
            if index + 1 < len(items):
                ahead = executor.submit(prepare, items[index + 1])
            yield item, result
