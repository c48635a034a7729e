"""Texts and images as vectors, for everything in LangChain that takes `Embeddings`."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, cast, overload

import numpy as np
from jaxtyping import Float32
from langchain_core.embeddings import Embeddings
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from langchain_polyvec.images import ImageLike, picture
from polyvec import Encoder, settings, types
from polyvec.inputs import check_task
from polyvec.settings import Dtype
from polyvec.types import TASKS

_OF_LOADING = {"revision", "device", "dtype", "token_budget", "max_pixels", "cache_folder"}


class PolyvecEmbeddings(BaseModel, Embeddings):
    """Texts, images and pages in one space, by jina-embeddings-v4.

    Setup:
        ```bash
        pip install langchain-polyvec
        ```

        The weights are downloaded at the first use, about 8 GB; a private hub needs the environment variable
        `HF_TOKEN`. Their licence is the Qwen Research License: research use, not commercial.

    Key init args:
        model: a hub id, a directory, or `"demo"`, the small bundled checkpoint for trying things out.
        task: `"retrieval"`, `"text-matching"` or `"code"`.
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

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, protected_namespaces=())

    model: str | Path = Field(
        default="jinaai/jina-embeddings-v4", description="Hub id, directory, or 'demo', which is bundled."
    )
    revision: str | None = Field(default=None, description="Branch, tag or commit on the hub.")
    task: str = Field(default="retrieval", description="What the vectors are for; each task has its own space.")
    dimensions: int | None = Field(default=None, gt=0, description="Length of the vectors; the model's own if None.")
    device: str | tuple[str, ...] | None = Field(
        default=None, description="The first accelerator, else the CPU, if None; several have a process each."
    )
    dtype: Dtype = Field(default="auto", description="bfloat16 where the device computes it natively, else float32.")
    token_budget: int | None = Field(
        default=None, gt=0, description="Tokens per forward pass, of texts and images alike; memory grows with it."
    )
    max_pixels: int | None = Field(default=None, gt=0, description="Largest area an image is encoded at.")
    show_progress: bool = Field(default=False, description="Show a progress bar.")
    cache_folder: str | None = Field(default=None, description="Where the hub's files are kept.")
    client: Any = Field(  # Any: an Encoder; pydantic cannot check a protocol
        default=None,
        exclude=True,
        repr=False,
        description="A loaded `polyvec.Embedder`, a bridge, or a test double, to use instead of loading `model`.",
    )

    _loaded: Any = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        self._check_settings()
        return self

    @property
    def encoder(self) -> Encoder:
        """The embedder itself; it is loaded here if it was not before.

        Raises:
            polyvec.CheckpointError: there is no such checkpoint.
            ValueError: the checkpoint has no such `task`, or no vectors of such `dimensions`.
        """
        if self.client is not None:
            return cast("Encoder", self.client)
        if self._loaded is not None:
            return cast("Encoder", self._loaded)
        with settings.LOADING:
            if self._loaded is None:
                self._loaded = self._load()
            return cast("Encoder", self._loaded)

    @property
    def cache_namespace(self) -> str:
        """For the `namespace` of LangChain's `CacheBackedEmbeddings`: other vectors have another one.

        It is for passages. Give queries a byte store of their own, never `query_embedding_cache=True`: the cache
        does not tell the two sides apart.
        """
        size = self.dimensions or self.encoder.dim
        return re.sub(r"[^\w.-]", "_", f"polyvec-{self.encoder.fingerprint}-{self.task}-{size}-", flags=re.ASCII)

    def with_task(self, task: str) -> Self:
        """The same embeddings for another task, on the same weights.

        Raises:
            ValueError: the model has no such task.
        """
        return self.model_copy(update={"task": task})

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The vectors of passages, the side that is found. Whitespace stays as it is."""
        return self._dense(self._encode("document", _texts(texts)))

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query, the side that asks."""
        return self._dense(self._encode("query", _texts([text])))[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """`embed_documents`; the event loop goes on meanwhile."""
        found = await self._aencode("document", _texts(texts))
        return await asyncio.to_thread(self._dense, found)

    async def aembed_query(self, text: str) -> list[float]:
        """`embed_query`; the event loop goes on meanwhile."""
        return self._dense(await self._aencode("query", _texts([text])))[0]

    def embed_images(self, images: Sequence[ImageLike]) -> list[list[float]]:
        """The vectors of images, for both sides of a search.

        Args:
            images: paths, `file:` and `data:` URIs, bytes, `Blob`s, PIL images, numpy arrays, image content blocks; of
                a PDF, one page as `"report.pdf#page=3"`. URLs are not fetched: pass `polyvec.images.fetch(url)`.

        Raises:
            TypeError: an item is no image.
            polyvec.UnreadableInputs: images that cannot be read; it carries the embeddings of the others.
        """
        return self._dense(self._encode_images(images))

    async def aembed_images(self, images: Sequence[ImageLike]) -> list[list[float]]:
        """`embed_images`; the event loop goes on meanwhile."""
        return await asyncio.to_thread(self.embed_images, images)

    @overload
    def embed_image(self, uris: list[ImageLike] | tuple[ImageLike, ...]) -> list[list[float]]: ...

    @overload
    def embed_image(self, uris: ImageLike) -> list[float]: ...

    def embed_image(self, uris: ImageLike | list[ImageLike] | tuple[ImageLike, ...]) -> list[float] | list[list[float]]:
        """`embed_images` for a list, which gives a list of vectors; for one image, its vector.

        LangChain has no interface for images. This name suits Chroma and LanceDB, which pass a list as `uris`, as
        well as callers in the style of Bedrock, which pass one image.
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
        """`embed_image`; the event loop goes on meanwhile."""
        return await asyncio.to_thread(self.embed_image, uris)

    def embed_documents_multi_vector(self, texts: list[str]) -> list[Float32[np.ndarray, "_ dim"]]:
        """The multi-vectors of passages: of each, one unit row per token. Score them with `polyvec.maxsim`."""
        return _multivectors(self._encode("document", _texts(texts), multivector=True))

    def embed_query_multi_vector(self, text: str) -> Float32[np.ndarray, "tokens dim"]:
        """The multi-vector of a query: one unit row per token."""
        return _multivectors(self._encode("query", _texts([text]), multivector=True))[0]

    def embed_images_multi_vector(self, images: Sequence[ImageLike]) -> list[Float32[np.ndarray, "_ dim"]]:
        """The multi-vectors of images: of each, one unit row per patch and some around them. Errors as above."""
        return _multivectors(self._encode_images(images, multivector=True))

    async def aembed_documents_multi_vector(self, texts: list[str]) -> list[Float32[np.ndarray, "_ dim"]]:
        """`embed_documents_multi_vector`; the event loop goes on meanwhile."""
        return _multivectors(await self._aencode("document", _texts(texts), multivector=True))

    async def aembed_query_multi_vector(self, text: str) -> Float32[np.ndarray, "tokens dim"]:
        """`embed_query_multi_vector`; the event loop goes on meanwhile."""
        return _multivectors(await self._aencode("query", _texts([text]), multivector=True))[0]

    async def aembed_images_multi_vector(self, images: Sequence[ImageLike]) -> list[Float32[np.ndarray, "_ dim"]]:
        """`embed_images_multi_vector`; the event loop goes on meanwhile."""
        return await asyncio.to_thread(self.embed_images_multi_vector, images)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002
        """The same embeddings with other settings, which are checked. Weights that are the same are shared."""
        given = {name: getattr(self, name) for name in self.model_fields_set} | dict(update or {})
        copied = type(self)(**given)
        if not (_OF_LOADING | {"model", "client"}) & (update or {}).keys():
            copied._loaded = self._loaded  # noqa: SLF001 — of this class
            copied._check_settings()  # noqa: SLF001
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()  # frozen; the weights are shared

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        return state | {"__pydantic_private__": {"_loaded": None}}

    def _load(self) -> Encoder:
        embedder = settings.load(
            str(self.model),
            dtype=self.dtype,
            revision=self.revision,
            device=self.device,
            max_pixels=self.max_pixels,
            token_budget=self.token_budget,
            cache_dir=self.cache_folder,
        )
        settings.check(embedder, task=self.task, dimensions=self.dimensions)
        return embedder

    def _check_settings(self) -> None:
        encoder = self.client or self._loaded
        if encoder is None:
            check_task(self.task, TASKS)
            return
        settings.check_client(encoder)
        settings.check(encoder, task=self.task, dimensions=self.dimensions)
        given = sorted(name for name in _OF_LOADING if getattr(self, name) not in (None, "auto"))
        if self.client is not None and given:
            raise ValueError(f"`{given[0]}` has no effect on a `client` that is loaded already.")

    def _options(self, multivector: bool) -> dict[str, Any]:  # noqa: FBT001 — one flag of two private callers
        return {
            "task": self.task,
            "truncate_dim": self.dimensions,
            "multivector": multivector,
            "show_progress": self.show_progress,
        }

    def _encode(
        self, side: Literal["query", "document"], texts: Sequence[str], *, multivector: bool = False
    ) -> types.Embeddings:
        encoder = self.encoder
        call = encoder.encode_query if side == "query" else encoder.encode_document
        return call(texts, **self._options(multivector))

    async def _aencode(
        self, side: Literal["query", "document"], texts: Sequence[str], *, multivector: bool = False
    ) -> types.Embeddings:
        encoder = self.client or self._loaded or await asyncio.to_thread(lambda: self.encoder)
        acall = getattr(encoder, f"aencode_{side}", None)
        if acall is None:
            return await asyncio.to_thread(self._encode, side, texts, multivector=multivector)
        found: types.Embeddings = await acall(texts, **self._options(multivector))
        return found

    def _encode_images(self, images: Sequence[ImageLike], *, multivector: bool = False) -> types.Embeddings:
        if isinstance(images, str | bytes | Mapping) or not isinstance(images, Sequence):
            raise TypeError(f"`images` is a list of images, not a {type(images).__name__}: write [image].")
        encode = partial(self.encoder.encode_document, **self._options(multivector))
        return settings.encode_each(encode, images, lambda image: picture(image).content)

    @staticmethod
    def _dense(embeddings: types.Embeddings) -> list[list[float]]:
        rows: list[list[float]] = embeddings.dense.tolist()
        return rows


def _texts(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise TypeError("`texts` is one string; give a list of them.")
    listed = list(texts)
    for index, text in enumerate(listed):
        if not isinstance(text, str):
            raise TypeError(f"text {index} is a {type(text).__name__}; images go to `embed_images`.")
    return listed


def _multivectors(embeddings: types.Embeddings) -> list[np.ndarray]:
    if embeddings.multivector is None:
        raise ValueError("this embedder makes no multi-vectors.")
    return list(embeddings.multivector)
