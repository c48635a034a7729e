"""What `polyvec index` removes, keeps and takes over. The collection has other writers, too."""

import json
import os
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from qdrant_client import QdrantClient

from polyvec import Embedder
from qdrant_polyvec import Collection, Item, commands, open_client
from qdrant_polyvec.items import derived_id
from tests.counting import Counting


@pytest.fixture
def encoder(monkeypatch):
    encoder = Counting(dim=16, multivector_dim=8)
    monkeypatch.setattr(Embedder, "from_pretrained", lambda *_, **__: encoder)
    return encoder


@pytest.fixture
def home(docs_folder, encoder):
    return docs_folder


def index(*arguments):
    """Run the command. Give its JSON and its exit code."""
    result = CliRunner().invoke(commands.index, [*map(str, arguments), "--json"])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return json.loads(result.stdout) | {"code": result.exit_code, "errors": result.stderr}


def run(name, *arguments):
    result = CliRunner().invoke(getattr(commands, name), list(map(str, arguments)))
    return result.exit_code, result.stdout


def stored(tenant=None):
    """The names of all items, as source, unit and task."""
    with closing(open_client("index")) as client:
        docs = Collection.open(client, "docs", embedder=None, tenant=tenant)
        here = f"{Path.cwd()}/"
        return sorted((item.source.removeprefix(here), item.unit, item.task) for item in docs.all())


def sources():
    return sorted({source for source, _, _ in stored()})


def add(encoder, *added, tenant=None):
    with Collection.open("index", "docs", embedder=encoder, tenant=tenant) as docs:
        assert docs.add(list(added)).failed == []


ALL = [
    ("docs/a.md", "L1-2", "retrieval"),
    ("docs/a.md", "L4-5", "retrieval"),
    ("docs/b.py", "L1-2", "code"),
    ("docs/c.png", "image", "retrieval"),
]


def test_only_parts_that_the_command_made_are_removed(home, encoder):
    """Items of others stay, with the file's source, a unit, the ids of other tenants' items, and a notebook's tasks."""
    cell = {"cell_type": "code", "source": "f()"}
    (home / "docs" / "n.ipynb").write_text(json.dumps({"nbformat": 4, "cells": [cell]}))
    index("docs")
    file, notebook = f"{home}/docs/a.md", f"{home}/docs/n.ipynb"
    others = [Item("note", id="note", source=file, unit=""), Item("page", id="page", source=file, unit="page 2")]
    add(encoder, *others, Item("on cells", id="3", source=notebook, unit="cell 9"), Item("victim", id="1"))
    add(encoder, Item("of acme", id="1", source=file), Item("of acme", id="2", source=notebook), tenant="acme")
    (home / "docs" / "a.md").write_text("")
    report = index("docs")
    assert sorted(report["removed"]) == sorted(derived_id(file, unit, "retrieval") for unit in ("L1-2", "L4-5"))
    assert (report["files"]["removed"], report["files"]["left_out"]) == (0, {"without text": 1})
    left = [(source, unit) for source, unit, _ in stored()]
    assert {("docs/a.md", ""), ("docs/a.md", "page 2"), ("docs/n.ipynb", "cell 9")} <= set(left)
    assert len(left) == 9
    assert len(stored(tenant="acme")) == 2
    assert index("docs")["removed"] == []


def test_replacing_the_parts_of_a_source_leaves_those_of_the_command(home, encoder):
    index("docs")
    with Collection.open("index", "docs", embedder=encoder) as docs:
        one, two = (Item("text", source=f"{home}/docs/a.md", unit=unit) for unit in ("mine", "mine, too"))
        docs.add([one, two], replace_sources=True)
        assert len(docs.add([one], replace_sources=True).removed) == 1
    assert stored() == sorted([*ALL, ("docs/a.md", "mine", "retrieval")])


