import base64
import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import polyvec
from polyvec.explain import word_maps
from polyvec.model.checkpoint import Checkpoint, locate
from polyvec.testing import HashEncoder
from polyvec.train.output.export import export_adapter
from qdrant_polyvec import commands, open_client


class FakeEmbedder(HashEncoder):
    def tokens(self, text, *, task, side):
        assert side == "query"
        return [f" {word}" for word in text.split()]


@pytest.fixture
def loaded(monkeypatch):
    """Names of the models that were loaded, and their devices and dtypes; each model has its own fingerprint."""
    loaded = []

    def from_pretrained(model, *, device, dtype, revision, token_budget, max_pixels):
        loaded.append((model, device, dtype))
        return FakeEmbedder(dim=16, multivector_dim=8, name=f"{model}{revision or ''}{max_pixels or ''}")

    monkeypatch.setitem(vars(polyvec), "Embedder", types.SimpleNamespace(from_pretrained=from_pretrained))
    return loaded


@pytest.fixture
def folder(docs_folder, loaded):
    return docs_folder


def run(name, *arguments):
    """Run a command. Give its exit code, its output and its errors."""
    result = CliRunner().invoke(getattr(commands, name), [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def counts(table):
    """Parse a summary: the numbers of indexed, unchanged, removed and failed items by kind."""
    rows = table.partition("\nfiles: ")[0].splitlines()[1:]
    return {row.split()[0]: tuple(map(int, row.split()[1:])) for row in rows}


def test_indexing_and_searching(folder):
    code, out, err = run("index", "docs")
    assert code == 0
    assert out.splitlines()[0].split() == ["indexed", "unchanged", "removed", "failed"]
    assert counts(out) == {"text": (2, 0, 0, 0), "code": (1, 0, 0, 0), "image": (1, 0, 0, 0), "total": (4, 0, 0, 0)}
    assert "3/3" in err  # the progress bar: three files
    code, out, _ = run("search", "red fox", "--limit", 2)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["rank", "score", "task", "source"]
    assert lines[1].split() == ["1", "2.000", "retrieval", "docs/a.md:L1-2"]
    assert lines[2] == "      Fox: the red fox"
    assert len(lines) == 5
    assert counts(run("index", "docs")[1])["total"] == (0, 4, 0, 0)


def test_python_files_are_found_by_the_task_code(folder):
    run("index", "docs")
    _, out, _ = run("search", "red_fox", "--task", "code", "--mode", "dense")
    _, line, passage = out.splitlines()
    assert line.split()[2:] == ["code", "docs/b.py:L1-2"]
    assert passage == "      red_fox: def red_fox(): return 1"
    run("index", "docs", "--task", "text-matching")
    assert run("search", "fox", "--task", "text-matching")[1].count("text-matching") == 4
    assert run("search", "x", "--task", "code", "--collection", "docs")[0] == 0


def test_an_image_is_searched_for(folder):
    run("index", "docs")
    _, out, _ = run("search", "--image", "docs/c.png", "--limit", 1)
    assert out.splitlines()[1].split() == ["1", "2.000", "retrieval", "docs/c.png:image"]
    assert out.splitlines()[2] == "      (image)"


def test_a_changed_file_leaves_no_outdated_parts(folder):
    run("index", "docs")
    (folder / "docs" / "a.md").write_text("\n\n# Fox\nthe red fox\n")
    assert counts(run("index", "docs")[1]) == {
        "text": (1, 0, 0, 0), "code": (0, 1, 0, 0), "image": (0, 1, 0, 0), "other": (0, 0, 2, 0), "total": (1, 2, 2, 0),
    }  # fmt: skip
    assert "whale" not in run("search", "blue whale")[1]


def test_failures_are_listed_and_do_not_stop_the_rest(folder):
    (folder / "docs" / "bad.png").write_bytes(b"junk")
    code, out, err = run("index", "docs", "no.md")
    assert code == 1
    assert counts(out)["total"] == (4, 0, 0, 2)
    assert counts(out)["image"] == (1, 0, 0, 1)
    assert "failed: no.md: cannot be read" in err
    assert "failed: docs/bad.png: " in err


def test_a_name_that_is_no_unicode_is_a_failure_of_its_file(folder):
    for name in map(os.fsdecode, (b"docs/m\xe9moire.txt", b"docs/\xff/b.md")):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("a purple fox")
    code, out, err = run("index", "docs")
    assert (code, counts(out)["total"]) == (1, (4, 0, 0, 2))
    assert r"failed: docs/m\udce9moire.txt: its name is not Unicode" in err
    assert r"failed: docs/\udcff/b.md: its name is not Unicode" in err
    assert run("index", os.fsdecode(b"docs/m\xe9moire.txt"))[2].startswith(r"failed: docs/m\udce9moire.txt: its name")
    assert run("index", os.fsdecode(b"docs/\xe9"))[2].startswith(r"failed: docs/\udce9: its name")


def test_the_index_remembers_its_model(folder, loaded):
    run("index", "docs", "--model", "mine")
    run("search", "fox")
    run("index", "docs")
    assert [model for model, _, _ in loaded] == ["mine"] * 3
    code, _, err = run("search", "fox", "--model", "other")
    assert code == 2
    assert "error: Collection 'docs' was made by 'mine-16-8'" in err


def test_the_index_remembers_the_options_that_change_vectors(folder):
    run("index", "docs", "--max-pixels", "9000", "--revision", "v1", "--token-budget", "64")
    assert run("search", "fox")[0] == 0
    with contextlib.closing(open_client("index")) as client:
        metadata = client.get_collection("docs").config.metadata
    assert metadata["polyvec_loading"] == {"revision": "v1", "max_pixels": 9000}
    assert metadata["polyvec"]["embedder"] == "demov19000-16-8"
    code, _, err = run("search", "fox", "--max-pixels", "8000")
    assert (code, "this embedder is 'demov18000-16-8'" in err) == (2, True)
    assert run("reindex", "--model", "new", "--max-pixels", "7000")[0] == 0
    assert run("search", "fox")[0] == 0, "a new model with its own options"


@pytest.fixture
def adapter(folder):
    """A folder of an adapter, whose files the fake embedder does not read."""
    (folder / "my-adapter").mkdir()
    return folder / "my-adapter"


def found(*arguments):
    """Search; give the pairs of task and source of the hits."""
    code, out, err = run("search", *arguments, "--json")
    assert code == 0, err
    return {(hit["task"], hit["source"]) for hit in json.loads(out)["hits"]}


def test_the_index_remembers_its_adapters(folder, adapter, monkeypatch):
    code, out, _ = run("index", "docs", "--task", "my-domain", "--adapter", "my-domain=my-adapter")
    assert (code, counts(out)["total"]) == (0, (4, 0, 0, 0))
    assert counts(run("index", "docs", "--task", "my-domain")[1])["total"] == (0, 4, 0, 0)
    assert counts(run("index", "docs")[1])["code"] == (1, 0, 0, 0), "auto is what it was"
    monkeypatch.chdir(adapter)
    tasks = ["--task", "my-domain", "--task", "code"]
    assert found("red_fox", *tasks, "--mode", "dense", "--location", "../index") >= {
        ("my-domain", f"{folder}/docs/b.py"),
        ("code", f"{folder}/docs/b.py"),
    }


def test_an_adapter_belongs_to_its_model_and_is_given_anew_if_it_was_moved(folder, adapter):
    arguments = ["index", "docs", "--task", "my-domain", "--adapter"]
    run(*arguments, "my-domain=my-adapter")
    code, _, err = run("search", "fox", "--model", "other")
    assert code == 2
    assert f"made with demo and my-domain={adapter}; this call loads other and no adapter." in err
    moved = adapter.rename(folder / "moved")
    code, _, err = run("search", "fox")
    assert code == 2
    assert f"was made with the adapter 'my-domain' in {str(adapter)!r}, and this folder is gone" in err
    assert "--adapter my-domain=PATH" in err
    assert len(found("fox", "--task", "my-domain", "--adapter", f"my-domain={moved}")) == 3
    run(*arguments, "my-domain=moved")
    assert len(found("fox", "--task", "my-domain")) == 3


@pytest.mark.parametrize("command", [["search", "fox"], ["index", "docs"]])
def test_an_index_that_was_made_without_the_adapter_says_how_to_go_on(folder, adapter, command):
    run("index", "docs", "--truncate-dim", "4")
    code, _, err = run(*command, "--adapter", "my-domain=my-adapter")
    assert code == 2
    assert f"'docs' was made with demo and no adapter; this call loads demo and my-domain={adapter}." in err
    (advice,) = re.findall("`polyvec (.*?)`", err)
    assert run(*shlex.split(advice))[0] == 0
    with contextlib.closing(open_client("index")) as client:
        assert client.get_collection("docs").config.metadata["polyvec"]["dense"] == 4
    assert counts(run("index", "docs", "--task", "my-domain")[1])["total"] == (4, 0, 0, 0)
    assert len(found("fox", "--task", "my-domain")) == 3


def test_an_unknown_task_is_refused_before_anything_is_made(folder, adapter):
    options = ["--task", "my-domian", "--adapter", "my-domain=my-adapter"]
    known = "error: `task` is 'my-domian'; this model knows 'retrieval', 'text-matching', 'code', 'my-domain'."
    code, _, err = run("index", "docs", *options)
    assert (code, err) == (2, f"{known}\n")
    assert not (folder / "index").exists()
    run("index", "docs", "--adapter", "my-domain=my-adapter")
    assert run("search", "fox", *options[:2])[::2] == (2, f"{known}\n")


def test_reindexing_takes_the_adapters_that_are_given(folder, adapter):
    run("index", "docs", "--task", "my-domain", "--adapter", "my-domain=my-adapter")
    code, _, err = run("reindex", "--model", "new")
    assert code == 2
    assert "has items of the task 'my-domain'; the new embedder knows 'retrieval', 'text-matching', 'code'." in err
    assert counts(run("reindex", "--model", "new", "--adapter", "my-domain=my-adapter")[1])["total"] == (4, 0, 0, 0)
    assert len(found("fox", "--task", "my-domain")) == 3


def test_an_adapter_with_other_files_than_the_index_was_made_with_is_told(tmp_path, monkeypatch):
    """With the demo checkpoint and real adapters."""
    monkeypatch.chdir(tmp_path)
    Path("a.md").write_text("the red fox")
    demo = Checkpoint(locate("demo"))
    export_adapter(demo, "retrieval", tmp_path / "mine")
    assert run("index", "a.md", "--task", "my-domain", "--adapter", "my-domain=mine")[0] == 0
    assert found("fox", "--task", "my-domain") == {("my-domain", f"{tmp_path}/a.md")}
    export_adapter(demo, "code", tmp_path / "mine", overwrite=True)
    code, _, err = run("search", "fox")
    assert code == 2
    assert f"was made with demo and my-domain={tmp_path / 'mine'}; their files have changed since." in err


def test_the_model_is_demo_unless_said_otherwise(folder, loaded):
    run("index", "docs")
    assert loaded == [("demo", None, "auto")]


def test_device_and_dtype_are_those_of_the_options(folder, loaded):
    run("index", "docs", "--device", "cpu", "--dtype", "float32")
    run("search", "fox", "--device", "cuda:0", "--device", "cuda:1")
    run("reindex", "--model", "new", "--dtype", "bfloat16")
    assert loaded == [("demo", "cpu", "float32"), ("demo", ["cuda:0", "cuda:1"], "auto"), ("new", None, "bfloat16")]


def test_searching_what_is_not_there_fails_and_creates_nothing(folder):
    code, _, err = run("search", "fox", "--location", "nowhere")
    assert (code, err) == (2, "error: there is no index in 'nowhere'; make one with the command `index`\n")
    assert not (folder / "nowhere").exists()
    run("index", "docs")
    assert "no collection 'other'" in run("search", "fox", "--collection", "other")[2]


def test_an_index_that_another_process_uses_is_told(folder):
    code = "from qdrant_polyvec import open_client; c = open_client('index'); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"open\n"
        status, _, err = run("index", "docs")
        other.communicate(b"\n")
    assert status == 2
    assert "error: The index in 'index' is open in another process" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["index"],
        ["search"],
        ["search", "fox", "--image", "a.png"],
        ["search", "--image", "a.png", "--explain", "out.png"],
        ["search", "fox", "--mode", "fast"],
        ["search", "fox", "--limit", "0"],
        ["index", "docs", "--adapter", "my-adapter"],
        ["index", "docs", "--late", "int8"],
        ["verify", "docs"],
        ["reindex"],
    ],
)
def test_wrong_usage_exits_with_2(arguments):
    code, _, err = run(*arguments)
    assert code == 2
    assert err.startswith("Usage: ")


