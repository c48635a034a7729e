"""Functions of Python modules, each with what its docstring or the comment above it says."""

import ast
import builtins
import re
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from polyvec.data.building.code.descriptions import (
    describes,
    description,
    is_alias,
    is_remark,
    of_comment,
    says_only_the_name,
    words,
)
from polyvec.data.building.code.scopes import FunctionNode, nodes, normal_form
from polyvec.data.building.material import Rejection

__all__ = ["Function", "ModuleFile", "functions_of", "module_files"]

_MOST_CHARACTERS = 20_000  # of a function; longer code is data
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "build", "dist", "venv", "env"})
_TESTS = frozenset({"test", "tests", "testing", "idle_test"})
_GENERATED = re.compile(
    r"#.*(?:@generated|(?:auto-?|automatically )generated|generated (?:by|from|automatically)|do not (?:edit|modify))",
    re.I,
)
_BUILTINS = frozenset(dir(builtins))
_STUBS = frozenset({"overload", "typing.overload", "abstractmethod", "abc.abstractmethod", "t.overload"})


@dataclass(frozen=True, slots=True)
class ModuleFile:
    """A Python file and the dotted name of its module."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Function:
    """A function.

    Attributes:
        id: `module:qualname`; further functions of one name have `#2`, `#3`.
        code: decorators, signature and body as they are written, without the docstring, from the left margin on.
        description: what it does, in words.
        origin: `docstring` or `comment`.
        normal_form: a digest that functions share if they differ in nothing but their names, annotations and layout.
        shadowed: builtins whose names the module binds, so that they may mean something else.
    """

    id: str
    code: str
    description: str
    origin: str
    normal_form: str
    path: str
    shadowed: tuple[str, ...] = ()


def module_files(folders: Iterable[Path]) -> Iterator[ModuleFile]:
    """Yield the Python files of folders, in the order of their names, and files that are given themselves.

    Hidden folders, environments and `site-packages` inside a folder are not entered.

    Raises:
        ValueError: there is no such file or folder, or two have the same name, so that ids would clash.
    """
    seen: dict[str, Path] = {}
    for folder in folders:
        name = folder.resolve().stem if folder.is_file() else folder.resolve().name
        if not folder.exists():
            raise ValueError(f"{str(folder)!r} is no file or folder.")
        if name in seen:
            raise ValueError(
                f"{str(seen[name])!r} and {str(folder)!r} have one name, which ids begin with; rename one."
            )
        seen[name] = folder
        if folder.is_file():
            yield ModuleFile(name, folder)
            continue
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if not any(part.startswith(".") or part in _SKIPPED for part in parts[:-1]):
                yield ModuleFile(".".join([name, *parts]).removesuffix(".__init__"), path)


def functions_of(files: Iterable[ModuleFile], *, tests: bool = False) -> Iterator[Function | Rejection]:
    """Yield the functions and methods that have a description, and why others are left out.

    Functions inside functions are part of them. With `tests`, test functions are functions as all others.
    """
    for file in files:
        if not tests and _is_test_file(file):
            yield Rejection("test file", file.name, detail=str(file.path))
            continue
        try:
            with tokenize.open(file.path) as stream:
                source = stream.read()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of old escapes and comparisons in other people's code
                tree = ast.parse(source)
        except (SyntaxError, UnicodeDecodeError, RecursionError, MemoryError) as error:
            line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            yield Rejection("unreadable Python", file.name, detail=f"{file.path}{line}: {error}")
            continue
        except (OSError, ValueError) as error:
            yield Rejection("unreadable file", file.name, detail=f"{file.path}: {error}")
            continue
        lines = source.split("\n")  # as the parser counts them: other separators of lines are none to it
        if any(_GENERATED.match(line.strip()) for line in lines[:12]):
            yield Rejection("generated file", file.name, detail=str(file.path))
            continue
        counts: Counter[str] = Counter()
        shadowed = _shadowed(tree)
        for qualname, node in _definitions(tree, ""):
            name = f"{file.name}:{qualname}"
            counts[name] += 1
            identity = name if counts[name] == 1 else f"{name}#{counts[name]}"
            result = _function(identity, qualname, node, lines, str(file.path), tests=tests)
            yield replace(result, shadowed=shadowed) if isinstance(result, Function) else result


def _shadowed(tree: ast.Module) -> tuple[str, ...]:
    """Return the builtins whose names a module binds anywhere; all if it imports names that are not written in it."""
    names: set[str] = set()
    for node in nodes(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.alias(name="*"):
                return tuple(sorted(_BUILTINS))
            case ast.alias(name=name, asname=asname):
                names.add(asname or name.partition(".")[0])
    return tuple(sorted(names & _BUILTINS))


def _definitions(scope: ast.AST, prefix: str) -> Iterator[tuple[str, FunctionNode]]:
    """Yield functions and methods by qualified name, also those under `if` and `try`."""
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _definitions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler | ast.For | ast.While):
            yield from _definitions(node, prefix)


def _function(
    identity: str, qualname: str, node: FunctionNode, lines: list[str], path: str, *, tests: bool
) -> Function | Rejection:
    """Return a function, or the first reason why it is left out."""
    docstring = ast.get_docstring(node, clean=False)
    origin = "docstring" if docstring is not None else "comment"
    comment = _comment_above(node, lines)
    text = description(docstring) if docstring is not None else of_comment(comment)
    statements = node.body[1:] if docstring is not None else node.body
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    reason, detail = "", text
    if not tests and re.match(r"test(?:_|$|[A-Z])", node.name):
        reason = "test function"
    elif decorators & _STUBS or all(map(_is_empty, statements)):
        reason = "stub"
    elif docstring is None and is_remark("\n".join(comment)):
        reason, detail = "TODO or licence comment", "\n".join(comment)
    elif not text:
        reason = "no description"
    elif any("deprecated" in decorator for decorator in decorators) or is_alias(text):
        reason = "deprecated or alias"
    elif len(words(text)) < 3:
        reason = "too short"
    elif says_only_the_name(text, qualname):
        reason = "says only the name"
    else:
        code = _code(node, lines, text)
        if len(code) <= _MOST_CHARACTERS:
            digest = blake2b(normal_form(node).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
            return Function(identity, code, text, origin, digest, path)
        reason, detail = "too long", f"{len(code)} characters"
    return Rejection(reason, identity, detail=detail)


def _code(node: FunctionNode, lines: list[str], text: str) -> str:
    """Return the lines of a function from the left margin on, without its docstring and comments that repeat it."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    last = node.end_lineno or node.lineno
    dropped: set[int] = set()
    if ast.get_docstring(node, clean=False) is not None:
        docstring, following = node.body[:2]
        start, end = docstring.lineno, docstring.end_lineno or docstring.lineno
        if start == node.lineno or following.lineno == end or lines[start - 1][: docstring.col_offset].strip():
            return _unparsed(node)
        gap = range(end + 1, _first_line(following))
        blank = [number for number in gap if not lines[number - 1].strip()]
        repeated = [number for number in gap if describes(lines[number - 1], text)]
        dropped = {*range(start, end + 1), *blank, *repeated}
    inside = _lines_inside_strings(node, lines)
    indent = lines[first - 1][: node.col_offset]
    kept = [
        lines[number - 1] if number in inside else lines[number - 1].removeprefix(indent).rstrip()
        for number in range(first, last + 1)
        if number not in dropped
    ]
    return "\n".join(kept).rstrip()