def test_what_others_add_to_a_part_stays(home, encoder):
    index("docs")
    file = f"{home}/docs/a.md"
    fox, whale = (derived_id(file, unit, "retrieval") for unit in ("L1-2", "L4-5"))
    encoder.encoded.clear()
    tagged = {"tag": "mine"}
    add(
        encoder,
        Item("# Fox\nthe red fox", id=fox, source=file, unit="", metadata=tagged, payload={"link": 1}),
        Item("another text", id=whale, source=file, unit="", metadata=tagged, payload={"link": 2}),
    )
    assert encoder.encoded == ["another text"]
    report = index("docs")
    assert (report["ok"], len(report["skipped"]), report["removed"]) == ([], 4, [])
    with Collection.open("index", "docs", embedder=None) as docs:
        first, second = docs.get([fox, whale])
    assert (first.metadata, first.payload) == ({"source": file, "tag": "mine"}, {"link": 1})
    assert (first.unit, first.context) == ("L1-2", "a.md › Fox")
    assert (second.metadata, second.content, second.unit) == ({"source": file, "tag": "mine"}, "another text", "L4-5")
    (home / "docs" / "a.md").write_text("# Fox\nthe grey fox\n\n# Whale\nno whale\n")
    assert len(index("docs")["ok"]) == 2
    with Collection.open("index", "docs", embedder=None) as docs:
        for part, content in zip(docs.get([fox, whale]), ["# Fox\nthe grey fox", "# Whale\nno whale"], strict=True):
            assert (part.content, part.metadata, part.payload) == (content, {"source": file, "tag": "mine"}, {})
    (home / "docs" / "a.md").unlink()
    assert len(index("docs")["removed"]) == 2


def test_a_file_is_code_or_text_and_other_tasks_are_added_on_purpose(home):
    (home / "docs" / "run").write_text("echo fox\n")
    index("docs/run")
    (home / "docs" / "run").write_text("#!/bin/sh\necho fox\n")
    index("docs/run")
    assert stored() == [("docs/run", "L1-2", "code")]
    index("docs/run", "--task", "retrieval")
    index("docs/run", "--task", "text-matching")
    assert {task for _, _, task in stored()} == {"code", "retrieval", "text-matching"}
    index("docs/run")
    assert {task for _, _, task in stored()} == {"code", "text-matching"}


def test_a_folder_is_what_the_index_says(home, encoder):
    for name in ("sub/d.md", "sub/deep/e.md", "f.md"):
        (home / "docs" / name).parent.mkdir(exist_ok=True, parents=True)
        (home / "docs" / name).write_text(f"the text {name}")
    (home / "more").mkdir()
    (home / "more" / "g.md").write_text("more")
    index("docs", "more")
    (home / "more" / "g.md").unlink()
    (home / "more" / "h.md").write_text("more, too")
    (home / "docs" / "sub" / "d.md").unlink()
    (home / "docs" / ".gitignore").write_text("f.md\n")
    code, out = run("index", "docs", "--exclude", "c.png")
    assert code == 0
    assert out.splitlines()[-1] == "files: 3 read, 0 failed, 1 hidden, 2 ignored, 3 removed"
    assert sources() == ["docs/a.md", "docs/b.py", "docs/sub/deep/e.md", "more/g.md"]


def test_renamed_files_and_moved_lines_are_not_encoded_again(home, encoder):
    (home / "docs" / "sub").mkdir()
    shutil.move(home / "docs" / "a.md", home / "docs" / "sub" / "a.md")
    index("docs", "--bm25", "english")
    file = f"{home}/docs/sub/a.md"
    with Collection.open("index", "docs", embedder=encoder) as docs:
        before = docs.search("red fox", task="retrieval")[0]
        docs.add([Item("# Fox\nthe red fox", id=before.id, source=file, metadata={"tag": "mine"}, payload={"n": 1})])
        vectors = docs.embeddings([before.id], multivector=True)[before.id]
    encoder.encoded.clear()
    shutil.move(home / "docs" / "sub", home / "docs" / "new")
    text = home / "docs" / "new" / "a.md"
    text.write_text("\n" + text.read_text())
    report = index("docs")
    assert (encoder.encoded, len(report["ok"]), len(report["removed"]), report["files"]["removed"]) == ([], 2, 2, 1)
    with Collection.open("index", "docs", embedder=encoder) as docs:
        after = docs.search("red fox", task="retrieval", mode="hybrid")[0]
        moved = docs.embeddings([after.id], multivector=True)[after.id]
    assert (after.source, after.unit, after.context) == (f"{home}/docs/new/a.md", "L2-3", "a.md › Fox")
    assert after.metadata == {"source": after.source, "tag": "mine"}
    np.testing.assert_allclose(moved.dense, vectors.dense, atol=1e-3)
    np.testing.assert_allclose(moved.multivector[0], vectors.multivector[0], atol=1e-3)
    text.rename(home / "docs" / "new" / "z.md")  # another context, which is encoded
    index("docs")
    assert len(encoder.encoded) == 2


