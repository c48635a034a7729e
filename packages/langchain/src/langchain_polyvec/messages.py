"""What was found, for a multimodal chat model."""

import warnings
from collections.abc import Iterable

from langchain_core.documents import Document
from langchain_core.messages.content import ImageContentBlock, TextContentBlock

from langchain_polyvec.images import IMAGE_URI, encoded, opened

Block = TextContentBlock | ImageContentBlock


def content_blocks(documents: Iterable[Document]) -> list[Block]:
    """Documents as LangChain content blocks: of each a text block, and for an image or a page its picture, too.

    They go into a message as they are: `HumanMessage(content=[*content_blocks(documents), question])`. Texts begin with
    a number and the source, so that an answer can cite them. Pictures are read from their `image_uri` (pages of a PDF
    are drawn again) or else from their thumbnail; an `http:` URL is handed on for the model's provider to read. A
    picture that cannot be read is left out with a warning.
    """
    blocks: list[Block] = []
    for number, one in enumerate(documents, start=1):
        blocks.append({"type": "text", "text": f"[{number}] {_place(one)}\n{one.page_content}".rstrip()})
        try:
            picture = _picture(one)
        except (OSError, ValueError) as error:
            warnings.warn(f"the picture of document {number} is left out: {error}", stacklevel=2)
            continue
        if picture is not None:
            blocks.append(picture)
    return blocks


def _place(given: Document) -> str:
    """Where a document is from."""
    source = given.metadata.get("source") or given.metadata.get(IMAGE_URI) or ""
    label = given.metadata.get("page_label")
    unit = f"page {label}" if label else given.metadata.get("unit")
    return ", ".join(str(part) for part in (source, unit) if part and part != "image")


def _picture(given: Document) -> ImageContentBlock | None:
    uri, thumbnail = given.metadata.get(IMAGE_URI), given.metadata.get("thumbnail")
    place = uri or thumbnail
    if place is None:
        return None
    if str(place).startswith(("http://", "https://")):
        return {"type": "image", "url": str(place)}
    try:
        data, kind = encoded(opened(place))
    except (OSError, ValueError):
        if thumbnail in (None, place):
            raise
        data, kind = encoded(opened(thumbnail))
    return {"type": "image", "base64": data, "mime_type": kind}
