"""Any `Embeddings` of LangChain as the store sees an embedder."""

from collections.abc import Sequence

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_polyvec.embeddings import PolyvecEmbeddings
from polyvec import types
from polyvec.types import AnyTask, Encoder, Input

_NAMES = ("model", "model_name", "model_id", "deployment")  # of the field that says which model it is


class DenseEncoder:
    """Texts only, one vector each, of an `Embeddings` that is not polyvec's.

    Its fingerprint is made of the class, the model's name and the length of the vectors: all that can be known of it.
    """

    multivector_dim = 0

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings
        inner = getattr(embeddings, "underlying_embeddings", embeddings)  # of a cache
        model = next((str(getattr(inner, name)) for name in _NAMES if getattr(inner, name, None)), "")
        self.dim = len(embeddings.embed_query("length"))
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
        return self._of([self._embeddings.embed_query(text) for text in self._texts(inputs)])

    def encode_document(
        self,
        inputs: Sequence[Input],
        *,
        task: AnyTask,  # noqa: ARG002 — as above
        truncate_dim: int | None = None,  # noqa: ARG002
        multivector: bool = False,  # noqa: ARG002
        show_progress: bool = False,  # noqa: ARG002
    ) -> types.Embeddings:
        texts = self._texts(inputs)
        return self._of(self._embeddings.embed_documents(texts) if texts else [])

    def _texts(self, inputs: Sequence[Input]) -> list[str]:
        texts = [one for one in inputs if isinstance(one, str)]
        if len(texts) < len(inputs):
            raise TypeError(
                f"{type(self._embeddings).__name__} embeds texts only; PolyvecEmbeddings embeds images, too."
            )
        return texts

    def _of(self, vectors: list[list[float]]) -> types.Embeddings:
        dense = np.asarray(vectors, np.float32).reshape(len(vectors), self.dim)
        return types.Embeddings(dense, None, (None,) * len(vectors))


def encoder_of(embeddings: Embeddings) -> Encoder:
    """What makes the vectors of a store."""
    return embeddings.encoder if isinstance(embeddings, PolyvecEmbeddings) else DenseEncoder(embeddings)
