import importlib.util
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

import polyvec
from polyvec.data.folders import Dataset, read_folder
from polyvec.evaluate.folder_command import evaluate_command
from polyvec.evaluate.searches import evaluate
from polyvec.testing import HashEncoder


@pytest.fixture(autouse=True)
def encoder(monkeypatch):
    made = HashEncoder()
    monkeypatch.setattr(polyvec.Embedder, "from_pretrained", classmethod(lambda cls, model, **loading: made))
    return made


def run(*arguments):
    return CliRunner().invoke(evaluate_command, [str(argument) for argument in arguments])


def test_a_folder_is_evaluated(folder):
    result = run(folder, "--no-storage", "--k", 1, "--k", 3)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"'{folder.name}': 2 queries, 3 documents; task retrieval, encoder hash-64-32")
    assert [line.split()[0] for line in lines[4:10]] == ["dense", "late", "two-stage", "hybrid", "text", "text"]
    assert "nDCG 2^g@3" in result.stdout, "a grade is 2"
    assert "1 left out or not found: query 'q1': it has no relevant document" in result.stdout


def test_json_and_markdown(folder):
    content = json.loads(run(folder, "--mode", "dense", "--json").stdout)
    assert {row["kind"] for row in content["rows"]} == {"dense", "text"}
    assert content["rows"][0]["values"].keys() >= {"ndcg@5", "ndcg_exp@10", "map@10"}
    assert content["settings"]["model"] == "demo"
    assert "| dense | 64 float32 |" in run(folder, "--mode", "dense", "--no-storage", "--markdown").stdout


def test_a_task_of_an_adapter_is_evaluated(folder, tmp_path, encoder):
    (tmp_path / "my-adapter").mkdir()
    options = ["--mode", "dense", "--no-storage", "--no-baselines", "--json", "--task", "legal"]
    assert "`task` is 'legal'; this model knows" in run(folder, *options).stderr
    idle = run(folder, "--adapter", f"legal={tmp_path / 'my-adapter'}").stderr
    assert "the adapter 'legal' is not used, because `--task` is 'retrieval'; give `--task legal`" in idle
    content = json.loads(run(folder, *options, "--adapter", f"legal={tmp_path / 'my-adapter'}").stdout)
    assert content["settings"]["task"] == "legal"
    assert content["settings"]["adapters"] == f"legal={tmp_path / 'my-adapter'}"
    assert encoder.tasks[-1] == "legal"


def test_rankings_are_kept_and_compared(folder, tmp_path):
    for name, mode in (("a.json", "dense"), ("b.json", "late")):
        arguments = ["--mode", mode, "--no-storage", "--no-baselines", "--output", tmp_path / name]
        assert run(folder, *arguments).exit_code == 0
    result = run("--compare", tmp_path / "a.json", tmp_path / "b.json", "--k", 1)
    assert "late: float32 minus dense: 64 float32, 2 queries" in result.stdout
    content = json.loads(run("--compare", tmp_path / "a.json", tmp_path / "b.json", "--json").stdout)
    assert content["comparisons"][0]["differences"]["ndcg@5"].keys() == {"mean", "low", "high", "p", "p_holm"}
    assert run("--compare", tmp_path / "a.json", tmp_path / "b.json", "--k", 50).exit_code == 2


def test_reports_are_written(folder, tmp_path):
    for name, mode in (("a", "dense"), ("b", "late")):
        arguments = ["--mode", mode, "--no-storage", "--no-baselines", "--output", tmp_path / f"{name}.json"]
        assert run(folder, *arguments, "--html", tmp_path / f"{name}.html", "--worst", 1).exit_code == 0
    report = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "data:image/jpeg" in report
    assert '"tokens":["apples"]' in report or '"tokens":["pears"]' in report
    compared = ["--compare", tmp_path / "a.json", tmp_path / "b.json", "--html", tmp_path / "c.html"]
    for arguments, has_pictures in (([folder, *compared], True), (compared, False)):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        assert "late: float32 minus dense: 64 float32" in result.stdout
        assert ("There are no pictures" in (tmp_path / "c.html").read_text(encoding="utf-8")) is not has_pictures


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("option", ["--output", "--html"])
def test_a_full_disk_loses_no_results(folder, option):
    result = run(folder, "--mode", "dense", "--no-storage", option, "/dev/full")
    assert result.exit_code == 2
    assert "64 float32" in result.stdout
    assert "'/dev/full' cannot be written: No space left" in result.stderr


def test_embeddings_are_kept(folder, tmp_path, encoder, monkeypatch):
    options = ["--mode", "dense", "--no-storage", "--no-baselines", "--cache", tmp_path / "cache.db", "--json"]
    first = json.loads(run(folder, *options).stdout)
    monkeypatch.setattr(HashEncoder, "_outcome", lambda *_: pytest.fail("it is encoded again"))
    assert json.loads(run(folder, *options).stdout)["rows"][0]["values"] == first["rows"][0]["values"]


