"""Open, check and resize images. Nothing here imports torch, and only `fetch` opens a connection."""

import io
import math
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from polyvec import decoding, fetching, forking
from polyvec.alarms import pass_alarm
from polyvec.pixels import RefusedError, array_size, check_depth, of_array, of_deep_shades, on_white
from polyvec.types import ImageInput, Page, UnreadablePages

__all__ = [
    "MAX_ASPECT_RATIO",
    "MAX_IMAGE_PIXELS",
    "alone_with",
    "check_regular",
    "fetch",
    "image_format",
    "image_pages",
    "image_size",
    "n_image_pages",
    "open_image",
    "smart_resize",
    "suffixes",
]

_Result = TypeVar("_Result")

MAX_IMAGE_PIXELS = 178_000_000  # 534 MB as RGB; Pillow's own limit is hardly higher, and most larger files are bombs
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

# More than threads that decode at a time, so that few wait for images that are not theirs.
_LOCKS = [forking.lock() for _ in range(64)]

# Pillow warns about metadata and size; serious problems raise. The filter is set once, because
# `warnings.catch_warnings` around each image would leave filters behind when threads overlap.
warnings.filterwarnings("ignore", module=r"PIL\.")


def open_image(image: ImageInput) -> Image.Image:
    """Decode an image completely, as upright RGB.

    EXIF orientation is applied, unless the metadata are damaged. White is put behind whatever is transparent. Of more
    than eight bits, the upper eight are kept. A grey image of sixteen bits may use fewer of them: white is then the
    largest number of 8, 10, 12 or 14 bits, if no shade is above it and its file says nothing else. Floats, in an array
    or a TIFF file, are shades from 0 to 1. Other modes are converted as Pillow does. Only the first of several frames
    or pages is used; `image_pages` gives all pages. An array is (height, width) or (height, width, channels) with one
    channel (grey), three (RGB) or four (RGBA), of uint8, uint16, bool or floats; its white is 255, 65535, True or 1.

    Raises:
        ValueError: the image is missing, no regular file, empty, corrupt, truncated, larger than `MAX_IMAGE_PIXELS`,
            or more than `MAX_ASPECT_RATIO` times longer than wide; an array has another shape or dtype, or floats
            outside 0 to 1; integers are signed or of 32 bits, whose value for white is unknown; an array of uint16 uses
            eight bits only, or a coloured file of sixteen bits twelve only.
    """
    if isinstance(image, np.ndarray):
        _check_size(array_size(image, describe(image)), describe(image))
        return of_array(image, describe(image))
    return _read(image, lambda opened: _upright(opened, describe(image)))


def image_size(image: ImageInput) -> tuple[int, int]:
    """Read the width and height of the upright image in pixels from its header alone.

    Raises:
        ValueError: as `open_image`, except for faults in the pixels, such as a truncated file or floats above 1.
    """
    if isinstance(image, np.ndarray):
        size = array_size(image, describe(image))
        _check_size(size, describe(image))
        return size

    def upright_size(opened: Image.Image) -> tuple[int, int]:
        turned = decoding.orientation(opened) in (5, 6, 7, 8) and not decoding.is_upright_already(opened)
        return opened.size[::-1] if turned else opened.size

    return _read(image, upright_size)


def image_format(file: Path | bytes, *, plain: bool = False) -> str:
    """Return Pillow's name of a file's format, such as `JPEG`, from its header alone. Errors are those of `image_size`.

    With `plain`, the name is empty if readers may not show the pixels as `open_image` converts them: transparent ones,
    and all but grey and RGB of eight bits.
    """

    def name(opened: Image.Image) -> str:
        is_plain = opened.mode in ("1", "L", "P", "RGB") and not opened.has_transparency_data
        return (opened.format or "") if is_plain or not plain else ""

    return _read(file, name)


def suffixes() -> tuple[str, ...]:
    """Return the suffixes of image files that can be read here, such as `.png`, in lower case and sorted.

    They are those of the formats AVIF, BMP, GIF, ICO, JPEG, JPEG 2000, PNG, PPM, TIFF and WebP, as far as the installed
    Pillow reads them, and of HEIF if a plugin such as pillow-heif is registered.
    """
    return decoding.suffixes()


