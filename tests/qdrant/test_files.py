import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from polyvec import Failure
from qdrant_polyvec import files
from qdrant_polyvec.files import cutting, kinds
from qdrant_polyvec.files.cutting import MAX_UNIT_CHARS


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, text):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, "utf-8")


def units(paths):
    """The units of files, and the failures."""
    results = list(files.units(files.find(paths)))
    failures = [result for result in results if isinstance(result, Failure)]
    return [result for result in results if not isinstance(result, Failure)], failures


def cut(path):
    found, failures = units([path])
    assert failures == []
    return {unit.unit: unit.content for unit in found}


def names(paths, **options):
    return [path.as_posix() for path in files.find(paths, **options)]


def test_markdown_is_cut_at_headings(folder):
    write("a.md", "intro\n\n# One\n\nfirst\n```\n# no heading\n```\n\n## Two\nsecond\n")
    assert cut("a.md") == {
        "L1-1": "intro",
        "L3-8": "# One\n\nfirst\n```\n# no heading\n```",
        "L10-11": "## Two\nsecond",
    }


def test_a_heading_without_text_joins_the_next(folder):
    write("a.md", "# Title\n\n## Part\ntext\n## Other\nmore")
    assert cut("a.md") == {"L1-4": "# Title\n\n## Part\ntext", "L5-6": "## Other\nmore"}


def test_python_is_cut_at_top_level_definitions(folder):
    write(
        "a.py",
        '"""Doc."""\nimport os\n\n\n@cache\ndef f():\n    def inner():\n        pass\n\nX = 1\n\nclass C:\n    pass\n',
    )
    assert cut("a.py") == {
        "L1-2": '"""Doc."""\nimport os',
        "L5-8": "@cache\ndef f():\n    def inner():\n        pass",
        "L10-10": "X = 1",
        "L12-13": "class C:\n    pass",
    }
    assert {unit.task for unit in units(["a.py"])[0]} == {"code"}


def test_python_that_does_not_parse_is_cut_as_text(folder):
    text = "def f(:\n    pass\n\ndef g():\n    pass"
    write("a.py", text)
    assert list(cut("a.py").values()) == [text]


def test_warnings_of_old_python_neither_show_nor_change_the_cuts(folder):
    write("a.py", "def f():\n    return '\\d'\n\ndef g():\n    return 1if f() else 2\n")  # the tests make them errors
    assert list(cut("a.py")) == ["L1-2", "L4-5"]


def test_a_class_that_is_too_long_is_cut_at_methods(folder):
    body = "        return " + "1 + " * 100 + "1"
    methods = [f"    def f{n}(self):\n{body}" for n in range(5)]
    write("a.py", "class C:\n    x = 1\n\n" + "\n\n".join(methods) + "\n\nend = 1\n")
    assert list(cut("a.py").values()) == ["class C:\n    x = 1", *(method.strip("\n") for method in methods), "end = 1"]


@pytest.mark.parametrize("suffix", [".md", ".py", ".txt", ".rst", ".toml", ".js", ".go"])
def test_no_unit_is_too_long_and_no_line_is_lost(folder, suffix):
    paragraphs = [f"paragraph_{n} = '" + "x" * (97 * n % 700) + "'" for n in range(40)]
    write("a" + suffix, "\n\n".join(paragraphs) + "\n")
    found = cut("a" + suffix)
    assert max(map(len, found.values())) <= MAX_UNIT_CHARS
    assert [line for text in found.values() for line in text.split("\n") if line] == paragraphs
    lines = Path("a" + suffix).read_text("utf-8").split("\n")
    for unit, text in found.items():
        first, last = map(int, unit[1:].split("-"))
        assert "\n".join(lines[first - 1 : last]) == text


def test_paragraphs_stay_whole(folder):
    line = "z" * 300
    write("a.txt", f"{line}\n{line}\n\n{line}\n{line}\n")
    assert list(cut("a.txt")) == ["L1-2", "L4-5"]


def test_a_paragraph_that_is_too_long_is_cut_between_lines(folder):
    write("a.txt", "\n".join(str(n) * 400 for n in range(1, 8)))
    assert list(cut("a.txt")) == ["L1-2", "L3-4", "L5-6", "L7-7"]


