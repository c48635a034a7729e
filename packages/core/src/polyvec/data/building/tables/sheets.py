"""What each document shows: some rows and columns of a table, in one of four forms."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from polyvec.data.building.tables.columns import DecimalMark, Roles, date_key, number
from polyvec.data.building.tables.reading import Table

__all__ = ["LONGEST", "Form", "Sheet", "check_forms", "fitting_form", "sheets", "shortened"]

Form = Literal["chart", "table", "form", "listing"]

LONGEST = 60  # characters of a cell that queries may speak of; no page shortens such a cell

_SHOWN = {"chart": LONGEST, "table": LONGEST, "form": 300, "listing": 160}  # characters of a cell on a page
_MOST_ROWS = {"chart": 36, "table": 20, "listing": 6}
_MOST_COLUMNS = {"table": 7, "form": 16, "listing": 6}
_FEW_TEXTS = 3


@dataclass(frozen=True, slots=True)
class Sheet:
    """A document before it is drawn.

    Attributes:
        rows: positions in the table, in the order in which they are shown.
        columns: positions of the shown columns; of a chart: its point and its measure.
        subject: cell of the group, or the name of the table.
        title: what stands above.
        whole: whether all rows of the subject are shown.
        number: of the sheet among those of its subject, from 1; 0 if it is the only one.
    """

    id: str
    form: Form
    table: Table
    roles: Roles
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    subject: str
    title: str
    group: str
    whole: bool
    number: int = 0

    def cell(self, row: int, column: int) -> str:
        """Return a cell as it is shown."""
        return shortened(self.table.rows[row][column], _SHOWN[self.form])


def shortened(text: str, longest: int) -> str:
    """Cut a text after `longest` characters, with an ellipsis."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def check_forms(forms: Sequence[str]) -> None:
    """Raise ValueError unless all are known."""
    for form in forms:
        if form not in get_args(Form):
            raise ValueError(f"`render` is {form!r}; it must be one of {', '.join(get_args(Form))}.")


def fitting_form(table: Table, roles: Roles) -> Form:
    """Return the form that suits a table best."""
    if len(table.rows) == 1:
        return "form"
    texts = len(table.columns) - len(roles.measures)
    if roles.measures and roles.point is not None and (roles.group is not None or texts <= _FEW_TEXTS):
        return "chart"
    return "listing" if roles.group is None and len(table.columns) > _FEW_TEXTS else "table"


def sheets(
    table: Table, roles: Roles, form: Form, *, prefix: str, title: str | None = None, rows: int | None = None
) -> Iterator[Sheet]:
    """Divide a table by its groups if it has some, and these into pieces of about equal size, of at most `rows` rows.

    A chart shows one measure, and leaves out rows without a value; there is none of fewer than two values.
    """
    serial = 0
    for subject, members in _subjects(table, roles, title or table.name):
        for columns, shown in _views(table, roles, form, members):
            pieces = _pieces(shown, 1 if form == "form" else rows or _MOST_ROWS[form])
            for number_, piece in enumerate(pieces, 1):
                serial += 1
                yield Sheet(
                    id=f"{prefix}-{form}-{serial:05}",
                    form=form,
                    table=table,
                    roles=roles,
                    rows=piece,
                    columns=columns,
                    subject=subject,
                    title=_title(table, roles, form, subject, piece, columns),
                    group=f"{prefix}: {subject}",
                    whole=len(pieces) == 1 and len(shown) == len(members),
                    number=number_ if len(pieces) > 1 and form != "form" else 0,
                )


def _subjects(table: Table, roles: Roles, name: str) -> Iterator[tuple[str, list[int]]]:
    members: dict[str, list[int]] = {}
    for position, row in enumerate(table.rows):
        members.setdefault((row[roles.group] if roles.group is not None else "") or name, []).append(position)
    for subject, positions in members.items():
        keys = {p: date_key(table.rows[p][roles.point]) for p in positions} if roles.point is not None else {}
        dated = bool(keys) and all(keys.values())
        yield subject, sorted(positions, key=lambda p: keys[p] or ()) if dated else positions


def _views(
    table: Table, roles: Roles, form: Form, members: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], Sequence[int]]]:
    """Yield the columns and rows of each document or row of documents that a subject has."""
    if form != "chart":
        first = [position for position in (roles.group, roles.point) if position is not None]
        others = [position for position in range(len(table.columns)) if position not in first]
        ranked = [*first, *sorted(others, key=lambda position: position not in roles.measures)]
        yield tuple(sorted(ranked[: _MOST_COLUMNS[form]])), members
    elif roles.point is not None:
        for measure, mark in roles.measures.items():
            filled = [p for p in members if table.rows[p][roles.point] and _has(table.rows[p][measure], mark)]
            if len(filled) > 1:
                yield (roles.point, measure), filled


def _has(cell: str, mark: DecimalMark) -> bool:
    return bool(cell) and number(cell, mark) is not None


def _pieces(rows: Sequence[int], most: int) -> list[tuple[int, ...]]:
    n = -(-len(rows) // most)
    cuts = [len(rows) * i // n for i in range(n + 1)]
    return [tuple(rows[start:end]) for start, end in pairwise(cuts)]


def _title(table: Table, roles: Roles, form: Form, subject: str, piece: Sequence[int], columns: Sequence[int]) -> str:
    if form == "chart":
        return f"{table.columns[columns[1]]} – {subject}"
    if form == "form" and roles.point is not None and (name := table.rows[piece[0]][roles.point]):
        return name if roles.group is None and roles.records else f"{subject} – {name}"
    return subject
