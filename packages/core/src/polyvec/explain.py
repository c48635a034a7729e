"""Why a page was found: which regions of an image each query token matched. Multi-vectors in, pictures out."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageDraw, ImageFont

from polyvec.images import open_image
from polyvec.types import Grid, ImageInput

_CELL = 300  # width of one map in pixels
_CAPTION = 22  # height of a caption in pixels
_GAP = 10
_COLUMNS = 4
_RED = (220, 20, 20)
_STRONGEST = 170  # of 255: how opaque the tint of the most similar patch is


def similarity_map(
    query_multivector: Float32[np.ndarray, "tokens dim"],
    document_multivector: Float32[np.ndarray, "document_tokens dim"],
    grid: Grid,
) -> Float32[np.ndarray, "tokens rows columns"]:
    """Similarity of every query token with every patch of an image: the terms that MaxSim takes the maximum of.

    Both multi-vectors may come from a store; nothing is encoded again.

    Raises:
        ValueError: the grid does not fit the document's multi-vector.
    """
    patches = document_multivector[grid.start : grid.start + grid.rows * grid.columns]
    if len(patches) != grid.rows * grid.columns:
        raise ValueError(
            f"the grid has {grid.rows}×{grid.columns} patches from token {grid.start}; "
            f"the multi-vector has {len(document_multivector)} tokens, too few."
        )
    maps: np.ndarray = (query_multivector @ patches.T).reshape(-1, grid.rows, grid.columns)
    return maps


def overlay(
    image: ImageInput, similarity: Float32[np.ndarray, "tokens rows columns"], tokens: Sequence[str]
) -> Image.Image:
    """The image once per query token, its regions tinted by similarity, behind a first panel for all tokens together.

    The tint runs from clear (the token's least similar patch) to red (its most similar one); the caption names the
    token and its highest similarity.

    Raises:
        ValueError: there are not as many tokens as maps.
    """
    if len(tokens) != len(similarity):
        raise ValueError(f"there are {len(tokens)} tokens and {len(similarity)} maps; give one token per map.")
    page = open_image(image)
    page = page.resize((_CELL, max(1, round(page.height * _CELL / page.width))), Image.Resampling.LANCZOS)
    tints = [_scaled(one) for one in similarity]
    captions = [
        f"{token.strip() or repr(token)}   max {one.max():.2f}" for token, one in zip(tokens, similarity, strict=True)
    ]
    panels = [(f"all {len(tokens)} tokens", _scaled(np.mean(tints, axis=0))), *zip(captions, tints, strict=True)]
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    width, height = _CELL + _GAP, page.height + _CAPTION + _GAP
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP + _CAPTION), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for index, (caption, tint) in enumerate(panels):
        left, top = _GAP + index % columns * width, _GAP + index // columns * height
        pen.text((left, top), caption, "black", font)
        sheet.paste(_tinted(page, tint), (left, top + _CAPTION))
    legend = _tinted(Image.new("RGB", (100, 12), "white"), np.linspace(0, 1, 100, dtype=np.float32)[None])
    sheet.paste(legend, (_GAP, rows * height + _GAP))
    pen.text((_GAP + 108, rows * height + _GAP - 3), "the token's least to most similar patch", "black", font)
    return sheet


def _scaled(similarity: np.ndarray) -> np.ndarray:
    low, high = similarity.min(), similarity.max()
    scaled: np.ndarray = (similarity - low) / (high - low) if high > low else np.zeros_like(similarity)
    return scaled


def _tinted(page: Image.Image, tint: np.ndarray) -> Image.Image:
    strength = Image.fromarray(np.uint8(np.round(tint**2 * _STRONGEST)))  # squared: what matters stands out
    return Image.composite(
        Image.new("RGB", page.size, _RED), page, strength.resize(page.size, Image.Resampling.BILINEAR)
    )