def test_a_line_that_is_too_long_is_cut_at_spaces(folder):
    write("a.cfg", "start\n" + "word " * 500 + "\n" + "y" * 1300)
    found = cut("a.cfg")
    assert list(found) == ["L1-1", "L2:1-1199", "L2:1201-2399", "L2:2401-2500", "L3:1-1200", "L3:1201-1300"]
    assert " ".join(found[unit] for unit in found if unit.startswith("L2")).split() == ["word"] * 500


def test_files_without_text_are_told(folder):
    write("a.md", "\n \n")
    write("b.py", "")
    write("c.html", "<script src=app.js></script>")
    write("d.ipynb", '{"nbformat": 4, "cells": []}')
    told = []
    paths = [Path(name) for name in ("a.md", "b.py", "c.html", "d.ipynb")]
    assert list(files.units(paths, on_left_out=lambda *about: told.append(about))) == []
    assert told == [(path, "without text") for path in paths]


def test_folders_are_searched_in_order_and_what_is_left_out_is_told(folder):
    for name in ("b.md", "a.png", "sub/c.TXT", "build/e.md", "dist/f.md", ".git/g.md", ".venv/lib/h.py", ".i.md"):
        write("docs/" + name, "text")
    Path("docs/sub/d.xls").write_bytes(b"\xd0\xcf\x11\xe0\0")
    (folder / "docs" / "nothing").mkdir()
    left_out = {}
    found = files.find(["docs", Path("docs") / "b.md", "./docs"], on_left_out=lambda *about: left_out.update([about]))
    assert [path.as_posix() for path in found] == [
        "docs/a.png",
        "docs/b.md",
        "docs/build/e.md",
        "docs/dist/f.md",
        "docs/sub/c.TXT",
    ]
    hidden = dict.fromkeys((Path("docs/.git"), Path("docs/.venv"), Path("docs/.i.md")), "hidden")
    assert left_out == {**hidden, Path("docs/sub/d.xls"): "of other kinds"}
    assert names(["docs/.venv", "docs/.i.md"]) == ["docs/.venv/lib/h.py", "docs/.i.md"]


def test_a_file_has_one_spelling_that_begins_as_it_was_written(folder, monkeypatch):
    (folder / "sub").mkdir()
    (folder / "sub" / "a.md").write_text("text", encoding="utf-8")
    monkeypatch.chdir(folder)
    for path in ("sub", "./sub//", "sub/../sub", "gone/../sub/a.md"):
        assert [file.as_posix() for file in files.find([path])] == ["sub/a.md"]
    monkeypatch.chdir("sub")
    assert [file.as_posix() for file in files.find(["../sub/"])] == ["../sub/a.md"]


def test_what_cannot_be_read_is_reported_and_does_not_stop_the_rest(folder):
    write("good.md", "text")
    Path("bad.txt").write_bytes(b"abc\xff")
    Path("sheet.xlsx").write_bytes(b"PK\3\4\0")
    found, failures = units(["bad.txt", "no.md", "no.png", "sheet.xlsx", "good.md"])
    assert [unit.source for unit in found] == ["good.md"]
    assert [(failure.source, failure.reason) for failure in failures[:3]] == [
        ("bad.txt", "is not UTF-8 text: invalid start byte at byte 3"),
        ("no.md", "cannot be read: No such file or directory"),
        ("no.png", "cannot be read: No such file or directory"),
    ]
    assert failures[3] == Failure(-1, "sheet.xlsx", "cannot be read as XLSX: File is not a zip file")


def test_a_part_of_a_csv_has_the_header_row_above_it(folder):
    rows = [f'{n},"{"x" * 100}\nmore"' for n in range(20)]
    write("a.csv", "\n".join(["id,text", *rows]))
    write("b.csv", "\n".join(['id,"a\nb"', *rows]))
    parts, failures = units(["a.csv"])
    assert failures == []
    assert [part.context for part in parts] == ["a.csv", "a.csv › id,text"]
    assert all(part.content.endswith('more"') for part in parts)  # no row is torn
    assert {part.context for part in units(["b.csv"])[0]} == {"b.csv"}


