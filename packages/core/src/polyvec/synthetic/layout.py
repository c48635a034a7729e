"""The layout of a page."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from polyvec.synthetic.figures import draw
from polyvec.synthetic.lettering import WHITE, extent, typeface, wrapped
from polyvec.synthetic.sheet import TILE, Page, Shape, Sheet, Style, random_style
from polyvec.synthetic.world import Document


def layout(document: Document, rng: np.random.Generator, *, size: tuple[int, int] | None = None) -> Page:
    """Place everything on a page. Arguments and errors are those of `page_image`."""
    if size is None:
        size = (TILE * int(rng.integers(12, 15)), TILE * int(rng.integers(14, 19)))
    elif size[0] % TILE or size[1] % TILE:
        raise ValueError(f"`size` is {size[0]}×{size[1]}; both sides must be multiples of {TILE}.")
    style = random_style(rng)
    for attempt in _attempts(document, style):
        page = _compose(*attempt, size)
        if page is not None:
            return page
    raise ValueError(f"`size` is {size[0]}×{size[1]}; too small for this {document.kind}, which needs up to 336×392.")


def _attempts(document: Document, style: Style) -> Iterator[tuple[Document, Style]]:
    """Yield the document and style with ever fewer notes, then with smaller letters. The last pair surely fits."""
    for n_notes in range(len(document.notes), -1, -1):
        yield replace(document, notes=document.notes[:n_notes]), style
    bare = replace(document, notes=())
    small = replace(style, body_size=15, heading_size=19, margin=14)
    yield bare, replace(style, body_size=15, margin=14)
    yield bare, small
    yield bare, replace(small, body="STIXGeneral", heading="STIXGeneralBol", header="plain")


def _compose(document: Document, style: Style, size: tuple[int, int]) -> Page | None:
    sheet = Sheet(size, style)
    footer = typeface(style.body, 15)
    notes = " ".join(document.notes)
    below = TILE * len(wrapped(notes, sheet.body, sheet.right - sheet.left))
    _header(sheet, document)
    sheet.bottom -= below
    draw(sheet, document)
    sheet.bottom += below
    if notes:
        sheet.y += 0 if document.kind == "report" else 6
        sheet.paragraph(notes)
    if style.ruled:
        sheet.line(sheet.left, sheet.bottom, sheet.right, sheet.bottom, ink=style.accent)
    sheet.place(f"Prepared by {document.person}", sheet.left, sheet.baseline(sheet.bottom, footer), footer, style.ink)
    return sheet.page()


def _header(sheet: Sheet, document: Document) -> None:
    style = sheet.style
    heading = typeface(style.heading, style.heading_size)
    name = typeface(style.heading, max(16, style.heading_size - 6))
    where = f"{document.place}, {document.year}"
    if style.header == "banner":
        lines = wrapped(document.title, heading, sheet.right - sheet.left)
        band = TILE * len(lines)
        sheet.rectangle((0, 0, sheet.width, band), fill=style.accent)
        sheet.y = 0
        sheet.paragraph(document.title, font=heading, ink=WHITE)
        sheet.y = band
        sheet.paragraph(document.organisation, font=name, ink=style.accent)
        sheet.paragraph(where)
    elif style.header == "letterhead":
        _emblem(sheet, extent(document.organisation, name))
        sheet.paragraph(document.organisation, font=name, ink=style.accent)
        sheet.paragraph(where)
        sheet.line(sheet.left, sheet.y, sheet.right, sheet.y, ink=style.accent, width=2)
        sheet.paragraph(document.title, font=heading)
    else:
        align: Literal["left", "center"] = "center" if style.header == "centered" else "left"
        sheet.paragraph(document.title, font=heading, ink=style.accent, align=align)
        sheet.paragraph(document.organisation, font=name, align=align)
        sheet.paragraph(where, align=align)
    sheet.y += 6


def _emblem(sheet: Sheet, name_width: int) -> None:
    """Put a mark into the right corner if the organisation's name, `name_width` pixels wide, leaves room."""
    if sheet.left + name_width > sheet.right - 48:
        return
    left, top, accent = sheet.right - 34, sheet.y + 2, sheet.style.accent
    if sheet.style.upright:
        sheet.shapes.append(Shape("ellipse", (left, top, left + 34, top + 34), accent))
        sheet.shapes.append(Shape("ellipse", (left + 12, top + 5, left + 29, top + 22), sheet.style.paper))
    else:
        sheet.rectangle((left, top, left + 34, top + 34), fill=accent)
        sheet.rectangle((left + 8, top + 16, left + 18, top + 34), fill=sheet.style.paper)
