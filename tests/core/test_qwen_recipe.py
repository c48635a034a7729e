import pytest

from polyvec.model.config import ModelConfig
from polyvec.train.output.initialize import stock_config
from polyvec.train.runs.estimate import parameters
from polyvec.train.runs.run_file import read_run
from recipes.qwen_7b import __main__ as recipe


def test_the_readme_has_the_tables_of_the_command():
    assert recipe.report() in (recipe.FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_configuration_has_the_published_number_of_parameters():
    config: ModelConfig = stock_config(recipe.FOLDER)
    sizes = parameters(config)
    head = sizes.embeddings  # of the vocabulary, not tied to the embeddings and never loaded
    assert sizes.base - sizes.projector + head == 8_292_166_656
    assert config.matryoshka_dims == (128, 256, 512, 1024, 2048, 3584)


@pytest.mark.parametrize("name", recipe.RUNS)
def test_a_run_begins_with_the_result_of_the_one_before(name):
    run = read_run(recipe.FOLDER / f"{name}.toml")
    before = ("start", *recipe.RUNS)[recipe.RUNS.index(name)]
    assert (run.model, run.output) == (before, recipe.FOLDER / name)
    assert (run.phase, run.task) == (("pairs", "retrieval") if name == "pairs" else ("task", name))
