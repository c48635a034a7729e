"""Tables, forms and listings laid out as pages."""

import re
from collections.abc import Sequence
from dataclasses import replace

from polyvec.data.building.tables.columns import number
from polyvec.data.building.tables.drawing import Page, Shape, put, rectangle
from polyvec.data.building.tables.sheets import Sheet
from polyvec.data.building.tables.style import Style
from polyvec.data.building.tables.templates import Labels
from polyvec.data.building.tables.typesetting import Face, line_height, width, wrapped

__all__ = ["form_page", "heading", "listing_page", "table_page"]

_NARROW, _WIDE = 860, 1280  # pixels
_NARROWEST_COLUMN = 84
_PAD = 9


def table_page(sheet: Sheet, labels: Labels, look: Style, face: Face) -> Page:
    """Lay out rows under a header, with a row of totals where all rows of a subject are shown."""
    room = (_WIDE if look.wide or len(sheet.columns) > 5 else _NARROW) - 2 * look.margin
    names = [sheet.table.columns[column] for column in sheet.columns]
    rows = [[sheet.cell(row, column) for column in sheet.columns] for row in sheet.rows]
    total = _totals(sheet, labels)
    body = [*rows, total] if total else rows
    widths = _widths([names, *body], face, room)
    page = Page(round(sum(widths)) + 2 * look.margin, 0, look.paper)
    top = heading(page, _numbered(sheet), look, face)
    right = [column in sheet.roles.measures for column in sheet.columns]
    lines = [top]
    for position, cells in enumerate([names, *body]):
        broken = [wrapped(cell, face, round(wide) - 2 * _PAD) for cell, wide in zip(cells, widths, strict=True)]
        height = max(map(len, broken)) * line_height(face) + _PAD
        is_header, is_total = position == 0, total is not None and position == len(body)
        ground = look.accent if is_header else look.tint
        if is_header or is_total or (look.rules == "stripes" and position % 2 == 0):
            page.shapes.append(rectangle(look.margin, top, page.width - look.margin, top + height, ground))
        color = look.on_accent if is_header else look.ink
        left = float(look.margin)
        for texts, wide, to_the_right in zip(broken, widths, right, strict=True):
            _block(page, texts, face, color, (left + _PAD, left + wide - _PAD), top + _PAD / 2, right=to_the_right)
            left += wide
        top += height
        lines.append(top)
    _rules(page, look, lines, widths)
    page.height = round(top) + look.margin
    return page


def form_page(sheet: Sheet, labels: Labels, look: Style, face: Face) -> Page:
    """Lay out one record: a name and a field per column."""
    page = Page(_WIDE if look.wide else _NARROW, 0, look.paper)
    (row,) = sheet.rows
    top = heading(page, sheet.title, look, face)
    put(page, labels.record.format(number=row + 1), face, look.ink, page.width - look.margin, top, "right")
    top += 1.6 * line_height(face)
    names = [wrapped(sheet.table.columns[column], face, round(page.width * 0.26)) for column in sheet.columns]
    edge = look.margin + max(width(line, face) for lines in names for line in lines) + 3 * _PAD
    for column, lines in zip(sheet.columns, names, strict=True):
        values = wrapped(sheet.cell(row, column), face, page.width - look.margin - edge - 2 * _PAD)
        height = max(len(lines), len(values)) * line_height(face) + _PAD
        _block(page, lines, face, look.ink, (look.margin + _PAD, edge), top + _PAD / 2)
        _field(page, look, (edge, top, page.width - look.margin, top + height))
        _block(page, values, face, look.ink, (edge + _PAD, page.width), top + _PAD / 2)
        top += height + _PAD
    page.height = round(top) + look.margin
    return page


