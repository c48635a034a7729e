"""The blocks of the documents that no test runs whole: their commands are ones that exist, and their data can be read.

`test_docs.py` and `test_own_adapter.py` run the Python of all pages and the commands of the guides to evaluation and
training. Each other program has its reason here.
"""

import json
import re
import shlex
import tomllib
from importlib import import_module
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("packages/*/README.md"), *ROOT.glob("docs/*.md")]
NOT_RUN = {
    "pip": "needs a package index; test_packaging.py compares the extras with the packages",
    "git": "copies this repository",
    "make": "each target sets up an environment; test_makefile.py runs the demo's query",
    "docker": "needs Docker",
    "hf": "needs the network",
    "python": "makes an environment, or runs the reference's own code, which is not here",
    "cat": "writes the script of the reference",
    "du": "measures, see docs/production.md",
    "tar": "packs an index, see docs/production.md",
}


def blocks(language):
    for page in sorted(PAGES):
        for block in re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            yield page.relative_to(ROOT).as_posix(), block


def lines(block):
    """The commands of a block, each in one line, without variables in front and without the text that it is given."""
    alone = re.sub(r"(<<'(\w+)')\n.*?\n\2$", r"\1", block, flags=re.DOTALL | re.MULTILINE)
    joined = re.sub(r"\\\n\s*", "", alone)
    for line in re.split(r"\n|&& cd polyvec", joined):
        yield re.sub(r"^([A-Z_]+=\S+ )+", "", line)


COMMANDS = [
    (page, line)
    for page, block in blocks("bash")
    for line in lines(block)
    if line.strip() and Path(line.split()[0]).name not in NOT_RUN
]


def entry_point(name):
    for file in ROOT.glob("packages/*/pyproject.toml"):
        points = tomllib.loads(file.read_text(encoding="utf-8"))["project"].get("entry-points", {})
        if name in points.get("polyvec.commands", {}):
            module, _, attribute = points["polyvec.commands"][name].partition(":")
            return getattr(import_module(module), attribute)
    raise AssertionError(name)


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_command_of_a_page_exists_with_its_options(page, line):
    program, name, *arguments = shlex.split(line.partition(" > ")[0], comments=True)
    assert Path(program).name == "polyvec"
    command = entry_point(name)
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), arguments.pop(0))
        assert command is not None
    context = click.Context(command, info_name=name)
    values, _, _ = command.make_parser(context).parse_args(arguments)
    for option in command.params:
        if option.name in values and isinstance(option.type, click.Choice) and values[option.name] is not None:
            option.type_cast_value(context, values[option.name])


def test_the_data_of_the_pages_can_be_read():
    tables, rows = list(blocks("toml")), list(blocks("json"))
    assert tables
    assert rows
    for _, block in tables:
        assert tomllib.loads(block)
    for _, block in rows:
        assert all(isinstance(json.loads(line), dict) for line in block.splitlines())
