"""Hard negatives that `polyvec.train` mines with a collection."""

import json
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner

import polyvec
from polyvec import pdf
from polyvec import search as searches
from polyvec.testing import HashEncoder
from polyvec.train import commands
from polyvec.train.data.examples import Example, PdfPage
from polyvec.train.selection.mining import mine_negatives
from polyvec.train.selection.negatives import Selection
from polyvec.train.selection.searching import EncoderSearch
from qdrant_polyvec import Collection, Item

FRUIT = {
    "1": "red apple pie",
    "2": "red apple tree",
    "3": "green pear tree",
    "4": "red plum",
    "5": "the moon",
}
ROWS = [Example("red apple", ("red apple pie",)), Example("pear tree", ("green pear tree",))]
PYPROJECT = Path(__file__).parents[2] / "packages" / "qdrant" / "pyproject.toml"


@pytest.fixture
def encoder():
    return HashEncoder(dim=512, multivector_dim=256)


@pytest.fixture
def collection(encoder):
    with Collection.open(":memory:", "docs", embedder=encoder) as opened:
        opened.add(list(FRUIT.values()), ids=list(FRUIT))
        yield opened


@pytest.mark.parametrize("mode", ["dense", "late", "two-stage"])
def test_a_collection_is_a_search_and_finds_what_memory_does(collection, encoder, mode):
    options = {"mode": mode, "ranks": (0, 9), "selection": Selection(per_query=2)}
    stored = list(mine_negatives(ROWS, collection, **options))
    memory = list(mine_negatives(ROWS, EncoderSearch(encoder, FRUIT), **options))
    for one, other in zip(stored, memory, strict=True):
        assert one.positive_score == pytest.approx(other.positive_score, rel=1e-3)
        assert [negative.document for negative in one.negatives] == [negative.document for negative in other.negatives]
        assert [negative.score for negative in one.negatives] == pytest.approx(
            [negative.score for negative in other.negatives], rel=1e-3, abs=1e-3
        )
    assert stored[1].negatives[0].id == "2"


def test_images_and_pages_in_a_collection_are_files_again(collection, pictures, report):
    pages = [
        Item(page.image, source=str(report), unit=f"page {page.number}", metadata={"group": "reports"})
        for page in pdf.pages(report)
    ]
    collection.add([*pictures, *pages, "a report of another year"])
    rows = [Example("a page", (pictures[0],)), Example("another", (PdfPage(report, 1),))]
    everything = Selection(per_query=99, relative_margin=None)
    first, second = mine_negatives(rows, collection, ranks=(0, 99), selection=everything)
    mined = [negative.document for negative in first.negatives]
    assert {*pictures[1:], PdfPage(report, 1), PdfPage(report, 2)} <= set(mined)
    assert pictures[0] not in mined
    others = [negative.document for negative in second.negatives]
    assert not [document for document in others if isinstance(document, PdfPage)], "the file is the group"
    assert set(pictures) <= set(others)


def test_the_command_searches_a_collection(tmp_path, monkeypatch, encoder):
    declared = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["entry-points"]["polyvec.searches"]["qdrant"]
    monkeypatch.setattr(searches, "_entry_points", lambda: [EntryPoint("qdrant", declared, "polyvec.searches")])
    monkeypatch.setattr(polyvec.Embedder, "from_pretrained", classmethod(lambda cls, model, **loading: encoder))
    with Collection.open(tmp_path / "index", "docs", embedder=encoder) as opened:
        opened.add(list(FRUIT.values()), ids=list(FRUIT))
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"query": "pear tree", "document": "green pear tree"}) + "\n")
    arguments = ["--collection", "docs", "--location", tmp_path / "index", "--mode", "two-stage", "--range", "0:9"]
    output = ["--output", tmp_path / "mined.jsonl", "--per-query", "1", "--json"]
    result = CliRunner().invoke(commands.mine_command, [str(part) for part in (rows, *arguments, *output)])
    assert result.exit_code == 0, result.output
    (mined,) = map(json.loads, (tmp_path / "mined.jsonl").read_text().splitlines())
    assert mined["negatives"] == ["red apple tree"]
    assert mined["positive_score"] == pytest.approx(2, abs=0.01)
    arguments[3] = tmp_path / "nowhere"
    result = CliRunner().invoke(commands.mine_command, [str(part) for part in (rows, *arguments, *output)])
    assert result.exit_code == 2
    assert "there is no index in" in result.stderr
