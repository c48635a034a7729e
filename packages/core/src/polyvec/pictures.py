"""Where the picture of an item is: the one form that collections keep, and that both framework packages read."""

import base64
import binascii
import hashlib
import io
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, TypeVar, Unpack
from urllib.parse import unquote_to_bytes

from PIL import Image

from polyvec import paths
from polyvec.alarms import pass_alarm
from polyvec.images import image_format, image_pages, n_image_pages, open_image, suffixes
from polyvec.paths import path_of
from polyvec.types import ImageInput, UnreadablePages
from polyvec.warning import warn

__all__ = [
    "DPI",
    "MAX_BYTES",
    "MAX_PIXELS",
    "MIME_TYPES",
    "NOT_KEPT",
    "Picture",
    "PictureLimits",
    "absolute",
    "check_limits",
    "decoded",
    "encoded",
    "is_thumbnail",
    "mime_type",
    "of_data",
    "opened",
    "page_of",
    "page_uri",
    "thumbnail",
]

T = TypeVar("T")

DPI = 150  # of the pages of a PDF, unless their URI says otherwise
NOT_KEPT = "the image was added from memory, and is not kept"
THUMBNAIL_SIDE = 512  # pixels of the longer side
# Anthropic refuses an image above 5 MB of base64, and Amazon Bedrock one above 3.75 MB before base64; OpenAI, Azure and
# Google take larger ones. Anthropic refuses sides above 2000 pixels, too, if a request has more than 20 images: an area
# of 2000 × 1125 has none up to 16:9. Slides and pages of A4 and Letter at the default DPI are not shrunk.
MAX_BYTES = 3_750_000
MAX_PIXELS = 2_250_000

_PAGE = re.compile(r"(?P<path>.+)#page=(?P<number>[1-9]\d*)(&dpi=(?P<dpi>[\d.]+))?", re.DOTALL)  # RFC 8118, and dpi
_FORMATS = {"JPEG": "image/jpeg", "MPO": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}
_THUMBNAIL = "data:image/jpeg;base64,"
_JPEG_QUALITY = 90  # letters stay sharp
_SMALLEST_LIMIT = 1000  # a JPEG of one pixel has more than 600 bytes; a side may be 200 times the other
MIME_TYPES = tuple(_FORMATS.values())


class PictureLimits(TypedDict, total=False):
    """How large a picture may be that a chat model gets."""

    max_pixels: int | None
    """Largest area in pixels; a larger picture is shrunk, with its aspect ratio. None: no bound. Default: 2,250,000."""
    max_bytes: int | None
    """Most bytes of a file, of which base64 makes a third more. A larger file becomes a JPEG, which is shrunk until it
    fits. None: no bound. Default: 3,750,000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Where the picture of an item is.

    Attributes:
        uri: an absolute path; a page of a file, as `/folder/report.pdf#page=3`, which is drawn again; a `data:` URI; or
            the URL of an image, which nothing here fetches. None: the picture is not kept.
        page: number of the page that it shows, from 1; None if it is no page.
        page_label: what the file itself calls the page, such as `viii`; None if that is the number.
        thumbnail: a small JPEG, as a `data:` URI.
        sha256: hash of the image that was encoded: of a file's bytes, or of pixels.
        mime_type: of an image file that chat models take.
    """

    uri: str | None = None
    page: int | None = None
    thumbnail: str | None = field(default=None, repr=False)
    sha256: str | None = None
    mime_type: str | None = None
    page_label: str | None = None

    @property
    def label(self) -> str | None:
        """What readers call the page: its own label or else its number; None if it is no page."""
        return self.page_label or (None if self.page is None else str(self.page))

    def open(self, *, password: str | None = None) -> ImageInput:
        """Return the picture itself. A file is not read yet; a ValueError if there is none, or if it is at a URL.

        `password` opens the PDF of a page, if that is encrypted.
        """
        if not self.uri:
            raise ValueError(NOT_KEPT)
        return opened(self.uri, password=password)

    def read(self, use: Callable[[ImageInput], T]) -> T:
        """Return `use` of the picture or, if the picture is lost or has changed, of its thumbnail.

        Raises:
            ValueError: both are lost.
        """
        try:
            content = self.open()
            is_changed = self.is_changed(content)
            if not is_changed or not self.thumbnail:
                if is_changed:
                    warn(f"{(self.uri or '')[:200]!r} has changed since it was stored.")
                return use(content)
        except ValueError:
            if not self.thumbnail:
                raise
        return use(opened(self.thumbnail))

    def is_changed(self, content: ImageInput) -> bool:
        """True if an image file has changed since it was stored."""
        if self.sha256 is None or not isinstance(content, Path) or not content.is_file():
            return False
        return hashlib.sha256(content.read_bytes()).hexdigest() != self.sha256


