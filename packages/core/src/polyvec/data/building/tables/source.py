"""Tables in, documents and queries out: the source behind `polyvec data tables`."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

from polyvec.data.building.material import CorpusItem, Material, Rejection
from polyvec.data.building.tables.charts import chart_page
from polyvec.data.building.tables.columns import DecimalMark, Roles, infer
from polyvec.data.building.tables.drawing import Page, mirrored, paint, said
from polyvec.data.building.tables.fonts import Fonts, chain, installed_fonts
from polyvec.data.building.tables.pages import form_page, listing_page, table_page
from polyvec.data.building.tables.queries import answered, drafts
from polyvec.data.building.tables.reading import Table, read_table
from polyvec.data.building.tables.sheets import Form, Sheet, check_forms, fitting_form, sheets
from polyvec.data.building.tables.style import generator, style
from polyvec.data.building.tables.templates import KINDS, Labels, Wordings, wordings
from polyvec.data.building.tables.typesetting import RIGHT_TO_LEFT, Face

__all__ = ["TableOptions", "material"]

_LAYOUTS = {"chart": chart_page, "table": table_page, "form": form_page, "listing": listing_page}
_ALWAYS = frozenset("0123456789.,:()[]-–…% ")


class TableOptions(TypedDict, total=False):
    """How tables become documents and queries."""

    render: Sequence[Form]
    """Forms of documents; by default the one that fits each table."""
    languages: Sequence[str]
    """Of the queries."""
    page_language: str
    """Of what pages say beside the cells; it also chooses the direction of pages and the shapes of letters."""
    label: str | None
    """Column that names the rows (of a group)."""
    values: Sequence[str]
    """Columns of numbers that count; by default all that do not look like identifiers."""
    date: str | None
    """Column of dates."""
    group_by: str | None
    """Column that divides a table: rows with one cell there are about one subject."""
    decimal: DecimalMark | None
    """Decimal mark of numbers that may be read in two ways."""
    rows: int | None
    """Most rows on a page; by default 36 in charts, 20 in tables, 6 in listings."""
    title: str | None
    """Of tables without groups, in place of the name of the file."""
    encoding: str
    """Of text files without a byte order mark."""
    templates: Path | None
    """TOML file of own wordings."""
    fonts: Sequence[Path]
    """Font files that pages are set in, in place of those that are installed."""
    queries: int
    """Most queries per document and language."""
    kinds: Sequence[str]
    """Kinds of queries; by default all."""
    max_answers: int
    """A query that more documents answer is rejected."""
    limit: int | None
    """Most documents; they are drawn from all that the tables give."""
    seed: int
    """Decides the looks and the choice of queries and documents."""


class _Source(NamedTuple):
    table: Table
    roles: Roles
    prefix: str
    letters: frozenset[str]


def material(files: Sequence[Path], **options: Unpack[TableOptions]) -> Iterator[Material]:
    """Yield pages drawn from tables, then queries about them.

    A table that cannot be read is rejected, and the others are used. Memory grows with the tables, not with pictures.

    Raises:
        ValueError: an option is invalid, no table can be read, or no font has a letter; before anything is yielded.
        ImportError: a library is not installed.
    """
    words = wordings(options.get("templates"))
    labels = _checked_options(options, words)
    fonts = installed_fonts(options.get("fonts", ()))
    sources, rejections = _read(files, options, labels)
    for source in sources:
        _check_letters(source, fonts)
    return _material(sources, rejections, labels, fonts, words, options)


def _checked_options(options: TableOptions, words: Mapping[str, Wordings]) -> Labels:
    check_forms(options.get("render", ()))
    for language in options.get("languages", ("en",)):
        if language not in words:
            raise ValueError(
                f"`language` is {language!r}; there are templates in {', '.join(sorted(words))}; "
                "`templates` adds others."
            )
    page_language = options.get("page_language", "en")
    labels = words[page_language].labels if page_language in words else None
    if labels is None:
        known = ", ".join(sorted(language for language, row in words.items() if row.labels))
        raise ValueError(f"`page_language` is {page_language!r}; there are labels in {known}; `templates` adds others.")
    for kind in options.get("kinds", ()):
        if kind not in KINDS.values():
            raise ValueError(f"`kind` is {kind!r}; it must be one of {', '.join(sorted(set(KINDS.values())))}.")
    for name in ("rows", "queries", "max_answers", "limit"):
        value = options.get(name)
        least = 0 if name == "queries" else 1
        if isinstance(value, int) and value < least:
            raise ValueError(f"`{name}` is {value}; it must be at least {least}.")
    return labels


def _read(files: Sequence[Path], options: TableOptions, labels: Labels) -> tuple[list[_Source], list[Rejection]]:
    sources: list[_Source] = []
    rejections: list[Rejection] = []
    prefixes: Counter[str] = Counter()
    for file in files:
        try:
            table = read_table(file, encoding=options.get("encoding", "utf-8"))
        except (ValueError, OSError) as error:
            rejections.append(Rejection("unreadable table", str(file), detail=str(error)))
            continue
        rejections.extend(table.rejections)
        unique, repeats = _without_repeats(table)
        roles = _roles(unique, options)
        if roles.point is None:
            roles = _roles(table, options)  # rows without a name may be equal: sales, measurements
        else:
            table = unique
            rejections.extend(repeats)
        for column in roles.unsure:
            example = next(row[column] for row in table.rows if row[column])
            detail = f"{example} may be read in two ways; choose the decimal mark"
            rejections.append(Rejection("unsure numbers", f"{file}: {table.columns[column]}", detail=detail))
        slug = re.sub(r"[^\w]+", "-", file.stem).strip("-") or "table"
        prefixes[slug] += 1
        prefix = slug if prefixes[slug] == 1 else f"{slug}-{prefixes[slug]}"
        sources.append(_Source(table, roles, prefix, _letters(table, options.get("title") or "", labels)))
    if not sources:
        raise ValueError(rejections[0].detail if rejections else "there are no tables.")
    return sources, rejections


def _roles(table: Table, options: TableOptions) -> Roles:
    return infer(
        table,
        label=options.get("label"),
        values=options.get("values", ()),
        date=options.get("date"),
        group_by=options.get("group_by"),
        decimal=options.get("decimal"),
    )


def _without_repeats(table: Table) -> tuple[Table, list[Rejection]]:
    first: dict[tuple[str, ...], int] = {}
    repeats = []
    for row, line in zip(table.rows, table.lines, strict=True):
        if first.setdefault(row, line) != line:
            repeats.append(Rejection("duplicate row", f"{table.file}:{line}", detail=f"equal to line {first[row]}"))
    return replace(table, rows=list(first), lines=list(first.values())), repeats


def _check_letters(source: _Source, fonts: Fonts) -> None:
    try:
        for base in range(len(fonts.bases)):
            chain(fonts, base, source.letters)
    except ValueError:
        table = source.table
        for line, row in zip(table.lines, table.rows, strict=True):
            for column, cell in zip(table.columns, row, strict=True):
                chain(fonts, 0, frozenset(cell), where=f" in {table.file}:{line}, column {column!r}")
        raise


def _letters(table: Table, title: str, labels: Labels) -> frozenset[str]:
    words = "".join((*table.columns, table.name, title, labels.total, labels.record, labels.per, labels.thousands))
    return _ALWAYS.union(words, *(set(cell) for row in table.rows for cell in row))


def _material(
    sources: Sequence[_Source],
    rejections: Sequence[Rejection],
    labels: Labels,
    fonts: Fonts,
    words: Mapping[str, Wordings],
    options: TableOptions,
) -> Iterator[Material]:
    yield from rejections
    seed, language = options.get("seed", 0), options.get("page_language", "en")
    documents: list[Sheet] = []
    seen: dict[bytes, str] = {}
    for sheet in _divided(sources, options):
        if isinstance(sheet, Rejection):
            yield sheet
        elif (same := seen.setdefault(_digest(sheet), sheet.id)) != sheet.id:
            yield Rejection("duplicate document", sheet.id, detail=f"it would show what {same} shows")
        else:
            documents.append(sheet)
    documents = _sample(documents, options.get("limit"), seed)

    @cache
    def files(prefix: str, base: int) -> tuple[str, ...]:
        letters = next(source.letters for source in sources if source.prefix == prefix)
        return chain(fonts, base, letters)

    for sheet in documents:
        look = style(seed, sheet.id)
        prefix = sheet.id.rsplit("-", 2)[0]
        face = Face(files(prefix, look.base % len(fonts.bases)), look.size, language)
        page = _LAYOUTS[sheet.form](sheet, labels, look, face)
        if language in RIGHT_TO_LEFT:
            page = mirrored(page)
        yield _item(sheet, page, language)
    spoken = {name: words[name] for name in options.get("languages", ("en",))}
    made = []
    n, kinds = options.get("queries", 2), options.get("kinds", ())
    for sheet in documents:
        own = list(drafts(sheet, spoken, n=n, kinds=kinds, seed=seed))
        made.extend(own)
        if not own and n:
            yield Rejection("nothing to ask", sheet.id, sheet.id)
    yield from answered(made, documents, max_answers=options.get("max_answers", 10))


def _divided(sources: Sequence[_Source], options: TableOptions) -> Iterator[Sheet | Rejection]:
    for table, roles, prefix, _ in sources:
        for form in dict.fromkeys(options.get("render") or (fitting_form(table, roles),)):
            n = 0
            for sheet in sheets(
                table, roles, form, prefix=prefix, title=options.get("title"), rows=options.get("rows")
            ):
                n += 1
                yield sheet
            if not n:
                why = "a column of numbers, a column that names the rows, and two rows with a value"
                yield Rejection(f"no {form}", str(table.file), detail=f"a {form} needs {why}")


def _item(sheet: Sheet, page: Page, language: str) -> CorpusItem:
    return CorpusItem(
        id=sheet.id,
        content=partial(paint, page),
        text=said(page),
        language=language,
        kind=sheet.form,
        group=sheet.group,
        source=str(sheet.table.file),
    )


def _digest(sheet: Sheet) -> bytes:
    rows = [[sheet.cell(row, column) for column in sheet.columns] for row in sheet.rows]
    names = [sheet.table.columns[column] for column in sheet.columns]
    return hashlib.sha256(repr((sheet.form, sheet.title, names, rows)).encode("utf-8", "replace")).digest()


def _sample(documents: list[Sheet], limit: int | None, seed: int) -> list[Sheet]:
    if limit is None or limit >= len(documents):
        return documents
    chosen = generator(seed, "documents").permutation(len(documents))[:limit]
    return [documents[int(position)] for position in sorted(chosen)]
