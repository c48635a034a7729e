"""Images and texts as vectors, and which of them belong together: the input of every analysis.

Vectors of one kind are either an array with one row per item (dense), or one array of tokens per item (late). Every
analysis reads them through the functions here, so it works for both:

- dense: the score of a text and an image is their cosine, in float64. Rows need not have unit length.
- late: it is MaxSim divided by the number of the text's tokens, the mean over them of the best cosine; the text is the
  query. Token vectors have unit length, as `Embeddings.multivector` has them. Between two texts the first is the query.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Real

from polyvec.scoring import maxsim
from polyvec.vectors import kind_of

__all__ = [
    "Paired",
    "Vectors",
    "best_scores",
    "item_vectors",
    "pair_scores",
    "score_blocks",
    "token_mean",
    "unit_rows",
    "usable_rows",
]

Vectors = np.ndarray | Sequence[np.ndarray]  # (items, dim), or per item (tokens, dim)

_BLOCK_ROWS = 4096
_BLOCK_SCORES = 1 << 22
_LATE_ROWS = 64  # items per block of MaxSim
_UNIT = 1e-2  # rounding of a length in float16 or bfloat16


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """Vectors of images and texts, dense or late, and the pairs of them that belong together.

    Attributes:
        images: vectors of the images.
        texts: vectors of the texts, encoded as queries.
        pairs: rows of an image and of a text that belongs to it. Both may be in several pairs.
        text_documents: the same texts encoded as documents, for mixed corpora; None if the two do not differ.

    Raises:
        ValueError: fewer than two images, texts or pairs; a pair that is there twice or names an unknown row; a vector
            that is zero or has a number that is not finite; a token vector whose length is not 1; dense vectors of one
            side and multi-vectors of another.
    """

    images: Vectors
    texts: Vectors
    pairs: Int[np.ndarray, "pairs 2"]
    text_documents: Vectors | None = None

    def __post_init__(self) -> None:
        for name, vectors in (("images", self.images), ("texts", self.texts), ("text_documents", self.text_documents)):
            if vectors is not None:
                _check(name, vectors)
                if isinstance(vectors, np.ndarray) == self.late:
                    raise ValueError(
                        f"`{name}` are {_kind(vectors)} and `images` are {_kind(self.images)}; give one kind."
                    )
        if len(self.pairs) < 2:
            raise ValueError(f"there are {len(self.pairs)} pairs of an image and a text; give two or more.")
        if (self.pairs < 0).any() or (self.pairs >= (len(self.images), len(self.texts))).any():
            raise ValueError(f"a pair names a row beyond {len(self.images)} images or {len(self.texts)} texts.")
        if len(np.unique(self.pairs @ np.array([len(self.texts), 1]))) < len(self.pairs):
            raise ValueError("a pair is there twice; give each pair of an image and a text once.")
        if self.text_documents is not None and len(self.text_documents) != len(self.texts):
            raise ValueError(
                f"`text_documents` has {len(self.text_documents)} items; there are {len(self.texts)} texts."
            )
        dims = {_dim(vectors) for vectors in (self.images, self.texts, self.text_documents) if vectors is not None}
        if len(dims) > 1:
            raise ValueError(f"the vectors have {sorted(dims)} numbers; images and texts must have equally many.")

    @property
    def late(self) -> bool:
        """True if items are multi-vectors."""
        return not isinstance(self.images, np.ndarray)


def _check(name: str, vectors: Vectors) -> None:
    if len(vectors) < 2:
        raise ValueError(f"`{name}` has {len(vectors)} items; an analysis compares two or more.")
    if kind_of(name, vectors if isinstance(vectors, np.ndarray) else vectors[0]) == "bits":
        raise ValueError(f"`{name}` holds packed bits (uint8); an analysis needs vectors, or `polyvec.vectors.signs`.")
    for start in range(0, len(vectors), _BLOCK_ROWS):
        block = vectors[start : start + _BLOCK_ROWS]
        usable = usable_rows(block)
        if not usable.all():
            row = start + int(usable.argmin())
            if not vectors[row].any():
                fault = "is a zero vector, which has no direction"
            elif isinstance(vectors, np.ndarray) or not np.isfinite(vectors[row]).all():
                fault = "has a number that is not finite, or too large or small to be squared"
            else:
                fault = "has a token vector whose length is not 1"
            raise ValueError(f"row {row} of `{name}` {fault}; leave it and its pairs out.")


def usable_rows(vectors: Vectors) -> Bool[np.ndarray, " items"]:
    """Tell which dense vectors have a direction, or which multi-vectors have tokens and each of unit length."""
    if isinstance(vectors, np.ndarray):
        squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
        usable: np.ndarray = np.isfinite(squares) & (squares > 0)
        return usable
    lengths = (np.linalg.norm(tokens.astype(np.float32), axis=1) for tokens in vectors)
    return np.array([len(row) > 0 and bool((np.abs(row - 1) < _UNIT).all()) for row in lengths], bool)


def _kind(vectors: Vectors) -> str:
    return "dense vectors" if isinstance(vectors, np.ndarray) else "multi-vectors"


def _dim(vectors: Vectors) -> int:
    n_columns: int = (vectors if isinstance(vectors, np.ndarray) else vectors[0]).shape[1]
    return n_columns


def unit_rows(rows: Real[np.ndarray, "rows dim"]) -> Float64[np.ndarray, "rows dim"]:
    """Scale rows to unit length in float64. A zero row, as the removal of a mean may leave it, stays zero."""
    wide = rows.astype(np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))[:, None]
    units: np.ndarray = np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0)
    return units


def item_vectors(vectors: Vectors) -> Real[np.ndarray, "items dim"]:
    """Return one vector per item: dense vectors as they are, and of a multi-vector the mean of its tokens."""
    if isinstance(vectors, np.ndarray):
        return vectors
    return np.stack([tokens.mean(axis=0, dtype=np.float64).astype(np.float32) for tokens in vectors])


def token_mean(vectors: Vectors) -> Float64[np.ndarray, " dim"]:
    """Return the mean of all unit rows: of the items, or of the tokens of all items."""
    total = np.zeros(_dim(vectors))
    n_rows = 0
    for start in range(0, len(vectors), _BLOCK_ROWS):
        block = vectors[start : start + _BLOCK_ROWS]
        for rows in (block,) if isinstance(block, np.ndarray) else block:
            total += unit_rows(rows).sum(axis=0)
            n_rows += len(rows)
    mean: np.ndarray = total / n_rows
    return mean


def pair_scores(
    queries: Vectors,
    documents: Vectors,
    query_rows: Int[np.ndarray, " pairs"],
    document_rows: Int[np.ndarray, " pairs"],
) -> Float64[np.ndarray, " pairs"]:
    """Return the score of each pair of a query and a document."""
    scores = np.empty(len(query_rows))
    for start in range(0, len(scores), _BLOCK_ROWS):
        rows, others = query_rows[start : start + _BLOCK_ROWS], document_rows[start : start + _BLOCK_ROWS]
        if isinstance(queries, np.ndarray) and isinstance(documents, np.ndarray):
            block = np.einsum("ij,ij->i", unit_rows(queries[rows]), unit_rows(documents[others]))
        else:
            block = np.array(
                [(queries[i] @ documents[j].T).max(axis=1).mean() for i, j in zip(rows, others, strict=True)]
            )
        scores[start : start + len(rows)] = block
    return scores


def score_blocks(
    queries: Vectors,
    rows: Int[np.ndarray, " queries"],
    documents: Vectors,
    *,
    means: tuple[np.ndarray, np.ndarray] | None = None,
) -> Iterator[tuple[int, Float32[np.ndarray, "queries block"]]]:
    """Score some queries against all documents, a block of documents at a time, in float32.

    `means` are subtracted from the queries' and the documents' rows (tokens, if late), which get unit length again.

    Yields:
        The number of the block's first document, and its scores.
    """
    query_mean, document_mean = means or (None, None)
    if isinstance(queries, np.ndarray) and isinstance(documents, np.ndarray):
        factors = _ready(queries[rows], query_mean)
        step = max(1, min(_BLOCK_ROWS, _BLOCK_SCORES // max(1, len(rows))))
        for start in range(0, len(documents), step):
            yield start, factors @ _ready(documents[start : start + step], document_mean).T
        return
    tokens = [_ready(queries[row], query_mean) for row in rows]
    lengths = np.array([len(part) for part in tokens], np.float32)[:, None]
    for start in range(0, len(documents), _LATE_ROWS):
        block = [_ready(part, document_mean) for part in documents[start : start + _LATE_ROWS]]
        yield start, maxsim(tokens, block) / lengths


def _ready(rows: np.ndarray, mean: np.ndarray | None) -> np.ndarray:
    units = unit_rows(rows)
    return (units if mean is None else unit_rows(units - mean)).astype(np.float32)


def best_scores(
    queries: Vectors,
    rows: Int[np.ndarray, " queries"],
    documents: Vectors,
    related: tuple[np.ndarray, np.ndarray],
) -> tuple[Float32[np.ndarray, " queries"], Float32[np.ndarray, " queries"]]:
    """Return for each query its best score with a related document, and with any other; -inf if there is none.

    `related` are positions in `rows` and rows of documents, as `sampling.related_images` gives them.
    """
    own = np.full(len(rows), -np.inf, np.float32)
    other = own.copy()
    order = np.argsort(related[1], kind="stable")
    positions, columns = related[0][order], related[1][order]
    for start, scores in score_blocks(queries, rows, documents):
        first, last = np.searchsorted(columns, (start, start + scores.shape[1]))
        here = positions[first:last], columns[first:last] - start
        np.maximum.at(own, here[0], scores[here])
        scores[here] = -np.inf
        np.maximum(other, scores.max(axis=1), out=other)
    return own, other
