"""What a LangChain vector store can take in: texts, documents, images, PDFs and blobs."""

import asyncio
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.documents.base import Blob
from langchain_core.vectorstores import VectorStore

from langchain_polyvec import documents as made
from langchain_polyvec.images import DPI, ImageLike
from langchain_polyvec.media import of_blob, of_pdf
from qdrant_polyvec import Collection, Failure, Item

Metadata = Mapping[str, Any]

BATCH = 64  # texts and images that are encoded and stored at a time
PAGE_BATCH = 16  # pages of a PDF, which are pictures in memory until then


class Additions(VectorStore):
    """The half of `PolyvecVectorStore` that adds; LangChain wants both halves to be one class."""

    @property
    @abstractmethod
    def task(self) -> str:
        """What items are encoded for unless a call says otherwise."""

    @property
    @abstractmethod
    def _show_progress(self) -> bool:
        """Whether progress bars are shown unless a call says otherwise."""

    @abstractmethod
    def _writable(self) -> Collection:
        """Where items are added.

        Raises:
            TypeError: to a collection that is only read.
        """

    def add_texts(  # type: ignore[override]  # an unknown option is refused
        self,
        texts: Iterable[str],
        metadatas: Iterable[Metadata | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        task: str | None = None,
        batch_size: int = BATCH,
        show_progress: bool | None = None,
    ) -> list[str]:
        """Encode and store texts; what is there already, unchanged, is not encoded again.

        Args:
            texts: as they are; whitespace stays.
            metadatas: JSON values to keep with each.
            ids: any strings. Where there is none, it is derived from content and metadata, so that adding the same
                again changes nothing.
            task: what to encode for; the embedding's task unless given. Searches find items of their own task only.
            batch_size: how many are encoded and stored at a time.
            show_progress: show a progress bar; as the embedding says unless given.

        Returns:
            The ids, in order.

        Raises:
            ValueError: not as many metadatas or ids as texts, or an id twice. Nothing is stored then.
            UnstoredItems: some could not be stored; all others were.
        """
        listed = made.checked_texts(texts)
        rows = zip(
            listed, made.checked_metadatas(metadatas, len(listed)), made.checked_ids(ids, len(listed)), strict=True
        )
        of_task = task or self.task
        items = (made.text_item(text, metadata, identity, of_task) for text, metadata, identity in rows)
        return self._add(items, of_task, batch_size, show_progress)

    def add_documents(  # type: ignore[override]  # as above
        self,
        documents: Iterable[Document],
        *,
        ids: Sequence[str | None] | None = None,
        task: str | None = None,
        thumbnails: bool = False,
        batch_size: int = BATCH,
        show_progress: bool | None = None,
    ) -> list[str]:
        """Encode and store documents. One with `image_uri` in its metadata is an image; its text is what it says.

        That file is opened, wherever it is: take documents from strangers only without `image_uri`.

        Args:
            documents: with ids or without.
            ids: instead of those of the documents.
            task: as for `add_texts`, like the rest.
            thumbnails: as for `add_images`.
            batch_size: how many are encoded and stored at a time.
            show_progress: show a progress bar.
        """
        listed = list(documents)
        if wrong := next((one for one in listed if not isinstance(one, Document)), None):
            raise TypeError(f"`documents` holds a {type(wrong).__name__}; texts go to `add_texts`.")
        given = made.checked_ids([one.id for one in listed] if ids is None else ids, len(listed))
        of_task = task or self.task
        items = (
            made.document_item(one, identity, of_task, thumbnails=thumbnails)
            for one, identity in zip(listed, given, strict=True)
        )
        return self._add(items, of_task, batch_size, show_progress)

    def add_images(
        self,
        uris: Iterable[ImageLike],
        metadatas: Iterable[Metadata | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        captions: Sequence[str | None] | None = None,
        task: str | None = None,
        thumbnails: bool = False,
        batch_size: int = BATCH,
        show_progress: bool | None = None,
    ) -> list[str]:
        """Encode and store images. Kept are their URIs, not the images.

        Args:
            uris: as for `PolyvecEmbeddings.embed_images`. What has a path gets it as `image_uri` in its metadata;
                all get `image_sha256`, and files their `mime_type`.
            metadatas: as for `add_texts`.
            ids: as for `add_texts`; where there is none, an image with a URI is known by that.
            captions: what the images say; it becomes the `page_content`.
            task: as for `add_texts`.
            thumbnails: keep a small JPEG of each in its metadata, too, as a `data:` URI under `thumbnail`.
            batch_size: how many are encoded and stored at a time.
            show_progress: show a progress bar.
        """
        if isinstance(uris, str | bytes | Mapping):
            raise TypeError("`uris` is one image; give a list of them.")
        listed = list(uris)
        rows = zip(
            listed,
            made.checked_metadatas(metadatas, len(listed)),
            made.checked_ids(ids, len(listed)),
            made.checked_captions(captions, len(listed)),
            strict=True,
        )
        of_task = task or self.task
        items = (
            made.image_item(image, metadata, identity, of_task, says=caption, thumbnails=thumbnails)
            for image, metadata, identity, caption in rows
        )
        return self._add(items, of_task, batch_size, show_progress)

    def add_pdfs(
        self,
        paths: Iterable[str | Path],
        metadatas: Iterable[Metadata | None] | None = None,
        *,
        dpi: float = DPI,
        password: str | None = None,
        task: str | None = None,
        thumbnails: bool = False,
        batch_size: int = PAGE_BATCH,
        show_progress: bool | None = None,
    ) -> list[str]:
        """Encode and store the pages of PDFs as images, each with its text layer as `page_content` (extra: `pdf`).

        Metadata of a page: `source`, `page` (counted from 0, as LangChain's loaders do), `page_label` (from 1) and
        `image_uri`, as `report.pdf#page=1`. Pages are drawn as they are reached, so memory does not grow. A
        file that has changed takes the place of its pages; what it has no more must be deleted:
        `store.collection.delete(sources=[…])`.

        Args:
            paths: the files.
            metadatas: JSON values to keep with each page of a file.
            dpi: pixels per inch of the pages.
            password: of encrypted files. Their pages cannot be drawn again later: keep `thumbnails`.
            task: as for `add_texts`.
            thumbnails: as for `add_images`.
            batch_size: how many pages are encoded and stored at a time.
            show_progress: show a progress bar.

        Returns:
            The ids of all pages, in order.
        """
        if isinstance(paths, str | Path):
            raise TypeError("`paths` is one path; give a list of them.")
        listed = [Path(path) for path in paths]
        of_task = task or self.task
        items = (
            item
            for path, metadata in zip(listed, made.checked_metadatas(metadatas, len(listed)), strict=True)
            for item in of_pdf(
                path,
                metadata,
                of_task,
                path=path.as_posix(),
                dpi=dpi,
                password=password,
                thumbnails=thumbnails,
            )
        )
        return self._add(items, of_task, batch_size, show_progress)

    def add_blobs(
        self,
        blobs: Iterable[object],
        *,
        dpi: float = DPI,
        task: str | None = None,
        thumbnails: bool = False,
        batch_size: int = PAGE_BATCH,
        show_progress: bool | None = None,
    ) -> list[str]:
        """Encode and store blobs, as LangChain's blob loaders give them: images, PDFs by page, and texts as they are.

        Arguments as for `add_pdfs`. A blob that is neither is told as not stored.
        """
        if isinstance(blobs, Blob | str | bytes):
            raise TypeError("`blobs` is one blob; give a list or iterator of them.")
        of_task = task or self.task
        items = (item for blob in blobs for item in of_blob(blob, of_task, dpi=dpi, thumbnails=thumbnails))
        return self._add(items, of_task, batch_size, show_progress)

    async def aadd_images(
        self, uris: Iterable[ImageLike], metadatas: Iterable[Metadata | None] | None = None, **how: Any
    ) -> list[str]:
        """`add_images` in a thread."""
        return await asyncio.to_thread(partial(self.add_images, uris, metadatas, **how))

    async def aadd_pdfs(
        self, paths: Iterable[str | Path], metadatas: Iterable[Metadata | None] | None = None, **how: Any
    ) -> list[str]:
        """`add_pdfs` in a thread."""
        return await asyncio.to_thread(partial(self.add_pdfs, paths, metadatas, **how))

    async def aadd_blobs(self, blobs: Iterable[object], **how: Any) -> list[str]:
        """`add_blobs` in a thread."""
        return await asyncio.to_thread(partial(self.add_blobs, blobs, **how))

    def _add(
        self,
        items: Iterable[Item | Failure],
        task: str,
        batch_size: int,
        show_progress: bool | None,  # noqa: FBT001 — as its callers give it
    ) -> list[str]:
        metadata_by_id: dict[str, Any] = {}
        ids: list[str] = []

        def noted() -> Iterator[Item | Failure]:
            for item in items:
                if isinstance(item, Item):
                    ids.append(key := str(item.id))
                    if metadata_by_id.setdefault(key, item.metadata) != item.metadata:
                        source = str((item.metadata or {}).get("source", key))
                        yield Failure(None, source, "an earlier item of this call is the same, with other metadata")
                        continue
                yield item

        shown = self._show_progress if show_progress is None else show_progress
        report = self._writable().add(noted(), task=task, batch_size=batch_size, show_progress=shown)
        report.check(ids)
        return ids
