"""Rewrites of expressions. Each gives what takes the place of an expression, or None."""

import ast
import string
from collections.abc import Callable

from polyvec.data.building.code.rewrites.facts import Facts, is_constant

__all__ = ["EXPRESSIONS", "ExpressionRewrite"]

ExpressionRewrite = Callable[[ast.expr, Facts], ast.expr | None]

_MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE, ast.Eq: ast.Eq, ast.NotEq: ast.NotEq,
    ast.Is: ast.Is, ast.IsNot: ast.IsNot,
}  # fmt: skip
_POSITIVE: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.IsNot: ast.Is, ast.NotIn: ast.In}
_CONVERSIONS = {-1: "", 114: "!r", 115: "!s", 97: "!a"}


def comparison_mirrored(node: ast.expr, facts: Facts) -> ast.expr | None:  # noqa: ARG001 — of every rewrite
    """`x < 3` → `3 > x`: with a literal on one side, the same method of `x` answers."""
    match node:
        case ast.Compare(left=left, ops=[operator], comparators=[right]) if type(operator) in _MIRRORED:
            if is_constant(left) != is_constant(right):
                return ast.Compare(right, [_MIRRORED[type(operator)]()], [left])
    return None


def negation_outside(node: ast.expr, facts: Facts) -> ast.expr | None:  # noqa: ARG001
    """`a is not b` → `not a is b`, and `a not in b` → `not a in b`."""
    match node:
        case ast.Compare(left=left, ops=[operator], comparators=[right]) if type(operator) in _POSITIVE:
            return ast.UnaryOp(ast.Not(), ast.Compare(left, [_POSITIVE[type(operator)]()], [right]))
    return None


def format_to_f_string(node: ast.expr, facts: Facts) -> ast.expr | None:
    """`"{}: {}".format(a, b)` → `f"{a}: {b}"`, of variables: other values would be made in another order."""
    match node:
        case ast.Call(ast.Attribute(ast.Constant(value=str(template)), "format"), [_, *_] as values, []):
            if not all(_is_known(value, facts) for value in values):
                return None
            try:
                pieces = list(string.Formatter().parse(template))
            except ValueError:
                return None
            fields = [(spec, conversion) for _, name, spec, conversion in pieces if name is not None]
            named = any(name for _, name, _, _ in pieces)
            if named or len(fields) != len(values) or any("{" in (spec or "") for spec, _ in fields):
                return None
            parts: list[ast.expr] = []
            left = iter(values)
            for literal, name, spec, conversion in pieces:
                if literal:
                    parts.append(ast.Constant(literal))
                if name is not None:
                    form = ast.JoinedStr([ast.Constant(spec)]) if spec else None
                    parts.append(ast.FormattedValue(next(left), ord(conversion) if conversion else -1, form))
            return ast.JoinedStr(parts)
    return None


def f_string_to_format(node: ast.expr, facts: Facts) -> ast.expr | None:
    """`f"{a}: {b}"` → `"{}: {}".format(a, b)`, of variables."""
    if not isinstance(node, ast.JoinedStr) or not any(isinstance(part, ast.FormattedValue) for part in node.values):
        return None
    template, values = "", []
    for part in node.values:
        match part:
            case ast.Constant(value=str(text)):
                template += text.replace("{", "{{").replace("}", "}}")
            case ast.FormattedValue(value=value, conversion=conversion, format_spec=spec) if _is_known(value, facts):
                match spec:
                    case None:
                        form = ""
                    case ast.JoinedStr(values=[ast.Constant(value=str(text))]) if not {"{", "}"} & set(text):
                        form = f":{text}"
                    case _:
                        return None
                template += f"{{{_CONVERSIONS[conversion]}{form}}}"
                values.append(value)
            case _:
                return None
    return ast.Call(ast.Attribute(ast.Constant(template), "format", ast.Load()), list(values), [])


def call_to_literal(node: ast.expr, facts: Facts) -> ast.expr | None:
    """`dict()` → `{}`, `dict(a=1)` → `{"a": 1}`, `list()` → `[]`, `tuple()` → `()`."""
    if facts.is_call(node, "list", n_arguments=0):
        return ast.List([], ast.Load())
    if facts.is_call(node, "tuple", n_arguments=0):
        return ast.Tuple([], ast.Load())
    match node:
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=items) if "dict" in facts.builtins:
            if all(item.arg for item in items):
                return ast.Dict([ast.Constant(item.arg) for item in items], [item.value for item in items])
    return None


def literal_to_call(node: ast.expr, facts: Facts) -> ast.expr | None:
    """`{}` → `dict()`, `[]` → `list()`."""
    match node:
        case ast.Dict(keys=[]) if "dict" in facts.builtins:
            return ast.Call(ast.Name("dict", ast.Load()), [], [])
        case ast.List(elts=[], ctx=ast.Load()) if "list" in facts.builtins:
            return ast.Call(ast.Name("list", ast.Load()), [], [])
    return None


def range_from_zero(node: ast.expr, facts: Facts) -> ast.expr | None:
    """`range(n)` → `range(0, n)`."""
    if facts.is_call(node, "range", n_arguments=1):
        assert isinstance(node, ast.Call)
        return ast.Call(node.func, [ast.Constant(0), *node.args], [])
    return None


EXPRESSIONS: tuple[tuple[ExpressionRewrite, ...], ...] = (
    (comparison_mirrored,),
    (negation_outside,),
    (format_to_f_string, f_string_to_format),
    (call_to_literal, literal_to_call),
    (range_from_zero,),
)


def _is_known(node: ast.expr, facts: Facts) -> bool:
    """Return whether reading a value cannot have effects: a literal, or a variable that nothing else sets."""
    return is_constant(node) or (isinstance(node, ast.Name) and node.id in facts.locals)
