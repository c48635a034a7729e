"""Texts and images as vectors, for everything in LangChain that takes `Embeddings`."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack, overload

import numpy as np
from jaxtyping import Float32
from langchain_core.embeddings import Embeddings
from pydantic import ConfigDict, Field

from langchain_polyvec.images import ImageLike, located
from polyvec import EncodeOptions, types
from polyvec.frameworks import MODEL, EmbedderSettings, checked_texts, dense_rows, multivectors


class PolyvecEmbeddings(EmbedderSettings, Embeddings):
    """Texts, images and pages in one space, by jina-embeddings-v4.

    Setup:
        ```bash
        pip install langchain-polyvec
        ```

        The weights are downloaded at the first use, about 8 GB; a private hub needs the environment variable
        `HF_TOKEN`. Their licence is the Qwen Research License: research use, not commercial.

    Key init args:
        model: a hub id, a directory, or `"demo"`, the small bundled checkpoint for trying things out.
        task: `"retrieval"`, `"text-matching"` or `"code"`, or that of an adapter which is loaded in `client`.
        dimensions: length of the vectors (Matryoshka): 128, 256, 512, 1024, or 2048, which is the default.

    Instantiate:
        ```python
        from langchain_polyvec import PolyvecEmbeddings

        embeddings = PolyvecEmbeddings(model="jinaai/jina-embeddings-v4", task="retrieval", dimensions=1024)
        ```

    Embed single text:
        ```python
        embeddings.embed_query("revenue by region")
        ```

    Embed multiple texts:
        ```python
        embeddings.embed_documents(["Revenue rose.", "def revenue(region): ..."])
        ```

    Embed images:
        ```python
        embeddings.embed_images(["page-1.png", "page-2.png"])
        ```

    Async:
        ```python
        await embeddings.aembed_query("revenue by region")
        ```

    Construction loads nothing; the first call does. Instances of the same checkpoint, device and dtype share its
    weights. An instance pickles as its configuration. Vectors have unit length.
    """

    model_config = ConfigDict(frozen=True)

    model: str | Path = MODEL
    show_progress: bool = Field(default=False, description="Show a progress bar.")

    @property
    def checkpoint(self) -> str:
        """The model, as `polyvec.Embedder.from_pretrained` takes it."""
        return str(self.model)

    @property
    def cache_namespace(self) -> str:
        """The `namespace` for LangChain's `CacheBackedEmbeddings`. Different vectors have different namespaces.

        It suits documents. Give queries a byte store of their own, never `query_embedding_cache=True`: that cache
        mixes queries with documents.
        """
        size = self.dimensions or self.encoder.dim
        return re.sub(r"[^\w.-]", "_", f"polyvec-{self.encoder.fingerprint}-{self.task}-{size}-", flags=re.ASCII)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents, the side that is searched. Whitespace stays as it is."""
        return dense_rows(self._encode("document", _texts(texts)))

    def embed_query(self, text: str) -> list[float]:
        """Embed a query, the side that searches."""
        return dense_rows(self._encode("query", _texts([text])))[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents without blocking the event loop."""
        return await asyncio.to_thread(dense_rows, await self._aencode("document", _texts(texts)))

    async def aembed_query(self, text: str) -> list[float]:
        """Embed a query without blocking the event loop."""
        return dense_rows(await self._aencode("query", _texts([text])))[0]

    def embed_images(self, images: Sequence[ImageLike]) -> list[list[float]]:
        """Embed images. The vectors serve both sides of a search.

        Args:
            images: paths, `file:` and `data:` URIs, bytes, `Blob`s, PIL images, numpy arrays, image content blocks; a
                page of a PDF as `"report.pdf#page=3"`. URLs are not fetched: pass `polyvec.images.fetch(url)`.

        Raises:
            TypeError: an item is no image.
            polyvec.UnreadableInputs: images that cannot be read; it carries the embeddings of the others.
        """
        return dense_rows(self._encode_images(images))

    async def aembed_images(self, images: Sequence[ImageLike]) -> list[list[float]]:
        """Embed images without blocking the event loop."""
        return await asyncio.to_thread(self.embed_images, images)

    @overload
    def embed_image(self, uris: list[ImageLike] | tuple[ImageLike, ...]) -> list[list[float]]: ...

    @overload
    def embed_image(self, uris: ImageLike) -> list[float]: ...

    def embed_image(self, uris: ImageLike | list[ImageLike] | tuple[ImageLike, ...]) -> list[float] | list[list[float]]:
        """Embed one image, which gives a vector, or a list of images, which gives a list of vectors.

        LangChain has no interface for images. This name suits Chroma and LanceDB, which pass a list as `uris`, and
        callers in the style of Bedrock, which pass one image.
        """
        if isinstance(uris, list | tuple):
            return self.embed_images(uris)
        return self.embed_images([uris])[0]

    @overload
    async def aembed_image(self, uris: list[ImageLike] | tuple[ImageLike, ...]) -> list[list[float]]: ...

    @overload
    async def aembed_image(self, uris: ImageLike) -> list[float]: ...

    async def aembed_image(
        self, uris: ImageLike | list[ImageLike] | tuple[ImageLike, ...]
    ) -> list[float] | list[list[float]]:
        """Embed one image or a list of images without blocking the event loop."""
        return await asyncio.to_thread(self.embed_image, uris)

    def embed_documents_multi_vector(self, texts: list[str]) -> list[Float32[np.ndarray, "_ dim"]]:
        """Embed documents as multi-vectors: one unit row per token. Score them with `polyvec.maxsim`."""
        return multivectors(self._encode("document", _texts(texts), multivector=True))

    def embed_query_multi_vector(self, text: str) -> Float32[np.ndarray, "tokens dim"]:
        """Embed a query as a multi-vector: one unit row per token."""
        return multivectors(self._encode("query", _texts([text]), multivector=True))[0]

    def embed_images_multi_vector(self, images: Sequence[ImageLike]) -> list[Float32[np.ndarray, "_ dim"]]:
        """Embed images as multi-vectors: one unit row per patch and some around them. Errors: as `embed_images`."""
        return multivectors(self._encode_images(images, multivector=True))

    async def aembed_documents_multi_vector(self, texts: list[str]) -> list[Float32[np.ndarray, "_ dim"]]:
        """Embed documents as multi-vectors without blocking the event loop."""
        return multivectors(await self._aencode("document", _texts(texts), multivector=True))

    async def aembed_query_multi_vector(self, text: str) -> Float32[np.ndarray, "tokens dim"]:
        """Embed a query as a multi-vector without blocking the event loop."""
        return multivectors(await self._aencode("query", _texts([text]), multivector=True))[0]

    async def aembed_images_multi_vector(self, images: Sequence[ImageLike]) -> list[Float32[np.ndarray, "_ dim"]]:
        """Embed images as multi-vectors without blocking the event loop."""
        return await asyncio.to_thread(self.embed_images_multi_vector, images)

    def _options(self, options: EncodeOptions) -> EncodeOptions:
        return {"show_progress": self.show_progress, **super()._options(options)}

    def _encode_images(self, images: Sequence[ImageLike], **options: Unpack[EncodeOptions]) -> types.Embeddings:
        if isinstance(images, str | bytes | Mapping) or not isinstance(images, Sequence):
            raise TypeError(f"`images` is a list of images, not a {type(images).__name__}: write [image].")
        return self._encode_each(images, lambda image: located(image).content, **options)


def _texts(texts: Sequence[str]) -> list[str]:
    return checked_texts(texts, images_to="embed_images")


def relevance(similarity: float) -> float:
    """Scale a cosine, or MaxSim per query token, to LangChain's relevance from 0 to 1."""
    return min(max((1 + float(similarity)) / 2, 0.0), 1.0)
