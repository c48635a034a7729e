"""The words of a text for BM25: the same rule for documents and queries, so that what is typed finds what is written.

Characters decide where a word ends, never their neighbours or a guess at the language. Raise `RULES` with every change
of the rule: words of two rules do not meet.
"""

import unicodedata
from collections.abc import Iterator
from itertools import pairwise

import regex

from polyvec.types import Side

__all__ = ["RULES", "words"]

RULES = 4  # of these words, and of what `qdrant_polyvec.bm25` makes of them

_MAX_PARTS = 12  # of one word; the parts of a longer word, such as a hash, say nothing, but those of names in a path do

# Scripts whose words no spaces separate (SA: those of South East Asia), and Hangul, whose particles join the nouns.
_DENSE = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Bopomofo}\p{Yi}\p{Hangul}\p{Line_Break=SA}"
_SIGN = rf"[[\p{{L}}\p{{M}}\p{{N}}]--[{_DENSE}]]"
_SIGNS = rf"(?!\p{{M}}){_SIGN}+"  # no word begins with a mark, which NFKC makes of the ´ in l´eau
_CONNECTOR = r"[-./@&·]|_+|::?|(?<=\d),(?=\d)"
_WORD = regex.compile(
    rf"(?V1)(?P<dense>[{_DENSE}][{_DENSE}\p{{M}}]*)"
    rf"|(?P<word>{_SIGNS}(?:(?:{_CONNECTOR}){_SIGNS})*)(?P<suffix>(?:\+\+|\#)(?!\p{{L}}))?"
)
_CONNECTORS = regex.compile(f"({_CONNECTOR})")
# The acronym before a capitalized word, capitals with what follows, other letters, numbers.
_PARTS = regex.compile(r"\p{Lu}+(?=\p{Lu}\p{Ll}{2})|\p{Lu}+[^\p{Lu}\p{N}]*|[^\p{Lu}\p{N}]+|\p{N}+")
_NUMBER = regex.compile(r"\d+(?:\.\d+)*")
_DIGITS = regex.compile(r"\d+")
_CHARACTER = regex.compile(r".\p{M}*")  # unlike `\X`, the same in every version of Unicode
_MEANINGFUL_ALONE = regex.compile(r"[\p{Han}\p{Hangul}]")

_INVISIBLE = regex.compile(r"\xad\r?\n?|[\p{Cf}\p{Me}\uFE00-\uFE0F\U000E0100-\U000E01EF]")
# What writers of Hebrew and Arabic may leave out: vowels and other points, and the line that lengthens words.
_POINTS = regex.compile(r"[\u0591-\u05BD\u05BF\u05C1\u05C2\u05C4\u05C5\u05C7\u0640\u064B-\u0652\u0670]")
_TRADE_MARK = regex.compile("[™℠]")  # NFKC makes letters of it, and so NVIDIATM of NVIDIA™
_LINE_BREAK = regex.compile(rf"(?V1)([{_DENSE}]\p{{M}}*)[^\S\r\n]*\r?\n[^\S\r\n]*(?=[{_DENSE}])")
_TONE_MARK = regex.compile(
    "([\u0e4d\u0ecd])([\u0e48-\u0e4b\u0ec8-\u0ecb])"
)  # after `am` in Thai and Lao: it looks the same
_DIGIT = regex.compile(r"(?V1)[\p{Nd}--[0-9]]")
_SPELLINGS = {**dict.fromkeys("‐‒–−", "-"), **dict.fromkeys("ʼʻʹ", "'"), "⁄": "/", "ß": "ss", "ẞ": "SS"}
_SPELLINGS_TABLE = str.maketrans(_SPELLINGS)


def words(text: str, side: Side) -> Iterator[str]:
    """Yield the words of a text in their order, with upper and lower case as written.

    A word with capitals, digits or connectors inside comes as a whole and in parts: `parseHTTPResponse` is also parse,
    HTTP and Response, `ISO9001` also ISO and 9001, `1.2.3` also 1, 2 and 3. The whole is written without connectors,
    except that a dot separates numbers: `file_path`, `file-path` and `filePath` agree, and so do 10,000 and 10000.

    Characters of scripts without spaces come in overlapping pairs, as in Lucene's CJK analyzer, even across the end of
    a line. In documents each also comes alone, so that a word of one character is found. In queries only Han
    characters, syllables of Hangul and a character without neighbours do: a letter of a longer word says little.
    """
    for match in _WORD.finditer(_normalized(text)):
        if run := match["dense"]:
            yield from _pairs(run, side)
            continue
        word, suffix = match["word"], match["suffix"]
        if word.isalpha() and (word.islower() or word.istitle() or word.isupper()):
            yield word
        else:
            yield from _whole_and_parts(word)
        last = _CONNECTORS.split(word)[-1] if suffix else ""
        if suffix == "++" or len(last) == 1:  # C++, C#
            yield last + suffix


def _normalized(text: str) -> str:
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", _TRADE_MARK.sub(" ", text))
    text = _POINTS.sub("", _INVISIBLE.sub("", text)).translate(_SPELLINGS_TABLE)
    text = _TONE_MARK.sub(r"\2\1", _LINE_BREAK.sub(r"\1", text))
    normalized: str = _DIGIT.sub(lambda match: str(unicodedata.digit(match[0])), text)
    return normalized


def _pairs(run: str, side: Side) -> Iterator[str]:
    characters = _CHARACTER.findall(run)
    for first, second in pairwise(characters):
        yield first + second
    for character in characters:
        if side == "document" or len(characters) == 1 or _MEANINGFUL_ALONE.match(character):
            yield character


def _whole_and_parts(word: str) -> Iterator[str]:
    pieces = _CONNECTORS.split(word)
    whole = pieces[0]
    for before, connector, piece in zip(pieces[::2], pieces[1::2], pieces[2::2], strict=False):
        is_number = before[-1].isdecimal() and piece[0].isdecimal()
        whole += ("." if is_number and not _is_thousands(before, connector, piece) else "") + piece
    parts_by_piece = {piece: _PARTS.findall(piece) for piece in pieces[::2]}
    found = [whole, *parts_by_piece]
    is_long = sum(map(len, parts_by_piece.values())) > _MAX_PARTS
    if not is_long:
        found += _NUMBER.findall(whole) + _DIGITS.findall(whole)
    for piece, parts in parts_by_piece.items():
        if not is_long or (piece.isalpha() and len(parts) <= _MAX_PARTS):
            found += [part for part in parts if len(part) > 1 or part.isdecimal()]
    yield from dict.fromkeys(found)


def _is_thousands(before: str, connector: str, digits: str) -> bool:
    """True if `before` and `digits` are one number, such as 10,000 or 1.234.567."""
    groups = before.isdecimal() and digits.isdecimal() and connector in ",."
    return groups and before[0] != "0" and len(before) <= 3 == len(digits)
