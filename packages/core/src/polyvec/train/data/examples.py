"""What training reads and draws: examples, the pairs of a step, and their vectors."""

from collections.abc import Sequence
from dataclasses import dataclass

from polyvec.data.documents import Document, PdfPage

__all__ = ["Document", "Example", "Pair", "PdfPage", "Step", "file_group"]


def file_group(document: Document) -> str | None:
    """Return the group that a page belongs to by itself: its file. Texts and images belong to none."""
    return document.path.as_posix() if isinstance(document, PdfPage) else None


@dataclass(frozen=True, slots=True)
class Example:
    """A row of training data.

    Attributes:
        query: what is searched for, or the first of two texts to compare.
        positives: what answers it, one or more of one kind, texts or images; with a `score`, the second of two texts.
        negatives: what does not answer it, although it seems to; best first. Both sequences may read a document from
            disk each time when it is indexed.
        score: the gold similarity of the query and its only positive, on the scale of its source.
        group: documents of one group, such as the pages of one file, are never negatives of each other.
        place: where the row stands, `file:line`, for messages.
    """

    query: Document
    positives: Sequence[Document]
    negatives: Sequence[Document] = ()
    score: float | None = None
    group: str | None = None
    place: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """What a step draws from an example: its query, one positive, and some of its negatives.

    Attributes:
        scale: names the scale of the score; scores of different scales are never compared.
    """

    query: Document
    document: Document
    negatives: tuple[Document, ...] = ()
    score: float | None = None
    scale: str = ""
    group: str | None = None
    place: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """The pairs of one optimisation step: B_txt and B_multi of eq. 6. Either may be empty.

    Attributes:
        seed: of everything random in the step, such as dropout.
    """

    texts: Sequence[Pair]
    images: Sequence[Pair]
    seed: int = 0
