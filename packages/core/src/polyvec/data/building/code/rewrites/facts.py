"""What is known of a function while it is rewritten."""

import ast
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from polyvec.data.building.code.scopes import FunctionNode, bound_names, identifiers, nodes

__all__ = ["Block", "Facts", "facts", "is_constant", "is_plain", "mentions", "reads_a_frame"]

Block = list[ast.stmt]

_DEFERRED = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda | ast.GeneratorExp
_SCOPES = _DEFERRED | ast.ListComp | ast.SetComp | ast.DictComp
_OF_FRAMES = frozenset({"super", "__class__", "warn", "stacklevel", "_getframe", "currentframe", "stack"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a function.

    Attributes:
        locals: variables and parameters that only the function's own statements see: no function, generator or class
            inside it mentions them.
        mentions: how often a name occurs.
        scalars: variables that hold numbers, strings and other immutable builtins whenever they hold anything.
        builtins: names that mean what they mean in Python.
        taken: identifiers that no new variable may have.
    """

    locals: frozenset[str]
    mentions: Counter[str]
    scalars: frozenset[str]
    builtins: frozenset[str]
    taken: frozenset[str]

    def fresh(self, *names: str) -> str | None:
        """Return the first of the names that is not taken."""
        return next((name for name in names if name not in self.taken), None)

    def is_call(self, node: ast.expr | None, *names: str, n_arguments: int | None = None) -> bool:
        """Return whether an expression calls one of these builtins with so many plain arguments."""
        match node:
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in names:
                plain = not any(isinstance(argument, ast.Starred) for argument in arguments)
                return name in self.builtins and plain and n_arguments in (None, len(arguments))
        return False

    def is_scalar(self, node: ast.expr) -> bool:
        """Return whether an expression is sure to make an immutable builtin, and has no effect but an error."""
        return _is_scalar(node, self.scalars, self.builtins)


def facts(function: FunctionNode, builtins: frozenset[str]) -> Facts:
    """Look at a function. `builtins` are the names that its module does not bind itself."""
    bound = bound_names(function)
    shared: set[str] = set()
    for node in nodes(function):
        if isinstance(node, _DEFERRED) and node is not function:
            shared.update(mentions(node))
        elif isinstance(node, ast.Global | ast.Nonlocal):
            shared.update(node.names)
    own = bound - shared
    own -= _defined(function)
    known = builtins - bound - _defined(function)
    return Facts(own, mentions(function), _scalars(function, own, known), known, identifiers(function))


def mentions(*trees: ast.AST) -> Counter[str]:
    """Count the names in trees, whichever scope they belong to."""
    counts: Counter[str] = Counter()
    for tree in trees:
        for node in nodes(tree):
            match node:
                case ast.Name(id=name) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                    counts[name] += 1
                case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                    counts[name] += 1
                case ast.Global(names=names) | ast.Nonlocal(names=names):
                    counts.update(names)
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    counts[name] += 1
                case ast.alias(name=name, asname=asname):
                    counts[asname or name.partition(".")[0]] += 1
    return counts


def is_constant(node: ast.expr) -> bool:
    """Return whether an expression is a literal number, text, None, True or False, also a negative number."""
    match node:
        case ast.Constant(value=value):
            return value is not Ellipsis
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float())):
            return True
    return False


def is_plain(*trees: ast.AST) -> bool:
    """Return whether expressions can move into another scope: they neither suspend, bind names, nor are scopes."""
    kinds = ast.Yield | ast.YieldFrom | ast.Await | ast.NamedExpr | _SCOPES
    return not any(isinstance(part, kinds) or reads_a_frame(part) for tree in trees for part in nodes(tree))


def reads_a_frame(node: ast.AST) -> bool:
    """Return whether a node may depend on which frame it runs in."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
            return name in _OF_FRAMES
    return False


def _defined(function: FunctionNode) -> set[str]:
    """Return the names of what is imported and defined inside a function."""
    names: set[str] = set()
    for node in nodes(function):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.alias(name=name, asname=asname):
                names.add(asname or name.partition(".")[0])
    return names


def _scalars(function: FunctionNode, own: frozenset[str], builtins: frozenset[str]) -> frozenset[str]:
    """Return the variables all of whose values are scalars. A variable is dropped if another it depends on is."""
    n_stores: Counter[str] = Counter()
    values: dict[str, list[ast.expr]] = {}
    for node in nodes(function):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                n_stores[name] += 1
            case ast.arg(arg=name) | ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                n_stores[name] += 1
            case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                n_stores[name] += 1
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AugAssign(target=ast.Name(id=name), value=value)
            ):
                values.setdefault(name, []).append(value)
            case ast.For(target=ast.Name(id=name), iter=ast.Call(func=ast.Name(id="range"))) if "range" in builtins:
                values.setdefault(name, []).append(ast.Constant(0))
    scalars = frozenset(name for name in own if 0 < n_stores[name] == len(values.get(name, ())))
    while True:
        kept = frozenset(name for name in scalars if all(_is_scalar(v, scalars, builtins) for v in values[name]))
        if kept == scalars:
            return kept
        scalars = kept


def _is_scalar(node: ast.expr, scalars: frozenset[str], builtins: frozenset[str]) -> bool:
    parts: Sequence[ast.expr]
    match node:
        case ast.Name(id=name):
            return name in scalars
        case ast.Call(func=ast.Name(id="len"), args=[ast.Name()], keywords=[]):
            return "len" in builtins
        case ast.BinOp(left=left, right=right):
            parts = left, right
        case ast.UnaryOp(operand=operand):
            parts = (operand,)
        case _:
            return is_constant(node)
    return all(_is_scalar(part, scalars, builtins) for part in parts)
