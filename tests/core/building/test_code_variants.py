# ruff: noqa: E501 — a function is one line of a table
"""Functions under other names and in other words do the same."""

import ast
import random
import textwrap
from functools import cache

import pytest

from polyvec.data.building.code.functions import Function
from polyvec.data.building.code.renaming import renamed
from polyvec.data.building.code.rewrites.applying import REWRITES, rewritten
from polyvec.data.building.code.scopes import normal_form, parsed, renameable
from polyvec.data.building.code.variants import code_to_code
from polyvec.data.building.material import CorpusItem, Query, Rejection

scale = 10  # what the functions below know from their module
NAMES = {"scale": scale}

# Functions with arguments to call them with.
SAMPLES = [
    ("def f(rows, least):\n    kept = []\n    for row in rows:\n        if row > least:\n            kept.append(row * 2)\n    return kept", [([1, 2, 3], 1), ([], 0)]),
    ("def f(rows):\n    seen = set()\n    for row in rows:\n        seen.add(row % 3)\n    return seen", [([1, 2, 3, 4],)]),
    ("def f(rows):\n    table = {}\n    for key, value in rows:\n        table[key] = value + 1\n    return table", [([("a", 1), ("b", 2)],)]),
    ("def f(rows):\n    return [a + b for row in rows if row for a in row for b in row if a != b]", [([[1, 2], [], [3]],)]),
    ("def f(rows):\n    pairs = {key: len(rows) for key in rows}\n    return pairs", [("ab",)]),
    ("def f(x):\n    if x is not None:\n        return x + 1\n    else:\n        return 0", [(None,), (3,)]),
    ("def f(x):\n    if x not in (1, 2):\n        sign = 'far'\n    else:\n        sign = 'near'\n    return sign + '!'", [(1,), (5,)]),
    ("def f(x):\n    return 'big' if x > 3 else 'small'", [(1,), (5,)]),
    ("def f(x):\n    if x < 0:\n        raise ValueError(x)\n    total = 0\n    for i in range(x):\n        total += i\n    return total", [(4,), (-1,)]),
    ("def f(x):\n    total = 'a'\n    n = 0\n    while n < x:\n        total = total + 'b'\n        n += 1\n    return total, n", [(3,)]),
    ("def f(x, y):\n    return '{}: {!r:>6}'.format(x, y)", [(1, "a"), (None, "b")]),
    ("def f(x, y):\n    return f'{x} {{{y!r:>6}}} {x}'", [(1, "a")]),
    ("def f(x, y):\n    if x and y:\n        return dict(a=x, b=y)\n    return dict(), list(), tuple()", [(1, 2), (0, 1)]),
    ("def f(x):\n    if x:\n        if x > 2:\n            return [x]\n    return []", [(0,), (1,), (3,)]),
    ("def f(x):\n    result = sorted(x)\n    return result", [([2, 1],)]),
    ("def f(rows, scale=scale, *rest, last=scale):\n    def inner(row, factor=scale):\n        return row * factor + last\n    return [inner(row, factor=2) for row in rows] + [scale]", [([1, 2],), ([1], 3)]),
    ("def f(n):\n    count = 0\n    def step(by=1):\n        nonlocal count\n        count += by\n        return count\n    return [step(by=k) for k in range(n)], count", [(3,)]),
    ("def f(n):\n    return 1 if n < 2 else n * f(n - 1)", [(5,)]),
    ("def f(x):\n    class Box:\n        width = x\n        def area(self, x):\n            return self.width * x\n    return Box().area(3), Box.width", [(4,)]),
    ("def f(x):\n    match x:\n        case [first, *others]:\n            return first, others\n        case {'a': value, **others}:\n            return value, others\n        case str() as text:\n            return text\n    return None", [([1, 2],), ({"a": 1, "b": 2},), ("t",), (1,)]),
    ("def f(x):\n    try:\n        value = 1 / x\n    except ZeroDivisionError as error:\n        value = type(error).__name__\n    return value", [(0,), (2,)]),
    ("def f(x):\n    rows = [x]\n    rows += [2]\n    other = rows\n    other += [3]\n    return rows, other is rows", [(1,)]),
    ("def f(x):\n    if x > 1:\n        label = 'a'\n    elif x > 0:\n        label = 'b'\n    else:\n        label = 'c'\n    if not x:\n        return label\n    return label * 2", [(0,), (1,), (2,)]),
    ("def f(rows):\n    for row in rows:\n        if row is None:\n            continue\n        yield row\n    return", [([1, None, 2],)]),
]  # fmt: skip


