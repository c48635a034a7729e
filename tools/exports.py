"""Check that packages import only what other packages of this repository export in `__all__`."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> int:
    """Print every import past another package's `__all__`; 1 if there is one."""
    paths = dict(modules())
    trees = {name: ast.parse(path.read_text("utf-8")) for name, path in paths.items()}
    exports = {name: exported(tree) for name, tree in trees.items()}
    complaints = [
        f"{paths[importer].relative_to(ROOT)}:{line}: {complaint}"
        for importer, tree in trees.items()
        for line, complaint in _complaints(importer, tree, exports)
    ]
    for complaint in complaints:
        sys.stdout.write(f"{complaint}\n")
    return int(bool(complaints))


def modules() -> Iterator[tuple[str, Path]]:
    """The modules of all packages and their files."""
    for source in sorted(ROOT.glob("packages/*/src")):
        for path in sorted(source.rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            yield ".".join(part for part in parts if part != "__init__"), path


def _complaints(
    importer: str, tree: ast.Module, exports: dict[str, frozenset[str] | None]
) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for name in (alias.name for alias in node.names):
                submodule = f"{node.module}.{name}"
                if submodule in exports:
                    yield from _of_module(importer, submodule, node.lineno, exports)
                elif _past_exports(importer, node.module, name, exports):
                    yield node.lineno, f"{node.module} does not export {name!r} in `__all__`."
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from _of_module(importer, alias.name, node.lineno, exports)


def _past_exports(importer: str, module: str, name: str, exports: dict[str, frozenset[str] | None]) -> bool:
    foreign = module in exports and package(module) != package(importer)
    return foreign and name not in (exports[module] or ())


def _of_module(
    importer: str, module: str, line: int, exports: dict[str, frozenset[str] | None]
) -> Iterator[tuple[int, str]]:
    if module in exports and package(module) != package(importer) and exports[module] is None:
        yield line, f"{module} has no `__all__`: it is private to {package(module)}."


def package(module: str) -> str:
    """The distribution a module belongs to: its first name; the leaves of `llama_index` are one."""
    return module.partition(".")[0]


def exported(tree: ast.Module) -> frozenset[str] | None:
    """The `__all__` of a module, if it has one."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return frozenset(ast.literal_eval(node.value))
    return None


if __name__ == "__main__":
    sys.exit(main())
