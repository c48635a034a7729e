"""A page as texts and shapes at their places, and the picture of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from PIL import Image, ImageDraw

from polyvec.data.building.tables.typesetting import Face, bitmap, line_height, width

__all__ = [
    "Box",
    "Page",
    "Shape",
    "Side",
    "mirrored",
    "paint",
    "put",
    "put_sideways",
    "rectangle",
    "said",
    "widest",
]

Side = Literal["left", "centre", "right"]
_SCALE = 3  # shapes are drawn larger and shrunk, so that slanted lines are smooth


@dataclass(frozen=True, slots=True)
class Box:
    """A line of text: `left`, `top`, `right` and `bottom` are the edges of its ink in pixels."""

    text: str
    face: Face
    color: str
    left: int
    top: int
    right: int
    bottom: int
    sideways: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """A filled polygon, or a line if it has a width; a point of a line is a disc of that width."""

    points: tuple[tuple[float, float], ...]
    color: str
    width: float = 0


@dataclass(slots=True)
class Page:
    """A page that is being laid out."""

    width: int
    height: int
    paper: str = "#ffffff"
    boxes: list[Box] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)


def put(page: Page, text: str, face: Face, color: str, x: float, top: float, side: Side = "left") -> None:
    """Place a line whose row begins at `top`; `x` is its left edge, its middle or its right edge."""
    ink, below = bitmap(text, face)
    height, wide = ink.shape
    left = round(x - {"left": 0, "centre": wide / 2, "right": wide}[side])
    baseline = round(top + (line_height(face) + face.size * 0.72) / 2)
    up = baseline + below - height
    page.boxes.append(Box(text, face, color, left, up, left + wide, up + height))


def said(page: Page) -> str:
    """Return what a page says, line by line."""
    return "\n".join(box.text for box in page.boxes)


def mirrored(page: Page) -> Page:
    """Return the page for a script that runs from right to left."""
    boxes = [replace(box, left=page.width - box.right, right=page.width - box.left) for box in page.boxes]
    shapes = [replace(shape, points=tuple((page.width - x, y) for x, y in shape.points)) for shape in page.shapes]
    return Page(page.width, page.height, page.paper, boxes, shapes)


def rectangle(left: float, top: float, right: float, bottom: float, color: str) -> Shape:
    """Return a filled rectangle."""
    return Shape(((left, top), (right, top), (right, bottom), (left, bottom)), color)


def paint(page: Page) -> Image.Image:
    """Draw a page."""
    large = Image.new("RGB", (page.width * _SCALE, page.height * _SCALE), page.paper)
    draw = ImageDraw.Draw(large)
    for shape in page.shapes:
        points = [(x * _SCALE, y * _SCALE) for x, y in shape.points]
        if not shape.width:
            draw.polygon(points, fill=shape.color)
        elif len(points) > 1:
            draw.line(points, fill=shape.color, width=max(1, round(shape.width * _SCALE)), joint="curve")
        else:
            radius = shape.width * _SCALE / 2
            (x, y), *_ = points
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shape.color)
    image = large.reduce(_SCALE)
    for box in page.boxes:
        ink, _ = bitmap(box.text, box.face, sideways=box.sideways)
        image.paste(Image.new("RGB", ink.shape[::-1], box.color), (box.left, box.top), Image.fromarray(ink))
    return image


def put_sideways(page: Page, text: str, face: Face, color: str, middle: float, bottom: float) -> None:
    """Place a line that reads upwards and ends at `bottom` with its first letter, around `middle`."""
    ink, _ = bitmap(text, face, sideways=True)
    height, wide = ink.shape
    left, top = round(middle - wide / 2), round(bottom - height)
    page.boxes.append(Box(text, face, color, left, top, left + wide, top + height, sideways=True))


def widest(texts: Sequence[str], face: Face) -> int:
    """Return the width of the widest text, 0 if there is none."""
    return max((width(text, face) for text in texts), default=0)
