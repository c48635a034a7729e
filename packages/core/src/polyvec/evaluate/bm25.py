"""BM25 over the text of pages, the baseline of every search by vectors."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from polyvec.words import words

__all__ = ["BM25"]

_K1, _B = 1.2, 0.75  # as in Lucene
_POSTING = 8  # bytes: which text, and the weight


class BM25:
    """Okapi BM25 (Robertson & Zaragoza 2009, eq. 3.15) with Lucene's inverse document frequency, which is positive.

    Each word of a query counts once, in any case. Nothing is stemmed and no word is left out, so that all languages are
    alike.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._n = len(texts)
        counts = [Counter(word.lower() for word in words(text, "document")) for text in texts]
        lengths = np.array([count.total() for count in counts], np.float64)
        norms = _K1 * (1 - _B + _B * lengths / max(lengths.mean() if self._n else 0.0, 1.0))
        places: dict[str, list[tuple[int, int]]] = {}
        for index, count in enumerate(counts):
            for word, n in count.items():
                places.setdefault(word, []).append((index, n))
        self._postings: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for word, found in places.items():
            rows, n = np.array(found).T
            idf = np.log(1 + (self._n - len(rows) + 0.5) / (len(rows) + 0.5))
            self._postings[word] = rows.astype(np.int32), (idf * n * (_K1 + 1) / (n + norms[rows])).astype(np.float32)

    @property
    def bytes_per_item(self) -> float:
        """Size of the postings, without the words themselves."""
        return _POSTING * sum(len(rows) for rows, _ in self._postings.values()) / max(1, self._n)

    def scores(self, queries: Sequence[str]) -> Float32[np.ndarray, "queries texts"]:
        """Score every text for every query; a text that has no word of the query scores -inf: it is not found."""
        scores = np.zeros((len(queries), self._n), np.float32)
        for row, query in zip(scores, queries, strict=True):
            for word in dict.fromkeys(word.lower() for word in words(query, "query")):
                if word in self._postings:
                    rows, weights = self._postings[word]
                    row[rows] += weights
        scores[scores == 0] = -np.inf
        return scores
