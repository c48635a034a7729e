"""Images, and the pages of PDFs as images, for `SimpleDirectoryReader` and on their own."""

import hashlib
from pathlib import Path
from typing import Any

from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import Document, ImageDocument, MediaResource

from polyvec.images import image_size
from polyvec.pdf import pages

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif")


class PolyvecReader(BaseReader):
    """Reads an image file as one document, and a PDF as one document per page, each with its picture and its text.

    `SimpleDirectoryReader` by itself reads the bytes of pictures as text. The pictures of pages are kept as PNG files,
    because LlamaIndex's nodes name their images by path. A hash of each picture is in the metadata, so that a document
    store sees when it has changed.

    Examples:
        `pip install "llama-index-embeddings-polyvec[pdf]"`

        ```python
        from llama_index.core import SimpleDirectoryReader
        from llama_index.readers.polyvec import PolyvecReader

        extractors = PolyvecReader(page_folder="./pages").file_extractor()
        documents = SimpleDirectoryReader("./reports", file_extractor=extractors, raise_on_error=True).load_data()
        ```
    """

    def __init__(self, *, page_folder: str | Path = "./polyvec-pages", dpi: float = 150) -> None:
        """Read images and PDFs.

        Args:
            page_folder: where the pictures of PDF pages are kept.
            dpi: pixels per inch of those.
        """
        self.page_folder, self.dpi = Path(page_folder), dpi

    def file_extractor(self) -> dict[str, BaseReader]:
        """This reader for all suffixes that it reads, for the `file_extractor` of `SimpleDirectoryReader`."""
        return dict.fromkeys((*IMAGE_SUFFIXES, ".pdf"), self)

    def load_data(self, file: str | Path, extra_info: dict[str, Any] | None = None) -> list[Document]:
        """The documents of a file.

        Args:
            file: an image or a PDF.
            extra_info: metadata of each document.

        Raises:
            ValueError: the file cannot be read.
            polyvec.pdf.UnreadablePages: some pages cannot be read.
            ImportError: pypdfium2 is not installed (extra: `pdf`).
        """
        file = Path(file)
        metadata = {"file_path": str(file), **(extra_info or {})}
        if file.suffix.lower() == ".pdf":
            return self._pages(file, metadata)
        image_size(file)  # a clear error, where ImageDocument has none
        return [_document(file, "", metadata)]

    def _pages(self, file: Path, metadata: dict[str, Any]) -> list[Document]:
        folder = self.page_folder / f"{file.stem}-{_sha256(file)[:12]}-{self.dpi:g}"
        folder.mkdir(parents=True, exist_ok=True)
        documents: list[Document] = []
        try:
            for page in pages(file, dpi=self.dpi):
                picture = folder / f"page-{page.number:04}.png"
                if not picture.exists():
                    unfinished = picture.with_suffix(".part")
                    page.image.save(unfinished, "PNG")
                    unfinished.replace(picture)
                documents.append(_document(picture, page.text.strip(), {**metadata, "page_label": str(page.number)}))
        except ImportError as error:
            raise ImportError(
                "PDFs are read with pypdfium2; install it with `pip install 'llama-index-embeddings-polyvec[pdf]'`."
            ) from error
        return documents


def _document(picture: Path, text: str, metadata: dict[str, Any]) -> ImageDocument:
    document = ImageDocument(
        image_path=str(picture.absolute()),
        metadata={**metadata, "image_sha256": _sha256(picture)},
        excluded_embed_metadata_keys=["image_sha256"],
        excluded_llm_metadata_keys=["image_sha256"],
    )
    # Without a text, even an empty one, LlamaIndex passes over its metadata: its indexes would leave the document out,
    # and its caches would not see that the picture has changed.
    document.text_resource = MediaResource(text=text)
    return document


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
