"""The command `polyvec` with the entry points of all packages, in new processes."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGES = sorted((Path(__file__).parent.parent / "packages").iterdir())
LARGE = {"torch", "transformers", "qdrant_client"}
RUN = f"""
import atexit, sys
from polyvec.cli import main
atexit.register(lambda: print("imported:", *sorted({LARGE} & {{*sys.modules}})))
main(prog_name="polyvec")
"""


def entry_points(package):
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project.get("entry-points", {}).get("polyvec.commands", {})


NAMES = sorted(name for package in PACKAGES for name in entry_points(package))


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Install the entry points of this state, whatever the installed packages say."""
    directory = tmp_path_factory.mktemp("installed")
    info = directory / "commands-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: commands\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for package in PACKAGES for name, value in entry_points(package).items()]
    (info / "entry_points.txt").write_text("\n".join(["[polyvec.commands]", *lines]))
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(directory), *filter(None, sys.path)])}


def run(environment, *arguments):
    """Run `polyvec`. Give the exit code, the output, the errors and the large libraries that it imported."""
    command = [sys.executable, "-c", RUN, *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    output, _, imported = result.stdout.rpartition("imported:")
    return result.returncode, output, result.stderr, imported.split()


def test_help_lists_every_command_and_imports_no_large_library(environment):
    code, output, _, imported = run(environment, "--help")
    assert (code, imported) == (0, [])
    for name in NAMES:
        (row,) = (line.split() for line in output.splitlines() if line.startswith(f"  {name} "))
        assert len(row) > 2
        assert "cannot be imported" not in output


@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_command_imports_no_large_library(environment, name):
    code, output, _, imported = run(environment, name, "-h")
    assert (code, imported) == (0, [])
    assert output.startswith(f"Usage: polyvec {name} ")


def test_an_unknown_command_imports_no_large_library(environment):
    code, _, errors, imported = run(environment, "searhc")
    assert (code, imported) == (2, [])
    assert "Did you mean 'search'?" in errors


@pytest.mark.parametrize(
    ("words", "suggestions"),
    [
        ("polyvec s", {"search", "show"}),
        ("polyvec index --d", {"--device", "--dtype", "--dpi"}),
        ("polyvec search --mode d", {"dense"}),
    ],
)
def test_completion_imports_no_large_library(environment, words, suggestions):
    completing = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1), "_POLYVEC_COMPLETE": "bash_complete"}
    _, output, _, imported = run(environment | completing)
    assert imported == []
    assert {line.removeprefix("plain,") for line in output.splitlines()} == suggestions


def test_the_qdrant_package_runs_as_a_module(environment):
    command = [sys.executable, "-m", "qdrant_polyvec", "verify", "--location", "nowhere"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: there is no index in 'nowhere'; make one with the command `index`\n"
