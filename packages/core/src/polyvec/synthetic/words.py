"""The words that can stand on a page, and templates of sentences and queries.

Templates name their slots; `polyvec.synthetic.world` fills them.
"""


def words(text: str) -> tuple[str, ...]:
    """Split a text into words in lower case, without punctuation."""
    return tuple(word for part in text.lower().split() if (word := part.strip(".,:;?!()")))


ADJECTIVES = words(
    """amber ancient arctic brave bright broken calm clever copper coral crimson crystal distant double eager eastern
    electric emerald flying foggy fresh frozen gentle giant golden grand happy hidden hollow humble iron ivory jolly
    lucky lunar marble mighty misty modern noble northern pacific polar proud quick quiet rapid royal rustic sacred
    silent silver solar southern sunny united velvet vivid western wild"""
)
NOUNS = words(
    """anchor arrow badger beacon bear bridge canyon castle cedar cliff comet crane creek crown dolphin dragon eagle
    engine falcon feather field forest fox galaxy garden glacier hammer harbor hawk horizon island lagoon lantern lion
    maple meadow mountain oak ocean orchard otter palace panda phoenix planet prairie rabbit river rocket shield
    summit thunder tiger tower valley whale willow wizard wolf zebra"""
)
TRADES = words(
    """airlines bank books brewery clinic college energy foods hotels insurance library logistics mining motors museum
    pharmacy press records robotics school shipping steel studio textiles theatre"""
)
PLACES = words(
    """accra athens auckland bangkok berlin bogota boston budapest cairo caracas chicago dakar dallas delhi denver
    dhaka dublin durban geneva hamburg hanoi havana helsinki istanbul jakarta krakow kyoto lagos lima lisbon london
    madrid manila milan montreal mumbai munich nairobi naples osaka oslo paris perth porto prague quito rome santiago
    seattle seoul seville stockholm sydney taipei tokyo toronto tunis venice vienna warsaw zurich"""
)
TOPICS = words(
    """accidents attendance births cargo complaints costs deliveries donations downloads electricity emissions
    employment exports harvest imports inventory investment loans members passengers patients pollution profit
    rainfall readers recycling rent repairs revenue savings snowfall students subscribers taxes temperature tickets
    tourism traffic visitors wages"""
)
EVENTS = words(
    """auction concert conference election exhibition festival inspection lottery marathon parade recall strike
    vaccination workshop"""
)
PRODUCTS = words(
    """apples bananas baskets batteries bicycles blankets boots bottles brushes cables cameras candles carpets carrots
    chairs cherries clocks curtains desks gloves guitars helmets jackets kettles kites ladders lamps laptops lemons
    mugs notebooks olives onions pencils phones pianos pillows plates potatoes printers pumps puzzles shoes spoons
    tents tomatoes tractors umbrellas violins walnuts wheels"""
)
FIRST_NAMES = words(
    """adam anna bella carlos clara diana edgar emma fatima felix george helen hugo igor ivan julia kevin laura lucas
    maria martin nadia nina noah omar oscar paula pedro quentin rachel rosa samuel simon sofia tara teresa victor
    wendy yusuf zoe"""
)
FAMILY_NAMES = words(
    """abbott adler baker barnes becker bennett brandt carter castro chavez cohen costa dawson dixon duarte evans
    fischer fletcher foster garcia gibson gupta hansen harper hoffman hughes ibrahim kaplan keller khan kowalski
    lambert lopez mendez moreau murphy nakamura novak okafor ortega parker patel petrov quinn reyes rossi schmidt
    silva singh suzuki tanaka thomas turner vargas vogel walker watson wright yamada zhang"""
)
MONTHS = words("january february march april may june july august september october november december")
DEPARTMENTS = words(
    "accounting catering engineering finance housing legal marketing planning research security training transport"
)
COLORS = words("black blue brown green grey orange purple red white yellow")
YEARS = tuple(str(year) for year in range(1990, 2030))
SCALES = (tuple(range(10, 100)), tuple(range(100, 1000, 10)), tuple(range(2500, 10_000, 500)))
PRICES = tuple(f"{n}.5" for n in range(1, 10))
NUMBERS = (*map(str, range(1, 10)), *(str(number) for scale in SCALES for number in scale), *PRICES)
KIND_WORDS = ("report", "table", "bar", "line", "chart", "form", "notice")
CONNECTING_WORDS = words(
    """a after all annual are before bought by city color customer customers day department details during fell for
    from history hour in item joined liked month moved new of office on opened order our please prepared price
    product public quantity rose signed sold staff summary team the to total visit welcome well were year"""
)

_FACTS: tuple[str, ...] = (
    *ADJECTIVES, *NOUNS, *TRADES, *PLACES, *TOPICS, *EVENTS, *PRODUCTS, *FIRST_NAMES, *FAMILY_NAMES, *MONTHS,
    *DEPARTMENTS, *COLORS, *YEARS, *NUMBERS, *KIND_WORDS,
)  # fmt: skip
VOCABULARY: tuple[str, ...] = (*_FACTS, *CONNECTING_WORDS)
"""Every word that can stand on a page, in lower case."""

_FACT_SET = frozenset(_FACTS)


