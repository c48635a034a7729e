"""Any `Embeddings` of LangChain as the store sees an embedder."""

from collections.abc import Callable, Sequence

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_polyvec.embeddings import PolyvecEmbeddings
from polyvec import types
from polyvec.types import TASKS, AnyTask, Encoder, Input, UnreadableInputs

_NAMES = ("model", "model_name", "model_id", "deployment")  # of the field that says which model it is


class DenseEncoder:
    """Texts only, one vector each, of an `Embeddings` that is not polyvec's.

    Its fingerprint is made of the class, the model's name and the length of the vectors: all that can be known of it.
    """

    multivector_dim = 0

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings
        inner = _inner(embeddings)
        self.dim = len(embeddings.embed_query("length"))
        self.tasks: tuple[str, ...] = TASKS
        if isinstance(inner, PolyvecEmbeddings):
            self.fingerprint, self.tasks = inner.cache_namespace, (inner.task,)
        else:
            model = next((str(getattr(inner, name)) for name in _NAMES if getattr(inner, name, None)), "")
            self.fingerprint = f"{type(inner).__name__}-{model}-{self.dim}"

    def encode_query(
        self,
        inputs: Sequence[Input],
        *,
        task: AnyTask,  # noqa: ARG002 — the Encoder protocol has it, as the next three
        truncate_dim: int | None = None,  # noqa: ARG002
        multivector: bool = False,  # noqa: ARG002
        show_progress: bool = False,  # noqa: ARG002
    ) -> types.Embeddings:
        return self._of(inputs, lambda texts: [self._embeddings.embed_query(text) for text in texts])

    def encode_document(
        self,
        inputs: Sequence[Input],
        *,
        task: AnyTask,  # noqa: ARG002 — as above
        truncate_dim: int | None = None,  # noqa: ARG002
        multivector: bool = False,  # noqa: ARG002
        show_progress: bool = False,  # noqa: ARG002
    ) -> types.Embeddings:
        return self._of(inputs, self._embeddings.embed_documents)

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


def task_of(embeddings: Embeddings) -> AnyTask:
    """What the vectors are for."""
    inner = _inner(embeddings)
    return inner.task if isinstance(inner, PolyvecEmbeddings) else "retrieval"


def _inner(embeddings: Embeddings) -> Embeddings:
    """The embeddings that a cache stands before."""
    while isinstance(inner := getattr(embeddings, "underlying_embeddings", None), Embeddings):
        embeddings = inner
    return embeddings
