"""Read images in the forms that LangChain's users have, and those that documents name."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.documents.base import Blob
from PIL import Image

from polyvec.pictures import Picture, absolute, decoded, opened, page_of
from polyvec.types import ImageInput

# A string is a path, a `file:` or a `data:` URI; a mapping is an image content block.
ImageLike = str | ImageInput | Blob | Mapping[str, Any]

IMAGE_URI = "image_uri"  # the metadata that makes a document an image
KIND = "_polyvec"  # "image" or "text" in metadata that would say otherwise, or a mapping as `mark` makes it
NO_PDF = "PDFs are read with pypdfium2; install it with `pip install 'langchain-polyvec[pdf]'`."


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """An image, where it is, and its identity."""

    content: ImageInput
    uri: str | None  # as in `polyvec.pictures.Picture`; None if the image is in memory only
    key: str | None  # identifies an image that is added again; None if its content does
    page: int | None = None  # number from 1
    page_label: str | None = None  # if it is not the number


def located(image: ImageLike, *, password: str | None = None) -> Located:
    """Locate an image. Files are not opened yet, but pages of a PDF are drawn. A URL is a ValueError, never fetched.

    `password` opens an encrypted PDF that a string names.
    """
    match image:
        case str():
            if image.startswith("data:"):
                return Located(opened(image), None, None)
            uri = absolute(image)
            try:
                return Located(opened(uri, password=password), uri, uri, page_of(uri)[1])
            except ImportError as error:
                raise ImportError(NO_PDF) from error
        case Path():
            return located(absolute(image))
        case Blob():
            return _located_blob(image)
        case Mapping():
            return _located_block(image)
        case bytes() | np.ndarray() | Image.Image():
            return Located(image, None, None)
    raise TypeError(
        f"a {type(image).__name__} is no image: give a path, bytes, a Blob, a PIL image, a numpy array, or an image "
        "content block."
    )


def is_image(metadata: Mapping[str, Any]) -> bool:
    """True if the metadata of a document make it an image."""
    kind = marked(metadata)[0]
    return kind == "image" or (kind != "text" and bool(metadata.get(IMAGE_URI)))


def mark(kind: str, hidden: Mapping[str, Any]) -> str | dict[str, Any]:
    """Make what a document shows under `KIND`: what it is, and values of the user that it shows something else for."""
    return {"kind": kind, "own": dict(hidden)} if hidden else kind


def marked(metadata: Mapping[str, Any]) -> tuple[object, Mapping[str, Any]]:
    """Read what `mark` has made: "image" or "text", and the hidden values. Anything else there is the user's."""
    value = metadata.get(KIND)
    if isinstance(value, Mapping) and value.keys() == {"kind", "own"} and isinstance(value["own"], Mapping):
        return value["kind"], value["own"]
    return value, {}


def picture_of(metadata: Mapping[str, Any]) -> Picture | None:
    """Return where the picture of a document is; None if it is a text. A ValueError if its `image_uri` is no string."""
    if not is_image(metadata):
        return None
    uri = metadata.get(IMAGE_URI) or None
    if isinstance(uri, Path):
        uri = uri.as_posix()
    if not isinstance(uri, str | None):
        raise ValueError(f"`{IMAGE_URI}` is {uri!r}; it is a string.")  # noqa: TRY004 — one of many bad things in metadata
    thumbnail, sha256 = metadata.get("thumbnail"), metadata.get("image_sha256")
    is_small_image = isinstance(thumbnail, str) and thumbnail.startswith("data:image/")
    return Picture(
        uri=uri,
        thumbnail=thumbnail if is_small_image and sha256 is not None else None,
        sha256=sha256 if isinstance(sha256, str) else None,
    )


def _located_blob(blob: Blob) -> Located:
    if blob.data is None:
        return located(str(blob.path))
    # The bytes may be a part of the file that the path names, such as a crop or a picture in a document.
    content = blob.as_bytes()
    path = Path(str(blob.path)) if blob.path is not None else None
    is_whole = path is not None and path.is_file() and path.read_bytes() == content
    return Located(content, absolute(path) if path is not None and is_whole else None, None)


def _located_block(block: Mapping[str, Any]) -> Located:
    """Locate the image of a content block, in LangChain's form or in OpenAI's."""
    url = block.get("url")
    if block.get("type") == "image_url":
        inner = block.get("image_url")
        url = inner.get("url") if isinstance(inner, Mapping) else inner
    elif block.get("type") != "image":
        raise TypeError(f"a content block of type {block.get('type')!r} is no image.")
    if isinstance(data := block.get("base64"), str):
        return Located(decoded(data), None, None)
    if isinstance(url, str):
        return located(url)
    raise ValueError("an image content block needs `base64` or `url`; files at a provider (`file_id`) cannot be read.")
