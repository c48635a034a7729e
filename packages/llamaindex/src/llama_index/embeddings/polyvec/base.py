"""Texts and images as vectors, for everything in LlamaIndex that takes an embedding."""

import asyncio
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float32
from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr, model_validator
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import BaseNode, MetadataMode, QueryBundle
from llama_index.core.storage.kvstore.types import BaseKVStore
from llama_index.core.utils import get_tqdm_iterable

from llama_index.embeddings.polyvec.images import ImageLike, has_image, image_input
from llama_index.embeddings.polyvec.watching import WatchedEncoder, embedding_event
from polyvec import Attempt, Embeddings, Failure, Input, Side, SomeFailed, UnreadableInputs, attempt
from polyvec.encoder import in_thread
from polyvec.frameworks import MODEL, EmbedderSettings, checked_texts, dense_rows, multivectors

# Part of the key of LlamaIndex's ingestion cache, by settings of a transformation in this process. It changes with
# images that the cache could confuse.
_CACHE_TOKENS: dict[str, dict[str, str]] = {}
_COLLECTION = "embeddings"  # where LlamaIndex's own classes keep vectors in a cache

_texts = partial(checked_texts, images_to="get_image_embedding_batch")


def tell_images_apart(nodes: Sequence[BaseNode], settings: Mapping[str, Any]) -> None:
    """Keep the ingestion cache from confusing images that no hash in the metadata tells apart.

    LlamaIndex's cache compares the texts of nodes and `to_dict`, so with such images no transformation of these
    settings may reuse the result of this call.
    """
    if any(has_image(node) and "image_sha256" not in node.get_content(MetadataMode.ALL) for node in nodes):
        _CACHE_TOKENS[repr(settings)] = {"cache_token": uuid.uuid4().hex}


