"""Which public names stand where in the API reference.

A public name stands in the `__all__` of its module. A name that a package exports from a module of its own is
documented at the package, where users import it from; every other name is documented at its module. All of this is read
from the source: neither torch nor a framework is imported.
"""

import ast
from collections.abc import Mapping
from functools import cache

from exports import exported, modules, package

Name = tuple[str, str]  # a module, and a name in it


@cache
def documented() -> dict[str, frozenset[str]]:
    """The names that the reference documents, by the module at which it does so."""
    trees = {module: ast.parse(path.read_text("utf-8")) for module, path in modules()}
    origins = {(module, name): origin for module, tree in trees.items() for name, origin in _imports(tree).items()}
    public = [(module, name) for module, tree in trees.items() for name in exported(tree) or ()]
    sources = {name: _source(name, origins) for name in public}
    names: dict[str, set[str]] = {}
    for (module, name), source in sources.items():
        parts = source[0].split(".")
        places = [".".join(parts[: length + 1]) for length in range(len(parts))]
        foreign = package(source[0]) != package(module)
        place = module if foreign else next((p for p in places if sources.get((p, name)) == source), module)
        names.setdefault(place, set()).add(name)
    return {module: frozenset(own) for module, own in names.items()}


def _imports(tree: ast.Module) -> dict[str, Name]:
    """What a module imports at its top, below `if TYPE_CHECKING` and where an extra may be missing, from where."""
    nested = (ast.If, ast.Try)
    statements = [part for node in tree.body for part in (node.body if isinstance(node, nested) else [node])]
    imports = [node for node in statements if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: (node.module or "", alias.name) for node in imports for alias in node.names}


def _source(name: Name, origins: Mapping[Name, Name]) -> Name:
    """The module that defines a name, and the name there, past all imports."""
    return _source(origins[name], origins) if name in origins else name
