"""Show why a page was found: the regions of an image that each query token matched. Imports no torch."""

import math
from collections.abc import Sequence

import numpy as np
import regex
from jaxtyping import Float32, Real
from PIL import Image, ImageDraw, ImageFont, ImageOps

from polyvec.compression import patches
from polyvec.data.building.tables.fonts import chain, installed_fonts
from polyvec.data.building.tables.typesetting import Face, bitmap
from polyvec.images import open_image
from polyvec.types import Grid, ImageInput
from polyvec.vectors import decoded
from polyvec.warning import warn

__all__ = ["overlay", "similarity_map"]

_CELL = 300  # width of one map in pixels
_CAPTION = 22  # height of a caption in pixels
_GAP = 10
_COLUMNS = 4
_SIZE = 14  # of letters in pixels
_BASELINE = 14  # of a caption, below its upper edge
_SCORE = 80  # pixels of a caption that its similarity needs
_JOINERS = str.maketrans("", "", "\u200c\u200d")  # letters are drawn joined or apart because of them
_WITHOUT_INK = regex.compile(r"[\p{Default_Ignorable_Code_Point}\p{Space}\u2800]*")  # the last: Braille without dots
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
    token and its highest similarity. Letters beyond ASCII need matplotlib, whose fonts have several alphabets, and for
    many more the extra `fonts` or a font of the system. A token with a letter that no font has gets a number as its
    caption, and a warning says which token that is.

    Raises:
        ValueError: the numbers of tokens and maps differ.
    """
    if len(tokens) != len(similarity):
        raise ValueError(f"there are {len(tokens)} tokens and {len(similarity)} maps; give one token per map.")
    page = open_image(image)
    page = page.resize((_CELL, max(1, round(page.height * _CELL / page.width))), Image.Resampling.LANCZOS)
    tints = [_scaled(values) for values in similarity]
    scores = [f"   max {values.max():.2f}" for values in similarity]
    captions = [_lettered(f"all {len(tokens)} tokens"), *map(_caption, _labels(tokens), scores)]
    panels = list(zip(captions, [_scaled(np.mean(tints, axis=0)), *tints], strict=True))
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    width, height = _CELL + _GAP, page.height + _CAPTION + _GAP
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP + _CAPTION), "white")
    for index, (caption, tint) in enumerate(panels):
        left, top = _GAP + index % columns * width, _GAP + index // columns * height
        sheet.paste(caption, (left, top))
        sheet.paste(_tinted(page, tint), (left, top + _CAPTION))
    legend = _tinted(Image.new("RGB", (100, 12), "white"), np.linspace(0, 1, 100, dtype=np.float32)[None])
    sheet.paste(legend, (_GAP, rows * height + _GAP))
    sheet.paste(_lettered("the token's least to most similar patch"), (_GAP + 108, rows * height + _GAP - 3))
    return sheet


def _labels(tokens: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Return what stands for each token, and the fonts that draw it; none for ASCII, which Pillow's own font has."""
    labels: list[tuple[str, tuple[str, ...]]] = []
    numbered: list[str] = []
    for number, token in enumerate(tokens, 1):
        visible = not _WITHOUT_INK.fullmatch(token) and token.strip().translate(_JOINERS).isprintable()
        label = token.strip() if visible else ascii(token)
        try:
            files = () if label.isascii() else _fonts(frozenset(label))
        except (ImportError, ValueError):
            numbered.append(f"{number} is {label!r}")
            label, files = f"token {number}", ()
        labels.append((label, files))
    if numbered:
        warn(
            f"no font has all letters of some tokens, which the picture numbers: {', '.join(numbered)}. "
            "`pip install 'polyvec[build,fonts]'` has fonts for many scripts, and fonts of the system are used, too."
        )
    return labels


def _fonts(letters: frozenset[str]) -> tuple[str, ...]:
    """Return the fonts that some letters need; see `chain`."""
    if "\ufffd" in letters:
        raise ValueError("each letter that cannot be read looks the same.")
    return chain(installed_fonts(), 0, letters)


def _caption(label: tuple[str, tuple[str, ...]], score: str) -> Image.Image:
    """Draw a label, shaped and in its direction, and its score behind it."""
    text, files = label
    caption = _lettered("" if files else text)
    if files:
        ink, n_below = bitmap(text, Face(files, _SIZE))
        caption.paste(ImageOps.invert(Image.fromarray(ink)), (0, _BASELINE + n_below - ink.shape[0]))
        width = ink.shape[1]
    else:
        width = math.ceil(ImageFont.load_default(_SIZE).getlength(text))
    caption.paste(_lettered(score), (min(width, _CELL - _SCORE), 0))
    return caption


def _lettered(text: str) -> Image.Image:
    """Draw ASCII text."""
    caption = Image.new("RGB", (_CELL, _CAPTION), "white")
    ImageDraw.Draw(caption).text((0, _BASELINE), text, "black", ImageFont.load_default(_SIZE), anchor="ls")
    return caption


def _scaled(similarity: np.ndarray) -> np.ndarray:
    low, high = similarity.min(), similarity.max()
    scaled: np.ndarray = (similarity - low) / (high - low) if high > low else np.zeros_like(similarity)
    return scaled


def _tinted(page: Image.Image, tint: np.ndarray) -> Image.Image:
    strength = Image.fromarray(np.uint8(np.round(tint**2 * _STRONGEST)))  # squared: what matters stands out
    red = Image.new("RGB", page.size, _RED)
    return Image.composite(red, page, strength.resize(page.size, Image.Resampling.BILINEAR))