def test_no_line_of_the_table_is_longer_than_100(folder):
    (folder / "docs" / ("long" * 20)).mkdir()
    (folder / "docs" / ("long" * 20) / "x.md").write_text("words " * 100)
    run("index", "docs")
    lines = run("search", "words")[1].splitlines()
    assert max(map(len, lines)) == 100
    assert "…" in lines[1]
    assert "x.md:L1-1" in lines[1]


def test_a_long_context_leaves_the_file_and_the_lines_in_sight(folder):
    (folder / "docs" / "x.md").write_text("# " + "Long title " * 8 + "\n\n## Red fox\ntext\n")
    run("index", "docs/x.md")
    lines = run("search", "red fox")[1].splitlines()
    assert lines[1][31:] == "docs/x.md:L1-4"
    assert lines[2] == "      …g title Long title Long title › Red fox: text"


def test_what_the_table_shows_can_be_shown_whole(folder):
    run("index", "docs")
    place = run("search", "red fox")[1].splitlines()[1][31:]
    assert run("show", place)[1].splitlines()[-2:] == ["# Fox", "the red fox"]


def test_a_result_is_shown_whole_by_its_rank(folder):
    run("index", "docs")
    code, out, _ = run("search", "red fox", "--show", "1")
    assert (code, out.splitlines()[0], out.splitlines()[-1]) == (0, "docs/a.md:L1-2", "the red fox")
    (item,) = json.loads(run("search", "red fox", "--show", "1", "--json")[1])["items"]
    assert (item["content"], item["unit"]) == ("# Fox\nthe red fox", "L1-2")
    run("search", "--image", "docs/c.png", "--show", "1", "--save", "out.png")
    with Image.open("out.png") as picture:
        assert picture.size == (28, 56)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--show", "6"], "--show is 6; it must be at most --limit, which is 5"),
        (["--show", "5"], "--show is 5; there are only 3 results"),
        (["--save", "out.png"], "--save goes with --show"),
    ],
)
def test_a_rank_that_no_result_has_is_refused(folder, arguments, message):
    run("index", "docs")
    code, out, err = run("search", "red fox", *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_nothing_found_is_exit_code_1(folder):
    run("index", "docs")
    with pytest.warns(UserWarning, match="none of the task"):
        code, out, _ = run("search", "fox", "--task", "text-matching", "--json")
    assert (code, json.loads(out)["hits"]) == (1, [])


def test_control_characters_never_reach_the_terminal(folder):
    text = "\x1b[2J\x1b]0;owned\x07 red \u202efox"
    (folder / "docs" / "e\x1b[31m\n.md").write_text(text)
    (folder / "docs" / "\x9b\n.png").write_bytes(b"junk")
    _, out, err = run("index", "docs")
    assert r"failed: docs/\u009b\u000a.png: " in err
    out = run("search", "red fox", "--limit", 9)[1]
    assert r"docs/e\u001b[31m\u000a.md:L1-1" in out
    assert r"      \u001b[2J" in out
    assert not set(out + err) & set("\x1b\x07\x9b\u202e")
    hits = json.loads(run("search", "red fox", "--json", "--limit", 9)[1])["hits"]
    assert (f"{folder}/docs/e\x1b[31m\n.md", text) in [(hit["source"], hit["content"]) for hit in hits]


def test_a_rare_word_is_found_among_many_parts(folder):
    for n in range(12):
        text = f"the options of the program, part {n}" + " --sysconfig" * (n == 7)
        (folder / "docs" / f"options{n}.md").write_text(text)
    run("index", "docs", "--bm25", "english")
    arguments = ["the options of --sysconfig", "--mode", "hybrid", "--json", "--limit", "1"]
    for candidates in ([], ["--candidates", "30"]):
        (hit,) = json.loads(run("search", *arguments, *candidates)[1])["hits"]
        assert (Path(hit["source"]).name, hit["similarity"]) == ("options7.md", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--candidates", "3"], "--candidates is 3; it must be at least --limit, which is 5"),
        (["--candidates", "9", "--mode", "late"], "--candidates goes with --mode two-stage or hybrid, not late"),
        (["--candidates", "0"], "Invalid value for '--candidates': 0"),
    ],
)
def test_wrong_candidates_are_refused_in_words_of_the_command_line(folder, arguments, message):
    code, _, err = run("search", "fox", *arguments)
    assert code == 2
    assert message in err


