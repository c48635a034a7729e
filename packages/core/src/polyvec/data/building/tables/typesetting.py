"""Lines of text as bitmaps: shaped, in the right direction, from several fonts."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

__all__ = ["RIGHT_TO_LEFT", "Face", "bitmap", "line_height", "width", "wrapped"]

RIGHT_TO_LEFT = frozenset({"ar", "fa", "he", "ur"})
_TAGS = {"zh": "zh-Hans"}  # the shapes of letters that Chinese and Japanese share
_RIGHT_TO_LEFT_MARK = "\u200f"
_DOTS_PER_INCH = 72  # so that sizes are pixels


@dataclass(frozen=True, slots=True)
class Face:
    """How a text looks: font files, of which later ones have what earlier ones lack, a size in pixels, a language."""

    files: tuple[str, ...]
    size: int
    language: str = "en"


def line_height(face: Face) -> int:
    """Return the distance of lines in pixels."""
    return round(face.size * 1.55)


def width(text: str, face: Face) -> int:
    """Return the width of a line in pixels."""
    return int(bitmap(text, face)[0].shape[1])


@lru_cache(4096)
def bitmap(text: str, face: Face, *, sideways: bool = False) -> tuple[np.ndarray, int]:
    """Return the ink of a line, from 0 to 255, and how many of its rows are below the baseline.

    A sideways line reads upwards; its second value is 0.
    """
    from matplotlib.font_manager import get_font  # an optional extra
    from matplotlib.ft2font import LoadFlags

    font = get_font(face.files)
    font.clear()
    font.set_size(face.size, _DOTS_PER_INCH)
    language = _TAGS.get(face.language, face.language)
    font.set_text(_directed(text, face.language), 0, flags=LoadFlags.NO_HINTING, language=language)
    if not text.strip():
        return np.zeros((1, max(1, round(font.get_width_height()[0] / 64))), np.uint8), 0
    font.draw_glyphs_to_bitmap(antialiased=True)
    ink = np.array(font.get_image(), np.uint8)
    return (np.ascontiguousarray(np.rot90(ink)), 0) if sideways else (ink, round(font.get_descent() / 64))


def wrapped(text: str, face: Face, room: int) -> list[str]:
    """Break a text into lines that are at most `room` pixels wide: at spaces, and inside words that are wider."""
    if width(text, face) <= room:
        return [text]
    lines: list[str] = []
    for piece in _pieces(text, face, room):
        joined = lines[-1] + piece if lines else piece
        if lines and width(joined.rstrip(), face) <= room:
            lines[-1] = joined
        else:
            lines.append(piece)
    return [line.strip() for line in lines if line.strip()]


def _pieces(text: str, face: Face, room: int) -> Iterator[str]:
    """Yield words with the space behind them, and those that are too wide letter by letter."""
    words = text.split(" ")
    for number, word in enumerate(words):
        space = " " if number < len(words) - 1 else ""
        if width(word, face) <= room:
            yield word + space
        else:
            clusters = _clusters(word)
            yield from clusters[:-1]
            yield clusters[-1] + space


def _clusters(word: str) -> list[str]:
    """Return letters with their marks, and with what a virama or a joiner binds to them."""
    clusters: list[str] = []
    for letter in word:
        bound = unicodedata.category(letter)[0] == "M" or letter in "\u200c\u200d"
        after = clusters and (clusters[-1][-1] == "\u200d" or unicodedata.combining(clusters[-1][-1]) == 9)
        if clusters and (bound or after):
            clusters[-1] += letter
        else:
            clusters.append(letter)
    return clusters


def _directed(text: str, language: str) -> str:
    """Make a text that has words of a page's script run as the page does, even if a foreign word comes first."""
    if language not in RIGHT_TO_LEFT:
        return text
    strong = [kind for letter in text if (kind := unicodedata.bidirectional(letter)) in ("L", "R", "AL")]
    mixed = bool(strong) and strong[0] == "L" and ("R" in strong or "AL" in strong)
    return _RIGHT_TO_LEFT_MARK + text if mixed else text
