"""Plan batches by token budget and prepare them ahead."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def plan(lengths: Sequence[int], token_budget: int, *, packed: bool = False) -> list[list[int]]:
    """Group indices into batches within the token budget, longest first; a single item may exceed it.

    Items of similar length share a batch, so there is little padding. The longest come first, so memory runs out in
    the first batch or never. Padding counts unless the batches are `packed`; then a batch with its padding may have up
    to twice the budget.
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


def similar(lengths: Sequence[int]) -> list[list[int]]:
    """Group indices, longest first. Each length is more than half of the longest of its group, which bounds padding."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if groups and 2 * lengths[index] > lengths[groups[-1][0]]:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def prepare_ahead(prepare: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[tuple[_Item, _Result]]:
    """Yield each item with its prepared form; a thread prepares the next item while the caller uses this one."""
    if len(items) < 2:
        yield from ((item, prepare(item)) for item in items)
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="polyvec-prepare") as executor:
        future: Future[_Result] = executor.submit(prepare, items[0])
        for index, item in enumerate(items):
            result = future.result()
            if index + 1 < len(items):
                future = executor.submit(prepare, items[index + 1])
            yield item, result
