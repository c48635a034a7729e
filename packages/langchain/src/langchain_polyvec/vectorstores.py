"""A LangChain vector store on a `qdrant_polyvec.Collection`."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypedDict, TypeVar, Unpack

from langchain_core.documents import Document
from langchain_core.documents.base import Blob
from langchain_core.embeddings import Embeddings

from langchain_polyvec.documents import (
    checked_ids,
    chunks,
    document_item,
    document_key,
    image_items,
    one_each,
    text_item,
)
from langchain_polyvec.embeddings import PolyvecEmbeddings
from langchain_polyvec.images import ImageLike
from langchain_polyvec.media import blob_items, pdf_items
from langchain_polyvec.searches import SearchableStore
from polyvec.frameworks import checked_texts
from polyvec.inputs import check_options
from polyvec.pictures import DPI
from qdrant_polyvec import Failure, Item

Metadatas = Iterable[Mapping[str, Any] | None] | None  # kept with each item, as JSON
Ids = Sequence[str | None] | None
P = ParamSpec("P")
T = TypeVar("T")

_BATCH = 64  # texts and images
_PAGE_BATCH = 16  # pages of a PDF, which are held as pictures in memory


class AddOptions(TypedDict, total=False):
    """Options of every addition."""

    task: str | None
    """What to encode for; searches find items of their own task only. Default: the embedding's task."""
    batch_size: int
    """Number of items that are encoded and stored at a time. Default: 64, or 16 pages of PDFs."""
    show_progress: bool | None
    """Show a progress bar. Default: the embedding's setting."""
    current_time: object
    """Of LangChain's `TimeWeightedVectorStoreRetriever`, which obeys it and hands it on. It changes nothing here."""


