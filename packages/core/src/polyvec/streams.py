"""Streams of items, read in windows; each item is checked when it is reached."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from polyvec.inputs import checked_items
from polyvec.types import Input

_Item = TypeVar("_Item")


class Source:
    """The items of a stream with their tasks. An error ends the stream and is kept, so earlier items are not lost.

    Fewer tasks than items are an error; with `same_length`, more tasks are an error, too.
    """

    def __init__(
        self, inputs: Iterable[Any], tasks: Iterable[Any], check_task: Callable[[Any], None], *, same_length: bool
    ) -> None:
        self._inputs, self._tasks, self._check_task, self._same_length = inputs, tasks, check_task, same_length
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[tuple[Input, Any]]:
        try:
            yield from self._pairs()
        except Exception as error:  # noqa: BLE001 — the caller's iterators may raise anything; `raise_error` does
            self._error = error

    def _pairs(self) -> Iterator[tuple[Input, Any]]:
        end = object()
        tasks = iter(self._tasks)
        n_items = 0
        for item in self._inputs:
            (checked,) = checked_items([item], n_items)
            task = next(tasks, end)
            if task is end:
                raise ValueError(f"`task` has {n_items} entries and there are more inputs; give one each.")
            self._check_task(task)
            yield checked, task
            n_items += 1
        if self._same_length and next(tasks, end) is not end:
            raise ValueError(f"`task` has more entries than the {n_items} inputs; give one each.")

    def raise_error(self) -> None:
        """Raise the error that ended the stream, if there was one."""
        if self._error is not None:
            raise self._error


def split_by_cost(items: Iterable[_Item], cost: Callable[[_Item], int], budget: int) -> Iterator[list[_Item]]:
    """Split items into windows, each as soon as it costs `budget` or more; the last window may cost less."""
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
