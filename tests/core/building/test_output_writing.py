import errno
import fcntl
import inspect
import json
import signal
import subprocess
import sys
import tracemalloc
from collections import Counter
from functools import partial

import numpy as np
import pytest
from PIL import Image

from polyvec.data.building import commands
from polyvec.data.building.material import About, CorpusItem, Query, Rejection
from polyvec.data.building.output.spelling import file_name, written_id
from polyvec.data.building.output.writing import write_dataset
from polyvec.data.documents import PdfPage
from polyvec.data.folders import read_folder
from polyvec.images import image_size, open_image

ABOUT = About("shades", source="a loop", licence="cc0-1.0", domain="colours")


def drawn(n, draw):
    for i in range(n):
        yield CorpusItem(f"d{i}", lambda i=i: draw(i), text=f"shade {i}")
        yield Query(f"q{i}", f"which is shade {i}?", {f"d{i}": 1})


def shade(i):
    return Image.new("RGB", (30, 20), (min(i, 4), 0, 0))  # 4 and later ones are equal


def text(identity, content="a text", **facts):
    return CorpusItem(identity, content, **facts)


def write(folder, *items, **options):
    return write_dataset(items, folder, ABOUT, **options)


def rows(folder, name):
    return [json.loads(line) for line in (folder / name).read_text("utf-8").split("\n") if line]


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def color(size, value):
    return lambda: Image.new("RGB", size, value)


def test_a_folder_is_read_with_every_fact(tmp_path):
    folder = tmp_path / "shades"
    facts = {"language": "en", "kind": "chart", "group": "g1", "source": "loop.py"}
    summary = write(
        folder,
        CorpusItem("d1", color((30, 20), "red"), text="it says red", **facts),
        Query("q1", "which is red?", {"d1": 2, "d2": 1}, language="en", kind="question", origin="template"),
        text("d2", "blue\nis not", language="de"),
        Rejection("no text", "page 7", detail="a scan"),
    )
    assert (summary.n_documents, summary.n_queries, summary.rejections) == (2, 1, Counter({"no text": 1}))
    read = read_folder(folder)
    assert read.queries == {"q1": "which is red?"}
    assert read.qrels == {"q1": {"d1": 2, "d2": 1}}
    assert read.query_facts == {"q1": {"language": "en", "kind": "question", "origin": "template"}}
    assert read.document_facts == {"d1": facts, "d2": {"language": "de"}}
    assert dict(read.texts) == {"d1": "it says red"}
    assert read.documents["d2"] == "blue\nis not"
    with Image.open(read.documents["d1"]) as image:
        assert (image.size, image.getpixel((0, 0)), image.format) == ((30, 20), (255, 0, 0), "PNG")
    assert rows(folder, "rejected.jsonl") == [{"reason": "no text", "what": "page 7", "detail": "a scan"}]
    assert not (tmp_path / "shades.partial").exists()


def test_the_card_says_what_was_counted(tmp_path):
    about = About("Two | shades", licence="My own", notes=("How it was made.",))
    write_dataset(
        [
            CorpusItem("d1", color((30, 20), "red"), language="en", kind="chart"),
            CorpusItem("d2", color((50, 30), "blue"), language="en", kind="chart"),
            Query("q1", "which is red?", {"d1": 1, "d2": 1}, language="de", kind="question", origin="template"),
            Query("q2", "which is blue?", {"d2": 1}, language="en", kind="question", origin="template"),
            Rejection("no text", "page 7"),
        ],
        tmp_path / "shades",
        about,
    )
    card = (tmp_path / "shades" / "README.md").read_text("utf-8")
    for line in (
        'pretty_name: "Two | shades"', "license: other", 'license_name: "My own"', '- "de"\n- "en"',
        "- visual-document-retrieval", "- n<1K", "# Two | shades", "| Languages | de, en |", "| Documents | chart |",
        "| Number of queries | 2 |", "| Mean size of an image | 40 × 25 pixels |",
        "| Most relevant documents of a query | 2 |", "| Queries come from | template (2) |", "| Licence | My own |",
        "| en | chart | 2 | 0 |", "| de | question | 0 | 1 |", "| no text | 1 |", "How it was made.",
    ):  # fmt: skip
        assert f"{line}\n" in card


