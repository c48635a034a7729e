"""Texts and images as vectors, for everything in LlamaIndex that takes an embedding."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
from jaxtyping import Float32
from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr, field_validator, model_validator
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import BaseNode, MetadataMode, QueryBundle
from llama_index.core.storage.kvstore.types import BaseKVStore
from llama_index.core.utils import get_tqdm_iterable

from llama_index.embeddings.polyvec.caching import SidedCache
from llama_index.embeddings.polyvec.images import ImageLike, has_image, image_input
from polyvec import Encoder, settings
from polyvec.inputs import check_task
from polyvec.settings import Dtype
from polyvec.types import TASKS, Embeddings, Input, UnreadableInputs

Side = Literal["query", "document"]

# Of what this process may take from LlamaIndex's ingestion caches: another one after images were embedded that those
# caches cannot tell apart.
_GENERATION: list[str] = []
_OF_LOADING = ("revision", "device", "dtype", "token_budget", "max_pixels", "cache_folder")


class UnreadableNodes(ValueError):  # noqa: N818 — it names the nodes, and callers read them
    """Some nodes could not be embedded; every other one was, and has its embedding.

    Attributes:
        failed: id of each such node → what is wrong with it.
    """

    def __init__(self, failed: Mapping[str, str], total: int) -> None:
        self.failed, self.total = dict(failed), total
        shown = "; ".join(f"node {key!r}: {reason}" for key, reason in list(self.failed.items())[:5])
        more = f"; and {len(self.failed) - 5} more" if len(self.failed) > 5 else ""
        super().__init__(f"{len(self.failed)} of {total} nodes could not be embedded. {shown}{more}.")

    def __reduce__(self) -> tuple[type["UnreadableNodes"], tuple[object, ...]]:
        return type(self), (self.failed, self.total)


class PolyvecEmbedding(MultiModalEmbedding):
    """Texts, images and pages in one space, by jina-embeddings-v4.

    `get_query_embedding` is the side that asks, `get_text_embedding` the side that is found; the model has a prompt for
    each. As a transformation it embeds image nodes by their images and others by their texts. Nothing is loaded before
    the first call; instances of the same checkpoint, device and dtype share its weights. Vectors have unit length.

    Examples:
        `pip install llama-index-embeddings-polyvec`

        ```python
        from llama_index.embeddings.polyvec import PolyvecEmbedding

        embed_model = PolyvecEmbedding(model_name="jinaai/jina-embeddings-v4", task="retrieval", dimensions=1024)
        embed_model.get_query_embedding("revenue by region")
        embed_model.get_image_embedding("page-1.png")
        ```
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())

    model_name: str = Field(
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
    cache_folder: str | None = Field(default=None, description="Where the hub's files are kept.")
    embed_batch_size: int = Field(
        default=64, gt=0, le=2048, description="Items per call; forward passes are planned by `token_budget`."
    )
    embeddings_cache: Any | None = Field(default=None, exclude=True, description="A BaseKVStore that keeps vectors.")
    client: Any = Field(  # Any: an Encoder; pydantic cannot check a protocol
        default=None,
        exclude=True,
        repr=False,
        description="A loaded `polyvec.Embedder`, a bridge, or a test double, to use instead of loading `model_name`.",
    )

    _loaded: Any = PrivateAttr(default=None)

    @classmethod
    def class_name(cls) -> str:
        return "PolyvecEmbedding"

    @field_validator("embeddings_cache")
    @classmethod
    def _sided(cls, store: Any) -> Any:
        return SidedCache(store) if isinstance(store, BaseKVStore) and not isinstance(store, SidedCache) else store

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        encoder = self.client or self._loaded
        if encoder is None:
            check_task(self.task, TASKS)
            return self
        settings.check_client(encoder)
        settings.check(encoder, task=self.task, dimensions=self.dimensions)
        given = [name for name in _OF_LOADING if getattr(self, name) not in (None, "auto")]
        if self.client is not None and given:
            raise ValueError(f"`{given[0]}` has no effect on a `client` that is loaded already.")
        if self.client is not None and "model_name" not in self.model_fields_set:
            self.model_name = encoder.fingerprint  # it is part of what LlamaIndex's caches know of a transformation
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
        if self._loaded is None:
            with settings.LOADING:
                if self._loaded is None:
                    self._loaded = self._load()
        return cast("Encoder", self._loaded)

    def with_task(self, task: str) -> Self:
        """The same embedding for another task, on the same weights.

        Raises:
            ValueError: the model has no such task.
        """
        given = {name: getattr(self, name) for name in self.model_fields_set}
        other = type(self)(**given | {"task": task})
        other._loaded = self._loaded  # noqa: SLF001 — of this class
        if self._loaded is not None:
            settings.check(self._loaded, task=task, dimensions=self.dimensions)
        return other

    def to_payload(self) -> dict[str, Any]:
        """What is told to those who watch."""
        return super().to_payload() | {"task": self.task, "dimensions": self.dimensions}

    def get_query_multi_vector(self, query: str | QueryBundle) -> Float32[np.ndarray, "tokens dim"]:
        """The multi-vector of a query: one unit row per token. Score it with `polyvec.maxsim`."""
        return _rows(self._encode("query", [_asked(query)], multivector=True))[0]

    def get_text_multi_vectors(self, texts: Sequence[str]) -> list[Float32[np.ndarray, "_ dim"]]:
        """The multi-vectors of texts, the side that is found."""
        return _rows(self._encode("document", _texts(texts), multivector=True))

    def get_image_multi_vectors(self, images: Sequence[ImageLike]) -> list[Float32[np.ndarray, "_ dim"]]:
        """The multi-vectors of images: of each, one unit row per patch and some around them.

        Raises:
            TypeError: an item is no image.
            polyvec.UnreadableInputs: images that cannot be read; it carries the embeddings of the others.
        """
        return _rows(self._encode_images(images, multivector=True))

    async def aget_query_multi_vector(self, query: str | QueryBundle) -> Float32[np.ndarray, "tokens dim"]:
        """`get_query_multi_vector`; the event loop goes on meanwhile."""
        return _rows(await self._aencode("query", [_asked(query)], multivector=True))[0]

    async def aget_text_multi_vectors(self, texts: Sequence[str]) -> list[Float32[np.ndarray, "_ dim"]]:
        """`get_text_multi_vectors`; the event loop goes on meanwhile."""
        return _rows(await self._aencode("document", _texts(texts), multivector=True))

    async def aget_image_multi_vectors(self, images: Sequence[ImageLike]) -> list[Float32[np.ndarray, "_ dim"]]:
        """`get_image_multi_vectors`; the event loop goes on meanwhile."""
        return await asyncio.to_thread(self.get_image_multi_vectors, images)

    def get_image_embedding_batch(
        self,
        img_file_paths: Sequence[ImageLike],  # what else than a path may be an image; the name is the base class's
        show_progress: bool = False,  # noqa: FBT001, FBT002 — as in the base class
    ) -> list[Embedding]:
        """The vectors of images, for both sides of a search.

        Args:
            img_file_paths: paths, `file:` URLs, bytes, streams, PIL images, numpy arrays, nodes with an image. Nothing
                is fetched: pass `polyvec.images.fetch(url)`.
            show_progress: show a progress bar.

        Raises:
            TypeError: an item is no image.
            polyvec.UnreadableInputs: images that cannot be read; it carries the embeddings of the others.
        """
        found: list[Embeddings] = []
        kept: list[int] = []
        failed: dict[int, str] = {}
        size = self.embed_batch_size
        payload: dict[str, Any] = {EventPayload.SERIALIZED: self.to_payload()}
        starts = range(0, len(img_file_paths), size)
        for start in get_tqdm_iterable(starts, show_progress, "Generating image embeddings"):
            batch = img_file_paths[start : start + size]
            with self.callback_manager.event(CBEventType.EMBEDDING, payload=payload) as event:
                try:
                    embeddings, places = self._encode_images(batch), list(range(len(batch)))
                except UnreadableInputs as error:
                    embeddings, places = error.embeddings, error.kept
                    failed |= {start + index: reason for index, reason in error.reasons.items()}
                found.append(embeddings)
                kept += [start + index for index in places]
                told: dict[str, Any] = {EventPayload.CHUNKS: [_told(one) for one in batch]}
                event.on_end(payload=told | {EventPayload.EMBEDDINGS: _dense(embeddings)})
        if failed:
            dense = np.concatenate([one.dense for one in found])
            raise UnreadableInputs(failed, kept, Embeddings(dense, None, (None,) * len(dense)))
        return [vector for one in found for vector in _dense(one)]

    async def aget_image_embedding_batch(
        self,
        img_file_paths: Sequence[ImageLike],
        show_progress: bool = False,  # noqa: FBT001, FBT002 — as in the base class
    ) -> list[Embedding]:
        """`get_image_embedding_batch`; the event loop goes on meanwhile."""
        return await asyncio.to_thread(self.get_image_embedding_batch, img_file_paths, show_progress)

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """The settings; LlamaIndex's ingestion caches take them for all that determines what comes out."""
        return super().to_dict(**kwargs) | ({"generation": _GENERATION[0]} if _GENERATION else {})

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """An embedding by its settings."""
        return super().from_dict({key: value for key, value in data.items() if key != "generation"}, **kwargs)

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Set the embedding of each node: of its image if it has one, else of its text.

        Raises:
            UnreadableNodes: some could not be embedded; all others were.
        """
        failed: dict[str, str] = {}
        texts, images = _parted(nodes, failed)
        if any("image_sha256" not in node.get_content(MetadataMode.ALL) for node in images):
            # The cache's key is what nodes say, whatever they show: without a hash of the picture in it, what is kept
            # of these nodes must not be taken for that of others.
            _GENERATION[:] = [uuid.uuid4().hex]
        vectors = self.get_text_embedding_batch([node.get_content(MetadataMode.EMBED) for node in texts], **kwargs)
        for node, vector in zip(texts, vectors, strict=True):
            node.embedding = vector
        try:
            vectors = self.get_image_embedding_batch(images, show_progress=bool(kwargs.get("show_progress", False)))
        except UnreadableInputs as error:
            failed |= {images[index].node_id: reason for index, reason in error.reasons.items()}
            vectors, images = _dense(error.embeddings), [images[index] for index in error.kept]
        for node, vector in zip(images, vectors, strict=True):
            node.embedding = vector
        if failed:
            raise UnreadableNodes(failed, len(nodes))
        return nodes

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """`__call__`; the event loop goes on meanwhile."""
        return await asyncio.to_thread(self.__call__, nodes, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """The configuration alone: where it is unpickled, the model is loaded again."""
        state = super().__getstate__()
        return state | {"__pydantic_private__": {**(state.get("__pydantic_private__") or {}), "_loaded": None}}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()  # the weights are shared

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._cached("query", [query])[0]

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return (await self._acached("query", [query]))[0]

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._cached("document", [text])[0]

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return (await self._acached("document", [text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return self._cached("document", texts)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return await self._acached("document", texts)

    def _get_image_embedding(self, img_file_path: ImageLike) -> Embedding:
        return self._get_image_embeddings([img_file_path])[0]

    async def _aget_image_embedding(self, img_file_path: ImageLike) -> Embedding:
        return (await self._aget_image_embeddings([img_file_path]))[0]

    def _get_image_embeddings(self, img_file_paths: Sequence[ImageLike]) -> list[Embedding]:
        return _dense(self._encode_images(img_file_paths))

    async def _aget_image_embeddings(self, img_file_paths: Sequence[ImageLike]) -> list[Embedding]:
        return await asyncio.to_thread(self._get_image_embeddings, img_file_paths)

    def _cached(self, side: Side, texts: Sequence[str]) -> list[Embedding]:
        texts, cache = _texts(texts), self.embeddings_cache
        if cache is None:
            return _dense(self._encode(side, texts))
        keys = self._keys(side, texts)
        known = {key: vector for key in keys if (vector := cache.vector(key)) is not None}
        missing = _missing(keys, texts, known)
        for key, vector in zip(missing, _dense(self._encode(side, list(missing.values()))), strict=True):
            known[key] = vector
            cache.keep(key, vector)
        return [known[key] for key in keys]

    async def _acached(self, side: Side, texts: Sequence[str]) -> list[Embedding]:
        texts, cache = _texts(texts), self.embeddings_cache
        if cache is None:
            return _dense(await self._aencode(side, texts))
        keys = await asyncio.to_thread(self._keys, side, texts)
        known = {key: vector for key in keys if (vector := await cache.avector(key)) is not None}
        missing = _missing(keys, texts, known)
        for key, vector in zip(missing, _dense(await self._aencode(side, list(missing.values()))), strict=True):
            known[key] = vector
            await cache.akeep(key, vector)
        return [known[key] for key in keys]

    def _keys(self, side: Side, texts: Sequence[str]) -> list[str]:
        size = self.dimensions or self.encoder.dim
        return [f"{self.encoder.fingerprint} {self.task} {size} {side} {text}" for text in texts]

    def _load(self) -> Encoder:
        embedder = settings.load(
            self.model_name,
            dtype=self.dtype,
            revision=self.revision,
            device=self.device,
            max_pixels=self.max_pixels,
            token_budget=self.token_budget,
            cache_dir=self.cache_folder,
        )
        settings.check(embedder, task=self.task, dimensions=self.dimensions)
        return embedder

    def _options(self, *, multivector: bool) -> dict[str, Any]:
        return {"task": self.task, "truncate_dim": self.dimensions, "multivector": multivector}

    def _encode(self, side: Side, inputs: Sequence[Input], *, multivector: bool = False) -> Embeddings:
        encoder = self.encoder
        call = encoder.encode_query if side == "query" else encoder.encode_document
        return call(inputs, **self._options(multivector=multivector))

    async def _aencode(self, side: Side, inputs: Sequence[Input], *, multivector: bool = False) -> Embeddings:
        encoder = self.client or self._loaded or await asyncio.to_thread(lambda: self.encoder)
        acall = getattr(encoder, f"aencode_{side}", None)
        if acall is None:
            return await asyncio.to_thread(self._encode, side, inputs, multivector=multivector)
        found: Embeddings = await acall(inputs, **self._options(multivector=multivector))
        return found

    def _encode_images(self, images: Sequence[ImageLike], *, multivector: bool = False) -> Embeddings:
        return settings.encode_each(partial(self._encode, "document", multivector=multivector), images, image_input)


def _parted(nodes: Sequence[BaseNode], failed: dict[str, str]) -> tuple[list[BaseNode], list[BaseNode]]:
    """The nodes that are texts, and those that are images; those that are neither have failed."""
    texts, images = [], []
    for node in nodes:
        if has_image(node):
            images.append(node)
        elif node.get_content(MetadataMode.EMBED):
            texts.append(node)
        else:
            failed[node.node_id] = "it has neither text nor image"
    return texts, images


def _missing(keys: Sequence[str], texts: Sequence[str], known: Mapping[str, Embedding]) -> dict[str, str]:
    return {key: text for key, text in zip(keys, texts, strict=True) if key not in known}


def _asked(query: str | QueryBundle) -> Input:
    """What a query is: its text, or its image if it has no text."""
    words = query.query_str if isinstance(query, QueryBundle) else query
    if not isinstance(words, str):
        raise TypeError(f"the query is a {type(words).__name__}; an image goes to `get_image_multi_vectors`.")
    if not words and isinstance(query, QueryBundle) and query.image_path is not None:
        return image_input(query.image_path)
    return words


def _told(image: ImageLike) -> str:
    """What those who watch are told of an image; some of them count its words."""
    if isinstance(image, BaseNode):
        return image.node_id
    return str(image) if isinstance(image, str | Path) else type(image).__name__


def _texts(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise TypeError("`texts` is one string; give a list of them.")
    listed = list(texts)
    for index, text in enumerate(listed):
        if not isinstance(text, str):
            raise TypeError(f"text {index} is a {type(text).__name__}; images go to `get_image_embedding_batch`.")
    return listed


def _dense(embeddings: Embeddings) -> list[Embedding]:
    rows: list[Embedding] = embeddings.dense.tolist()
    return rows


def _rows(embeddings: Embeddings) -> list[np.ndarray]:
    if embeddings.multivector is None:
        raise ValueError("this embedder makes no multi-vectors.")
    return list(embeddings.multivector)
