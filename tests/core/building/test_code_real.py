"""What every Python has, in two parts with nothing in common."""

import sys
from email.message import Message
from importlib.metadata import PackagePath

import pytest
from click.testing import CliRunner

from polyvec.data.__main__ import data
from polyvec.data.building.code import installed
from polyvec.data.building.code.installed import installed_modules, licences, part_of
from polyvec.data.building.code.overlap import crossing
from polyvec.data.building.code.pairs import key_of
from polyvec.data.building.code.real import KINDS, python_material
from polyvec.data.building.material import CorpusItem, Query, Rejection
from polyvec.data.folders import read_folder

# Small modules of both parts; ntpath (training) and posixpath (held out) have functions in common.
ONLY = ("bisect", "colorsys", "fileinput", "heapq", "linecache", "ntpath", "pipes", "posixpath", "pprint", "shlex")


class Rows:
    def __init__(self, *rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def texts(self, index):
        return self.rows[index]


def test_a_module_is_in_the_part_of_its_original():
    assert {part_of(name) for name in ("json", "heapq", "tkinter.ttk")} == {"train"}
    assert {part_of(name) for name in ("argparse", "turtle", "importlib._bootstrap")} == {"held-out"}
    for vendored in ("pip._vendor.{}", "setuptools._vendor.{}.util", "a.extern.{}"):
        assert part_of(vendored.format("json")) == "train"
        assert part_of(vendored.format("turtle")) == "held-out"


def test_the_modules_of_the_library_are_in_both_parts_and_no_tests_are():
    names = [file.name for file in installed_modules()]
    assert len(names) == len(set(names)) > 400
    assert not {"test", "tests"} & {part for name in names for part in name.split(".")}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
    held_out = {name for name in names if part_of(name) == "held-out"}
    assert {"argparse", "turtle"} < held_out < set(names)


def test_equal_and_nearly_equal_texts_cross():
    long = "Return the arithmetic mean of the values in the sequence, or zero if there are none."
    held_out = Rows((long, "def a(): pass"), ("Sort the rows.", "def b(): return 1"))
    training = Rows(
        ("sort the ROWS", "def c(): return 2"),
        ("Other words.", "def b():\n  return 1"),
        (long.replace("sequence", "sequences"), "def d(): return 3"),
        ("Something else entirely.", "def e(): return 4"),
    )
    assert crossing(held_out, training) == {
        0: "in the held-out part", 1: "in the held-out part", 2: "near duplicate of the held-out part",
    }  # fmt: skip
    assert crossing(Rows(), training) == {}


@pytest.fixture(scope="module")
def parts():
    return {
        (part, kind): list(python_material(part, kind=kind, only=ONLY))
        for part in ("train", "held-out")
        for kind in ("description-to-code", "question-to-answer")
    }


@pytest.mark.parametrize("kind", ["description-to-code", "question-to-answer"])
def test_the_parts_have_nothing_in_common(parts, kind):
    texts = {
        part: {
            item.text if isinstance(item, Query) else item.content
            for item in parts[part, kind]
            if not isinstance(item, Rejection)
        }
        for part in ("train", "held-out")
    }
    assert min(map(len, texts.values())) > 4
    assert not {key_of(text) for text in texts["train"]} & {key_of(text) for text in texts["held-out"]}
    train, held_out = ([shingles(text) for text in texts[part]] for part in ("train", "held-out"))
    assert max(len(a & b) / len(a | b) for a in train for b in held_out) < 0.8


def shingles(text):
    return {text.lower()[start : start + 6] for start in range(len(text) - 5)}


def test_what_both_parts_had_is_rejected_for_training(parts):
    dropped = [item for item in parts["train", "description-to-code"] if isinstance(item, Rejection)]
    crossed = {item.what for item in dropped if "held-out" in item.reason}
    assert "ntpath:basename" in crossed  # posixpath has it in the same words
    documents = {item.id for item in parts["train", "description-to-code"] if isinstance(item, CorpusItem)}
    assert "heapq:heappush" in documents
    assert not crossed & documents


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_queries_with_their_documents(kind):
    items = list(python_material("held-out", kind=kind, only=("colorsys", "fileinput", "pprint", "csv")))
    documents = {item.id for item in items if isinstance(item, CorpusItem)}
    queries = [item for item in items if isinstance(item, Query)]
    assert queries
    assert all(query.relevant.keys() <= documents for query in queries)
    assert all(":" in query.id or query.id in ("fileinput", "pprint", "csv", "colorsys") for query in queries)


def test_an_unknown_part_is_refused_before_anything_is_read():
    with pytest.raises(ValueError, match="'train' or 'held-out'"):
        python_material("test")
    with pytest.raises(ValueError, match="'code-to-code'"):
        python_material("train", kind="code")


def test_licences_come_from_the_metadata(monkeypatch):
    expression, classified = Message(), Message()
    expression["License-Expression"] = "BSD-3-Clause AND MIT"
    classified["Classifier"] = "Programming Language :: Python"
    classified["Classifier"] = "License :: OSI Approved :: MIT License"
    packages = (
        ("A", expression, (PackagePath("a/__init__.py"), PackagePath("a_core.py"))),
        ("B", classified, (PackagePath("b/__init__.py"),)),
        ("C", Message(), (PackagePath("c.py"),)),
    )
    monkeypatch.setattr(installed, "_distributions", lambda: packages)
    assert licences(["json", "a", "a_core", "b", "c", "unknown"]) == {
        "PSF-2.0": ["json"],
        "BSD-3-Clause AND MIT": ["a", "a_core"],
        "MIT License": ["b"],
        "not named": ["c", "unknown"],
    }


def run(*arguments):
    result = CliRunner().invoke(data, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.output


def test_the_commands_write_folders_that_are_read(tmp_path):
    output = run("python", "--part", "held-out", "--only", "pprint", "--output", tmp_path / "real")
    dataset = read_folder(tmp_path / "real")
    assert f"{len(dataset.documents)} documents, {len(dataset.queries)} queries" in output
    assert "rejected, no description" in output

    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "a.py").write_text(
        'def price(rows):\n    """Tell what the rows cost together."""\n'
        "    total = 0\n    for row in rows:\n        total += row\n    return 2 * total\n"
    )
    (tmp_path / "shop" / "a.md").write_text("# How to buy?\n\n" + "Look at the price and pay what it says. " * 3)
    run("code", tmp_path / "shop", "--output", tmp_path / "code")
    run("code", tmp_path / "shop", "--kind", "code-to-code", "--output", tmp_path / "variants")
    run("documentation", tmp_path / "shop" / "a.md", "--pages", "--output", tmp_path / "pages")
    assert list(read_folder(tmp_path / "code").queries.values()) == ["Tell what the rows cost together."]
    assert set(read_folder(tmp_path / "variants").documents) == {"shop.a:price#renamed", "shop.a:price#rewritten"}
    assert list(read_folder(tmp_path / "pages").queries.values()) == ["How to buy?"]
    assert len(list((tmp_path / "pages" / "images").iterdir())) == 1
