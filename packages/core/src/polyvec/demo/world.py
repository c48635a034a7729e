"""A closed little world of organisations, places and measures: documents, and the queries that ask for them.

Every word that can stand on a page comes from `VOCABULARY`, so a small model can learn to read all of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np

Kind = Literal["report", "table", "bar chart", "line chart", "form", "notice"]
Choice = TypeVar("Choice")

ADJECTIVES = tuple(
    """amber ancient arctic brave bright broken calm clever copper coral crimson crystal distant double eager eastern
    electric emerald flying foggy fresh frozen gentle giant golden grand happy hidden hollow humble iron ivory jolly
    lucky lunar marble mighty misty modern noble northern pacific polar proud quick quiet rapid royal rustic sacred
    silent silver solar southern sunny united velvet vivid western wild""".split()
)
NOUNS = tuple(
    """anchor arrow badger beacon bear bridge canyon castle cedar cliff comet crane creek crown dolphin dragon eagle
    engine falcon feather field forest fox galaxy garden glacier hammer harbor hawk horizon island lagoon lantern lion
    maple meadow mountain oak ocean orchard otter palace panda phoenix planet prairie rabbit river rocket shield
    summit thunder tiger tower valley whale willow wizard wolf zebra""".split()
)
TRADES = tuple(
    """airlines bank books brewery clinic college energy foods hotels insurance library logistics mining motors museum
    pharmacy press records robotics school shipping steel studio textiles theatre""".split()
)
PLACES = tuple(
    """accra athens auckland bangkok berlin bogota boston budapest cairo caracas chicago dakar dallas delhi denver
    dhaka dublin durban geneva hamburg hanoi havana helsinki istanbul jakarta krakow kyoto lagos lima lisbon london
    madrid manila milan montreal mumbai munich nairobi naples osaka oslo paris perth porto prague quito rome santiago
    seattle seoul seville stockholm sydney taipei tokyo toronto tunis venice vienna warsaw zurich""".split()
)
TOPICS = tuple(
    """accidents attendance births cargo complaints costs deliveries donations downloads electricity emissions
    employment exports harvest imports inventory investment loans members passengers patients pollution profit
    rainfall readers recycling rent repairs revenue savings snowfall students subscribers taxes temperature tickets
    tourism traffic visitors wages""".split()
)
EVENTS = tuple(
    """auction concert conference election exhibition festival inspection lottery marathon parade recall strike
    vaccination workshop""".split()
)
PRODUCTS = tuple(
    """apples bananas baskets batteries bicycles blankets boots bottles brushes cables cameras candles carpets carrots
    chairs cherries clocks curtains desks gloves guitars helmets jackets kettles kites ladders lamps laptops lemons
    mugs notebooks olives onions pencils phones pianos pillows plates potatoes printers pumps puzzles shoes spoons
    tents tomatoes tractors umbrellas violins walnuts wheels""".split()
)
FIRST_NAMES = tuple(
    """adam anna bella carlos clara diana edgar emma fatima felix george helen hugo igor ivan julia kevin laura lucas
    maria martin nadia nina noah omar oscar paula pedro quentin rachel rosa samuel simon sofia tara teresa victor
    wendy yusuf zoe""".split()
)
FAMILY_NAMES = tuple(
    """abbott adler baker barnes becker bennett brandt carter castro chavez cohen costa dawson dixon duarte evans
    fischer fletcher foster garcia gibson gupta hansen harper hoffman hughes ibrahim kaplan keller khan kowalski
    lambert lopez mendez moreau murphy nakamura novak okafor ortega parker patel petrov quinn reyes rossi schmidt
    silva singh suzuki tanaka thomas turner vargas vogel walker watson wright yamada zhang""".split()
)
MONTHS = tuple("january february march april may june july august september october november december".split())
DEPARTMENTS = tuple(
    "accounting catering engineering finance housing legal marketing planning research security training transport".split()
)
COLORS = tuple("black blue brown green grey orange purple red white yellow".split())
YEARS = tuple(str(year) for year in range(1990, 2030))
_SMALL = tuple(range(1, 100))
_LARGE = tuple(range(100, 1000, 10))
NUMBERS = (
    *map(str, _SMALL),
    *map(str, _LARGE),
    *(str(n) for n in range(2500, 10_000, 500)),
    *(f"{n}.5" for n in range(1, 10)),
)
KIND_WORDS = ("report", "table", "bar", "line", "chart", "form", "notice")
CONNECTING_WORDS = tuple(
    """a after all and annual are asked at be before bought by city closed color customer customers date day department
    details during fell for from history hour in item joined liked month moved name new office on open opened order
    our place please prepared price prices product public quantity reached read rose signed sold staff summary team
    the this to total value visit was well were will with year""".split()
)

_FACTS: tuple[str, ...] = (
    *ADJECTIVES, *NOUNS, *TRADES, *PLACES, *TOPICS, *EVENTS, *PRODUCTS, *FIRST_NAMES, *FAMILY_NAMES, *MONTHS,
    *DEPARTMENTS, *COLORS, *YEARS, *NUMBERS, *KIND_WORDS,
)  # fmt: skip
VOCABULARY: tuple[str, ...] = (*_FACTS, *CONNECTING_WORDS)
"""Every word that can stand on a page, in lower case."""

_FACT_SET = frozenset(_FACTS)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and its sentences; all but the first sentence may be left out where a page is full."""

    heading: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """What one page says, before it has a look. Fields that its kind does not use are empty."""

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


