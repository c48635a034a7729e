"""What columns are: labels, groups, dates and numbers, inferred from all cells or chosen by name."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal, get_args

from polyvec.data.building.tables.reading import Table

__all__ = ["DecimalMark", "Roles", "date_key", "infer", "number"]

DecimalMark = Literal[".", ","]

_SHARE = 0.9  # of the cells of a column that must be numbers, or dates
_ALONE = 0.95  # of the rows that a column must name, each by a cell of its own
_FEWEST_PER_GROUP = 2.0  # rows per value, on average, of a column that divides a table
_CURRENCY = r"(?:[$€£¥₹₽₩₺฿]|[A-Z]{3})"
_AROUND = re.compile(rf"({_CURRENCY}\s*)?([-+]?)\s*(?:{_CURRENCY}\s*)?(\d.*?)\s*(?:{_CURRENCY}|Ft|kr|zł|%|٪)?")
_PLAIN: Mapping[str, re.Pattern[str]] = {
    mark: re.compile(rf"(?:\d+|\d{{1,3}}([{other}'’ ])(?:\d{{2,3}}\1)*\d{{3}})(?:[{mark}]\d+)?(?:[eE][-+]?\d+)?")
    for mark, other in ((".", ","), (",", "."))
}
_LARGEST = 10**18  # axes of larger numbers have no readable ticks
_LEADING_ZERO = re.compile(r"0\d")  # of telephone numbers and codes
_YEAR = re.compile(r"(?:1[5-9]|20|21)\d\d")
_DATES = (
    re.compile(r"(?P<y>\d{4})(?P<s>[-/.])(?P<m>\d{1,2})(?:(?P=s)(?P<d>\d{1,2}))?(?:[T ]\d{1,2}:\d{2}.*)?"),
    re.compile(r"(?P<d>\d{1,2})\.\s?(?P<m>\d{1,2})\.\s?(?P<y>\d{4})"),
    re.compile(r"(?P<y>\d{4})\s?年(?:(?P<m>\d{1,2})月(?:(?P<d>\d{1,2})日)?)?"),
    re.compile(r"(?P<y>\d{4})[- ]?Q(?P<m>[1-4])(?P<d>)"),
    re.compile(r"Q(?P<m>[1-4])[-/ ]?(?P<y>\d{4})(?P<d>)"),
)
_UNORDERED = re.compile(r"\d{1,2}([-/])\d{1,2}\1\d{4}")  # day first or month first: a date, but which one is unsure
_IDENTIFIER = re.compile(r"(?:id|#|no\.?|nr\.?|index|code|№|.* id|.* code|zip|postcode|plz)", re.I)


@dataclass(frozen=True, slots=True)
class Roles:
    """Columns by role, as positions.

    Attributes:
        group: divides the table: rows with one cell there are of one subject.
        point: names the rows of a subject, such as months; without `group` it names the records of the table.
        records: whether a cell of `point` names one row in all the table, as a name does and a month may not.
        repeated: cells of `group` (or an empty text) and `point` that several rows have; nothing is asked about these.
        measures: columns of numbers, with their decimal marks.
        additive: measures whose sum means something: whole numbers, none negative, no shares.
        unsure: columns of numbers such as 1,234 that may be read in two ways.
    """

    group: int | None
    point: int | None
    records: bool
    repeated: frozenset[tuple[str, str]]
    measures: Mapping[int, DecimalMark]
    additive: frozenset[int]
    unsure: tuple[int, ...] = ()


@lru_cache(2**16)
def number(cell: str, mark: DecimalMark) -> Decimal | None:
    """Return the number that a cell says, with a currency or a percent sign around it, or None."""
    core = _core(cell)
    if core is None or not _PLAIN[mark].fullmatch(core[1]) or _LEADING_ZERO.match(core[1]):
        return None
    digits = re.sub(rf"[^\d{mark}eE+-]", "", core[1]).replace(mark, ".")
    value = Decimal(core[0] + digits)
    return value if abs(value) <= _LARGEST else None


def date_key(cell: str) -> tuple[int, int, int] | None:
    """Return year, month (or quarter) and day of a date, 0 if it has none; None for a cell that says no sure date."""
    if _YEAR.fullmatch(cell):
        return int(cell), 0, 0
    for pattern in _DATES:
        if match := pattern.fullmatch(cell):
            return int(match["y"]), int(match["m"] or 0), int(match["d"] or 0)
    return None


def infer(
    table: Table,
    *,
    label: str | None = None,
    values: Sequence[str] = (),
    date: str | None = None,
    group_by: str | None = None,
    decimal: DecimalMark | None = None,
) -> Roles:
    """Return the roles of the columns; what is chosen by name is taken, the rest is inferred.

    Raises:
        ValueError: a column is unknown or has no numbers, or `decimal` is unknown.
    """
    if decimal is not None and decimal not in get_args(DecimalMark):
        raise ValueError(f"`decimal` is {decimal!r}; it must be '.' or ','.")
    cells = list(zip(*table.rows, strict=True))
    dates = [position for position, column in enumerate(cells) if _are_dates(column)]
    if date is not None:
        dates = [_position(table, "date", date)]
    marks = {position: _mark(column, decimal) for position, column in enumerate(cells) if position not in dates}
    unsure = tuple(position for position, mark in marks.items() if mark == "unsure")
    numeric: dict[int, DecimalMark] = {
        position: mark for position, mark in marks.items() if mark is not None and mark != "unsure"
    }
    chosen = {_position(table, "value", name) for name in values}
    for position in chosen - set(numeric):
        why = "may be read in two ways; choose `decimal`" if position in unsure else "are no numbers"
        example = next((cell for cell in cells[position] if cell), "")
        raise ValueError(f"{table.file}: the cells of {table.columns[position]!r}, such as {example!r}, {why}.")
    fixed = {_position(table, name, column) for name, column in (("label", label), ("group-by", group_by)) if column}
    measures = {
        position: mark
        for position, mark in numeric.items()
        if position not in fixed and (position in chosen if chosen else not _identifies(table, position, cells))
    }
    texts = [p for p in range(len(cells)) if p not in numeric and p not in dates and p not in unsure]
    groups = [_position(table, "group-by", group_by)] if group_by else texts if measures else []
    group, point = _group_and_point(table, cells, texts, dates, groups, label=label, chosen=group_by is not None)
    additive = frozenset(p for p, mark in measures.items() if _is_additive(table.columns[p], cells[p], mark))
    names = Counter(cells[point]) if point is not None else Counter[str]()
    keys = Counter(_keys(cells, group, point)) if point is not None else Counter[tuple[str, str]]()
    return Roles(
        group=group,
        point=point,
        records=point is not None and point not in dates and _mostly_once(names),
        repeated=frozenset(key for key, n in keys.items() if n > 1),
        measures=measures,
        additive=additive,
        unsure=tuple(position for position in unsure if position not in fixed),
    )


def _group_and_point(
    table: Table,
    cells: Sequence[Sequence[str]],
    texts: Sequence[int],
    dates: Sequence[int],
    groups: Sequence[int],
    *,
    label: str | None,
    chosen: bool,
) -> tuple[int | None, int | None]:
    """Return the column that divides the table and the one that names rows, each None if there is none."""
    points = [_position(table, "label", label)] if label else [*dates, *texts]
    for group in groups:
        filled = [cell for cell in cells[group] if cell]
        few = len(filled) == len(cells[group]) >= _FEWEST_PER_GROUP * len(set(filled))
        for point in points if chosen or few else ():
            if point != group and _mostly_once(Counter(_keys(cells, group, point))):
                is_name = len(set(filled)) > 1 and _mostly_once(Counter(cells[point]))  # of what has other columns
                return (None if is_name and not chosen else group), point
    names = points if label else [*texts, *dates]
    named = next((position for position in names if label or _mostly_once(Counter(cells[position]))), None)
    return (groups[0], None) if chosen else (None, named)


def _keys(cells: Sequence[Sequence[str]], group: int | None, point: int) -> Iterator[tuple[str, str]]:
    groups = cells[group] if group is not None else [""] * len(cells[point])
    return zip(groups, cells[point], strict=True)


def _mostly_once(counts: Mapping[Any, int]) -> bool:
    """Tell whether nearly all rows have a cell, and one of their own."""
    single = sum(1 for key, n in counts.items() if n == 1 and (key[-1] if isinstance(key, tuple) else key))
    return single >= _ALONE * sum(counts.values())


def _position(table: Table, option: str, name: str) -> int:
    wanted = " ".join(name.replace("_", " ").split())
    if wanted not in table.columns:
        raise ValueError(f"`{option}` is {name!r}; the columns of {table.file} are {', '.join(table.columns)}.")
    return table.columns.index(wanted)


def _core(cell: str) -> tuple[str, str] | None:
    """Return the sign of a number and what follows it, in ASCII digits, without currency and percent sign."""
    if not cell or len(cell) > 40:
        return None
    if not cell.isascii():
        cell = "".join(
            str(unicodedata.decimal(letter))
            if letter.isdecimal()
            else {"−": "-", "٫": ".", "٬": ","}.get(letter, letter)
            for letter in cell
        )
    match = _AROUND.fullmatch(cell)
    return (match[2], match[3]) if match else None


def _mark(column: Sequence[str], decimal: DecimalMark | None) -> DecimalMark | Literal["unsure"] | None:
    """Return the decimal mark with which a column reads as numbers, or None."""
    filled = [cell for cell in column if cell]
    readings = {mark: [number(cell, mark) for cell in filled] for mark in get_args(DecimalMark)}
    enough = _SHARE * len(filled)
    fits = {mark: sum(value is not None for value in read) for mark, read in readings.items()}
    if decimal is not None:
        return decimal if filled and fits[decimal] >= enough else None
    both = max(fits.values())
    marks: list[DecimalMark] = [mark for mark, n in fits.items() if n == both and filled and n >= enough]
    if len(marks) > 1 and readings["."] != readings[","]:
        return "unsure"
    return marks[0] if marks else None


def _are_dates(column: Sequence[str]) -> bool:
    filled = [cell for cell in column if cell]
    n = sum(date_key(cell) is not None or _UNORDERED.fullmatch(cell) is not None for cell in filled)
    return bool(filled) and n >= _SHARE * len(filled)


def _identifies(table: Table, position: int, cells: Sequence[Sequence[str]]) -> bool:
    counted = cells[position] == tuple(map(str, range(1, len(table.rows) + 1)))
    return _IDENTIFIER.fullmatch(table.columns[position]) is not None or (counted and len(table.rows) > 1)


def _is_additive(name: str, column: Sequence[str], mark: DecimalMark) -> bool:
    if "%" in name or any("%" in cell for cell in column):
        return False
    values = [number(cell, mark) for cell in column if cell]
    return all(value is not None and value >= 0 and value == value.to_integral_value() for value in values)
