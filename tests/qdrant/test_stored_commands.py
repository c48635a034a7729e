"""`polyvec info`, `list`, `show`, `delete` and `copy`."""

import base64
import io
import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from polyvec import Embedder
from polyvec.testing import HashEncoder
from qdrant_polyvec import Collection, Item, commands
from tests.terminals import in_terminal

TEXT = "# Fox\n\tthe red fox"


@pytest.fixture
def encoder(monkeypatch):
    encoder = HashEncoder(dim=16, multivector_dim=8)
    monkeypatch.setattr(Embedder, "from_pretrained", lambda *_, **__: encoder)
    return encoder


@pytest.fixture
def home(tmp_path, monkeypatch, encoder):
    """A working directory with an index of two texts, a code file, a picture and two pages."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text(f"{TEXT}\n\n# Whale\na blue whale\n")
    (tmp_path / "docs" / "b.py").write_text("def red_fox():\n    return 1\n")
    picture = Image.fromarray(np.full((56, 28, 3), 9, np.uint8))
    picture.save(tmp_path / "docs" / "c.png")
    picture.save(tmp_path / "docs" / "d.pdf", save_all=True, append_images=[Image.new("RGB", (30, 40), "red")])
    run("index", "docs", "--bm25", "english", "--index-field", "lang:keyword", "--dpi", "72")
    return tmp_path


def run(name, *arguments, answer=None):
    """Run a command. Give its exit code, its output and its errors."""
    result = CliRunner().invoke(getattr(commands, name), [str(argument) for argument in arguments], input=answer)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def read(name, *arguments):
    code, out, err = run(name, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_info_says_what_made_an_index_and_what_it_holds(home):
    facts = read("info")
    size = facts.pop("bytes")
    assert facts == {
        "model": "demo", "adapters": {}, "loading": {}, "fingerprint": "hash-16-8", "layout": 2, "dense": 16, "late": 8,
        "schema": {
            "late": "float16", "pooled": False, "bm25": "english", "quantized": False, "indexed": {"lang": "keyword"},
        },
        "items": 6, "sources": 4, "tasks": {"code": 1, "retrieval": 5}, "kinds": {"image": 1, "page": 2, "text": 3},
    }  # fmt: skip
    files = [file.stat() for file in (home / "index").rglob("*") if file.is_file()]
    assert size == {
        "apparent": sum(stat.st_size for stat in files),
        "on_disk": sum(stat.st_blocks * 512 for stat in files),
    }
    rows = dict(line.split(maxsplit=1) for line in run("info")[1].splitlines())
    assert (rows["model"], rows["kinds"]) == ("demo", "image 1, page 2, text 3")
    assert rows["multi-vectors"] == "8 numbers each as float16"


def test_collections_and_sources_are_listed(home):
    run("index", "docs/a.md", "--collection", "other", "--task", "text-matching")
    assert read("list_collections") == {
        "collections": [
            {"collection": "docs", "items": 6, "model": "demo"},
            {"collection": "other", "items": 2, "model": "demo"},
        ]
    }
    assert read("list_collections", "--collection", "docs")["sources"] == [
        {"source": f"{home}/docs/a.md", "parts": 2, "tasks": ["retrieval"]},
        {"source": f"{home}/docs/b.py", "parts": 1, "tasks": ["code"]},
        {"source": f"{home}/docs/c.png", "parts": 1, "tasks": ["retrieval"]},
        {"source": f"{home}/docs/d.pdf", "parts": 2, "tasks": ["retrieval"]},
    ]
    lines = run("list_collections", "--collection", "docs")[1].splitlines()
    assert [line.split() for line in lines[:2]] == [["parts", "tasks", "source"], ["2", "retrieval", "docs/a.md"]]


def test_an_empty_location_has_no_collections_and_a_missing_one_is_an_error(home):
    (home / "empty").mkdir()
    assert run("list_collections", "--location", "empty")[:2] == (0, "items  model  collection\n")
    code, _, err = run("list_collections", "--location", "gone")
    assert (code, "there is no index in 'gone'" in err) == (2, True)


@pytest.mark.parametrize("spell", ["{}/docs/a.md".format, lambda _: "docs/a.md", lambda _: "./docs/../docs/a.md"])
def test_an_item_is_shown_whole_by_its_source_and_unit(home, spell):
    name = f"{spell(home)}:L1-2"
    (item,) = read("show", name)["items"]
    assert (item["content"], item["unit"]) == (TEXT, "L1-2")
    code, out, _ = run("show", name)
    assert (code, out.splitlines()[0]) == (0, "docs/a.md:L1-2")
    assert out.splitlines()[-3:] == ["", "# Fox", "        the red fox"]
    assert run("show", item["id"])[1] == out


def test_a_source_is_shown_with_all_its_parts_in_order(home):
    (home / "docs" / "long.md").write_text("\n\n".join(f"# H{n}\ntext {n}" for n in range(12)))
    run("index", "docs/long.md")
    units = [item["unit"] for item in read("show", "docs/long.md")["items"]]
    assert units == [f"L{3 * n + 1}-{3 * n + 2}" for n in range(12)]


def printed(monkeypatch, name, *arguments, **environment):
    """What a terminal gets from a command; its pictures apart."""
    command = getattr(commands, name)
    sent = in_terminal(monkeypatch, lambda: command.main(map(str, arguments), standalone_mode=False), **environment)
    pictures = re.findall("\x1b_G[^;]*;([^\x1b]*)\x1b\\\\", sent)
    return re.sub("\x1b_G[^\x1b]*\x1b\\\\", "<picture>", sent), base64.b64decode("".join(pictures))


def test_a_picture_is_drawn_in_a_terminal_that_can(home, monkeypatch):
    kitty = {"TERM": "xterm-kitty"}
    _, plain, _ = run("show", "docs/d.pdf:page 2")
    text, png = printed(monkeypatch, "show", "docs/d.pdf:page 2", **kitty)
    assert text == f"{plain}<picture>\n"
    picture = Image.open(io.BytesIO(png))
    assert (picture.size, picture.getpixel((9, 9))) == ((30, 40), (254, 0, 0))  # the page in red
    text, png = printed(monkeypatch, "search", "--image", "docs/c.png", "--show", 1, "--limit", 1, **kitty)
    assert text.endswith("\n<picture>\n")
    assert Image.open(io.BytesIO(png)).size == (28, 56)
    Image.new("RGB", (2000, 1000)).save(home / "docs" / "c.png")
    assert Image.open(io.BytesIO(printed(monkeypatch, "show", "docs/c.png", **kitty)[1])).size == (640, 320)


def test_nothing_else_is_drawn(home, monkeypatch):
    kitty = {"TERM": "xterm-kitty"}
    for name in ("docs/a.md", "docs/d.pdf"):  # texts, and more than one picture
        assert printed(monkeypatch, "show", name, **kitty)[0] == run("show", name)[1]
    for arguments, environment in ((["docs/c.png"], {"TERM": "dumb"}), (["docs/c.png", "--json"], kitty)):
        assert printed(monkeypatch, "show", *arguments, **environment)[0] == run("show", *arguments)[1]
    assert "<picture>" in printed(monkeypatch, "show", "docs/c.png", **kitty)[0]
    (home / "docs" / "c.png").unlink()
    assert printed(monkeypatch, "show", "docs/c.png", **kitty)[0] == run("show", "docs/c.png")[1]


def test_pictures_are_shown_by_their_path_and_saved(home):
    _, out, _ = run("show", "docs/d.pdf:page 2")
    assert f"picture  {home}/docs/d.pdf#page=2&dpi=72" in out.splitlines()
    code, out, _ = run("show", "docs/d.pdf:page 2", "--save", "page.png")
    assert (code, out.splitlines()[-1]) == (0, "saved: page.png")
    with Image.open("page.png") as page:
        assert (page.size, page.convert("RGB").getpixel((9, 9))) == ((30, 40), (254, 0, 0))
    run("show", "docs/c.png", "--save", "copy.png")
    with Image.open("copy.png") as picture:
        assert picture.size == (28, 56)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("docs/d.pdf", "--save writes one picture; this is 2 pictures; name one of them"),
        ("docs/a.md", "--save writes one picture; this is no picture, and texts are printed"),
    ],
)
def test_what_is_not_one_picture_is_not_saved(home, name, message):
    code, out, err = run("show", name, "--save", "out.png")
    assert (code, out, err) == (2, "", f"error: {message}\n")
    assert not (home / "out.png").exists()


@pytest.mark.parametrize("name", ["docs/none.md", "docs/a.md:L7-9", "no-id", "https://x/y:1"])
def test_nothing_to_show_is_exit_code_1(home, name):
    code, out, err = run("show", name)
    assert (code, out) == (1, "")
    assert f"there is no item {name!r}" in err


def test_ids_that_are_numbers_and_control_characters_are_shown(home, encoder):
    with Collection.open("index", "docs", embedder=encoder) as docs:
        docs.add([Item("a\x1b[2Jb", id=7, source="s:\x07", metadata={"\x1bkey": "\x9b"})])
    _, out, _ = run("show", "7")
    assert r"a\u001b[2Jb" in out
    assert r"metadata \u001bkey" in out
    out += run("show", "s:\x07")[1] + run("list_collections", "--collection", "docs")[1]
    assert out.count(r"s:\u0007") == 3
    assert not set(out) & set("\x1b\x07\x9b")
    assert read("show", "7")["items"][0]["content"] == "a\x1b[2Jb"


def test_items_are_deleted_by_id_and_source_once_confirmed(home):
    identity = read("show", "docs/a.md:L1-2")["items"][0]["id"]
    names = ["--id", identity, "--source", "docs/d.pdf", "--source", f"{home}/docs/d.pdf"]
    code, _, err = run("delete", *names, answer="n\n")
    assert code == 1
    assert err.endswith("nothing was deleted\n")
    assert "Delete 3 items of 'docs'? [y/N]" in err
    assert run("delete", *names)[0] == 1, "nobody answers"
    assert read("info")["items"] == 6
    code, out, _ = run("delete", *names, answer="y\n")
    assert (code, out.splitlines()[-1]) == (0, "deleted: 3 items")
    assert read("info")["items"] == 3
    names = ["--source", "docs/a.md", "--id", read("show", "docs/a.md")["items"][0]["id"], "--yes"]
    assert read("delete", *names) == {"deleted": 1, "missing": []}


def test_what_is_not_there_is_named_and_the_others_are_deleted(home):
    code, out, err = run("delete", "--id", "x\x07", "--source", "docs/c.png", "--source", "gone", "--yes")
    assert (code, out) == (1, "deleted: 1 items\n")
    assert err == "not in 'docs': 'x\\x07', 'gone'\n"
    code, _, err = run("delete")
    assert (code, "say what to delete, with --id or --source" in err) == (2, True)


def test_a_collection_is_copied_to_another_place_or_name(home):
    code, out, err = run("copy", "--to", "second")
    assert (code, out.splitlines()[-1].split()) == (0, ["total", "6", "0", "0", "0"])
    assert "6/6" in err
    assert run("copy", "--to", "second")[1].splitlines()[-1].split() == ["total", "0", "6", "0", "0"]
    assert read("info", "--location", "second")["model"] == "demo"
    assert len(read("copy", "--to", "index", "--to-collection", "again")["ok"]) == 6
    assert [row["collection"] for row in read("list_collections")["collections"]] == ["again", "docs"]


def test_a_copy_onto_another_index_or_itself_is_refused_in_words_of_the_command_line(home, encoder):
    code, _, err = run("copy", "--to", f"{home}/index")
    assert (code, "choose another --to or --to-collection" in err) == (2, True)
    with Collection.open("second", "docs", embedder=HashEncoder(dim=4, multivector_dim=8)):
        pass
    code, _, err = run("copy", "--to", "second")
    assert code == 2
    assert err.endswith("has vectors of another kind or model; choose another --to-collection\n")
