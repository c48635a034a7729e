"""A page in the making: its style, and what has been placed on it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import ImageFont

from polyvec.demo.lettering import (
    BODY_FONTS,
    HEADING_FONTS,
    INKS,
    PAPERS,
    Box,
    Color,
    advance,
    extent,
    ink_box,
    typeface,
    wrapped,
)
from polyvec.demo.world import one

TILE = 28  # pixels: one visual token


@dataclass(frozen=True, slots=True)
class Word:
    """A drawn word. `box` encloses its ink: left, top, right and bottom in pixels."""

    text: str
    box: Box
    left: int
    baseline: int
    font: ImageFont.FreeTypeFont
    ink: Color


@dataclass(frozen=True, slots=True)
class Shape:
    """A drawn rectangle, ellipse or line; `points` are x, y pairs in pixels."""

    form: Literal["rectangle", "ellipse", "line"]
    points: tuple[int, ...]
    fill: Color | None = None
    outline: Color | None = None
    width: int = 1


@dataclass(frozen=True, slots=True)
class Page:
    """Everything on a page and where it stands; shapes lie under words."""

    size: tuple[int, int]
    paper: Color
    shapes: tuple[Shape, ...]
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Style:
    """How a page looks. Sizes are pixels, `phase` says how low in their rows lines stand, `upright` is for columns."""

    body: str
    heading: str
    body_size: int
    heading_size: int
    header: Literal["plain", "centered", "banner", "letterhead"]
    ruled: bool
    paper: Color
    ink: Color
    accent: Color
    margin: int
    phase: float
    upright: bool


def random_style(rng: np.random.Generator) -> Style:
    """Draws a style."""
    body = one(BODY_FONTS[:-1], rng)
    return Style(
        body=body,
        heading=one(HEADING_FONTS, rng),
        body_size=int(rng.integers(15, 17 if body == "DejaVuSansMono" else 20)),
        heading_size=int(rng.integers(19, 24)),
        header=one(("plain", "centered", "banner", "letterhead"), rng),
        ruled=bool(rng.random() < 0.5),
        paper=one(PAPERS, rng),
        ink=one(INKS[:4], rng),
        accent=one(INKS[3:], rng),
        margin=int(rng.integers(14, 30)),
        phase=float(rng.uniform(0.35, 0.75)),
        upright=bool(rng.random() < 0.7),
    )


class Sheet:
    """A page in the making: what has been placed so far and how far down that reaches.

    Every line of text stands in one row of tiles, so that no letter is cut in two by the model's patches; how high in
    its row, `phase` says.
    """

    def __init__(self, size: tuple[int, int], style: Style) -> None:
        self.width, self.height = size
        self.style = style
        self.left = style.margin
        self.right = self.width - style.margin
        self.bottom = self.height - TILE
        self.y = style.margin
        self.body = typeface(style.body, style.body_size)
        self.words: list[Word] = []
        self.shapes: list[Shape] = []

    def row(self) -> int:
        """Where the next free row of tiles starts; less than a third of a row of space is not a row."""
        return -(-(self.y - 8) // TILE) * TILE

    def baseline(self, row: int, font: ImageFont.FreeTypeFont) -> int:
        """The baseline of a line in the row that starts at `row`."""
        above, below = -ink_box("Adfhl", font)[1], ink_box("gjpy", font)[3]
        return row + above + round(self.style.phase * max(0, TILE - above - below))

    def place(self, text: str, x: int, baseline: int, font: ImageFont.FreeTypeFont, ink: Color) -> int:
        """Puts words on a baseline from `x` on; returns where the last one ends."""
        for word in text.split():
            left, top, right, bottom = ink_box(word, font)
            box = (x + left, baseline + top, x + right, baseline + bottom)
            self.words.append(Word(word, box, x, baseline, font, ink))
            x += advance(word, font) + advance(" ", font)
        return x - advance(" ", font)

    def paragraph(
        self,
        text: str,
        *,
        font: ImageFont.FreeTypeFont | None = None,
        ink: Color | None = None,
        align: Literal["left", "center"] = "left",
    ) -> None:
        """Wraps text between the margins and moves down below it."""
        font = font or self.body
        self.y = self.row()
        for line in wrapped(text, font, self.right - self.left):
            slack = self.right - self.left - extent(line, font)
            x = self.left + (slack // 2 if align == "center" else 0)
            self.place(line, x, self.baseline(self.y, font), font, ink or self.style.ink)
            self.y += TILE

    def rectangle(self, box: Box, *, fill: Color | None = None, outline: Color | None = None, width: int = 1) -> None:
        self.shapes.append(Shape("rectangle", box, fill, outline, width))

    def line(self, *points: int, ink: Color, width: int = 1) -> None:
        self.shapes.append(Shape("line", points, ink, width=width))

    def page(self) -> Page | None:
        """The finished page, or None where something would leave the paper."""
        inside = all(
            box[0] >= 0 and box[1] >= 0 and box[2] <= self.width and box[3] <= self.height
            for box in (word.box for word in self.words)
        )
        if not inside or self.y > self.bottom + 8:
            return None
        return Page((self.width, self.height), self.style.paper, tuple(self.shapes), tuple(self.words))
