"""Pictures of articles: found in the article's folder, decoded, and known by their pixels."""

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote_to_bytes

from PIL import Image

from polyvec.data.building.material import Content
from polyvec.data.building.web.articles import ORIGIN, file_of
from polyvec.images import fetch, open_image
from polyvec.paths import printable

__all__ = ["Picture", "Unusable", "Vectors", "load", "picture_id", "picture_of"]

_DATA = re.compile(r"data:(?P<type>[^,;]*)(?P<facts>[^,]*),", re.IGNORECASE)
_SVG = re.compile(
    rb"\A(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>|<!doctype[^>]*>|<!--.*?-->|\s)*<svg\b", re.DOTALL | re.IGNORECASE
)

Vectors = Callable[[bytes], Image.Image]  # draws an SVG file


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture.

    Attributes:
        id: of its size and pixels, so that copies are one picture.
    """

    id: str
    content: Content


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why there is no picture. The attributes are those of a `Rejection`."""

    reason: str
    detail: str = ""


def load(folder: Path, url: str, *, min_side: int, remote: bool, vectors: Vectors | None) -> Picture | Unusable:
    """Load the picture that a URL names.

    Args:
        folder: of the article.
        url: of a file of the folder on the site `ORIGIN`, of another site, or `data:`.
        min_side: smaller pictures, in pixels of either side, are icons.
        remote: whether pictures of public web sites may be fetched.
        vectors: draws SVG files.
    """
    try:
        if match := _DATA.match(url):
            content = _data(url[match.end() :], match)
            is_svg = match["type"].lower() == "image/svg+xml"
            return _drawn(content, min_side, vectors) if is_svg else picture_of(content, min_side=min_side)
        path = file_of(folder, url)
        if path is not None:
            is_svg = path.suffix.lower() == ".svg" or _SVG.match(_beginning(path)) is not None
            return _drawn(path.read_bytes(), min_side, vectors) if is_svg else picture_of(path, min_side=min_side)
        if url.startswith(ORIGIN) or not url.startswith(("https://", "http://")):
            return Unusable("outside the folder", url[:200])
        return picture_of(fetch(url), min_side=min_side) if remote else Unusable("remote image", url[:200])
    except (OSError, ValueError) as error:
        return Unusable("unreadable image", printable(str(error)))


def picture_of(content: Path | bytes, *, min_side: int = 1) -> Picture | Unusable:
    """Decode a picture, and name it by its pixels."""
    try:
        image = open_image(content)
    except ValueError as error:
        return Unusable("unreadable image", printable(str(error)))
    kept = content if isinstance(content, Path) else partial(open_image, content)
    return _judged(image, kept, min_side)


def picture_id(image: Image.Image) -> str:
    """Return an id of the size and pixels of an image."""
    return hashlib.sha256(f"{image.width} {image.height} ".encode() + image.tobytes()).hexdigest()[:16]


def _judged(image: Image.Image, content: Content, min_side: int) -> Picture | Unusable:
    if min(image.size) < min_side:
        return Unusable("too small", f"{image.width}×{image.height} pixels")
    if len(image.getcolors(1) or ()) == 1:
        return Unusable("one colour", f"{image.width}×{image.height} pixels")
    return Picture(picture_id(image), content)


def _drawn(svg: bytes, min_side: int, vectors: Vectors | None) -> Picture | Unusable:
    if vectors is None:
        return Unusable("SVG without a browser")
    image = vectors(svg)
    return _judged(image, partial(vectors, svg), min_side)


def _data(text: str, match: re.Match[str]) -> bytes:
    """Decode what follows the head of a `data:` URL (RFC 2397)."""
    content = unquote_to_bytes(text)
    return base64.b64decode(content) if match["facts"].lower().endswith(";base64") else content


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1000)
