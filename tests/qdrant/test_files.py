from pathlib import Path

import pytest

from qdrant_polyvec.files import MAX_UNIT_CHARS, units


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, text):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, "utf-8")


def cut(path):
    found, failed = units([path])
    assert failed == []
    return {unit.unit: unit.content for unit in found}


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


@pytest.mark.parametrize("text", ["def f(:\n    pass\n\ndef g():\n    pass", "x = '\x00'"])
def test_python_that_does_not_parse_is_cut_as_text(folder, text):
    write("a.py", text)
    assert list(cut("a.py").values()) == [text]


@pytest.mark.parametrize("suffix", [".md", ".py", ".txt", ".rst", ".toml"])
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
    write("a.txt", "start\n" + "word " * 500 + "\n" + "y" * 1300)
    found = cut("a.txt")
    assert list(found) == ["L1-1", "L2:1-1199", "L2:1200-2394", "L2:2395-2500", "L3:1-1200", "L3:1201-1300"]
    assert " ".join(found[unit] for unit in found if unit.startswith("L2")).split() == ["word"] * 500


def test_an_empty_file_has_no_units(folder):
    write("a.md", "\n \n")
    write("b.py", "")
    assert units(["a.md", "b.py"]) == ([], [])


def test_folders_are_searched_in_order_and_private_ones_skipped(folder):
    private = (".git/e.md", ".venv/f.py", "__pycache__/g.py", "build/h.md", "dist/i.md", "node_modules/j.md")
    for name in ("b.md", "a.png", "sub/c.TXT", "sub/d.pdf", *private):
        write("docs/" + name, "text")
    found, failed = units(["docs", Path("docs") / "b.md", "./docs"])
    assert [(unit.source, unit.unit, unit.task) for unit in found] == [
        ("docs/a.png", "image", "retrieval"),
        ("docs/b.md", "L1-1", "retrieval"),
        ("docs/sub/c.TXT", "L1-1", "retrieval"),
    ]
    assert found[0].content == Path("docs/a.png")
    assert failed == []


def test_what_cannot_be_read_is_reported_and_does_not_stop_the_rest(folder):
    write("good.md", "text")
    Path("bad.txt").write_bytes(b"abc\xff")
    write("sheet.xlsx", "")
    found, failed = units(["bad.txt", "no.md", "no.png", "sheet.xlsx", "good.md"])
    assert [unit.source for unit in found] == ["good.md"]
    assert [(failure.source, failure.error) for failure in failed[:3]] == [
        ("bad.txt", "is not UTF-8 text: invalid start byte at byte 3"),
        ("no.md", "cannot be read: No such file or directory"),
        ("no.png", "cannot be read: No such file or directory"),
    ]
    assert failed[3].source == "sheet.xlsx"
    assert "suffix '.xlsx' is not one of .md, .py" in failed[3].error


def test_a_byte_order_mark_and_carriage_returns_do_not_show(folder):
    Path("a.md").write_bytes(b"\xef\xbb\xbf# One\r\ntext\r\n")
    assert cut("a.md") == {"L1-2": "# One\ntext"}