def n_image_pages(image: ImageInput) -> int:
    """Count the pages of an image file. Only TIFF files have more than one: frames of animations are no pages.

    Thumbnails and masks within a TIFF are not counted. A file that cannot be read counts as one page.
    """
    if not isinstance(image, Path | bytes) or not decoding.may_be_tiff(image):
        return 1
    try:
        with _opened(image, describe(image)) as opened:
            return len(list(decoding.pages(opened))) if opened.format == "TIFF" else 1
    except ValueError:
        return 1


def image_pages(image: str | Path | bytes, *, first: int = 1) -> Iterator[Page]:
    """Read an image file page by page, each as `open_image` reads an image. Pages have no text.

    A TIFF has several pages, as scanners and fax machines write them; any other image is one page.

    Args:
        image: a file, which must not change meanwhile, or the content of a file.
        first: number of the first page to read; beyond the last page, nothing is handed out.

    Yields:
        The pages in order, without those that cannot be read.

    Raises:
        ValueError: when the first page is requested: the file is missing or no image.
        UnreadablePages: after the last page, with all pages that could not be read.
    """
    source = Path(image) if isinstance(image, str) else image
    total = n_image_pages(source)
    if total == 1:
        yield from [Page(1, open_image(source), "")] if first == 1 else []
        return
    reasons: dict[int, str] = {}
    with _opened(source, describe(source)) as opened:
        for number, (_, error) in enumerate(decoding.pages(opened), start=1):
            if number < first:
                continue
            try:
                with _typed_errors("it", "decoded"):
                    if error is not None:
                        raise error
                    _check_header(opened, "it")
                    picture = _upright(opened, "it")
            except ValueError as flaw:
                reasons[number] = str(flaw)
            else:
                yield Page(number, picture, "")
    if reasons:
        raise UnreadablePages(describe(source), reasons, total - first + 1 - len(reasons))


def fetch(url: str, *, timeout: float = 10.0, max_bytes: int = 50_000_000, allow_private: bool = False) -> bytes:
    """Download an image file. No other function of this package opens a connection for content.

    Only public addresses are connected to, also after redirects (at most 5). Proxies from the environment are ignored.

    Args:
        url: `http://` or `https://`, without user name and password.
        timeout: seconds for the whole call.
        max_bytes: size of the largest accepted file.
        allow_private: also accept hosts in private networks and on this machine. Do not set it for untrusted URLs.

    Returns:
        The file's bytes, for `open_image` or an encode call.

    Raises:
        ValueError: the URL is refused or cannot be reached, or its content is no image of at most `max_bytes`.
    """
    content = fetching.download(url, timeout=timeout, max_bytes=max_bytes, allow_private=allow_private)
    try:
        image_size(content)
    except ValueError as error:
        raise ValueError(f"{fetching.shown(url)} was fetched, but its {error}") from error
    return content