def test_a_byte_order_mark_and_carriage_returns_do_not_show(folder):
    Path("a.md").write_bytes(b"\xef\xbb\xbf# One\r\ntext\r\n")
    assert cut("a.md") == {"L1-2": "# One\ntext"}


def test_code_of_other_languages_is_cut_between_functions(folder):
    function = "function f{n}() {{\n  // {filler}\n\n  return {n};\n}}"
    functions = [function.format(n=n, filler="x" * 500) for n in range(4)]
    write("a.js", "\n\n".join(functions) + "\n")
    assert list(cut("a.js").values()) == ["\n\n".join(functions[:2]), "\n\n".join(functions[2:])]
    assert {unit.task for unit in units(["a.js"])[0]} == {"code"}


@pytest.mark.parametrize("text", ["SELECT 1;", "a\n  b\n", "\n\n  a\n", "{\n}\n"])
def test_code_without_a_blank_line_at_the_margin_is_one_unit(folder, text):
    write("q.sql", text)
    assert list(cut("q.sql").values()) == [text.strip("\n")]


def test_text_is_known_by_what_it_holds_and_code_by_its_name(folder):
    code = ["Dockerfile", "Makefile", "a.proto", "b.tf", "CMakeLists.txt", "c.F90"]
    other = ["LICENSE", "d.json", "e.xml", "f.ini", "g.csv", "h.rst", "i.tex", "notes"]
    for name in (*code, *other):
        write(f"docs/{name}", "some words\n")
    write("docs/tool", "#!/bin/sh\nls\n")
    assert {unit.source[5:]: unit.task for unit in units(["docs"])[0]} == {
        **dict.fromkeys([*code, "tool"], "code"),
        **dict.fromkeys(other, "retrieval"),
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x1b[31mred\x1b[0m \x07 page\x0c", None),
        (("a line of words\n" * 9 + "\x1f\n").encode(), None),
        (b"", None),  # it has no text, which reading tells
        ("naïve".encode("latin-1"), None),  # reading tells that it is not UTF-8
        ("é".encode() * 40_000, None),  # the beginning ends within a character
        (b"words of prose in a long line " * 100, None),
        (("漢字" * 2000).encode(), None),
        (b"\x01\x02\x03", "of other kinds"),
        (b"PK\3\4\0", "of other kinds"),
        ("words".encode("utf-16-le"), "of other kinds"),  # without its mark
        (b"/* banner */\n" + b"a=function(b,c){return b+c};" * 200, "generated"),
        (b"[0.12345678901234567,\n" * 20 + b"1.2345678901234567e+00," * 4000, "generated"),
    ],
)  # fmt: skip
def test_what_nobody_reads_is_left_out_of_folders(folder, content, reason):
    Path("a.dat").write_bytes(content)
    assert kinds.unfit(Path("a.dat")) == reason


def test_a_long_text_is_left_out_of_folders_and_read_by_name(folder, monkeypatch):
    monkeypatch.setattr(kinds, "MAX_TEXT_BYTES", 10)
    write("docs/a.md", "text text text")
    assert names(["docs"]) == []
    assert [unit.content for unit in units(["docs/a.md"])[0]] == ["text text text"]


def test_a_fault_of_our_own_is_told_as_such_and_stops_nothing(folder, monkeypatch, caplog):
    def fail(_):
        raise ValueError("zip() argument 2 is longer than argument 1")

    monkeypatch.setattr(cutting, "blocks", fail)
    write("a.c", "text")
    write("b.md", "text")
    found, failures = units(["a.c", "b.md"])
    assert [unit.source for unit in found] == ["b.md"]
    assert failures[0].reason.startswith("cannot be cut: a fault of polyvec, not of the file. Please report ValueError")
    assert "in fail" in caplog.text


def test_a_fault_of_our_own_in_the_parts_of_a_page_is_told_as_such(folder, monkeypatch):
    def fail(*_):
        raise IndexError("list index out of range")

    monkeypatch.setattr(cutting, "parts", fail)
    write("a.html", "<p>text")
    found, failures = units(["a.html"])
    assert not found
    assert failures[0].reason.startswith("cannot be cut: a fault of polyvec")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le"])
def test_utf_16_is_read_by_its_mark(folder, encoding):
    mark = "" if encoding == "utf-16" else "\ufeff"
    Path("a.md").write_bytes((mark + "# Größe\ntext").encode(encoding))
    assert cut("a.md") == {"L1-2": "# Größe\ntext"}


GERMAN = "Die Größe der Häuser überrascht uns. Für jede Straße gibt es eigene Schlüssel und günstige Räume. "
JAPANESE = "これは日本語の文章です。東京の天気は晴れです。会議は午後三時に始まります。資料を確認してください。"
CHINESE = "这是一个中文文件。北京的天气很好。会议在下午三点开始。请确认资料内容，然后回复我们的邮件。"
RUSSIAN = "Это русский текст. Погода в Москве хорошая. Собрание начнётся в три часа дня. Проверьте документы. "
CZECH = "Příliš žluťoučký kůň úpěl ďábelské ódy. Schůze začíná ve tři hodiny odpoledne. Zkontrolujte dokumenty. "
HUNGARIAN = "Árvíztűrő tükörfúrógép. A gyűlés délután három órakor kezdődik. Kérem, ellenőrizze a dokumentumokat. "


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("iso8859-1", GERMAN),
        ("cp1252", GERMAN + "„Schön“ – so heißt es."),
        ("shift_jis", JAPANESE),
        ("gb18030", CHINESE),
        ("koi8-r", RUSSIAN),
        ("iso8859-2", CZECH),
    ],
)
def test_text_in_an_older_encoding_is_read_right(folder, encoding, text):
    text = (3 * text).strip()
    Path("a.txt").write_bytes(text.encode(encoding))
    assert list(cut("a.txt").values()) == [text]


