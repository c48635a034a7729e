"""Templates of small Python functions and of their descriptions."""

from polyvec.synthetic.words import words

ITEMS = words(
    """account book booking car city claim company contract course customer delivery document employee
    event file flight image invoice job letter meeting message movie note order page patient payment photo player
    product project question recipe report room score shop song student task teacher ticket tool trip user
    vehicle vendor visit"""
)
MEASURES = words(
    """age amount balance cost depth discount distance duration height length price quantity rating revenue salary score
    size speed temperature weight width"""
)
ATTRIBUTES = (*MEASURES, *words("author category color country date email grade level name owner region status title"))
OPERATIONS: tuple[tuple[tuple[str, ...], str, tuple[str, ...]], ...] = (
    (("sort the {items} by {field}", "order {items} by ascending {field}", "list {items} from low to high {field}"),
     "def sort_{items}({items}):\n    return sorted({items}, key=lambda {item}: {item}.{field})", ATTRIBUTES),
    (("sort the {items} by {field} in descending order", "order {items} from the highest {field} to the lowest"),
     "def sort_{items}({items}):\n    return sorted({items}, key=lambda {item}: {item}.{field}, reverse=True)",
     ATTRIBUTES),
    (("keep the {items} whose {field} is above {n}", "filter {items} with {field} greater than {n}"),
     "def filter_{items}({items}):\n    return [{item} for {item} in {items} if {item}.{field} > {n}]", MEASURES),
    (("drop the {items} whose {field} is at least {n}", "find {items} with {field} smaller than {n}"),
     "def small_{items}({items}):\n    return [{item} for {item} in {items} if {item}.{field} < {n}]", MEASURES),
    (("add up the {field} of all {items}", "total {field} of the {items}", "sum of {field} over {items}"),
     "def total_{field}({items}):\n    return sum({item}.{field} for {item} in {items})", MEASURES),
    (("compute the average {field} of the {items}", "mean {field} over all {items}"),
     "def mean_{field}({items}):\n    return sum({item}.{field} for {item} in {items}) / len({items})", MEASURES),
    (("find the {item} with the highest {field}", "which {item} has the largest {field}"),
     "def best_{item}({items}):\n    return max({items}, key=lambda {item}: {item}.{field})", MEASURES),
    (("find the {item} with the lowest {field}", "which {item} has the smallest {field}"),
     "def worst_{item}({items}):\n    return min({items}, key=lambda {item}: {item}.{field})", MEASURES),
    (("group the {items} by {field}", "collect {items} that share the same {field}", "map each {field} to its {items}"),
     "def group_{items}({items}):\n    groups = {{}}\n    for {item} in {items}:\n"
     "        groups.setdefault({item}.{field}, []).append({item})\n    return groups", ATTRIBUTES),
    (("count how many {items} have each {field}", "count {items} per {field}"),
     "def count_{items}({items}):\n    counts = {{}}\n    for {item} in {items}:\n"
     "        counts[{item}.{field}] = counts.get({item}.{field}, 0) + 1\n    return counts", ATTRIBUTES),
    (("look up {items} by {field}", "build an index from {field} to {item}"),
     "def index_{items}({items}):\n    return {{{item}.{field}: {item} for {item} in {items}}}", ATTRIBUTES),
    (("list the distinct {field} values of the {items}", "unique {field} of all {items}"),
     "def unique_{field}({items}):\n    return sorted(set({item}.{field} for {item} in {items}))", ATTRIBUTES),
    (("check whether any {item} has {field} over {n}", "does any {item} have {field} above {n}"),
     "def any_{item}({items}):\n    return any({item}.{field} > {n} for {item} in {items})", MEASURES),
    (("check that every {item} has {field} of at least {n}", "do all {items} reach {field} {n}"),
     "def all_{items}({items}):\n    return all({item}.{field} >= {n} for {item} in {items})", MEASURES),
    (("take the first {n} {items} by {field}", "top {n} {items} with the smallest {field}"),
     "def first_{items}({items}):\n    return sorted({items}, key=lambda {item}: {item}.{field})[:{n}]", MEASURES),
    (("raise the {field} of each {item} by {n}", "add {n} to every {item} {field}"),
     "def raise_{field}({items}):\n    for {item} in {items}:\n        {item}.{field} += {n}", MEASURES),
    (("cut the {field} of every {item} by {n} percent", "reduce each {item} {field} by {n} percent"),
     "def cut_{field}({items}):\n    for {item} in {items}:\n        {item}.{field} *= 1 - {n} / 100", MEASURES),
    (("remove the {items} that have no {field}", "skip {items} without {field}"),
     "def with_{field}({items}):\n    return [{item} for {item} in {items} if {item}.{field} is not None]", ATTRIBUTES),
    (("join the {field} and {other} of one {item}", "format the {item} as {field} and {other}"),
     'def describe_{item}({item}):\n    return f"{{{item}.{field}}}: {{{item}.{other}}}"', ATTRIBUTES),
    (("sort {items} by {field} and then by {other}", "order the {items} on {field}, ties on {other}"),
     "def sort_{items}({items}):\n    return sorted({items}, key=lambda {item}: ({item}.{field}, {item}.{other}))",
     ATTRIBUTES),
    (("multiply {field} by {other} for each {item}", "product of {field} and {other} over the {items}"),
     "def products({items}):\n    return [{item}.{field} * {item}.{other} for {item} in {items}]", MEASURES),
    (("split the {items} into batches of {n}", "yield {items} in chunks of {n}"),
     "def batch_{items}({items}):\n    for start in range(0, len({items}), {n}):\n"
     "        yield {items}[start : start + {n}]", ATTRIBUTES),
)  # fmt: skip
