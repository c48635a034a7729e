"""Rewrites of statements.

Each takes the place of a statement in its block. It returns how many statements go and what replaces them, or None.
"""

import ast
from collections.abc import Callable

from polyvec.data.building.code.rewrites.facts import Block, Facts, is_plain, mentions

__all__ = ["PAIRS", "StatementRewrite"]

Replacement = tuple[int, Block] | None
StatementRewrite = Callable[[Block, int, Facts, bool], Replacement]

_ENDS = ast.Return | ast.Raise | ast.Continue | ast.Break
_OPPOSITES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


def loop_to_comprehension(block: Block, place: int, facts: Facts, guarded: bool) -> Replacement:  # noqa: FBT001 — of every rewrite
    """`xs = []` and a loop that appends → `xs = [… for …]`.

    Nothing else may see the list while it grows, or the variables of the loop afterwards.
    """
    match block[place : place + 2]:
        case [
            ast.Assign(targets=[ast.Name(id=name)], value=empty),
            ast.For(target=target, iter=iterable, body=[step], orelse=[]) as loop,
        ]:
            conditions: list[ast.expr] = []
            while isinstance(step, ast.If) and not step.orelse and len(step.body) == 1:
                conditions.append(step.test)
                step = step.body[0]
            comprehension = _grown(name, empty, step, facts)
            if comprehension is None or guarded or name not in facts.locals:
                return None
            variables = _variables(target)
            inside = mentions(loop)
            alone = all(v in facts.locals and facts.mentions[v] == inside[v] and v != name for v in variables or ())
            values = [iterable, *conditions, *_values(comprehension)]
            if not variables or not alone or inside[name] != 1 or not is_plain(*values):
                return None
            comprehension.generators = [ast.comprehension(target, iterable, conditions, is_async=0)]
            return 2, [ast.Assign([ast.Name(name, ast.Store())], comprehension)]
    return None


def comprehension_to_loop(block: Block, place: int, facts: Facts, guarded: bool) -> Replacement:  # noqa: FBT001
    """`xs = [… for …]` or `return [… for …]` → a list and a loop that appends."""
    returned = False
    match block[place]:
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.ListComp() | ast.SetComp() | ast.DictComp() as made):
            if name not in facts.locals:
                return None
        case ast.Return(value=ast.ListComp() | ast.SetComp() | ast.DictComp() as made):
            fresh = facts.fresh("result", "collected", "results")
            if fresh is None:
                return None
            name, returned = fresh, True
        case _:
            return None
    values = [part for g in made.generators for part in (g.iter, *g.ifs)] + _values(made)
    variables = [v for g in made.generators for v in _variables(g.target) or [""]]
    inside = mentions(made)
    alone = all(v and facts.mentions[v] == inside[v] for v in variables)
    kept_apart = alone and inside[name] == 0 and is_plain(*values)
    if guarded or not kept_apart or any(g.is_async for g in made.generators):
        return None
    growth = _growth(name, made, facts)
    if growth is None:
        return None
    empty, step = growth
    for generator in reversed(made.generators):
        for condition in reversed(generator.ifs):
            step = ast.If(condition, [step], [])
        step = ast.For(generator.target, generator.iter, [step], [])
    end: Block = [ast.Return(ast.Name(name, ast.Load()))] if returned else []
    return 1, [ast.Assign([ast.Name(name, ast.Store())], empty), step, *end]


def branches_to_expression(block: Block, place: int, facts: Facts, guarded: bool) -> Replacement:  # noqa: ARG001, FBT001
    """Two branches that return, or assign one name → a conditional expression."""
    match block[place : place + 2]:
        case [
            ast.If(test=test, body=[ast.Return(value=ast.expr() as yes)], orelse=[ast.Return(value=ast.expr() as no)]),
            *_,
        ]:
            return 1, [ast.Return(ast.IfExp(test, yes, no))]
        case [
            ast.If(test=test, body=[ast.Return(value=ast.expr() as yes)], orelse=[]),
            ast.Return(value=ast.expr() as no),
        ]:
            return 2, [ast.Return(ast.IfExp(test, yes, no))]
        case [
            ast.If(
                test=test,
                body=[ast.Assign(targets=[ast.Name(id=first)], value=yes)],
                orelse=[ast.Assign(targets=[ast.Name(id=second)], value=no)],
            ),
            *_,
        ] if first == second:
            return 1, [ast.Assign([ast.Name(first, ast.Store())], ast.IfExp(test, yes, no))]
    return None


