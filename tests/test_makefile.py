"""The code query of `make demo` finds the function that it describes, as README.md promises."""

import json
import re
from pathlib import Path

from click.testing import CliRunner

from polyvec.cli import main

ROOT = Path(__file__).parent.parent


def test_the_code_query_of_the_demo_finds_the_function_that_it_describes(tmp_path):
    (query,) = re.findall(r'"(.+)" --task code', (ROOT / "Makefile").read_text(encoding="utf-8"))
    files = [str(file) for file in sorted((ROOT / "packages" / "qdrant" / "src" / "qdrant_polyvec").glob("[n-z]*.py"))]
    location = ["--location", str(tmp_path / "index")]
    indexed = CliRunner().invoke(main, ["index", *files, *location])
    assert indexed.exit_code == 0, indexed.output
    found = CliRunner().invoke(main, ["search", query, "--task", "code", "--json", *location])
    assert "def pooled(" in json.loads(found.stdout)["hits"][0]["content"]
