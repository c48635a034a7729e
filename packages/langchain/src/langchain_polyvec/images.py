"""Images as LangChain's users have them, and the URIs by which documents name theirs."""

import base64
import binascii
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import url2pathname

import numpy as np
from langchain_core.documents.base import Blob
from PIL import Image

from polyvec.images import open_image
from polyvec.types import AnyTask, Embeddings, Encoder, ImageInput, UnreadableInputs

# A string is a path, a `file:` or a `data:` URI; a mapping is an image content block.
ImageLike = str | ImageInput | Blob | Mapping[str, Any]

IMAGE_URI = "image_uri"  # the metadata that makes a document an image
THUMBNAIL_SIDE = 512  # pixels of the longer side

_PDF_PAGE = re.compile(r"(?P<path>.+\.pdf)#page=(?P<number>[1-9]\d*)", re.IGNORECASE | re.DOTALL)  # RFC 8118
_FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An image, and by what it can be found again.

    Attributes:
        uri: a path, or the page of a PDF as `report.pdf#page=3`; None if the image is in memory only.
    """

    content: ImageInput
    uri: str | None


def picture(image: ImageLike) -> Picture:
    """The image that is meant. Files are not opened yet, but pages of a PDF are drawn.

    Raises:
        TypeError: it is no image.
        ValueError: a URI that is not read: an `http:` URL, for one, is never fetched.
    """
    match image:
        case str():
            return Picture(opened(image), None if image.startswith("data:") else image)
        case Path():
            return Picture(image, image.as_posix())
        case Blob():
            return _of_blob(image)
        case Mapping():
            return _of_block(image)
        case bytes() | np.ndarray() | Image.Image():
            return Picture(image, None)
    raise TypeError(
        f"a {type(image).__name__} is no image: give a path, bytes, a Blob, a PIL image, a numpy array, or an image "
        "content block."
    )


def opened(uri: str) -> ImageInput:
    """What a document's `image_uri` stands for.

    Raises:
        ValueError: it is not read, or the page of a PDF cannot be drawn.
    """
    if page := _PDF_PAGE.fullmatch(uri):
        return _page(_path(page["path"]), int(page["number"]))
    if uri.startswith("data:"):
        return _decoded(uri)
    return _path(uri)


def page_uri(path: str, number: int) -> str:
    """How the picture of a page is named; pages are counted from 1."""
    return f"{path}#page={number}"


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
    if isinstance(image, Path | bytes):
        content = image if isinstance(image, bytes) else image.read_bytes()
        if kind := mime_type(content):
            return base64.b64encode(content).decode(), kind
    file = io.BytesIO()
    whole.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode(), "image/png"


def mime_type(content: bytes) -> str | None:
    """Of an image file's content, if it is of a format that chat models take."""
    try:
        with Image.open(io.BytesIO(content), formats=list(_FORMATS)) as image:
            return _FORMATS[image.format or ""]
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def encode_images(
    encoder: Encoder,
    images: Sequence[ImageLike],
    *,
    task: AnyTask,
    truncate_dim: int | None,
    multivector: bool,
    show_progress: bool,
) -> Embeddings:
    """The embeddings of images, passage side; arguments as for `Embedder.encode_document`.

    Raises:
        TypeError: an item is no image.
        UnreadableInputs: some images cannot be read; it carries the embeddings of the others.
    """
    contents, places, failed = [], [], {}
    for index, image in enumerate(images):
        try:
            contents.append(picture(image).content)
            places.append(index)
        except ValueError as error:
            failed[index] = str(error)
    how: dict[str, Any] = {"task": task, "truncate_dim": truncate_dim, "multivector": multivector}
    try:
        embeddings, kept = encoder.encode_document(contents, **how, show_progress=show_progress), range(len(contents))
    except UnreadableInputs as error:
        embeddings, kept = error.embeddings, error.kept  # type: ignore[assignment]  # both are sequences of int
        failed |= {places[index]: reason for index, reason in error.failed.items()}
    if failed:
        raise UnreadableInputs(dict(sorted(failed.items())), [places[index] for index in kept], embeddings)
    return embeddings


def _of_blob(blob: Blob) -> Picture:
    if blob.data is None:
        path = Path(str(blob.path))
        return Picture(path, path.as_posix())
    return Picture(blob.as_bytes(), blob.source)


def _of_block(block: Mapping[str, Any]) -> Picture:
    """Of an image content block, in LangChain's form or in OpenAI's."""
    url = block.get("url")
    if block.get("type") == "image_url":
        inner = block.get("image_url")
        url = inner.get("url") if isinstance(inner, Mapping) else inner
    elif block.get("type") != "image":
        raise TypeError(f"a content block of type {block.get('type')!r} is no image.")
    if isinstance(data := block.get("base64"), str):
        return Picture(_base64(data), None)
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


def _page(path: Path, number: int) -> Image.Image:
    from polyvec.pdf import UnreadablePages, pages  # an optional extra is needed to read them

    try:
        page = next(pages(path, first=number), None)
    except UnreadablePages as error:
        raise ValueError(str(error)) from error
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
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ValueError(f"an image is not valid base64: {error}") from error
