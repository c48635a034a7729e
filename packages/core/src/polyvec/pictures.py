"""Where the picture of an item is: the one form that collections keep, and that both framework packages read."""

import base64
import binascii
import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
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
    "MIME_TYPES",
    "NOT_KEPT",
    "Picture",
    "absolute",
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

_PAGE = re.compile(r"(?P<path>.+)#page=(?P<number>[1-9]\d*)(&dpi=(?P<dpi>[\d.]+))?", re.DOTALL)  # RFC 8118, and dpi
_FORMATS = {"JPEG": "image/jpeg", "MPO": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}
_THUMBNAIL = "data:image/jpeg;base64,"
MIME_TYPES = tuple(_FORMATS.values())


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


def encoded(image: ImageInput) -> tuple[str, str]:
    """Encode an image for a chat model, as base64 and MIME type; a ValueError if it cannot be read.

    Files of usual formats stay as they are. Other images become PNG, and so do transparent ones and those of unusual
    colours, such as CMYK, which models may see otherwise.
    """
    pixels = open_image(image)  # also a check: a file that is no image must not be sent anywhere
    if isinstance(image, Path | bytes) and (kind := mime_type(image, plain=True)):
        return base64.b64encode(image if isinstance(image, bytes) else image.read_bytes()).decode(), kind
    file = io.BytesIO()
    pixels.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode(), "image/png"


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
