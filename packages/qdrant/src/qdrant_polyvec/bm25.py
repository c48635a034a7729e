"""BM25 as sparse vectors: the weighted words of a text. The engine adds how rare a word is (its IDF modifier).

Stop words are left out of queries, never of documents: there they cost little, because they are not rare, and a query
that has nothing else ("to be or not to be") finds them.
"""

import re
from functools import cache, partial

import qdrant_edge as edge
from qdrant_client import models

from polyvec.words import words

ANY = "any"  # the language without stop words and stems

_GERMAN = frozenset({"de", "german"})
_DOTLESS = frozenset({"az", "azerbaijani", "tr", "turkish"})  # the lower case of I is ı
_UMLAUT = re.compile(r"(?<![aeiouyäöüq])[aou]e")  # as in Snowball's stemmer of German since 3.0, which the engine lacks
_UMLAUTS = {"ae": "ä", "oe": "ö", "ue": "ü"}
# Writers use either letter; the engine's stems and stop words know only the second one.
_ROMANIAN = str.maketrans("șț", "şţ")  # comma below, cedilla
_RUSSIAN = str.maketrans("ё", "е")
_LETTERS = {"ro": _ROMANIAN, "romanian": _ROMANIAN, "ru": _RUSSIAN, "russian": _RUSSIAN}

_config = partial(edge.Bm25Config, tokenizer=edge.TokenizerType.Whitespace, lowercase=False)


def check_language(language: str) -> None:
    """Raise a ValueError, which names the languages with rules, if this language has none."""
    _stems(language)


def document(text: str, language: str) -> models.SparseVector | None:
    """Weigh the words of a text by frequency, saturated and by length (k = 1.2, b = 0.75); None if it has no words."""
    terms = [term for word in words(text, "document") for term in _spellings(word, language)]
    return _sparse(_stems(language).embed_document(" ".join(terms)))


def query(text: str, language: str) -> models.SparseVector | None:
    """List each word of a question once; None if it has no words.

    Stop words are left out of a question that has other words, unless they are names: in capitals, or with one inside
    the question (`IT support`, `songs by The Who`).
    """
    everything, chosen, only_stop_words = [], [], True
    for index, word in enumerate(words(text, "query")):
        spellings = _spellings(word, language)
        everything += spellings
        is_stop_word = _is_stop_word(spellings[0], language)
        only_stop_words &= is_stop_word
        if not is_stop_word or len(spellings) > 1 or (index and word[0].isupper()):
            chosen.append(spellings[-1])
    return _sparse(_stems(language).embed_query(" ".join(everything if only_stop_words else chosen)))


def _spellings(word: str, language: str) -> list[str]:
    """Spell a word in lower case; a stop word in capitals also as it is, since IT means something else than it."""
    lower = _lower(word, language)
    return [lower, word] if word.isupper() and _is_stop_word(lower, language) else [lower]


def _lower(word: str, language: str) -> str:
    if language in _DOTLESS:
        word = word.replace("I", "ı")
    lower = word.lower().replace("i\u0307", "i").translate(_LETTERS.get(language, {}))  # the first from İ
    return _UMLAUT.sub(lambda match: _UMLAUTS[match[0]], lower) if language in _GERMAN else lower


def is_stop_word(word: str, language: str) -> bool:
    """True for a word that queries of this language do not need, in upper or lower case."""
    return _is_stop_word(_spellings(word, language)[0], language)


def _is_stop_word(lower: str, language: str) -> bool:
    return language != ANY and not _stop_words(language).embed_query(lower).indices


@cache
def _stems(language: str) -> edge.Bm25:
    """Return the engine's stems of a language, as numbers. It keeps all words, in upper or lower case as they come."""
    all_words = edge.StopwordsSet()
    if language == ANY:
        return edge.Bm25(_config(stopwords=all_words, stemmer=edge.DisabledStemmer()))
    try:
        return edge.Bm25(_config(language=language, stopwords=all_words))
    except ValueError as error:
        known = ", ".join(sorted(name.lower() for name in dir(edge.Language) if name[0].isupper()))
        raise ValueError(
            f"`bm25` is {language!r}; there are rules for {known}. {ANY!r} is for every other language and for "
            "mixtures: it keeps words as they are."
        ) from error


@cache
def _stop_words(language: str) -> edge.Bm25:
    """Return what makes nothing of a word if it is a stop word."""
    return edge.Bm25(_config(language=language, stemmer=edge.DisabledStemmer()))


def _sparse(vector: edge.SparseVector) -> models.SparseVector | None:
    return models.SparseVector(indices=vector.indices, values=vector.values) if vector.indices else None