def outcome(code, arguments):
    """Return what the only function of a module returns, or the kind of its error."""
    names = dict(NAMES)
    exec(compile(code, "module", "exec"), names)
    (function,) = (value for key, value in names.items() if key not in (*NAMES, "__builtins__"))
    try:
        value = function(*arguments)
        return list(value) if hasattr(value, "__next__") else value
    except (ValueError, ZeroDivisionError) as error:
        return type(error)


SEEDS = range(6)


@cache
def variants(code, seed):
    """Return a function under other names, in other words as well, and the rewrites of these."""
    rng = random.Random(seed)
    words, applied = rewritten(code, rng)
    return renamed(code, rng, is_method=False)[0], renamed(words, rng, is_method=False)[0], applied


@pytest.mark.parametrize(("code", "calls"), SAMPLES)
def test_variants_do_what_the_function_does(code, calls):
    for seed in SEEDS:
        other, both, _ = variants(code, seed)
        assert parsed(other).name != parsed(code).name
        assert normal_form(parsed(other)) == normal_form(parsed(code))
        for arguments in calls:
            expected = outcome(code, arguments)
            assert outcome(other, arguments) == expected
            assert outcome(both, arguments) == expected


def test_every_rewrite_takes_part():
    assert {name for code, _ in SAMPLES for seed in SEEDS for name in variants(code, seed)[2]} == set(REWRITES)


def applications(code, **options):
    """Return the rewrites that some seed applies."""
    code = textwrap.dedent(code)
    return {name for seed in range(3) for name in rewritten(code, random.Random(seed), **options)[1]}


@pytest.mark.parametrize(
    ("code", "rewrite"),
    [
        ("def f(x):\n    x += 1", "augmented_to_plain"),  # x may be a list
        ("def f(x):\n    n = 0\n    n += x", "augmented_to_plain"),
        ("def f():\n    n = 0\n    def g():\n        nonlocal n\n        n = []\n    g()\n    n += 1", "augmented_to_plain"),
        ("def f(x):\n    import n\n    n = 1\n    n += 1", "augmented_to_plain"),
        ("def f(x, y):\n    g(x < y)", "comparison_mirrored"),
        ("def f(x):\n    g(x < y < 3)", "comparison_mirrored"),
        ("def f(a):\n    xs = []\n    for x in a:\n        xs.append(len(xs))\n    g(xs)", "loop_to_comprehension"),
        ("def f(a):\n    xs = []\n    for x in a:\n        xs.append(x)\n    g(xs, x)", "loop_to_comprehension"),
        ("def f(a):\n    xs = []\n    for x in a:\n        xs.append((yield x))\n    g(xs)", "loop_to_comprehension"),
        ("def f(a):\n    try:\n        xs = []\n        for x in a:\n            xs.append(x)\n    finally:\n        g(xs)", "loop_to_comprehension"),
        ("def f(a):\n    xs = []\n    for x in a:\n        xs.append(x)\n    else:\n        g()\n    g(xs)", "loop_to_comprehension"),
        ("def f(a):\n    global xs\n    xs = []\n    for x in a:\n        xs.append(x)", "loop_to_comprehension"),
        ("def f(a):\n    t = {}\n    for x in a:\n        t[g(x)] = h(x)\n    g(t)", "loop_to_comprehension"),
        ("def f(a):\n    xs = []\n    g(lambda: xs)\n    for x in a:\n        xs.append(x)\n    g(xs)", "loop_to_comprehension"),
        ("def f(x):\n    xs = [x for x in x]\n    g(xs)", "comprehension_to_loop"),
        ("def f(a):\n    xs = [lambda: x for x in a]\n    g(xs)", "comprehension_to_loop"),
        ("def f(a):\n    with a:\n        return [x for x in a]", "comprehension_to_loop"),
        ("def f(a):\n    return {g(x): h(x) for x in a}", "comprehension_to_loop"),
        ("def f(x):\n    return '{} {}'.format(g(x), x)", "format_to_f_string"),
        ("def f(x):\n    return '{0} {0}'.format(x)", "format_to_f_string"),
        ("def f(x):\n    return f'{x.y}'", "f_string_to_format"),
        ("def f(x, n):\n    return f'{x:{n}}'", "f_string_to_format"),
        ("def f(dict):\n    return dict()", "call_to_literal"),
        ("def f(x):\n    return dict(**x)", "call_to_literal"),
        ("def f(x):\n    x = g(x)\n    return y", "result_returned"),
        ("def f(x):\n    try:\n        y = g(x)\n        return y\n    finally:\n        h(y)", "result_returned"),
        ("def f(x):\n    if x:\n        g()\n    else:\n        h()\n    return 1", "else_after_end"),
        ("def f(x):\n    y = 1\n    return locals(), x is not y", "negation_outside"),
    ],
)  # fmt: skip
def test_a_rewrite_keeps_away_where_it_could_change_something(code, rewrite):
    assert rewrite in REWRITES
    assert rewrite not in applications(code)


