"""The passage of a text that answers a query: what `polyvec search` shows of a hit."""

import re
from collections import Counter

from polyvec.words import words
from qdrant_polyvec.characters import ends, shortened

__all__ = ["passage"]

_LONGEST = 30  # characters of a word; what is longer is cut, such as a sentence in a script without spaces
_MOST = 20_000  # characters of a text that are looked at
_SENTENCE_ENDS = "。！？"  # no space follows
_MARKS = re.compile(r"#+\s+|\s+#+\s*$|[=~^*-]{3,}")  # of headings, or the line below one


def passage(text: str, query: str, *, width: int, names: str = "") -> str:
    """Return the part of a text, on one line of at most `width` characters, that has most of the query's words.

    A word counts the less the more often the text has it. Among equal parts, the first that begins a line or a sentence
    is taken, then the first; without a word of the query, it is the beginning.

    Args:
        text: of a hit.
        query: to search for.
        width: largest number of characters.
        names: the context of the text. Lines at the beginning that only repeat it, as headings do, are left out.
    """
    body = _without_headings(text[:_MOST], names)
    pieces = _pieces(body)
    line = "".join(piece for piece, _ in pieces)
    wanted = {word.casefold() for word in words(query, "query")}
    found = [{word.casefold() for word in words(piece, "document")} & wanted for piece, _ in pieces]
    counts = Counter(word for piece in found for word in piece)
    starts = [0]
    for piece, _ in pieces[:-1]:
        starts.append(starts[-1] + len(piece))

    def value(first: int) -> tuple[float, bool, int]:
        seen: set[str] = set()
        for index in range(first, len(pieces)):
            if starts[index] + len(pieces[index][0].rstrip()) - starts[first] > width - 2:  # two ellipses
                break
            seen |= found[index]
        return sum(1 / counts[word] for word in seen), pieces[first][1], -first

    first = max(range(len(pieces)), key=value, default=0)
    if not pieces or starts[first] == 0 or len(line) <= width:
        return shortened(line, width)
    return shortened("…" + line[starts[first] :], width)


def _pieces(text: str) -> list[tuple[str, bool]]:
    """Cut a text into words, each with the space that separates it, and whether a line or a sentence begins there."""
    pieces: list[tuple[str, bool]] = []
    for line in filter(None, map(str.split, text.split("\n"))):
        begins = True
        for word in line:
            cuts = [0, *_cuts(word)]
            parts = [word[start:end] for start, end in zip(cuts, [*cuts[1:], len(word)], strict=True)]
            for part in parts[:-1]:
                pieces.append((part, begins))
                begins = part[-1] in _SENTENCE_ENDS
            pieces.append((parts[-1] + " ", begins))
            begins = word[-1] in f".!?{_SENTENCE_ENDS}"
    return [*pieces[:-1], (pieces[-1][0].rstrip(), pieces[-1][1])] if pieces else []


def _cuts(word: str) -> list[int]:
    """Return where a long word is cut: into pairs, the words of scripts without spaces, and after sentences."""
    cuts: list[int] = []
    n_characters = 0  # since the last cut
    for end in ends(word)[:-1] if len(word) > _LONGEST else []:
        n_characters += 1
        if n_characters == 2 or word[end - 1] in _SENTENCE_ENDS:
            cuts.append(end)
            n_characters = 0
    return cuts


def _without_headings(text: str, names: str) -> str:
    known = {" ".join(name.split()) for name in names.split(" › ")}
    lines = text.split("\n")
    for index, line in enumerate(lines):
        if line.strip() and " ".join(_MARKS.sub("", line).split()) not in known | {""}:
            return "\n".join(lines[index:])
    return text
