"""What an item is, as its payload says it to every reader: a text, an image or a page, and where its picture is.

All of it stands under the private key, so that the metadata are the user's alone.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from polyvec.images import suffixes
from polyvec.pictures import DPI, Picture, absolute, page_uri
from qdrant_polyvec.schema import OWN

__all__ = ["FACT_KEYS", "is_sha256", "named_metadata", "page_unit", "shown_unit"]

# Where filters find the facts that front ends show among the metadata.
FACT_KEYS = {
    "image_uri": f"{OWN}.picture.uri",
    "image_sha256": f"{OWN}.picture.sha256",
    "mime_type": f"{OWN}.picture.mime_type",
    "page": f"{OWN}.picture.page",  # counted from 1
    "page_label": f"{OWN}.picture.page_label",
    "unit": f"{OWN}.unit",
}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PAGE = re.compile(r"page ([1-9]\d*)")
_DERIVED_SOURCE = re.compile(r"sha256:[0-9a-f]{32}|unreadable image")  # of items whose source nobody named


def is_sha256(value: object) -> bool:
    """True if a value has the form of the hash that front ends show of an image."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def page_unit(number: int) -> str:
    """Return the unit of a page; pages are counted from 1."""
    return f"page {number}"


def shown_unit(unit: str, picture: Picture | None) -> str:
    """Return a unit as people read it: a page with its own label, as in `page 12 (viii)`."""
    return unit if picture is None or picture.page_label is None else f"{unit} ({picture.page_label})"


def page_picture(source: str, unit: str, *, dpi: float = DPI, label: str | None = None) -> Picture | None:
    """Return the picture of a unit of a source, such as `page 3` of `report.pdf`; None if it is no page of a file."""
    page = _PAGE.fullmatch(unit)
    if page is None or not source.lower().endswith((".pdf", *suffixes())):
        return None
    number = int(page[1])
    with contextlib.suppress(ValueError):  # a source may be a URL
        return Picture(uri=page_uri(absolute(source), number, dpi), page=number, page_label=label)
    return Picture(page=number, page_label=label)


def named_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a stored item without a source that the collection made up."""
    is_derived = _DERIVED_SOURCE.fullmatch(str(metadata.get("source", ""))) is not None
    return {key: value for key, value in metadata.items() if key != "source" or not is_derived}


def to_stored(picture: Picture) -> dict[str, Any]:
    """Return the stored form of a picture, without what is None."""
    facts = asdict(picture) | {"page_label": picture.label}  # filters find each page by its label
    return {name: value for name, value in facts.items() if value is not None}


def of_stored(facts: object) -> Picture | None:
    """Read the stored form of a picture. Keys of later versions are ignored."""
    if not isinstance(facts, Mapping):
        return None
    kept = {name: facts[name] for name in Picture.__slots__ if name in facts}
    if kept.get("page_label") == str(kept.get("page")):
        del kept["page_label"]
    return Picture(**kept)


def of_layout_1(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the payload of a point of layout 1, where facts about images stood among the user's metadata."""
    own = dict(payload.get(OWN) or {})
    if own.get("kind") != "image" or "picture" in own:
        return dict(payload)
    metadata, unit, path = dict(payload.get("metadata") or {}), own.get("unit", ""), own.pop("path", None)
    picture = page_picture(str(metadata.get("source", "")), unit) or Picture(uri=path)
    if "image_sha256" in metadata and "_node_content" not in payload:  # the LangChain package added it
        page = _PAGE.fullmatch(unit)
        picture = Picture(
            uri=metadata.pop("image_uri", None),
            page=int(page[1]) if page else None,
            thumbnail=metadata.pop("thumbnail", None),
            sha256=metadata.pop("image_sha256"),
            mime_type=metadata.pop("mime_type", None),
        )
        for name in ("page", "page_label") if page else ():
            metadata.pop(name, None)
    return {**payload, "metadata": metadata, OWN: own | {"picture": to_stored(picture)}}
