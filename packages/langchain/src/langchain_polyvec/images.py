"""Read images in the forms that LangChain's users have, and the URIs by which documents name images."""

import base64
import binascii
import hashlib
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import url2pathname

import numpy as np
from langchain_core.documents.base import Blob
from PIL import Image

from polyvec.alarms import pass_alarm
from polyvec.images import check_regular, image_format, image_pages, n_image_pages, open_image, suffixes
from polyvec.types import ImageInput, UnreadablePages
from polyvec.warning import warn

T = TypeVar("T")
# A string is a path, a `file:` or a `data:` URI; a mapping is an image content block.
ImageLike = str | ImageInput | Blob | Mapping[str, Any]

IMAGE_URI = "image_uri"  # the metadata that makes a document an image
NO_PDF = "PDFs are read with pypdfium2; install it with `pip install 'langchain-polyvec[pdf]'`."
NOT_KEPT = "the image was added from memory, and is not kept"
DPI = 150  # of the pages of a PDF, unless their URI says otherwise
THUMBNAIL_SIDE = 512  # pixels of the longer side

_PAGE = re.compile(r"(?P<path>.+)#page=(?P<number>[1-9]\d*)(&dpi=(?P<dpi>[\d.]+))?", re.DOTALL)  # RFC 8118, and dpi
_FORMATS = {"JPEG": "image/jpeg", "MPO": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An image and its identity."""

    content: ImageInput
    uri: str | None  # a path, or a page of a file as `report.pdf#page=3`; None if the image is in memory only
    key: str | None  # identifies an image that is added again; None if its content does
    source: str | None = None  # the path as the caller wrote it


def picture(image: ImageLike) -> Picture:
    """Locate an image. Files are not opened yet, but pages of a PDF are drawn. A URL is a ValueError, never fetched."""
    match image:
        case str():
            if image.startswith("data:"):
                return Picture(opened(image), None, None)
            uri = absolute(image)
            return Picture(opened(image), uri, uri, image)
        case Path():
            return Picture(_image_file(image), absolute(image), absolute(image), image.as_posix())
        case Blob():
            return _blob_picture(image)
        case Mapping():
            return _block_picture(image)
        case bytes() | np.ndarray() | Image.Image():
            return Picture(image, None, None)
    raise TypeError(
        f"a {type(image).__name__} is no image: give a path, bytes, a Blob, a PIL image, a numpy array, or an image "
        "content block."
    )


def opened(uri: object) -> ImageInput:
    """Open a document's `image_uri`, or raise a ValueError. A file is not read yet."""
    if isinstance(uri, Path):
        uri = uri.as_posix()
    if not isinstance(uri, str):
        raise ValueError(f"`{IMAGE_URI}` is {uri!r}; it is a string.")  # noqa: TRY004 — one of many bad things in metadata
    if uri.startswith("data:"):
        return _decoded(uri)
    if (page := _PAGE.fullmatch(uri)) and not _is_file(uri):
        return _page(_path(page["path"]), int(page["number"]), float(page["dpi"] or DPI))
    return _image_file(_path(uri))


def absolute(uri: str | Path) -> str:
    """Make a path, or the URI of a page, independent of the working directory."""
    if isinstance(uri, str) and (page := _PAGE.fullmatch(uri)) and not _is_file(uri):
        return _path(page["path"]).absolute().as_posix() + uri[page.end("path") :]
    return (uri if isinstance(uri, Path) else _path(uri)).absolute().as_posix()


def stored_image(metadata: Mapping[str, Any], read: Callable[[ImageInput], T]) -> T | None:
    """Read a document's image (None: it is no image) from its `image_uri` or thumbnail; a ValueError if both fail."""
    thumbnail = metadata.get("thumbnail")
    is_ours = "image_sha256" in metadata and isinstance(thumbnail, str) and thumbnail.startswith("data:image/")
    uris = [uri for uri in (metadata.get(IMAGE_URI), thumbnail if is_ours else None) if uri]
    if not uris:
        if "image_sha256" in metadata:
            raise ValueError(NOT_KEPT)
        return None
    for uri in uris:
        is_last = uri is uris[-1]
        try:
            content = opened(uri)
            is_changed = _is_changed(content, metadata)
            if is_changed and is_last:
                warn(f"{str(uri)[:200]!r} has changed since it was stored.")
            if is_last or not is_changed:
                return read(content)
        except ValueError:
            if is_last:
                raise
    return None


def _is_changed(content: ImageInput, metadata: Mapping[str, Any]) -> bool:
    """True if an image file has changed since it was stored."""
    sha256: object = metadata.get("image_sha256")
    if sha256 is None or not isinstance(content, Path) or not content.is_file():
        return False
    return hashlib.sha256(content.read_bytes()).hexdigest() != sha256


def page_uri(path: str, number: int, dpi: float = DPI) -> str:
    """Return the URI of a page of a file; pages are counted from 1."""
    return f"{path}#page={number}" + ("" if dpi == DPI else f"&dpi={dpi:g}")


def thumbnail(image: ImageInput) -> str:
    """Return a small JPEG of the image, as a `data:` URI; a ValueError if the image cannot be read."""
    small = open_image(image)
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def encoded(image: ImageInput) -> tuple[str, str]:
    """Encode an image for a chat model, as base64 and MIME type; a ValueError if it cannot be read.

    Files of usual formats stay as they are. Other images become PNG, and so do transparent ones and those of unusual
    colours, such as CMYK, which models may see otherwise.
    """
    pixels = open_image(image)  # also a check: a file that is no image must not be sent anywhere
    if (content := file_content(image)) is not None and (kind := mime_type(content, plain=True)):
        return base64.b64encode(content).decode(), kind
    file = io.BytesIO()
    pixels.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode(), "image/png"


def file_content(image: ImageInput) -> bytes | None:
    """Return the bytes of an image file; None if the image is not a file."""
    if isinstance(image, Path):
        check_regular(image)
        return image.read_bytes()
    return image if isinstance(image, bytes) else None


def mime_type(content: bytes, *, plain: bool = False) -> str | None:
    """Return the MIME type of an image file, if chat models take its format; `plain` is that of `image_format`."""
    try:
        return _FORMATS.get(image_format(content, plain=plain))
    except ValueError:
        return None


def _blob_picture(blob: Blob) -> Picture:
    if blob.data is None:
        return picture(Path(str(blob.path)))
    # The bytes may be a part of the file that the path names, such as a crop or a picture in a document.
    content = blob.as_bytes()
    path = Path(str(blob.path)) if blob.path is not None else None
    is_whole = path is not None and path.is_file() and path.read_bytes() == content
    return Picture(content, absolute(path) if path is not None and is_whole else None, None)


def _block_picture(block: Mapping[str, Any]) -> Picture:
    """Locate the image of a content block, in LangChain's form or in OpenAI's."""
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


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError) as error:  # a name that no file can have
        pass_alarm(error)
        return False


def _image_file(path: Path) -> Path:
    if path.suffix.lower() == ".pdf":
        raise ValueError(f"{path.as_posix()!r} is a PDF: name a page, as in `{path.name}#page=1`, or use `add_pdfs`")
    return path


def _page(path: Path, number: int, dpi: float) -> Image.Image:
    from polyvec.pdf import pages  # an optional extra is needed to read them

    try:
        is_image = path.suffix.lower() in suffixes() or n_image_pages(path) > 1
        page = next(image_pages(path, first=number) if is_image else pages(path, first=number, dpi=dpi), None)
    except (OSError, UnreadablePages) as error:
        pass_alarm(error)
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