def test_a_folder_that_is_gone_or_empty_keeps_its_parts(home):
    index("docs")
    assert index("nowhere", "docs/b.py")["removed"] == []
    shutil.move(home / "docs", home / "disk")
    report = index("docs")
    assert (report["removed"], report["code"]) == ([], 1)
    (home / "docs").mkdir()
    report = index("docs")
    assert (report["removed"], report["code"]) == ([], 0)
    assert (
        "docs has no visible files of its own, like a disk that is not mounted: 3 files of it stay in the index."
        in report["errors"]
    )
    (home / "docs" / ".Trash").mkdir()
    (home / "docs" / ".Trash" / "x.md").write_text("hidden")
    (home / "docs" / ".gitkeep").touch()
    report = index("docs")
    assert (report["removed"], report["files"]["left_out"]) == ([], {"hidden": 2})
    assert stored() == ALL
    assert len(index(".", "--exclude", "disk")["removed"]) == 4


def test_a_link_takes_nothing_from_the_file_that_it_leads_to(home):
    index("docs")
    (home / "docs" / "0.md").symlink_to(home / "docs" / "a.md")  # comes first
    report = index("docs")
    assert (report["ok"], report["removed"], stored()) == ([], [], ALL)
    (home / "link").symlink_to(home / "docs")
    assert len(index("link")["ok"]) == 4  # a folder of its own name
    assert set(sources()) == {f"{folder}/{name}" for folder in ("docs", "link") for name in ("a.md", "b.py", "c.png")}
    assert index("link", "docs")["removed"] == []
    (home / "docs" / "a.md").unlink()
    assert len(index("docs")["removed"]) == len(index("link")["removed"]) == 2


def test_a_link_whose_target_is_gone_fails_and_keeps_its_parts(home):
    (home / "elsewhere").mkdir()
    (home / "docs" / "a.md").rename(home / "elsewhere" / "a.md")
    (home / "docs" / "a.md").symlink_to(home / "elsewhere" / "a.md")
    index("docs")
    (home / "elsewhere").rename(home / "unmounted")
    report = index("docs")
    assert (report["code"], report["removed"], report["failed"][0]["source"]) == (1, [], f"{home}/docs/a.md")
    assert stored() == ALL
    (home / "docs" / "a.md").unlink()
    assert len(index("docs")["removed"]) == 2


