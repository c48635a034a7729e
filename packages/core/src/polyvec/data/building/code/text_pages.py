"""Texts as images of pages, drawn with the fonts that matplotlib carries."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from polyvec.data.building.material import CorpusItem, Material, Rejection

__all__ = ["as_pages", "draw_page", "page_lines"]

_SIZE = (768, 1008)  # pixels
_MARGIN, _LEADING, _FONT_SIZE = 36, 22, 16
_N_LINES = (_SIZE[1] - 2 * _MARGIN) // _LEADING
_TAB = 4


def as_pages(source: Iterable[Material], *, font: str = "DejaVuSans") -> Iterator[Material]:
    """Turn the texts of a source into images of pages, drawn when they are written.

    A page ends where the paper does, and `CorpusItem.text` is what stands on it. A text with characters that the font
    lacks is rejected, and its queries with it.
    """
    dropped: set[str] = set()
    for item in source:
        match item:
            case CorpusItem(content=str(text)):
                missing = sorted({c for c in text if not c.isspace() and ord(c) not in _characters(font)})
                if missing:
                    dropped.add(item.id)
                    yield Rejection("missing glyph", item.id, detail=f"{font} lacks {' '.join(missing[:5])}")
                    continue
                lines = page_lines(text, font=font)
                draw: Callable[[], Image.Image] = partial(draw_page, lines, font=font)
                yield replace(item, content=draw, text="\n".join(lines), kind="page")
            case Rejection() | CorpusItem():
                yield item
            case query:
                relevant = {identity: grade for identity, grade in query.relevant.items() if identity not in dropped}
                yield (
                    replace(query, relevant=relevant) if relevant else Rejection("missing glyph", query.text, query.id)
                )


def page_lines(text: str, *, font: str = "DejaVuSans") -> list[str]:
    """Return the lines of a text that fit on one page. Longer lines are wrapped; the parts are indented alike."""
    typeface = _typeface(font)
    lines: list[str] = []
    for line in text.expandtabs(_TAB).split("\n"):
        lines.extend(islice(_wrapped(line.rstrip(), typeface), _N_LINES - len(lines)))
        if len(lines) == _N_LINES:
            break
    return lines


def draw_page(lines: list[str], *, font: str = "DejaVuSans") -> Image.Image:
    """Draw lines of text in black on a white page of 768 × 1008 pixels."""
    page = Image.new("RGB", _SIZE, "white")
    pen = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        pen.text((_MARGIN, _MARGIN + number * _LEADING), line, fill="black", font=_typeface(font))
    return page


def _wrapped(line: str, typeface: ImageFont.FreeTypeFont) -> Iterator[str]:
    width = _SIZE[0] - 2 * _MARGIN
    indent = line[: len(line) - len(line.lstrip())]
    if typeface.getlength(indent) > width / 2:
        indent, line = "", line.lstrip()
    most = width  # characters that could fit: none is narrower than a pixel
    while typeface.getlength(line[:most]) > width or len(line) > most:
        n_fitting = bisect_right(range(most), float(width), key=lambda n: typeface.getlength(line[:n])) - 1
        end = line.rfind(" ", len(indent), n_fitting + 1)
        end = end if end > len(indent) else n_fitting
        yield line[:end].rstrip()
        line = indent + line[end:].lstrip()
    yield line


def _font_path(name: str) -> Path:
    try:
        import matplotlib as mpl  # an optional extra, here for the fonts it carries
    except ImportError as error:
        raise ImportError("Pages are drawn with the fonts of matplotlib: pip install 'polyvec[build]'") from error
    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    if not path.exists():
        raise ValueError(
            f"`font` is {name!r}; matplotlib carries {', '.join(sorted(p.stem for p in path.parent.glob('DejaVu*')))}."
        )
    return path


@cache
def _typeface(name: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_font_path(name), _FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)


@cache
def _characters(name: str) -> frozenset[int]:
    """Return the code points that a font has a glyph for."""
    from matplotlib.ft2font import FT2Font  # beside the fonts

    return frozenset(FT2Font(str(_font_path(name))).get_charmap())