def opened(uri: str, *, password: str | None = None) -> ImageInput:
    """Return the image at a path, a page of a file, or in a `data:` URI. A file is not read yet.

    `password` opens the PDF of a page, if that is encrypted.

    Raises:
        ValueError: there is no such image, or it is at a URL.
        ImportError: pypdfium2, which draws pages of PDFs, is not installed.
    """
    if uri.startswith("data:"):
        return of_data(uri)
    if (page := _PAGE.fullmatch(uri)) and not _is_file(uri):
        return _page(path_of(page["path"]), int(page["number"]), float(page["dpi"] or DPI), password)
    return _image_file(path_of(uri))


def absolute(uri: str | Path) -> str:
    """Return the one spelling of a path, or of the URI of a page; a ValueError if it is no local file."""
    page = _PAGE.fullmatch(uri) if isinstance(uri, str) and not _is_file(uri) else None
    path = paths.absolute(uri if page is None else page["path"])
    return path.as_posix() + ("" if page is None else page.string[page.end("path") :])


def page_uri(path: str, number: int, dpi: float = DPI) -> str:
    """Return the URI of a page of a file; pages are counted from 1."""
    return f"{path}#page={number}" + ("" if dpi == DPI else f"&dpi={dpi:g}")


def page_of(uri: str) -> tuple[str, int | None]:
    """Split a URI into the file and the number of the page; None if it is no page."""
    page = None if uri.startswith("data:") else _PAGE.fullmatch(uri)
    return (uri, None) if page is None or _is_file(uri) else (page["path"], int(page["number"]))


def thumbnail(image: ImageInput) -> str:
    """Return a small JPEG of the image, as a `data:` URI; a ValueError if the image cannot be read."""
    small = open_image(image)
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return f"{_THUMBNAIL}{base64.b64encode(file.getvalue()).decode()}"


def is_thumbnail(value: object) -> bool:
    """True if a value has the form that `thumbnail` returns."""
    return isinstance(value, str) and value.startswith(_THUMBNAIL)


def encoded(image: ImageInput, **limits: Unpack[PictureLimits]) -> tuple[str, str]:
    """Encode an image for a chat model, as base64 and MIME type.

    Files of usual formats within the limits stay as they are. Other images become PNG, and so do transparent ones and
    those of unusual colours, such as CMYK, which models may see otherwise. A JPEG that is too large stays a JPEG.

    Args:
        image: what is encoded.
        limits: see `PictureLimits`.

    Raises:
        ValueError: the image cannot be read, or a limit is impossible.
    """
    check_limits(limits)
    max_pixels, max_bytes = limits.get("max_pixels", MAX_PIXELS), limits.get("max_bytes", MAX_BYTES)
    pixels = open_image(image)  # also a check: a file that is no image must not be sent anywhere
    kind = mime_type(image, plain=True) if isinstance(image, Path | bytes) else None
    is_small = max_pixels is None or pixels.width * pixels.height <= max_pixels
    if isinstance(image, Path | bytes) and kind and is_small:
        content = image if isinstance(image, bytes) else image.read_bytes()
    else:
        pixels = pixels if max_pixels is None or is_small else _shrunk(pixels, max_pixels)
        kind = "image/jpeg" if kind == "image/jpeg" else "image/png"
        content = _saved(pixels, kind)
    if max_bytes is not None and len(content) > max_bytes:
        kind, content = "image/jpeg", _jpeg_within(pixels, max_bytes)
    return base64.b64encode(content).decode(), kind