def test_builtins_that_the_module_hides_are_not_taken_for_builtins():
    code = "def f(x):\n    return dict(a=x)"
    assert "call_to_literal" in applications(code)
    assert applications(code, shadowed=["dict"]) == {"result_named"}


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("def f(a, *b, c=1, **d):\n    e = a", {"a", "b", "c", "d", "e"}),
        ("def f(self, a):\n    import b\n    from c import d as e\n    return b, e", {"a"}),
        ("def f(a):\n    global b\n    b = a", {"a"}),
        ("def f(a):\n    return [len for len in a], len(a)", {"a"}),  # `len` is a builtin elsewhere in it
        ("def f(a):\n    def g(b):\n        return b\n    return g(b=a)", {"a"}),
        ("def f(a):\n    return g(a=a)", {"a"}),
        ("def f(a):\n    return f(a=a)", set()),
        ("def f(a):\n    class C:\n        b = a\n    return C.b", {"a"}),
        ("def f(a):\n    return eval('a')", set()),
    ],
)
def test_names_that_others_know_stay(code, names):
    assert set(renameable(parsed(code))) == names


@pytest.mark.parametrize(
    ("code", "is_method"),
    [
        ("def __enter__(self):\n    pass", True),
        ("@price.setter\ndef price(self, value):\n    self.p = value", True),
        ("def walk(self):\n    return self.walk()", True),
        ("def walk(x=walk):\n    return x", False),
    ],
)
def test_a_function_keeps_a_name_with_a_meaning(code, is_method):
    name = parsed(code).name
    assert parsed(renamed(code, random.Random(0), is_method=is_method)[0]).name == name


def function(name, code):
    code = textwrap.dedent(code).strip()
    return Function(f"m:{name}", code, "", "", normal_form(parsed(code)), "m.py")


def test_queries_are_functions_and_documents_their_variants():
    mean = function("mean", "def mean(rows):\n    total = sum(rows)\n    size = len(rows)\n    return total / size")
    copy = function("average", "def average(x):\n    y = sum(x)\n    z = len(x)\n    return y / z")
    tiny = function("tiny", "def tiny(x):\n    return x")
    items = list(code_to_code([mean, copy, tiny]))
    documents = {item.id: item for item in items if isinstance(item, CorpusItem)}
    (query,) = (item for item in items if isinstance(item, Query))
    assert (query.id, query.text) == ("m:mean", mean.code)
    assert set(query.relevant) == set(documents) == {"m:mean#renamed", "m:mean#rewritten"}
    for document in documents.values():
        assert document.group == "m:mean"
        assert not {"mean", "rows", "total", "size"} & {
            n.id for n in ast.walk(ast.parse(document.content)) if isinstance(n, ast.Name)
        }
    assert [(item.what, item.reason) for item in items if isinstance(item, Rejection)] == [
        ("m:average", "duplicate function"), ("m:tiny", "too few names"),
    ]  # fmt: skip
    again = [item.content for item in code_to_code([mean]) if isinstance(item, CorpusItem)]
    assert again == [item.content for item in documents.values()]
    assert again != [item.content for item in code_to_code([mean], seed=1) if isinstance(item, CorpusItem)]
