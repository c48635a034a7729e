"""Any `Embeddings` of LangChain as the store sees an embedder."""

from collections.abc import Callable, Iterable, Sequence
from typing import Unpack

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_polyvec.embeddings import PolyvecEmbeddings
from polyvec import EncodeOptions, Encoder, types
from polyvec.inputs import check_side, check_tasks, checked_items, refuse_options
from polyvec.types import TASKS, Input, Side, UnreadableInputs

_NAMES = ("model", "model_name", "model_id", "deployment")  # of the field that says which model it is


class DenseEncoder(Encoder):
    """Texts only, one vector each, of an `Embeddings` that is not polyvec's.

    Its fingerprint is made of the class, the model's name and the length of the vectors: all that can be known of it.
    """

    multivector_dim = 0

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings
        inner = _inner(embeddings)
        self.dim = len(embeddings.embed_query("length"))
        self.sizes, self.license = (self.dim,), ""
        self.tasks: tuple[str, ...] = TASKS
        if isinstance(inner, PolyvecEmbeddings):
            self.fingerprint, self.tasks = inner.cache_namespace, (inner.task,)
        else:
            model = next((str(getattr(inner, name)) for name in _NAMES if getattr(inner, name, None)), "")
            self.fingerprint = f"{type(inner).__name__}-{model}-{self.dim}"

    def encode(
        self, inputs: Iterable[Input], *, side: Side, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> types.Embeddings:
        """Embed the texts; see `polyvec.Encoder.encode`. Images are reported as unreadable."""
        check_side(side)
        refuse_options(type(self).__name__, options, "truncate_dim", "multivector", "max_length", "max_pixels")
        items = checked_items(inputs)
        check_tasks(task, len(items), self.tasks)
        if side == "document":
            return self._of(items, self._embeddings.embed_documents)
        return self._of(items, lambda texts: [self._embeddings.embed_query(text) for text in texts])

    def _of(self, inputs: Sequence[Input], embed: Callable[[list[str]], list[list[float]]]) -> types.Embeddings:
        texts = {index: one for index, one in enumerate(inputs) if isinstance(one, str)}
        vectors = embed(list(texts.values())) if texts else []
        dense = np.asarray(vectors, np.float32).reshape(len(texts), self.dim)
        embeddings = types.Embeddings(dense, None, (None,) * len(texts))
        if len(texts) < len(inputs):
            reason = f"{type(self._embeddings).__name__} embeds texts only; PolyvecEmbeddings embeds images, too"
            raise UnreadableInputs({n: reason for n in range(len(inputs)) if n not in texts}, list(texts), embeddings)
        return embeddings


def encoder_of(embeddings: Embeddings) -> Encoder:
    """What makes the vectors of a store."""
    return embeddings.encoder if isinstance(embeddings, PolyvecEmbeddings) else DenseEncoder(embeddings)


def task_of(embeddings: Embeddings) -> str:
    """What the vectors are for."""
    inner = _inner(embeddings)
    return inner.task if isinstance(inner, PolyvecEmbeddings) else "retrieval"


def _inner(embeddings: Embeddings) -> Embeddings:
    """The embeddings that a cache stands before."""
    while isinstance(inner := getattr(embeddings, "underlying_embeddings", None), Embeddings):
        embeddings = inner
    return embeddings
