"""What `make docs` shows, seen without a build: each page is in the navigation, each public name in the reference."""

import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.md"))
SITE = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def documented(monkeypatch):
    """The public names by the modules at which they are documented."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    for name in ("exports", "reference"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import reference

    return reference.documented()


def pages(entry):
    """The pages in a part of the navigation."""
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in pages(part)]


def test_every_page_is_in_the_navigation_once():
    listed = pages(SITE["nav"])
    assert len(listed) == len(set(listed))
    assert all((ROOT / page).is_file() for page in listed)
    written = {file.relative_to(ROOT).as_posix() for file in (ROOT / "docs").rglob("*.md")}
    assert written | {"README.md", "CHANGELOG.md", "CONTRIBUTING.md"} <= set(listed)


def test_the_reference_lists_every_module_with_public_names_once(documented):
    listed = Counter(
        module for page in REFERENCE for module in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)
    )
    assert listed == Counter(documented.keys())


def test_a_public_name_is_documented_where_users_import_it_from(documented):
    assert {"Embedder", "Encoder"} <= documented["polyvec"]  # one is imported late
    assert "Embedder" not in documented["polyvec.embedder"]
    assert {"ChunkOptions"} <= documented["polyvec.encoder"]  # `polyvec` does not export it
    assert "ChunkOptions" not in documented["polyvec.embedder"]
    assert "UnstoredItems" in documented["qdrant_polyvec"] & documented["langchain_polyvec"]
    assert "qdrant_polyvec.errors" not in documented  # the package exports all of it