@pytest.mark.parametrize(
    "content",
    [
        bytes(128 + (7 * number) % 128 for number in range(600)),
        (3 * GERMAN).encode() + b"\xe4",
        (3 * CHINESE).encode()[:-1],
        GERMAN.encode("utf-16")[:-1],
        HUNGARIAN.encode("iso8859-2"),  # the best guess is wrong, and has a low confidence
    ],
)
def test_junk_and_damaged_text_is_not_guessed(folder, content):
    Path("a.txt").write_bytes(content)
    found, failures = units(["a.txt"])
    assert (found, len(failures)) == ([], 1)


@pytest.mark.parametrize("name", ["a.py", "a.txt"])
def test_binary_junk_is_a_failure(folder, name):
    Path(name).write_bytes(b"x = '\0'")
    assert units([name])[1][0].reason == "is binary: it holds null bytes or many control characters"


def test_what_gitignore_names_is_left_out(folder):
    for name in (
        "a.md",
        "b.log.md",
        "keep.log.md",
        "out/c.md",
        "sub/d.md",
        "sub/e.md",
        "sub/deep/d.md",
        "sub/out/f.md",
    ):
        write("docs/" + name, "text")
    write("docs/.gitignore", "*.log.md\n!keep.log.md\nout/\n# a comment\n\n")
    write("docs/sub/.gitignore", "/d.md\n")
    assert names(["docs"]) == ["docs/a.md", "docs/keep.log.md", "docs/sub/e.md", "docs/sub/deep/d.md"]
    assert names(["docs/sub/d.md", "docs/out/c.md"]) == ["docs/sub/d.md", "docs/out/c.md"]  # named themselves


def test_a_nested_gitignore_wins(folder):
    for name in ("a.md", "sub/a.md"):
        write("docs/" + name, "text")
    write("docs/.gitignore", "a.md\n")
    write("docs/sub/.gitignore", "!a.md\n")
    assert names(["docs"]) == ["docs/sub/a.md"]


