"""What may be encoded: checked at the one door, before anything expensive."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from polyvec.types import Input


def check_collection(inputs: object) -> None:
    """Refuse a single item where many are expected.

    Raises:
        TypeError: `inputs` is a single item.
    """
    if isinstance(inputs, str | bytes | Path | Image.Image):
        raise TypeError(f"`inputs` is a single item ({_kind(inputs)}); give a list of items.")


def checked_items(inputs: Iterable[Any], start: int = 0) -> list[Input]:
    """The items of a call, as a list; the first is item `start` of a longer one.

    Raises:
        TypeError: `inputs` is a single item, or an item is neither text nor image.
    """
    check_collection(inputs)
    items = list(inputs)
    for index, item in enumerate(items, start):
        if not isinstance(item, str | bytes | Path | Image.Image):
            raise TypeError(
                f"item {index} is a {type(item).__name__}; an item is a text (str) or an image "
                "(PIL.Image.Image, pathlib.Path or bytes)."
            )
    return items


def check_text(text: str) -> None:
    """Refuse what is no Unicode text.

    Raises:
        ValueError: a lone surrogate, as broken JSON or file names contain them.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the text has a lone surrogate at position {error.start}, which is no character") from error


def _kind(item: str | bytes | Path | Image.Image) -> str:
    kinds = ((str, "str"), (bytes, "bytes"), (Path, "pathlib.Path"), (Image.Image, "PIL.Image.Image"))
    return next(name for kind, name in kinds if isinstance(item, kind))
