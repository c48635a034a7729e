"""The few types that everything else speaks. Importing this module loads neither torch nor transformers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
from jaxtyping import Float32
from PIL import Image

Task = Literal["retrieval", "text-matching", "code"]
PromptName = Literal["query", "passage"]
AnyTask = Task | str  # one of the checkpoint's, or the name of an adapter that was loaded
TASKS: tuple[Task, ...] = get_args(Task)

ImageInput = Image.Image | Path | bytes | np.ndarray  # (height, width) or (height, width, 1, 3 or 4)
Input = str | ImageInput


@dataclass(frozen=True, slots=True)
class Grid:
    """Where an image's patches stand in its multi-vector: `rows * columns` tokens in reading order from `start`."""

    rows: int
    columns: int
    start: int


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """One encode call's result, in input order.

    Attributes:
        dense: one unit vector per item.
        multivector: one unit vector per token of each item, padding excluded; None unless asked for.
        grids: per item, where its image patches are in the multi-vector; None for a text.
    """

    dense: Float32[np.ndarray, "items dim"]
    multivector: tuple[Float32[np.ndarray, "_ late_dim"], ...] | None
    grids: tuple[Grid | None, ...]

    def __len__(self) -> int:
        return len(self.dense)

    def __getitem__(self, index: int) -> "Embeddings":
        """One item's embeddings, as an `Embeddings` of length 1; nothing is copied."""
        at = range(len(self))[index]
        rows = None if self.multivector is None else (self.multivector[at],)
        return Embeddings(self.dense[at : at + 1], rows, (self.grids[at],))

    def __iter__(self) -> Iterator["Embeddings"]:
        """Each item's embeddings, in order."""
        return (self[index] for index in range(len(self)))


class UnreadableInputs(ValueError):  # noqa: N818 — it names the inputs, and callers read them
    """Some inputs could not be read; every other one was encoded.

    Attributes:
        failed: index of each unreadable input → what is wrong with it.
        kept: indices of the inputs that were encoded, ascending.
        embeddings: their embeddings, row i belonging to input `kept[i]`.
        handed_out: how many others a stream had handed out before; they are not in `kept`.
    """

    def __init__(
        self, failed: Mapping[int, str], kept: Sequence[int], embeddings: Embeddings, handed_out: int = 0
    ) -> None:
        self.failed, self.kept, self.embeddings, self.handed_out = dict(failed), list(kept), embeddings, handed_out
        shown = "; ".join(f"item {index}: {reason}" for index, reason in list(self.failed.items())[:5])
        more = f"; and {len(self.failed) - 5} more" if len(self.failed) > 5 else ""
        super().__init__(
            f"{len(self.failed)} of {len(self.failed) + len(self.kept) + handed_out} inputs could not be read. "
            f"{shown}{more}. The others were encoded"
            + (" and handed out." if handed_out else ": see `.embeddings` and `.kept` of this error.")
        )

    def __reduce__(self) -> tuple[type["UnreadableInputs"], tuple[object, ...]]:
        return type(self), (self.failed, self.kept, self.embeddings, self.handed_out)


class Encoder(Protocol):
    """What a store needs of an embedder. `polyvec.Embedder` is one; `polyvec.testing.HashEmbedder` is another."""

    @property
    def fingerprint(self) -> str:
        """What must agree before two vectors may be compared."""
        ...

    @property
    def dim(self) -> int:
        """Length of an untruncated dense vector."""
        ...

    @property
    def multivector_dim(self) -> int:
        """Length of each vector of a multi-vector; 0 if it makes none."""
        ...

    def encode_query(
        self,
        inputs: Sequence[Input],
        *,
        task: AnyTask,
        truncate_dim: int | None = None,
        multivector: bool = False,
        show_progress: bool = False,
    ) -> Embeddings:
        """Encode the side that asks."""
        ...

    def encode_document(
        self,
        inputs: Sequence[Input],
        *,
        task: AnyTask,
        truncate_dim: int | None = None,
        multivector: bool = False,
        show_progress: bool = False,
    ) -> Embeddings:
        """Encode the side that is found."""
        ...
