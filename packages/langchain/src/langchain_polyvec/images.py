"""Images as LangChain's users have them, and the URIs by which documents name theirs."""

import base64
import binascii
import hashlib
import io
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import url2pathname

import numpy as np
from langchain_core.documents.base import Blob
from PIL import Image

from polyvec.images import open_image
from polyvec.types import ImageInput

T = TypeVar("T")
# A string is a path, a `file:` or a `data:` URI; a mapping is an image content block.
ImageLike = str | ImageInput | Blob | Mapping[str, Any]

IMAGE_URI = "image_uri"  # the metadata that makes a document an image
NO_PDF = "PDFs are read with pypdfium2; install it with `pip install 'langchain-polyvec[pdf]'`."
NOT_KEPT = "the image was added from memory, and is not kept"
DPI = 150  # of the pages of a PDF, unless their URI says otherwise
THUMBNAIL_SIDE = 512  # pixels of the longer side

_PDF_PAGE = re.compile(r"(?P<path>.+)#page=(?P<number>[1-9]\d*)(&dpi=(?P<dpi>[\d.]+))?", re.DOTALL)  # RFC 8118, and dpi
_FORMATS = {"JPEG": "image/jpeg", "MPO": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An image, and by what it can be found again.

    Attributes:
        uri: a path, or the page of a PDF as `report.pdf#page=3`; None if the image is in memory only.
        key: what makes it the same image when it is added again; its content if None.
    """

    content: ImageInput
    uri: str | None
    key: str | None


def picture(image: ImageLike) -> Picture:
    """The image that is meant. Files are not opened yet, but pages of a PDF are drawn.

    Raises:
        TypeError: it is no image.
        ValueError: a URI that is not read: an `http:` URL, for one, is never fetched.
    """
    match image:
        case str():
            if image.startswith("data:"):
                return Picture(opened(image), None, None)
            uri = absolute(image)
            return Picture(opened(image), uri, uri)
        case Path():
            return Picture(_image_file(image), absolute(image), absolute(image))
        case Blob():
            return _of_blob(image)
        case Mapping():
            return _of_block(image)
        case bytes() | np.ndarray() | Image.Image():
            return Picture(image, None, None)
    raise TypeError(
        f"a {type(image).__name__} is no image: give a path, bytes, a Blob, a PIL image, a numpy array, or an image "
        "content block."
    )


def opened(uri: object) -> ImageInput:
    """What a document's `image_uri` stands for. A file is not read yet.

    Raises:
        ValueError: it is no URI, or one that is not read, or the page of a PDF cannot be drawn.
    """
    if isinstance(uri, Path):
        uri = uri.as_posix()
    if not isinstance(uri, str):
        raise ValueError(f"`{IMAGE_URI}` is {uri!r}; it is a string.")  # noqa: TRY004 — one of many bad things in metadata
    if uri.startswith("data:"):
        return _decoded(uri)
    if (page := _PDF_PAGE.fullmatch(uri)) and not _is_file(uri):
        return _page(_path(page["path"]), int(page["number"]), float(page["dpi"] or DPI))
    return _image_file(_path(uri))


def absolute(place: str | Path) -> str:
    """A path, or the page of a PDF, such that it is found from any working directory."""
    if isinstance(place, str) and (page := _PDF_PAGE.fullmatch(place)) and not _is_file(place):
        return _path(page["path"]).absolute().as_posix() + place[page.end("path") :]
    return (place if isinstance(place, Path) else _path(place)).absolute().as_posix()


def found_again(metadata: Mapping[str, Any], read: Callable[[ImageInput], T]) -> T | None:
    """A document's image, read from its `image_uri` or else from its thumbnail; None if it is no image.

    Raises:
        ValueError: it is one, but cannot be read.
    """
    thumbnail = metadata.get("thumbnail")
    is_ours = "image_sha256" in metadata and isinstance(thumbnail, str) and thumbnail.startswith("data:image/")
    places = [place for place in (metadata.get(IMAGE_URI), thumbnail if is_ours else None) if place]
    if not places:
        if "image_sha256" in metadata:
            raise ValueError(NOT_KEPT)
        return None
    for number, place in enumerate(places, start=1):
        is_last = number == len(places)
        try:
            content = opened(place)
            if not _is_changed(content, metadata):
                return read(content)
            if is_last:
                warnings.warn(f"{str(place)[:200]!r} has changed since it was stored.", stacklevel=3)
                return read(content)
        except ValueError:
            if is_last:
                raise
    return None


def _is_changed(content: ImageInput, metadata: Mapping[str, Any]) -> bool:
    """Whether an image file is not any more what it was when it was stored."""
    known: object = metadata.get("image_sha256")
    if known is None or not isinstance(content, Path) or not content.is_file():
        return False
    return hashlib.sha256(content.read_bytes()).hexdigest() != known


def page_uri(path: str, number: int, dpi: float = DPI) -> str:
    """How the picture of a page is named; pages are counted from 1."""
    return f"{path}#page={number}" + ("" if dpi == DPI else f"&dpi={dpi:g}")


def thumbnail(image: ImageInput) -> str:
    """A small JPEG of the image, as a `data:` URI.

    Raises:
        ValueError: the image cannot be read.
    """
    small = open_image(image)
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def encoded(image: ImageInput) -> tuple[str, str]:
    """The image for a chat model: base64 and MIME type. A file of a usual format is sent as it is, others as PNG.

    Raises:
        ValueError: the image cannot be read.
    """
    whole = open_image(image)  # also a check: what is no image must not be sent anywhere
    if (content := file_content(image)) is not None and (kind := mime_type(content)):
        return base64.b64encode(content).decode(), kind
    file = io.BytesIO()
    whole.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode(), "image/png"


def file_content(image: ImageInput) -> bytes | None:
    """The bytes of an image file; None if the image is not one."""
    return image.read_bytes() if isinstance(image, Path) else image if isinstance(image, bytes) else None


def mime_type(content: bytes) -> str | None:
    """Of an image file's content, if it is of a format that chat models take."""
    try:
        with Image.open(io.BytesIO(content), formats=("GIF", "JPEG", "PNG", "WEBP")) as image:
            return _FORMATS.get(image.format or "")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def _of_blob(blob: Blob) -> Picture:
    if blob.data is None:
        return picture(Path(str(blob.path)))
    # What is in memory may be a part of what its path names, as a crop, or a picture in a document.
    content = blob.as_bytes()
    path = Path(str(blob.path)) if blob.path is not None else None
    is_whole = path is not None and path.is_file() and path.read_bytes() == content
    return Picture(content, absolute(path) if path is not None and is_whole else None, None)


def _of_block(block: Mapping[str, Any]) -> Picture:
    """Of an image content block, in LangChain's form or in OpenAI's."""
    url = block.get("url")
    if block.get("type") == "image_url":
        inner = block.get("image_url")
        url = inner.get("url") if isinstance(inner, Mapping) else inner
    elif block.get("type") != "image":
        raise TypeError(f"a content block of type {block.get('type')!r} is no image.")
    if isinstance(data := block.get("base64"), str):
        return Picture(_base64(data), None, None)
    if isinstance(url, str):
        return picture(url)
    raise ValueError("an image content block needs `base64` or `url`; files at a provider (`file_id`) cannot be read.")


def _path(uri: str) -> Path:
    if uri.startswith("file:"):
        return Path(url2pathname(urlsplit(uri).path))
    if "://" in uri:
        raise ValueError(
            f"{uri[:200]!r} is not fetched: nothing here opens connections by itself. Pass "
            "`polyvec.images.fetch(url)`, the image's bytes."
        )
    return Path(uri)


def _is_file(place: str) -> bool:
    try:
        return Path(place).is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _image_file(path: Path) -> Path:
    if path.suffix.lower() == ".pdf":
        raise ValueError(f"{path.as_posix()!r} is a PDF: name a page, as in `{path.name}#page=1`, or use `add_pdfs`")
    return path


def _page(path: Path, number: int, dpi: float) -> Image.Image:
    from polyvec.pdf import UnreadablePages, pages  # an optional extra is needed to read them

    try:
        page = next(pages(path, first=number, dpi=dpi), None)
    except (OSError, UnreadablePages) as error:
        raise ValueError(str(error)) from error
    except ImportError as error:
        raise ImportError(NO_PDF) from error
    if page is None or page.number != number:
        raise ValueError(f"{path.as_posix()!r} has no page {number} that can be read")
    return page.image


def _decoded(uri: str) -> bytes:
    head, comma, data = uri.partition(",")
    if not comma:
        raise ValueError(f"{uri[:60]!r} is no data URI: it has no comma.")
    return _base64(data) if head.endswith(";base64") else unquote_to_bytes(data)


def _base64(data: str) -> bytes:
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except binascii.Error as error:
        raise ValueError(f"an image is not valid base64: {error}") from error