def expression_to_branches(block: Block, place: int, facts: Facts, guarded: bool) -> Replacement:  # noqa: ARG001, FBT001
    """A conditional expression that is returned, or assigned to a name → two branches."""
    match block[place]:
        case ast.Return(value=ast.IfExp(test=test, body=yes, orelse=no)):
            return 1, [ast.If(test, [ast.Return(yes)], []), ast.Return(no)]
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.IfExp(test=test, body=yes, orelse=no)):
            first, second = (ast.Assign([ast.Name(name, ast.Store())], value) for value in (yes, no))
            return 1, [ast.If(test, [first], [second])]
    return None


def else_after_end(block: Block, place: int, facts: Facts, guarded: bool) -> Replacement:  # noqa: ARG001, FBT001
    """`if a: return b` and an `else` → the same without the `else`."""
    match block[place]:
        case ast.If(test=test, body=[*_, last] as body, orelse=[_, *_] as orelse) if isinstance(last, _ENDS):
            return 1, [ast.If(test, body, []), *orelse]
    return None


def end_to_else(block: Block, place: int, facts: Facts, guarded: bool) -> Replacement:  # noqa: ARG001, FBT001
    """`if a: return b` and what follows → what follows in an `else`."""
    match block[place:]:
        case [ast.If(test=test, body=[*_, last] as body, orelse=[]), _, *_] if isinstance(last, _ENDS):
            rest = block[place + 1 :]
            return 1 + len(rest), [ast.If(test, body, rest)]
    return None


def branches_swapped(block: Block, place: int, facts: Facts, guarded: bool) -> Replacement:  # noqa: ARG001, FBT001
    """`if a: b else: c` → `if not a: c else: b`."""
    match block[place]:
        case ast.If(test=test, body=body, orelse=[_, *_] as orelse) if not isinstance(orelse[0], ast.If):
            return 1, [ast.If(_negated(test), orelse, body)]
    return None


def ifs_merged(block: Block, place: int, facts: Facts, guarded: bool) -> Replacement:  # noqa: ARG001, FBT001
    """`if a:` with nothing but `if b:` in it → `if a and b:`."""
    match block[place]:
        case ast.If(test=outer, body=[ast.If(test=inner, body=body, orelse=[])], orelse=[]):
            return 1, [ast.If(ast.BoolOp(ast.And(), [outer, inner]), body, [])]
    return None


def ifs_split(block: Block, place: int, facts: Facts, guarded: bool) -> Replacement:  # noqa: ARG001, FBT001
    """`if a and b:` → `if b:` in `if a:`."""
    match block[place]:
        case ast.If(test=ast.BoolOp(op=ast.And(), values=[first, *others]), body=body, orelse=[]):
            inner = others[0] if len(others) == 1 else ast.BoolOp(ast.And(), others)
            return 1, [ast.If(first, [ast.If(inner, body, [])], [])]
    return None


def result_named(block: Block, place: int, facts: Facts, guarded: bool) -> Replacement:  # noqa: ARG001, FBT001
    """`return a` → `result = a` and `return result`."""
    match block[place]:
        case ast.Return(value=ast.Call() | ast.BinOp() | ast.Subscript() | ast.BoolOp() | ast.Tuple() as value):
            if name := facts.fresh("outcome", "returned", "answer"):
                return 1, [ast.Assign([ast.Name(name, ast.Store())], value), ast.Return(ast.Name(name, ast.Load()))]
    return None


def result_returned(block: Block, place: int, facts: Facts, guarded: bool) -> Replacement:  # noqa: FBT001
    """`result = a` and `return result` → `return a`."""
    match block[place : place + 2]:
        case [ast.Assign(targets=[ast.Name(id=name)], value=value), ast.Return(value=ast.Name(id=other))]:
            if name == other and name in facts.locals and not guarded:
                return 2, [ast.Return(value)]
    return None


