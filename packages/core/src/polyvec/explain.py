"""Show why a page was found: the regions of an image that each query token matched. Imports no torch."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import regex
from jaxtyping import Float32, Real
from PIL import Image, ImageDraw, ImageFont, ImageOps

from polyvec.compression import patches
from polyvec.data.building.tables.fonts import chain, installed_fonts
from polyvec.data.building.tables.typesetting import Face, bitmap
from polyvec.images import open_image
from polyvec.tokens import letters
from polyvec.types import Grid, ImageInput
from polyvec.vectors import decoded
from polyvec.warning import warn

__all__ = ["overlay", "similarity_map", "word_maps"]

_CELL = 300  # width of one map in pixels
_CAPTION = 22  # height of a caption in pixels
_GAP = 10
_COLUMNS = 4
_OVERVIEW = _COLUMNS * (_CELL + _GAP) - _GAP  # largest width of the map of all words, where a page can be read
_SIZE = 14  # of letters in pixels
_BASELINE = 14  # of a caption, below its upper edge
_SCORE = 80  # pixels of a caption that its similarity needs
_JOINERS = str.maketrans("", "", "\u200c\u200d")  # letters are drawn joined or apart because of them
_WITHOUT_INK = regex.compile(r"[\p{Default_Ignorable_Code_Point}\p{Space}\u2800]*")  # the last: Braille without dots
_BEGINS = regex.compile(r"(?V1)[\s[\p{Han}\p{Hiragana}\p{Katakana}\p{Line_Break=SA}]]")  # a new word
_AROUND = regex.compile(r"^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$")  # punctuation
_WORD = regex.compile(r"[\p{L}\p{N}]")
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


def word_maps(
    maps: Float32[np.ndarray, "tokens rows columns"],
    tokens: Sequence[str],
    *,
    prefix: str = "",
    is_left_out: Callable[[str], bool] = lambda _: False,
) -> tuple[Float32[np.ndarray, "words rows columns"], list[str]]:
    """Merge the maps of a query's tokens into maps of its words, the most similar word first.

    The similarity of a word and a patch is the highest one of the word's tokens. Words without a letter or digit are
    left out, and so are words that `is_left_out`, unless no other word is there. In scripts without spaces, each token
    is a word.

    Args:
        maps: of `similarity_map`.
        tokens: of `Embedder.tokens`, one for each map.
        prefix: text before the query, which the model may add. Its tokens are left out.
        is_left_out: for example, whether a word is a stop word. It gets the word without punctuation around it.

    Raises:
        ValueError: the numbers of tokens and maps differ, or the query has no words.
    """
    _check_numbers(tokens, maps)
    texts, rows = [""], [[-1]]  # of each word; the first one collects the prefix
    n_skipped = len(prefix.rstrip()) if "".join(tokens).startswith(prefix.rstrip()) else 0
    n_read = 0
    for index, token in enumerate(tokens):
        text = letters(token)
        n_read += len(text)
        if n_read <= n_skipped:
            continue
        if len(rows) == 1 or (text and _BEGINS.match(text)) or texts[-1].endswith((" ", "\n")):
            texts.append("")
            rows.append([])
        texts[-1] += text
        rows[-1].append(index)
    words = [(text.strip(), of_word) for text, of_word in zip(texts[1:], rows[1:], strict=True) if _WORD.search(text)]
    if not words:
        raise ValueError(f"the tokens {''.join(tokens)!r} have no word; there is nothing to explain.")
    words = [word for word in words if not is_left_out(_AROUND.sub("", word[0]))] or words
    merged = [(maps[of_word].max(axis=0), text) for text, of_word in words]
    merged.sort(key=lambda word: -word[0].max())
    return np.stack([word for word, _ in merged]), [text for _, text in merged]


def _check_numbers(tokens: Sequence[str], maps: np.ndarray) -> None:
    if len(tokens) != len(maps):
        raise ValueError(f"there are {len(tokens)} tokens and {len(maps)} maps; give one token per map.")


def overlay(
    image: ImageInput, similarity: Float32[np.ndarray, "tokens rows columns"], tokens: Sequence[str]
) -> Image.Image:
    """Draw the image once for all query tokens, large, and then once per token, its regions tinted by similarity.

    The tint runs from clear (the token's least similar patch) to red (its most similar patch); the caption names the
    token and its highest similarity. `word_maps` makes words of tokens. Letters beyond ASCII need matplotlib, whose
    fonts have several alphabets, and for many more the extra `fonts` or a font of the system. A token with a letter
    that no font has gets a number as its caption, and a warning says which token that is.

    Raises:
        ValueError: the numbers of tokens and maps differ.
    """
    _check_numbers(tokens, similarity)
    original = open_image(image)
    page, overview = _resized(original, _CELL), _resized(original, min(max(original.width, _CELL), _OVERVIEW))
    tints = [_scaled(values) for values in similarity]
    scores = [f"   max {values.max():.2f}" for values in similarity]
    captions = list(map(_caption, _labels(tokens), scores))
    rows = -(-len(tokens) // _COLUMNS)
    width, height = _CELL + _GAP, page.height + _CAPTION + _GAP
    begin = overview.height + _CAPTION + 2 * _GAP  # of the panels of tokens
    end = begin + rows * height
    sheet = Image.new("RGB", (_COLUMNS * width + _GAP, end + _CAPTION), "white")
    sheet.paste(_lettered(f"all {len(tokens)} together"), (_GAP, _GAP))
    sheet.paste(_tinted(overview, _scaled(np.mean(tints, axis=0))), (_GAP, _GAP + _CAPTION))
    for index, (caption, tint) in enumerate(zip(captions, tints, strict=True)):
        left, top = _GAP + index % _COLUMNS * width, begin + index // _COLUMNS * height
        sheet.paste(caption, (left, top))
        sheet.paste(_tinted(page, tint), (left, top + _CAPTION))
    legend = _tinted(Image.new("RGB", (100, 12), "white"), np.linspace(0, 1, 100, dtype=np.float32)[None])
    sheet.paste(legend, (_GAP, end))
    sheet.paste(_lettered("the least to the most similar patch"), (_GAP + 108, end - 3))
    return sheet


def _resized(page: Image.Image, width: int) -> Image.Image:
    return page.resize((width, max(1, round(page.height * width / page.width))), Image.Resampling.LANCZOS)


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
