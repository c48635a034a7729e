"""Late-interaction re-ranking of documents that any store has found."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field, field_validator

from langchain_polyvec.embeddings import PolyvecEmbeddings
from langchain_polyvec.images import IMAGE_URI, found_again
from polyvec.images import open_image
from polyvec.scoring import maxsim
from polyvec.settings import encode_each
from polyvec.types import Input, UnreadableInputs


class PolyvecRerank(BaseDocumentCompressor):
    """Orders documents by MaxSim between the multi-vectors of the query and of each document, text or image.

    Setup:
        ```bash
        pip install langchain-polyvec
        ```

    Key init args:
        embeddings: makes the multi-vectors.
        top_n: how many documents are kept.
        vectorstore: a `PolyvecVectorStore` whose stored multi-vectors are taken for documents that are in it; others
            are encoded.

    Instantiate:
        ```python
        from langchain_polyvec import PolyvecEmbeddings, PolyvecRerank

        rerank = PolyvecRerank(embeddings=PolyvecEmbeddings(model="demo"), top_n=3)
        ```

    Usage:
        ```python
        rerank.compress_documents(documents, "revenue by region")
        ```

    A document with `image_uri` in its metadata is an image, or else its thumbnail; others are texts. The documents that
    are returned are copies with `metadata["relevance_score"]`: MaxSim per query token on a scale from 0 to 1, as the
    relevance scores of `PolyvecVectorStore`. One whose image cannot be read counts by its text; if it
    has none, it comes last, with a warning.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    embeddings: PolyvecEmbeddings
    top_n: int = Field(default=3, gt=0)
    vectorstore: Any = Field(default=None, repr=False)  # Any: a PolyvecVectorStore, which needs the extra `qdrant`

    @field_validator("vectorstore")
    @classmethod
    def _is_ours(cls, store: Any) -> Any:
        if store is not None and not hasattr(store, "has_multivectors"):
            raise ValueError(f"a {type(store).__name__} keeps no multi-vectors; leave `vectorstore` out.")
        return store

    def compress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,  # noqa: ARG002 — the interface has it; nothing is run here
    ) -> Sequence[Document]:
        """The `top_n` documents, best first."""
        if not documents:
            return []
        asked = self.embeddings.embed_query_multi_vector(query)
        rows = self._stored(documents)
        rows |= self._encoded({index: one for index, one in enumerate(documents) if index not in rows})
        scores = dict.fromkeys(range(len(documents)), 0.0)
        scores |= zip(rows, _relevance(asked, list(rows.values())), strict=True)
        best = sorted(scores, key=lambda index: (index in rows, scores[index]), reverse=True)[: self.top_n]
        return [_scored(documents[index], scores[index]) for index in best]

    def _stored(self, documents: Sequence[Document]) -> dict[int, np.ndarray]:
        """The multi-vectors of documents that are in the store as they are here, by their places."""
        if self.vectorstore is None or not self.vectorstore.has_multivectors:
            return {}
        from langchain_polyvec.documents import document  # needs the extra `qdrant`, as the store that was given

        collection = self.vectorstore.collection
        there = {
            str(one.id): one
            for one in self.vectorstore.stored([one.id for one in documents if one.id is not None])
            if one.task == self.embeddings.task and one.fingerprint == self.embeddings.encoder.fingerprint
        }
        same = {
            index: there[one.id].id
            for index, one in enumerate(documents)
            if one.id in there and _is_same(one, document(there[one.id]))
        }
        vectors = collection.embeddings(list(same.values()), multivector=True)
        return {index: vectors[key].multivector[0] for index, key in same.items() if key in vectors}

    def _encoded(self, documents: Mapping[int, Document]) -> dict[int, np.ndarray]:
        """The multi-vectors of documents by their places, without those that cannot be read."""
        encode = partial(self.embeddings.encoder.encode_document, task=self.embeddings.task, multivector=True)
        places, kept = list(documents), range(len(documents))
        try:
            embeddings = encode_each(encode, list(documents.values()), _content)
        except UnreadableInputs as error:
            embeddings, kept = error.embeddings, error.kept  # type: ignore[assignment]  # both are sequences of int
            warnings.warn(
                f"{len(error.reasons)} documents could not be read and come last; the first: "
                f"{next(iter(error.reasons.values()))}.",
                stacklevel=4,
            )
        rows = embeddings.multivector
        if rows is None:
            raise ValueError("this embedder makes no multi-vectors, so it cannot re-rank.")
        return {places[place]: row for place, row in zip(kept, rows, strict=True)}


def _content(given: Document) -> Input:
    """What of a document is encoded: its image, or its text, also where the image is lost."""
    try:
        image = found_again(given.metadata, open_image)
    except ValueError:
        if given.page_content:
            return given.page_content
        raise
    return given.page_content if image is None else image


def _relevance(asked: np.ndarray, rows: list[np.ndarray]) -> list[float]:
    """MaxSim per query token on a scale from 0 to 1."""
    scores: list[float] = ((1 + maxsim([asked], rows)[0] / len(asked)) / 2).clip(0, 1).tolist()
    return scores


def _is_same(given: Document, stored: Document) -> bool:
    """Whether a document of this id is what is stored under it."""
    if IMAGE_URI in stored.metadata or IMAGE_URI in given.metadata:
        return bool(given.metadata.get(IMAGE_URI) == stored.metadata.get(IMAGE_URI))
    return given.page_content == stored.page_content


def _scored(given: Document, score: float) -> Document:
    metadata = {**copy.deepcopy(given.metadata), "relevance_score": score}
    return Document(id=given.id, page_content=given.page_content, metadata=metadata)