def _unparsed(node: FunctionNode) -> str:
    """Return the code of a function whose docstring shares a line with other code."""
    copy = ast.parse(ast.unparse(node)).body[0]
    assert isinstance(copy, ast.FunctionDef | ast.AsyncFunctionDef)
    del copy.body[0]
    return ast.unparse(copy)


def _first_line(statement: ast.stmt) -> int:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    decorators = statement.decorator_list if isinstance(statement, kinds) else []
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])


def _lines_inside_strings(node: FunctionNode, lines: list[str]) -> set[int]:
    """Return the lines that begin inside a string, whose spaces belong to it."""
    inside: set[int] = set()
    for part in nodes(node):
        if isinstance(part, ast.JoinedStr) or (isinstance(part, ast.Constant) and isinstance(part.value, str | bytes)):
            first, last = part.lineno, part.end_lineno or part.lineno
            if first < last and any(quotes in line for line in lines[first - 1 : last] for quotes in ('"""', "'''")):
                inside.update(range(first + 1, last + 1))
    return inside


def _comment_above(node: FunctionNode, lines: list[str]) -> list[str]:
    """Return the lines of the comment that ends in the line above a function."""
    number = _first_line(node) - 1
    start = number
    while start > 0 and lines[start - 1].strip().startswith("#"):
        start -= 1
    return lines[start:number]


def _is_empty(statement: ast.stmt) -> bool:
    """Return whether a statement does nothing, or says that nothing is done."""
    match statement:
        case ast.Pass() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Raise(exc=ast.Name(id="NotImplementedError") | ast.Call(func=ast.Name(id="NotImplementedError"))):
            return True
    return False


def _is_test_file(file: ModuleFile) -> bool:
    *parents, stem = file.name.split(".")
    return bool(_TESTS & set(parents)) or stem == "conftest" or stem.startswith("test_") or stem.endswith("_test")
