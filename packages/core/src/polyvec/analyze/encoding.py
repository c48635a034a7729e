"""Encode images and their captions with any `Encoder`; what cannot be used is left out and named."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from polyvec.analyze.captions import Captioned
from polyvec.analyze.paired import Paired, usable_rows
from polyvec.encoder import Encoder, attempt
from polyvec.types import Embeddings, Failure, Input

__all__ = ["EncodedCaptions", "encode_captions"]


@dataclass(frozen=True, slots=True, eq=False)
class EncodedCaptions:
    """Captions as vectors.

    Attributes:
        captioned: the images and texts that have vectors, in the order of the vectors.
        late: None unless multi-vectors were asked for and the encoder makes any.
        left_out: images and texts that are not among the vectors, with reasons.
    """

    captioned: Captioned
    dense: Paired
    late: Paired | None
    left_out: Sequence[Failure]


def encode_captions(
    encoder: Encoder, captioned: Captioned, *, task: str, late: bool = False, show_progress: bool = False
) -> EncodedCaptions:
    """Encode the images as documents, and the texts as queries and as documents.

    Images that cannot be read, texts that are no Unicode, and vectors without a direction are left out, and with them
    texts and images that belong to nothing else. With `late`, all multi-vectors stay in memory.

    Raises:
        ValueError: fewer than two images or texts are left.
    """
    multivector = late and encoder.multivector_dim > 0
    run = partial(encoder.encode, task=task, multivector=multivector, show_progress=show_progress)
    left_out: list[Failure] = []
    pictures = _encode(partial(run, side="document"), "image", captioned.images, range(len(captioned.images)), left_out)
    wanted = {text for image, text in captioned.pairs if image in pictures.row_by_position}
    _note(left_out, "text", captioned.texts, range(len(captioned.texts)), wanted, "no image of it could be encoded")
    queries = _encode(partial(run, side="query"), "text", captioned.texts, sorted(wanted), left_out)
    documents = _encode(partial(run, side="document"), "text", captioned.texts, queries.row_by_position, left_out)
    pairs = [
        (image, text)
        for image, text in captioned.pairs
        if image in pictures.row_by_position and text in documents.row_by_position
    ]
    images, texts = ({image for image, _ in pairs}, {text for _, text in pairs})
    _note(left_out, "image", captioned.images, pictures.row_by_position, images, "no text of it could be encoded")
    if len(images) < 2 or len(texts) < 2:
        raise ValueError(
            f"{len(images)} images and {len(texts)} texts that belong together could be encoded; an analysis compares "
            f"two or more of either. {'; '.join(map(str, left_out[:3]))}".rstrip()
        )
    kept = captioned.choose(pairs)
    sides = [side.choose(sorted(rows)) for side, rows in ((pictures, images), (queries, texts), (documents, texts))]
    rows = np.array(kept.pairs)
    dense = Paired(sides[0].dense, sides[1].dense, rows, sides[2].dense)
    tokens = [side.multivector for side in sides if side.multivector is not None]
    return EncodedCaptions(kept, dense, Paired(tokens[0], tokens[1], rows, tokens[2]) if tokens else None, left_out)


@dataclass(frozen=True, slots=True, eq=False)
class _Encoded:
    """Items that have vectors: their rows by their positions among all items."""

    row_by_position: Mapping[int, int]
    embeddings: Embeddings

    def choose(self, positions: Sequence[int]) -> Embeddings:
        rows = [self.row_by_position[position] for position in positions]
        tokens = self.embeddings.multivector
        return replace(
            self.embeddings,
            dense=self.embeddings.dense[rows],
            multivector=None if tokens is None else tuple(tokens[row] for row in rows),
            grids=(None,) * len(rows),
        )


def _encode(
    run: Callable[[list[Input]], Embeddings],
    kind: str,
    items: Mapping[str, Input],
    chosen: Iterable[int],
    left_out: list[Failure],
) -> _Encoded:
    """Encode the items at the chosen positions; those that fail are added to `left_out`."""
    positions, contents = list(chosen), list(items.values())
    result = attempt(run, [contents[position] for position in positions])
    usable = usable_rows(result.embeddings.dense)
    if result.embeddings.multivector is not None:
        usable &= usable_rows(result.embeddings.multivector)
    reasons = {positions[failure.index]: failure.reason for failure in result.failures}
    flawed = (positions[index] for index, good in zip(result.kept, usable, strict=True) if not good)
    reasons |= dict.fromkeys(
        flawed, "the encoder gave it a vector that is zero or not finite, or a token not of unit length"
    )
    names = list(items)
    left_out.extend(Failure(index, f"{kind} {names[index]!r}", reason) for index, reason in sorted(reasons.items()))
    rows = {positions[index]: row for row, index in enumerate(result.kept) if usable[row]}
    return _Encoded(rows, result.embeddings)


def _note(
    left_out: list[Failure], kind: str, items: Mapping[str, Input], positions: Iterable[int], kept: set[int], why: str
) -> None:
    names = list(items)
    left_out.extend(Failure(index, f"{kind} {names[index]!r}", why) for index in positions if index not in kept)
