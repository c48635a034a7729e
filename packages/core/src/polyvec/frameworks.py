"""What the framework packages share: an embedder by its settings, as a pydantic model. No torch."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Self, TypeVar, Unpack

import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from pydantic.json_schema import SkipJsonSchema

from polyvec import forking
from polyvec.encoder import EncodeOptions, Encoder, attempt
from polyvec.inputs import check_task
from polyvec.types import TASKS, Embeddings, Input, Side

__all__ = ["MODEL", "EmbedderSettings", "checked_texts", "dense_rows", "multivectors"]

T = TypeVar("T")

MODEL = Field(default="jinaai/jina-embeddings-v4", description="Hub id, directory, or 'demo', which is bundled.")
_LOADING = ("revision", "device", "dtype", "token_budget", "max_pixels", "cache_folder")  # for `from_pretrained`
_LOCK = forking.lock()  # for all instances: a lock in an instance would break copy and pickle


class EmbedderSettings(BaseModel):
    """An encoder by its settings, which is loaded at the first use. The base of both frameworks' embedding classes.

    Construction loads nothing. Copies share the loaded encoder. A pickle holds the settings, not the weights.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())

    revision: str | None = Field(default=None, description="Branch, tag or commit on the hub.")
    task: str = Field(default="retrieval", description="What the vectors are for; each task has its own space.")
    dimensions: int | None = Field(default=None, gt=0, description="Length of the vectors; the model's own if None.")
    device: str | tuple[str, ...] | None = Field(
        default=None, description="The first accelerator, else the CPU, if None; several have a process each."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="bfloat16 where the device computes it natively, else float32."
    )
    token_budget: int | None = Field(
        default=None, gt=0, description="Tokens per forward pass, of texts and images alike; memory grows with it."
    )
    max_pixels: int | None = Field(default=None, gt=0, description="Largest area an image is encoded at.")
    cache_folder: str | None = Field(default=None, description="Where the hub's files are kept.")
    client: SkipJsonSchema[Encoder | None] = Field(
        default=None,
        exclude=True,
        repr=False,
        description="A loaded `polyvec.Embedder`, or any other `polyvec.Encoder`, to use instead of loading a model.",
    )

    _loaded: Encoder | None = PrivateAttr(default=None)

    @property
    @abstractmethod
    def checkpoint(self) -> str:
        """Hub id, directory, or `"demo"`: the field that frameworks call differently."""

    @property
    def encoder(self) -> Encoder:
        """The encoder that makes the vectors. The first access loads it, unless there is a `client`.

        Raises:
            polyvec.CheckpointError: there is no such checkpoint.
            ValueError: the checkpoint has no such `task`, or no vectors of such `dimensions`.
        """
        encoder = self.client or self._loaded
        if encoder is None:
            with _LOCK:
                encoder = self._loaded = self._loaded or self._load()
        return encoder

    def with_task(self, task: str) -> Self:
        """Copy for another task, on the same weights.

        Raises:
            ValueError: the model has no such task.
        """
        return self.model_copy(update={"task": task})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002
        """Copy with other settings, which are checked. The loaded encoder is shared unless they change it."""
        settings = {name: getattr(self, name) for name in self.model_fields_set}
        copied = type(self)(**{**settings, **(update or {})})
        if all(getattr(copied, name) == getattr(self, name) for name in ("checkpoint", "client", *_LOADING)):
            copied._loaded = self._loaded  # noqa: SLF001 — of this class
            copied._check_settings()  # noqa: SLF001
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        return state | {"__pydantic_private__": {**(state["__pydantic_private__"] or {}), "_loaded": None}}

    @model_validator(mode="after")
    def _is_checked(self) -> Self:
        self._check_settings()
        return self

    def _check_settings(self) -> None:
        encoder = self.client or self._loaded
        if encoder is None:
            check_task(self.task, TASKS)
            return
        self._check_encoder(encoder)
        settings = [name for name in _LOADING if getattr(self, name) not in (None, "auto")]
        if self.client is not None and settings:
            raise ValueError(f"`{settings[0]}` has no effect on a `client` that is loaded already.")

    def _check_encoder(self, encoder: Encoder) -> None:
        check_task(self.task, encoder.tasks)
        if self.dimensions is None or self.dimensions in encoder.sizes:
            return
        if len(encoder.sizes) > 1:
            sizes = ", ".join(map(str, encoder.sizes))
            raise ValueError(f"`dimensions` is {self.dimensions}; this model was trained for {sizes}.")
        if self.dimensions > encoder.dim:
            raise ValueError(f"`dimensions` is {self.dimensions}; this model's vectors have {encoder.dim} numbers.")

    def _load(self) -> Encoder:
        from polyvec.embedder import Embedder  # imports torch, which a `client` may not need

        options: dict[str, Any] = {name: getattr(self, name) for name in _LOADING}
        options["cache_dir"] = options.pop("cache_folder")
        embedder = Embedder.from_pretrained(self.checkpoint, **options)
        self._check_encoder(embedder)
        return embedder

    def _options(self, options: EncodeOptions) -> EncodeOptions:
        return {"truncate_dim": self.dimensions, **options}

    def _encode(self, side: Side, inputs: Sequence[Input], **options: Unpack[EncodeOptions]) -> Embeddings:
        return self.encoder.encode(inputs, side=side, task=self.task, **self._options(options))

    async def _aencode(self, side: Side, inputs: Sequence[Input], **options: Unpack[EncodeOptions]) -> Embeddings:
        encoder = self.client or self._loaded
        if encoder is None:
            encoder = await asyncio.to_thread(lambda: self.encoder)
        encode = encoder.aencode_query if side == "query" else encoder.aencode_document
        return await encode(inputs, task=self.task, **self._options(options))

    def _encode_each(
        self, items: Sequence[T], convert: Callable[[T], Input], **options: Unpack[EncodeOptions]
    ) -> Embeddings:
        """Encode the document that `convert` makes of each item.

        Raises:
            UnreadableInputs: items that cannot be converted or read; it carries the embeddings of the others.
        """
        return attempt(partial(self._encode, "document", **options), items, convert).result()


def checked_texts(texts: Iterable[str], *, images_to: str) -> list[str]:
    """List the texts. The message of an error names `images_to`, the method that takes images.

    Raises:
        TypeError: `texts` is one string, or an item is no string.
    """
    if isinstance(texts, str):
        raise TypeError("`texts` is one string; give a list of them.")
    listed = list(texts)
    for index, text in enumerate(listed):
        if not isinstance(text, str):
            raise TypeError(f"text {index} is a {type(text).__name__}; images go to `{images_to}`.")
    return listed


def dense_rows(embeddings: Embeddings) -> list[list[float]]:
    """Convert dense vectors to lists of numbers."""
    rows: list[list[float]] = embeddings.dense.tolist()
    return rows


def multivectors(embeddings: Embeddings) -> list[Float32[np.ndarray, "_ dim"]]:
    """List the multi-vectors.

    Raises:
        ValueError: there are none.
    """
    if embeddings.multivector is None:
        raise ValueError("this embedder makes no multi-vectors.")
    return list(embeddings.multivector)