def test_several_tasks_are_searched_together(folder):
    run("index", "docs")
    lines = run("search", "red fox", "--task", "retrieval", "--task", "code")[1].splitlines()[1::2]
    assert {line.split()[2] for line in lines} == {"retrieval", "code"}
    with pytest.warns(UserWarning, match="items of the tasks 'retrieval', 'code', none of the task 'text-matching'"):
        assert run("search", "x", "--task", "text-matching")[:2] == (1, "nothing found for task 'text-matching'\n")


def test_fields_are_indexed_and_errors_name_the_option(folder):
    fields = ("--index-field", "lang:keyword", "--index-field", "dc:date:datetime")
    assert run("index", "docs/a.md", "--bm25", "english", *fields)[0] == 0
    assert run("index", "docs/a.md", "--index-field", "n:integer")[0] == 0  # other options stay as they are
    with contextlib.closing(open_client("index")) as client:
        indexes = client.get_collection("docs").payload_schema
    found = {key: index.data_type.value for key, index in indexes.items() if key.startswith("metadata")}
    assert found == {
        "metadata.source": "keyword", "metadata.lang": "keyword", 'metadata."dc:date"': "datetime",
        "metadata.n": "integer",
    }  # fmt: skip
    code, _, err = run("index", "docs/a.md", "--index-field", "n:keyword")
    assert (code, "--index-field n:keyword: Collection 'docs' has an index of 'n' as 'integer'" in err) == (2, True)
    for wrong in ("lang", "lang:word", ":keyword"):
        code, _, err = run("index", "docs/a.md", "--index-field", wrong)
        assert (code, f"'--index-field': '{wrong}' is not FIELD:KIND" in err) == (2, True)
    twice = run("index", "docs/a.md", "--index-field", "n:integer", "--index-field", "n:float")
    assert (twice[0], "'n' is named as integer and as float" in twice[2]) == (2, True)


