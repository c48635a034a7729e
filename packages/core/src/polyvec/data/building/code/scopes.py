"""Names of a function: which of them its own code binds, and what is left of the function without them."""

import ast
import builtins
import copy
import keyword
import symtable
from collections.abc import Iterator

__all__ = [
    "FunctionNode",
    "bound_names",
    "identifiers",
    "identifiers_in",
    "looks_at_itself",
    "nodes",
    "normal_form",
    "parsed",
    "renameable",
]

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef

_TRIVIAL = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop)
_UNSEEN = frozenset({"annotation", "returns", "type_comment", "ctx", "type_params", "decorator_list", "kind"})
_NAME_FIELDS = frozenset({"id", "arg", "name", "rest", "names"})
_REFLECTIVE = frozenset({"locals", "vars", "eval", "exec", "dir", "globals", "compile"})


def parsed(code: str) -> FunctionNode:
    """Return the tree of code that is one function.

    Raises:
        ValueError: it is something else.
        SyntaxError: it is not Python.
    """
    match ast.parse(code).body:
        case [ast.FunctionDef() | ast.AsyncFunctionDef() as function]:
            return function
    raise ValueError(f"{code[:40]!r} is not one function; pass the code of a function, from `def` to its end.")


def nodes(tree: ast.AST) -> list[ast.AST]:
    """Return the nodes of a tree, without contexts such as `Load`; several times as fast as `ast.walk`."""
    found = [tree]
    for node in found:
        for value in node.__dict__.values():
            if value.__class__ is list:
                found.extend(item for item in value if isinstance(item, ast.AST))
            elif isinstance(value, ast.AST) and not isinstance(value, _TRIVIAL):
                found.append(value)
    return found


def normal_form(function: FunctionNode) -> str:
    """Return the tree of a function with its own names numbered, without docstring, annotations and decorators."""
    bound = bound_names(function)
    numbers: dict[str, str] = {} if function.name in bound else {function.name: "own name"}
    parts: list[str] = []

    def named(name: str) -> str:
        return numbers.setdefault(name, f"_{len(numbers)}") if name in bound or name in numbers else name

    def visit(node: ast.AST) -> None:
        parts.append(type(node).__name__)
        names_fields = () if isinstance(node, ast.keyword | ast.alias) else _NAME_FIELDS
        for field, value in ast.iter_fields(node):
            if field in _UNSEEN:
                continue
            for item in value if isinstance(value, list) else (value,):
                if isinstance(item, ast.AST):
                    visit(item)
                else:
                    parts.append(named(item) if field in names_fields and isinstance(item, str) else repr(item))
            parts.append(";")

    arguments = function.args
    listed = (
        *arguments.posonlyargs,
        "/",
        *arguments.args,
        arguments.vararg,
        "*",
        *arguments.kwonlyargs,
        arguments.kwarg,
    )
    parts.extend(named(argument.arg) if isinstance(argument, ast.arg) else str(argument) for argument in listed)
    # Defaults are evaluated outside of the function, where its names mean something else.
    parts.extend(ast.dump(default) if default else "" for default in (*arguments.defaults, *arguments.kw_defaults))
    for statement in function.body[ast.get_docstring(function, clean=False) is not None :]:
        visit(statement)
    return " ".join(parts)


def bound_names(function: FunctionNode) -> frozenset[str]:
    """Return the names that a function or a function inside it binds, less those that are global or imported."""
    bound: set[str] = set()
    outside: set[str] = set()
    for node in nodes(function):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
                bound.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                bound.add(name)
            case ast.MatchMapping(rest=str(name)):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if node is not function:
                bound.add(name)
            case ast.Global(names=names):
                outside.update(names)
    return frozenset(bound - outside)


def identifiers(function: FunctionNode) -> frozenset[str]:
    """Return what no fresh name may be: every identifier in a function, keywords and builtins."""
    return identifiers_in(function) | frozenset([*keyword.kwlist, *keyword.softkwlist, *dir(builtins)])


def identifiers_in(tree: ast.AST) -> frozenset[str]:
    """Return every identifier in a tree: names, attributes, keywords of calls, what is imported."""
    texts: set[str] = set()
    for node in nodes(tree):
        if not isinstance(node, ast.Constant):
            for value in node.__dict__.values():
                if value.__class__ is str:
                    texts.add(value)
                elif value.__class__ is list:
                    texts.update(item for item in value if isinstance(item, str))
    return frozenset(texts)


def renameable(function: FunctionNode) -> tuple[str, ...]:
    """Return the names of a function's own that may be replaced everywhere in it by fresh ones, in their order.

    A name is one of them if each scope inside the function takes it for a variable of the function or of a function
    inside it: never for a global or builtin, an attribute of a class, an import, or a keyword of a call. There are none
    if the function looks at its variables by name (`locals`, `eval`).
    """
    if getattr(function, "type_params", None) or looks_at_itself(function):
        return ()
    bare = copy.copy(function)
    bare.decorator_list = []  # they are outside of the function's scope
    module = symtable.symtable(ast.unparse(bare), "function", "exec")
    (table,) = (child for child in module.get_children() if child.get_name() == function.name)
    own: dict[str, None] = {}
    excluded = _keywords(function) | _inner_definitions(function)
    for scope in _scopes(table):
        for symbol in scope.get_symbols():
            name = symbol.get_name()
            if symbol.is_global() or symbol.is_imported() or (scope.get_type() == "class" and symbol.is_local()):
                excluded.add(name)
            else:
                own[name] = None
    return tuple(name for name in own if name not in excluded and _is_plain(name))


def looks_at_itself(function: FunctionNode) -> bool:
    """Return whether a function may look at its variables by name, with `locals` or `eval`."""
    return any(isinstance(node, ast.Name) and node.id in _REFLECTIVE for node in nodes(function))


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _scopes(child)


def _inner_definitions(function: FunctionNode) -> set[str]:
    """Return the names of functions and classes inside a function: they carry their names."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return {node.name for node in nodes(function) if isinstance(node, kinds) and node is not function}


def _keywords(function: FunctionNode) -> set[str]:
    """Return keywords of calls that may be parameters of this function or of functions inside it."""
    called = {part.arg for part in nodes(function) if isinstance(part, ast.keyword) and part.arg}
    inner = {
        argument.arg
        for part in nodes(function)
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and part is not function
        for argument in nodes(part.args)
        if isinstance(argument, ast.arg)
    }
    recursive = any(
        isinstance(part, ast.Call)
        and (
            (isinstance(part.func, ast.Name) and part.func.id == function.name)
            or (isinstance(part.func, ast.Attribute) and part.func.attr == function.name)
        )
        for part in nodes(function)
    )
    return called if recursive else called & inner


def _is_plain(name: str) -> bool:
    return name not in ("self", "cls", "_") and not name.startswith((".", "__")) and name.isidentifier()
