"""Encode images and their captions with any `Encoder`; what cannot be used is left out and named."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from polyvec.analyze.captions import Captioned
from polyvec.analyze.paired import Paired
from polyvec.encoder import Encoder, attempt
from polyvec.types import Embeddings, Failure, Input, Side

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
    left_out: list[Failure] = []
    multivector = late and encoder.multivector_dim > 0

    def encode(side: Side, kind: str, items: dict[int, Input], names: Sequence[str]) -> tuple[dict[int, int], Embeddings]:
        """Return the row of each item, and the vectors."""
        positions = list(items)
        run = partial(encoder.encode, side=side, task=task, multivector=multivector, show_progress=show_progress)
        result = attempt(run, list(items.values()))
        left_out.extend(
            Failure(positions[failure.index], f"{kind} {names[positions[failure.index]]!r}", failure.reason)
            for failure in result.failures
        )
        lengths = np.linalg.norm(result.embeddings.dense, axis=1)
        rows = {}
        for row, index in enumerate(result.kept):
            if np.isfinite(lengths[row]) and lengths[row] > 0:
                rows[positions[index]] = row
            else:
                reason = "the encoder gave it a vector that is zero or not finite"
                left_out.append(Failure(positions[index], f"{kind} {names[positions[index]]!r}", reason))
        return rows, result.embeddings

    images, texts = list(captioned.images), list(captioned.texts)
    image_rows, image_vectors = encode("document", "image", dict(enumerate(captioned.images.values())), images)
    wanted = {text for image, text in captioned.pairs if image in image_rows}
    contents = list(captioned.texts.values())
    left_out.extend(
        Failure(index, f"text {name!r}", "no image of it could be encoded")
        for index, name in enumerate(texts)
        if index not in wanted
    )
    text_rows, text_vectors = encode("query", "text", {index: contents[index] for index in sorted(wanted)}, texts)
    document_rows, documents = encode("document", "text", {index: contents[index] for index in text_rows}, texts)
    pairs = [(image, text) for image, text in captioned.pairs if image in image_rows and text in document_rows]
    kept_images, kept_texts = (sorted(set(side)) for side in zip(*pairs, strict=True)) if pairs else ([], [])
    if len(kept_images) < 2 or len(kept_texts) < 2:
        reasons = "; ".join(map(str, left_out[:3]))
        raise ValueError(
            f"{len(kept_images)} images and {len(kept_texts)} texts that belong together are left of {len(images)} and "
            f"{len(texts)}; an analysis compares two or more of either. {reasons}".rstrip()
        )
    left_out.extend(
        Failure(index, f"image {images[index]!r}", "no text of it could be encoded")
        for index in sorted(image_rows.keys() - set(kept_images))
    )
    numbers = [{index: row for row, index in enumerate(kept)} for kept in (kept_images, kept_texts)]
    new_pairs = [(numbers[0][image], numbers[1][text]) for image, text in pairs]
    sides = (
        (image_vectors, [image_rows[index] for index in kept_images]),
        (text_vectors, [text_rows[index] for index in kept_texts]),
        (documents, [document_rows[index] for index in kept_texts]),
    )
    dense = [embeddings.dense[rows] for embeddings, rows in sides]
    tokens = [[embeddings.multivector[row] for row in rows] for embeddings, rows in sides if embeddings.multivector]
    array = np.array(new_pairs)
    return EncodedCaptions(
        replace(
            captioned,
            images={images[index]: list(captioned.images.values())[index] for index in kept_images},
            texts={texts[index]: contents[index] for index in kept_texts},
            pairs=new_pairs,
        ),
        Paired(dense[0], dense[1], array, dense[2]),
        Paired(tokens[0], tokens[1], array, tokens[2]) if tokens else None,
        left_out,
    )
