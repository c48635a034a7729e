"""Pictures of the demo world: single words, lines, paragraphs and whole pages, drawn by Pillow.

All sides are multiples of 28 pixels, one visual token, so nothing is resized on the way into the model. All chance comes
from the generator that is passed in: the same seed gives the same pixels.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from polyvec.demo.world import Document, one

TILE = 28
Color = tuple[int, int, int]
Box = tuple[int, int, int, int]

_BODY_FONTS = ("Aileron", "DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral", "DejaVuSans-Bold")
_HEADING_FONTS = ("Aileron", "DejaVuSans-Bold", "DejaVuSerif-Bold", "STIXGeneralBol", "DejaVuSans", "DejaVuSerif")
_FONTS = tuple(dict.fromkeys(_BODY_FONTS + _HEADING_FONTS))
_INKS: tuple[Color, ...] = (
    (0, 0, 0), (30, 30, 34), (52, 52, 60), (16, 38, 84), (20, 70, 120), (10, 84, 84), (22, 84, 44), (84, 60, 16),
    (120, 40, 20), (128, 20, 40), (92, 24, 92), (56, 36, 120),
)  # fmt: skip
_PAPERS: tuple[Color, ...] = (
    (255, 255, 255), (255, 255, 255), (252, 250, 244), (250, 246, 232), (244, 248, 252), (244, 250, 244),
    (246, 246, 246), (252, 244, 244),
)  # fmt: skip
_WHITE: Color = (255, 255, 255)


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


def word_image(word: str, rng: np.random.Generator, *, height: Literal[28, 56] = 28) -> Image.Image:
    """Draws one word as it might look when cut from a page, anywhere inside the tiles it touches.

    The width is the multiple of 28 that the word needs from where it happens to start.
    """
    ink, paper = _ink_and_paper(rng)
    font = _font(one(_FONTS, rng), int(rng.integers(15, 25 if height == TILE else 31)))
    text = _any_case(word, rng)
    left, top, right, bottom = _ink_box(text, font)
    x = int(rng.integers(TILE))
    y = int(rng.integers(height - (bottom - top) + 1))
    image = Image.new("RGB", (_tiles(x + right - left), height), paper)
    ImageDraw.Draw(image).text((x - left, y - top), text, fill=ink, font=font, anchor="ls")
    return image


def line_image(words: Sequence[str], rng: np.random.Generator) -> Image.Image:
    """Draws one line of words, 28 or 56 pixels high and at most 392 wide; words that do not fit are left out."""
    height = int(one((28, 56), rng))
    return _crop([words], rng, size=(392, height), max_font=22 if height == TILE else 30)


def block_image(lines: Sequence[Sequence[str]], rng: np.random.Generator) -> Image.Image:
    """Draws a few lines of words as a piece of a paragraph, at most 392 pixels wide."""
    return _crop(lines, rng, size=(392, 28 * len(lines) + 28), max_font=20)


def page_image(document: Document, rng: np.random.Generator, *, size: tuple[int, int] | None = None) -> Image.Image:
    """Draws a document as a page.

    Args:
        document: What the page says.
        rng: Decides how it looks.
        size: Width and height in pixels, multiples of 28; by default 336 to 392 by 392 to 504.

    Raises:
        ValueError: Where `size` is too small for the facts of the document.
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


def layout(document: Document, rng: np.random.Generator, *, size: tuple[int, int] | None = None) -> Page:
    """Decides where everything on the page stands. Arguments and errors are those of `page_image`."""
    if size is None:
        size = (TILE * int(rng.integers(12, 15)), TILE * int(rng.integers(14, 19)))
    elif size[0] % TILE or size[1] % TILE:
        raise ValueError(f"`size` is {size[0]}×{size[1]}; both sides must be multiples of {TILE}.")
    style = _style(rng)
    for attempt in _attempts(document, style):
        page = _compose(*attempt, size)
        if page is not None:
            return page
    raise ValueError(f"`size` is {size[0]}×{size[1]}; too small for this {document.kind}, which needs up to 336×392.")


