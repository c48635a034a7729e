"""The walk to an own adapter in docs/training.md, command by command, on the demo checkpoint and a small domain."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from polyvec.cli import main
from polyvec.evaluate.results import results
from polyvec.evaluate.runs import Run
from polyvec.synthetic import pages, words, world
from recipes.own_adapter import __main__ as recipe

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").partition("## An adapter of your own")[2]
SECTION = GUIDE.partition("## The demo checkpoint")[0]
CARDS = 6  # of a file


def _ticket(question, rng):
    """Write a question as the people of this domain do: other facts than those that they look for stand before it."""
    person, place = (str(world.pick(choices, rng)) for choices in (words.FAMILY_NAMES, words.PLACES))
    team, product = (str(world.pick(choices, rng)) for choices in (words.DEPARTMENTS, words.PRODUCTS))
    return f"Ticket from {person}, {team}, {place}, about {product}: {question}"


def _domain(folder, n_files, rng):
    folder.mkdir()
    lines = ["query\tpdf\tpage"]
    for number in range(n_files):
        cards = []
        for page in range(1, CARDS + 1):
            question, passage = world.text_pair(rng)
            cards.append(pages.statement_image(passage, rng))
            lines += [f"{_ticket(question, rng)}\tbox-{number}.pdf\t{page}" for _ in range(2)]
        cards[0].save(folder / f"box-{number}.pdf", save_all=True, append_images=cards[1:], resolution=150)
    (folder / "questions.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A working directory with the two folders and the run file of the walk."""
    rng = np.random.default_rng(20)
    _domain(tmp_path / "reports", 10, rng)
    _domain(tmp_path / "unseen", 5, rng)
    run = re.search(r"```toml\n(.*?)```", SECTION, re.S)[1]
    assert run == (recipe.FOLDER / "my-domain.toml").read_text(encoding="utf-8")
    run = run.replace("jinaai/jina-embeddings-v4", "demo").replace("steps = 300", "steps = 15")
    run = run.replace("images = 16", "images = 8").replace("hard_negatives = 3", "hard_negatives = 1")
    run = run.replace("learning_rate = 5e-5", "learning_rate = 4e-3").replace("chunk_tokens = 3116", "")
    (tmp_path / "my-domain.toml").write_text(run.replace("activation_checkpointing = true", ""), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _commands():
    for block in re.findall(r"```bash\n(.*?)```", SECTION, re.S):
        for line in block.replace("\\\n", "").splitlines():
            if line.startswith("polyvec ") and not line.startswith("polyvec data "):  # building.md's test has these
                yield [part.replace("jinaai/jina-embeddings-v4", "demo") for part in shlex.split(line)[1:]]


def test_the_walk_improves_the_search_of_files_that_training_did_not_see(desk):
    printed = {}
    for arguments in _commands():
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, (arguments, result.output, result.exception)
        printed[" ".join(arguments[:2])] = result.output
    assert "60 queries" in printed["evaluate --compare"]
    for mode in ("dense", "late"):
        before, after = (_ndcg(Run.load(desk / name), mode) for name in ("before.json", "after.json"))
        assert after > before + 0.05, (mode, before, after)
    assert "my-domain" in printed["search cost of the library in Hanoi"]


def _ndcg(run, mode):
    (mean,) = (row.values["ndcg@10"].mean for row in results(run, ks=[10]) if row.kind == mode)
    return mean


def test_the_guide_has_the_arithmetic_of_the_recipe():
    assert recipe.report() in SECTION
