"""Convert PDFs and LangChain's blobs to items."""

import mimetypes
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from langchain_core.documents.base import Blob

from langchain_polyvec.documents import blob_metadata, image_items, page_items, text_item
from langchain_polyvec.images import NO_PDF
from polyvec.alarms import pass_alarm
from polyvec.images import suffixes
from polyvec.paths import absolute, check_name, printable
from polyvec.pdf import pages
from qdrant_polyvec import Failure, Item
from qdrant_polyvec.items import content_hash
from qdrant_polyvec.metadata import json_mapping

_PDF = "application/pdf"


def pdf_items(
    file: str | Path | bytes,  # a string is a path or a `file:` URI
    metadata: Mapping[str, Any] | None,
    *,
    task: str,
    key: str | None = None,  # identifies the PDF; default: its path, or else its content and metadata
    dpi: float,
    password: str | None = None,
    thumbnails: bool,
) -> Iterator[Item | Failure]:
    """Convert the pages of a PDF to items, one at a time. Pages that cannot be read become failures."""
    name = "a PDF in memory" if isinstance(file, bytes) else printable(str(file))
    try:
        content = file if isinstance(file, bytes) else absolute(file)
        uri = content.as_posix() if isinstance(content, Path) else None
        check_name(uri or "")
        metadata = {"source": uri, **json_mapping(metadata)}
        name = str(metadata["source"] or name)
        key = uri or key or f"{content_hash(content)} {sorted(metadata.items(), key=str)}"
        file_pages = pages(content, dpi=dpi, password=password, labels=True)
        yield from page_items(
            file_pages, metadata, task=task, name=name, uri=uri, key=key, dpi=dpi, thumbnails=thumbnails
        )
    except (OSError, ValueError) as error:
        pass_alarm(error)
        yield Failure(-1, name, str(error))
    except ImportError as error:
        raise ImportError(NO_PDF) from error


def blob_items(blob: object, task: str, *, dpi: float, thumbnails: bool) -> Iterator[Item | Failure]:
    """Convert a blob to items: an image, the pages of a PDF, or a text. Anything else becomes a failure."""
    if not isinstance(blob, Blob):
        yield Failure(-1, str(blob)[:200], f"is a {type(blob).__name__}, not a Blob")
        return
    name = printable(blob.source or "a blob")
    guess = "image/*" if name.lower().endswith(suffixes()) else mimetypes.guess_type(name)[0]
    kind = (blob.mimetype or guess or "").partition(";")[0].strip().lower()
    try:
        metadata = blob_metadata(blob)
        if kind.startswith("image/"):
            yield from image_items(blob, None, None, task, thumbnails=thumbnails)
        elif kind == _PDF:
            in_memory = blob.data is not None
            yield from pdf_items(
                blob.as_bytes() if in_memory else str(blob.path),
                metadata,
                task=task,
                key=blob.id if in_memory else None,
                dpi=dpi,
                thumbnails=thumbnails,
            )
        elif (text := _text(blob)) is not None:  # not by type: code has all kinds of types, or none
            yield text_item(text, metadata, blob.id, task)
        else:
            reason = f"its type is {kind or 'unknown'}; images, PDFs and texts can be stored"
            yield Failure(-1, name, reason, blob.id)
    except (LookupError, OSError, ValueError) as error:  # LookupError: an unknown encoding
        pass_alarm(error)
        yield Failure(-1, name, str(error), blob.id)


def _text(blob: Blob) -> str | None:
    try:
        text = blob.as_string()
    except UnicodeError:
        return None
    return None if "\0" in text else text