def test_pages_of_a_pdf_are_found_by_what_they_show_and_say(folder):
    with Image.open(folder / "docs" / "c.png") as page:
        page.convert("RGB").save(folder / "docs" / "d.pdf", save_all=True, append_images=[Image.new("RGB", (30, 40))])
    code, out, _ = run("index", "docs", "--bm25", "english", "--dpi", "72")
    assert (code, counts(out)["page"]) == (0, (2, 0, 0, 0))
    found = json.loads(run("search", "fox", "--json", "--mode", "hybrid", "--limit", "9")[1])["hits"]
    assert {(hit["source"], hit["unit"]) for hit in found} >= {(f"{folder}/docs/d.pdf", f"page {n}") for n in (1, 2)}
    assert counts(run("index", "docs", "--dpi", "72")[1])["page"] == (0, 2, 0, 0)


def test_pages_of_a_tiff_replace_the_image_that_it_was_before(folder, scan):
    pages = scan.read_bytes()
    Image.new("RGB", (56, 56)).save(scan)
    assert counts(run("index", "scan.tif")[1])["image"] == (1, 0, 0, 0)
    scan.write_bytes(pages)
    table = counts(run("index", "scan.tif")[1])
    assert (table["page"], table["total"]) == ((3, 0, 0, 0), (3, 0, 1, 0))
    with pytest.warns(UserWarning, match=r"scan\.tif' has 3 pages, and only the first"):
        found = json.loads(run("search", "--image", "scan.tif", "--json")[1])["hits"]
    assert sorted(hit["unit"] for hit in found) == ["page 1", "page 2", "page 3"]


