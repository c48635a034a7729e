"""The types that all modules share. Importing this module loads neither torch nor transformers."""

import copyreg
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float32
from PIL import Image

from polyvec.paths import printable

__all__ = [
    "TASKS",
    "Embeddings",
    "Failure",
    "Grid",
    "ImageInput",
    "Input",
    "Page",
    "Side",
    "SomeFailed",
    "Task",
    "UnreadableInputs",
    "UnreadablePages",
]

Task = Literal["retrieval", "text-matching", "code"]
TASKS: tuple[Task, ...] = get_args(Task)
Side = Literal["query", "document"]  # what searches, and what is searched
Dtype = Literal["auto", "float32", "bfloat16", "float16"]  # of a model's weights

ImageInput = Image.Image | Path | bytes | np.ndarray  # (height, width) or (height, width, 1, 3 or 4)
Input = str | ImageInput


@dataclass(frozen=True, slots=True)
class Grid:
    """Position of an image's patches in its multi-vector: `rows * columns` tokens in reading order from `start`."""

    rows: int
    columns: int
    start: int


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """The result of one encode call, in input order.

    Attributes:
        dense: one unit vector per item.
        multivector: one unit vector per token of each item, padding excluded; None if not requested.
        grids: per item, the position of its image patches in the multi-vector; None for a text.
    """

    dense: Float32[np.ndarray, "items dim"]
    multivector: tuple[Float32[np.ndarray, "_ late_dim"], ...] | None
    grids: tuple[Grid | None, ...]

    def __len__(self) -> int:
        return len(self.dense)

    def __getitem__(self, index: int) -> "Embeddings":
        """One item's embeddings, as an `Embeddings` of length 1; nothing is copied."""
        row = range(len(self))[index]
        tokens = None if self.multivector is None else (self.multivector[row],)
        return Embeddings(self.dense[row : row + 1], tokens, (self.grids[row],))

    def __iter__(self) -> Iterator["Embeddings"]:
        """Each item's embeddings, in order."""
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True, slots=True)
class Failure:
    """One item of a call that failed.

    Attributes:
        index: position in the call, from 0; for a PDF page its number, from 1. -1 if the item never had a position.
        source: what a user calls the item, such as a path; empty if it has no name of its own.
        reason: what is wrong with it.
    """

    index: int
    source: str
    reason: str

    def __str__(self) -> str:
        return printable(f"{self.source or f'item {self.index}'}: {self.reason.rstrip('.')}")


class SomeFailed(ValueError):  # noqa: N818 — some items failed, the call did not
    """Some items of a call failed: `failures`, in the order of the call. The results of all other items are kept.

    The base of all such errors. A subclass carries, or names, the results of the other items.
    """

    def __init__(self, failures: Sequence[Failure], total: int, *, happened: str, others: str = "") -> None:
        """Describe the first failures in the message.

        `total` counts the items of the call, `happened` says what happened to the failed items, such as `inputs could
        not be read`, and `others` is a sentence on the other items.
        """
        self.failures = tuple(failures)
        shown = "; ".join(map(str, self.failures[:5]))
        more = f"; and {len(self.failures) - 5} more" if len(self.failures) > 5 else ""
        super().__init__(f"{len(self.failures)} of {total} {happened}. {shown}{more}. {others}".rstrip())

    @property
    def reasons(self) -> dict[int, str]:
        """The reason of each failure by its index."""
        return {failure.index: failure.reason for failure in self.failures}

    def __reduce__(self) -> tuple[Any, ...]:  # as object's own, which calls no __init__
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]  # in no stub


class UnreadableInputs(SomeFailed):
    """Some inputs could not be read. Every other input was encoded.

    Attributes:
        embeddings: the embeddings of the other inputs; row i belongs to input `kept[i]`.
        kept: positions of the inputs that were encoded, ascending.
    """

    def __init__(
        self, reasons: Mapping[int, str], kept: Sequence[int], embeddings: Embeddings, handed_out: int = 0
    ) -> None:
        """Collect what an encode call has to report: what is wrong with each unreadable input, by position.

        `handed_out` counts inputs that a stream encoded and handed out before; they are not in `kept`.
        """
        self.kept, self.embeddings = list(kept), embeddings
        others = "The others were encoded"
        others += " and handed out." if handed_out else ": see `.embeddings` and `.kept` of this error."
        failures = [Failure(index, "", reason) for index, reason in sorted(reasons.items())]
        total = len(failures) + len(self.kept) + handed_out
        super().__init__(failures, total, happened="inputs could not be read", others=others)


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """One page of a PDF or of an image file.

    Attributes:
        number: counted from 1.
        image: the page as a reader sees it, RGB: upright, and from a PDF cropped, with annotations and filled forms.
        text: the visible part of a PDF's text layer, one line feed between lines; empty without a text layer, as in a
            scan.
    """

    number: int
    image: Image.Image
    text: str


class UnreadablePages(SomeFailed):
    """Some pages of a PDF or image file could not be read. Every other page was handed out. Failures count from page 1.

    `name` describes the file in messages.
    """

    def __init__(self, name: str, reasons: Mapping[int, str], handed_out: int) -> None:
        self.name = name
        super().__init__(
            [Failure(number, f"page {number}", reason) for number, reason in sorted(reasons.items())],
            len(reasons) + handed_out,
            happened=f"pages of {name} could not be read",
            others="The others were handed out." if handed_out else "",
        )