def _threaded(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """Make the asynchronous twin of a method, which calls it in a thread."""

    async def twin(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:  # Any: an object with that method
        return await asyncio.to_thread(getattr(self, method.__name__), *args, **kwargs)

    twin.__doc__ = f"`{method.__name__}` in a thread."
    return twin


class PolyvecVectorStore(SearchableStore):
    """Texts, images and pages with dense vectors and multi-vectors, in a folder, on a server, or on a cluster.

    Setup:
        ```bash
        pip install "langchain-polyvec[qdrant]"
        ```

    Key init args:
        embedding: a `PolyvecEmbeddings`; any other `Embeddings` has texts only, in mode `"dense"`.
        location: a folder, the URL of a server, or a `QdrantClient`.
        collection_name: the collection.
        mode: `"two-stage"`, `"late"`, `"dense"` or `"hybrid"`.

    Instantiate:
        ```python
        from langchain_polyvec import PolyvecEmbeddings, PolyvecVectorStore

        store = PolyvecVectorStore(PolyvecEmbeddings(model="demo"), location="./index", collection_name="docs")
        ```

    Add documents, images, and PDFs:
        ```python
        store.add_documents(documents)
        store.add_images(["page-1.png"])
        store.add_pdfs(["report.pdf"])
        ```

    Search:
        ```python
        store.similarity_search("revenue by region", k=4, filter={"lang": "en"})
        ```

    Use as retriever:
        ```python
        retriever = store.as_retriever(search_kwargs={"k": 4, "mode": "late"})
        ```

    Searches take the options of `searches.StoreOptions`, additions those of `vectorstores.AddOptions`. Unknown options
    are refused.
    """

    def add_texts(
        self, texts: Iterable[str], metadatas: Metadatas = None, *, ids: Ids = None, **options: Unpack[AddOptions]
    ) -> list[str]:
        """Encode and store texts. Texts that are stored already, unchanged, are not encoded again.

        Args:
            texts: whitespace stays as it is.
            metadatas: values to keep with each text, as JSON: dates become ISO strings, numpy numbers numbers. A value
                that JSON would change, as NaN, is refused.
            ids: any strings. A missing id is derived from content and metadata, so that adding the same text again
                changes nothing.
            options: see `AddOptions`.

        Returns:
            The ids, in order.

        Raises:
            ValueError: not as many metadatas or ids as texts, or an id twice. Nothing is stored then.
            UnstoredItems: some texts could not be stored; all others were.
        """
        listed = checked_texts(texts, images_to="add_images")
        n_texts = len(listed)
        rows = zip(listed, one_each("metadatas", metadatas, Mapping, n_texts), checked_ids(ids, n_texts), strict=True)
        task = options.get("task") or self.task
        return self._add((text_item(text, metadata, key, task) for text, metadata, key in rows), **options)

    def add_documents(
        self,
        documents: Iterable[Document],
        *,
        ids: Ids = None,
        password: str | None = None,
        thumbnails: bool = False,
        **options: Unpack[AddOptions],
    ) -> list[str]:
        """Encode and store documents. A document with `image_uri` in its metadata is an image, its text a caption.

        That file is opened, wherever it is: take documents from strangers only without `image_uri`. Two documents with
        one `image_uri` are two items if their texts or metadata differ. Chunks of a text are texts, whatever their
        metadata say: documents that name their `start_index`, and documents of this call without ids that differ in
        nothing but their text.

        Args:
            documents: with or without ids.
            ids: ids that replace those of the documents.
            password: of encrypted PDFs whose pages are among the documents. LangChain's `index` hands it on in
                `upsert_kwargs`.
            thumbnails: as for `add_images`.
            options: see `AddOptions`.
        """
        listed = list(documents)
        for item in listed:
            if not isinstance(item, Document):
                raise TypeError(f"`documents` holds a {type(item).__name__}; texts go to `add_texts`.")
        keys = checked_ids([item.id for item in listed] if ids is None else ids, len(listed))
        task = options.get("task") or self.task
        parts = chunks(listed, keys)
        items = (
            document_item(item, key, task, thumbnails=thumbnails, is_chunk=index in parts, password=password)
            for index, (item, key) in enumerate(zip(listed, keys, strict=True))
        )
        return self._add(items, **options)

    def document_key(self, document: Document) -> str:
        """Derive an id from text, metadata and the store's task, as `index(…, key_encoder=store.document_key)` needs.

        The ids that `index` derives by itself are the same for all tasks, and an id names one item, whatever its task.
        """
        return document_key(document, self.task)

    def add_images(
        self,
        uris: Iterable[ImageLike],
        metadatas: Metadatas = None,
        *,
        ids: Ids = None,
        captions: Sequence[str | None] | None = None,
        thumbnails: bool = False,
        **options: Unpack[AddOptions],
    ) -> list[str]:
        """Encode and store images, each page of a TIFF by itself. The store keeps their URIs, not the images.

        Args:
            uris: as for `PolyvecEmbeddings.embed_images`. The document of an image with a path shows the absolute path
                as `image_uri` and, unless its metadata name another, as `source`; all show `image_sha256`, and those
                of files `mime_type`. A TIFF with several pages becomes an item per page, with the
                `image_uri` `/folder/scan.tif#page=2` and what documents of pages of a PDF show.
            metadatas: as for `add_texts`.
            ids: as for `add_texts`; a missing id is derived from the URI, if the image has one. The pages of a TIFF
                with the id `scan` are `scan#page=1`, `scan#page=2`, and so on.
            captions: what the images say; it becomes the `page_content`.
            thumbnails: keep a small JPEG of each image, which its document shows as a `data:` URI under `thumbnail`.
            options: see `AddOptions`.
        """
        if isinstance(uris, str | bytes | Mapping):
            raise TypeError("`uris` is one image; give a list of them.")
        listed = list(uris)
        rows = zip(
            listed,
            one_each("metadatas", metadatas, Mapping, len(listed)),
            checked_ids(ids, len(listed)),
            one_each("captions", captions, str, len(listed)),
            strict=True,
        )
        task = options.get("task") or self.task
        items = (
            item
            for image, metadata, key, caption in rows
            for item in image_items(image, metadata, key, task, caption=caption, thumbnails=thumbnails)
        )
        return self._add(items, **options)

    def add_pdfs(
        self,
        paths: Iterable[str | Path],
        metadatas: Metadatas = None,
        *,
        dpi: float = DPI,
        password: str | None = None,
        thumbnails: bool = False,
        **options: Unpack[AddOptions],
    ) -> list[str]:
        """Encode and store the pages of PDFs as images, each with its text layer as `page_content` (extra: `pdf`).

        A document of a page shows `source`, the absolute path, `page` (counted from 0, as LangChain's loaders do),
        `page_label` (what the PDF calls the page, such as `viii`, or else its number, from 1) and `image_uri`, as
        `/folder/report.pdf#page=1`. One page at a time is in memory. When a changed file is added again, its pages
        replace the old ones; delete pages that it lost with `store.collection.delete(sources=[…])`.

        Args:
            paths: the files, as paths or `file:` URIs.
            metadatas: as for `add_texts`, for each page of a file.
            dpi: pixels per inch of the pages.
            password: of encrypted files. Their pages cannot be drawn again later: keep `thumbnails`.
            thumbnails: as for `add_images`.
            options: see `AddOptions`.

        Returns:
            The ids of all pages, in order.
        """
        if isinstance(paths, str | Path):
            raise TypeError("`paths` is one path; give a list of them.")
        listed = list(paths)
        rows = zip(listed, one_each("metadatas", metadatas, Mapping, len(listed)), strict=True)
        pages = partial(
            pdf_items, task=options.get("task") or self.task, dpi=dpi, password=password, thumbnails=thumbnails
        )
        items = (item for path, metadata in rows for item in pages(path, metadata))
        options.setdefault("batch_size", _PAGE_BATCH)
        return self._add(items, **options)

    def add_blobs(
        self, blobs: Iterable[object], *, dpi: float = DPI, thumbnails: bool = False, **options: Unpack[AddOptions]
    ) -> list[str]:
        """Encode and store blobs, as LangChain's blob loaders return them: images, PDFs page by page, and texts.

        Arguments are those of `add_pdfs`. A blob of any other type is reported as not stored.
        """
        if isinstance(blobs, Blob | str | bytes):
            raise TypeError("`blobs` is one blob; give a list or iterator of them.")
        task = options.get("task") or self.task
        items = (item for blob in blobs for item in blob_items(blob, task, dpi=dpi, thumbnails=thumbnails))
        options.setdefault("batch_size", _PAGE_BATCH)
        return self._add(items, **options)

    aadd_images = _threaded(add_images)
    aadd_pdfs = _threaded(add_pdfs)
    aadd_blobs = _threaded(add_blobs)

    @classmethod
    def from_texts(
        cls, texts: Iterable[str], embedding: Embeddings, metadatas: Metadatas = None, *, ids: Ids = None, **kwargs: Any
    ) -> Self:  # Any: passed to the constructor
        """Open a store, as the constructor does, and add texts."""
        return cls._filled(embedding, lambda store: store.add_texts(texts, metadatas, ids=ids), kwargs)

    @classmethod
    def from_documents(
        cls, documents: Iterable[Document], embedding: Embeddings, *, ids: Ids = None, **kwargs: Any
    ) -> Self:  # Any: passed to the constructor
        """Open a store, as the constructor does, and add documents."""
        return cls._filled(embedding, lambda store: store.add_documents(documents, ids=ids), kwargs)

    @classmethod
    def from_images(
        cls,
        uris: Iterable[ImageLike],
        embedding: Embeddings,
        metadatas: Metadatas = None,
        *,
        ids: Ids = None,
        **kwargs: Any,  # Any: passed to the constructor
    ) -> Self:
        """Open a store, as the constructor does, and add images."""
        return cls._filled(embedding, lambda store: store.add_images(uris, metadatas, ids=ids), kwargs)

    @classmethod
    async def afrom_documents(cls, documents: Iterable[Document], embedding: Embeddings, **kwargs: Any) -> Self:
        """`from_documents` in a thread. LangChain's own would take image documents for texts."""
        return await asyncio.to_thread(cls.from_documents, documents, embedding, **kwargs)

    @classmethod
    async def afrom_images(cls, uris: Iterable[ImageLike], embedding: Embeddings, *args: Any, **kwargs: Any) -> Self:
        """`from_images` in a thread."""
        return await asyncio.to_thread(cls.from_images, uris, embedding, *args, **kwargs)

    @classmethod
    def _filled(cls, embedding: Embeddings, add: Callable[[Self], object], options: Mapping[str, Any]) -> Self:
        """Open a store and add something. If adding fails, the folder is released; what was stored stays."""
        with contextlib.ExitStack() as on_error:
            store = cls(embedding, **options)
            on_error.callback(store.close)
            add(store)
            on_error.pop_all()
        return store

    def _add(self, items: Iterable[Item | Failure], **options: Unpack[AddOptions]) -> list[str]:
        check_options(options, sorted(AddOptions.__optional_keys__))
        show_progress = options.get("show_progress")
        metadata_by_id: dict[str, Any] = {}
        ids: list[str] = []

        def numbered() -> Iterator[Item | Failure]:
            for index, item in enumerate(items):
                if isinstance(item, Failure):
                    yield replace(item, index=index)
                    continue
                ids.append(key := str(item.id))
                if metadata_by_id.setdefault(key, item.metadata) == item.metadata:
                    yield item
                else:
                    source = str((item.metadata or {}).get("source", key))
                    yield Failure(index, source, "an earlier item of this call is the same, with other metadata")

        if show_progress is None:
            show_progress = isinstance(self._embedding, PolyvecEmbeddings) and self._embedding.show_progress
        collection = self._writable()
        report = collection.add(
            numbered(),
            task=options.get("task") or self.task,
            on_failure="report",
            keep_places=True,
            batch_size=options.get("batch_size", _BATCH),
            show_progress=show_progress,
        )
        report.check(ids)
        return ids
