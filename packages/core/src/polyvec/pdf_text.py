"""The text of a PDF page: PDFium's characters, with spaces and line ends by their places (extra: `pdf`)."""

import cmath
import ctypes
import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

__all__ = ["text_of"]

# In heights of the letters: a space is about 0.25 wide, a superscript stands 0.4 above its line, the next line 1 below.
_GAP = 0.2
_STEP = 0.5
_BELOW = 1.3  # to the next letter of a column
_TURNED = 0.5  # radians between the directions of two lines
_HYPHENS = "-\u2010\u00ad"
_SIGNS = str.maketrans({"\x02": "-", "\ufffe": "-", "\0": ""})  # PDFium's two signs for a hyphen at a line end


class _Box(NamedTuple):
    left: float
    bottom: float
    right: float
    top: float

    def extent(self, along: complex) -> tuple[float, float]:
        """Return where the box begins and ends in a direction."""
        corners = [complex(x, y) for x in (self.left, self.right) for y in (self.bottom, self.top)]
        places = [_dot(corner, along) for corner in corners]
        return min(places), max(places)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Characters of one text object. Places are points of the page as complex numbers, x + iy.

    Attributes:
        text: the characters.
        key: names the text object.
        spaced: PDFium noticed a gap before it.
        height: of its letters.
        baseline: the unit vector from a letter's left to its right.
        along: the unit vector in which the piece runs; a column of Japanese runs down.
        first, last: where these characters stand on their line.
        first_box, last_box: what they cover.
    """

    text: str
    key: bytes
    spaced: bool
    height: float
    baseline: complex
    along: complex
    first: complex
    last: complex
    first_box: _Box
    last_box: _Box


def text_of(page: Any, layer: Any, raw: Any) -> str:  # Any: pypdfium2 ships no annotations
    """Return the text within the bounds of a page, also if it is invisible, as that of a scan is.

    PDFium joins neighbours that are short, and neighbouring lines of pages and texts that are turned. Here two text
    objects share a line if the second one stands beside the first one in the direction in which its letters run. Lines
    that do not run from side to side stand in the order of the file, because PDFium orders them as if they did.

    Args:
        page: a page of pypdfium2.
        layer: its text page.
        raw: PDFium's functions, `pypdfium2.raw`.
    """
    text, before = "", None
    for piece in _in_order(page, list(_pieces(page, layer, raw)), raw):
        if before is None:
            text = piece.text
        elif piece.key != before.key and not _share_a_line(before, piece):
            text = _with_line(text, piece.text)
        elif (piece.spaced or _are_apart(before, piece)) and not (text[-1:].isspace() or piece.text[:1].isspace()):
            text += f" {piece.text}"
        else:
            text += piece.text
        before = piece
    return text


def _pieces(page: Any, layer: Any, raw: Any) -> Iterator[_Piece]:  # Any: as above
    bounds = _Box(*page.get_bbox())
    rectangle, matrix, x, y = raw.FS_RECTF(), raw.FS_MATRIX(), ctypes.c_double(), ctypes.c_double()

    def box(index: int) -> _Box:
        raw.FPDFText_GetLooseCharBox(layer, index, rectangle)
        return _Box(rectangle.left, rectangle.bottom, rectangle.right, rectangle.top)

    def is_inside(index: int) -> bool:
        left, bottom, right, top = box(index)
        return bounds.left <= (left + right) / 2 <= bounds.right and bounds.bottom <= (bottom + top) / 2 <= bounds.top

    def origin(index: int) -> complex:
        raw.FPDFText_GetCharOrigin(layer, index, x, y)
        return complex(x.value, y.value)

    keys = [bytes(raw.FPDFText_GetTextObject(layer, index)) for index in range(layer.count_chars())]  # addresses
    spaced = False
    for key, group in groupby(range(len(keys)), keys.__getitem__):
        indices = list(group)
        if not any(key):  # PDFium made a space or a line end
            spaced = True
            continue
        if not (is_inside(indices[0]) and is_inside(indices[-1])):
            indices = [index for index in indices if is_inside(index)]
        text = "".join(chr(raw.FPDFText_GetUnicode(layer, index)) for index in indices).translate(_SIGNS)
        # A pair of surrogates is one character; a lone one is none.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
        if not text:
            continue
        first, last = origin(indices[0]), origin(indices[-1])
        raw.FPDFText_GetMatrix(layer, indices[0], matrix)
        size = raw.FPDFText_GetFontSize(layer, indices[0])  # negative where the matrix turns the letters back
        baseline = _unit(math.copysign(1, size) * complex(matrix.a, matrix.b))
        height = abs(size) * math.hypot(matrix.c, matrix.d)
        yield _Piece(
            text=text,
            key=key,
            spaced=spaced,
            height=height,
            baseline=baseline,
            along=_unit(last - first) if abs(last - first) > height / 2 else baseline,
            first=first,
            last=last,
            first_box=box(indices[0]),
            last_box=box(indices[-1]),
        )
        spaced = False


def _in_order(page: Any, pieces: Sequence[_Piece], raw: Any) -> Iterator[_Piece]:  # Any: as above
    """Yield pieces as PDFium orders them, but neighbours that are turned or run down as the file orders them."""
    rightwards = cmath.rect(1, math.radians(page.get_rotation()))  # as a reader sees the page

    def is_usual(piece: _Piece) -> bool:
        return min(_dot(piece.baseline, rightwards), abs(_dot(piece.along, rightwards))) > math.cos(_TURNED)

    if all(map(is_usual, pieces)):
        yield from pieces
        return
    objects = page.get_objects(filter=[raw.FPDF_PAGEOBJ_TEXT])
    place_by_key = {bytes(one.raw): place for place, one in enumerate(objects)}
    for usual, group in groupby(pieces, is_usual):
        if usual:
            yield from group
        else:
            yield from sorted(group, key=lambda piece: place_by_key.get(piece.key, -1))


def _share_a_line(before: _Piece, piece: _Piece) -> bool:
    height, step = max(before.height, piece.height), piece.first - before.last
    if unicodedata.east_asian_width(before.text[-1]) + unicodedata.east_asian_width(piece.text[0]) == "WW":
        down = -1j * before.baseline
        if abs(_cross(down, step)) < _STEP * height and 0 < _dot(down, step) < _BELOW * height:
            return True  # a column whose letters are objects of their own
    is_turned = abs(_cross(before.along, piece.along)) > math.sin(_TURNED)
    return not is_turned and abs(_cross(before.along, step)) < _STEP * height


def _are_apart(before: _Piece, piece: _Piece) -> bool:
    """Return True if there is a gap between neighbours on a line, which may run in either direction."""
    (begin, end), (next_begin, next_end) = (box.extent(before.along) for box in (before.last_box, piece.first_box))
    return max(next_begin - end, begin - next_end) > _GAP * max(before.height, piece.height)


def _with_line(text: str, line: str) -> str:
    """Add a line; it continues a word that ends in a hyphen between letters of one case."""
    text = text.rstrip(" ")
    word, hyphen = text[-2:-1], text[-1:]
    if hyphen and hyphen in _HYPHENS and word.isalpha() and line[:1].isalpha() and word.isupper() == line[0].isupper():
        return text[:-1] + line
    return f"{text}\n{line}"


def _unit(vector: complex) -> complex:
    return vector / abs(vector) if vector else 1 + 0j


def _dot(one: complex, other: complex) -> float:
    return (one * other.conjugate()).real


def _cross(one: complex, other: complex) -> float:
    return (one.conjugate() * other).imag
