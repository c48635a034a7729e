import re
import shlex
import tomllib

import pytest
from click.testing import CliRunner
from huggingface_hub import DatasetCard

from polyvec.data.__main__ import data
from polyvec.data.building.material import About, CorpusItem, Query
from polyvec.data.building.output.card import Counts, card, front_matter, without_front_matter
from polyvec.data.building.output.writing import write_dataset
from polyvec.evaluate.command import evaluate_command
from polyvec.train.__main__ import train

COMMANDS = {"data": data, "evaluate": evaluate_command, "train": train}
WORDS = ("red apples", "green pears", "blue plums", "ripe figs")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_commands_of_a_card_run(tmp_path, monkeypatch):
    """But for the number of steps and the size of batches."""
    monkeypatch.chdir(tmp_path)
    items = [CorpusItem(word, f"{word} are in the garden", language="en") for word in WORDS]
    queries = [Query(f"q {word}", f"where are {word}?", {word: 1}, language="en") for word in WORDS]
    write_dataset([*items, *queries], tmp_path / "the fruits", About("fruits"))
    card = (tmp_path / "the fruits" / "README.md").read_text("utf-8")
    run = re.search(r"```toml\n# run.toml\n(.*?)```", card, re.S)[1].replace("steps = 1000", "steps = 1")
    assert tomllib.loads(run)["sources"] == [{"path": "the fruits"}]
    (tmp_path / "run.toml").write_text(f"{run}\n[batch]\ntexts = 4\n", encoding="utf-8")
    lines = re.search(r"```bash\n(.*?)```", card, re.S)[1].splitlines()
    assert len(lines) == 4
    for line in lines:
        _, name, *arguments = shlex.split(line)
        result = CliRunner().invoke(COMMANDS[name], arguments)
        assert result.exit_code == 0, (line, result.output, result.exception)
    assert (tmp_path / "the fruits.html").is_file()


@pytest.mark.parametrize(
    ("n", "size"), [(999, "n<1K"), (1000, "1K<n<10K"), (999_999, "100K<n<1M"), (2_000_000, "n>1M")]
)
def test_front_matter_has_the_size_and_what_is_searched(n, size):
    counts = Counts()
    counts.documents["en", "function"] = n
    text = front_matter(About("a: b"), counts)
    assert f"- {size}\n" in text
    assert "- text-retrieval\n" in text
    assert "license" not in text
    assert without_front_matter(f"{text}\n# a") == (text.split("\n")[1:-2], "\n# a")
    assert without_front_matter("# a") == ([], "# a")


def test_a_card_is_read_whatever_its_names_are():
    name = 'a\x7fb\x80c\ufffed: "e\\f'
    read = DatasetCard(card(About(name, licence=name), Counts(), name))
    assert (read.data.pretty_name, read.data.license_name) == (name, name)
    settings = tomllib.loads(re.search(r"```toml\n(.*?)```", read.text, re.DOTALL)[1])
    assert settings["sources"][0]["path"] == name
