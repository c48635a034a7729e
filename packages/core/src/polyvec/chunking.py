"""Late chunking: the tokens of spans of a text, and the windows in which a long text is read."""

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Span", "checked_spans"]

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open range of a text's tokens that one forward pass reads.

    No earlier window has read the token `fresh`. Tokens before it are context, not pooled again.
    """

    start: int
    fresh: int
    end: int


def checked_spans(spans: Iterable[Any], length: int) -> list[Span]:
    """Check spans of a text of `length` characters, and return them as pairs of int.

    Raises:
        TypeError: a span is not a pair of whole numbers.
        ValueError: a span is empty, or not within the text.
    """
    pairs = []
    for index, span in enumerate(spans):
        try:
            start, end = map(operator.index, span)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"span {index} is {span!r}; a span is a pair of character indices, (start, end)."
            ) from error
        if not 0 <= start < end <= length:
            raise ValueError(
                f"span {index} is ({start}, {end}); a span is a non-empty range of the text's {length} characters."
            )
        pairs.append((start, end))
    return pairs


def token_spans(offsets: Sequence[Span], spans: Sequence[Span]) -> list[Span]:
    """Return the range of tokens that each non-empty span of characters touches.

    A token that is partly in a span belongs to it, so neighbouring spans may share a token. Characters that
    normalisation joined to the previous character, such as a combining accent, belong to the token of that character.
    `offsets` has the range of characters of each token, in order; at least one.
    """
    starts, ends = np.asarray(offsets, np.int64).reshape(-1, 2).T
    ends = np.maximum(ends, np.append(starts[1:], np.iinfo(np.int64).max))
    first = np.searchsorted(ends, [start for start, _ in spans], side="right")
    last = np.searchsorted(starts, [end for _, end in spans], side="left")
    return [(int(start), int(end)) for start, end in zip(first, last, strict=True)]


def windows(n_tokens: int, size: int, overlap: int) -> list[Window]:
    """Divide tokens into windows of at most `size` tokens; each shares `overlap` tokens with the previous window.

    Attention is causal, so a token sees only the tokens before it. It has most context in the first window that reads
    it, and is pooled from that window.
    """
    result = [Window(0, 0, min(size, n_tokens))]
    while result[-1].end < n_tokens:
        fresh = result[-1].end
        result.append(Window(fresh - overlap, fresh, min(fresh - overlap + size, n_tokens)))
    return result
