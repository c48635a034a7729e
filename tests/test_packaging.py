"""What only shows once the packages are put together."""

import ast
import re
import runpy
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = sorted((ROOT / "packages").iterdir())


def project(package):
    return tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_all_packages_have_one_version_and_one_licence():
    assert len({project(package)["version"] for package in PACKAGES}) == 1
    for package in PACKAGES:
        assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_every_package_is_typed():
    for package in PACKAGES:
        modules = {path.parent for path in (package / "src").rglob("__init__.py")}
        tops = {module for module in modules if module.parent not in modules}
        assert tops
        assert all((top / "py.typed").exists() for top in tops)  # a namespace's leaf, not the namespace


def test_torchvision_is_not_needed():
    for package in PACKAGES:
        assert not any("torchvision" in dependency for dependency in project(package)["dependencies"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)  # code has no links
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target


def test_a_statement_that_stands_twice_is_seen():
    duplicates = runpy.run_path(str(ROOT / "tools" / "duplicates.py"))["duplicates"]
    module = "WORDS = 'a'\n\nclass A:\n    n = 1\n    n = 2\n    n = 1\n\nWORDS = 'a'\nMORE = WORDS\n"
    assert list(duplicates(ast.parse(module))) == [(1, 8), (4, 6)]
