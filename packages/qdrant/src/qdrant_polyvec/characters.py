"""Characters as readers count them: grapheme clusters (Unicode Standard Annex 29), which are never torn."""

from collections.abc import Iterator

import regex

_CHARACTER = regex.compile(r"\X")


def each(text: str, start: int = 0) -> Iterator[tuple[int, str]]:
    """Yield the position and the code points of each character from `start`, where a character begins."""
    for match in _CHARACTER.finditer(text, start):
        yield match.start(), match[0]


def ends(text: str) -> list[int]:
    """Return the position after each character, ascending; the last is the length of the text."""
    return [begin + len(character) for begin, character in each(text)]


def shortened(text: str, most: int, *, from_left: bool = False) -> str:
    """Return a text of at most `most` code points, with an ellipsis in place of the characters that do not fit."""
    if len(text) <= most:
        return text
    if from_left:
        return "…" + text[next(end for end in ends(text) if len(text) - end < most) :]
    return text[: max((end for end in ends(text[:most]) if end < most), default=0)] + "…"
