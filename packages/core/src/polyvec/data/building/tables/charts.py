"""Charts of one measure: bars that stand or lie, lines, areas."""

import math
from dataclasses import dataclass, replace

from polyvec.data.building.tables.columns import number
from polyvec.data.building.tables.drawing import Page, Shape, put, put_sideways, rectangle, widest
from polyvec.data.building.tables.facts import shows_values
from polyvec.data.building.tables.pages import heading
from polyvec.data.building.tables.sheets import Sheet
from polyvec.data.building.tables.style import Style
from polyvec.data.building.tables.templates import Labels
from polyvec.data.building.tables.typesetting import Face, line_height, width, wrapped

__all__ = ["chart_page"]

_WIDE, _NARROW = 1080, 800  # pixels
_SLOT = 26  # pixels that a point needs at least
_PLOT = 380  # height of standing bars and lines
_BAR = 0.68  # of a slot
_LONG = 110  # pixels; longer names stand beside lying bars
_GAP = 8
_N_TICKS = 6


@dataclass(frozen=True, slots=True)
class _Series:
    names: list[str]
    cells: list[str]
    values: list[float]
    ticks: list[float]
    tick_texts: list[str]


def chart_page(sheet: Sheet, labels: Labels, look: Style, face: Face) -> Page:
    """Lay out a chart; its numbers are written beside their bars and points if there are few of them."""
    point, measure = sheet.columns
    mark = sheet.roles.measures[measure]
    cells = [sheet.table.rows[row][measure] for row in sheet.rows]
    values = [float(value) for cell in cells if (value := number(cell, mark)) is not None]
    is_line = look.chart != "bars" and not sheet.roles.records
    names = [sheet.cell(row, point) for row in sheet.rows]
    ticks = _ticks(values, from_zero=not is_line)
    small = replace(face, size=max(11, face.size - 2))
    series = _Series(names, cells, values, ticks, [_tick_text(tick, ticks, labels) for tick in ticks])
    least = _SLOT * len(names) + 220
    page = Page(max(_WIDE if look.wide else _NARROW, least), 0, look.paper)
    title = f"{sheet.title} ({sheet.number})" if sheet.number else sheet.title
    top = heading(page, title, look, face)
    caption = labels.per.format(measure=sheet.table.columns[measure], point_name=sheet.table.columns[point])
    for line in wrapped(caption, small, page.width - 2 * look.margin):
        put(page, line, small, look.ink, look.margin, top)
        top += line_height(small)
    top += _GAP
    shown = shows_values(sheet)
    if not is_line and widest(names, small) > _LONG:
        bottom = _lying(page, series, look, small, top, shown=shown)
    else:
        bottom = _standing(page, series, look, small, top, shown=shown, is_line=is_line)
        put(page, sheet.table.columns[point], small, look.ink, page.width / 2, bottom, "centre")
        bottom += line_height(small)
    page.height = round(bottom + look.margin * 0.7)
    return page


def _standing(page: Page, series: _Series, look: Style, face: Face, top: float, *, shown: bool, is_line: bool) -> float:
    """Draw points from left to right, and return where the chart ends."""
    left = look.margin + widest(series.tick_texts, face) + _GAP
    right = page.width - look.margin
    slot = (right - left) / len(series.names)
    turned = shown and widest(series.cells, face) > slot - 4
    written = (widest(series.cells, face) if turned else line_height(face)) + _GAP if shown else _GAP
    under = written if shown and (is_line or min(series.values) < 0) else 0
    first, last = top + written, top + written + _PLOT
    low, high = series.ticks[0], series.ticks[-1]

    def y(value: float) -> float:
        return last - (value - low) / (high - low) * (last - first)

    for tick, text in zip(series.ticks, series.tick_texts, strict=True):
        page.shapes.append(Shape(((left, y(tick)), (right, y(tick))), look.faint, 0.7))
        put(page, text, face, look.ink, left - _GAP, y(tick) - line_height(face) / 2, "right")
    middles = [left + slot * (position + 0.5) for position in range(len(series.names))]
    places = [(x, y(value)) for x, value in zip(middles, series.values, strict=True)]
    if is_line:
        _line(page, places, look, last)
    zero = y(max(low, min(high, 0)))
    for position, ((x, end), value, cell) in enumerate(zip(places, series.values, series.cells, strict=True)):
        if not is_line:
            half = slot * _BAR / 2
            page.shapes.append(rectangle(x - half, min(end, zero), x + half, max(end, zero, zero + 1), look.accent))
        if not shown:
            continue
        is_above = not _is_valley(series.values, position) if is_line else value >= 0
        if turned:
            put_sideways(page, cell, face, look.ink, x, end - _GAP if is_above else end + _GAP + width(cell, face))
        else:
            put(page, cell, face, look.ink, x, end - line_height(face) - 2 if is_above else end + 2, "centre")
        if is_line:  # the line must not cross its numbers
            box = page.boxes[-1]
            page.shapes.append(rectangle(box.left - 2, box.top - 1, box.right + 2, box.bottom + 1, look.paper))
    return _names(page, series, look, face, middles, last + under + _GAP, slot)