def cache_token(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return what `to_dict` adds to the settings of a transformation, so that the cache tells images apart."""
    return _CACHE_TOKENS.get(repr(settings), {})


class UnreadableNodes(SomeFailed):
    """Some nodes could not be embedded. Every other node has its embedding.

    Attributes:
        failures: the nodes without an embedding; `source` is a node's id.
    """

    def __init__(self, failures: Sequence[Failure], total: int) -> None:
        super().__init__(failures, total, happened="nodes could not be embedded")


class QueryEmbedding(list[float]):
    """The embedding of a query, which remembers its task and model: a store tells by them what it cannot compare."""

    def __init__(self, vector: Sequence[float], embed_model: "PolyvecEmbedding") -> None:
        super().__init__(vector)
        self.task, self.fingerprint = embed_model.task, embed_model.encoder.fingerprint

    def __reduce__(self) -> tuple[type[list[float]], tuple[list[float]]]:
        return list, (list(self),)


class PolyvecEmbedding(EmbedderSettings, MultiModalEmbedding):
    """Texts, images and pages in one space, by jina-embeddings-v4.

    `get_query_embedding` encodes what searches, `get_text_embedding` what is searched; the model has a prompt for each.
    As a transformation, the embedding encodes the image of a node that has one, and the text of any other node. Nothing
    is loaded before the first call; instances of the same checkpoint, device and dtype share its weights. Vectors have
    unit length.

    Examples:
        `pip install llama-index-embeddings-polyvec`

        ```python
        from llama_index.embeddings.polyvec import PolyvecEmbedding

        embed_model = PolyvecEmbedding(model_name="jinaai/jina-embeddings-v4", task="retrieval", dimensions=1024)
        embed_model.get_query_embedding("revenue by region")
        embed_model.get_image_embedding("page-1.png")
        ```
    """

    model_name: str = MODEL
    embed_batch_size: int = Field(
        default=64, gt=0, le=2048, description="Items per call; forward passes are planned by `token_budget`."
    )
    embeddings_cache: Any | None = Field(
        default=None,
        exclude=True,
        description="A BaseKVStore for vectors of texts; the attribute itself is always None.",
    )

    _cache: BaseKVStore | None = PrivateAttr(default=None)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field. A cache goes to this class: the base class would mix queries, documents and tasks in it."""
        super().__setattr__("_cache" if name == "embeddings_cache" and value is not None else name, value)

    @classmethod
    def class_name(cls) -> str:
        return "PolyvecEmbedding"

    @property
    def watched(self) -> WatchedEncoder:
        """The encoder for a store, a retriever or a re-ranker: each call is an event of LlamaIndex."""
        return WatchedEncoder(self)

    @property
    def checkpoint(self) -> str:
        return self.model_name

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        # The base class would keep queries and documents under the same key, the bare text. Without a cache of its own
        # it leaves caching to this class.
        if self.embeddings_cache is not None:
            self._cache, self.embeddings_cache = self.embeddings_cache, None
        if self.client is not None and "model_name" not in self.model_fields_set:
            self.model_name = self.client.fingerprint  # the ingestion cache tells models apart by it
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy with other settings, which are checked. Weights and cache are shared."""
        return super().model_copy(update={"embeddings_cache": self._cache, **(update or {})}, deep=deep)

    def to_payload(self) -> dict[str, Any]:
        """Describe the embedding to event handlers."""
        return super().to_payload() | {"task": self.task, "dimensions": self.dimensions}

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Return the settings. LlamaIndex's ingestion cache takes them for all that determines the vectors."""
        settings = super().to_dict(**kwargs)
        return settings | cache_token(settings)

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """Make an embedding from the settings that `to_dict` returns."""
        return super().from_dict({key: value for key, value in data.items() if key != "cache_token"}, **kwargs)

    def get_query_multi_vector(self, query: str | QueryBundle) -> Float32[np.ndarray, "tokens dim"]:
        """Encode a query as a multi-vector: one unit row per token. Score it with `polyvec.maxsim`.

        The query is the text of a `QueryBundle`, or its image if it has no text.
        """
        return multivectors(self.watched.encode_query([_query_input(query)], task=self.task, multivector=True))[0]

    def get_text_multi_vectors(self, texts: Sequence[str]) -> list[Float32[np.ndarray, "_ dim"]]:
        """Encode texts as multi-vectors of documents."""
        return multivectors(self.watched.encode_document(_texts(texts), task=self.task, multivector=True))

    def get_image_multi_vectors(self, images: Sequence[ImageLike]) -> list[Float32[np.ndarray, "_ dim"]]:
        """Encode images as multi-vectors: one unit row per patch, and some around the patches.

        Raises:
            TypeError: an item is no image.
            polyvec.UnreadableInputs: images that cannot be read; it carries the embeddings of the others.
        """
        encode = partial(self.watched.encode_document, task=self.task, multivector=True)
        return multivectors(attempt(encode, images, image_input).result())

    async def aget_query_multi_vector(self, query: str | QueryBundle) -> Float32[np.ndarray, "tokens dim"]:
        """`get_query_multi_vector` in a thread."""
        return await in_thread(self.get_query_multi_vector, query)

    async def aget_text_multi_vectors(self, texts: Sequence[str]) -> list[Float32[np.ndarray, "_ dim"]]:
        """`get_text_multi_vectors` in a thread."""
        return await in_thread(self.get_text_multi_vectors, texts)

    async def aget_image_multi_vectors(self, images: Sequence[ImageLike]) -> list[Float32[np.ndarray, "_ dim"]]:
        """`get_image_multi_vectors` in a thread."""
        return await asyncio.to_thread(self.get_image_multi_vectors, images)

    def get_image_embedding(self, img_file_path: ImageLike) -> Embedding:
        """Encode an image; see `get_image_embedding_batch`."""
        return self.get_image_embedding_batch([img_file_path])[0]

    async def aget_image_embedding(self, img_file_path: ImageLike) -> Embedding:
        """`get_image_embedding` in a thread."""
        return await asyncio.to_thread(self.get_image_embedding, img_file_path)

    def get_image_embedding_batch(
        self,
        img_file_paths: Sequence[ImageLike],  # images in any form; the name is the base class's
        show_progress: bool = False,  # noqa: FBT001, FBT002 — as in the base class
    ) -> list[Embedding]:
        """Encode images, for both sides of a search.

        Args:
            img_file_paths: paths, `file:` and `data:` URIs, bytes, streams, PIL images, numpy arrays, nodes with an
                image. Nothing is fetched: pass `polyvec.images.fetch(url)`.
            show_progress: show a progress bar.

        Raises:
            TypeError: an item is no image.
            polyvec.UnreadableInputs: images that cannot be read; it carries the embeddings of the others.
        """
        batches = list(self._image_batches(img_file_paths, show_progress=show_progress))
        reasons = {start + failure.index: failure.reason for start, batch in batches for failure in batch.failures}
        if reasons:
            kept = [start + index for start, batch in batches for index in batch.kept]
            encoded = Embeddings.concatenate(batch.embeddings for _, batch in batches)
            raise UnreadableInputs(reasons, kept, encoded)
        return [vector for _, batch in batches for vector in dense_rows(batch.embeddings)]

    async def aget_image_embedding_batch(
        self,
        img_file_paths: Sequence[ImageLike],
        show_progress: bool = False,  # noqa: FBT001, FBT002 — as in the base class
    ) -> list[Embedding]:
        """`get_image_embedding_batch` in a thread."""
        return await asyncio.to_thread(self.get_image_embedding_batch, img_file_paths, show_progress)

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Set the embedding of each node: of its image if it has one, else of its text.

        Raises:
            UnreadableNodes: some nodes could not be embedded. All others have their embeddings.
        """
        images = [index for index, node in enumerate(nodes) if has_image(node)]
        texts = {index: node.get_content(MetadataMode.EMBED) for index, node in enumerate(nodes) if not has_image(node)}
        reasons: dict[int, str] = {}
        tell_images_apart(nodes, super().to_dict())
        vectors = self.get_text_embedding_batch(list(texts.values()), **kwargs)
        for index, vector in zip(texts, vectors, strict=True):
            nodes[index].embedding = vector
        show_progress = bool(kwargs.get("show_progress"))
        for start, batch in self._image_batches([nodes[index] for index in images], show_progress=show_progress):
            for index, vector in zip(batch.kept, dense_rows(batch.embeddings), strict=True):
                nodes[images[start + index]].embedding = vector
            reasons |= {images[start + failure.index]: failure.reason for failure in batch.failures}
        if reasons:
            failures = [Failure(index, nodes[index].node_id, reason) for index, reason in sorted(reasons.items())]
            raise UnreadableNodes(failures, len(nodes))
        return nodes

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """`__call__` in a thread."""
        return await asyncio.to_thread(self.__call__, nodes, **kwargs)

    def get_agg_embedding_from_queries(
        self, queries: list[str], agg_fn: Callable[..., Embedding] | None = None
    ) -> Embedding:
        """Get the mean of the embeddings of several queries, or what `agg_fn` makes of them."""
        return QueryEmbedding(super().get_agg_embedding_from_queries(queries, agg_fn), self)

    async def aget_agg_embedding_from_queries(
        self, queries: list[str], agg_fn: Callable[..., Embedding] | None = None
    ) -> Embedding:
        """`get_agg_embedding_from_queries` without blocking the event loop."""
        return QueryEmbedding(await super().aget_agg_embedding_from_queries(queries, agg_fn), self)

    def _get_query_embedding(self, query: str) -> Embedding:
        return QueryEmbedding(self._embed("query", [query])[0], self)

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return QueryEmbedding((await self._aembed("query", [query]))[0], self)

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._embed("document", [text])[0]

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return (await self._aembed("document", [text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return self._embed("document", texts)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return await self._aembed("document", texts)

    def _get_image_embedding(self, img_file_path: ImageLike) -> Embedding:
        return self._get_image_embeddings([img_file_path])[0]

    async def _aget_image_embedding(self, img_file_path: ImageLike) -> Embedding:
        return (await self._aget_image_embeddings([img_file_path]))[0]

    def _get_image_embeddings(self, img_file_paths: Sequence[ImageLike]) -> list[Embedding]:
        return dense_rows(self._encode_each(img_file_paths, image_input))

    async def _aget_image_embeddings(self, img_file_paths: Sequence[ImageLike]) -> list[Embedding]:
        return await asyncio.to_thread(self._get_image_embeddings, img_file_paths)

    def _image_batches(self, images: Sequence[ImageLike], *, show_progress: bool) -> Iterator[tuple[int, Attempt]]:
        """Encode images batch by batch, with an event for each; yields where a batch starts, and its embeddings."""
        starts = range(0, len(images), self.embed_batch_size)
        for start in get_tqdm_iterable(starts, show_progress, "Generating image embeddings"):
            images_of_batch = images[start : start + self.embed_batch_size]
            with embedding_event(self, [_description(image) for image in images_of_batch]) as encoded:
                batch = attempt(partial(self._encode, "document"), images_of_batch, image_input)
                encoded.append(batch.embeddings)
            yield start, batch

    def _embed(self, side: Side, texts: Sequence[str]) -> list[Embedding]:
        """Encode texts, or take their vectors from the cache."""
        texts, cache = _texts(texts), self._cache
        if cache is None:
            return dense_rows(self._encode(side, texts))
        prefix = f"{self.encoder.fingerprint} {self.task} {self.dimensions or self.encoder.dim} {side}"
        keys = [f"{prefix} {text}" for text in texts]
        entries = {key: cache.get(key, collection=_COLLECTION) for key in keys}
        vectors = {key: next(iter(entry.values())) for key, entry in entries.items() if entry}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in vectors}
        for key, vector in zip(missing, dense_rows(self._encode(side, list(missing.values()))), strict=True):
            vectors[key] = vector
            cache.put(key, {"embedding": vector}, collection=_COLLECTION)
        return [vectors[key] for key in keys]

    async def _aembed(self, side: Side, texts: Sequence[str]) -> list[Embedding]:
        if self._cache is None:
            return dense_rows(await self._aencode(side, _texts(texts)))
        return await asyncio.to_thread(self._embed, side, texts)


def _query_input(query: str | QueryBundle) -> Input:
    text = query.query_str if isinstance(query, QueryBundle) else query
    if not isinstance(text, str):
        raise TypeError(f"the query is a {type(text).__name__}; an image goes to `get_image_multi_vectors`.")
    if not text and isinstance(query, QueryBundle) and query.image_path is not None:
        return image_input(query.image_path)
    return text


def _description(image: ImageLike) -> str:
    """Name an image for event handlers. Some of them count its words."""
    if isinstance(image, BaseNode):
        return image.node_id
    is_data = isinstance(image, str) and image.startswith("data:")
    return str(image) if isinstance(image, str | Path) and not is_data else type(image).__name__
