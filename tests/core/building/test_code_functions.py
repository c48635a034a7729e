"""Functions of Python files and what describes them."""

import ast
import textwrap

import pytest

from polyvec.data.building.code.descriptions import description, explanation, says_only_the_name
from polyvec.data.building.code.functions import Function, functions_of, module_files
from polyvec.data.building.code.pairs import code_to_description, description_to_code
from polyvec.data.building.material import CorpusItem, Query, Rejection


def read(folder, **options):
    return list(functions_of(module_files([folder]), **options))


def functions(folder, source, **options):
    """Write a module and return its functions by qualified name, and the reasons for others."""
    (folder / "shop.py").write_text(textwrap.dedent(source), encoding="utf-8")
    items = read(folder / "shop.py", **options)
    kept = {item.id.partition(":")[2]: item for item in items if isinstance(item, Function)}
    return kept, {item.what.partition(":")[2]: item.reason for item in items if isinstance(item, Rejection)}


@pytest.mark.parametrize(
    ("docstring", "text"),
    [
        ("Sort the rows.\n\nMore.", "Sort the rows."),
        ("\n    Sort the rows\n    by price.\n\n    Args:\n        x: y\n", "Sort the rows by price."),
        ("Sort the rows.\n:param x: a row\n:returns: rows", "Sort the rows."),
        ("Sort the rows.\n>>> sort()\n1", "Sort the rows."),
        ("Return a :class:`~shop.Row` of ``n`` *cells*, see `it <http://x.y>`_.", "Return a Row of n cells, see it."),
        ("Return [the row](http://x.y/z).", "Return the row."),
        ("sort(rows, key=None) -> list\n\nSort the rows.", "Sort the rows."),
        ("Args:\n    x: a row", ""),
        ("a*b and c*d of __init__", "a*b and c*d of __init__"),
        ("One. " + "word " * 48 + "end. Last.", "One. " + "word " * 48 + "end."),
    ],
)  # fmt: skip
def test_a_description_is_the_first_paragraph_in_plain_words(docstring, text):
    assert description(docstring) == text


def test_an_explanation_is_what_follows_the_first_paragraph_up_to_a_section():
    assert explanation("Sort.\n\nIt is *stable*.\n\n    code\n\nReturns:\n    rows\n") == "It is stable.\n\n    code"
    assert explanation("sort(rows)\n\nSort them.\n\nStable.") == "Stable."  # the description is no part of its answer


def test_a_description_that_repeats_the_name_says_nothing():
    assert says_only_the_name("Gets the unit prices.", "Shop.get_unit_price")
    assert not says_only_the_name("Gets the lowest unit price.", "Shop.get_unit_price")


def test_code_is_what_is_written_without_docstring_and_indentation(tmp_path):
    kept, _ = functions(
        tmp_path,
        '''
        class Shop:
            @staticmethod  # plain
            async def price(name, *, tax=0.2):
                """Look up what an article costs."""

                # Look up what an article costs.
                text = """
            kept
                """
                return await find(name, text)  # slow
        ''',
    )
    function = kept["Shop.price"]
    assert (function.id, function.origin) == ("shop:Shop.price", "docstring")
    assert function.code == (
        "@staticmethod  # plain\n"
        "async def price(name, *, tax=0.2):\n"
        '    text = """\n'
        "    kept\n"
        '        """\n'
        "    return await find(name, text)  # slow"
    )


def test_a_docstring_beside_code_goes_alone(tmp_path):
    kept, _ = functions(tmp_path, 'def price(x): "Tell what an article costs."; return x\n')
    assert kept["price"].code == "def price(x):\n    return x"


def test_a_comment_above_describes_a_function_without_docstring(tmp_path):
    kept, reasons = functions(
        tmp_path,
        """
        # ---------------
        # Tell what an article costs
        # with all taxes.
        def price(x):
            return 2 * x

        # TODO: make this faster some day
        def slow(x):
            return x

        # x = old_price(x)
        def switched_off(x):
            return x

        # type: ignore
        def pragma(x):
            return x
        """,
    )
    assert (kept["price"].description, kept["price"].origin) == (
        "Tell what an article costs with all taxes.",
        "comment",
    )
    assert kept["price"].code == "def price(x):\n    return 2 * x"
    assert reasons == {"slow": "TODO or licence comment", "switched_off": "no description", "pragma": "no description"}


