"""A page while it is filled: its style, its words and its shapes."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import ImageFont

from polyvec.synthetic import lettering
from polyvec.synthetic.lettering import Box, Color, advance, extent, ink_box, typeface, wrapped
from polyvec.synthetic.world import pick

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
    """Everything on a page, with positions; shapes lie under words."""

    size: tuple[int, int]
    paper: Color
    shapes: tuple[Shape, ...]
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Style:
    """The look of a page. Sizes are pixels, `phase` is how low lines stand in their rows, `upright` is for columns."""

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
    """Draw a style."""
    body = pick(lettering.BODY_FONTS[:-1], rng)
    return Style(
        body=body,
        heading=pick(lettering.HEADING_FONTS, rng),
        body_size=int(rng.integers(15, 17 if body == "DejaVuSansMono" else 20)),
        heading_size=int(rng.integers(19, 24)),
        header=pick(("plain", "centered", "banner", "letterhead"), rng),
        ruled=bool(rng.random() < 0.5),
        paper=pick(lettering.PAPERS, rng),
        ink=pick(lettering.INKS[:4], rng),
        accent=pick(lettering.INKS[3:], rng),
        margin=int(rng.integers(14, 30)),
        phase=float(rng.uniform(0.35, 0.75)),
        upright=bool(rng.random() < 0.7),
    )


class Sheet:
    """A page while it is filled: its words and shapes so far; `y` is how far down they reach.

    Every line of text stands in one row of tiles, so that no letter is cut in two by the model's patches; `phase`
    says how low.
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
        """Return the top of the next free row of tiles. Less than a third of a row of space does not count."""
        return -(-(self.y - 8) // TILE) * TILE

    def baseline(self, row: int, font: ImageFont.FreeTypeFont) -> int:
        """Return the baseline of a line in the row whose top is `row`."""
        above, below = -ink_box("Adfhl", font)[1], ink_box("gjpy", font)[3]
        return row + above + round(self.style.phase * max(0, TILE - above - below))

    def place(self, text: str, x: int, baseline: int, font: ImageFont.FreeTypeFont, ink: Color) -> int:
        """Put words on a baseline from `x` on, and return where the last word ends."""
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
        """Wrap text between the margins, and move down below it."""
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
        """Return the page, or None if something would leave the paper."""
        inside = all(
            box[0] >= 0 and box[1] >= 0 and box[2] <= self.width and box[3] <= self.height
            for box in (word.box for word in self.words)
        )
        if not inside or self.y > self.bottom + 8:
            return None
        return Page((self.width, self.height), self.style.paper, tuple(self.shapes), tuple(self.words))