def content_words(text: str) -> tuple[str, ...]:
    """Return the words of a text that state a fact: names, numbers, things, and the kind of page."""
    return tuple(word for word in words(text) if word in _FACT_SET)


ORGANISATION = (ADJECTIVES, NOUNS, TRADES)
GROUPINGS = (("product", PRODUCTS), ("department", DEPARTMENTS), ("city", PLACES))
FIELDS = (
    ("Item", "product"), ("Quantity", "number"), ("Color", "color"), ("Department", "department"), ("Month", "month"),
)  # fmt: skip
OPENINGS = (
    "{topic} rose from {low} to {high} in {month}.",
    "During {month}, {topic} rose to {high} after {low} the year before.",
    "In {month} the total rose from {low} to {high}.",
)
NOTES = (
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

# Words that stand only in queries are free to vary; facts are spelled as on the page.
QUERIES: dict[str, tuple[str, ...]] = {
    "any": ("{subject} {organisation} {place} {year}",
            "{organisation} {kind} {place} {year}",
            "{kind} of {subject} in {place} {year} by {organisation}",
            "{kind} prepared by {person} in {place} for {organisation}",
            "What does {organisation} in {place} say about the {subject} in {year}?",
            "Which {kind} did {person} prepare on {subject} in {place}?"),
    "report": ("What {was} the {subject} of {organisation} in {place} in {year}?",
               "How did {subject} at {organisation} change in {month} {year}?",
               "{subject} of {organisation} rose to {value} in {month} {year}.",
               "{subject} rose to {value} in {month} {year}, {place}"),
    "table": ("Table of {subject} by {grouping} in {place} {year}, with {label}",
              "What are the {subject} figures for {label} at {organisation} in {place}?",
              "{organisation} {subject} {label}",
              "The table of {organisation} lists {label} among the {subject} of {year}."),
    "bar chart": ("Bar chart of {subject} in {place} {year}",
                  "Which {grouping} had the highest {subject} at {organisation} in {year}?",
                  "{subject} of {organisation} by {grouping} reached {value} for {label}.",
                  "bar chart {subject} by {grouping} with {label} {place} {year}"),
    "line chart": ("Line chart of {subject} in {place} {year}",
                   "When did {subject} peak at {organisation} in {place}?",
                   "{subject} of {organisation} peaked at {value} in {label}.",
                   "line chart {subject} by {grouping} {label} {place} {organisation}"),
    "form": ("How many {subject} did {person} order from {organisation}?",
             "Order form for {quantity} {subject} by {person} in {place}",
             "{person} ordered {quantity} {subject} from {organisation} in {year}.",
             "form {subject} {person} {year}"),
    "notice": ("When is the {subject} of {organisation} in {place}?",
               "Notice of the {subject} on {day} {year} in {place}",
               "{organisation} holds the {subject} on {day}.",
               "{subject} {place} {day} {year}"),
}  # fmt: skip

STATEMENTS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("{topic} of {organisation} in {place} reached {value} in {year}.",
      "In {year}, {organisation} reported {topic} of {value} in {place}.",
      "{value} {was} the {topic} of {organisation} in {place} for the year {year}."),
     ("What {was} the {topic} of {organisation} in {place} in {year}?",
      "How high {was} {topic} at {organisation} in {year}?",
      "{organisation} {topic} {place} {year}",
      "{topic} in {place} {year} {organisation}")),
    (("{person} ordered {number} {color} {product} from {organisation} in {month}.",
      "In {month}, {organisation} sold {number} {color} {product} to {person}.",
      "An order of {number} {color} {product} by {person} reached {organisation} in {month}."),
     ("How many {product} did {person} order from {organisation}?",
      "What did {person} buy from {organisation} in {month}?",
      "{color} {product} {person} {organisation}",
      "Who ordered {number} {color} {product} from {organisation}?")),
    (("The {event} of {organisation} opened in {place} in {month} {year}.",
      "In {month} {year}, {organisation} opened its {event} in {place}.",
      "{place} was the city of the {event} that {organisation} held in {month} {year}."),
     ("When did the {event} of {organisation} open in {place}?",
      "Where was the {event} of {organisation} in {year}?",
      "{event} {organisation} {place} {month} {year}")),
    (("{person} joined the {department} department of {organisation} in {year}.",
      "In {year}, {organisation} hired {person} for the {department} department.",
      "The {department} department of {organisation} welcomed {person} in {year}."),
     ("Who joined the {department} department of {organisation} in {year}?",
      "In which department of {organisation} does {person} work?",
      "{person} {organisation} {department}")),
    (("{organisation} moved its {department} office to {place} in {month} {year}.",
      "In {month} {year}, the {department} office of {organisation} moved to {place}.",
      "{place} is home to the {department} office of {organisation} after {month} {year}."),
     ("Where is the {department} office of {organisation}?",
      "When did {organisation} move its {department} office to {place}?",
      "{organisation} {department} office {place}")),
    (("The price of {product} at {organisation} in {place} rose to {number} in {year}.",
      "In {year}, {organisation} sold {product} in {place} for {number}.",
      "{organisation} asked {number} for {product} in {place} during {year}."),
     ("What was the price of {product} at {organisation} in {place}?",
      "How much did {product} cost at {organisation} in {year}?",
      "{product} price {organisation} {place} {year}")),
)  # fmt: skip