def test_every_file_is_counted(folder):
    for name in (
        "d.doc",
        "e.DOC",
        "f",
        ".hidden",
        "left-out.bin",
        "build/x.bin",
        ".venv/g.py",
        "out/h.md",
        "out/i.md",
    ):
        (folder / "docs" / name).parent.mkdir(exist_ok=True)
        (folder / "docs" / name).write_bytes(b"\0")
    (folder / "docs" / "empty.md").write_bytes(b"\n")
    (folder / "docs" / "bad.md").write_bytes(b"caf\xff")
    (folder / "docs" / "big.csv").write_bytes(b"1,2\n" * 2_500_001)
    (folder / "docs" / "app.js").write_text("function(e,t){return e.foo[t.bar]}" * 99)
    (folder / "docs" / "link").symlink_to(folder / "docs")
    arguments = ("index", "docs", "docs/../docs", "--exclude", "left-out.*", "--exclude", "out/")
    code, out, err = run(*arguments)
    assert (code, err.count("failed")) == (1, 1)
    assert out.splitlines()[-2:] == [
        "files: 3 read, 1 failed, 1 generated, 2 hidden, 2 ignored, 1 linked folders, 4 of other kinds, 1 too large, "
        "1 without text",
        "other kinds: .doc 2, no suffix 1, .bin 1",
    ]
    files = json.loads(run(*arguments, "--json")[1])["files"]
    assert (files["read"], files["failed"], files["left_out"]["hidden"], files["other_kinds"][".doc"]) == (3, 1, 2, 2)
    assert json.loads(run("index", "docs/a.md", "--json")[1])["files"]["left_out"] == {}


