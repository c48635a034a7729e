"""Apply rewrites to a function."""

import ast
import builtins
import random
from collections.abc import Iterable

from polyvec.data.building.code.rewrites.expressions import EXPRESSIONS, ExpressionRewrite
from polyvec.data.building.code.rewrites.facts import Block, Facts, facts
from polyvec.data.building.code.rewrites.statements import PAIRS, StatementRewrite
from polyvec.data.building.code.scopes import FunctionNode, looks_at_itself, parsed

__all__ = ["REWRITES", "rewritten"]

_BUILTINS = frozenset(dir(builtins))
REWRITES: tuple[str, ...] = tuple(rewrite.__name__ for pair in (*PAIRS, *EXPRESSIONS) for rewrite in pair)


def rewritten(code: str, rng: random.Random, *, shadowed: Iterable[str] = ()) -> tuple[str, tuple[str, ...]]:
    """Return the code of a function that does the same in other words, and the names of the rewrites that took part.

    Rewrites come in a random order, and of two that undo each other only the first that finds a place takes part. The
    function returns the same values, has the same effects in the same order, and raises the same kinds of errors. Texts
    of errors, frames of the stack and the number of truth tests may differ.

    Args:
        code: of the function.
        rng: chooses.
        shadowed: builtins that may mean something else in the function's module.
    """
    function = parsed(code)
    if looks_at_itself(function):
        return ast.unparse(function), ()
    known = _BUILTINS.difference(shadowed)
    visitor = _Expressions(rng, facts(function, known))
    for statement in function.body:
        visitor.visit(statement)  # in place: no rewrite of expressions replaces a statement
    applied = list(visitor.applied)
    current = facts(function, known)
    for pair in rng.sample(PAIRS, len(PAIRS)):
        for rewrite in rng.sample(pair, len(pair)):
            if _apply(rewrite, function, current):
                current = facts(function, known)
                applied.append(rewrite.__name__)
                break
    return ast.unparse(ast.fix_missing_locations(function)), tuple(applied)


def _apply(rewrite: StatementRewrite, function: FunctionNode, known: Facts) -> int:
    """Apply a rewrite of statements wherever it can be, and return at how many places."""
    n_places = 0

    def block(statements: Block, *, guarded: bool) -> Block:
        nonlocal n_places
        for statement in statements:
            inside(statement, guarded=guarded)
        kept: Block = []
        place = 0
        while place < len(statements):
            replacement = rewrite(statements, place, known, guarded)
            if replacement is None:
                kept.append(statements[place])
                place += 1
            else:
                n_places += 1
                kept.extend(replacement[1])
                place += replacement[0]
        return kept

    def inside(statement: ast.AST, *, guarded: bool) -> None:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return  # what is known is known of the outer function
        guarded = guarded or isinstance(statement, ast.Try | ast.TryStar | ast.With | ast.AsyncWith)
        for field, value in ast.iter_fields(statement):
            if field in ("body", "orelse", "finalbody") and isinstance(value, list):
                setattr(statement, field, block(value, guarded=guarded))
            elif field in ("handlers", "cases"):
                for part in value:
                    inside(part, guarded=guarded)

    function.body = block(function.body, guarded=False)
    return n_places


class _Expressions(ast.NodeTransformer):
    """Replaces expressions, from the inside out. Of two rewrites that undo each other, the first with a place stays."""

    def __init__(self, rng: random.Random, known: Facts) -> None:
        self._known = known
        self._pairs: list[list[ExpressionRewrite]] = [rng.sample(pair, len(pair)) for pair in EXPRESSIONS]
        self.applied: dict[str, None] = {}

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda | ast.pattern):
            return node  # what is known is known of the outer function
        if isinstance(node, ast.FormattedValue):
            return node  # before Python 3.12, quotes could not be nested in it
        visited = self.generic_visit(node)
        return self._replaced(visited) if isinstance(visited, ast.expr) else visited

    def _replaced(self, node: ast.expr) -> ast.expr:
        for pair in self._pairs:
            for rewrite in pair:
                if (replacement := rewrite(node, self._known)) is not None:
                    pair[:] = [rewrite]
                    self.applied[rewrite.__name__] = None
                    return replacement
        return node
