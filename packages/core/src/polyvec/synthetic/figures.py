"""The middle of a page: sections, notices, tables, forms and charts."""

from collections.abc import Callable

from polyvec.synthetic.lettering import WHITE, extent, tint, typeface
from polyvec.synthetic.sheet import TILE, Shape, Sheet
from polyvec.synthetic.world import Document, Kind


def draw(sheet: Sheet, document: Document) -> None:
    """Place the middle of a document on the sheet. If there is no room, `sheet.y` ends beyond the paper."""
    _DRAW[document.kind](sheet, document)


def _draw_sections(sheet: Sheet, document: Document) -> None:
    heading = typeface(sheet.style.heading, max(17, sheet.style.body_size))
    for section in document.sections:
        if not section.text and not document.notes:
            continue
        sheet.y += 4
        sheet.paragraph(section.heading, font=heading, ink=sheet.style.accent)
        sheet.paragraph(section.text)


def _draw_notice(sheet: Sheet, document: Document) -> None:
    style = sheet.style
    (section,) = document.sections
    event = typeface(style.heading, 22)
    top = sheet.row()
    sheet.rectangle((sheet.left, top, sheet.right, top + TILE), fill=style.accent)
    x = (sheet.width - extent(section.heading, event)) // 2
    sheet.place(section.heading, x, sheet.baseline(top, event), event, WHITE)
    sheet.y = top + TILE
    for name, value in document.fields:
        sheet.paragraph(f"{name}: {value}", font=typeface(style.body, style.body_size + 1))


def _draw_table(sheet: Sheet, document: Document) -> None:
    style = sheet.style
    rows = (document.header, *document.rows)
    bold = typeface("DejaVuSans-Bold", 15)
    columns = [
        max(extent(row[i], bold if row is document.header else sheet.body) for row in rows) + 12
        for i in range(len(document.header))
    ]
    if sum(columns) > sheet.right - sheet.left:
        sheet.y = sheet.height
        return
    spare = (sheet.right - sheet.left - sum(columns)) // len(columns)
    top, pitch = sheet.row(), TILE
    for n, row in enumerate(rows):
        y = top + n * pitch
        if n == 0:
            sheet.rectangle((sheet.left, y, sheet.right, y + pitch), fill=style.accent)
        elif n % 2 == 0 and not style.ruled:
            sheet.rectangle((sheet.left, y, sheet.right, y + pitch), fill=tint(style.accent, style.paper))
        font, ink = (bold, WHITE) if n == 0 else (sheet.body, style.ink)
        baseline = sheet.baseline(y, font)
        x = sheet.left
        for i, cell in enumerate(row):
            x += columns[i] + spare
            start = sheet.left + 6 if i == 0 else x - 6 - extent(cell, font)
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


def _draw_form(sheet: Sheet, document: Document) -> None:
    style = sheet.style
    fields = document.fields
    sheet.y = sheet.row()
    pitch = TILE * (2 if sheet.y + 2 * TILE * len(fields) <= sheet.bottom else 1)
    labels = typeface(style.heading, 15)
    inset = max(extent(name, labels) for name, _ in fields) + 12
    if any(inset + extent(value, sheet.body) + 12 > sheet.right - sheet.left for _, value in fields):
        sheet.y = sheet.height
        return
    for name, value in fields:
        row = sheet.y + pitch - TILE
        sheet.place(name, sheet.left, sheet.baseline(row, labels), labels, style.accent)
        left = sheet.left + inset
        if style.ruled:
            sheet.line(left, row + TILE, sheet.right, row + TILE, ink=style.ink)
        else:
            sheet.rectangle((left, row, sheet.right, row + TILE), fill=WHITE, outline=style.accent)
        sheet.place(value, left + 8, sheet.baseline(row, sheet.body), sheet.body, style.ink)
        sheet.y += pitch


def _caption(sheet: Sheet, document: Document) -> None:
    sheet.paragraph(f"{document.kind.capitalize()} by {document.grouping}", font=typeface(sheet.style.body, 15))


def _draw_bars(sheet: Sheet, document: Document) -> None:
    style = sheet.style
    font = typeface(style.body, 15)
    labels, values = document.labels, document.values
    if style.upright and (sheet.right - sheet.left) // len(labels) >= max(extent(name, font) for name in labels) + 6:
        _draw_upright(sheet, document)
        return
    _caption(sheet, document)
    pitch = TILE * (2 if sheet.y + 2 * TILE * len(labels) <= sheet.bottom else 1)
    inset = max(extent(label, font) for label in labels) + 8
    reach = sheet.right - sheet.left - inset - 42
    if reach < 60:
        sheet.y = sheet.height
        return
    top, axis = sheet.y, sheet.left + inset
    for label, value in zip(labels, values, strict=True):
        row = sheet.y + pitch - TILE
        baseline = sheet.baseline(row, font)
        sheet.place(label, axis - 6 - extent(label, font), baseline, font, style.ink)
        end = axis + max(2, reach * value // max(values))
        sheet.rectangle((axis, row + 3, end, row + TILE - 3), fill=style.accent)
        sheet.place(str(value), end + 5, baseline, font, style.ink)
        sheet.y += pitch
    sheet.line(axis, top, axis, sheet.y, ink=style.ink, width=2)


def _draw_upright(sheet: Sheet, document: Document) -> None:
    """Draw columns or a curve over labels side by side."""
    style = sheet.style
    _caption(sheet, document)
    font = typeface(style.body, 15)
    labels, values = document.labels, document.values
    step = (sheet.right - sheet.left) // len(labels)
    top, base = sheet.y + TILE, sheet.bottom - TILE
    floor = base if document.kind == "bar chart" else base - TILE  # below a point of the curve is room for its value
    if floor - top < 60 or step < max(extent(label, font) for label in labels) + 6:
        sheet.y = sheet.height
        return
    for n in range(1, 5):
        y = base - n * (base - top) // 4
        sheet.line(sheet.left, y, sheet.right, y, ink=tint(style.accent, style.paper))
    xs = [sheet.left + step * n + step // 2 for n in range(len(labels))]
    ys = [floor - (floor - top) * value // max(values) for value in values]
    if document.kind == "line chart":
        sheet.line(*(side for point in zip(xs, ys, strict=True) for side in point), ink=style.accent, width=3)
    for n, (x, y, label, value) in enumerate(zip(xs, ys, labels, values, strict=True)):
        row = y // TILE * TILE - TILE  # the row above the one that the value reaches
        if document.kind == "bar chart":
            sheet.rectangle((x - step // 3, y, x + step // 3, base), fill=style.accent)
        else:
            sheet.shapes.append(Shape("ellipse", (x - 4, y - 4, x + 4, y + 4), style.accent))
            beside = values[max(n - 1, 0)] + values[min(n + 1, len(values) - 1)]
            row = min(y // TILE * TILE + TILE, base - TILE) if beside > 2 * value else row
        sheet.place(str(value), x - extent(str(value), font) // 2, sheet.baseline(row, font), font, style.ink)
        sheet.place(label, x - extent(label, font) // 2, sheet.baseline(base, font), font, style.ink)
    sheet.line(sheet.left, base, sheet.right, base, ink=style.ink, width=2)
    sheet.y = sheet.bottom


_DRAW: dict[Kind, Callable[[Sheet, Document], None]] = {
    "report": _draw_sections,
    "table": _draw_table,
    "bar chart": _draw_bars,
    "line chart": _draw_upright,
    "form": _draw_form,
    "notice": _draw_notice,
}
