"""What negatives are mined with: anything that searches. Here, a search of documents in memory with any `Encoder`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int
from tqdm import tqdm

from polyvec.data.documents import loaded
from polyvec.encoder import Attempt, Encoder, attempt
from polyvec.retrieval import EncodedDataset, Mode, scores
from polyvec.search import Hit, Identity
from polyvec.train.data.examples import Document, PdfPage
from polyvec.types import Embeddings, Side

__all__ = ["EncoderSearch", "Found", "document_of"]

_WINDOW = 256  # documents encoded together
_QUERIES, _DOCUMENTS = 1024, 16_384  # of a block of scores: 64 MiB
_PAGE = "page "  # begins the unit of a page, in stores


@dataclass(frozen=True, slots=True)
class Found:
    """A hit of `EncoderSearch`. Its score is a cosine in mode `dense`, else MaxSim."""

    id: Identity
    score: float


class EncoderSearch:
    """Searches documents by their vectors, which it keeps in memory. Every search is exact; no index is built.

    Attributes:
        documents: by id, as they were passed.
        failures: documents that could not be encoded, by their ids.
    """

    def __init__(
        self,
        encoder: Encoder,
        documents: Mapping[Identity, Document],
        *,
        task: str = "retrieval",
        multivector: bool | None = None,
        truncate_dim: int | None = None,
        candidates: int | None = None,
        dpi: float = 150,
        show_progress: bool = False,
    ) -> None:
        """Encode the documents.

        Args:
            encoder: makes the vectors, of queries too.
            documents: by id.
            task: of the encoder.
            multivector: keep multi-vectors, for the modes `late` and `two-stage`. Default: if the encoder makes any.
                A page of 779 tokens takes 400 KB at 128 numbers each.
            truncate_dim: cuts the dense vectors, to save memory.
            candidates: of the second stage of mode `two-stage`. Default: 100 or four times the `limit`, whichever is
                more, as in a `Collection`.
            dpi: resolution of pages of PDF files.
            show_progress: show a progress bar.
        """
        self.task, self._encoder, self._dpi, self._candidates = task, encoder, dpi, candidates
        self._truncate_dim = truncate_dim
        self._multivector = encoder.multivector_dim > 0 if multivector is None else multivector
        self.documents = documents
        self.failures: dict[Identity, str] = {}
        self._ids: list[Identity] = []
        ids = list(documents)
        dense = np.empty((len(ids), truncate_dim or encoder.dim), np.float32)  # filled in place: no second copy
        tokens: list[Float32[np.ndarray, "_ late_dim"]] = []
        with tqdm(total=len(ids), desc="Encoding", unit="document", disable=not show_progress) as bar:
            for start in range(0, len(ids), _WINDOW):
                window = ids[start : start + _WINDOW]
                result = self._encode([documents[identity] for identity in window], "document", self._multivector)
                dense[len(self._ids) : len(self._ids) + len(result.kept)] = result.embeddings.dense
                tokens += result.embeddings.multivector or ()
                self._ids += [window[index] for index in result.kept]
                self.failures |= {window[failure.index]: failure.reason for failure in result.failures}
                bar.update(len(window))
        kept = dense[: len(self._ids)]
        grids = (None,) * len(kept)
        self._vectors = Embeddings(kept, tuple(tokens) if self._multivector else None, grids, encoder.fingerprint)

    def search_batch(
        self,
        queries: Sequence[Document],
        *,
        limit: int = 5,
        mode: Mode = "two-stage",
        task: str | None = None,
    ) -> list[list[Found]]:
        """Search for each query; see `Search`.

        Raises:
            ValueError: another `task` than that of the documents, a mode that needs multi-vectors where there are
                none, or a `limit` below 1.
            UnreadableInputs: queries that cannot be read.
        """
        if task not in (None, self.task):
            raise ValueError(f"`task` is {task!r}; the documents were encoded for {self.task!r}.")
        if limit < 1:
            raise ValueError(f"`limit` is {limit}; it may be 1 or more.")
        if mode != "dense" and not self._multivector:
            raise ValueError(f"`mode` is {mode!r}; it needs multi-vectors, and there are none: use mode 'dense'.")
        vectors = self._encode(queries, "query", mode != "dense").result()
        if not self._ids:
            return [[] for _ in queries]
        found: list[list[Found]] = []
        for start in range(0, len(queries), _QUERIES):
            found += self._block(vectors[start : start + _QUERIES], limit, mode)
        return found

    def _block(self, queries: Embeddings, limit: int, mode: Mode) -> list[list[Found]]:
        if mode != "two-stage":
            return self._found(*self._best(queries, limit, mode))
        n_candidates = max(self._candidates or max(100, 4 * limit), limit)
        candidates, _ = self._best(queries, n_candidates, "dense")
        found = []
        for query, rows in zip(queries, candidates, strict=True):
            values = scores(EncodedDataset(query, self._picked(rows), [{}]), mode="late")
            order = np.lexsort((rows, -values[0]))[:limit]
            found += self._found(rows[None, order], values[:, order])
        return found

    def _best(
        self, queries: Embeddings, limit: int, mode: Mode
    ) -> tuple[Int[np.ndarray, "queries best"], Float32[np.ndarray, "queries best"]]:
        """Return the positions and scores of the best documents of each query, best first."""
        positions: np.ndarray = np.zeros((len(queries), 0), np.intp)
        values: np.ndarray = np.zeros((len(queries), 0), np.float32)
        for start in range(0, len(self._vectors), _DOCUMENTS):
            documents = self._vectors[start : start + _DOCUMENTS]
            block = scores(EncodedDataset(queries, documents, [{}] * len(queries)), mode=mode)
            places = np.broadcast_to(np.arange(start, start + len(documents)), block.shape)
            positions, values = np.hstack([positions, places]), np.hstack([values, block])
            if values.shape[1] > limit:
                top = np.argpartition(values, -limit, axis=1)[:, -limit:]
                positions, values = (np.take_along_axis(array, top, axis=1) for array in (positions, values))
        order = np.lexsort((positions, -values), axis=1)
        return np.take_along_axis(positions, order, axis=1), np.take_along_axis(values, order, axis=1)

    def _picked(self, rows: Int[np.ndarray, " rows"]) -> Embeddings:
        tokens = self._vectors.multivector
        assert tokens is not None, "checked by `search_batch`"
        dense = self._vectors.dense[rows]
        return Embeddings(dense, tuple(tokens[row] for row in rows), (None,) * len(rows), self._vectors.fingerprint)

    def _found(
        self, positions: Int[np.ndarray, "queries best"], values: Float32[np.ndarray, "queries best"]
    ) -> list[list[Found]]:
        return [
            [Found(self._ids[position], value) for position, value in zip(*pair, strict=True)]
            for pair in zip(positions.tolist(), values.tolist(), strict=True)
        ]

    def _encode(self, items: Sequence[Document], side: Side, multivector: bool) -> Attempt:  # noqa: FBT001 — private
        options: dict[str, Any] = {"truncate_dim": self._truncate_dim} if self._truncate_dim else {}
        if multivector:
            options["multivector"] = True
        encode = partial(self._encoder.encode, side=side, task=self.task, **options)
        return attempt(encode, items, partial(loaded, dpi=self._dpi))


def document_of(hit: Hit, documents: Mapping[Identity, Document] | None) -> Document | None:
    """Return the document that a hit stands for, by its id, or as a store describes it; None if it is not there."""
    if documents is not None:
        return documents.get(hit.id)
    stored: Any = hit  # a `qdrant_polyvec.Hit`, or of another store with the same attributes
    if getattr(stored, "kind", None) == "text":
        return str(stored.content)
    path, unit = Path(getattr(stored, "source", "")), getattr(stored, "unit", "")
    if not path.is_file():
        return None
    if not unit.startswith(_PAGE):
        return path
    return PdfPage(path, int(unit.removeprefix(_PAGE))) if path.suffix.lower() == ".pdf" else None