def test_a_file_that_has_become_empty_is_forgotten_and_the_index_itself_is_not_indexed(folder):
    run("index", ".", "--task", "text-matching")
    run("index", ".")
    (folder / "docs" / "a.md").write_text("")
    code, out, _ = run("index", ".")
    assert (code, counts(out)["total"]) == (0, (0, 2, 4, 0))
    assert out.splitlines()[-1] == "files: 2 read, 0 failed, 1 ignored, 1 without text"


def test_a_notebook_is_indexed(folder):
    picture = base64.b64encode((folder / "docs" / "c.png").read_bytes()).decode()
    output = {"output_type": "display_data", "data": {"image/png": picture}}
    cells = [
        {"cell_type": "markdown", "source": "the red fox"},
        {"cell_type": "code", "source": "f()", "outputs": [output]},
    ]
    (folder / "docs" / "n.ipynb").write_text(json.dumps({"nbformat": 4, "cells": cells}))
    table = counts(run("index", "docs/n.ipynb")[1])
    assert table == {"text": (1, 0, 0, 0), "code": (1, 0, 0, 0), "image": (1, 0, 0, 0), "total": (3, 0, 0, 0)}
    assert "docs/n.ipynb:cell 2 image 1" in run("search", "--image", "docs/c.png")[1]
    assert counts(run("reindex", "--model", "new")[1])["total"] == (3, 0, 0, 0)
    (folder / "docs" / "n.ipynb").write_text(json.dumps({"nbformat": 4, "cells": cells[:1]}))
    assert counts(run("index", "docs/n.ipynb")[1])["total"] == (0, 1, 2, 0)


