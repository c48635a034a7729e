"""Open, check and bound an image. Nothing here touches torch, and nothing but `fetch` opens a connection."""

import io
import math
import stat
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from polyvec import fetching
from polyvec.types import ImageInput

__all__ = [
    "MAX_ASPECT_RATIO",
    "MAX_IMAGE_PIXELS",
    "check_regular",
    "describe",
    "fetch",
    "image_size",
    "open_image",
    "smart_resize",
]

MAX_IMAGE_PIXELS = (
    178_000_000  # decoded as RGB 534 MB; Pillow refuses hardly more, and larger files are most often bombs
)
# Decoders for what people have. Pillow's others are rare, fragile, or start a program (EPS).
_FORMATS = ("BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_ORIENTATION = 0x0112  # EXIF
_UPRIGHT = {  # EXIF 2.32, tag 0x0112
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MAX_ASPECT_RATIO = 200  # the image tower's own limit

# Pillow's remarks about metadata and size; what matters raises. Once and for all, as `warnings.catch_warnings` around
# each image would leave its filter behind where threads overlap.
warnings.filterwarnings("ignore", module=r"PIL\.")


def open_image(image: ImageInput) -> Image.Image:
    """Decode an image completely, as upright RGB.

    EXIF orientation is applied, unless the metadata are damaged. Sixteen bits keep their upper eight. Floats, in an
    array or a TIFF file, are shades from 0 to 1. What else Pillow knows is converted as Pillow does: an alpha channel
    is dropped, of several frames the first counts. An array is (height, width) or (height, width, channels) with one
    channel (grey), three (RGB) or four (RGBA), of uint8, uint16, bool or floats.

    Raises:
        ValueError: the image is missing, no regular file, empty, corrupt, truncated, larger than `MAX_IMAGE_PIXELS`,
            or more than `MAX_ASPECT_RATIO` times longer than wide; an array of another shape or dtype; 32-bit or
            signed integers, which do not say what is white; floats that are not within 0 and 1.
    """
    if isinstance(image, np.ndarray):
        _check_size(_array_size(image), image)
        return _picture(image, image)
    with _opened(image) as opened:
        shades = opened.mode == "F" or opened.mode.startswith("I")
        rgb = _picture(np.asarray(opened), image) if shades else opened.convert("RGB")
        method = _UPRIGHT.get(_orientation(opened))
        upright = rgb if method is None else rgb.transpose(method)
    upright.info.clear()  # else the picture would be turned once more where it is opened again
    return upright


def image_size(image: ImageInput) -> tuple[int, int]:
    """Width and height of the upright image in pixels, from its header alone.

    Raises:
        ValueError: as `open_image`, except for what only decoding, or a look at all floats, shows.
    """
    if isinstance(image, np.ndarray):
        size = _array_size(image)
        _check_size(size, image)
        return size
    with _opened(image) as opened:
        # The size of a TIFF that is turned by a tag of its own is that of the upright image already.
        turned = _orientation(opened) in (5, 6, 7, 8) and _ORIENTATION not in getattr(opened, "tag_v2", ())
        width, height = opened.size
    return (height, width) if turned else (width, height)


def fetch(url: str, *, timeout: float = 10.0, max_bytes: int = 50_000_000, allow_private: bool = False) -> bytes:
    """Download an image file. Nothing else in this package opens a connection for content.

    The connection goes to an address that was found public, redirects (at most 5) included; proxies from the
    environment are not used.

    Args:
        url: `http://` or `https://`, without user name and password.
        timeout: seconds for the whole call.
        max_bytes: size of the largest file that is accepted.
        allow_private: accept hosts in private networks and on this machine, too. Never do so with a stranger's URL.

    Returns:
        The file's bytes, for `open_image` or an encode call.

    Raises:
        ValueError: the URL is refused or cannot be reached, or what is there is no image of at most `max_bytes`.
    """
    content = fetching.download(url, timeout=timeout, max_bytes=max_bytes, allow_private=allow_private)
    try:
        image_size(content)
    except ValueError as error:
        raise ValueError(f"{fetching.shown(url)} was fetched, but its {error}") from error
    return content


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
    if isinstance(image, np.ndarray):
        return f"array of shape {image.shape} and dtype {image.dtype}"
    return f"PIL image of mode {image.mode} and size {image.width}×{image.height}"


@contextmanager
def _opened(image: Image.Image | Path | bytes) -> Iterator[Image.Image]:
    """The image with its header read; whatever goes wrong with it, in here or in the caller, is a ValueError."""
    with ExitStack() as owned:
        try:
            if isinstance(image, Image.Image):
                opened = image
            else:
                if isinstance(image, Path):
                    check_regular(image)
                file = io.BytesIO(image) if isinstance(image, bytes) else image
                opened = owned.enter_context(Image.open(file, formats=_FORMATS))
            _check_size(opened.size, image)
            _check_mode(opened, image)
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
            if isinstance(error, _RefusedError):
                raise
            raise ValueError(f"{describe(image)} cannot be decoded: {error}") from error


class _RefusedError(ValueError):
    """What this module itself refuses, worded already."""


def check_regular(path: Path) -> None:
    """Refuse what is no file: to open a pipe or a device may take forever.

    Raises:
        ValueError: it is none.
        OSError: it is not there.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise _RefusedError(f"{describe(path)} cannot be read as an image: it is no regular file; give a file's path")


def _check_mode(opened: Image.Image, image: ImageInput) -> None:
    if opened.mode == "I" and opened.format != "PPM":  # which is known to have sixteen bits
        raise _RefusedError(
            f"{describe(image)} has signed or 32-bit integers, which do not say what is white; scale them to 8 or 16 "
            "bits, or to floats within 0 and 1"
        )


def _check_size(size: tuple[int, int], image: ImageInput) -> None:
    width, height = size
    if width * height == 0:
        raise _RefusedError(f"{describe(image)} has no pixels")
    if width * height > MAX_IMAGE_PIXELS:
        raise _RefusedError(f"{describe(image)} has {width}×{height} pixels; at most {MAX_IMAGE_PIXELS:,} are decoded")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise _RefusedError(f"{describe(image)} is {width}×{height}; no side may be {MAX_ASPECT_RATIO} times the other")


def _array_size(array: np.ndarray) -> tuple[int, int]:
    shape, kind = array.shape, array.dtype.type
    if len(shape) != 2 and (len(shape) != 3 or shape[2] not in (1, 3, 4)):
        advice = "reshape it"
        if len(shape) == 3 and shape[0] in (1, 3, 4):
            advice = "transpose it to (height, width, channels)"
        elif len(shape) == 4:
            advice = "give its images one by one"
        raise _RefusedError(
            f"{describe(array)} is no image: it may be (height, width), or (height, width, channels) with 1, 3 or 4 "
            f"channels; {advice}"
        )
    if not issubclass(kind, np.floating) and kind not in (np.uint8, np.uint16, np.bool_):
        raise _RefusedError(
            f"{describe(array)} is no image: it may be of uint8, uint16, bool, or floats within 0 and 1; if its values "
            "are within 0 and 255, write `array.astype(numpy.uint8)`"
        )
    return shape[1], shape[0]


def _picture(shades: np.ndarray, image: ImageInput) -> Image.Image:
    """What is given in more than eight bits, or as an array, in RGB."""
    if shades.ndim == 3:
        shades = shades[..., 0] if shades.shape[2] == 1 else shades[..., :3]  # alpha is dropped
    if shades.dtype == np.bool_:
        shades = shades * np.uint8(255)
    elif np.issubdtype(shades.dtype, np.floating):
        lowest, highest = float(shades.min()), float(shades.max())
        if not (lowest >= 0 and highest <= 1):  # nor is it when one is NaN
            advice = "divide them by 255" if lowest >= 0 and 1 < highest <= 255 else "scale them"
            raise _RefusedError(
                f"{describe(image)} has floats from {lowest:g} to {highest:g}; they must be within 0 and 1: {advice}"
            )
        shades = np.rint(shades * 255)
    elif shades.dtype.itemsize > 1:
        shades = shades >> 8
    return Image.fromarray(np.ascontiguousarray(shades, np.uint8)).convert("RGB")


def _orientation(opened: Image.Image) -> int:
    """How the image must be turned, in EXIF's numbers; 1, not at all, where its metadata are damaged."""
    try:
        if isinstance(opened, PngImageFile) and not _has_late_metadata(opened):
            exif = Image.Image.getexif(opened)  # the PNG's own would decode everything to look for late ones
        else:
            exif = opened.getexif()
        return int(exif.get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 — parsers raise whatever they like, and the pixels are good without
        return 1


def _has_late_metadata(png: PngImageFile) -> bool:
    """Whether a PNG that is not decoded yet has EXIF behind its pixels, as some programs write it."""
    if not png.tile or png.fp is None:
        return False
    here = png.fp.tell()
    try:
        place = png.tile[0][2] - 8  # of the first chunk of pixels
        while True:
            png.fp.seek(place)
            chunk = png.fp.read(32)
            kind, content = chunk[4:8], chunk[8:]
            if kind == b"eXIf" or content.startswith((b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")):
                return True
            if not kind.isalpha() or kind == b"IEND":
                return False
            place += 12 + int.from_bytes(chunk[:4], "big")
    finally:
        png.fp.seek(here)
