"""Keys of what items contain: the same for equal items, so that they are encoded once. No torch."""

import hashlib
import stat
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from polyvec import decoding
from polyvec.alarms import pass_alarm
from polyvec.images import alone_with, check_regular, open_image
from polyvec.types import ImageInput, ImageText, Input, Kind

__all__ = ["content_key", "equality_keys", "image_of", "input_kind", "text_of"]

_SAMPLES = 8  # pixels on each side that tell most images apart


def input_kind(item: Input) -> Kind:
    """Return whether an input is a text, an image or both."""
    return "text" if isinstance(item, str) else "image-text" if isinstance(item, ImageText) else "image"


def image_of(item: Input) -> ImageInput | None:
    """Return the image that an input is or has; None for a text."""
    if isinstance(item, ImageText):
        return item.image
    return None if isinstance(item, str) else item


def text_of(item: Input) -> str | None:
    """Return the text that an input is or has; None for an image."""
    if isinstance(item, ImageText):
        return item.text
    return item if isinstance(item, str) else None


def content_key(item: Input, scope: str) -> bytes | None:
    """Return 32 bytes that differ if the vectors in a scope may differ; None if the item cannot be read."""
    digest = hashlib.sha256(scope.encode())
    try:
        digest.update(item.encode() if isinstance(item, str) else _content(item))
    except (ValueError, OSError) as error:
        pass_alarm(error)
        return None
    return digest.digest()


def equality_keys(items: Sequence[Input]) -> list[Hashable]:
    """Return a key for each item, such that items of equal keys have equal vectors.

    Items of image and text are equal if both are. Images of equal content have equal keys if that takes no decoding: a
    PIL image that was not loaded yet equals only itself. Content is compared only where sizes and some pixels agree, so
    that images without an equal cost little.
    """
    contents = [item.image if isinstance(item, ImageText) else item for item in items]
    return [
        (key, item.text) if isinstance(item, ImageText) else key
        for item, key in zip(items, _equality_keys(contents), strict=True)
    ]


def _equality_keys(items: Sequence[str | ImageInput]) -> list[Hashable]:
    distinct = {_identity(item): item for item in items}
    rough = {identity: _rough(item) for identity, item in distinct.items() if not isinstance(item, str)}
    counts = Counter(rough.values())
    keys: dict[Hashable, Hashable] = {}
    for identity, key in rough.items():
        if counts[key] > 1:
            keys[identity] = content_key(distinct[identity], "")
    return [keys.get(identity) or identity for identity in map(_identity, items)]


def _identity(item: str | ImageInput) -> Hashable:
    return item if isinstance(item, str | Path) else id(item)


def _rough(image: ImageInput) -> Hashable:
    """Return what an equal image has, too, and few others."""
    if isinstance(image, bytes):
        return "file", len(image)
    if isinstance(image, np.ndarray):
        height, width = image.shape[:2] if image.ndim > 1 else (1, 1)
        rows, columns = (slice(None, None, max(1, side // _SAMPLES)) for side in (height, width))
        return "array", image.shape, image.dtype.str, image[rows, columns].tobytes() if image.ndim > 1 else b""
    if isinstance(image, Path):
        try:
            status = image.stat()
        except (OSError, ValueError) as error:
            pass_alarm(error)
            return image
        return ("file", status.st_size) if stat.S_ISREG(status.st_mode) else image
    try:
        with alone_with(image):
            if getattr(image, "tile", None) or getattr(image, "_im", None) is None:  # WebP files have no tiles
                return id(image)  # not loaded yet
            pixels = image.resize((_SAMPLES, _SAMPLES), Image.Resampling.NEAREST).tobytes()
            return "pixels", image.mode, image.size, pixels
    except decoding.ERRORS as error:  # what is wrong is said when it is opened
        pass_alarm(error)
        return id(image)


def _content(image: ImageInput | ImageText) -> bytes:
    """Hash an image: a file or an array by its bytes, other images by their upright RGB pixels."""
    if isinstance(image, ImageText):
        return b"image-text" + hashlib.sha256(image.text.encode()).digest() + _content(image.image)
    if isinstance(image, Path):
        check_regular(image)
        with image.open("rb") as file:
            return b"file" + hashlib.file_digest(file, "sha256").digest()
    if isinstance(image, bytes):
        return b"file" + hashlib.sha256(image).digest()
    if isinstance(image, np.ndarray):
        return f"{image.shape} {image.dtype.str}".encode() + hashlib.sha256(image.tobytes()).digest()
    picture = open_image(image)
    return f"{picture.width}×{picture.height}".encode() + hashlib.sha256(picture.tobytes()).digest()