def smart_resize(width: int, height: int, *, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Round width and height to multiples of `factor` with an area within the limits, near the image's own shape.

    The rule of Qwen2-VL: round each side half to even. If the area is then out of bounds, scale both sides by the
    square root of the excess, down to the next multiples (up, if the image is too small). A very long image may exceed
    a very small `max_pixels`, because no side is shorter than `factor`.
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
    """Describe the image for an error message."""
    if isinstance(image, Path):
        return f"image file {str(image)!r}"
    if isinstance(image, bytes):
        return f"image of {len(image)} bytes"
    if isinstance(image, np.ndarray):
        return f"array of shape {image.shape} and dtype {image.dtype}"
    return f"PIL image of mode {image.mode} and size {image.width}×{image.height}"


def _read(image: Image.Image | Path | bytes, use: Callable[[Image.Image], _Result]) -> _Result:
    """Return what `use` makes of the first page. A PNG whose texts Pillow refuses is read again without them."""
    name = describe(image)

    def use_first_page(opened: Image.Image) -> _Result:
        if opened.format == "TIFF" and opened is not image:
            _, error = next(decoding.pages(opened))
            if error is not None:
                raise error
        _check_header(opened, name)
        return use(opened)

    try:
        with _opened(image, name) as opened:
            return use_first_page(opened)
    except ValueError as error:
        if isinstance(image, Image.Image) or not isinstance(error.__cause__, ValueError):
            raise
        for content in decoding.without_texts(image):
            with suppress(ValueError), _opened(content, name) as opened:
                return use_first_page(opened)
        raise


@contextmanager
def alone_with(image: Image.Image) -> Iterator[None]:
    """Keep other threads of this package away from a PIL image and from the file that it is read from.

    Pillow reads an image's file on first use; two threads that do so at once get errors or wrong pixels.
    """
    shared = [image, *filter(None, [getattr(image, "fp", None)])]  # two images may have been opened from one file
    with ExitStack() as held:
        for number in sorted({object.__hash__(part) % len(_LOCKS) for part in shared}):  # in order, so no deadlock
            held.enter_context(_LOCKS[number])
        yield


@contextmanager
def _opened(image: Image.Image | Path | bytes, name: str) -> Iterator[Image.Image]:
    """Open an image. Errors of the decoder, also in the `with` block, become ValueErrors."""
    with ExitStack() as owned:
        with _typed_errors(name, "read as an image"):
            if isinstance(image, Image.Image):
                owned.enter_context(alone_with(image))
                _check_open(image, name)
                opened = image
            else:
                if isinstance(image, Path):
                    check_regular(image)
                file = io.BytesIO(image) if isinstance(image, bytes) else image
                opened = owned.enter_context(Image.open(file, formats=decoding.formats()))
        with _typed_errors(name, "decoded"):
            yield opened


@contextmanager
def _typed_errors(name: str, what: str) -> Iterator[None]:
    """Turn what decoders raise into a ValueError with the image's name."""
    try:
        yield
    except RefusedError:
        raise
    except FileNotFoundError as error:
        raise ValueError(f"{name} does not exist") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} cannot be read as an image: its format is unknown") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} is too large: {error}") from error
    except decoding.ERRORS as error:
        pass_alarm(error)
        raise ValueError(f"{name} cannot be {what}: {str(error) or type(error).__name__}") from error


def _check_open(image: Image.Image, name: str) -> None:
    """Refuse an image whose file was closed before its pixels were read, as at the end of `with Image.open(…)`."""
    if getattr(image, "tile", None) and getattr(image, "fp", image) is None:
        raise RefusedError(f"{name} is closed; encode it while it is open, or call its `load()` before it is closed")


def check_regular(path: Path, name: str = "") -> None:
    """Refuse a path that is no regular file: opening a pipe or a device may block forever. `name` is for the message.

    Raises:
        ValueError: the path is a folder, pipe, socket or device.
        OSError: the path does not exist or cannot be reached.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise RefusedError(f"{name or describe(path)} is no regular file; give a file's path")


def file_stamp(path: Path) -> tuple[int, ...] | None:
    """Return a value that changes when a file is written again; None if there is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        pass_alarm(error)
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _check_header(opened: Image.Image, name: str) -> None:
    _check_size(opened.size, name)
    if opened.mode == "I" and opened.format != "PPM":  # a PPM in mode I has sixteen bits
        raise RefusedError(
            f"{name} has signed or 32-bit integers, whose value for white is unknown; scale them to 8 or 16 bits, or "
            "to floats within 0 and 1. If it is part of an image of sixteen bits, give "
            "`numpy.asarray(image).astype(numpy.uint16)`"
        )


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height == 0:
        raise RefusedError(f"{name} has no pixels")
    if width * height > MAX_IMAGE_PIXELS:
        raise RefusedError(f"{name} has {width}×{height} pixels; at most {MAX_IMAGE_PIXELS:,} are decoded")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise RefusedError(f"{name} is {width}×{height}; no side may be {MAX_ASPECT_RATIO} times the other")


def _upright(opened: Image.Image, name: str) -> Image.Image:
    colour = decoding.transparent_colour(opened)
    if opened.mode == "F" or opened.mode.startswith("I"):
        rgb = of_deep_shades(opened, name)
        if colour is not None:
            rgb.paste("white", mask=Image.fromarray(np.asarray(opened) == colour))
    else:
        check_depth(opened, name)
        rgb = on_white(opened, colour)
    method = _UPRIGHT.get(decoding.orientation(opened))
    upright = rgb if method is None else rgb.transpose(method)
    upright.info.clear()  # otherwise `open_image` of the result would apply the orientation again
    return upright