def test_equal_documents_and_queries_become_one(tmp_path):
    folder = tmp_path / "f"
    summary = write(
        folder,
        CorpusItem("a", color((30, 20), "red")),
        CorpusItem("b", color((30, 20), "red")),
        CorpusItem("c", color((20, 30), "red")),
        text("t", "same"),
        text("u", " same\n"),
        Query("q1", "Caf\u00e9  red?", {"b": 1}),
        Query("q2", "Cafe\u0301 red?", {"b": 2, "u": 1}),
        Query("q3", "caf\u00e9 red?", {"c": 1}),
        text("t", "same"),
    )
    assert [row["_id"] for row in rows(folder, "corpus.jsonl")] == ["a", "c", "t"]
    assert read_folder(folder).qrels == {"q1": {"a": 2, "t": 1}, "q3": {"c": 1}}
    assert summary.rejections == {"duplicate document": 3, "duplicate query": 1}
    assert rows(folder, "rejected.jsonl")[0] == {
        "reason": "duplicate document",
        "what": "b",
        "document": "a",
        "detail": "a",
    }
    assert rows(folder, "rejected.jsonl")[-1]["detail"] == "q1"
    assert len(list((folder / "images").iterdir())) == 2


def fail(error):
    def draw():
        raise error

    return draw


def test_what_cannot_be_read_takes_its_queries_with_it_and_nothing_else(tmp_path):
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"\x89PNG\r\n\x1a\nno")
    summary = write(
        tmp_path / "f",
        CorpusItem("glyph", fail(ValueError("no glyph"))),
        CorpusItem("disk", fail(OSError("no disk"))),
        CorpusItem("torn", torn),
        CorpusItem("page", PdfPage(tmp_path / "none.pdf", 1)),
        text("blank", " "),
        text("good"),
        Query("q1", "one", {"glyph": 1}),
        Query("q2", "two", {"never": 1}),
        Query("q3", "three", {"page": 1, "good": 1}),
        Query("q4", "four", {}),
        Query("q5", " ", {"good": 1}),
    )
    assert summary.rejections == {
        "unreadable": 5, "empty text": 2, "missing document": 1, "no relevant document": 1,
        "one of several answers left out": 1,
    }  # fmt: skip
    assert read_folder(tmp_path / "f").qrels == {"q3": {"good": 1}}
    assert {row.get("detail") for row in rows(tmp_path / "f", "rejected.jsonl")} >= {"no glyph", "no disk"}


def test_a_function_may_fail_in_any_way_and_loses_no_other_document(tmp_path):
    functions = {"key": fail(KeyError("x")), "none": lambda: None, "bytes": lambda: b"no image"}
    documents = [CorpusItem(name, draw) for name, draw in functions.items()]
    summary = write(tmp_path / "f", *documents, text("good"), Query("q", "?", {"good": 1}))
    assert (summary.n_documents, summary.rejections) == (1, {"unreadable": 3})
    assert [row["detail"] for row in rows(tmp_path / "f", "rejected.jsonl")] == [
        "KeyError: 'x'",
        "the function returned a NoneType; it must return a PIL.Image.Image",
        "the function returned a bytes; it must return a PIL.Image.Image",
    ]


def test_a_disk_that_cannot_be_written_is_no_fault_of_a_document(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "f", text("t"), CorpusItem("d", color((30, 20), "red")), Query("q", "?", {"t": 1}))


def test_items_of_wrong_types_are_refused_where_they_are_made(tmp_path):
    for made, message in (
        (lambda: CorpusItem(3, "a text"), "`id` of a CorpusItem is 3; it must be a str"),
        (lambda: CorpusItem("d", Image.new("L", (1, 1))), "content of document 'd' is a Image; it must be"),
        (lambda: Query("q", None, {"d": 1}), "`text` of a Query is None"),
        (lambda: Query("q", "?", ["d"]), r"`relevant` of query 'q' is \['d'\]"),
        (lambda: Rejection("no text", None), "`what` of a Rejection is None"),
        (lambda: write(tmp_path / "f", ("d", "a text")), r"the source yielded \('d', 'a text'\)"),
    ):
        with pytest.raises(TypeError, match=message):
            made()


