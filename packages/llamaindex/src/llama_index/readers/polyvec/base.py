"""A reader for images and for the pages of PDFs as images, for `SimpleDirectoryReader` or alone."""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from llama_index.core.bridge.pydantic import SecretStr
from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import Document, ImageDocument, MediaResource
from PIL import Image

from polyvec.images import image_pages, image_size, n_image_pages, suffixes
from polyvec.paths import absolute, check_name, printable
from polyvec.pdf import pages
from polyvec.types import Page, UnreadablePages
from polyvec.warning import warn


class PolyvecReader(BaseReader):
    """Read images, and each page of a PDF or TIFF, as documents with their pictures and texts.

    `SimpleDirectoryReader` by itself reads the bytes of pictures as text. The pictures of pages are kept as PNG files,
    because LlamaIndex's nodes name their images by path. The metadata contain a hash of each picture, so that document
    stores and ingestion caches see when the picture has changed.

    Examples:
        `pip install "llama-index-embeddings-polyvec[pdf]"`

        ```python
        from llama_index.core import SimpleDirectoryReader
        from llama_index.readers.polyvec import PolyvecReader

        extractors = PolyvecReader(page_folder="./pages").file_extractor()
        documents = SimpleDirectoryReader("./reports", file_extractor=extractors, raise_on_error=True).load_data()
        ```
    """

    def __init__(
        self,
        *,
        page_folder: str | Path = "./polyvec-pages",
        dpi: float = 150,
        password: str | SecretStr | None = None,
    ) -> None:
        """Read images and PDFs.

        Args:
            page_folder: the folder for the pictures of pages.
            dpi: pixels per inch of a picture of a PDF page.
            password: of encrypted PDFs; others ignore it. The pictures of their pages are not encrypted.
        """
        self.page_folder, self.dpi = Path(page_folder), dpi
        self.password = SecretStr(password) if isinstance(password, str) else password

    def file_extractor(self) -> dict[str, BaseReader]:
        """Map every suffix that is read to this reader, for the `file_extractor` of `SimpleDirectoryReader`."""
        return dict.fromkeys((*suffixes(), ".pdf"), self)

    def load_data(
        self, file: str | Path, extra_info: dict[str, Any] | None = None, fs: object = None
    ) -> list[Document]:
        """Read a file as `lazy_load_data` does, all of it at once."""
        return list(self.lazy_load_data(file, extra_info, fs))

    def lazy_load_data(
        self, file: str | Path, extra_info: dict[str, Any] | None = None, fs: object = None
    ) -> Iterator[Document]:
        """Read a file page by page. Pages that cannot be read are left out with a warning.

        Args:
            file: an image or a PDF, as a path or a `file:` URI.
            extra_info: metadata of each document.
            fs: must be None: nodes name their images by path, so only local files are read.

        Raises:
            ValueError: the file cannot be read, or no index could keep its name.
            polyvec.pdf.UnreadablePages: no page can be read.
            ImportError: pypdfium2 is not installed (extra: `pdf`).
        """
        if fs is not None:
            raise ValueError("PolyvecReader reads local files only: nodes name their images by path.")
        file = absolute(file)
        try:
            check_name(str(file))
        except ValueError as error:
            raise ValueError(f"{printable(str(file))}: {error}") from error
        metadata = {"file_path": str(file), **(extra_info or {})}
        if file.suffix.lower() == ".pdf":
            password = None if self.password is None else self.password.get_secret_value()
            yield from self._pages(file, partial(pages, file, dpi=self.dpi, password=password, labels=True), metadata)
        elif n_image_pages(file) > 1:
            yield from self._pages(file, partial(image_pages, file), metadata)
        else:
            image_size(file)  # raises a clear error, which ImageDocument would not
            yield _document(file, "", metadata)

    def _folder(self, file: Path) -> Path:
        folder = self.page_folder / f"{file.stem[:100]}-{_sha256(file)[:12]}-{self.dpi:g}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _pages(self, file: Path, read: Callable[[], Iterator[Page]], metadata: dict[str, Any]) -> Iterator[Document]:
        folder = self._folder(file)
        has_read = False
        try:
            for page in read():
                picture = _picture(folder, page.number, page.image)
                named = {"page_label": page.label or str(page.number)}
                number = {} if page.label is None else {"page_number": page.number}
                yield _document(picture, page.text.strip(), {**metadata, **named, **number})
                has_read = True
        except ImportError as error:
            raise ImportError(
                "PDFs are read with pypdfium2; install it with `pip install 'llama-index-embeddings-polyvec[pdf]'`."
            ) from error
        except UnreadablePages as error:
            if not has_read:
                raise
            warn(str(error))


def _picture(folder: Path, number: int, image: Image.Image) -> Path:
    """Write a page's picture unless it is there already; returns its file."""
    picture = folder / f"page-{number:04}.png"
    if not picture.exists():
        unfinished = picture.with_suffix(".part")
        image.save(unfinished, "PNG")
        unfinished.replace(picture)
    return picture


def _document(picture: Path, text: str, metadata: dict[str, Any]) -> ImageDocument:
    document = ImageDocument(
        image_path=str(absolute(picture)),
        metadata={**metadata, "image_sha256": _sha256(picture)},
        excluded_embed_metadata_keys=["image_sha256"],
        excluded_llm_metadata_keys=["image_sha256"],
    )
    # If a document has no text, not even an empty one, LlamaIndex ignores its metadata: indexes would leave it out, and
    # caches would not see that the picture has changed.
    document.text_resource = MediaResource(text=text)
    return document


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
