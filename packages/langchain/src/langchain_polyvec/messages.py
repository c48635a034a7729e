"""Prepare documents for a multimodal chat model."""

import warnings
from collections.abc import Iterable
from functools import partial
from typing import Unpack

from langchain_core.documents import Document
from langchain_core.messages.content import ContentBlock, ImageContentBlock

from langchain_polyvec.images import IMAGE_URI, picture_of
from polyvec.alarms import pass_alarm
from polyvec.pictures import PictureLimits, check_limits, encoded


def content_blocks(documents: Iterable[Document], **limits: Unpack[PictureLimits]) -> list[ContentBlock]:
    """Convert documents to LangChain content blocks: a text block each, followed by its picture if it has one.

    The blocks go into a message as they are: `HumanMessage(content_blocks=content_blocks(documents))`. A text begins
    with a number and the source, so that an answer can cite it. Pictures are read from their `image_uri` (pages of a
    PDF are drawn again) or else from their thumbnail; the model's provider reads an `http:` URL. A picture that cannot
    be read is left out with a warning.

    Args:
        documents: all of them are converted; `k` of the search bounds how many pictures a prompt has.
        limits: how large a picture may be, `max_pixels` and `max_bytes`; see `polyvec.pictures.PictureLimits`. The
            defaults are below the limits of the large providers. A URL is handed on as it is.

    Raises:
        TypeError: there is no such limit, or it is no whole number.
        ValueError: a limit is too small.
    """
    check_limits(limits)
    blocks: list[ContentBlock] = []
    for number, document in enumerate(documents, start=1):
        text = f"[{number}] {_citation(document)}\n{document.page_content}".rstrip()
        blocks.append({"type": "text", "text": text})
        try:
            picture = _picture(document, limits)
        except (OSError, ValueError) as error:
            pass_alarm(error)
            warnings.warn(f"the picture of document {number} is left out: {error}", stacklevel=2)
            continue
        if picture is not None:
            blocks.append(picture)
    return blocks


def _citation(document: Document) -> str:
    """Name the source of a document and the part of it."""
    uri = str(document.metadata.get(IMAGE_URI) or "")
    source = document.metadata.get("source") or ("" if uri.startswith("data:") else uri)
    label = document.metadata.get("page_label")
    unit = f"page {label}" if label else document.metadata.get("unit")
    return ", ".join(str(part) for part in (source, unit) if part and part != "image")


def _picture(document: Document, limits: PictureLimits) -> ImageContentBlock | None:
    picture = picture_of(document.metadata)
    if picture is None:
        return None
    uri = picture.uri or ""
    if uri.startswith(("http://", "https://")) and "#page=" not in uri:
        return {"type": "image", "url": uri}
    data, mime_type = picture.read(partial(encoded, **limits))
    return {"type": "image", "base64": data, "mime_type": mime_type}
