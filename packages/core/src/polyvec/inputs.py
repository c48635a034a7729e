"""Check the arguments of encode calls before anything expensive."""

import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from polyvec.images import describe, n_image_pages
from polyvec.types import TASKS, ImageInput, ImageText, Input
from polyvec.warning import warn

__all__ = [
    "check_collection",
    "check_options",
    "check_side",
    "check_task",
    "check_tasks",
    "check_text",
    "checked_items",
    "checked_size",
    "checked_whole",
    "is_single",
]

_TEXTS, _OBJECTS, _BYTES = "UT", "O", "SV"  # kinds of array dtypes


def check_collection(inputs: object) -> None:
    """Refuse a single item where a list of items is expected.

    An array of one dimension holds texts (or any items, if its dtype is object), an array of four dimensions images.

    Raises:
        TypeError: `inputs` is a single item, or an array that holds neither texts nor images.
    """
    if isinstance(inputs, np.ndarray):
        _check_array(inputs)
    elif isinstance(inputs, str | bytes | Path | Image.Image | ImageText):
        raise TypeError(f"`inputs` is a single item ({_kind(inputs)}); give a list of items.")


def checked_items(inputs: Iterable[Any], start: int = 0) -> list[Input]:
    """Check the items of a call and return them as a list. Messages count them from `start`.

    An `ImageText` without a text becomes its image. Of an image file with several pages only the first is encoded, with
    a warning.

    Raises:
        TypeError: `inputs` is a single item, or an item is neither text, nor image, nor both.
    """
    check_collection(inputs)
    items = list(inputs)
    for index, item in enumerate(items, start):
        image = _checked_image(item, index) if isinstance(item, ImageText) else item
        if not isinstance(image, str | bytes | Path | Image.Image | np.ndarray):
            raise TypeError(
                f"item {index} is a {type(image).__name__}; an item is a text (str), an image (PIL.Image.Image, "
                "pathlib.Path, bytes or numpy.ndarray), or both (polyvec.ImageText)."
            )
        if isinstance(image, Path | bytes) and (n_pages := n_image_pages(image)) > 1:
            warn(
                f"{describe(image)} has {n_pages} pages, and only the first is encoded. To encode all of them, give "
                "the images of `polyvec.images.image_pages`."
            )
    return [item.image if isinstance(item, ImageText) and not item.text else item for item in items]


def _checked_image(item: ImageText, index: int) -> ImageInput:
    if not isinstance(item.text, str):
        raise TypeError(f"item {index} is an ImageText whose text is a {type(item.text).__name__}; it must be a str.")
    if not isinstance(item.image, bytes | Path | Image.Image | np.ndarray):
        raise TypeError(
            f"item {index} is an ImageText whose image is a {type(item.image).__name__}; it must be a "
            "PIL.Image.Image, pathlib.Path, bytes or numpy.ndarray. A text alone is a str."
        )
    return item.image