def words(text: str) -> tuple[str, ...]:
    """The words of a text in lower case, without punctuation."""
    return tuple(word for part in text.lower().split() if (word := part.strip(".,:;?!()")))


def content_words(text: str) -> tuple[str, ...]:
    """The words of a text that state a fact: names, numbers, things, and the kind of page."""
    return tuple(word for word in words(text) if word in _FACT_SET)


def one(choices: Sequence[Choice], rng: np.random.Generator) -> Choice:
    """Draws one of the choices, all equally likely."""
    return choices[int(rng.integers(len(choices)))]


def document(rng: np.random.Generator) -> Document:
    """Draws a document of a random kind."""
    kind: Kind = one(get_args(Kind), rng)
    slots = _slots(rng)
    return _COMPOSE[kind](kind, slots, rng)


def queries(document: Document, rng: np.random.Generator) -> list[str]:
    """Draws three to five queries of different styles, each with enough printed facts to single the page out."""
    slots = {
        "kind": document.kind,
        "subject": document.subject,
        "was": _was(document.subject),
        "organisation": document.organisation,
        "place": document.place,
        "year": document.year,
        "person": document.person,
        "grouping": document.grouping,
        **{name.lower(): value for name, value in document.fields},
    }
    if document.kind == "report":
        slots |= {"month": document.labels[0], "value": str(document.values[-1])}
    elif document.kind == "table":
        slots["label"] = one(document.rows, rng)[0]
    elif document.labels:
        best = int(np.argmax(document.values))
        slots |= {"label": document.labels[best], "value": str(document.values[best])}
    templates = (*_QUERIES["any"], *_QUERIES[document.kind])
    chosen = rng.permutation(len(templates))[: int(rng.integers(3, 6))]
    return [_fill(templates[i], slots) for i in chosen]


def text_pair(rng: np.random.Generator) -> tuple[str, str]:
    """Draws a query and the passage that answers it, among up to two sentences about something else."""
    statements, questions = one(_STATEMENTS, rng)
    slots = _slots(rng)
    sentences = [_fill(one(statements, rng), slots)]
    for _ in range(int(rng.integers(3))):
        other = one(_FILLERS, rng) if rng.random() < 0.5 else one(one(_STATEMENTS, rng)[0], rng)
        sentences.insert(int(rng.integers(len(sentences) + 1)), _fill(other, _slots(rng)))
    return _fill(one(questions, rng), slots), " ".join(sentences)


def paraphrase_pair(rng: np.random.Generator) -> tuple[str, str]:
    """Draws two differently worded sentences that state the same facts."""
    statements, _ = one(_STATEMENTS, rng)
    first, second = (statements[i] for i in rng.permutation(len(statements))[:2])
    slots = _slots(rng)
    return _fill(first, slots), _fill(second, slots)


def code_pair(rng: np.random.Generator) -> tuple[str, str]:
    """Draws a description and the small Python function that it describes."""
    descriptions, code = one(_OPERATIONS, rng)
    item = one(_ITEMS, rng)
    field, other = _distinct(_ATTRIBUTES, 2, rng)
    slots = {
        "item": item,
        "items": f"{item[:-1]}ies" if item.endswith("y") else f"{item}s",
        "field": field,
        "other": other,
        "n": str(int(rng.integers(2, 100))),
    }
    return one(descriptions, rng).format_map(slots), code.format_map(slots)


