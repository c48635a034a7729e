import json

import pytest
from click.testing import CliRunner

import polyvec
from polyvec.evaluate.command import evaluate_command
from polyvec.testing import HashEncoder


@pytest.fixture(autouse=True)
def encoder(monkeypatch):
    monkeypatch.setattr(polyvec.Embedder, "from_pretrained", classmethod(lambda cls, model, **loading: HashEncoder()))


def run(*arguments):
    return CliRunner().invoke(evaluate_command, [str(argument) for argument in arguments])


def test_a_folder_or_a_benchmark(folder):
    content = json.loads(run(folder, "--json", "--no-storage", "--k", 3).stdout)
    assert [row["kind"] for row in content["rows"]][:4] == ["dense", "late", "two-stage", "hybrid"]
    assert "ndcg@3" in content["rows"][0]["values"]
    rules = json.loads(run("--benchmark", "LongEmbed", "--rules", "--json", "--mode", "dense").stdout)
    assert list(rules["benchmarks"]) == ["LongEmbed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "LongEmbed", "--rules", "--k", "3"], "--k does not go with --benchmark"),
        (["--benchmark", "LongEmbed", "--rules", "folder"], "folder does not go with --benchmark"),
        (["folder", "--tasks", "a"], "--tasks does not go with FOLDER"),
        (["--benchmark", "LongEmbed", "--rules", "--mode", "hybrid"], "'hybrid' is not one of"),
        (["--benchmark", "LongEmbd"], "'LongEmbd' is not one of"),
        ([], "Give either FOLDER or --compare"),
    ],
)
def test_options_of_the_other_are_refused(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_help_names_the_options_of_both():
    text = run("--help").stdout
    assert "--baselines" in text
    assert "--xtd10" in text
    assert text.count("--model") == 1