@dataclass(frozen=True, slots=True)
class _Style:
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


def _style(rng: np.random.Generator) -> _Style:
    body = one(_BODY_FONTS[:-1], rng)
    return _Style(
        body=body,
        heading=one(_HEADING_FONTS, rng),
        body_size=int(rng.integers(15, 17 if body == "DejaVuSansMono" else 20)),
        heading_size=int(rng.integers(20, 31)),
        header=one(("plain", "centered", "banner", "letterhead"), rng),
        ruled=bool(rng.random() < 0.5),
        paper=one(_PAPERS, rng),
        ink=one(_INKS[:4], rng),
        accent=one(_INKS[3:], rng),
        margin=int(rng.integers(14, 30)),
    )


def _attempts(document: Document, style: _Style) -> Iterator[tuple[Document, _Style]]:
    """From what was wished for to what surely fits: fewer sentences that say nothing in particular, smaller letters."""
    yield document, style
    n_fillers = sum(len(section.sentences) for section in document.sections)
    for kept in range(n_fillers - 1, 0, -1):
        yield _without_fillers(document, kept), style
    small = replace(style, body_size=15, heading_size=20, margin=14)
    yield _without_fillers(document, 1), replace(style, body_size=15)
    yield _without_fillers(document, 1), small
    yield _without_fillers(document, 1), replace(small, body="STIXGeneral", heading="STIXGeneralBol", header="plain")


def _without_fillers(document: Document, kept: int) -> Document:
    sections = []
    for section in document.sections:
        sections.append(replace(section, sentences=section.sentences[: max(kept, 1)]))
        kept -= len(sections[-1].sentences)
    return replace(document, sections=tuple(sections))