def _report(kind: Kind, slots: dict[str, str], rng: np.random.Generator) -> Document:
    low, high = sorted(_integers(2, rng))
    slots |= {"low": str(low), "high": str(high)}
    first, second = _distinct(("Summary", "Details", "History"), 2, rng)
    opening = "{topic} rose from {low} to {high} in {month}."
    return _document(
        kind,
        slots,
        title=_fill(one(("{topic} Report", "Annual {topic} Report", "Report on {topic}"), rng), slots),
        sections=(
            Section(first, (_fill(opening, slots), *_fillers(int(rng.integers(0, 2)), rng))),
            Section(second, _fillers(int(rng.integers(1, 3)), rng)),
        ),
        labels=(slots["month"],),
        values=(low, high),
    )


def _table(kind: Kind, slots: dict[str, str], rng: np.random.Generator) -> Document:
    grouping, names = _grouping(int(rng.integers(4, 7)), rng)
    columns = one((("Quantity", "Price"), (str(int(slots["year"]) - 1), slots["year"])), rng)
    cells = [_integers(len(names), rng) for _ in columns]
    return _document(
        kind,
        slots,
        title=_fill("Table of {topic}", slots),
        grouping=grouping,
        header=(_capitalised(grouping), *columns),
        rows=tuple((name, *(str(column[i]) for column in cells)) for i, name in enumerate(names)),
    )


def _bar_chart(kind: Kind, slots: dict[str, str], rng: np.random.Generator) -> Document:
    grouping, labels = _grouping(int(rng.integers(3, 7)), rng)
    title = _fill(one(("{topic} by {grouping}", "{topic}"), rng), slots | {"grouping": grouping})
    return _document(
        kind, slots, title=title, grouping=grouping, labels=labels, values=_integers(len(labels), rng)
    )


def _line_chart(kind: Kind, slots: dict[str, str], rng: np.random.Generator) -> Document:
    if rng.random() < 0.5:
        last, n = int(slots["year"]), int(rng.integers(4, 6))
        grouping, labels = "year", tuple(str(year) for year in range(last - n + 1, last + 1))
    else:
        start, n = int(rng.integers(9)), int(rng.integers(3, 5))
        grouping, labels = "month", tuple(_capitalised(month) for month in MONTHS[start : start + n])
    title = _fill(one(("{topic} by {grouping}", "{topic}"), rng), slots | {"grouping": grouping})
    return _document(kind, slots, title=title, grouping=grouping, labels=labels, values=_integers(n, rng))


def _form(kind: Kind, slots: dict[str, str], rng: np.random.Generator) -> Document:
    fields = [
        ("Item", slots["product"]),
        ("Quantity", slots["number"]),
        ("Color", slots["color"]),
        ("Department", slots["department"]),
        ("Month", slots["month"]),
    ]
    del fields[int(rng.integers(2, 5))]
    return _document(
        kind,
        slots,
        subject=slots["product"],
        title=_fill(one(("Order Form", "Customer Order Form", "Order Form for {product}"), rng), slots),
        fields=tuple((name, _capitalised(value)) for name, value in fields),
    )


def _notice(kind: Kind, slots: dict[str, str], rng: np.random.Generator) -> Document:
    day = str(int(rng.integers(1, 29)))
    return _document(
        kind,
        slots,
        subject=slots["event"],
        title=one(("Public Notice", "Notice", "Notice to all Customers"), rng),
        sections=(Section(_capitalised(slots["event"]), _fillers(int(rng.integers(1, 3)), rng)),),
        fields=(("Day", f"{day} {_capitalised(slots['month'])}"), ("Hour", str(int(rng.integers(8, 22))))),
    )


_COMPOSE: dict[Kind, Callable[[Kind, dict[str, str], np.random.Generator], Document]] = {
    "report": _report,
    "table": _table,
    "bar chart": _bar_chart,
    "line chart": _line_chart,
    "form": _form,
    "notice": _notice,
}


