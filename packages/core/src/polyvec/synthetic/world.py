"""A closed little world of organisations, places and measures: documents, and queries for them.

Every word that can stand on a page comes from `words.VOCABULARY`, so a small model can learn to read all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from string import Formatter
from typing import Literal, TypeVar, get_args

import numpy as np

from polyvec.synthetic import words
from polyvec.synthetic.functions import ITEMS, OPERATIONS

__all__ = [
    "Document",
    "Kind",
    "Section",
    "code_pair",
    "document",
    "graded_pair",
    "paraphrase_pair",
    "pick",
    "queries",
    "text_pair",
]

Kind = Literal["report", "table", "bar chart", "line chart", "form", "notice"]
Choice = TypeVar("Choice")


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and its text. The notes of the page continue the last section."""

    heading: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """The content of one page, before its layout.

    Every kind has the fields up to `person`; fields that a kind does not use are empty. No query asks for `notes`, so
    they may be left out if a page is full.
    """

    kind: Kind
    title: str
    subject: str
    organisation: str
    place: str
    year: str
    person: str
    sections: tuple[Section, ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    grouping: str = ""
    labels: tuple[str, ...] = ()
    values: tuple[int, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def pick(choices: Sequence[Choice], rng: np.random.Generator) -> Choice:
    """Draw one of the choices, all equally likely."""
    return choices[int(rng.integers(len(choices)))]


def document(rng: np.random.Generator) -> Document:
    """Draw a document of a random kind."""
    kind: Kind = pick(get_args(Kind), rng)
    slots = _slots(rng)
    page = Document(kind, "", slots["topic"], slots["organisation"], slots["place"], slots["year"], slots["person"])
    return _COMPOSE[kind](page, slots, rng)


def queries(document: Document, rng: np.random.Generator) -> list[str]:
    """Draw three to five queries of different styles, each with enough printed facts to single the page out."""
    names = ("kind", "subject", "organisation", "place", "year", "person", "grouping")
    slots: dict[str, str] = {name: getattr(document, name) for name in names}
    slots |= {"was": _was(document.subject), **{name.lower(): value for name, value in document.fields}}
    if document.kind == "report":
        slots |= {"month": document.labels[0], "value": str(document.values[-1])}
    elif document.kind == "table":
        slots["label"] = pick(document.rows, rng)[0]
    elif document.labels:
        best = int(np.argmax(document.values))
        slots |= {"label": document.labels[best], "value": str(document.values[best])}
    templates = (*words.QUERIES["any"], *words.QUERIES[document.kind])
    order = rng.permutation(len(templates))[: int(rng.integers(3, 6))]
    return [_any_case(_fill(templates[i], slots), rng) for i in order]


def text_pair(rng: np.random.Generator) -> tuple[str, str]:
    """Draw a query and the passage that answers it, among up to two sentences about something else."""
    statements, questions = pick(words.STATEMENTS, rng)
    slots = _slots(rng)
    sentences = [_fill(pick(statements, rng), slots)]
    for _ in range(int(rng.integers(3))):
        other = pick(words.NOTES, rng) if rng.random() < 0.5 else pick(pick(words.STATEMENTS, rng)[0], rng)
        sentences.insert(int(rng.integers(len(sentences) + 1)), _fill(other, _slots(rng)))
    return _any_case(_fill(pick(questions, rng), slots), rng), " ".join(sentences)


def paraphrase_pair(rng: np.random.Generator) -> tuple[str, str]:
    """Draw two differently worded sentences that state the same facts."""
    statements, _ = pick(words.STATEMENTS, rng)
    first, second = (statements[i] for i in rng.permutation(len(statements))[:2])
    slots = _slots(rng)
    return _fill(first, slots), _fill(second, slots)


def graded_pair(rng: np.random.Generator) -> tuple[str, str, float]:
    """Draw two differently worded sentences of one kind, and the share of their facts that both state, 0 to 1."""
    statements, _ = pick(words.STATEMENTS, rng)
    first, second = (statements[i] for i in rng.permutation(len(statements))[:2])
    facts = [name for _, name, *_ in Formatter().parse(first) if name and name != "was"]
    common = [facts[i] for i in rng.permutation(len(facts))[: int(rng.integers(len(facts) + 1))]]
    slots = _slots(rng)
    others = _slots(rng)
    while any(others[fact] == slots[fact] for fact in facts if fact not in common):
        others = _slots(rng)
    others |= {fact: slots[fact] for fact in common}
    others["was"] = _was(others["topic"])
    return _fill(first, slots), _fill(second, others), len(common) / len(facts)


def code_pair(rng: np.random.Generator) -> tuple[str, str]:
    """Draw a description and the small Python function that it describes."""
    item = pick(ITEMS, rng)
    descriptions, code, fields = pick(OPERATIONS, rng)
    field, other = _distinct(fields, 2, rng)
    slots = {
        "item": item,
        "items": f"{item[:-1]}ies" if item.endswith("y") else f"{item}s",
        "field": field,
        "other": other,
        "n": str(int(rng.integers(2, 100))),
    }
    return pick(descriptions, rng).format_map(slots), code.format_map(slots)


def _report(page: Document, slots: Mapping[str, str], rng: np.random.Generator) -> Document:
    topic = _capitalised(page.subject)
    low, high = sorted(_integers(2, rng))
    opening = _fill(pick(words.OPENINGS, rng), {**slots, "low": str(low), "high": str(high)})
    first, second = _distinct(("Summary", "Details", "History"), 2, rng)
    return replace(
        page,
        title=pick((f"{topic} Report", f"Annual {topic} Report", f"Report on {topic}"), rng),
        sections=(Section(first, opening), Section(second)),
        labels=(slots["month"],),
        values=(low, high),
        notes=_notes(int(rng.integers(3, 6)), rng),
    )


def _table(page: Document, _: Mapping[str, str], rng: np.random.Generator) -> Document:
    grouping, names = _grouping(int(rng.integers(4, 7)), rng)
    has_prices = grouping == "product" and rng.random() < 0.5
    header = ("Quantity", "Price") if has_prices else (str(int(page.year) - 1), page.year)
    numbers = [str(number) for number in _integers(2 * len(names), rng)]
    left, right = numbers[: len(names)], numbers[len(names) :]
    if has_prices:
        right = _distinct(words.PRICES, len(names), rng)
    return replace(
        page,
        title=f"Table of {_capitalised(page.subject)}",
        grouping=grouping,
        header=(_capitalised(grouping), *header),
        rows=tuple(zip(names, left, right, strict=True)),
        notes=_notes(int(rng.integers(3)), rng),
    )


def _bar_chart(page: Document, _: Mapping[str, str], rng: np.random.Generator) -> Document:
    grouping, labels = _months(rng) if rng.random() < 0.25 else _grouping(int(rng.integers(3, 7)), rng)
    return _chart(page, grouping, labels, rng)


def _line_chart(page: Document, _: Mapping[str, str], rng: np.random.Generator) -> Document:
    last = int(page.year)
    years = tuple(str(year) for year in range(last - int(rng.integers(3, 5)), last + 1))
    grouping, labels = _months(rng) if rng.random() < 0.5 else ("year", years)
    return _chart(page, grouping, labels, rng)


def _chart(page: Document, grouping: str, labels: tuple[str, ...], rng: np.random.Generator) -> Document:
    topic = _capitalised(page.subject)
    return replace(
        page,
        title=pick((f"{topic} by {grouping}", topic), rng),
        grouping=grouping,
        labels=labels,
        values=_integers(len(labels), rng),
        notes=_notes(int(rng.integers(1, 3)), rng),
    )


def _form(page: Document, slots: Mapping[str, str], rng: np.random.Generator) -> Document:
    fields = [(name, _capitalised(slots[key])) for name, key in words.FIELDS]
    del fields[int(rng.integers(3, len(fields)))]
    return replace(
        page,
        subject=slots["product"],
        title=pick(("Order Form", "Customer Order Form", f"Order Form for {_capitalised(slots['product'])}"), rng),
        fields=tuple(fields),
        notes=_notes(int(rng.integers(1, 4)), rng),
    )


def _notice(page: Document, slots: Mapping[str, str], rng: np.random.Generator) -> Document:
    day = str(int(rng.integers(1, 29)))
    return replace(
        page,
        subject=slots["event"],
        title=pick(("Public Notice", "Notice", "Notice to all Customers"), rng),
        sections=(Section(_capitalised(slots["event"])),),
        fields=(("Day", f"{day} {slots['month']}"), ("Hour", str(int(rng.integers(8, 22))))),
        notes=(*_notes(int(rng.integers(2, 5)), rng), "All customers are welcome."),
    )


_COMPOSE: dict[Kind, Callable[[Document, Mapping[str, str], np.random.Generator], Document]] = {
    "report": _report,
    "table": _table,
    "bar chart": _bar_chart,
    "line chart": _line_chart,
    "form": _form,
    "notice": _notice,
}


def _slots(rng: np.random.Generator) -> dict[str, str]:
    topic = pick(words.TOPICS, rng)
    return {
        "organisation": " ".join(_capitalised(pick(part, rng)) for part in words.ORGANISATION),
        "place": _capitalised(pick(words.PLACES, rng)),
        "year": pick(words.YEARS[4:], rng),  # a chart may go back four years
        "topic": topic,
        "was": _was(topic),
        "event": pick(words.EVENTS, rng),
        "product": pick(words.PRODUCTS, rng),
        "person": f"{_capitalised(pick(words.FIRST_NAMES, rng))} {_capitalised(pick(words.FAMILY_NAMES, rng))}",
        "month": _capitalised(pick(words.MONTHS, rng)),
        "department": pick(words.DEPARTMENTS, rng),
        "color": pick(words.COLORS, rng),
        "number": str(int(rng.integers(2, 100))),
        "value": str(_integers(1, rng)[0]),
    }


def _months(rng: np.random.Generator) -> tuple[str, tuple[str, ...]]:
    start = int(rng.integers(10))
    n = 4 if start < 5 else 3  # the names of the autumn are long
    return "month", tuple(_capitalised(month) for month in words.MONTHS[start : start + n])


def _grouping(n: int, rng: np.random.Generator) -> tuple[str, tuple[str, ...]]:
    grouping, choices = pick(words.GROUPINGS, rng)
    return grouping, tuple(_capitalised(name) for name in _distinct(choices, n, rng))


def _notes(n: int, rng: np.random.Generator) -> tuple[str, ...]:
    return tuple(_fill(template, _slots(rng)) for template in _distinct(words.NOTES, n, rng))


def _fill(template: str, slots: Mapping[str, str]) -> str:
    return _capitalised(template.format_map(slots))


def _any_case(query: str, rng: np.random.Generator) -> str:
    """Write some queries without capitals, as people do."""
    return query.lower() if rng.random() < 0.3 else query


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _was(topic: str) -> str:
    return "were" if topic.endswith("s") else "was"


def _distinct(choices: Sequence[Choice], n: int, rng: np.random.Generator) -> list[Choice]:
    return [choices[i] for i in rng.permutation(len(choices))[:n]]


def _integers(n: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Draw distinct numbers of one scale, so that they can share an axis."""
    return tuple(_distinct(pick(words.SCALES, rng), n, rng))