def check_text(text: str) -> None:
    """Refuse a string that is no Unicode text.

    Raises:
        ValueError: it has a lone surrogate, as in broken JSON or file names.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the text has a lone surrogate at position {error.start}, which is no character") from error


def check_side(side: object) -> None:
    """Raise `ValueError` if the side is neither `"query"` nor `"document"`."""
    if side not in ("query", "document"):
        raise ValueError(f"`side` is {side!r}; it is 'query' or 'document'.")


def check_task(task: object, known: Sequence[str] = TASKS) -> None:
    """Refuse a task that the model does not know.

    Raises:
        ValueError: the message lists the known tasks, and translates a task of the hosted API.
    """
    if task in known:
        return
    message = f"`task` is {task!r}; this model knows {', '.join(map(repr, known))}."
    stem, _, side = str(task).partition(".")
    if stem in known and side in ("query", "passage"):
        method = "encode_query" if side == "query" else "encode_document"
        message += f" The side of a search is the method that is called: write `{method}(…, task={stem!r})`."
    raise ValueError(message)


def check_tasks(task: object, n_inputs: int, known: Sequence[str]) -> list[str]:
    """Check the tasks of a call, one for all inputs or one per input, and return one per input.

    Raises:
        ValueError: a task is unknown, or tasks and inputs differ in number.
    """
    if is_single(task):
        check_task(task, known)
        return [str(task)] * n_inputs
    assert isinstance(task, Iterable), "`is_single` is False for iterables only"
    tasks: list[Any] = list(task)  # Any: not checked yet
    if len(tasks) != n_inputs:
        raise ValueError(f"`task` has {len(tasks)} entries for {n_inputs} inputs; give one task, or one per input.")
    for name in dict.fromkeys(tasks):
        check_task(name, known)
    return tasks


def is_single(task: object) -> bool:
    """True if `task` is a single value. Invalid values are rejected later, by `check_task`."""
    return isinstance(task, str) or not isinstance(task, Iterable)


def checked_size(truncate_dim: object, dim: int, sizes: Sequence[int]) -> int:
    """Check `truncate_dim` and return the length of the dense vectors of a call; `dim` is the full length.

    Lengths other than the `sizes` that the model was trained for are allowed, with a warning.

    Raises:
        ValueError: `truncate_dim` is not a whole number from 1 to `dim`.
    """
    if truncate_dim is None:
        return dim
    size = checked_whole("truncate_dim", truncate_dim, dim, "numbers")
    if len(sizes) > 1 and size not in sizes:
        trained = ", ".join(map(str, sorted(sizes)))
        warn(
            f"`truncate_dim` is {size}; this checkpoint was trained for {trained}, and vectors of other sizes find "
            "less than their length suggests."
        )
    return size


def checked_whole(name: str, value: object, most: int, unit: str) -> int:
    """Raise `ValueError` if the value is not a whole number from 1 to `most`."""
    number = whole(value)
    if number is None or not 1 <= number <= most:
        raise ValueError(f"`{name}` is {value!r}; it may be 1 to {most} {unit}.")
    return number


def whole(value: Any) -> int | None:
    """Convert a value to a whole number; None if that is impossible, and for booleans."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def check_options(options: Mapping[str, object], known: Collection[str], *unsupported: str) -> None:
    """Refuse options that a call does not have.

    Raises:
        TypeError: an option is not among the known ones.
        ValueError: a known option is set that this encoder does not support.
    """
    if unknown := sorted(options.keys() - set(known)):
        raise TypeError(f"there is no option {unknown[0]!r}; it may be {', '.join(known)}.")
    for name in unsupported:
        if options.get(name) not in (None, False):
            raise ValueError(f"`{name}` is {options[name]!r}; this encoder has no such option.")


def _check_array(inputs: np.ndarray) -> None:
    if inputs.shape == (0,):
        return  # of any dtype: numpy makes an array of floats from an empty list of texts
    kind, n_dims = inputs.dtype.kind, inputs.ndim
    is_pixels = kind not in _TEXTS + _OBJECTS + _BYTES
    if n_dims == 0 or (is_pixels and n_dims in (2, 3)):
        raise TypeError(f"`inputs` is a single item (numpy.ndarray of shape {inputs.shape}); give a list of items.")
    if kind in _BYTES or n_dims != (4 if is_pixels else 1):
        raise TypeError(
            f"`inputs` is an array of shape {inputs.shape} and dtype {inputs.dtype}; give a list of items, an array "
            "(items,) of texts, or an array (items, height, width, channels) of images."
        )


def _kind(item: str | bytes | Path | Image.Image | ImageText) -> str:
    kinds = (
        (str, "str"),
        (bytes, "bytes"),
        (Path, "pathlib.Path"),
        (Image.Image, "PIL.Image.Image"),
        (ImageText, "polyvec.ImageText"),
    )
    return next(name for kind, name in kinds if isinstance(item, kind))
