"""What is in PDFs and in LangChain's blobs, as items to add."""

import mimetypes
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from langchain_core.documents.base import Blob

from langchain_polyvec.documents import image_item, text_item
from langchain_polyvec.images import NO_PDF, Picture, absolute, page_uri
from polyvec.pdf import UnreadablePages, pages
from qdrant_polyvec import Failure, Item
from qdrant_polyvec.items import content_hash

PDF = "application/pdf"


def of_pdf(
    file: Path | bytes,
    metadata: Mapping[str, Any] | None,
    task: str,
    *,
    path: str | None,
    key: str | None = None,
    dpi: float,
    password: str | None = None,
    thumbnails: bool,
) -> Iterator[Item | Failure]:
    """The pages of a PDF one by one, and those that cannot be read.

    Args:
        file: the PDF.
        metadata: of each page.
        task: to encode for.
        path: where the file is, if its pages can be drawn again.
        key: what makes it the same PDF when it is added again; if None, its path, or else its content and metadata.
        dpi: pixels per inch.
        password: of an encrypted PDF.
        thumbnails: keep a small picture of each page.
    """
    known = {"source": path, **(metadata or {})}
    name = str(known.get("source") or "a PDF in memory")
    uri = None if path is None else absolute(path)
    try:
        key = uri or key or f"{content_hash(file)} {sorted(known.items(), key=str)}"
        for page in pages(file, dpi=dpi, password=password):
            yield image_item(
                Picture(page.image, uri and page_uri(uri, page.number, dpi), page_uri(key, page.number)),
                {**known, "page": page.number - 1, "page_label": str(page.number)},
                None,
                task,
                says=page.text.strip() or None,
                unit=f"page {page.number}",
                thumbnails=thumbnails,
            )
    except UnreadablePages as error:
        yield from (Failure(None, name, f"page {number}: {reason}") for number, reason in error.reasons.items())
    except (OSError, ValueError) as error:
        yield Failure(None, name, str(error))
    except ImportError as error:
        raise ImportError(NO_PDF) from error


def of_blob(blob: object, task: str, *, dpi: float, thumbnails: bool) -> Iterator[Item | Failure]:
    """A blob: an image, the pages of a PDF, or a text; a failure if it is none of them."""
    if not isinstance(blob, Blob):
        yield Failure(None, str(blob)[:200], f"is a {type(blob).__name__}, not a Blob")
        return
    name = blob.source or "a blob"
    metadata = {**blob.metadata, **({"source": name} if blob.source else {})}
    kind = (blob.mimetype or mimetypes.guess_type(name)[0] or "").partition(";")[0].strip().lower()
    try:
        if kind.startswith("image/"):
            yield image_item(blob, None, None, task, thumbnails=thumbnails)
        elif kind == PDF:
            how: dict[str, Any] = {"dpi": dpi, "thumbnails": thumbnails}
            if blob.data is None:
                path = Path(str(blob.path)).as_posix()
                yield from of_pdf(Path(path), metadata, task, path=path, **how)
            else:
                yield from of_pdf(blob.as_bytes(), metadata, task, path=None, key=blob.id, **how)
        else:  # code has all kinds of types, or none
            text = _text(blob)
            if text is None:
                yield Failure(blob.id, name, f"its type is {kind or 'unknown'}; images, PDFs and texts can be stored")
            else:
                yield text_item(text, metadata, blob.id, task)
    except (LookupError, OSError, ValueError) as error:  # LookupError: an encoding that there is not
        yield Failure(blob.id, name, str(error))


def _text(blob: Blob) -> str | None:
    """The text that a blob is; None if it is none."""
    try:
        text = blob.as_string()
    except UnicodeError:
        return None
    return None if "\0" in text else text
