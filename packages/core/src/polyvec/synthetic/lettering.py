"""Letters: fonts, colours and measures of text."""

import math
from functools import cache, lru_cache
from pathlib import Path

from PIL import ImageFont

Color = tuple[int, int, int]
Box = tuple[int, int, int, int]

BODY_FONTS = ("Aileron", "DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral", "DejaVuSans-Bold")
HEADING_FONTS = ("Aileron", "DejaVuSans-Bold", "DejaVuSerif-Bold", "STIXGeneralBol", "DejaVuSans", "DejaVuSerif")
FONTS = tuple(dict.fromkeys(BODY_FONTS + HEADING_FONTS))
INKS: tuple[Color, ...] = (
    (0, 0, 0), (30, 30, 34), (52, 52, 60), (16, 38, 84), (20, 70, 120), (10, 84, 84), (22, 84, 44), (84, 60, 16),
    (120, 40, 20), (128, 20, 40), (92, 24, 92), (56, 36, 120),
)  # fmt: skip
PAPERS: tuple[Color, ...] = (
    (255, 255, 255), (255, 255, 255), (252, 250, 244), (250, 246, 232), (244, 248, 252), (244, 250, 244),
    (246, 246, 246), (252, 244, 244),
)  # fmt: skip
WHITE: Color = (255, 255, 255)


@cache
def typeface(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Load a font by the name of its file.

    Raises:
        ImportError: matplotlib, which carries the fonts, is not installed.
    """
    if name == "Aileron":  # the font inside Pillow
        built_in = ImageFont.load_default(size)
        if not isinstance(built_in, ImageFont.FreeTypeFont):
            raise ImportError("Pages need a Pillow with FreeType: pip install pillow")
        return built_in.font_variant(layout_engine=ImageFont.Layout.BASIC)
    try:
        import matplotlib as mpl  # an optional extra, here for the fonts it carries
    except ImportError as error:
        raise ImportError(
            'Pages are drawn with the fonts of matplotlib: pip install "polyvec[train]" (or [evaluate])'
        ) from error
    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    if name.startswith("STIX"):
        size = round(1.15 * size)  # its letters are small for their size
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break a text into lines of at most `width` pixels. A wider word has a line of its own."""
    lines: list[str] = []
    for word in text.split():
        if lines and extent(f"{lines[-1]} {word}", font) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def extent(text: str, font: ImageFont.FreeTypeFont) -> int:
    """Return the width of a text in pixels, placed word by word."""
    advances = [advance(word, font) for word in text.split()]
    return sum(advances) + advance(" ", font) * (len(advances) - 1)


@lru_cache(maxsize=50_000)
def advance(word: str, font: ImageFont.FreeTypeFont) -> int:
    """Return how far a word moves the pen, in whole pixels."""
    return math.ceil(font.getlength(word))


@lru_cache(maxsize=50_000)
def ink_box(text: str, font: ImageFont.FreeTypeFont) -> Box:
    """Return the box that the letters cover, relative to the start of the baseline."""
    left, top, right, bottom = font.getbbox(text, anchor="ls")
    return math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)


def tint(color: Color, paper: Color) -> Color:
    """Thin a colour to an eighth on its paper."""
    red, green, blue = (round(0.12 * c + 0.88 * p) for c, p in zip(color, paper, strict=True))
    return red, green, blue
