import importlib.util
import json

import pytest

from polyvec.evaluate.__main__ import compress_report


def run(arguments):
    with pytest.raises(SystemExit) as stop:
        compress_report(arguments)
    return stop.value.code


def test_the_command_line_prints_a_table_of_the_demo_world(capsys):
    assert run(["--limit", "4"]) == 0
    printed, progress = capsys.readouterr()
    lines = printed.splitlines()
    assert lines[0] == "demo world: 4 page images and a query for each; task retrieval, model demo"
    assert max(map(len, lines)) <= 100
    assert [line for line in lines if line.startswith("dense      256 float32 ")]
    assert [line for line in lines if "pooled by 3" in line]
    assert "Encoding" in progress


def test_the_command_line_reads_a_folder_and_gives_json(folder, tiny, capsys):
    (folder / "pages" / "red.png").write_bytes(b"no picture")
    arguments = [str(folder), "--model", str(tiny / "checkpoint"), "--json", "--k", "3"]
    assert run(arguments) == 0
    printed, messages = capsys.readouterr()
    report = json.loads(printed)
    assert report["k"] == 3
    assert report["title"].startswith(f"{folder.name!r}: 2 queries, 3 documents; task retrieval")
    assert list(report["left_out"]) == ["document 'd2'"]
    assert "left out: document 'd2': image file" in messages
    assert "note: 1 left out or not found: query 'q1': it has no relevant document" in messages
    assert {row["kind"] for row in report["rows"]} == {"dense", "late", "two-stage"}
    assert report["rows"][0].keys() == {"kind", "choice", "bytes_per_item", "ratio", "ndcg", "change"}


def test_without_scipy_pooled_tokens_are_left_out_with_a_note(monkeypatch, folder, tiny, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "scipy" else find(name, *rest))
    assert run([str(folder), "--model", str(tiny / "checkpoint")]) == 0
    printed, messages = capsys.readouterr()
    assert "pooled by" not in printed
    assert "pip install 'polyvec[pooling]'" in messages


@pytest.mark.parametrize("place", ["", "no\nfolder"], ids=["malformed", "missing"])
def test_bad_input_is_one_line_and_exit_code_2(folder, place, capsys):
    (folder / "corpus.jsonl").write_text("{\n", encoding="utf-8")
    assert run([str(folder / place)]) == 2
    printed, messages = capsys.readouterr()
    assert not printed
    assert messages.startswith("error: ")
    assert messages.count("\n") == 1


def test_a_model_that_is_not_there_is_exit_code_2(folder, capsys):
    assert run([str(folder), "--model", str(folder / "none")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("arguments", [["--limit", "0"], ["--k", "-1"], ["--limit", "x"], ["--task", "cooking"]])
def test_wrong_usage_is_exit_code_2(arguments):
    assert run(arguments) == 2