def test_each_function_that_is_left_out_has_a_reason(tmp_path):
    kept, reasons = functions(
        tmp_path,
        '''
        def nothing_said(x):
            return x

        def short(x):
            """Prices."""
            return x

        def get_price(x):
            """Return the price of the get."""
            return x

        def old(x):
            """Deprecated, use the other one."""
            return x

        def stub(x):
            """Tell what an article costs."""
            raise NotImplementedError

        @overload
        def typed(x):
            """Tell what an article costs."""
            return x

        def test_price():
            """Tell what an article costs."""
            return 1
        ''',
    )
    assert kept == {}
    assert reasons == {
        "nothing_said": "no description", "short": "too short", "get_price": "says only the name",
        "old": "deprecated or alias", "stub": "stub", "typed": "stub", "test_price": "test function",
    }  # fmt: skip


def test_functions_of_one_name_have_different_ids(tmp_path):
    twice = '''
        if new:
            def price(x):
                """Tell what an article costs."""
                return x
        else:
            def price(x):
                """Tell what a thing costs."""
                return x + 1
    '''
    kept, _ = functions(tmp_path, twice)
    assert list(kept) == ["price", "price#2"]


def test_files_that_are_no_sources_have_reasons_and_the_others_are_read(tmp_path):
    good = 'def price(x):\n    """Tell what an article costs."""\n    return x\n'
    package = tmp_path / "pkg"
    (package / "tests").mkdir(parents=True)
    (package / ".venv").mkdir()
    (package / "good.py").write_text(good)
    (package / "bad.py").write_text("def price(:\n")
    (package / "bytes.py").write_bytes(b"# \xff\n")
    (package / "made.py").write_text("# Generated by a tool. Do not edit.\n" + good)
    (package / "tests" / "test_it.py").write_text(good)
    (package / ".venv" / "hidden.py").write_text(good)
    items = read(package)
    assert [item.id for item in items if isinstance(item, Function)] == ["pkg.good:price"]
    reasons = {item.what: item for item in items if isinstance(item, Rejection)}
    assert {what: item.reason for what, item in reasons.items()} == {
        "pkg.bad": "unreadable Python", "pkg.bytes": "unreadable Python", "pkg.made": "generated file",
        "pkg.tests.test_it": "test file",
    }  # fmt: skip
    assert "bad.py, line 1:" in reasons["pkg.bad"].detail
    assert len([item for item in read(package, tests=True) if isinstance(item, Function)]) == 2


def test_two_folders_of_one_name_are_refused(tmp_path):
    for parent in ("a", "b"):
        (tmp_path / parent / "src").mkdir(parents=True)
    with pytest.raises(ValueError, match="have one name"):
        list(module_files([tmp_path / "a" / "src", tmp_path / "b" / "src"]))


def function(name, code, text):
    body = ast.parse(code).body[0]
    return Function(f"m:{name}", code, text, "docstring", ast.dump(body), "m.py")


SAME = [
    function("f", "def f(): return 1", "Make a one."),
    function("g", "def f(): return 1", "Make one, again"),
    function("h", "def h(): return 2", "make a ONE"),
    function("i", "def i(): return 3", "Make a three."),
]


def test_all_functions_with_the_description_or_the_same_code_are_relevant():
    items = list(description_to_code(SAME))
    assert [item.id for item in items if isinstance(item, CorpusItem)] == ["m:f", "m:g", "m:h", "m:i"]
    assert {item.text: set(item.relevant) for item in items if isinstance(item, Query)} == {
        "Make a one.": {"m:f", "m:g", "m:h"},
        "Make one, again": {"m:f", "m:g"},
        "Make a three.": {"m:i"},
    }


def test_code_finds_each_description_of_it():
    items = list(code_to_description(SAME))
    assert [item.id for item in items if isinstance(item, CorpusItem)] == ["m:f", "m:g", "m:i"]
    assert {item.text: set(item.relevant) for item in items if isinstance(item, Query)} == {
        "def f(): return 1": {"m:f", "m:g"},
        "def h(): return 2": {"m:f"},
        "def i(): return 3": {"m:i"},
    }


def test_what_too_many_functions_share_is_rejected():
    items = list(description_to_code(SAME, most_alike=1))
    assert [item.id for item in items if isinstance(item, CorpusItem)] == ["m:i"]
    assert [(item.what, item.reason) for item in items if isinstance(item, Rejection)] == [
        ("m:g", "duplicate function"), ("m:f", "duplicate description"), ("m:h", "duplicate description"),
    ]  # fmt: skip


def test_answers_stand_in_the_order_of_the_files(tmp_path):
    code = "".join(
        f'def f{n}_{k}(rows):\n    """Change row {n} of the shop."""\n    return rows[{n}].{name}()\n\n'
        for n in range(8)
        for k, name in enumerate(("sell", "buy", "move"))
    )
    (tmp_path / "shop.py").write_text(code)
    queries = [item for item in description_to_code(read(tmp_path / "shop.py")) if isinstance(item, Query)]
    assert [list(query.relevant) for query in queries] == [[f"shop:f{n}_{k}" for k in range(3)] for n in range(8)]