def test_a_folder_in_a_folder_that_cannot_be_read_keeps_its_parts(home, monkeypatch):
    (home / "docs" / "sub").mkdir()
    (home / "docs" / "sub" / "d.md").write_text("text")
    index("docs")
    shutil.rmtree(home / "docs" / "sub")
    (home / "docs" / "sub").mkdir()
    (home / "docs" / "a.md").unlink()
    scandir = os.scandir

    def refusing(path):
        if Path(path) == Path("docs/sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    report = index("docs")
    assert (report["code"], report["failed"][0]["source"]) == (1, f"{home}/docs/sub")
    assert sources() == ["docs/b.py", "docs/c.png", "docs/sub/d.md"]


def test_a_file_that_failed_keeps_its_parts_and_keep_keeps_all(home):
    index("docs")
    (home / "docs" / "c.png").write_bytes(b"junk")
    assert index("docs")["removed"] == []
    (home / "docs" / "a.md").unlink()
    assert index("docs", "--keep")["removed"] == []
    assert stored() == ALL


def test_what_was_named_itself_stays(home):
    (home / "docs" / ".hidden").mkdir()
    (home / "docs" / ".hidden" / "x.md").write_text("hidden")
    (home / "docs" / ".gitignore").write_text("secret.md\n")
    (home / "docs" / "secret.md").write_text("secret")
    named = ["docs/.hidden", "docs/secret.md"]
    index("docs")
    index(*named)
    index("docs")
    assert set(sources()) >= {"docs/.hidden/x.md", "docs/secret.md"}
    (home / "docs" / "secret.md").unlink()
    index("docs")
    assert "docs/secret.md" not in sources()


def test_tasks_stay_apart_while_the_file_is_there(home):
    index("docs")
    index("docs", "--task", "text-matching")
    assert len(stored()) == 8
    index("docs", "--exclude", "a.md", "--task", "text-matching")
    assert [name for name in stored() if name[0] == "docs/a.md"] == ALL[:2]
    index("docs", "--task", "text-matching")
    (home / "docs" / "a.md").unlink()
    index("docs")
    assert "docs/a.md" not in sources()


@pytest.mark.parametrize("suffix", [".pdf", ".tif"])
def test_lost_pages_go(home, suffix):
    pages = [Image.new("RGB", (40, 60), (shade, 0, 0)) for shade in (0, 90, 180)]
    file = home / f"r{suffix}"
    pages[0].save(file, save_all=True, append_images=pages[1:])
    index(file, "--dpi", "72")
    assert [unit for _, unit, _ in stored()] == ["page 1", "page 2", "page 3"]
    pages[0].save(file, save_all=True, append_images=pages[1:2])
    assert len(index(file, "--dpi", "72")["removed"]) == 1
    assert [unit for _, unit, _ in stored()] == ["page 1", "page 2"]


def test_a_file_has_one_source_wherever_the_command_runs(home, encoder, monkeypatch):
    index("docs")
    encoder.encoded.clear()
    assert len(index(home / "docs")["skipped"]) == 4
    monkeypatch.chdir(home / "docs")
    assert len(index("../docs/../docs/a.md", "./b.py", "--location", "../index")["skipped"]) == 3
    assert encoder.encoded == []
    code, out = run("search", "red fox", "--location", "../index", "--limit", 1)
    assert (code, out.splitlines()[1].split()[3]) == (0, "a.md:L1-2")
    (home / "other").mkdir()
    monkeypatch.chdir(home / "other")
    assert run("verify", "--location", "../index")[0] == 0
    code, out = run("search", "--image", "../docs/c.png", "--location", "../index", "--json")
    assert json.loads(out)["hits"][0]["source"] == f"{home}/docs/c.png"


def test_items_that_look_like_parts_of_a_file_are_others_own(home, encoder):
    """Their ids are derived and their units named as those of the command line."""
    source = str(home / "docs" / "c.png")
    add(encoder, Item("my words", source=source, unit="L1-2"), Item("of a page", source="docs/a.md", unit="page 1"))
    index("docs")
    index("docs")
    assert {("docs/c.png", "L1-2", "retrieval"), ("docs/a.md", "page 1", "retrieval")} <= set(stored())
    (home / "docs" / "c.png").unlink()
    assert len(index("docs")["removed"]) == 1
    assert ("docs/c.png", "L1-2", "retrieval") in stored()


def test_an_empty_folder_that_is_named_keeps_its_parts_also_within_another_one(home):
    (home / "docs" / "usb").mkdir()
    (home / "docs" / "usb" / "u.md").write_text("on the disk")
    index("docs", "docs/usb")
    (home / "docs" / "usb" / "u.md").unlink()
    assert index("docs", "docs/usb")["removed"] == []
    assert len(index("docs")["removed"]) == 1


def test_verify_names_files_that_are_gone_and_no_other_items(home, encoder):
    picture = home / "p.png"
    shutil.copy(home / "docs" / "c.png", picture)
    index("docs")
    titles = ["Wikipedia", "https://example.org/a.md", "chat", "/data/gone.md"]
    add(encoder, "precious", picture, *(Item(title, source=title) for title in titles))
    assert run("verify")[0] == 0
    picture.unlink()
    (home / "docs" / "a.md").unlink()
    code, out = run("verify")
    (line,) = (line for line in out.splitlines() if line.startswith("orphans"))
    assert (code, line.split()) == (1, ["orphans", "3", "docs/a.md,", "p.png"])
    found = json.loads(run("verify", "--json")[1])
    assert {file: len(ids) for file, ids in found["gone_files"].items()} == {f"{home}/docs/a.md": 2, f"{picture}": 1}
    assert sorted(found["orphans"]) == sorted(one for ids in found["gone_files"].values() for one in ids)


def test_the_mark_survives_reindexing(home, encoder):
    index("docs")
    assert run("reindex", "--model", "demo", "--bm25", "english")[0] == 0
    (home / "docs" / "a.md").unlink()
    assert len(index("docs")["removed"]) == 2


class InterruptedRunError(Exception):
    """The process is killed."""


def interrupt_after(monkeypatch, owner, name):
    """Let the next call of a method be the last thing that happens."""
    method = getattr(owner, name)

    def interrupted(*arguments, **options):
        monkeypatch.setattr(owner, name, method)
        method(*arguments, **options)
        raise InterruptedRunError

    monkeypatch.setattr(owner, name, interrupted)


def tag(encoder, source, unit, text, **more):
    """Add a tag to a part, as LangChain and LlamaIndex do."""
    identity = derived_id(str(source), unit, "retrieval")
    add(encoder, Item(text, id=identity, source=str(source), unit="", **{"metadata": {"tag": "mine"}, **more}))


def tagged():
    """The places of the parts with a tag."""
    with Collection.open("index", "docs", embedder=None) as docs:
        here = f"{Path.cwd()}/"
        return sorted(f"{one.source.removeprefix(here)}:{one.unit}" for one in docs.all() if "tag" in one.metadata)


@pytest.mark.parametrize(
    ("owner", "name"), [(Collection, "add"), (QdrantClient, "set_payload"), (Collection, "delete")]
)
def test_what_others_added_survives_an_interruption_at_any_step(home, encoder, monkeypatch, owner, name):
    (home / "docs" / "sub").mkdir()
    (home / "docs" / "sub" / "d.md").write_text("of a\nfolder\n")
    (home / "docs" / "e.md").write_text("another\ntext\n")
    index("docs")
    tag(encoder, home / "docs" / "sub" / "d.md", "L1-2", "of a\nfolder", payload={"link": 1})
    tag(encoder, home / "docs" / "a.md", "L4-5", "# Whale\na blue whale")
    tag(encoder, home / "docs" / "e.md", "L1-2", "edited")
    (home / "docs" / "sub").rename(home / "docs" / "new")
    (home / "docs" / "e.md").rename(home / "docs" / "new" / "e.md")
    (home / "docs" / "a.md").write_text("\n" + (home / "docs" / "a.md").read_text())
    interrupt_after(monkeypatch, owner, name)
    with pytest.raises(InterruptedRunError):
        index("docs")
    index("docs")
    assert tagged() == ["docs/a.md:L5-6", "docs/new/d.md:L1-2", "docs/new/e.md:L1-2"]
    with Collection.open("index", "docs", embedder=None) as docs:
        one, edited = (docs.get([derived_id(f"{home}/docs/new/{name}.md", "L1-2", "retrieval")])[0] for name in "de")
    assert (one.payload, one.context) == ({"link": 1}, "d.md")
    assert edited.content == "edited"
    report = index("docs")
    assert (report["ok"], report["removed"], len(stored())) == ([], [], 6)
    with closing(open_client("index")) as client:
        assert not [one for one in client.scroll("docs", limit=99)[0] if "status" in one.payload["_polyvec"]["file"]]


def test_what_others_added_to_a_text_file_stays_when_the_file_gets_another_name(home, encoder):
    file, renamed = home / "docs" / "a.md", home / "docs" / "sub" / "z.md"
    index("docs")
    tag(encoder, file, "L1-2", "# Fox\nthe red fox", payload={"link": 1})
    tag(encoder, file, "L4-5", "an edited text")
    renamed.parent.mkdir()
    file.rename(renamed)
    (home / "docs" / "y.md").write_text("# Fox\nthe grey fox\n\n# Whale\na blue whale\n")  # alike in part
    index("docs")
    assert tagged() == ["docs/sub/z.md:L1-2", "docs/sub/z.md:L4-5"]
    ids = [derived_id(str(renamed), unit, "retrieval") for unit in ("L1-2", "L4-5")]
    with Collection.open("index", "docs", embedder=encoder) as docs:
        first, second = docs.get(ids)
        assert docs.search("an edited text", mode="dense", limit=1)[0].id == second.id
    assert (first.context, first.payload, second.content) == ("z.md › Fox", {"link": 1}, "an edited text")
    assert index("docs")["ok"] == []
    renamed.rename(home / "docs" / "one.md")
    shutil.copy(home / "docs" / "one.md", home / "docs" / "two.md")
    index("docs")
    assert tagged() == []  # nobody knows which of the two files it is


def test_what_others_added_goes_along_when_a_file_moves_to_another_given_folder(home, encoder):
    (home / "more").mkdir()
    index("docs")
    tag(encoder, home / "docs" / "a.md", "L1-2", "# Fox\nthe red fox")
    (home / "docs" / "a.md").rename(home / "more" / "a.md")
    assert index("more")["removed"] == []
    assert len(index("docs")["removed"]) == 2
    assert tagged() == ["more/a.md:L1-2"]
    (home / "more").rename(home / "third")
    index("third")
    assert "third/a.md:L1-2" in tagged()


def test_tags_go_to_no_copy_of_a_file_that_was_there_before(home, encoder):
    (home / "docs" / "sub").mkdir()
    shutil.copy(home / "docs" / "a.md", home / "docs" / "sub" / "a.md")
    index("docs")
    tag(encoder, home / "docs" / "a.md", "L1-2", "# Fox\nthe red fox")
    (home / "docs" / "a.md").unlink()
    index("docs")
    assert tagged() == []


def test_an_edited_part_stays_edited_when_its_folder_is_renamed_or_lines_are_inserted_above(home, encoder):
    file = home / "docs" / "sub" / "a.md"
    file.parent.mkdir()
    (home / "docs" / "a.md").rename(file)
    shutil.move(home / "docs" / "c.png", file.parent / "c.png")
    index("docs", "--bm25", "english")
    tag(encoder, file, "L4-5", "a polished text", payload={"link": 1})
    picture = Item(file.parent / "c.png", id=derived_id(f"{file.parent}/c.png", "image", "retrieval"), text="a caption")
    add(encoder, picture)
    file.parent.rename(home / "docs" / "new")
    index("docs")
    new = home / "docs" / "new" / "a.md"
    with Collection.open("index", "docs", embedder=encoder) as docs:
        edited = docs.search("polished", mode="hybrid", limit=1)[0]
        (image,) = (one for one in docs.all() if one.kind == "image")
    assert (edited.content, edited.source, edited.unit) == ("a polished text", str(new), "L4-5")
    assert (edited.metadata, edited.payload) == ({"source": str(new), "tag": "mine"}, {"link": 1})
    assert (image.content, image.picture.uri) == ("a caption", str(new.with_name("c.png")))
    new.write_text("\n" + new.read_text())
    index("docs")
    with Collection.open("index", "docs", embedder=encoder) as docs:
        edited = docs.search("polished", mode="hybrid", limit=1)[0]
    assert (edited.content, edited.unit, edited.payload) == ("a polished text", "L5-6", {})
    new.write_text("# Whale\nno whale\n")
    index("docs")
    with Collection.open("index", "docs", embedder=None) as docs:
        assert [one.content for one in docs.all() if one.source == str(new)] == ["# Whale\nno whale"]
