"""Functions under other names: the function itself, its parameters and its variables."""

import ast
import random
from collections.abc import Iterator, Mapping

from polyvec.data.building.code.scopes import (
    FunctionNode,
    bound_names,
    identifiers,
    identifiers_in,
    nodes,
    parsed,
    renameable,
)

__all__ = ["renamed"]

_NOUNS_TEXT = """
item value result data entry record content field element node piece part thing unit member source target buffer
total amount number size count index position offset limit start end first last left right outer inner current
previous following candidate choice option answer reply query pattern marker token symbol word text line block group
batch series sequence pool bucket table mapping lookup register ledger state status flag mode level rank score
weight factor ratio step stage phase round turn pass path route place spot area region zone handle link origin
anchor base root leaf branch parent child owner holder carrier vessel load store stock reserve
"""
_NOUNS = _NOUNS_TEXT.split()
_VERBS_TEXT = """
apply arrange assemble build carry collect compute convert create derive determine do evaluate execute extract find
form gather handle make obtain perform prepare process produce provide resolve run transform treat work_out
"""
_VERBS = _VERBS_TEXT.split()


def renamed(code: str, rng: random.Random, *, is_method: bool) -> tuple[str, int]:
    """Return the code of a function with fresh names for its own, and how many names are replaced.

    Attributes, globals, keywords of calls, imports and `self` stay, so the function does the same under its new name.
    Its name stays where it has a meaning of its own: `__enter__`, the setter of a property, methods that call
    themselves.
    """
    function = parsed(code)
    taken = set(identifiers(function))
    nouns = _fresh(rng, taken)
    names = {name: next(nouns) for name in renameable(function)}
    if not _keeps_its_name(function, is_method=is_method):
        names[function.name] = f"{rng.choice(_VERBS)}_{next(nouns)}"
        while names[function.name] in taken:
            names[function.name] += "_" + rng.choice(_NOUNS)
    function.name = names.get(function.name, function.name)
    # Decorators, annotations and defaults are evaluated outside of the function, where its names mean something else.
    arguments = function.args
    for argument in (*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg):
        if argument is not None:
            argument.arg = names.get(argument.arg, argument.arg)
    renamer = _Renamer(names)
    for statement in function.body:
        renamer.visit(statement)  # in place
    return ast.unparse(function), len(names)


def _fresh(rng: random.Random, taken: set[str]) -> Iterator[str]:
    """Yield nouns that are not taken, in a random order; when they are used up, two of them at a time."""
    for word in rng.sample(_NOUNS, len(_NOUNS)):
        if word not in taken:
            taken.add(word)
            yield word
    while True:
        name = "_".join(rng.sample(_NOUNS, 2))
        while name in taken:
            name += "_" + rng.choice(_NOUNS)
        taken.add(name)
        yield name


def _keeps_its_name(function: FunctionNode, *, is_method: bool) -> bool:
    name = function.name
    if name.startswith("__") or name in bound_names(function):
        return True
    outside = [*function.decorator_list, *function.args.defaults, *(filter(None, function.args.kw_defaults))]
    if any(name in identifiers_in(part) for part in outside):
        return True
    inside = set().union(*map(identifiers_in, function.body))
    if is_method:
        return name in inside  # its class may know it
    imports_or_globals = ast.Import | ast.ImportFrom | ast.Global
    return any(name in identifiers_in(node) for node in nodes(function) if isinstance(node, imports_or_globals))


class _Renamer(ast.NodeTransformer):
    """Replaces names wherever they are names of variables."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def _new(self, name: str) -> str:
        return self._names.get(name, name)

    def visit(self, node: ast.AST) -> ast.AST:
        match node:
            case ast.Name():
                node.id = self._new(node.id)
            case ast.arg():
                node.arg = self._new(node.arg)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                node.name = self._new(name)
            case ast.MatchMapping(rest=str(name)):
                node.rest = self._new(name)
            case ast.Nonlocal():
                node.names = [self._new(name) for name in node.names]
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                node.name = self._new(node.name)
        return self.generic_visit(node)
