"""BM25 as sparse vectors: the weighted words of a text. The engine adds how rare a word is (its IDF modifier)."""

from functools import cache

import qdrant_edge as edge
from qdrant_client import models

from qdrant_polyvec.words import words


def check_language(language: str) -> None:
    """Raise a ValueError, which names the languages with rules, if this language has none."""
    _encoder(language)


def document(text: str, language: str) -> models.SparseVector | None:
    """Weigh the words of a text by frequency, saturated and by length (k = 1.2, b = 0.75); None if it has no words."""
    return _sparse(_encoder(language).embed_document(" ".join(words(text))))


def query(text: str, language: str) -> models.SparseVector | None:
    """List each word of a question once; None if it has only stop words."""
    return _sparse(_encoder(language).embed_query(" ".join(words(text))))


@cache
def _encoder(language: str) -> edge.Bm25:
    # The words are ours; case, stop words, stems and their numbers are the engine's.
    config = edge.Bm25Config(language=language, tokenizer=edge.TokenizerType.Whitespace)
    try:
        return edge.Bm25(config)
    except ValueError as error:
        known = ", ".join(sorted(name.lower() for name in dir(edge.Language) if name[0].isupper()))
        raise ValueError(f"`bm25` is {language!r}; there are rules for {known}.") from error


def _sparse(vector: edge.SparseVector) -> models.SparseVector | None:
    return models.SparseVector(indices=vector.indices, values=vector.values) if vector.indices else None
