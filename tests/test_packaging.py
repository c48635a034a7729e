"""What only shows once the packages are put together."""

import ast
import re
import runpy
import tomllib
from importlib import import_module
from importlib.metadata import packages_distributions, version
from itertools import product
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = sorted((ROOT / "packages").iterdir())
EXTRAS = re.compile(r"([a-z][a-z-]+)\[([a-z][a-z,-]*)\]")


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


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_the_page_of_a_package_on_an_index_has_absolute_links_only(package):
    text = re.sub(r"```.*?```", "", (package / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [*re.findall(r"\]\(([^)]+)\)", text), *re.findall(r"(?:src|href)=\"([^\"]+)", text)]
    assert [link for link in links if not re.match(r"https://", link)] == []


@pytest.mark.parametrize(
    ("module", "distribution"),
    [("polyvec", "polyvec"), ("qdrant_polyvec", "qdrant-polyvec"), ("langchain_polyvec", "langchain-polyvec")],
)
def test_a_package_knows_its_version(module, distribution):
    assert import_module(module).__version__ == version(distribution)


def libraries(distribution, extra):
    """The distributions that an extra installs, through extras of other packages of this repository, too."""
    (own,) = (project(package) for package in PACKAGES if project(package)["name"] == distribution)
    for requirement in map(Requirement, own["optional-dependencies"][extra]):
        yield canonicalize_name(requirement.name)
        for inner in requirement.extras:
            yield from libraries(requirement.name, inner)
        if requirement.name in {project(package)["name"] for package in PACKAGES}:
            (needed,) = (project(package) for package in PACKAGES if project(package)["name"] == requirement.name)
            yield from (canonicalize_name(Requirement(name).name) for name in needed["dependencies"])


def named_extras(text):
    return [(name, extra) for name, extras in EXTRAS.findall(text) for extra in extras.split(",")]


def words(node):
    """All texts of a piece of code."""
    constants = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant))
    return "".join(value for value in constants if isinstance(value, str))


def test_every_extra_that_is_named_exists():
    known = {
        (project(package)["name"], extra) for package in PACKAGES for extra in project(package)["optional-dependencies"]
    }
    pages = [*PAGES, *(package / "README.md" for package in PACKAGES)]
    named = {}
    for path in [*pages, *(ROOT / "packages").glob("*/src/**/*.py")]:
        for line in path.read_text(encoding="utf-8").splitlines():
            if "pip install" in line:
                named |= dict.fromkeys(named_extras(line), f"{path.relative_to(ROOT)}: {line.strip()}")
    assert len(named) > 10
    assert {extra: where for extra, where in named.items() if extra not in known} == {}


def imported(nodes):
    """The top-level packages of others that statements import."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from {name.partition(".")[0] for name in names} - {"polyvec", "llama_index"}


def test_an_error_names_the_extra_that_brings_what_is_missing():
    homes = packages_distributions()
    checked = 0
    for path in (ROOT / "packages").glob("*/src/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Try):
                extras = [extra for handler in node.handlers for extra in named_extras(words(handler))]
                for module, (distribution, extra) in product(imported(node.body), extras):
                    checked += 1
                    where = f"{path.relative_to(ROOT)}:{node.lineno}: {distribution}[{extra}] has no {module}"
                    assert {*map(canonicalize_name, homes.get(module, [module]))} & {*libraries(distribution, extra)}, (
                        where
                    )
    assert checked > 10