def test_without_multivectors_only_dense_vectors_are_searched(folder, encoder):
    encoder.multivector_dim = 0
    kinds = [row["kind"] for row in json.loads(run(folder, "--no-storage", "--json").stdout)["rows"]]
    assert kinds == ["dense", "text", "text"]


def test_a_reader_of_pages_is_imported(folder, tmp_path, monkeypatch):
    (tmp_path / "my_ocr.py").write_text("def read(image):\n    return 'pears'\n")
    monkeypatch.syspath_prepend(tmp_path)
    options = ["--mode", "dense", "--no-storage", "--output", tmp_path / "run.json", "--read-pages"]
    assert run(folder, *options, "my_ocr:read").exit_code == 0
    searches = {search["choice"]: search for search in json.loads((tmp_path / "run.json").read_text())["searches"]}
    assert searches["BM25"]["rankings"]["q0"].keys() == {"d1", "d2"}
    for name in ("my_ocr", "my_ocr:write", "no_ocr:read"):
        assert run(folder, *options, name).exit_code == 2


def test_a_hybrid_search_without_texts_is_refused_before_anything_is_encoded(encoder, monkeypatch):
    monkeypatch.setattr(HashEncoder, "_outcome", lambda *_: pytest.fail("it is encoded"))
    pictures = Dataset("pictures", {"q": "a"}, {"d": Image.new("RGB", (28, 28))}, [{0: 1}])
    with pytest.raises(ValueError, match="'hybrid', but no document has a text"):
        evaluate(encoder, pictures, task="retrieval", modes=["dense", "hybrid"])


def test_a_reader_that_breaks_is_noticed_before_anything_is_encoded(folder, encoder, monkeypatch):
    monkeypatch.setattr(HashEncoder, "_outcome", lambda *_: pytest.fail("it is encoded"))
    with pytest.raises(TypeError, match="`read_page` returned 3 for document 'd2'"):
        evaluate(encoder, read_folder(folder), task="retrieval", read_page=lambda _: 3)


def test_what_cannot_be_read_is_said_and_gives_exit_code_1(folder):
    (folder / "pages" / "red.png").write_bytes(b"no picture")
    result = run(folder, "--mode", "dense", "--no-storage")
    assert result.exit_code == 1
    assert "1 left out or not found: document 'd2': image file" in result.stdout


@pytest.mark.parametrize("arguments", [[], ["FOLDER", "--compare", "a", "b"], ["FOLDER", "--k", "0"], ["nowhere"]])
def test_wrong_usage_is_exit_code_2(folder, arguments):
    result = run(*[str(folder) if argument == "FOLDER" else argument for argument in arguments])
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--compare", "a", "b", "--output", "c"], "--output does not go with --compare"),
        (["--compare", "a", "b", "--mode", "late"], "--mode does not go with --compare"),
        (["FOLDER", "--collection", "docs", "--mode", "late", "--cache", "c"], "--cache does not go with --collection"),
        (["FOLDER", "--location", "index"], "--location does not go with a folder alone"),
        (["FOLDER", "--output", "gone/run.json"], "'gone/run.json' cannot be written"),
        (["FOLDER", "--output", "FOLDER"], "cannot be written"),
        (["FOLDER", "--html", "gone/report.html"], "'gone/report.html' cannot be written"),
        (["FOLDER", "--output", "FOLDER/a", "--html", "FOLDER/qrels/../a"], "is named twice"),
        (["--compare", "a", "b", "--html", "b"], "'b' is named twice"),
        (["FOLDER", "--worst", "3"], "--worst does not go with a run without --html"),
        (["--compare", "a", "b", "--html", "c", "--language", "en"], "--language does not go with --compare"),
    ],
)
def test_what_nothing_obeys_or_nothing_can_write_is_refused(folder, encoder, monkeypatch, options, message):
    monkeypatch.setattr(HashEncoder, "_outcome", lambda *_: pytest.fail("it is encoded"))
    result = run(*[option.replace("FOLDER", str(folder)) for option in options])
    assert result.exit_code == 2
    assert message in result.stderr


def test_grades_and_libraries_are_checked_before_anything_is_encoded(folder, encoder, monkeypatch):
    monkeypatch.setattr(HashEncoder, "_outcome", lambda *_: pytest.fail("it is encoded"))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pytrec_eval", None)
        assert "pip install 'polyvec[evaluate]'" in run(folder).stderr
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td1\t0.5\n")
    result = run(folder)
    assert result.exit_code == 2
    assert "the grade of document 'd1' for query 'q0' is 0.5" in result.stderr


def test_a_collection_needs_a_mode(folder):
    result = run(folder, "--collection", "docs")
    assert result.exit_code == 2
    assert "name the mode" in result.stderr


def test_rows_that_need_scipy_are_said_to_be_missing(folder, monkeypatch):
    spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "scipy" else spec(name))
    assert "no rows of pooled tokens, because scipy is not installed" in " ".join(run(folder).stdout.split())
    assert "pooled tokens" not in run(folder, "--no-storage").stdout
    assert "pooled tokens" not in run(folder, "--mode", "dense").stdout