def test_gitignore_files_above_count_within_a_repository(folder):
    for name in ("a.md", "b.md"):
        write("repo/docs/" + name, "text")
    write("repo/.gitignore", "docs/a.md\n")
    assert names(["repo/docs"]) == ["repo/docs/a.md", "repo/docs/b.md"]
    (folder / "repo" / ".git").mkdir()
    assert names(["repo/docs"]) == ["repo/docs/b.md"]
    assert names([folder / "repo" / "docs"]) == [(folder / "repo/docs/b.md").as_posix()]


def test_patterns_to_exclude_win_over_everything(folder):
    for name in ("a.md", "b.txt", "sub/c.md", "sub/d.txt"):
        write("docs/" + name, "text")
    write("docs/.gitignore", "!*.txt\n")
    assert names(["docs"], exclude=["*.txt"]) == ["docs/a.md", "docs/sub/c.md"]
    assert names(["docs"], exclude=["/sub/"]) == ["docs/a.md", "docs/b.txt"]
    assert names(["docs/b.txt", "docs/a.md"], exclude=["*.txt"]) == ["docs/a.md"]
    with pytest.raises(ValueError, match="`exclude` has an invalid pattern"):
        files.find(["docs"], exclude=["!"])


def test_a_link_in_a_circle_does_not_hang(folder):
    write("docs/a.md", "text")
    (folder / "docs" / "loop").symlink_to(folder / "docs", target_is_directory=True)
    (folder / "docs" / "b.md").symlink_to(folder / "docs" / "a.md")
    assert names(["docs"]) == ["docs/a.md"]


def test_the_end_of_the_callers_time_is_no_fault_of_a_file(folder, monkeypatch):
    def alarm(*_):
        raise TimeoutError("of a signal handler")

    write("a.md", "text")
    monkeypatch.setattr(Path, "read_bytes", alarm)
    with pytest.raises(TimeoutError, match="of a signal handler"):
        list(files.units([Path("a.md")]))


def test_a_file_that_vanishes_is_a_failure(folder):
    write("docs/a.md", "text")
    write("docs/b.md", "text")
    found = files.find(["docs"])
    Path("docs/a.md").unlink()
    gone, there = files.units(found)
    assert gone == Failure(-1, "docs/a.md", "cannot be read: No such file or directory")
    assert there.source == "docs/b.md"


def picture(size=(40, 60)):
    return Image.new("RGB", size, "white")


def test_a_pdf_gives_its_pages_one_by_one(folder):
    picture().save("a.pdf", save_all=True, append_images=[picture((60, 40))])
    found = files.units(files.find(["a.pdf"]), reading=files.Reading(dpi=72))
    first = next(found)
    assert (first.source, first.unit, first.task, first.text) == ("a.pdf", "page 1", "retrieval", None)
    assert first.content.size == (40, 60)
    assert next(found).content.size == (60, 40)
    assert next(found, None) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is empty"), (b"%PDF-1.4 junk", "cannot be read as a PDF"), (b"text", "cannot be read")],
)
def test_a_pdf_that_cannot_be_read_is_a_failure(folder, content, reason):
    Path("a.pdf").write_bytes(content)
    write("b.md", "text")
    found, failures = units(["a.pdf", "b.md"])
    assert reason in failures[0].reason
    assert [unit.source for unit in found] == ["b.md"]


def test_a_bad_page_does_not_stop_the_pdf(folder, monkeypatch):
    picture().save("a.pdf", save_all=True, append_images=[picture((4000, 10)), picture()])
    found, failures = units(["a.pdf"])
    assert [unit.unit for unit in found] == ["page 1", "page 3"]
    assert [(failure.source, failure.reason[:7]) for failure in failures] == [("a.pdf", "page 2:")]


def test_a_tiff_of_several_pages_gives_them_one_by_one(folder, scan):
    found, failures = units(["scan.tif"])
    assert failures == []
    assert [unit.unit for unit in found] == ["page 1", "page 2", "page 3"]
    assert {(unit.source, unit.task, unit.text) for unit in found} == {("scan.tif", "retrieval", None)}
    for unit in found:
        assert files.load("scan.tif", unit.unit).tobytes() == unit.content.tobytes()
    picture().save("scan.tif")
    assert [unit.unit for unit in units(["scan.tif"])[0]] == ["image"]


