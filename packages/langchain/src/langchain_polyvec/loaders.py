"""Load images and the pages of PDFs as documents."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document
from pydantic import SecretStr

from langchain_polyvec.images import IMAGE_URI, NO_PDF
from polyvec.images import image_pages, image_size, n_image_pages, suffixes
from polyvec.paths import absolute, check_name
from polyvec.pdf import pages
from polyvec.pictures import DPI, page_uri
from polyvec.types import Page, UnreadablePages
from polyvec.warning import warn

_TEXT_DPI = 9  # pages are drawn small here, for their texts; the store draws them in full


class PolyvecLoader(BaseLoader):
    """Load images, and each page of a PDF or TIFF, as documents that a `PolyvecVectorStore` stores as images.

    Setup:
        ```bash
        pip install "langchain-polyvec[pdf]"
        ```

    Instantiate:
        ```python
        from langchain_polyvec import PolyvecLoader

        loader = PolyvecLoader("./reports")
        ```

    Lazy load:
        ```python
        for document in loader.lazy_load():
            print(document.metadata["source"], document.metadata.get("page_label"))
        ```

    The metadata of a document are `source` (absolute path), `image_uri`, `file_sha256` and, of pages, `page` (from 0)
    and `page_label` (what the PDF calls the page, such as `viii`, or else its number, from 1). Its `page_content` is
    the text layer of the page. LangChain's `index` sees by the hash that a file has changed, and removes pages that the
    file has lost.
    """

    def __init__(
        self,
        paths: str | Path | Iterable[str | Path],
        *,
        dpi: float = DPI,
        password: str | SecretStr | None = None,
        on_error: Literal["raise", "warn"] = "raise",
    ) -> None:
        """Choose what to load. Nothing is read yet.

        Args:
            paths: files and folders, as paths or `file:` URIs. Of a folder and its subfolders, images and PDFs are
                loaded in a fixed order, and hidden files are not.
            dpi: pixels per inch of the pages of PDFs.
            password: of encrypted PDFs; others ignore it. A store needs it, too, to draw their pages:
                `add_documents(documents, password=…)`.
            on_error: whether a file or page that cannot be read is an error, or is left out with a warning. `index`
                with cleanup deletes what is left out.
        """
        if on_error not in ("raise", "warn"):
            raise ValueError(f"`on_error` is {on_error!r}; it is 'raise' or 'warn'.")
        self.paths = [paths] if isinstance(paths, str | Path) else list(paths)
        self.dpi, self.on_error = dpi, on_error
        self.password = SecretStr(password) if isinstance(password, str) else password

    def lazy_load(self) -> Iterator[Document]:
        """Load one page after another.

        Raises:
            ValueError: a file cannot be read, or no index could keep its name.
            polyvec.types.UnreadablePages: some pages of a file cannot be read; all others came before.
            ImportError: pypdfium2 is not installed (extra: `pdf`).
        """
        for file in dict.fromkeys(file for path in self.paths for file in _files(absolute(path))):
            try:
                check_name(str(file))
                yield from self._documents(file)
            except ImportError as error:
                raise ImportError(NO_PDF) from error
            except (OSError, UnreadablePages, ValueError) as error:
                if self.on_error == "raise":
                    raise
                warn(f"{str(file)!r} is not loaded, or not whole: {error}")

    def _documents(self, file: Path) -> Iterator[Document]:
        path = file.as_posix()
        metadata: dict[str, Any] = {"source": path, "file_sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        is_pdf = file.suffix.lower() == ".pdf"
        if not is_pdf and n_image_pages(file) == 1:
            image_size(file)  # refuses what is no image
            yield Document("", metadata={**metadata, IMAGE_URI: path})
            return
        for page in self._pages_of_pdf(file) if is_pdf else image_pages(file):
            uri = page_uri(path, page.number, self.dpi if is_pdf else DPI)
            place = {IMAGE_URI: uri, "page": page.number - 1, "page_label": page.label or str(page.number)}
            yield Document(page.text.strip(), metadata={**metadata, **place})

    def _pages_of_pdf(self, file: Path) -> Iterator[Page]:
        password = None if self.password is None else self.password.get_secret_value()
        return pages(file, dpi=min(self.dpi, _TEXT_DPI), password=password, labels=True)


def _files(path: Path) -> Iterator[Path]:
    """Yield a file, or the images and PDFs in a folder, in a fixed order."""
    if not path.is_dir():
        yield path
        return
    readable = (".pdf", *suffixes())
    for file in sorted(path.rglob("*")):
        is_hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if file.suffix.lower() in readable and not is_hidden and file.is_file():
            yield file
