"""The tokens of a text as people read them."""

import re
from collections.abc import Sequence

_PART = re.compile(r"(.*) \((\d+)/\d+\)", re.DOTALL)  # of a character that several tokens share, as `é (1/2)`


def letters(token: str) -> str:
    """Return the text of a token: the first of the tokens that share a character has all of it, the others none."""
    part = _PART.fullmatch(token)
    return token if part is None else part[1] if part[2] == "1" else ""


def as_written(tokens: Sequence[str], text: str) -> list[str]:
    """Return the tokens as they stand in the text, with the blanks before them: some tokenizers drop blanks and case.

    If a token stands elsewhere or is changed otherwise, all stay as they are.
    """
    written: list[str] = []
    end = 0
    for token in tokens:
        begin, shown = end, letters(token)
        while text[end : end + 1].isspace() and shown and not shown[0].isspace():
            end += 1
        if text[end : end + len(shown)].casefold() != shown.casefold():
            return list(tokens)
        end += len(shown)
        written.append(text[begin:end] + token[len(shown) :])
    return written
