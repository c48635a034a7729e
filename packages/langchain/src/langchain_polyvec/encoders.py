"""Use any `Embeddings` of LangChain as a `polyvec.Encoder`."""

from collections.abc import Iterable
from typing import Unpack

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_polyvec.embeddings import PolyvecEmbeddings
from polyvec import EncodeOptions, Encoder, types
from polyvec.inputs import check_options, check_side, check_tasks, checked_items
from polyvec.types import TASKS, Input, Side, UnreadableInputs

_MODEL_FIELDS = ("model", "model_name", "model_id", "deployment")  # fields by which embedding classes name a model


class DenseEncoder(Encoder):
    """Encode texts, one dense vector each, by an `Embeddings` that is not polyvec's.

    The fingerprint consists of the class, the model's name and the length of the vectors; nothing else is known.
    """

    multivector_dim = 0

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings
        inner = unwrapped(embeddings)
        self.dim = len(embeddings.embed_query("length"))
        self.sizes, self.license = (self.dim,), ""
        self.tasks: tuple[str, ...] = TASKS
        if isinstance(inner, PolyvecEmbeddings):
            self.fingerprint, self.tasks = inner.cache_namespace, (inner.task,)
        else:
            model = next((str(getattr(inner, name)) for name in _MODEL_FIELDS if getattr(inner, name, None)), "")
            self.fingerprint = f"{type(inner).__name__}-{model}-{self.dim}"

    def encode(
        self, inputs: Iterable[Input], *, side: Side, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> types.Embeddings:
        """Embed the texts; see `polyvec.Encoder.encode`. Images are reported as unreadable."""
        check_side(side)
        check_options(options, EncodeOptions.__annotations__, "truncate_dim", "multivector", "max_length", "max_pixels")
        items = checked_items(inputs)
        check_tasks(task, len(items), self.tasks)
        texts = {index: item for index, item in enumerate(items) if isinstance(item, str)}
        dense = np.asarray(self._vectors(list(texts.values()), side), np.float32).reshape(len(texts), self.dim)
        embeddings = types.Embeddings(dense, None, (None,) * len(texts), self.fingerprint)
        if len(texts) < len(items):
            reason = f"{type(self._embeddings).__name__} embeds texts only; PolyvecEmbeddings embeds images, too"
            raise UnreadableInputs({n: reason for n in range(len(items)) if n not in texts}, list(texts), embeddings)
        return embeddings

    def _vectors(self, texts: list[str], side: Side) -> list[list[float]]:
        if side == "query":
            return [self._embeddings.embed_query(text) for text in texts]
        return self._embeddings.embed_documents(texts) if texts else []


def encoder_of(embeddings: Embeddings) -> Encoder:
    """Return the encoder of a `PolyvecEmbeddings`, or a `DenseEncoder` on any other embedding."""
    return embeddings.encoder if isinstance(embeddings, PolyvecEmbeddings) else DenseEncoder(embeddings)


def task_of(embeddings: Embeddings) -> str:
    """Return the task that the vectors are for."""
    inner = unwrapped(embeddings)
    return inner.task if isinstance(inner, PolyvecEmbeddings) else "retrieval"


def unwrapped(embeddings: Embeddings) -> Embeddings:
    """Return the embedding behind a cache such as `CacheBackedEmbeddings`."""
    while isinstance(inner := getattr(embeddings, "underlying_embeddings", None), Embeddings):
        embeddings = inner
    return embeddings
