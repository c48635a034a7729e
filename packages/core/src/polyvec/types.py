"""The types that all modules share. Importing this module loads neither torch nor transformers."""

import copyreg
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, SupportsIndex, get_args

import numpy as np
from jaxtyping import Float32
from PIL import Image

from polyvec import vector_files
from polyvec.paths import printable
from polyvec.vectors import truncate

__all__ = [
    "TASKS",
    "Embeddings",
    "Failure",
    "Grid",
    "ImageInput",
    "ImageText",
    "Input",
    "Kind",
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


@dataclass(frozen=True, slots=True, eq=False)
class ImageText:
    """One item of an image and its text, such as a page with its OCR or a picture with its caption.

    An `Embedder` reads both in one sequence: the tokens of the image alone up to `<|vision_end|>`, then the text with
    the prefix of its side and task in the place of the image prompt's instruction, then the end of that prompt. The
    image cannot see the text, because attention is causal, but the text sees the image. The dense vector is the mean
    from `<|vision_start|>` to the last token of the text, the multi-vector has all tokens, and the grid is the image's.
    This form is polyvec's own. The reference implementation of jina-embeddings-v4 has no such items, and the model was
    not trained for them.

    `max_pixels` bounds the image. `max_length` bounds the text with its prefix; the image is never cut.

    Attributes:
        image: as an image that is an item of its own.
        text: plain text. If it is empty, the item is the image alone.
    """

    image: ImageInput
    text: str


Input = str | ImageInput | ImageText
Kind = Literal["text", "image", "image-text"]  # of an input


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
        grids: per item, the position of its image's patches in the multi-vector; None for a text.
        fingerprint: that of the encoder. Vectors may be compared only if theirs agree; empty if it is unknown.
    """

    dense: Float32[np.ndarray, "items dim"]
    multivector: tuple[Float32[np.ndarray, "_ late_dim"], ...] | None
    grids: tuple[Grid | None, ...]
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.dense)

    def __getitem__(self, index: SupportsIndex | slice) -> "Embeddings":
        """The embeddings of one item, as an `Embeddings` of length 1, or of a slice of the items. Nothing is copied."""
        if not isinstance(index, slice):
            row = range(len(self))[index]
            index = slice(row, row + 1)
        tokens = None if self.multivector is None else self.multivector[index]
        return replace(self, dense=self.dense[index], multivector=tokens, grids=self.grids[index])

    def __iter__(self) -> Iterator["Embeddings"]:
        """Each item's embeddings, in order."""
        return (self[index] for index in range(len(self)))

    def truncate(self, dim: int) -> "Embeddings":
        """Cut the dense vectors to `dim` numbers and scale them to unit length again. Multi-vectors stay as they are.

        Raises:
            ValueError: `dim` is not between 1 and the length of a dense vector.
        """
        return replace(self, dense=truncate(self.dense, dim))

    @classmethod
    def concatenate(cls, parts: Iterable["Embeddings"]) -> "Embeddings":
        """Put the items of several results into one result, in order.

        Raises:
            ValueError: there are no parts, or they differ in their fingerprints, in the length of their vectors, or in
                whether they have multi-vectors.
        """
        parts = list(parts)
        if not parts:
            raise ValueError("there are no embeddings to concatenate.")
        _check_equal("fingerprint", [part.fingerprint for part in parts])
        _check_equal("length of dense vectors", [part.dense.shape[1] for part in parts])
        _check_equal("presence of multi-vectors", [part.multivector is not None for part in parts])
        tokens = [rows for part in parts for rows in part.multivector or ()]
        _check_equal("length of the rows of multi-vectors", [rows.shape[1] for rows in tokens], "item")
        return replace(
            parts[0],
            dense=np.concatenate([part.dense for part in parts]),
            multivector=None if parts[0].multivector is None else tuple(tokens),
            grids=tuple(grid for part in parts for grid in part.grids),
        )

    def save(self, path: str | Path) -> None:
        """Write the embeddings to one safetensors file, which `load` reads. An existing file is replaced.

        Raises:
            OSError: the file cannot be written.
        """
        # An image has one patch or more, so zeros stand for a text.
        grids = [(grid.rows, grid.columns, grid.start) if grid else (0, 0, 0) for grid in self.grids]
        arrays: dict[str, np.ndarray] = {"dense": self.dense, "grids": np.array(grids, np.int64).reshape(-1, 3)}
        if self.multivector is not None:
            arrays["lengths"] = np.array([len(rows) for rows in self.multivector], np.int64)
            arrays["tokens"] = np.concatenate(self.multivector or (np.zeros((0, 0), np.float32),))
        vector_files.write(Path(path), arrays, {"format": _FORMAT, "fingerprint": self.fingerprint})

    @classmethod
    def load(cls, path: str | Path) -> "Embeddings":
        """Read embeddings that `save` wrote.

        Raises:
            OSError: the file is missing or cannot be read.
            ValueError: it is no file of embeddings, or damaged.
        """
        arrays, metadata = vector_files.read(Path(path), format=_FORMAT)
        try:
            grids = tuple(Grid(*grid) if any(grid) else None for grid in arrays["grids"].tolist())
            tokens = _split(arrays["tokens"], arrays["lengths"]) if "lengths" in arrays else None
            embeddings = cls(arrays["dense"], tokens, grids, metadata["fingerprint"])
            if {len(embeddings)} != {len(part) for part in (grids, tokens) if part is not None}:
                raise ValueError("its arrays differ in length")  # noqa: TRY301 — as if it were any other fault
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{str(path)!r} is damaged: {error}.") from error
        return embeddings


_FORMAT = "polyvec embeddings 1"


def _split(tokens: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, ...]:
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    if (lengths < 0).any() or len(tokens) != (ends or [0])[-1]:
        raise ValueError("its multi-vectors have other lengths")
    return tuple(tokens[start:end] for start, end in zip([0, *ends], ends, strict=False))


def _check_equal(what: str, values: Sequence[object], of: str = "part") -> None:
    for index, value in enumerate(values):
        if value != values[0]:
            raise ValueError(
                f"the embeddings differ in their {what}: {of} 0 has {values[0]!r}, {of} {index} has {value!r}. Only "
                "embeddings of one encoder and size can be put together."
            )


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
        text: the visible part of a PDF's text layer, one line feed between lines, then the values of form fields;
            empty without both, as in a scan.
        label: what the PDF itself calls the page, such as `viii` or `A-3`, if that was asked for; None if it is the
            number, or nothing.
    """

    number: int
    image: Image.Image
    text: str
    label: str | None = None


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
