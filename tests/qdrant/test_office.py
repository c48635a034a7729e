import datetime
import sys
import zipfile
from pathlib import Path

import openpyxl
import pptx
import pytest

from polyvec import Failure
from qdrant_polyvec import files
from qdrant_polyvec.commands import tables
from qdrant_polyvec.commands.census import Census
from qdrant_polyvec.files import office

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
CONTAINER = '<container><rootfiles><rootfile full-path="in/book.opf"/></rootfiles></container>'
OPF = """<opf:package xmlns:opf="http://www.idpf.org/2007/opf"><opf:manifest><opf:item id="b" href="b.xhtml"/>
<opf:item id="a" href="../text/a%20a.xhtml"/></opf:manifest>
<opf:spine><opf:itemref idref="a"/><opf:itemref idref="b"/></opf:spine></opf:package>"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def packed(name, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(name, "w", compression) as archive:
        for member, content in members.items():
            archive.writestr(member, content)


def docx(name, body, **members):
    packed(
        name,
        {
            "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
            "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
            f'<Relationship Id="r" Type="{RELATIONS}/officeDocument" Target="word/document.xml"/></Relationships>',
            "word/document.xml": f"<w:document {W}><w:body>{body}</w:body></w:document>",
            **members,
        },
    )


def paragraph(text, style=""):
    return f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>'


def row(*cells, head=False):
    kind = "<w:trPr><w:tblHeader/></w:trPr>" if head else ""
    return f"<w:tr>{kind}{''.join(f'<w:tc>{paragraph(cell)}</w:tc>' for cell in cells)}</w:tr>"


def workbook(name, **sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for cells in rows:
            sheet.append(cells)
    book.save(name)
    return book


def read(*names):
    results = list(files.units(files.find(names)))
    failures = [result.reason for result in results if isinstance(result, Failure)]
    return [result for result in results if not isinstance(result, Failure)], failures


def contents(name):
    units, failures = read(name)
    assert failures == []
    for unit in units:
        assert unit.document[unit.start :].startswith(unit.content)
        assert files.load(name, unit.unit) == unit.document
    return {unit.unit: (unit.context, unit.content) for unit in units}


def test_a_document_is_cut_at_its_headings_and_its_tables_keep_their_header_rows():
    rows = row("Item", "Price", head=True) + "".join(row(f"item {n} " + "x" * 80, str(n)) for n in range(20))
    docx(
        "a.docx",
        paragraph("Über uns", "Heading1") + paragraph("Text &amp; mehr") + paragraph("Prices", "Heading2")
        + f"<w:tbl>{rows}</w:tbl>",
    )  # fmt: skip
    units = contents("a.docx")
    assert units["section 1"] == ("a.docx › Über uns", "Über uns\nText & mehr")
    (first, second) = [about for name, about in units.items() if name.startswith("section 2 ")]
    assert first[0] == "a.docx › Über uns › Prices"
    assert second[0] == "a.docx › Über uns › Prices › Item | Price"
    assert second[1].endswith("\t19")


def test_slides_are_named_by_their_number_and_have_their_tables_and_notes():
    deck = pptx.Presentation()
    for title in ("Plan", "Costs", "Hidden"):
        deck.slides.add_slide(deck.slide_layouts[5]).shapes.title.text = title
    first, second, third = deck.slides
    group = first.shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, 9, 9).text_frame.text = "one\vtwo"
    cells = second.shapes.add_table(2, 2, 0, 0, 9, 9).table
    for index, text in enumerate(("Year", "Euro", "2024", "7")):
        cells.cell(index // 2, index % 2).text = text
    second.notes_slide.notes_text_frame.text = "say it"
    third.element.set("show", "0")
    deck.save("a.pptx")
    assert contents("a.pptx") == {
        "slide 1": ("a.pptx › Plan", "Plan\none\ntwo"),
        "slide 2": ("a.pptx › Costs", "Costs\nYear\tEuro\n2024\t7"),
        "slide 2 notes": ("a.pptx › Costs", "say it"),
    }


def test_sheets_are_named_and_each_part_has_the_header_row():
    date = datetime.datetime(2024, 5, 1)
    rows = [["Sales of 2024"], [], ["Region", "Sum", "Day"], ["North", 3.0, date], ["South", 2.5, date.replace(hour=9)]]
    book = workbook("a.xlsx", Sales=rows, Empty=[], Long=[["k", "v"], *([f"key {n}", "x" * 100] for n in range(20))])
    units = contents("a.xlsx")
    assert units["sheet Sales"] == (
        "a.xlsx › Sales",
        "Sales of 2024\nRegion\tSum\tDay\nNorth\t3\t2024-05-01\nSouth\t2.5\t2024-05-01 09:00:00",
    )
    assert [context for name, (context, _) in units.items() if "Long" in name] == [
        "a.xlsx › Long", "a.xlsx › Long › k | v",
    ]  # fmt: skip
    book["Sales"].sheet_state = "hidden"
    book.save("a.xlsx")
    assert not any("Sales" in name for name in contents("a.xlsx"))


def test_a_book_has_its_chapters_in_their_order():
    chapters = {
        "text/a a.xhtml": "<h1>One</h1><p>first &#233;</p><h2>More</h2><p>second</p>",
        "in/b.xhtml": '<?xml version="1.0"?><!DOCTYPE html><html><body><h1>Two</h1><p>third</p></body></html>',
    }
    packed("a.epub", {"META-INF/container.xml": CONTAINER, "in/book.opf": OPF, **chapters})
    assert contents("a.epub") == {
        "section 1": ("a.epub › One", "One\nfirst é"),
        "section 2": ("a.epub › One › More", "More\nsecond"),
        "section 3": ("a.epub › Two", "Two\nthird"),
    }


def test_a_missing_reader_is_told_where_files_are_counted_and_where_one_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mammoth", None)
    monkeypatch.setattr(office.importlib.util, "find_spec", lambda name: None)
    for name in ("a.docx", "b.docx", "c.md", "~$d.epub"):
        Path(name).write_text("text", "utf-8")
    census = Census()
    located = files.find(["."], on_left_out=census.leave_out)
    counts = census.counts(located, [], 0)
    assert (counts.other_kinds, counts.left_out["hidden"]) == ({".docx": 2}, 1)
    assert tables.files(counts)[1:] == ["other kinds: .docx 2", f"to read .docx: {office.INSTALL}"]
    units, failures = read("a.docx", "c.md")
    assert [unit.source for unit in units] == ["c.md"]
    assert failures == [f"DOCX files are read with mammoth; install it with `{office.INSTALL}`"]


LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'


def overstated(name):
    """A member that unpacks to more than it declares."""
    packed(name, {"word/document.xml": b"<a>" + b" " * 1_000_000})
    content = Path(name).read_bytes()
    Path(name).write_bytes(content.replace((1_000_003).to_bytes(4, "little"), (1_000).to_bytes(4, "little")))


def encrypted(name):
    Path(name).write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"))


def locked(name):
    methods = '<e:EncryptionMethod xmlns:e="x" Algorithm="http://www.w3.org/2001/04/xmlenc#aes256-cbc"/>'
    packed(name, {"META-INF/container.xml": CONTAINER, "in/book.opf": OPF, "META-INF/encryption.xml": methods})


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("a.docx", lambda name: Path(name).write_bytes(b"PK\3\4\0"), "cannot be read as DOCX: File is not a zip file"),
        ("a.epub", lambda name: packed(name, {}), "cannot be read as EPUB"),
        ("a.xlsx", lambda name: packed(name, {"a": "b"}), "cannot be read as XLSX"),
        ("a.pptx", lambda name: packed(name, {"a": "b"}), "cannot be read as PPTX"),
        ("a.docx", lambda name: docx(name, "<w:p>"), "cannot be read as DOCX: mismatched tag"),
        ("a.docx", lambda name: docx(name, "<w:p>" * 5000 + "</w:p>" * 5000), "cannot be read as DOCX"),
        ("a.docx", lambda name: docx(name, "", **{"word/document.xml": LAUGHS + "<a>&b;</a>"}), "XML entity 'a'"),
        ("a.epub", lambda name: packed(name, {"a.opf": (LAUGHS + "<a/>").encode("utf-16")}), "XML entity 'a'"),
        ("a.xlsx", lambda name: packed(name, {"a": "b"}, zipfile.ZIP_BZIP2), "is packed in a way"),
        ("a.docx", overstated, "Bad CRC-32"),
        ("a.docx", encrypted, "is encrypted: save it without a password"),
        ("a.epub", locked, "is encrypted: it can be read with the program of its shop alone"),
    ],
)
def test_a_bad_file_is_a_failure_and_stops_nothing(name, make, reason):
    make(name)
    Path("b.md").write_text("text", "utf-8")
    units, failures = read(name, "b.md")
    assert [unit.source for unit in units] == ["b.md"]
    assert len(failures) == 1
    assert reason in failures[0]


@pytest.mark.parametrize(
    ("limit", "most", "reason"),
    [
        ("_MOST_XML_BYTES", 2_000_000, "unpacks to 3 MB of XML; at most 2 MB are read"),
        ("_MOST_BYTES", 2_000_000, "unpacks to 4 MB; at most 2 MB are read"),
        ("_MOST_TAGS", 100, "has more than 100 XML tags, which are too many to be read"),
    ],
)
def test_what_unpacks_to_very_much_is_refused(monkeypatch, limit, most, reason):
    monkeypatch.setattr(office, limit, most)
    docx("a.docx", "<w:p/>" * 500_000, **{"picture.png": " " * 1_000_000})
    assert read("a.docx") == ([], [reason])


def test_a_sheet_of_very_many_cells_is_refused(monkeypatch):
    monkeypatch.setattr(office, "_MOST_CELLS", 100)
    workbook("a.xlsx", A=[["x"] * 60, ["y"] * 60])
    assert read("a.xlsx") == ([], ["has more than 100 cells, which are too many to be read"])


def test_a_sheet_that_claims_every_cell_is_read_as_what_it_has(monkeypatch):
    monkeypatch.setattr(office, "_MOST_CELLS", 1000)  # a row that is as wide as it claims has more
    workbook("a.xlsx", A=[["x", "y"]])
    with zipfile.ZipFile("a.xlsx") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (sheet,) = [name for name in members if "sheets/" in name]
    members[sheet] = members[sheet].replace(b'ref="A1:B1"', b'ref="A1:XFD1048576"')
    assert b"XFD" in members[sheet]
    packed("a.xlsx", members)
    assert contents("a.xlsx") == {"sheet A": ("a.xlsx › A", "x\ty")}
