"""Open, check and bound an image. Nothing here fetches anything or touches torch."""

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from polyvec.types import ImageInput

MAX_IMAGE_PIXELS = (
    178_000_000  # decoded as RGB 534 MB; Pillow refuses hardly more, and larger files are most often bombs
)
# Decoders for what people have. Pillow's others are rare, fragile, or start a program (EPS).
_FORMATS = ("BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_ORIENTATION = 0x0112  # EXIF
MAX_ASPECT_RATIO = 200  # the image tower's own limit


def open_image(image: ImageInput) -> Image.Image:
    """Decode an image completely, as upright RGB.

    EXIF orientation is applied. Sixteen-bit grey keeps its upper eight bits. Other modes are converted as Pillow does:
    an alpha channel is dropped, of several frames the first counts.

    Raises:
        ValueError: the image is missing, empty, corrupt, truncated, larger than `MAX_IMAGE_PIXELS`, or more than
            `MAX_ASPECT_RATIO` times longer than wide.
    """
    with _opened(image) as opened:
        upright = ImageOps.exif_transpose(opened)
        if upright.mode.startswith("I;16"):
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        return upright.convert("RGB")


def image_size(image: ImageInput) -> tuple[int, int]:
    """Width and height of the upright image in pixels, from its header alone.

    Raises:
        ValueError: as `open_image`, except for damage that only decoding shows.
    """
    with _opened(image) as opened:
        # To look for EXIF behind the pixels, Pillow would decode the whole PNG.
        known = opened.format != "PNG" or "exif" in opened.info
        turned = known and opened.getexif().get(_ORIENTATION) in (5, 6, 7, 8)  # these exchange the sides
        width, height = opened.size
    return (height, width) if turned else (width, height)


def smart_resize(width: int, height: int, *, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Width and height nearest to the image's own that are multiples of `factor` and have an area within the limits.

    The rule of Qwen2-VL: round each side half to even; if the area is then out of bounds, scale both sides by the
    square root of the excess, down to the next multiples (up, when the image is too small). A very long image may
    exceed a very small `max_pixels`, as no side is shorter than `factor`.
    """
    new_width, new_height = round(width / factor) * factor, round(height / factor) * factor
    if new_width * new_height > max_pixels:
        scale = math.sqrt(width * height / max_pixels)
        new_width = max(factor, math.floor(width / scale / factor) * factor)
        new_height = max(factor, math.floor(height / scale / factor) * factor)
    elif new_width * new_height < min_pixels:
        scale = math.sqrt(min_pixels / (width * height))
        new_width = math.ceil(width * scale / factor) * factor
        new_height = math.ceil(height * scale / factor) * factor
    return new_width, new_height


def describe(image: ImageInput) -> str:
    """How an error message names this image."""
    if isinstance(image, Path):
        return f"image file {str(image)!r}"
    if isinstance(image, bytes):
        return f"image of {len(image)} bytes"
    return f"PIL image of mode {image.mode} and size {image.width}×{image.height}"


@contextmanager
def _opened(image: ImageInput) -> Iterator[Image.Image]:
    """The image with its header read; whatever goes wrong with it, in here or in the caller, is a ValueError."""
    with warnings.catch_warnings(), ExitStack() as owned:
        warnings.simplefilter("ignore")  # Pillow's remarks about metadata and size; what matters raises
        try:
            if isinstance(image, Image.Image):
                opened = image
            else:
                file = io.BytesIO(image) if isinstance(image, bytes) else image
                opened = owned.enter_context(Image.open(file, formats=_FORMATS))
            _check_size(opened, image)
        except FileNotFoundError as error:
            raise ValueError(f"{describe(image)} does not exist") from error
        except UnidentifiedImageError as error:
            raise ValueError(f"{describe(image)} cannot be read as an image: no format that is known") from error
        except Image.DecompressionBombError as error:
            raise ValueError(f"{describe(image)} is too large: {error}") from error
        except Exception as error:  # decoders raise whatever they like, and one bad image never loses the others
            if isinstance(error, _RefusedError):
                raise
            raise ValueError(f"{describe(image)} cannot be read as an image: {error}") from error
        try:
            yield opened
        except Exception as error:  # as above
            raise ValueError(f"{describe(image)} cannot be decoded: {error}") from error


class _RefusedError(ValueError):
    """What this module itself refuses, worded already."""


def _check_size(opened: Image.Image, image: ImageInput) -> None:
    width, height = opened.size
    if width * height == 0:
        raise _RefusedError(f"{describe(image)} has no pixels")
    if width * height > MAX_IMAGE_PIXELS:
        raise _RefusedError(f"{describe(image)} has {width}×{height} pixels; at most {MAX_IMAGE_PIXELS:,} are decoded")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise _RefusedError(f"{describe(image)} is {width}×{height}; no side may be {MAX_ASPECT_RATIO} times the other")
