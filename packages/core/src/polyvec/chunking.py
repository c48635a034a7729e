"""Late chunking: where the spans of a text are among its tokens, and in which windows a long text is read."""

from collections.abc import Sequence
from dataclasses import dataclass

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


def check_spans(spans: Sequence[Span], length: int) -> None:
    """Refuse spans that are not within a text of `length` characters.

    Raises:
        ValueError: naming the span.
    """
    for index, (start, end) in enumerate(spans):
        if not 0 <= start < end <= length:
            raise ValueError(
                f"span {index} is ({start}, {end}); a span is a non-empty range of the text's {length} characters."
            )


def token_spans(offsets: Sequence[Span], spans: Sequence[Span]) -> list[Span]:
    """For each span of characters, the range of tokens that it touches.

    A token that a span cuts belongs to it whole, so neighbouring spans may share a token. A span that touches no
    token, which no byte-level tokenizer gives, is an empty range.

    Args:
        offsets: the range of characters of each token, in order.
        spans: ranges of characters.
    """
    starts, ends = np.asarray(offsets, np.int64).reshape(-1, 2).T
    first = np.searchsorted(ends, [start for start, _ in spans], side="right")
    last = np.searchsorted(starts, [end for _, end in spans], side="left")
    return [(int(a), max(int(a), int(b))) for a, b in zip(first, last, strict=True)]


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
