"""The words of a text for BM25: the same rule for documents and queries, so that what is typed finds what is written.

Change `RULES` with the rule: words of two rules do not meet.
"""

import unicodedata
from collections.abc import Iterator
from itertools import pairwise

import regex

RULES = 2  # 1 knew no numbers, and split a run of characters differently beside other characters

_MAX_PARTS = 12  # of one word; the parts of a longer word, such as a hash, say nothing

# Scripts whose words no spaces separate, and Hangul, whose particles are not separated from the nouns.
_DENSE = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Bopomofo}\p{Yi}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_SIGN = rf"[[\p{{L}}\p{{M}}\p{{N}}]--[{_DENSE}]]"
_CONNECTOR = r"[-./@&·]|_+|::?|(?<=\d),(?=\d)"
_WORD = regex.compile(
    rf"(?V1)(?P<dense>[{_DENSE}][{_DENSE}\p{{M}}]*)"
    rf"|(?P<word>{_SIGN}+(?:(?:{_CONNECTOR}){_SIGN}+)*)(?P<suffix>(?:\+\+|\#)(?![\p{{L}}\p{{N}}]))?"
)
_CONNECTORS = regex.compile(f"({_CONNECTOR})")
# The acronym before a capitalized word, capitals with what follows, other letters, numbers.
_PARTS = regex.compile(r"\p{Lu}+(?=\p{Lu}\p{Ll}{2})|\p{Lu}+[^\p{Lu}\p{N}]*|[^\p{Lu}\p{N}]+|\p{N}+")
_NUMBER = regex.compile(r"\d+(?:\.\d+)*")
_DIGITS = regex.compile(r"\d+")
_MEANINGFUL_ALONE = regex.compile(r"[\p{Han}\p{Hangul}]")

_INVISIBLE = regex.compile(r"\xad\r?\n?|[\p{Cf}\uFE00-\uFE0F\U000E0100-\U000E01EF]")
_DIGIT = regex.compile(r"(?V1)[\p{Nd}--[0-9]]")
_SPELLINGS = {**dict.fromkeys("‐‒–−", "-"), **dict.fromkeys("ʼʻʹ", "'"), "⁄": "/", "ß": "ss", "ẞ": "SS", "İ": "I"}
_SPELLINGS_TABLE = str.maketrans(_SPELLINGS)


def words(text: str) -> Iterator[str]:
    """Yield the words of a text in their order, with upper and lower case as written.

    A word with capitals, digits or connectors inside comes as a whole and in parts: `parseHTTPResponse` is also parse,
    HTTP and Response, `ISO9001` also ISO and 9001, `1.2.3` also 1, 2 and 3. The whole is written without connectors,
    except that a dot separates numbers: `file_path`, `file-path` and `filePath` agree, and so do 10,000 and 10000.
    Characters of scripts without spaces come in overlapping pairs, as in Lucene's CJK analyzer; Han characters and
    syllables of Hangul also alone.
    """
    for match in _WORD.finditer(_normalized(text)):
        if run := match["dense"]:
            yield from _pairs(run)
            continue
        word, suffix = match["word"], match["suffix"]
        if word.isalpha() and (word.islower() or word.istitle() or word.isupper()):
            yield word
        else:
            yield from _whole_and_parts(word)
        if suffix == "++" or (suffix and len(word) == 1):  # C++, C#
            yield word + suffix


def _normalized(text: str) -> str:
    if text.isascii():
        return text
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).translate(_SPELLINGS_TABLE)
    normalized: str = _DIGIT.sub(lambda match: str(unicodedata.digit(match[0])), text)
    return normalized


def _pairs(run: str) -> Iterator[str]:
    characters = regex.findall(r"\X", run)
    for first, second in pairwise(characters):
        yield first + second
    for character in characters:
        if len(characters) == 1 or _MEANINGFUL_ALONE.match(character):
            yield character


def _whole_and_parts(word: str) -> Iterator[str]:
    pieces = _CONNECTORS.split(word)
    whole = pieces[0]
    for before, connector, piece in zip(pieces[::2], pieces[1::2], pieces[2::2], strict=False):
        is_number = before[-1].isdecimal() and piece[0].isdecimal()
        whole += ("." if is_number and not _is_thousands(before, connector, piece) else "") + piece
    parts = [part for piece in pieces[::2] for part in _PARTS.findall(piece)]
    found = [whole, *pieces[::2]]
    if len(parts) <= _MAX_PARTS:
        found += _NUMBER.findall(whole) + _DIGITS.findall(whole)
        found += [part for part in parts if len(part) > 1 or part.isdecimal()]
    yield from dict.fromkeys(part.lower() for part in found)


def _is_thousands(before: str, connector: str, digits: str) -> bool:
    """True if `before` and `digits` are one number, such as 10,000 or 1.234.567."""
    groups = before.isdecimal() and digits.isdecimal() and connector in ",."
    return groups and before[0] != "0" and len(before) <= 3 == len(digits)