def test_grades_may_be_whole_numbers_of_numpy(tmp_path):
    write(tmp_path / "f", text("d"), Query("q", "?", {"d": np.int64(2)}))
    assert read_folder(tmp_path / "f").qrels == {"q": {"d": 2}}


def test_build_returns_1_if_something_could_not_be_read(tmp_path, capsys):
    about = {"name": None, "source": "", "licence": "", "domain": "", "overwrite": False}
    good = [text("d"), Query("q", "why?", {"d": 1}), Rejection("no text", "p")]
    assert commands.build(good, output=tmp_path / "good", **about) == 0
    assert "good: 1 documents, 1 queries\n  rejected, no text: 1\n" in capsys.readouterr().out
    bad = [*good, CorpusItem("b", fail(ValueError("no glyph")))]
    assert commands.build(bad, output=tmp_path / "bad", **about) == 1


def test_no_dataset_is_built_in_the_folder_that_is_read(tmp_path):
    about = {"name": None, "source": "", "licence": "", "domain": "", "overwrite": False}
    with pytest.raises(ValueError, match="choose an output elsewhere"):
        commands.build([], output=tmp_path / "in" / ".." / "out", reads=[tmp_path], **about)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([text("d", "one"), text("d", "two")], "'d' is that of two different documents"),
        ([text("d"), Query("q", "one", {"d": 1}), Query("q", "two", {"d": 1})], "'q' is that of two different queries"),
        ([Query("q", "one", {"d": 0})], "the grade of document 'd' for query 'q' is 0"),
        ([text("")], "empty id"),
        ([text("d"), Query("", "why?", {"d": 1})], r"the query 'why\?' has an empty id"),
        ([text("d")], "no query to write to .*rejected were none"),
        ([Rejection("no text", "p")] * 2, "no document to write to .*rejected were no text: 2; the last: p"),
    ],
)
def test_what_no_dataset_can_be_is_an_error_and_makes_no_folder(tmp_path, items, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "f", *items)
    assert not (tmp_path / "f").exists()


def test_an_empty_source_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="no document"):
        write(tmp_path / "f")
    assert not list(tmp_path.iterdir())


IDS = [
    "a\tb",
    "a\nb",
    "a\\tb",
    '"a"',
    "\udc80",
    "\ufeffa",
    "../a",
    "a/b",
    "A",
    "a",
    "é",
    "x" * 300,
    "con",
    "日本",
    "a b",
]


def test_any_id_is_read_as_it_was_written(tmp_path):
    shades = [Image.new("RGB", (30, 20), (n, 0, 0)) for n in range(len(IDS))]
    documents = [CorpusItem(name, lambda n=n: shades[n]) for n, name in enumerate(IDS)]
    write(tmp_path / "f", *documents, *(Query(name, f"{n}?", {name: 1}) for n, name in enumerate(IDS)))
    read = read_folder(tmp_path / "f")
    assert list(read.documents) == list(map(written_id, IDS))
    assert read.qrels == {written_id(name): {written_id(name): 1} for name in IDS}
    for number, path in enumerate(read.documents.values()):
        with Image.open(path) as image:
            assert image.getpixel((0, 0)) == (number, 0, 0)


def test_names_of_files_are_safe_and_their_own():
    names = [file_name(identity, ".png") for identity in IDS]
    assert len({name.lower() for name in names}) == len(IDS)
    assert all(name.isascii() and name[0].isalnum() and "/" not in name and len(name) < 64 for name in names)
    assert written_id('a\tb\\"\udc80') == r"a\tb\\\x22\udc80"
    assert written_id("é 日本/x.pdf#3") == "é 日本/x.pdf#3"