def _names(
    page: Page, series: _Series, look: Style, face: Face, middles: list[float], top: float, slot: float
) -> float:
    if widest(series.names, face) <= slot - 4:
        for x, name in zip(middles, series.names, strict=True):
            put(page, name, face, look.ink, x, top, "centre")
        return top + line_height(face)
    for x, name in zip(middles, series.names, strict=True):
        put_sideways(page, name, face, look.ink, x, top + width(name, face))
    return top + widest(series.names, face) + _GAP


def _is_valley(values: list[float], position: int) -> bool:
    around = values[max(0, position - 1) : position] + values[position + 1 : position + 2]
    return all(values[position] < other for other in around)


def _line(page: Page, places: list[tuple[float, float]], look: Style, last: float) -> None:
    if look.chart == "area":
        ground = ((places[0][0], last), *places, (places[-1][0], last))
        page.shapes.append(Shape(ground, look.tint))
    page.shapes.append(Shape(tuple(places), look.accent, 2.5))
    page.shapes.extend(Shape((place,), look.accent, 7) for place in places)


def _lying(page: Page, series: _Series, look: Style, face: Face, top: float, *, shown: bool) -> float:
    """Draw bars that lie, names beside them, and return where the chart ends."""
    broken = [wrapped(name, face, round(page.width * 0.3)) for name in series.names]
    left = look.margin + widest([line for lines in broken for line in lines], face) + 2 * _GAP
    written = widest(series.cells, face) + _GAP if shown else _GAP
    low, high = series.ticks[0], series.ticks[-1]
    first = left + (written if shown and low < 0 else 0)
    last = page.width - look.margin - max(written, width(series.tick_texts[-1], face) / 2)

    def x(value: float) -> float:
        return first + (value - low) / (high - low) * (last - first)

    heights = [max(_SLOT, len(lines) * line_height(face) + 4) for lines in broken]
    bottom = top + sum(heights)
    page.shapes.extend(Shape(((x(tick), top), (x(tick), bottom)), look.faint, 0.7) for tick in series.ticks)
    for lines, height, value, cell in zip(broken, heights, series.values, series.cells, strict=True):
        middle = top + height / 2
        for position, line in enumerate(lines):
            y = middle + (position - len(lines) / 2) * line_height(face)
            put(page, line, face, look.ink, left - 2 * _GAP, y, "right")
        ends = sorted((x(0), x(value)))
        half = min(height, _SLOT) * _BAR / 2
        page.shapes.append(rectangle(ends[0], middle - half, max(ends[1], ends[0] + 1), middle + half, look.accent))
        if shown:
            at = middle - line_height(face) / 2
            put(page, cell, face, look.ink, *((ends[1] + 4, at, "left") if value >= 0 else (ends[0] - 4, at, "right")))
        top += height
    every = 1 if all(width(text, face) < x(high) / len(series.ticks) for text in series.tick_texts) else 2
    for tick, text in list(zip(series.ticks, series.tick_texts, strict=True))[::every]:
        put(page, text, face, look.ink, x(tick), bottom + 2, "centre")
    return bottom + line_height(face) + 2


def _ticks(values: list[float], *, from_zero: bool) -> list[float]:
    from matplotlib.ticker import MaxNLocator  # an optional extra

    low, high = min(values), max(values)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        low, high = low - max(1.0, abs(low) * 0.1), high + max(1.0, abs(high) * 0.1)
    locator = MaxNLocator(nbins=_N_TICKS, steps=[1, 2, 2.5, 5, 10])
    return [float(tick) for tick in locator.tick_values(low, high)]


def _tick_text(tick: float, ticks: list[float], labels: Labels) -> str:
    step = ticks[1] - ticks[0]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if round(step, decimals) != round(step, decimals + 2):
        decimals += 1  # steps of 2.5
    text = f"{tick:,.{decimals}f}"
    if not float(text.replace(",", "")):
        text = text.lstrip("-")
    return text.translate({ord(","): labels.thousands, ord("."): labels.decimal})
