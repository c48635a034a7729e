"""Show why a page was found: the regions of an image that each query token matched. Imports no torch."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Real
from PIL import Image, ImageDraw, ImageFont

from polyvec.compression import patches
from polyvec.images import open_image
from polyvec.types import Grid, ImageInput
from polyvec.vectors import decoded

__all__ = ["overlay", "similarity_map"]

_CELL = 300  # width of one map in pixels
_CAPTION = 22  # height of a caption in pixels
_GAP = 10
_COLUMNS = 4
_RED = (220, 20, 20)
_STRONGEST = 170  # of 255: how opaque the tint of the most similar patch is


def similarity_map(
    query_multivector: Real[np.ndarray, "tokens _"],
    document_multivector: Real[np.ndarray, "document_tokens _"],
    grid: Grid,
) -> Float32[np.ndarray, "tokens rows columns"]:
    """Compare every query token with every patch of an image: the terms of which MaxSim takes the maximum.

    Both multi-vectors may come from a store; nothing is encoded again. They may be codes or bits, as in `maxsim`.

    Raises:
        TypeError, ValueError: a multi-vector is no array (tokens, dim), their dimensions differ, or the grid does not
            fit the document's multi-vector.
    """
    regions = patches(decoded("document_multivector", document_multivector), grid)
    tokens = decoded("query_multivector", query_multivector)
    if tokens.shape[1] != regions.shape[2]:
        raise ValueError(
            f"the query's vectors have {tokens.shape[1]} numbers, and the document's {regions.shape[2]}; both must "
            "come from one model."
        )
    maps: np.ndarray = (tokens @ regions.reshape(-1, tokens.shape[1]).T).reshape(-1, grid.rows, grid.columns)
    return maps


def overlay(
    image: ImageInput, similarity: Float32[np.ndarray, "tokens rows columns"], tokens: Sequence[str]
) -> Image.Image:
    """Draw the image once per query token, its regions tinted by similarity; the first panel is for all tokens.

    The tint runs from clear (the token's least similar patch) to red (its most similar patch); the caption names the
    token and its highest similarity.

    Raises:
        ValueError: the numbers of tokens and maps differ.
    """
    if len(tokens) != len(similarity):
        raise ValueError(f"there are {len(tokens)} tokens and {len(similarity)} maps; give one token per map.")
    page = open_image(image)
    page = page.resize((_CELL, max(1, round(page.height * _CELL / page.width))), Image.Resampling.LANCZOS)
    tints = [_scaled(values) for values in similarity]
    pairs = zip(tokens, similarity, strict=True)
    captions = [f"{token.strip() or repr(token)}   max {values.max():.2f}" for token, values in pairs]
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
    red = Image.new("RGB", page.size, _RED)
    return Image.composite(red, page, strength.resize(page.size, Image.Resampling.BILINEAR))