def _document(
    kind: Kind,
    slots: dict[str, str],
    *,
    title: str,
    subject: str | None = None,
    sections: tuple[Section, ...] = (),
    header: tuple[str, ...] = (),
    rows: tuple[tuple[str, ...], ...] = (),
    grouping: str = "",
    labels: tuple[str, ...] = (),
    values: tuple[int, ...] = (),
    fields: tuple[tuple[str, str], ...] = (),
) -> Document:
    return Document(
        kind=kind,
        title=title,
        subject=subject or slots["topic"],
        organisation=slots["organisation"],
        place=slots["place"],
        year=slots["year"],
        person=slots["person"],
        sections=sections,
        header=header,
        rows=rows,
        grouping=grouping,
        labels=labels,
        values=values,
        fields=fields,
    )


def _slots(rng: np.random.Generator) -> dict[str, str]:
    topic = one(TOPICS, rng)
    return {
        "organisation": " ".join(_capitalised(one(part, rng)) for part in (ADJECTIVES, NOUNS, TRADES)),
        "place": _capitalised(one(PLACES, rng)),
        "year": one(YEARS[4:], rng),  # a chart may go back four years
        "topic": topic,
        "was": _was(topic),
        "event": one(EVENTS, rng),
        "product": one(PRODUCTS, rng),
        "person": f"{_capitalised(one(FIRST_NAMES, rng))} {_capitalised(one(FAMILY_NAMES, rng))}",
        "month": _capitalised(one(MONTHS, rng)),
        "department": one(DEPARTMENTS, rng),
        "color": one(COLORS, rng),
        "number": str(int(rng.integers(2, 100))),
        "value": str(_integers(1, rng)[0]),
    }


def _grouping(n: int, rng: np.random.Generator) -> tuple[str, tuple[str, ...]]:
    grouping, choices = one((("product", PRODUCTS), ("department", DEPARTMENTS), ("city", PLACES)), rng)
    return grouping, tuple(_capitalised(name) for name in _distinct(choices, n, rng))


def _fillers(n: int, rng: np.random.Generator) -> tuple[str, ...]:
    return tuple(_fill(template, _slots(rng)) for template in _distinct(_FILLERS, n, rng))


def _fill(template: str, slots: dict[str, str]) -> str:
    return _capitalised(template.format_map(slots))


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _was(topic: str) -> str:
    return "were" if topic.endswith("s") else "was"


def _distinct(choices: Sequence[Choice], n: int, rng: np.random.Generator) -> list[Choice]:
    return [choices[i] for i in rng.permutation(len(choices))[:n]]