def test_plain_files_are_copied_and_others_become_png(tmp_path):
    picture = Image.new("RGB", (30, 20), "red")
    picture.save(tmp_path / "plain.JPG", "JPEG")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=turned)
    Image.new("RGBA", (30, 20), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    names = ["plain.JPG", "turned.jpg", "clear.png"]
    write(tmp_path / "f", *(CorpusItem(name, tmp_path / name) for name in names), Query("q", "?", {"clear.png": 1}))
    plain, upright, white = read_folder(tmp_path / "f").documents.values()
    assert plain.read_bytes() == (tmp_path / "plain.JPG").read_bytes()
    assert image_size(upright) == (20, 30)
    assert open_image(white).getpixel((0, 0)) == (255, 255, 255)


CHILD = """
import os, signal, sys
from pathlib import Path
from PIL import Image
from polyvec.data.building.material import About, CorpusItem, Query
from polyvec.data.building.output.writing import write_dataset
"""
KILLED = """
def draw(i):
    return shade(i) if i < 6 else os.kill(os.getpid(), signal.SIGKILL)
write_dataset(drawn(9, draw), Path(sys.argv[1]), About("shades"))
"""


def test_a_killed_run_goes_on(tmp_path):
    child = "\n".join((CHILD, inspect.getsource(drawn), inspect.getsource(shade), KILLED))
    folder, whole, numbers = tmp_path / "a" / "shades", tmp_path / "b" / "shades", []

    def counted(i, last=8):
        if i > last:
            raise KeyboardInterrupt
        numbers.append(i)
        return shade(i)

    process = subprocess.run([sys.executable, "-c", child, str(folder)], capture_output=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert not folder.exists()
    journal = tmp_path / "a" / "shades.partial" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"item": "torn')
    (journal.parent / "new" / "images" / "d6.png.partial").write_bytes(b"torn")
    with pytest.raises(KeyboardInterrupt):
        write_dataset(drawn(9, partial(counted, last=7)), folder, ABOUT)
    write_dataset(drawn(9, counted), folder, ABOUT)
    assert numbers == [6, 7, 8]
    write_dataset(drawn(9, shade), whole, ABOUT)
    assert tree(folder) == tree(whole)
    assert len(tree(folder)) == 5 + 5  # the images, and the five other files
    assert not journal.parent.exists()


def test_a_killed_run_takes_no_image_of_another_document(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(
            tmp_path / "f",
            CorpusItem("d", color((30, 20), "red"), text="red"),
            CorpusItem("e", fail(KeyboardInterrupt())),
        )
    write(tmp_path / "f", CorpusItem("d", color((30, 20), "blue"), text="blue"), Query("q", "?", {"d": 1}))
    assert open_image(read_folder(tmp_path / "f").documents["d"]).getpixel((0, 0)) == (0, 0, 255)


def test_only_a_dataset_is_overwritten(tmp_path):
    folder = tmp_path / "f"
    items = [text("d"), Query("q", "?", {"d": 1})]
    folder.mkdir()
    write(folder, *items)
    with pytest.raises(ValueError, match="there already"):
        write(folder, *items)
    write(folder, text("e"), Query("q", "?", {"e": 1}), overwrite=True)
    assert [row["_id"] for row in rows(folder, "corpus.jsonl")] == ["e"]
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").touch()
    with pytest.raises(ValueError, match="is no dataset"):
        write(tmp_path / "home", *items, overwrite=True)
    with pytest.raises(ValueError, match="is a file"):
        write(tmp_path / "home" / "letter", *items, overwrite=True)


def test_two_processes_do_not_write_one_folder(tmp_path):
    def source():
        with pytest.raises(ValueError, match="another process"):
            write(tmp_path / "f", text("e"))
        yield from (text("d"), Query("q", "?", {"d": 1}))

    write_dataset(source(), tmp_path / "f", ABOUT)


def test_a_dataset_that_another_process_has_just_written_stays(tmp_path, monkeypatch):
    items = [text("d"), Query("q", "?", {"d": 1})]
    flock = fcntl.flock

    def late(lock, how):  # the other process ends between the first look at the output and the lock
        monkeypatch.setattr(fcntl, "flock", flock)
        write(tmp_path / "f", *items)
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(ValueError, match="another process"):
        write(tmp_path / "f", text("e"), Query("q", "?", {"e": 1}))
    assert [row["_id"] for row in rows(tmp_path / "f", "corpus.jsonl")] == ["d"]


def test_memory_does_not_grow_with_what_is_written(tmp_path):
    def source():
        for i in range(100):
            yield text(f"d{i}", str(i) * 50_000)
            yield Query(f"q{i}", str(i) * 25_000, {f"d{i}": 1})

    tracemalloc.start()
    write_dataset(source(), tmp_path / "f", ABOUT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(map(len, tree(tmp_path / "f").values())) > 14e6
    assert peak < 3e6
