"""What was found, for a multimodal chat model."""

import warnings
from collections.abc import Iterable

from langchain_core.documents import Document
from langchain_core.messages.content import ContentBlock, ImageContentBlock

from langchain_polyvec.images import IMAGE_URI, encoded, found_again


def content_blocks(documents: Iterable[Document]) -> list[ContentBlock]:
    """Documents as LangChain content blocks: of each a text block, and for an image or a page its picture, too.

    They go into a message as they are: `HumanMessage(content_blocks=content_blocks(documents))`. Texts begin with
    a number and the source, so that an answer can cite them. Pictures are read from their `image_uri` (pages of a PDF
    are drawn again) or else from their thumbnail; an `http:` URL is handed on for the model's provider to read. A
    picture that cannot be read is left out with a warning.
    """
    blocks: list[ContentBlock] = []
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
    uri = str(given.metadata.get(IMAGE_URI) or "")
    source = given.metadata.get("source") or ("" if uri.startswith("data:") else uri)
    label = given.metadata.get("page_label")
    unit = f"page {label}" if label else given.metadata.get("unit")
    return ", ".join(str(part) for part in (source, unit) if part and part != "image")


def _picture(given: Document) -> ImageContentBlock | None:
    uri = given.metadata.get(IMAGE_URI)
    if isinstance(uri, str) and uri.startswith(("http://", "https://")) and "#page=" not in uri:
        return {"type": "image", "url": uri}
    found = found_again(given.metadata, encoded)
    return None if found is None else {"type": "image", "base64": found[0], "mime_type": found[1]}
