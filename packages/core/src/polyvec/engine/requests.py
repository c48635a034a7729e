"""Requests to an engine: the items, tasks and limits of a call, checked before anything expensive."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from polyvec.chunking import Span
from polyvec.encoder import EncodeOptions
from polyvec.images import image_size, open_image
from polyvec.inputs import check_side, check_tasks, checked_whole
from polyvec.model.adapter_files import UserAdapter
from polyvec.model.config import ModelConfig
from polyvec.model.processing import MAX_LENGTH, Processor, checked_pixels
from polyvec.outcomes import Encoding, Outcome
from polyvec.prompts import prefix
from polyvec.types import ImageInput, ImageText, Input, Side


@dataclass(frozen=True, slots=True)
class Request:
    """An item and everything that determines its vectors.

    Every request pickles, for worker processes. An open image is decoded then; `unreadable` is why it could not be.
    """

    item: Input
    prefix: str
    adapter: str
    max_length: int
    max_pixels: int
    multivector: bool
    unreadable: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        try:
            values["item"] = _sendable(self.item)
        except ValueError as error:
            values |= {"item": "", "unreadable": str(error)}
        return _request, (values,)


def _request(values: dict[str, Any]) -> Request:  # Any: the type of each field
    return Request(**values)


def _sendable(item: Input) -> Input:
    """Return an item that pickles: an open image is decoded, and a subclass becomes the type itself.

    Raises:
        ValueError: the image cannot be decoded, or the array is no image.
    """
    if isinstance(item, ImageText):
        return ImageText(_sendable_image(item.image), str.__str__(item.text))
    return str.__str__(item) if isinstance(item, str) else _sendable_image(item)


def _sendable_image(item: ImageInput) -> ImageInput:
    match item:
        case bytes():
            return bytes.__getitem__(item, slice(None))
        case Path():
            return Path(item)
        case np.ndarray():
            image_size(item)  # refuses arrays of objects, which may not pickle
            return np.asarray(item)
        case _:
            return open_image(item)


class Runner(Protocol):
    """Turns requests into vectors: an `Engine` in this process, or `Workers` in others."""

    token_budget: int

    def run(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """Yield each request's index and outcome once, in any order, as soon as they are ready."""

    def chunks(self, request: Request, spans: Sequence[Span], overlap: int | None) -> list[Encoding]:
        """Encode each span of the request's text, in one forward pass over all of it.

        A text of more than `max_length` tokens is read in windows that share `overlap` tokens; by default a quarter
        of them.

        Raises:
            ValueError: the overlap is not shorter than a window, or a vector is not finite.
        """

    def use(self, adapters: Sequence[UserAdapter]) -> None:
        """Make exactly these user adapters available, beside the checkpoint's own."""

    def close(self) -> None:
        """End processes, if there are any; the next call starts them again."""


def requests(
    items: Sequence[Input],
    *,
    side: Side,
    task: str | Iterable[str],
    tasks: tuple[str, ...],
    adapters: Mapping[str, UserAdapter],
    limits: Request,
    processor: Processor,
) -> list[Request]:
    """Give each item its side's prefix, its task's adapter and the limits of the call, which `limits` returns.

    `tasks` are the valid tasks, `adapters` those that a user loaded, by task.

    Raises:
        ValueError: an unknown side or task, not as many tasks as items, or a limit within the prefix of a text.
    """
    check_side(side)
    task_by_item = check_tasks(task, len(items), tasks)
    templates: dict[str, Request] = {}
    for name in [str(task)] if isinstance(task, str) else dict.fromkeys(task_by_item):
        adapter = adapters.get(name)
        base_task = adapter.base_task if adapter else name
        processor.check_length(limits.max_length, side=side, task=name, base_task=base_task)
        templates[name] = replace(limits, prefix=prefix(base_task, side), adapter=adapter.name if adapter else name)
    return [replace(templates[name], item=item) for item, name in zip(items, task_by_item, strict=True)]


def limits(config: ModelConfig, options: EncodeOptions, *, max_pixels: int) -> Request:
    """Check the limits of a call, and return them as a request without an item. `max_pixels` is their default.

    Raises:
        ValueError: a limit is impossible.
    """
    length, area = options.get("max_length"), options.get("max_pixels")
    return Request(
        item="",
        prefix="",
        adapter="",
        max_length=MAX_LENGTH if length is None else checked_whole("max_length", length, MAX_LENGTH, "tokens"),
        max_pixels=max_pixels if area is None else checked_pixels(config.image, area),
        multivector=bool(options.get("multivector")),
    )
