"""Check that no module says the same twice: two equal statements at module or class level. No rule of ruff sees it."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("packages/*/src", "tests", "benchmarks", "recipes", "tools")


def main() -> int:
    """Print every statement that stands twice; 1 if there is one."""
    paths = sorted(path for folder in FOLDERS for place in ROOT.glob(folder) for path in place.rglob("*.py"))
    complaints = [
        f"{path.relative_to(ROOT)}:{line}: the statement of line {first} again."
        for path in paths
        for first, line in duplicates(ast.parse(path.read_text("utf-8")))
    ]
    for complaint in complaints:
        sys.stdout.write(f"{complaint}\n")
    return int(bool(complaints))


def duplicates(tree: ast.Module) -> Iterator[tuple[int, int]]:
    """Yield the lines of equal statements in the body of the module or of one of its classes."""
    for scope in ast.walk(tree):
        if isinstance(scope, ast.Module | ast.ClassDef):
            lines: dict[str, int] = {}
            for statement in scope.body:
                first = lines.setdefault(ast.dump(statement), statement.lineno)
                if first != statement.lineno:
                    yield first, statement.lineno


if __name__ == "__main__":
    sys.exit(main())