def check_limits(limits: Mapping[str, object]) -> None:
    """Refuse limits of pictures that do not exist, and values that no picture could keep.

    Raises:
        TypeError: there is no such limit, or it is no whole number.
        ValueError: it is too small.
    """
    for name, value in limits.items():
        if name not in PictureLimits.__optional_keys__:
            raise TypeError(f"there is no limit {name!r}; it may be {', '.join(PictureLimits.__annotations__)}.")
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"`{name}` is {value!r}; it must be a whole number, or None for no bound.")
        if value < _SMALLEST_LIMIT:
            raise ValueError(f"`{name}` is {value}; it must be at least {_SMALLEST_LIMIT}, or None for no bound.")


def mime_type(file: Path | bytes, *, plain: bool = False) -> str | None:
    """Return the MIME type of an image file, if chat models take its format; `plain` is that of `image_format`."""
    try:
        return _FORMATS.get(image_format(file, plain=plain))
    except ValueError:
        return None


def decoded(data: str) -> bytes:
    """Decode base64, which may be broken into lines; a ValueError if it is none."""
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"an image is not valid base64: {error}") from error


def of_data(uri: str) -> bytes:
    """Return the content of a `data:` URI; a ValueError if it has none."""
    head, comma, data = uri.partition(",")
    if not comma:
        raise ValueError(f"{uri[:60]!r} is no data URI: it has no comma.")
    return decoded(data) if head.endswith(";base64") else unquote_to_bytes(data)


def _shrunk(pixels: Image.Image, n_pixels: float) -> Image.Image:
    scale = math.sqrt(n_pixels / (pixels.width * pixels.height))
    size = max(1, math.floor(pixels.width * scale)), max(1, math.floor(pixels.height * scale))
    return pixels.resize(size, Image.Resampling.LANCZOS)


def _saved(pixels: Image.Image, mime_type: str) -> bytes:
    file = io.BytesIO()
    if mime_type == "image/jpeg":
        pixels.save(file, "JPEG", quality=_JPEG_QUALITY)
    else:
        pixels.save(file, "PNG")
    return file.getvalue()


def _jpeg_within(pixels: Image.Image, max_bytes: int) -> bytes:
    """Return the image as a JPEG of at most `max_bytes`, as large as that allows."""
    n_pixels: float = pixels.width * pixels.height
    content = _saved(pixels, "image/jpeg")
    while len(content) > max_bytes:
        n_pixels *= min(0.9, max_bytes / len(content))  # always smaller: the tables of a JPEG do not shrink
        content = _saved(_shrunk(pixels, n_pixels), "image/jpeg")
    return content


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError) as error:  # a name that no file can have
        pass_alarm(error)
        return False


def _image_file(path: Path) -> Path:
    if path.suffix.lower() == ".pdf":
        raise ValueError(f"{path.as_posix()!r} is a PDF: name a page, as in `{path.name}#page=1`")
    return path


def _page(path: Path, number: int, dpi: float, password: str | None) -> Image.Image:
    from polyvec.pdf import pages  # an optional extra is needed to read them

    try:
        is_image = path.suffix.lower() in suffixes() or n_image_pages(path) > 1
        read = image_pages(path, first=number) if is_image else pages(path, first=number, dpi=dpi, password=password)
        page = next(read, None)
    except (OSError, UnreadablePages) as error:
        pass_alarm(error)
        raise ValueError(str(error)) from error
    if page is None or page.number != number:
        raise ValueError(f"{path.as_posix()!r} has no page {number} that can be read")
    return page.image
