"""The look of a document, drawn from a seed and its id."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["Style", "generator", "style"]


@dataclass(frozen=True, slots=True)
class Style:
    """The look of a document.

    Attributes:
        base: which font, counted in a circle.
        size: of its letters, in pixels.
        ink, faint, paper, accent, tint: colours: of text, of lines, of the ground, of bars and headers, of stripes.
        on_accent: colour of text on the accent.
        rules: lines of tables: all, between rows, or none but stripes.
        wide: whether the page is wide rather than high.
        chart: bars, a line, or a line over a filled area.
        centred: whether the title is in the middle.
        margin: around the page, in pixels.
    """

    base: int
    size: int
    ink: str
    faint: str
    paper: str
    accent: str
    tint: str
    on_accent: str
    rules: Literal["all", "rows", "stripes"]
    wide: bool
    chart: Literal["bars", "line", "area"]
    centred: bool
    margin: int


_ACCENTS = (  # with a tint and a colour for text on them
    ("#1f4e79", "#e8eff6", "#ffffff"),
    ("#2e7d32", "#e9f4ea", "#ffffff"),
    ("#b71c1c", "#fbecec", "#ffffff"),
    ("#ef8a17", "#fdf3e4", "#20160a"),
    ("#5e35b1", "#f0ebf9", "#ffffff"),
    ("#00796b", "#e5f3f1", "#ffffff"),
    ("#424242", "#f0f0f0", "#ffffff"),
    ("#f2c200", "#fdf8e0", "#221c00"),
)
_PAPERS = ("#ffffff", "#ffffff", "#fdfcf7", "#f8fafc")


def generator(seed: int, *words: str) -> np.random.Generator:
    """Return a generator that depends on a seed and some words."""
    digest = hashlib.sha256("\0".join(words).encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def style(seed: int, document: str) -> Style:
    """Return the look of a document; the same seed and id give the same look."""
    rng = generator(seed, "style", document)
    accent, tint, on_accent = _ACCENTS[int(rng.integers(len(_ACCENTS)))]
    return Style(
        base=int(rng.integers(60)),
        size=int(rng.integers(13, 19)),
        ink=("#111111", "#1c2733", "#2b2b2b")[int(rng.integers(3))],
        faint=("#9aa3ad", "#b9b9b9")[int(rng.integers(2))],
        paper=_PAPERS[int(rng.integers(len(_PAPERS)))],
        accent=accent,
        tint=tint,
        on_accent=on_accent,
        rules=("all", "rows", "stripes")[int(rng.integers(3))],
        wide=bool(rng.integers(2)),
        chart=("bars", "line", "area")[int(rng.integers(3))],
        centred=bool(rng.integers(2)),
        margin=int(rng.integers(28, 60)),
    )
