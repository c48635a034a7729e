import json
import sys

import pytest
from PIL import Image

from polyvec.analyze.__main__ import analyze_command
from polyvec.model.checkpoint import Checkpoint
from polyvec.train.output.export import export_adapter


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        analyze_command(list(map(str, arguments)))
    return stop.value.code


def test_the_demo_world_shows_the_cone_and_the_gap_of_untrained_towers(capsys):
    assert run("--model", "untrained", "--limit", 12, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    (panel,) = report["panels"]
    assert report["title"].startswith("demo world: 12 images, ")
    assert (panel["model"], panel["mode"], panel["n_images"], panel["seed"]) == ("untrained", "dense", 12, 0)
    assert panel["spread"]["image_cosine"] > 0.9
    assert panel["spread"]["text_cosine"] > 0.5
    assert panel["gap"]["l2m"] > 1
    assert panel["gap"]["rmg"] > 0.8
    assert panel["gap"]["separability"] == 1
    assert 0.3 < panel["cone"]["auc"] < 0.7
    assert panel["matched"]["nearer_unrelated"] == 1
    assert panel["mixed"]["top_images"] == 0


def test_the_demo_checkpoint_beside_the_contrast(capsys):
    assert run("--model", "demo", "--model", "untrained", "--limit", 6) == 0
    printed, _ = capsys.readouterr()
    lines = printed.splitlines()
    assert lines[0].startswith("demo world: 6 images, ")
    assert lines[2].split() == ["demo", "untrained"]
    assert max(map(len, lines)) <= 100
    (row,) = (line.split() for line in lines if line.startswith("AUC"))
    assert float(row[-2]) > 0.95 > float(row[-1])


def test_a_task_of_an_adapter_is_analyzed(tiny, captions_file, tmp_path, capsys):
    adapter = tmp_path / "my-adapter"
    export_adapter(Checkpoint(tiny / "checkpoint"), "retrieval", adapter)
    options = [captions_file, "--model", tiny / "checkpoint", "--device", "cpu", "--json"]
    panels = []
    for more in ([], ["--adapter", f"legal={adapter}", "--task", "legal"]):
        assert run(*options, *more) == 0
        panels.append(json.loads(capsys.readouterr().out)["panels"])
    assert run(*options, "--adapter", f"legal={adapter}") == 2
    assert "give `--task legal`" in capsys.readouterr().err
    assert panels[1][0]["gap"]["l2m"] == pytest.approx(panels[0][0]["gap"]["l2m"], abs=1e-5)


def test_a_file_with_figures_and_maps(captions_file, tiny, tmp_path, capsys):
    (captions_file.parent / "red.png").write_bytes(b"no picture")
    output = tmp_path / "new" / "folder"
    arguments = ["--model", tiny / "checkpoint", "--model", "untrained", "--late", "--output", output]
    assert run(captions_file, *arguments, "--template", "a {}", "--seed", 5) == 1
    printed, messages = capsys.readouterr()
    assert "left out by untrained: image 'red.png': image file" in messages
    assert "note: untrained makes no multi-vectors" in messages
    assert "mean of matched pairs, seed 5" in printed
    files = {path.name for path in output.iterdir()}
    figures = {f"{name}.{suffix}" for name in ("gap", "cone", "map") for suffix in ("png", "svg")}
    assert figures < files
    assert {"analysis.json", "map-untrained-dense.parquet"} < files
    assert len([name for name in files if name.endswith("checkpoint-late.parquet")]) == 1
    report = json.loads((output / "analysis.json").read_text(encoding="utf-8"))
    assert [panel["mode"] for panel in report["panels"]] == ["dense", "late", "dense"]
    assert list(report["left_out"]["untrained"]) == ["image 'red.png'", "text 'text 0'", "text 'text 1'"]
    with Image.open(output / "gap.png") as picture:
        assert picture.width > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv"], "error: 'none.csv' is no folder and no .csv or .jsonl file"),
        (["--template", "x"], "error: `template` is 'x'"),
        (["--rate", "0.0001"], "error: a false-positive rate of 0.0001 needs 100,000 unmatched pairs"),
        (["--task", "cooking"], "error: "),
        (["--model", "./none"], "error: `model` is './none': no such directory"),
    ],
)
def test_what_cannot_be_analyzed_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert run("--model", "untrained", "--limit", 3, *arguments) == 2
    printed, messages = capsys.readouterr()
    assert not printed
    assert messages.splitlines()[-1].startswith(message)
    assert "Encoding" not in messages


@pytest.mark.parametrize("name", ["matplotlib", "pyarrow"])
def test_a_missing_library_is_reported_before_anything_is_encoded(name, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    assert run("--model", "untrained", "--output", tmp_path / "out") == 2
    printed = capsys.readouterr().err
    assert f"{name}: pip install 'polyvec[evaluate]'" in printed
    assert "Encoding" not in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["--limit", 1], ["--k", 0], ["--rate", "x"], ["--rate", 1], ["--pairs", 1]])
def test_wrong_usage_is_exit_code_2(arguments):
    assert run(*arguments) == 2


def test_a_report_is_written(captions_file, tmp_path, capsys):
    assert run(captions_file, "--model", "untrained", "--html", tmp_path / "report.html") == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "5 of 5 images have pictures here." in text
    assert "something green" in text
    assert run(captions_file, "--model", "untrained", "--html", tmp_path / "gone" / "report.html") == 2
    assert "cannot be written" in capsys.readouterr().err