def test_patterns_leave_files_out(folder):
    (folder / "docs" / ".gitignore").write_text("*.png\n")
    assert counts(run("index", "docs", "--exclude", "b.*")[1])["total"] == (2, 0, 0, 0)


def test_json_has_everything(folder):
    (folder / "docs" / "bad.png").write_bytes(b"junk")
    code, out, _ = run("index", "docs", "--json")
    report = json.loads(out)
    assert (code, len(report["ok"]), report["skipped"], report["removed"]) == (1, 4, [], [])
    assert report["failed"][0]["source"] == f"{folder}/docs/bad.png"
    found = json.loads(run("search", "red fox", "--json", "--limit", "1")[1])
    assert (found["query"], found["mode"]) == ("red fox", "two-stage")
    assert found["hits"][0]["content"] == "# Fox\nthe red fox"
    assert found["hits"][0]["rank"] == 1


def test_verify_finds_files_that_are_gone(folder):
    run("index", "docs")
    code, out, _ = run("verify")
    assert code == 0
    assert out.splitlines()[0] == "4 items"
    (folder / "docs" / "c.png").unlink()
    code, out, _ = run("verify")
    assert code == 1
    (orphans,) = (line.split() for line in out.splitlines() if line.startswith("orphans"))
    assert orphans[1] == "1"
    code, out, _ = run("verify", "--json")
    found = json.loads(out)
    assert (code, found["n_points"], len(found["orphans"]), found["foreign"]) == (1, 4, 1, [])


def test_old_rules_of_words_are_told_with_the_remedy(folder):
    run("index", "docs", "--bm25", "english")
    with contextlib.closing(open_client("index")) as client:
        facts = dict(client.get_collection("docs").config.metadata["polyvec"])
        del facts["bm25_rules"]
        client.update_collection("docs", metadata={"polyvec": facts})
    code, out, _ = run("verify")
    assert (code, out.splitlines()[-1].split(":")[0]) == (1, "old_words")
    assert "`polyvec reindex`" in out
    with pytest.warns(UserWarning, match="`reindex` it"):
        code, _, err = run("index", "docs")
    assert code == 2
    assert "`reindex` it with its own embedder" in err


def test_verify_needs_no_model(folder, loaded):
    run("index", "docs")
    loaded.clear()
    run("verify")
    assert loaded == []


def test_reindexing_with_another_model(folder, loaded):
    with Image.open(folder / "docs" / "c.png") as page:
        page.convert("RGB").save(folder / "docs" / "d.pdf")
    run("index", "docs", "--truncate-dim", "4")
    code, out, _ = run("reindex", "--model", "new", "--late", "float32", "--bm25", "english")
    assert (code, counts(out)["total"]) == (0, (5, 0, 0, 0))
    assert [model for model, _, _ in loaded] == ["demo", "new"]
    assert "docs/a.md" in run("search", "red fox", "--mode", "hybrid")[1]
    assert loaded[-1][0] == "new"
    assert run("verify")[0] == 0
    assert counts(run("index", "docs")[1])["total"] == (0, 5, 0, 0)
    assert loaded[-1][0] == "new"
    code, _, err = run("reindex", "--model", "new")
    assert code == 2
    assert "nothing to do" in err


def test_reindexing_tells_of_pictures_that_are_gone(folder):
    run("index", "docs")
    (folder / "docs" / "c.png").unlink()
    code, _, err = run("reindex", "--model", "new")
    assert code == 1
    assert "failed: docs/c.png: " in err
    assert run("search", "red fox", "--model", "demo")[0] == 0


