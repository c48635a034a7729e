"""Collections in a folder that `polyvec evaluate` measures."""

import json
import os
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner

import polyvec
from polyvec import pdf, search
from polyvec.data.folders import read_folder
from polyvec.evaluate.folder_command import evaluate_command
from polyvec.evaluate.results import results
from polyvec.evaluate.searches import evaluate, evaluate_search
from polyvec.testing import HashEncoder
from qdrant_polyvec import Collection, Item, Schema

PYPROJECT = Path(__file__).parents[2] / "packages" / "qdrant" / "pyproject.toml"


@pytest.fixture
def encoder():
    return HashEncoder(dim=512, multivector_dim=256)


@pytest.fixture
def fruit(tmp_path):
    """Five documents and three questions in the layout of BEIR."""
    texts = ["red apple pie", "red apple tree", "green pear tree", "red plum", "the moon"]
    queries = {"q0": "apple pie", "q1": "a pear", "q2": "tree"}
    folder = tmp_path / "fruit"
    (folder / "qrels").mkdir(parents=True)
    rows = {"corpus": dict(enumerate(texts)), "queries": queries}
    for name, contents in rows.items():
        lines = [json.dumps({"_id": str(key), "text": text}) for key, text in contents.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\t0\t1\nq1\t2\t1\nq2\t1\t1\nq2\t2\t1\n")
    return folder


@pytest.mark.parametrize("mode", ["dense", "late", "two-stage", "hybrid"])
def test_a_collection_measures_as_the_search_in_memory(fruit, encoder, mode):
    dataset = read_folder(fruit)
    with Collection.open(":memory:", "docs", embedder=encoder, schema=Schema(bm25="english")) as docs:
        docs.add(list(dataset.documents.values()), ids=list(dataset.documents))
        stored = evaluate_search(docs, dataset, mode=mode, task="retrieval", depth=5)
    memory = evaluate(encoder, dataset, task="retrieval", modes=[mode], storage=False, baselines=False, depth=5)
    (one,), (other,) = (results(run, ks=[3], n_resamples=20) for run in (stored, memory))
    assert one.values["ndcg@3"].mean == pytest.approx(other.values["ndcg@3"].mean) == 1
    assert one.kind == other.kind == mode


@pytest.mark.parametrize("name", [str, os.path.relpath, Path.as_uri])
def test_pages_of_pdf_files_are_known_by_file_and_page(tmp_path, report, encoder, name):
    (tmp_path / "questions.csv").write_text("question,file,page\nWhat?,report.pdf,2\n")
    dataset = read_folder(tmp_path)
    with Collection.open(":memory:", "docs", embedder=encoder) as docs:
        pages = [Item(page.image, source=name(report), unit=f"page {page.number}") for page in pdf.pages(report)]
        docs.add(pages)
        run = evaluate_search(docs, dataset, mode="late", task="retrieval")
    assert run.searches[0].rankings["What?"].keys() == {"report.pdf#1", "report.pdf#2"}


def test_the_command_evaluates_a_collection(fruit, tmp_path, monkeypatch, encoder):
    declared = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["entry-points"]["polyvec.searches"]["qdrant"]
    monkeypatch.setattr(search, "_entry_points", lambda: [EntryPoint("qdrant", declared, "polyvec.searches")])
    monkeypatch.setattr(polyvec.Embedder, "from_pretrained", classmethod(lambda cls, model, **loading: encoder))
    dataset = read_folder(fruit)
    with Collection.open(tmp_path / "index", "docs", embedder=encoder) as opened:
        opened.add(list(dataset.documents.values()), ids=list(dataset.documents))
    arguments = [fruit, "--collection", "docs", "--location", tmp_path / "index", "--mode", "two-stage", "--json"]
    result = CliRunner().invoke(evaluate_command, [str(part) for part in arguments])
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["rows"]
    assert (row["kind"], row["choice"], row["values"]["ndcg@5"]["mean"]) == ("two-stage", "collection 'docs'", 1)
    arguments[2] = "gone"
    result = CliRunner().invoke(evaluate_command, [str(part) for part in arguments])
    assert result.exit_code == 2
    assert "there is no collection 'gone'" in result.stderr
