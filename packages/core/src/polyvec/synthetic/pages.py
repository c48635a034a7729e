"""Pictures of the demo world: single words, lines, paragraphs and whole pages, drawn by Pillow.

All sides are multiples of 28 pixels, one visual token, so nothing is resized on the way into the model. All chance
comes from the generator that is passed in: the same seed gives the same pixels.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from polyvec.synthetic.layout import layout
from polyvec.synthetic.lettering import FONTS, INKS, PAPERS, WHITE, Color, ink_box, typeface
from polyvec.synthetic.sheet import TILE, Page, Word
from polyvec.synthetic.world import Document, pick

__all__ = ["Page", "Word", "block_image", "layout", "line_image", "page_image", "statement_image", "word_image"]

_LINE_WIDTH = 392


def word_image(word: str, rng: np.random.Generator, *, height: Literal[28, 56] = 28) -> Image.Image:
    """Draw one word as it might look when cut from a page, anywhere inside the tiles it touches.

    The width is the multiple of 28 that the word needs from its random start.
    """
    ink, paper = _ink_and_paper(rng)
    font = typeface(pick(FONTS, rng), int(rng.integers(15, 25 if height == TILE else 31)))
    text = _any_case(word, rng)
    left, top, right, bottom = ink_box(text, font)
    x = int(rng.integers(TILE))
    y = int(rng.integers(height - (bottom - top) + 1))
    image = Image.new("RGB", (_tiles(x + right - left), height), paper)
    ImageDraw.Draw(image).text((x - left, y - top), text, fill=ink, font=font, anchor="ls")
    return image


def line_image(words: Sequence[str], rng: np.random.Generator) -> Image.Image:
    """Draw one line of words, 28 pixels high.

    Letters shrink until the line is within 392 pixels; the line is wider only if letters of 15 pixels are too large.
    """
    return _crop([words], rng)


def block_image(lines: Sequence[Sequence[str]], rng: np.random.Generator) -> Image.Image:
    """Draw a few lines of words as a piece of a paragraph, one row of tiles each, as wide as in `line_image`."""
    return _crop(lines, rng)


def statement_image(text: str, rng: np.random.Generator) -> Image.Image:
    """Draw a sentence as a paragraph of three words a line."""
    words = text.split()
    return _crop([words[start : start + 3] for start in range(0, len(words), 3)], rng)


def page_image(document: Document, rng: np.random.Generator, *, size: tuple[int, int] | None = None) -> Image.Image:
    """Draw a document as a page; `rng` decides the look.

    `size` is width and height in pixels, multiples of 28; by default 336 to 392 by 392 to 504.

    Raises:
        ValueError: `size` is not whole tiles, or too small for the facts of the document.
    """
    page = layout(document, rng, size=size)
    image = Image.new("RGB", page.size, page.paper)
    draw = ImageDraw.Draw(image)
    for shape in page.shapes:
        if shape.form == "line":
            draw.line(shape.points, fill=shape.fill, width=shape.width, joint="curve")
        elif shape.form == "ellipse":
            draw.ellipse(shape.points, fill=shape.fill, outline=shape.outline, width=shape.width)
        else:
            draw.rectangle(shape.points, fill=shape.fill, outline=shape.outline, width=shape.width)
    for word in page.words:
        draw.text((word.left, word.baseline), word.text, fill=word.ink, font=word.font, anchor="ls")
    return image


def _crop(lines: Sequence[Sequence[str]], rng: np.random.Generator) -> Image.Image:
    ink, paper = _ink_and_paper(rng)
    name, size = pick(FONTS, rng), int(rng.integers(15, 23))
    x = int(rng.integers(TILE))
    texts = [" ".join(_any_case(word, rng) for word in line) for line in lines]
    while True:
        font = typeface(name, size)
        boxes = [font.getbbox(text, anchor="ls") for text in texts]
        width = math.ceil(x + max(right - left for left, _, right, _ in boxes))
        top, bottom = math.floor(min(box[1] for box in boxes)), math.ceil(max(box[3] for box in boxes))
        if size == 15 or (width <= _LINE_WIDTH and bottom - top <= TILE):
            break
        size -= 1
    y = int(rng.integers(TILE - (bottom - top) + 1)) - top
    image = Image.new("RGB", (_tiles(width), TILE * len(texts)), paper)
    draw = ImageDraw.Draw(image)
    for n, (text, box) in enumerate(zip(texts, boxes, strict=True)):
        draw.text((x - box[0], y + n * TILE), text, fill=ink, font=font, anchor="ls")
    return image


def _any_case(word: str, rng: np.random.Generator) -> str:
    chance = rng.random()
    if chance < 0.08:
        return word.upper()
    return word[:1].upper() + word[1:] if chance < 0.5 else word


def _ink_and_paper(rng: np.random.Generator) -> tuple[Color, Color]:
    if rng.random() < 0.15:
        return WHITE, pick(INKS[3:], rng)
    return pick(INKS, rng), pick(PAPERS, rng)


def _tiles(length: int) -> int:
    return max(TILE, -(-length // TILE) * TILE)
