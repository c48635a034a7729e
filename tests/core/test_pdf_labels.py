"""The labels that PDFs give to their pages."""

import subprocess
import zlib

import pytest

from polyvec import pdf_labels
from polyvec.pdf import pages
from polyvec.pdf_labels import page_labels
from tests.core.pdfs import encrypted, file_of, labelled, sheets, stream

BOOK = b"<</Nums[0<</S/r>>2<</S/D>>4<</S/D/P(A-)/St 3>>]>>"  # i, ii, 1, 2, A-3, A-4


@pytest.fixture
def started_processes(monkeypatch):
    """The processes that were started."""
    started = []
    run = subprocess.run
    monkeypatch.setattr(
        subprocess, "run", lambda command, **options: started.append(command) or run(command, **options)
    )
    return started


def test_pages_have_labels_where_they_differ_from_the_number(tmp_path):
    book = labelled(BOOK, 6)
    (tmp_path / "bo\udcffok.pdf").write_bytes(book)
    expected = [(1, "i"), (2, "ii"), (3, "1"), (4, "2"), (5, "A-3"), (6, "A-4")]
    assert [(page.number, page.label) for page in pages(tmp_path / "bo\udcffok.pdf", dpi=9, labels=True)] == expected
    assert [(page.number, page.label) for page in pages(book, dpi=9, labels=True, first=5)] == expected[4:]
    assert page_labels(labelled(b"<</Nums[1<</S/D>>2<</S/D/St 3>>]>>", 3), None) == {2: "1"}


def test_labels_are_read_only_if_they_are_asked_for_and_there_may_be_some(started_processes):
    assert [page.label for page in pages(labelled(BOOK, 2), dpi=9)] == [None, None]
    assert [page.label for page in pages(sheets(2), dpi=9, labels=True)] == [None, None]
    assert started_processes == []


@pytest.mark.parametrize(
    ("packed", "starts"),
    [(zlib.compress(b"<</PageLabels 1 0 R>>"), True), (zlib.compress(b"<</Pages 1 0 R>>"), False), (b"other", True)],
)
def test_the_key_is_looked_for_in_streams_of_objects(started_processes, packed, starts):
    whole = file_of([b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[]>>", stream(packed, b"/Type/ObjStm")])
    page_labels(whole, None)
    assert bool(started_processes) == starts


def test_the_password_is_no_argument_of_the_process(started_processes):
    sealed = encrypted(b"s3same", b"owner's", entries=b"/PageLabels<</Nums[0<</S/r>>]>>")
    assert page_labels(sealed, "s3same") == {1: "i"}
    assert "s3same" not in str(started_processes)


def test_hostile_labels_are_short_and_without_control_characters():
    prefixes = [
        "a\x00\x08[2Jb\u202ec\x9bd".encode("utf-16-be"),
        "a\n b\u2028\tc ".encode("utf-16-be"),
        ("x" * 30 + " ").encode("utf-16-be") * 1000,
        b"\xd8\x00\x00a",  # half a character
        "\x07".encode("utf-16-be"),
    ]
    numbered = (b"%d<</P<feff%s>>>" % (n, prefix.hex().encode()) for n, prefix in enumerate(prefixes))
    labels = page_labels(labelled(b"<</Nums[%s]>>" % b" ".join(numbered), 5), None)
    assert labels == {1: "a[2Jbcd", 2: "a b c", 3: f"{'x' * 30} {'x' * 9}", 4: "a"}


def test_a_tree_that_goes_in_circles_stops_another_process_only():
    assert [(page.number, page.label) for page in pages(labelled(b"<</Kids[3 0 R]>>", 2), dpi=9, labels=True)] == [
        (1, None),
        (2, None),
    ]


def test_a_tree_without_end_costs_the_labels_alone(monkeypatch):
    monkeypatch.setattr(pdf_labels, "_MAX_SECONDS", 1.0)
    levels = [b"<</Kids[%d 0 R %d 0 R]>>" % (number, number) for number in range(5, 45)]
    catalog = b"<</Type/Catalog/Pages 2 0 R/PageLabels 4 0 R>>"
    tree = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
    leaf = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 72]>>"
    endless = file_of([catalog, tree, leaf, *levels, b"<<>>"])
    assert [page.label for page in pages(endless, dpi=9, labels=True)] == [None]
