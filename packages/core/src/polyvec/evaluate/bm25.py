"""BM25 over the text of pages, the baseline of every search by vectors."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float32

__all__ = ["BM25", "words"]

_K1, _B = 1.2, 0.75  # as in Lucene
_POSTING = 8  # bytes: which text, and the weight

# Scripts that put no spaces between words, and Hangul.
_DENSE = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff]+"
)


class _Signs(dict[int, int]):
    def __missing__(self, code: int) -> int:
        """Letters, numbers and marks stay; everything else separates words."""
        self[code] = code if unicodedata.category(chr(code))[0] in "LNM" else ord(" ")
        return self[code]


_SIGNS = _Signs()


class BM25:
    """Okapi BM25 (Robertson & Zaragoza 2009, eq. 3.15) with Lucene's inverse document frequency, which is positive.

    Each word of a query counts once. Nothing is stemmed and no word is left out, so that all languages are alike.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._n = len(texts)
        counts = [Counter(words(text)) for text in texts]
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
            for word in dict.fromkeys(words(query)):
                if word in self._postings:
                    rows, weights = self._postings[word]
                    row[rows] += weights
        scores[scores == 0] = -np.inf
        return scores


def words(text: str) -> Iterator[str]:
    """Yield the words of a text in lower case; where no spaces separate words, pairs of characters that overlap."""
    for word in unicodedata.normalize("NFKC", text).casefold().translate(_SIGNS).split():
        end = 0
        for run in _DENSE.finditer(word):
            if run.start() > end:
                yield word[end : run.start()]
            characters = run[0]
            yield from [first + second for first, second in pairwise(characters)] or [characters]
            end = run.end()
        if end < len(word):
            yield word[end:]