class _Sheet:
    """A page in the making: what has been placed so far and how far down that reaches."""

    def __init__(self, size: tuple[int, int], style: _Style) -> None:
        self.width, self.height = size
        self.style = style
        self.left = style.margin
        self.right = self.width - style.margin
        self.bottom = self.height - 12
        self.y = style.margin
        self.body = _font(style.body, style.body_size)
        self.words: list[Word] = []
        self.shapes: list[Shape] = []

    @property
    def pitch(self) -> int:
        return round(self.style.body_size * 1.4)

    def place(self, text: str, x: int, baseline: int, font: ImageFont.FreeTypeFont, ink: Color) -> int:
        """Puts words on a baseline from `x` on; returns where the last one ends."""
        for word in text.split():
            left, top, right, bottom = _ink_box(word, font)
            box = (x + left, baseline + top, x + right, baseline + bottom)
            self.words.append(Word(word, box, x, baseline, font, ink))
            x += _advance(word, font) + _advance(" ", font)
        return x - _advance(" ", font)

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
        pitch = round(font.size * 1.3)
        for line in _wrapped(text, font, self.right - self.left):
            slack = self.right - self.left - _extent(line, font)
            x = self.left + (slack // 2 if align == "center" else 0)
            self.place(line, x, self.y + round(font.size), font, ink or self.style.ink)
            self.y += pitch

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
        if not inside or self.y > self.bottom:
            return None
        return Page((self.width, self.height), self.style.paper, tuple(self.shapes), tuple(self.words))


def _compose(document: Document, style: _Style, size: tuple[int, int]) -> Page | None:
    sheet = _Sheet(size, style)
    _header(sheet, document)
    footer = _font(style.body, 15)
    byline = f"Prepared by {document.person}"
    if _extent(byline, footer) > sheet.right - sheet.left:
        return None
    sheet.bottom -= 26
    if document.kind == "report":
        _draw_sections(sheet, document)
    elif document.kind == "notice":
        _draw_notice(sheet, document)
    elif document.kind == "table":
        _draw_table(sheet, document)
    elif document.kind == "form":
        _draw_form(sheet, document)
    elif document.kind == "bar chart":
        _draw_bars(sheet, document)
    else:
        _draw_curve(sheet, document)
    if style.ruled:
        sheet.line(sheet.left, sheet.bottom + 4, sheet.right, sheet.bottom + 4, ink=style.accent)
    sheet.place(byline, sheet.left, sheet.bottom + 22, footer, style.ink)
    return sheet.page()


def _header(sheet: _Sheet, document: Document) -> None:
    style = sheet.style
    heading = _font(style.heading, style.heading_size)
    name = _font(style.heading, max(16, style.heading_size - 6))
    where = f"{document.place}, {document.year}"
    if style.header == "banner":
        lines = _wrapped(document.title, heading, sheet.right - sheet.left)
        band = 10 + round(heading.size * 1.3) * len(lines) + 8
        sheet.rectangle((0, 0, sheet.width, band), fill=style.accent)
        sheet.y = 10
        sheet.paragraph(document.title, font=heading, ink=_WHITE)
        sheet.y = band + 8
        sheet.paragraph(document.organisation, font=name, ink=style.accent)
        sheet.paragraph(where)
    elif style.header == "letterhead":
        sheet.paragraph(document.organisation, font=name, ink=style.accent)
        sheet.paragraph(where)
        sheet.line(sheet.left, sheet.y + 3, sheet.right, sheet.y + 3, ink=style.accent, width=2)
        sheet.y += 10
        sheet.paragraph(document.title, font=heading)
    else:
        align: Literal["left", "center"] = "center" if style.header == "centered" else "left"
        sheet.paragraph(document.title, font=heading, ink=style.accent, align=align)
        sheet.paragraph(document.organisation, font=name, align=align)
        sheet.paragraph(where, align=align)
    sheet.y += 6


def _draw_sections(sheet: _Sheet, document: Document) -> None:
    heading = _font(sheet.style.heading, max(17, sheet.style.body_size))
    for section in document.sections:
        sheet.y += 4
        sheet.paragraph(section.heading, font=heading, ink=sheet.style.accent)
        sheet.paragraph(" ".join(section.sentences))


def _draw_notice(sheet: _Sheet, document: Document) -> None:
    style = sheet.style
    (section,) = document.sections
    event = _font(style.heading, 26)
    top = sheet.y
    height = 44
    sheet.rectangle((sheet.left, top, sheet.right, top + height), fill=style.accent)
    x = (sheet.width - _extent(section.heading, event)) // 2
    sheet.place(section.heading, x, top + 31, event, _WHITE)
    sheet.y = top + height + 8
    for name, value in document.fields:
        sheet.paragraph(f"{name}: {value}", font=_font(style.body, style.body_size + 1))
    sheet.y += 6
    sheet.paragraph(" ".join(section.sentences))


def _draw_table(sheet: _Sheet, document: Document) -> None:
    style = sheet.style
    rows = (document.header, *document.rows)
    pitch = min(34, (sheet.bottom - sheet.y - 4) // len(rows))
    bold = _font("DejaVuSans-Bold", 15)
    columns = [
        max(_extent(row[i], bold if row is document.header else sheet.body) for row in rows) + 12
        for i in range(len(document.header))
    ]
    if pitch < round(style.body_size * 1.35) or sum(columns) > sheet.right - sheet.left:
        sheet.y = sheet.height
        return
    spare = (sheet.right - sheet.left - sum(columns)) // len(columns)
    top = sheet.y
    for n, row in enumerate(rows):
        y = top + n * pitch
        if n == 0:
            sheet.rectangle((sheet.left, y, sheet.right, y + pitch), fill=style.accent)
        elif n % 2 == 0 and not style.ruled:
            sheet.rectangle((sheet.left, y, sheet.right, y + pitch), fill=_tint(style.accent, style.paper))
        font, ink = (bold, _WHITE) if n == 0 else (sheet.body, style.ink)
        baseline = y + (pitch + round(font.size * 0.72)) // 2
        x = sheet.left
        for i, cell in enumerate(row):
            x += columns[i] + spare
            start = sheet.left + 6 if i == 0 else x - 6 - _extent(cell, font)
            sheet.place(cell, start, baseline, font, ink)
    end = top + len(rows) * pitch
    if style.ruled:
        for n in range(len(rows) + 1):
            sheet.line(sheet.left, top + n * pitch, sheet.right, top + n * pitch, ink=style.accent)
        x = sheet.left
        for width in (0, *(column + spare for column in columns[:-1])):
            x += width
            sheet.line(x, top, x, end, ink=style.accent)
        sheet.line(sheet.right, top, sheet.right, end, ink=style.accent)
    sheet.y = end


def _draw_form(sheet: _Sheet, document: Document) -> None:
    style = sheet.style
    fields = document.fields
    pitch = min(46, (sheet.bottom - sheet.y) // len(fields))
    labels = _font(style.heading, 15)
    inset = max(_extent(name, labels) for name, _ in fields) + 12
    if pitch < style.body_size + 14 or any(
        inset + _extent(value, sheet.body) + 12 > sheet.right - sheet.left for _, value in fields
    ):
        sheet.y = sheet.height
        return
    for name, value in fields:
        baseline = sheet.y + (pitch + round(style.body_size * 0.72)) // 2
        sheet.place(name, sheet.left, baseline, labels, style.accent)
        left = sheet.left + inset
        if style.ruled:
            sheet.line(left, sheet.y + pitch - 4, sheet.right, sheet.y + pitch - 4, ink=style.ink)
        else:
            sheet.rectangle((left, sheet.y + 3, sheet.right, sheet.y + pitch - 3), fill=_WHITE, outline=style.accent)
        sheet.place(value, left + 8, baseline, sheet.body, style.ink)
        sheet.y += pitch


def _caption(sheet: _Sheet, document: Document) -> None:
    sheet.paragraph(f"{document.kind.capitalize()} by {document.grouping}", font=_font(sheet.style.body, 15))
    sheet.y += 4


def _draw_bars(sheet: _Sheet, document: Document) -> None:
    style = sheet.style
    _caption(sheet, document)
    font = _font(style.body, 15)
    labels, values = document.labels, document.values
    pitch = min(44, (sheet.bottom - sheet.y - 6) // len(labels))
    inset = max(_extent(label, font) for label in labels) + 8
    reach = sheet.right - sheet.left - inset - 42
    if pitch < 20 or reach < 60:
        sheet.y = sheet.height
        return
    top, axis = sheet.y, sheet.left + inset
    for label, value in zip(labels, values, strict=True):
        baseline = sheet.y + (pitch + 11) // 2
        sheet.place(label, axis - 6 - _extent(label, font), baseline, font, style.ink)
        end = axis + max(2, reach * value // max(values))
        sheet.rectangle((axis, sheet.y + 3, end, sheet.y + pitch - 4), fill=style.accent)
        sheet.place(str(value), end + 5, baseline, font, style.ink)
        sheet.y += pitch
    sheet.line(axis, top, axis, sheet.y, ink=style.ink, width=2)


def _draw_curve(sheet: _Sheet, document: Document) -> None:
    style = sheet.style
    _caption(sheet, document)
    font = _font(style.body, 15)
    labels, values = document.labels, document.values
    step = (sheet.right - sheet.left) // len(labels)
    top, base = sheet.y + 24, sheet.bottom - 26
    if base - top < 70 or step < max(_extent(label, font) for label in labels) + 6:
        sheet.y = sheet.height
        return
    for n in range(1, 4):
        y = base - n * (base - top) // 3
        sheet.line(sheet.left, y, sheet.right, y, ink=_tint(style.accent, style.paper))
    sheet.line(sheet.left, base, sheet.right, base, ink=style.ink, width=2)
    points = [
        (sheet.left + step * n + step // 2, base - 8 - (base - top - 8) * value // max(values))
        for n, value in enumerate(values)
    ]
    sheet.line(*(coordinate for point in points for coordinate in point), ink=style.accent, width=3)
    for (x, y), label, value in zip(points, labels, values, strict=True):
        sheet.shapes.append(Shape("ellipse", (x - 4, y - 4, x + 4, y + 4), style.accent))
        sheet.place(str(value), x - _extent(str(value), font) // 2, y - 9, font, style.ink)
        sheet.place(label, x - _extent(label, font) // 2, base + 19, font, style.ink)
    sheet.y = sheet.bottom


def _crop(
    lines: Sequence[Sequence[str]], rng: np.random.Generator, *, size: tuple[int, int], max_font: int
) -> Image.Image:
    """Draws lines of words in one look, not wider than `size`, at a random offset inside the tiles."""
    ink, paper = _ink_and_paper(rng)
    font = _font(one(_FONTS, rng), int(rng.integers(15, max_font + 1)))
    x = int(rng.integers(TILE))
    texts = [_fitting([_any_case(word, rng) for word in line], font, size[0] - x) for line in lines]
    boxes = [_ink_box(text, font) for text in texts]
    top, bottom = min(box[1] for box in boxes), max(box[3] for box in boxes)
    gap = round(font.size * 1.3)
    tall = gap * (len(texts) - 1) + bottom - top
    y = int(rng.integers(size[1] - tall + 1)) - top
    image = Image.new("RGB", (_tiles(x + max(box[2] - box[0] for box in boxes)), size[1]), paper)
    draw = ImageDraw.Draw(image)
    for n, (text, box) in enumerate(zip(texts, boxes, strict=True)):
        draw.text((x - box[0], y + n * gap), text, fill=ink, font=font, anchor="ls")
    return image


def _fitting(words: Sequence[str], font: ImageFont.FreeTypeFont, width: int) -> str:
    kept = list(words)
    while len(kept) > 1 and _ink_box(" ".join(kept), font)[2] > width:
        kept.pop()
    return " ".join(kept)


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and _extent(f"{lines[-1]} {word}", font) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _extent(text: str, font: ImageFont.FreeTypeFont) -> int:
    advances = [_advance(word, font) for word in text.split()]
    return sum(advances) + _advance(" ", font) * (len(advances) - 1)


@lru_cache(maxsize=200_000)
def _advance(word: str, font: ImageFont.FreeTypeFont) -> int:
    return math.ceil(font.getlength(word))


def _ink_box(text: str, font: ImageFont.FreeTypeFont) -> Box:
    left, top, right, bottom = font.getbbox(text, anchor="ls")
    return math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    if name == "Aileron":  # the font inside Pillow
        built_in = ImageFont.load_default(size)
        if not isinstance(built_in, ImageFont.FreeTypeFont):
            raise ImportError("Pages need a Pillow with FreeType: pip install pillow")
        return built_in.font_variant(layout_engine=ImageFont.Layout.BASIC)
    try:
        import matplotlib as mpl  # an optional extra, here for the fonts it carries
    except ImportError as error:
        raise ImportError('Pages are drawn with the fonts of matplotlib: pip install "polyvec[train]"') from error
    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def _any_case(word: str, rng: np.random.Generator) -> str:
    chance = rng.random()
    if chance < 0.08:
        return word.upper()
    return word[:1].upper() + word[1:] if chance < 0.5 else word


def _ink_and_paper(rng: np.random.Generator) -> tuple[Color, Color]:
    if rng.random() < 0.15:
        return _WHITE, one(_INKS[3:], rng)
    return one(_INKS, rng), one(_PAPERS, rng)


def _tint(color: Color, paper: Color) -> Color:
    red, green, blue = (round(0.12 * c + 0.88 * p) for c, p in zip(color, paper, strict=True))
    return red, green, blue


def _tiles(length: int) -> int:
    return max(TILE, -(-length // TILE) * TILE)