def listing_page(sheet: Sheet, labels: Labels, look: Style, face: Face) -> Page:
    """Lay out records as cards beside and below each other."""
    page = Page(_WIDE if look.wide else _NARROW, 0, look.paper)
    n_columns = 3 if look.wide else 2
    gap = 2 * _PAD
    wide = (page.width - 2 * look.margin - (n_columns - 1) * gap) / n_columns
    room = round(wide) - 3 * _PAD
    top = heading(page, _numbered(sheet), look, face)
    point = sheet.roles.point
    for start in range(0, len(sheet.rows), n_columns):
        cards = []
        for row in sheet.rows[start : start + n_columns]:
            name = (sheet.cell(row, point) if point is not None else "") or labels.record.format(number=row + 1)
            shown = [(column, sheet.cell(row, column)) for column in sheet.columns if column != point]
            texts = [f"{sheet.table.columns[column]}: {cell}" for column, cell in shown if cell]
            cards.append((wrapped(name, face, room), [line for text in texts for line in wrapped(text, face, room)]))
        heads = max(len(names) for names, _ in cards) * line_height(face) + _PAD
        height = heads + max(len(lines) for _, lines in cards) * line_height(face) + 2 * _PAD
        for number_, (names, lines) in enumerate(cards):
            left = look.margin + number_ * (wide + gap)
            page.shapes.append(rectangle(left, top, left + wide, top + height, look.tint))
            page.shapes.append(rectangle(left, top, left + wide, top + heads, look.accent))
            _block(page, names, face, look.on_accent, (left + _PAD, left + wide), top + _PAD / 2)
            _block(page, lines, face, look.ink, (left + _PAD, left + wide), top + heads + _PAD)
        top += height + gap
    page.height = round(top - gap) + look.margin
    return page


def heading(page: Page, title: str, look: Style, face: Face) -> float:
    """Place the title, and return where the page goes on."""
    large = replace(face, size=round(face.size * 1.35))
    top = look.margin * 0.7
    for line in wrapped(title, large, page.width - 2 * look.margin):
        x, side = (page.width / 2, "centre") if look.centred else (look.margin, "left")
        put(page, line, large, look.ink, x, top, side)  # type: ignore[arg-type]  # mypy joins the sides to str
        top += line_height(large)
    return top + _PAD


def _numbered(sheet: Sheet) -> str:
    return f"{sheet.title} ({sheet.number})" if sheet.number else sheet.title


def _block(
    page: Page,
    lines: Sequence[str],
    face: Face,
    color: str,
    sides: tuple[float, float],
    top: float,
    *,
    right: bool = False,
) -> None:
    for line in lines:
        if line:
            put(page, line, face, color, sides[1] if right else sides[0], top, "right" if right else "left")
        top += line_height(face)


def _field(page: Page, look: Style, edges: tuple[float, float, float, float]) -> None:
    left, top, right, bottom = edges
    if look.rules == "stripes":
        page.shapes.append(rectangle(left, top, right, bottom, look.tint))
        return
    corners = ((left, bottom), (right, bottom))
    if look.rules == "all":
        corners = (*corners, (right, top), (left, top), (left, bottom))  # type: ignore[assignment]  # longer
    page.shapes.append(Shape(corners, look.faint, 1))


def _rules(page: Page, look: Style, lines: Sequence[float], widths: Sequence[float]) -> None:
    if look.rules == "stripes":
        return
    left, right = look.margin, page.width - look.margin
    page.shapes.extend(Shape(((left, y), (right, y)), look.faint, 1) for y in lines)
    if look.rules == "all":
        x = float(left)
        for wide in (0.0, *widths):
            x += wide
            page.shapes.append(Shape(((x, lines[0]), (x, lines[-1])), look.faint, 1))


def _widths(rows: Sequence[Sequence[str]], face: Face, room: int) -> list[float]:
    """Share the room among columns: each has what it needs, but the widest give what is lacking."""
    needs = [max(width(cell, face) for cell in column if cell) + 2.0 * _PAD + 2 for column in zip(*rows, strict=True)]
    narrowest = min(_NARROWEST_COLUMN, room / len(needs))
    widest = max(needs)
    while sum(min(need, widest) for need in needs) > room and widest > narrowest:
        widest *= 0.97
    widths = [min(need, max(widest, narrowest)) for need in needs]
    spare = max(0.0, room * 0.75 - sum(widths)) / len(widths)
    return [wide + spare for wide in widths]


def _totals(sheet: Sheet, labels: Labels) -> list[str] | None:
    additive = [column for column in sheet.columns if column in sheet.roles.additive]
    first = sheet.columns[0]
    if not (sheet.whole and additive and first not in additive and len(sheet.rows) > 1):
        return None
    cells = []
    for column in sheet.columns:
        mark = sheet.roles.measures.get(column)
        written = [sheet.table.rows[row][column] for row in sheet.rows]
        values = [number(cell, mark) for cell in written] if mark and column in additive else []
        if values and all(value is not None for value in values):
            separators = [match[1] for cell in written if (match := re.search(r"\d(\D)\d{3}(?!\d)", cell))]
            total = f"{int(sum(value for value in values if value is not None)):,}"
            cells.append(total.replace(",", separators[0] if separators else ""))
        else:
            cells.append(labels.total if column == first else "")
    return cells