def augmented_to_plain(block: Block, place: int, facts: Facts, guarded: bool) -> Replacement:  # noqa: ARG001, FBT001
    """`n += 1` → `n = n + 1`, of numbers and texts, which no operator changes in place."""
    match block[place]:
        case ast.AugAssign(target=ast.Name(id=name), op=operator, value=value):
            if name in facts.scalars and facts.is_scalar(value):
                total = ast.BinOp(ast.Name(name, ast.Load()), operator, value)
                return 1, [ast.Assign([ast.Name(name, ast.Store())], total)]
    return None


def plain_to_augmented(block: Block, place: int, facts: Facts, guarded: bool) -> Replacement:  # noqa: ARG001, FBT001
    """`n = n + 1` → `n += 1`, of numbers and texts."""
    match block[place]:
        case ast.Assign(
            targets=[ast.Name(id=name)], value=ast.BinOp(left=ast.Name(id=left), op=operator, right=value)
        ) if name == left and name in facts.scalars and facts.is_scalar(value):
            return 1, [ast.AugAssign(ast.Name(name, ast.Store()), operator, value)]
    return None


# Each rewrite beside the one that undoes it, if there is one.
PAIRS: tuple[tuple[StatementRewrite, ...], ...] = (
    (loop_to_comprehension, comprehension_to_loop),
    (branches_to_expression, expression_to_branches),
    (else_after_end, end_to_else),
    (branches_swapped,),
    (ifs_merged, ifs_split),
    (result_named, result_returned),
    (augmented_to_plain, plain_to_augmented),
)

_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp


def _grown(name: str, empty: ast.expr, step: ast.stmt, facts: Facts) -> _Comprehension | None:
    """Return the comprehension, still without its loop, that makes what an empty container grows to."""
    is_list = (isinstance(empty, ast.List) and not empty.elts) or facts.is_call(empty, "list", n_arguments=0)
    is_dict = (isinstance(empty, ast.Dict) and not empty.keys) or facts.is_call(empty, "dict", n_arguments=0)
    match step:
        case ast.Expr(ast.Call(ast.Attribute(ast.Name(id=grown), "append"), [value], [])) if is_list:
            made: _Comprehension = ast.ListComp(value, [])
        case ast.Expr(ast.Call(ast.Attribute(ast.Name(id=grown), "add"), [value], [])):
            if not facts.is_call(empty, "set", n_arguments=0):
                return None
            made = ast.SetComp(value, [])
        case ast.Assign([ast.Subscript(ast.Name(id=grown), ast.Name() as key)], value) if is_dict:
            made = ast.DictComp(key, value, [])
        case _:
            return None
    starred = any(isinstance(part, ast.Starred) for part in _values(made))
    return made if grown == name and not starred else None


def _growth(name: str, made: _Comprehension, facts: Facts) -> tuple[ast.expr, ast.stmt] | None:
    """Return the empty container and the statement that adds one value."""
    loaded = ast.Name(name, ast.Load())
    match made:
        case ast.ListComp(elt=value):
            return ast.List([], ast.Load()), ast.Expr(
                ast.Call(ast.Attribute(loaded, "append", ast.Load()), [value], [])
            )
        case ast.SetComp(elt=value) if "set" in facts.builtins:
            empty = ast.Call(ast.Name("set", ast.Load()), [], [])
            return empty, ast.Expr(ast.Call(ast.Attribute(loaded, "add", ast.Load()), [value], []))
        case ast.DictComp(key=ast.Name() as key, value=value):  # a key with effects would come after its value
            return ast.Dict([], []), ast.Assign([ast.Subscript(loaded, key, ast.Store())], value)
    return None


def _values(made: _Comprehension) -> list[ast.expr]:
    return [made.key, made.value] if isinstance(made, ast.DictComp) else [made.elt]


def _variables(target: ast.expr) -> list[str] | None:
    """Return the names that a loop binds, or None if it binds anything else."""
    match target:
        case ast.Name(id=name):
            return [name]
        case ast.Tuple(elts=parts) if parts and all(isinstance(part, ast.Name) for part in parts):
            return [part.id for part in parts if isinstance(part, ast.Name)]
    return None


def _negated(test: ast.expr) -> ast.expr:
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return operand
        case ast.Compare(left=left, ops=[operator], comparators=[right]) if type(operator) in _OPPOSITES:
            return ast.Compare(left, [_OPPOSITES[type(operator)]()], [right])
    return ast.UnaryOp(ast.Not(), test)