def _integers(n: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Distinct numbers of one scale, so that they can share an axis."""
    return tuple(_distinct(_SMALL[9:] if rng.random() < 0.5 else _LARGE, n, rng))


_FILLERS = (
    "The {department} department opened a new office.",
    "{person} joined the {department} team in {month}.",
    "Customers liked the {color} {product}.",
    "Staff bought {number} {product}.",
    "The price of {product} fell to {number}.",
    "Our {product} sold well in {month}.",
    "Please visit the {department} office.",
    "All {color} {product} were sold.",
    "The {department} team moved to {place}.",
    "{person} signed the new {department} details.",
)

# What stands only in a query is free to vary; the facts are spelled as on the page.
_QUERIES: dict[str, tuple[str, ...]] = {
    "any": (
        "{subject} {organisation} {place} {year}",
        "{organisation} {kind} {place} {year}",
        "{kind} of {subject} in {place} {year} by {organisation}",
        "{kind} prepared by {person} in {place} for {organisation}",
        "What does {organisation} in {place} say about {subject} in {year}?",
        "Which {kind} did {person} prepare about {subject} in {place}?",
    ),
    "report": (
        "What {was} the {subject} of {organisation} in {place} in {year}?",
        "How did {subject} at {organisation} change in {month} {year}?",
        "{subject} of {organisation} rose to {value} in {month} {year}.",
        "{subject} rose to {value} in {month} {year}, {place}",
    ),
    "table": (
        "Table of {subject} by {grouping} in {place} {year}, with {label}",
        "What are the {subject} figures for {label} at {organisation} in {place}?",
        "{organisation} {subject} {label}",
        "The table of {organisation} lists {label} among the {subject} of {year}.",
    ),
    "bar chart": (
        "Bar chart of {subject} in {place} {year}",
        "Which {grouping} had the highest {subject} at {organisation} in {year}?",
        "{subject} of {organisation} by {grouping} reached {value} for {label}.",
        "bar chart {subject} by {grouping} with {label} {place} {year}",
    ),
    "line chart": (
        "Line chart of {subject} in {place} {year}",
        "When did {subject} peak at {organisation} in {place}?",
        "{subject} of {organisation} peaked at {value} in {label}.",
        "line chart {subject} by {grouping} {label} {place} {organisation}",
    ),
    "form": (
        "How many {subject} did {person} order from {organisation}?",
        "Order form for {quantity} {subject} by {person} in {place}",
        "{person} ordered {quantity} {subject} from {organisation} in {year}.",
        "form {subject} {person} {year}",
    ),
    "notice": (
        "When is the {subject} of {organisation} in {place}?",
        "Notice of the {subject} on {day} {year} in {place}",
        "{organisation} holds the {subject} on {day}.",
        "{subject} {place} {day} {year}",
    ),
}

_STATEMENTS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        (
            "{topic} of {organisation} in {place} reached {value} in {year}.",
            "In {year}, {organisation} counted {value} as its {topic} in {place}.",
            "{value} {was} the {topic} of {organisation} in {place} for the year {year}.",
        ),
        (
            "What {was} the {topic} of {organisation} in {place} in {year}?",
            "How high {was} {topic} at {organisation} in {year}?",
            "{organisation} {topic} {place} {year}",
            "{topic} in {place} {year} {organisation}",
        ),
    ),
    (
        (
            "{person} ordered {number} {color} {product} from {organisation} in {month}.",
            "In {month}, {organisation} sold {number} {color} {product} to {person}.",
            "An order of {number} {color} {product} by {person} reached {organisation} in {month}.",
        ),
        (
            "How many {product} did {person} order from {organisation}?",
            "What did {person} buy from {organisation} in {month}?",
            "{color} {product} {person} {organisation}",
            "Who ordered {number} {color} {product} from {organisation}?",
        ),
    ),
    (
        (
            "The {event} of {organisation} opened in {place} in {month} {year}.",
            "In {month} {year}, {organisation} opened its {event} in {place}.",
            "{place} was the city of the {event} that {organisation} held in {month} {year}.",
        ),
        (
            "When did the {event} of {organisation} open in {place}?",
            "Where was the {event} of {organisation} in {year}?",
            "{event} {organisation} {place} {month} {year}",
        ),
    ),
    (
        (
            "{person} joined the {department} department of {organisation} in {year}.",
            "In {year}, {organisation} hired {person} for the {department} department.",
            "The {department} department of {organisation} welcomed {person} in {year}.",
        ),
        (
            "Who joined the {department} department of {organisation} in {year}?",
            "In which department of {organisation} does {person} work?",
            "{person} {organisation} {department}",
        ),
    ),
    (
        (
            "{organisation} moved its {department} office to {place} in {month} {year}.",
            "In {month} {year}, the {department} office of {organisation} moved to {place}.",
            "{place} is home to the {department} office of {organisation} after {month} {year}.",
        ),
        (
            "Where is the {department} office of {organisation}?",
            "When did {organisation} move its {department} office to {place}?",
            "{organisation} {department} office {place}",
        ),
    ),
    (
        (
            "The price of {product} at {organisation} in {place} rose to {number} in {year}.",
            "In {year}, {organisation} sold {product} in {place} for {number}.",
            "{organisation} asked {number} for {product} in {place} during {year}.",
        ),
        (
            "What was the price of {product} at {organisation} in {place}?",
            "How much did {product} cost at {organisation} in {year}?",
            "{product} price {organisation} {place} {year}",
        ),
    ),
)

_ITEMS = tuple(
    """account book booking car city claim company contract course customer delivery document employee
    event file flight image invoice job letter meeting message movie note order page patient payment photo player
    product project question recipe report room score shop song student task teacher ticket tool trip user
    vehicle vendor visit""".split()
)
_ATTRIBUTES = tuple(
    """age amount author balance category color cost country date depth discount distance duration email grade height
    length level name owner price priority quantity rank rating region revenue salary score size speed status
    temperature title weight width year""".split()
)
_OPERATIONS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("sort the {items} by {field}", "order {items} by ascending {field}", "list {items} from low to high {field}"),
        "def sort_{items}({items}):\n    return sorted({items}, key=lambda {item}: {item}.{field})",
    ),
    (
        ("sort the {items} by {field} in descending order", "order {items} from the highest {field} to the lowest"),
        "def sort_{items}({items}):\n    return sorted({items}, key=lambda {item}: {item}.{field}, reverse=True)",
    ),
    (
        ("keep the {items} whose {field} is above {n}", "filter {items} with a {field} greater than {n}"),
        "def filter_{items}({items}):\n    return [{item} for {item} in {items} if {item}.{field} > {n}]",
    ),
    (
        ("drop the {items} whose {field} is at least {n}", "find {items} with a {field} smaller than {n}"),
        "def small_{items}({items}):\n    return [{item} for {item} in {items} if {item}.{field} < {n}]",
    ),
    (
        ("add up the {field} of all {items}", "total {field} of the {items}", "sum of {field} over {items}"),
        "def total_{field}({items}):\n    return sum({item}.{field} for {item} in {items})",
    ),
    (
        ("compute the average {field} of the {items}", "mean {field} over all {items}"),
        "def mean_{field}({items}):\n    return sum({item}.{field} for {item} in {items}) / len({items})",
    ),
    (
        ("find the {item} with the highest {field}", "which {item} has the largest {field}"),
        "def best_{item}({items}):\n    return max({items}, key=lambda {item}: {item}.{field})",
    ),
    (
        ("find the {item} with the lowest {field}", "which {item} has the smallest {field}"),
        "def worst_{item}({items}):\n    return min({items}, key=lambda {item}: {item}.{field})",
    ),
    (
        ("group the {items} by {field}", "collect {items} that share a {field}", "map each {field} to its {items}"),
        "def group_{items}({items}):\n    groups = {{}}\n    for {item} in {items}:\n"
        "        groups.setdefault({item}.{field}, []).append({item})\n    return groups",
    ),
    (
        ("count how many {items} have each {field}", "count {items} per {field}"),
        "def count_{items}({items}):\n    counts = {{}}\n    for {item} in {items}:\n"
        "        counts[{item}.{field}] = counts.get({item}.{field}, 0) + 1\n    return counts",
    ),
    (
        ("look up {items} by {field}", "build an index from {field} to {item}"),
        "def index_{items}({items}):\n    return {{{item}.{field}: {item} for {item} in {items}}}",
    ),
    (
        ("list the distinct {field} values of the {items}", "unique {field} of all {items}"),
        "def unique_{field}({items}):\n    return sorted(set({item}.{field} for {item} in {items}))",
    ),
    (
        ("check whether any {item} has a {field} over {n}", "is there a {item} with {field} above {n}"),
        "def any_{item}({items}):\n    return any({item}.{field} > {n} for {item} in {items})",
    ),
    (
        ("check that every {item} has a {field} of at least {n}", "do all {items} reach a {field} of {n}"),
        "def all_{items}({items}):\n    return all({item}.{field} >= {n} for {item} in {items})",
    ),
    (
        ("take the first {n} {items} by {field}", "top {n} {items} with the smallest {field}"),
        "def first_{items}({items}):\n    return sorted({items}, key=lambda {item}: {item}.{field})[:{n}]",
    ),
    (
        ("raise the {field} of each {item} by {n}", "add {n} to the {field} of all {items}"),
        "def raise_{field}({items}):\n    for {item} in {items}:\n        {item}.{field} += {n}",
    ),
    (
        ("cut the {field} of every {item} by {n} percent", "reduce each {item} {field} by {n} percent"),
        "def cut_{field}({items}):\n    for {item} in {items}:\n        {item}.{field} *= 1 - {n} / 100",
    ),
    (
        ("remove the {items} that have no {field}", "skip {items} without {field}"),
        "def with_{field}({items}):\n    return [{item} for {item} in {items} if {item}.{field} is not None]",
    ),
    (
        ("join the {field} and {other} of a {item}", "format a {item} as {field} and {other}"),
        'def describe_{item}({item}):\n    return f"{{{item}.{field}}}: {{{item}.{other}}}"',
    ),
    (
        ("sort {items} by {field} and then by {other}", "order the {items} on {field}, ties on {other}"),
        "def sort_{items}({items}):\n    return sorted({items}, key=lambda {item}: ({item}.{field}, {item}.{other}))",
    ),
    (
        ("multiply {field} by {other} for each {item}", "product of {field} and {other} over the {items}"),
        "def products({items}):\n    return [{item}.{field} * {item}.{other} for {item} in {items}]",
    ),
    (
        ("split the {items} into batches of {n}", "yield {items} in chunks of {n}"),
        "def batch_{items}({items}):\n    for start in range(0, len({items}), {n}):\n"
        "        yield {items}[start : start + {n}]",
    ),
)
