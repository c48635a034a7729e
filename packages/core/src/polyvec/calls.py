"""What a call means: its items, tasks and options, checked at one door before anything expensive."""

import operator
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from polyvec.encoding import Options, Request
from polyvec.inputs import check_side, check_tasks, checked_items
from polyvec.loading import UserAdapter
from polyvec.model.config import ModelConfig
from polyvec.model.processing import MAX_LENGTH
from polyvec.prompts import prefix
from polyvec.types import Input, Side


def requests(
    side: Side,
    items: Sequence[Input],
    task: str | Iterable[str],
    tasks: tuple[str, ...],
    adapters: Mapping[str, UserAdapter],
) -> list[Request]:
    """Each item with its side's prefix and its task's adapter.

    Args:
        side: query or document.
        items: texts and images.
        task: one for all, or one for each.
        tasks: what a task may be.
        adapters: those of `tasks` that a user loaded.

    Raises:
        ValueError: an unknown side or task, or not as many tasks as items.
    """
    check_side(side)
    chosen = check_tasks(task, len(items), tasks)
    prefix_and_adapter: dict[str, tuple[str, str]] = {}
    for name in dict.fromkeys(chosen):
        loaded = adapters.get(name)
        words = prefix(loaded.base_task if loaded else name, side)
        prefix_and_adapter[name] = (words, loaded.name if loaded else name)
    return [Request(item, *prefix_and_adapter[name]) for item, name in zip(items, chosen, strict=True)]


def options(
    config: ModelConfig,
    *,
    truncate_dim: int | None,
    max_length: int | None,
    max_pixels: int | None,
    multivector: bool,
    stacklevel: int,
) -> Options:
    """The options of a call; `max_pixels` is the embedder's where a call has none.

    Raises:
        ValueError: an impossible size or limit.
    """
    size = None if truncate_dim is None else whole("truncate_dim", truncate_dim, config.dim, "numbers")
    if size is not None and size not in config.matryoshka_dims:
        sizes = ", ".join(map(str, config.matryoshka_dims))
        warnings.warn(
            f"`truncate_dim` is {size}; this checkpoint was trained for {sizes}, and vectors of other sizes find less "
            "than their length suggests.",
            stacklevel=stacklevel + 1,
        )
    length = MAX_LENGTH if max_length is None else whole("max_length", max_length, MAX_LENGTH, "tokens")
    return Options(length, pixels(config, max_pixels), bool(multivector), size)


def pixels(config: ModelConfig, max_pixels: int | None) -> int:
    """A limit of pixels; by default the checkpoint's.

    Raises:
        ValueError: it is no whole number, or too small for an image of one token.
    """
    if max_pixels is None:
        return config.image.max_pixels
    least = (config.image.patch_size * config.image.merge_size) ** 2
    number = _index(max_pixels)
    if number is None or number < least:
        raise ValueError(f"`max_pixels` is {max_pixels!r}; an image needs at least {least}, one token.")
    return number


def whole(name: str, value: object, most: int, unit: str) -> int:
    """A whole number from 1 to `most`.

    Raises:
        ValueError: it is none.
    """
    number = _index(value)
    if number is None or not 1 <= number <= most:
        raise ValueError(f"`{name}` is {value!r}; it may be 1 to {most} {unit}.")
    return number


def _index(value: Any) -> int | None:
    """The whole number that a value is; True is none."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


class Source:
    """A stream's items with their tasks, each checked. An error ends it and is kept: what came before is not lost."""

    def __init__(
        self, inputs: Iterable[Any], tasks: Iterable[Any], check: Callable[[Any], None], *, same_length: bool
    ) -> None:
        self._inputs, self._tasks, self._check, self._same_length = inputs, tasks, check, same_length
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[tuple[Input, Any]]:
        try:
            yield from self._pairs()
        except Exception as error:  # noqa: BLE001 — the caller's iterators raise what they like; it is raised later
            self._error = error

    def _pairs(self) -> Iterator[tuple[Input, Any]]:
        none = object()
        tasks = iter(self._tasks)
        n_items = 0
        for item in self._inputs:
            (checked,) = checked_items([item], n_items)
            task = next(tasks, none)
            if task is none:
                raise ValueError(f"`task` has {n_items} entries and there are more inputs; give one each.")
            self._check(task)
            yield checked, task
            n_items += 1
        if self._same_length and next(tasks, none) is not none:
            raise ValueError(f"`task` has more entries than the {n_items} inputs; give one each.")

    def raise_error(self) -> None:
        """Raise what ended the stream, if it was an error."""
        if self._error is not None:
            raise self._error