def test_a_bad_page_does_not_stop_the_tiff(folder, torn_scan):
    found, failures = units(["scan.tif"])
    assert [unit.unit for unit in found] == ["page 1", "page 3"]
    assert [(failure.source, failure.reason[:7]) for failure in failures] == [("scan.tif", "page 2:")]
    with pytest.raises(ValueError, match=r"page 2 of 'scan\.tif' cannot be read|no readable page 2"):
        files.load("scan.tif", "page 2")


def test_a_missing_reader_of_pdfs_is_told_and_stops_nothing(folder, monkeypatch):
    picture().save("a.pdf")
    write("b.md", "text")
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    found, failures = units(["a.pdf", "b.md"])
    assert "pip install 'qdrant-polyvec[pdf]'" in failures[0].reason
    assert [unit.source for unit in found] == ["b.md"]


def test_a_picture_is_given_again(folder):
    write("a.md", "text")
    picture().save("a.png")
    picture().save("a.pdf", save_all=True, append_images=[picture((60, 40))])
    assert files.load("a.png", "image") == Path("a.png")
    assert files.load("a.pdf", "page 2", reading=files.Reading(dpi=72)).size == (60, 40)
    wrong = [
        ("b.png", "image", "is gone"),
        ("a.pdf", "page 3", "has no readable page 3"),
        ("a.pdf", "page x", "is no image"),
        ("a.png", "L1-2", "is no image"),
        ("a.png", "page 2", "has no readable page 2"),
        ("a.md", "page 1", "is no image"),
    ]
    for source, unit, message in wrong:
        with pytest.raises(ValueError, match=message):
            files.load(source, unit)


def test_html_is_cut_into_its_sections(folder):
    write("a.html", "<title>Report</title><h1>One</h1><p>first<h2>Two</h2><p>" + "word " * 500)
    found = cut("a.html")
    assert list(found)[:3] == ["section 1", "section 2", "section 3 L1-1"]
    assert found["section 1"] == "Report"
    assert found["section 2"] == "One\nfirst"
    assert {unit.task for unit in units(["a.html"])[0]} == {"retrieval"}


def test_blocks_keep_what_is_indented_with_what_it_belongs_to():
    lines = ["int f() {", "", "  return 1;", "", "}", "", "x" * 1195, "", "int g;"]
    assert list(cutting.blocks(lines).starts) == [0, 6, 8]


def test_a_file_without_permission_is_a_failure(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    write("a.md", "text")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert units(["a.md"])[1][0].reason == "cannot be read: Permission denied"


def test_one_bad_file_never_stops_the_folder(folder):
    write("docs/z.md", "text")
    (folder / "docs" / "a.md").symlink_to("a.md")
    os.mkfifo(folder / "docs" / "b.md")
    write("docs/d.py", "x=" + "- " * 50_000)
    write("docs/e.html", "a\0b")
    found, failures = units(["docs"])
    assert {unit.source for unit in found} == {"docs/z.md", "docs/d.py"}
    assert {failure.source for failure in failures} == {"docs/a.md", "docs/b.md", "docs/e.html"}


def test_a_line_of_gitignore_that_is_no_pattern_is_passed_over(folder):
    for name in ("a.md", "b.md"):
        write("docs/" + name, "text")
    write("docs/.gitignore", "!\na.md\n")
    assert names(["docs"]) == ["docs/b.md"]


def test_a_folder_that_is_named_is_taken_though_it_is_ignored(folder):
    write("repo/out/a.md", "text")
    write("repo/.gitignore", "out/\n")
    (folder / "repo" / ".git").mkdir()
    assert names(["repo"]) == []
    assert names(["repo/out"]) == ["repo/out/a.md"]


def test_a_folder_to_exclude_counts_for_named_files_too(folder):
    write("docs/sub/a.md", "text")
    assert names(["docs/sub/a.md"], exclude=["sub/"]) == []


def test_a_fence_is_closed_by_its_like(folder):
    write("a.md", "````\n```\n# no\n```\n# no\n````\n# Yes\ntext\n")
    assert list(cut("a.md")) == ["L1-6", "L7-8"]
