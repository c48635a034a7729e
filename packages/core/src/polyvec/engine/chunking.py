"""Late chunking: where the spans of a text are among its tokens, and in which windows a long text is read."""

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a text's tokens that one forward pass reads.

    Attributes:
        start: first token that is read.
        fresh: first token that no earlier window has read; what is before it is context and is not pooled again.
        end: behind the last token.
    """

    start: int
    fresh: int
    end: int


def checked_spans(spans: Iterable[Any], length: int) -> list[Span]:
    """Spans within a text of `length` characters, as pairs of numbers.

    Raises:
        TypeError: a span is no pair of whole numbers.
        ValueError: a span is empty, or not within the text.
    """
    checked = []
    for index, span in enumerate(spans):
        try:
            start, end = map(operator.index, span)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"span {index} is {span!r}; a span is a pair of characters' numbers, (start, end)."
            ) from error
        if not 0 <= start < end <= length:
            raise ValueError(
                f"span {index} is ({start}, {end}); a span is a non-empty range of the text's {length} characters."
            )
        checked.append((start, end))
    return checked


def token_spans(offsets: Sequence[Span], spans: Sequence[Span]) -> list[Span]:
    """For each non-empty span of characters, the range of tokens that it touches.

    A token that a span cuts belongs to it whole, so neighbouring spans may share a token. Characters that
    normalisation joined to the one before them, such as a combining accent, belong to that one's token.

    Args:
        offsets: the range of characters of each token, in order; at least one.
        spans: ranges of characters.
    """
    starts, ends = np.asarray(offsets, np.int64).reshape(-1, 2).T
    ends = np.maximum(ends, np.append(starts[1:], np.iinfo(np.int64).max))
    first = np.searchsorted(ends, [start for start, _ in spans], side="right")
    last = np.searchsorted(starts, [end for _, end in spans], side="left")
    return [(int(a), int(b)) for a, b in zip(first, last, strict=True)]


def windows(n_tokens: int, size: int, overlap: int) -> list[Window]:
    """Windows of at most `size` tokens that share `overlap` tokens with the one before.

    Attention is causal: a token sees only what stands before it, so the window in which it stands last is the one
    that knows most about it, and each token is pooled from the first window that reads it.
    """
    found = [Window(0, 0, min(size, n_tokens))]
    while found[-1].end < n_tokens:
        fresh = found[-1].end
        found.append(Window(fresh - overlap, fresh, min(fresh - overlap + size, n_tokens)))
    return found
