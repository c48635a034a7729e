import json
import re

import pytest
from click.testing import CliRunner
from PIL import Image

from polyvec.data.__main__ import data

MODEL = """
def ask(image, prompt):
    if "Query: " in prompt:
        return "yes"
    if "Schafe" in prompt:
        return '["Wie viele Schafe leben seit dem Jahr 1950 in Wales?"]'
    return "This is no list."

text = "no model"
"""


@pytest.fixture
def desk(tmp_path, monkeypatch):
    page = Image.new("RGB", (60, 60), "white")
    page.paste("black", (10, 10, 50, 30))
    (tmp_path / "pages").mkdir()
    page.save(tmp_path / "pages" / "a.png")
    (tmp_path / "my_sheep_model.py").write_text(MODEL)
    (tmp_path / "prompts.toml").write_text("question = 'Frage {n}-mal nach Schafe in {language}.'")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(data, ["pages", "pages", "--output", "built", *arguments])


ASK = ("--ask", "my_sheep_model:ask", "--kind", "question")


def test_a_dataset_is_built_and_its_cost_printed(desk):
    result = run(*ASK, "--language", "de", "--prompts", "prompts.toml")
    assert result.exit_code == 0, result.output
    assert "files: 1, pages: 1; calls to make: 1 to 4; answers in the cache: 0" in result.output
    assert "Asking" in result.output
    assert " items" not in result.output  # no second bar
    assert re.search(r"calls: 2, \d\.\d\d s each \(failed: 0, tried again: 0\); .* tokens: not told", result.output)
    (query,) = (json.loads(line) for line in (desk / "built" / "queries.jsonl").read_text("utf-8").splitlines())
    assert query["text"] == "Wie viele Schafe leben seit dem Jahr 1950 in Wales?"
    assert (desk / "built.answers.sqlite").exists()
    again = run(*ASK, "--language", "de", "--prompts", "prompts.toml", "--overwrite")
    assert "calls to make: 0; answers in the cache: 2" in again.output
    assert "calls: 0 (" in again.output


def test_a_dry_run_calls_nothing(desk):
    result = run(*ASK, "--dry-run")
    assert (result.exit_code, result.output) == (
        0,
        "files: 1, pages: 1; calls to make: 1 to 4; answers in the cache: 0\n",
    )
    assert not (desk / "built").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ask", "my_sheep_model"), "names nothing in a module; give one such as my_model:ask"),
        (("--ask", "no_such_module:ask"), "No module named 'no_such_module'"),
        (("--ask", "my_sheep_model:other"), "no attribute 'other'"),
        (("--ask", "my_sheep_model:text"), "`ask` is a str"),
        ((*ASK, "--prompts", "pages/a.png"), "prompts cannot be read from 'pages/a.png'"),
        ((*ASK, "--language", "xx"), "known codes"),
    ],
)
def test_mistakes_are_said_in_a_line(desk, arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_prompts_are_checked(desk):
    for content, message in (
        ("question = 3", "'question' must be a text"),
        ("answerable = 'Is it?'", "lacks the placeholder"),
    ):
        (desk / "prompts.toml").write_text(content)
        assert message in run(*ASK, "--prompts", "prompts.toml").output
