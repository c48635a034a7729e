"""What is in PDFs and in LangChain's blobs, as items to add."""

import mimetypes
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from langchain_core.documents.base import Blob

from langchain_polyvec.documents import image_item, text_item
from langchain_polyvec.images import Picture, page_uri
from polyvec.pdf import UnreadablePages, pages
from polyvec.types import AnyTask
from qdrant_polyvec import Failure, Item

PDF = "application/pdf"


def of_pdf(
    file: Path | bytes, name: str, metadata: Mapping[str, Any] | None, task: AnyTask, *, dpi: float, thumbnails: bool
) -> Iterator[Item | Failure]:
    """The pages of a PDF one by one, and those that cannot be read."""
    try:
        for page in pages(file, dpi=dpi):
            facts = {"source": name, **(metadata or {}), "page": page.number - 1, "page_label": str(page.number)}
            yield image_item(
                Picture(page.image, page_uri(name, page.number)),
                facts,
                None,
                task,
                says=page.text.strip() or None,
                unit=f"page {page.number}",
                thumbnails=thumbnails,
            )
    except UnreadablePages as error:
        yield from (Failure(None, name, f"page {number}: {reason}") for number, reason in error.failed.items())
    except (OSError, ValueError) as error:
        yield Failure(None, name, str(error))
    except ImportError as error:
        raise ImportError(
            "PDFs are read with pypdfium2; install it with `pip install 'langchain-polyvec[pdf]'`."
        ) from error


def of_blob(blob: Blob, task: AnyTask, *, dpi: float, thumbnails: bool) -> Iterator[Item | Failure]:
    """A blob: an image, the pages of a PDF, or a text; a failure if it is none of them."""
    name = blob.source or "a blob"
    metadata = {**blob.metadata, **({"source": name} if blob.source else {})}
    kind = blob.mimetype or mimetypes.guess_type(name)[0] or ("text/plain" if isinstance(blob.data, str) else "")
    try:
        if kind.startswith("image/"):
            yield image_item(blob, metadata, blob.id, task, thumbnails=thumbnails)
        elif kind == PDF:
            file = Path(str(blob.path)) if blob.data is None else blob.as_bytes()
            yield from of_pdf(file, name, metadata, task, dpi=dpi, thumbnails=thumbnails)
        elif kind.startswith("text/"):
            yield text_item(blob.as_string(), metadata, blob.id, task)
        else:
            yield Failure(blob.id, name, f"its type is {kind or 'unknown'}; images, PDFs and texts can be stored")
    except (OSError, ValueError) as error:
        yield Failure(blob.id, name, str(error))