def test_an_index_keeps_its_shorter_vectors(folder):
    run("index", "docs/a.md", "--truncate-dim", "4")
    assert run("index", "docs")[0] == 0
    assert run("search", "red fox")[0] == 0


def test_the_key_of_a_server_comes_from_the_environment(monkeypatch):
    given = {}

    def client(**options):
        given.update(options)
        raise OSError("no network here")

    monkeypatch.setattr("qdrant_polyvec.clients.QdrantClient", client)
    monkeypatch.setenv("QDRANT_API_KEY", "secret")
    assert run("search", "x", "--location", "https://server")[0] == 2
    assert (given["url"], given["api_key"]) == ("https://server", "secret")


@pytest.fixture
def explain(monkeypatch):
    """Stands for `polyvec.explain`; remembers what it was asked."""
    calls = types.SimpleNamespace()

    def similarity_map(query, document, grid):
        calls.shapes = query.shape, document.shape, (grid.rows, grid.columns)
        return np.zeros((len(query), grid.rows, grid.columns), np.float32)

    def overlay(image, *, similarity, tokens):
        calls.overlay = image.size, similarity.shape, tokens
        return image

    module = types.ModuleType("polyvec.explain")
    module.similarity_map, module.overlay, module.word_maps = similarity_map, overlay, word_maps
    monkeypatch.setitem(sys.modules, "polyvec.explain", module)
    return calls


def test_the_best_image_is_explained(folder, explain):
    run("index", "docs")
    code, out, _ = run("search", "red fox", "--explain", "out.png")
    assert code == 0
    assert out.splitlines()[-1] == "how docs/c.png matches each word: out.png"
    assert explain.shapes == ((2, 8), (2, 8), (2, 1))
    assert explain.overlay == ((28, 56), (2, 2, 1), ["red", "fox"])
    with Image.open(folder / "out.png") as drawn:
        assert drawn.size == (28, 56)


def test_without_an_image_there_is_nothing_to_explain(folder, explain):
    run("index", "docs/a.md")
    code, _, err = run("search", "red fox", "--explain", "out.png")
    assert (code, err) == (0, "none of the results is an image; there is nothing to explain\n")
    assert not (folder / "out.png").exists()


def test_late_chunking_encodes_each_file_at_once_and_reindexes(folder, monkeypatch):
    documents = []

    def encode_chunks(self, text, spans, **options):
        documents.append((text, [text[start:end] for start, end in spans]))
        return HashEncoder.encode_chunks(self, text, spans, **options)

    monkeypatch.setattr(FakeEmbedder, "encode_chunks", encode_chunks, raising=False)
    texts = {file: (folder / "docs" / file).read_text() for file in ("a.md", "b.py")}
    parts = [(texts["a.md"], ["# Fox\nthe red fox", "# Whale\na blue whale"]), (texts["b.py"], [texts["b.py"].strip()])]
    for arguments in (["index", "docs", "--late-chunking"], ["reindex", "--model", "newer"]):
        documents.clear()
        assert run(*arguments)[0] == 0
        assert sorted(documents) == sorted(parts)
    assert counts(run("index", "docs", "--late-chunking")[1])["total"] == (0, 4, 0, 0)
    assert counts(run("index", "docs")[1])["total"] == (3, 1, 0, 0)
    hit = json.loads(run("search", "red fox", "--json")[1])["hits"][0]
    assert (hit["context"], hit["content"]) == ("a.md › Fox", "# Fox\nthe red fox")


def test_a_server_is_searched_as_a_folder_is(folder, server):
    here = [run("index", "docs"), run("search", "red fox"), run("verify")]
    there = [
        run("index", "docs", "--location", server.url),
        run("search", "red fox", "--location", server.url),
        run("verify", "--location", server.url),
    ]
    assert [result[0] for result in here] == [result[0] for result in there] == [0, 0, 0]
    assert [result[1] for result in here[1:]] == [result[1] for result in there[1:]]
    assert {"create_collection", "upsert", "query_batch_points", "scroll"} <= set(server.calls())
