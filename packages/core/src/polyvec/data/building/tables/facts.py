"""What a document says, as keys: a query has the documents that say all its keys as its answers, and no others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations

from polyvec.data.building.tables.columns import number
from polyvec.data.building.tables.sheets import LONGEST, Sheet

__all__ = ["Fact", "Question", "facts", "measure_name", "questions", "shows_values", "tells_apart"]

Fact = tuple[str, ...]
"""A kind of fact and its words: `shows`, `value`, `equals`, `whole`, `largest`, `smallest`, `highest`, `span`
and `row`."""

_MOST_LABELLED = 14  # points of a chart that still have their values written on it
_CLEAR = Decimal("0.05")  # of a chart's range, that values without a number beside them must differ
_MOST_CONDITIONS = 5  # columns whose cells instructions may combine
_LONGEST_CONDITION = 40

_Condition = tuple[str, str, str]  # a column, its cell, and one spelling for equal cells


@dataclass(frozen=True, slots=True)
class Question:
    """Something to ask about a document.

    Attributes:
        template: its name.
        words: for the placeholders.
        facts: what a document must say to be an answer.
        is_comparison: whether the page must also tell which of two values, the first facts, is larger.
    """

    template: str
    words: dict[str, str]
    facts: tuple[Fact, ...]
    is_comparison: bool = False


def shows_values(sheet: Sheet) -> bool:
    """Tell whether the numbers themselves are on the page."""
    return sheet.form != "chart" or len(sheet.rows) <= _MOST_LABELLED


def measure_name(name: str) -> str:
    """Return a header without the unit in brackets that may end it."""
    head, bracket, _ = name.partition(" (") if name.endswith(")") else name.partition(" [")
    return head if bracket and name[-1] in ")]" and head else name


def facts(sheet: Sheet) -> Iterator[Fact]:
    """Yield all that a document says and that queries may need. Cells that are shortened somewhere say nothing."""
    roles, rows = sheet.roles, sheet.table.rows
    if not _usable(sheet.subject):
        return
    for column, name in _columns(sheet):
        if _names_its_subject(sheet):
            yield ("shows", name, sheet.subject)
        if roles.point is None:
            continue
        scope = "" if roles.records else sheet.subject
        for position in sheet.rows:
            point, cell = rows[position][roles.point], rows[position][column]
            if _usable(point) and _usable(cell) and not _is_repeated(sheet, position):
                yield ("value", name, scope, point)
                if shows_values(sheet):
                    yield ("equals", name, scope, point, _normal(sheet, column, cell))
        yield from _summaries(sheet, column, name)
    if sheet.form != "chart":
        for one, other in _conditions(sheet, sheet.columns, len(sheet.columns)):
            yield _row_fact(one, other)


def _columns(sheet: Sheet) -> Iterator[tuple[int, str]]:
    """Yield the columns that say something of a group or a point, with their names."""
    for column in sheet.columns:
        if column not in (sheet.roles.group, sheet.roles.point):
            yield column, measure_name(sheet.table.columns[column])


def tells_apart(sheet: Sheet, one: Fact, other: Fact) -> bool:
    """Tell whether the page shows which of two `value` facts is larger, in a column that says both."""
    point, rows = sheet.roles.point, sheet.table.rows
    for column in sheet.columns:
        if column not in sheet.roles.measures or measure_name(sheet.table.columns[column]) != one[1] or point is None:
            continue
        values = {rows[position][point]: _value(sheet, position, column) for position in sheet.rows}
        first, second = values.get(one[-1]), values.get(other[-1])
        clear = _clear(sheet, [value for value in values.values() if value is not None])
        if first is not None and second is not None and abs(first - second) > clear:
            return True
    return False


def questions(sheet: Sheet) -> Iterator[Question]:
    """Yield what may be asked about a document; each row is compared with one other at most."""
    roles, rows = sheet.roles, sheet.table.rows
    if not _usable(sheet.subject):
        return
    for column, name in _columns(sheet):
        shows: Fact = ("shows", name, sheet.subject)
        if column in roles.measures and _names_its_subject(sheet):
            words = {"measure": name, "subject": sheet.subject}
            yield Question("phrase", words, (shows,))
            yield Question("request", words, (shows,))
        if roles.point is not None:
            good = [p for p in sheet.rows if _usable(rows[p][roles.point]) and _usable(rows[p][column])]
            good = [p for p in good if not _is_repeated(sheet, p)]
            yield from _lookups(sheet, column, name, good)
            if column in roles.measures:
                yield from _comparisons(sheet, column, name, good)
                yield from _wholes(sheet, column, name)
    asked = [p for p in sheet.columns if p != roles.point or not roles.records] if _asks_of_rows(sheet) else []
    for one, other in _conditions(sheet, asked, _MOST_CONDITIONS):
        (name_a, value_a, _), (name_b, value_b, _) = one, other
        pair = {"name_a": name_a, "value_a": value_a, "name_b": name_b, "value_b": value_b}
        yield Question("instruction", pair, (_row_fact(one, other),))


def _names_its_subject(sheet: Sheet) -> bool:
    """Tell whether the subject is on the page. A form of a record shows the name of the record, not of the table."""
    return sheet.form != "form" or sheet.roles.group is not None or not sheet.roles.records


def _lookups(sheet: Sheet, column: int, name: str, rows: list[int]) -> Iterator[Question]:
    point = sheet.roles.point
    assert point is not None
    records = sheet.roles.records
    is_number = column in sheet.roles.measures
    for position in rows:
        at, cell = sheet.table.rows[position][point], sheet.table.rows[position][column]
        scope = "" if records else sheet.subject
        subject = {"measure": name, "subject": at} if records else {"measure": name, "subject": sheet.subject}
        words = subject if records else {**subject, "point": at}
        if records or is_number:
            yield Question("record_lookup" if records else "lookup", words, (("value", name, scope, at),))
        if shows_values(sheet) and (records or is_number):
            equals: Fact = ("equals", name, scope, at, _normal(sheet, column, cell))
            yield Question("record_statement" if records else "statement", {**words, "value": cell}, (equals,))


def _comparisons(sheet: Sheet, column: int, name: str, rows: list[int]) -> Iterator[Question]:
    point = sheet.roles.point
    assert point is not None
    values = {p: value for p in rows if (value := _value(sheet, p, column)) is not None}
    listed = list(values)
    clear = _clear(sheet, list(values.values()))
    scope = "" if sheet.roles.records else sheet.subject
    for one, other in zip(listed, listed[len(listed) // 2 :], strict=False):
        if one == other or abs(values[one] - values[other]) <= clear:
            continue
        first, second = sheet.table.rows[one][point], sheet.table.rows[other][point]
        words = {"measure": name, "first": first, "second": second}
        needs: tuple[Fact, ...] = (("value", name, scope, first), ("value", name, scope, second))
        if sheet.roles.records:
            yield Question("record_comparison", words, needs, is_comparison=True)
        else:
            yield Question("comparison", {**words, "subject": sheet.subject}, needs, is_comparison=True)


def _wholes(sheet: Sheet, column: int, name: str) -> Iterator[Question]:
    """Yield questions about all rows of a subject at once."""
    roles, table = sheet.roles, sheet.table
    values = _complete(sheet, column)
    if values is None or roles.point is None or len(values) < 2:
        return
    words = {"measure": name, "subject": sheet.subject}
    whole: Fact = ("whole", name, sheet.subject)
    ranked = sorted(values)
    clear = _clear(sheet, list(values))
    point_name = table.columns[roles.point]
    if ranked[-1] - ranked[-2] > clear:
        yield Question("highest", {**words, "point_name": point_name}, (("largest", name, sheet.subject, point_name),))
        best = table.rows[sheet.rows[values.index(ranked[-1])]][roles.point]
        highest: Fact = ("highest", name, sheet.subject, best)
        if _usable(best):
            yield Question("statement_highest", {**words, "point": best}, (highest,))
            first, last = (table.rows[p][roles.point] for p in (sheet.rows[0], sheet.rows[-1]))
            if not roles.records and _usable(first) and _usable(last):
                span: Fact = ("span", name, sheet.subject, first, last)
                yield Question("description", {**words, "first": first, "last": last, "point": best}, (highest, span))
    if ranked[1] - ranked[0] > clear:
        yield Question("lowest", {**words, "point_name": point_name}, (("smallest", name, sheet.subject, point_name),))
    if column in roles.additive:
        yield Question("total", words, (whole,))


def _summaries(sheet: Sheet, column: int, name: str) -> Iterator[Fact]:
    point, rows = sheet.roles.point, sheet.table.rows
    values = _complete(sheet, column)
    if values is None or point is None:
        return
    yield ("whole", name, sheet.subject)
    yield ("span", name, sheet.subject, rows[sheet.rows[0]][point], rows[sheet.rows[-1]][point])
    ranked, clear = sorted(values), _clear(sheet, values)
    shown = shows_values(sheet)
    if shown or ranked[1] - ranked[0] > clear:
        yield ("smallest", name, sheet.subject, sheet.table.columns[point])
    if shown or ranked[-1] - ranked[-2] > clear:
        yield ("largest", name, sheet.subject, sheet.table.columns[point])
        for position, value in zip(sheet.rows, values, strict=True):
            if value == ranked[-1]:
                yield ("highest", name, sheet.subject, rows[position][point])


def _asks_of_rows(sheet: Sheet) -> bool:
    """Tell whether instructions are asked about a page: those of groups with numbers have other questions."""
    return sheet.form != "chart" and (sheet.roles.group is None or not sheet.roles.measures)


def _conditions(sheet: Sheet, columns: Sequence[int], most: int) -> Iterator[tuple[_Condition, _Condition]]:
    """Yield pairs of cells of one row, in the order of the columns; `most` cells of a row take part."""
    for row in sheet.rows:
        cells = sheet.table.rows[row]
        usable = [p for p in columns if 0 < len(cells[p]) <= _LONGEST_CONDITION][:most]
        conditions = [(sheet.table.columns[p], cells[p], _normal(sheet, p, cells[p])) for p in usable]
        yield from combinations(conditions, 2)


def _row_fact(one: _Condition, other: _Condition) -> Fact:
    first, second = sorted((one, other))  # tables may have the columns in another order
    return "row", first[0], first[2], second[0], second[2]


def _complete(sheet: Sheet, column: int) -> list[Decimal] | None:
    """Return the values of all rows of a subject, or None if some are elsewhere, missing or no numbers."""
    if not sheet.whole or column not in sheet.roles.measures:
        return None
    values = [_value(sheet, position, column) for position in sheet.rows]
    complete = [value for value in values if value is not None]
    if len(complete) < len(values) or any(_is_repeated(sheet, position) for position in sheet.rows):
        return None
    return complete


def _value(sheet: Sheet, row: int, column: int) -> Decimal | None:
    return number(sheet.table.rows[row][column], sheet.roles.measures[column])


def _normal(sheet: Sheet, column: int, cell: str) -> str:
    """Return one spelling for equal numbers."""
    mark = sheet.roles.measures.get(column)
    value = number(cell, mark) if mark is not None else None
    return cell if value is None else f"{value.normalize():f}"


def _clear(sheet: Sheet, values: list[Decimal]) -> Decimal:
    """Return how much values must differ for the page to tell which is larger."""
    return Decimal(0) if shows_values(sheet) or not values else _CLEAR * (max(values) - min(values))


def _is_repeated(sheet: Sheet, row: int) -> bool:
    roles, cells = sheet.roles, sheet.table.rows[row]
    assert roles.point is not None
    return (cells[roles.group] if roles.group is not None else "", cells[roles.point]) in roles.repeated


def _usable(cell: str) -> bool:
    return 0 < len(cell) <= LONGEST
