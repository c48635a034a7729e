"""Texts in older encodings: which one `polyvec index` guessed, and the one that the user names."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from polyvec import Embedder, Failure
from polyvec.testing import HashEncoder
from qdrant_polyvec import commands, files
from qdrant_polyvec.files import Reading

GERMAN = "Die Größe der Häuser überrascht uns. Für jede Straße gibt es eigene Schlüssel und günstige Räume."
HUNGARIAN = "Árvíztűrő tükörfúrógép. A gyűlés délután három órakor kezdődik. Kérem, ellenőrizze a dokumentumokat."
RUSSIAN = "Это русский текст. Погода в Москве хорошая. Собрание начнётся в три часа дня. Проверьте документы."
JAPANESE = "これは日本語の文章です①。"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder = HashEncoder(dim=16, multivector_dim=8)
    monkeypatch.setattr(Embedder, "from_pretrained", lambda *_, **__: encoder)
    return tmp_path


def read(name, encoding=None):
    """The texts and the reasons of failures of a file, and the guesses."""
    guesses = []
    found = list(
        files.units(
            files.find([name]), reading=Reading(encoding=encoding), on_guess=lambda *guess: guesses.append(guess)
        )
    )
    texts = [unit.reason if isinstance(unit, Failure) else unit.content for unit in found]
    return texts, guesses


def run(name, *arguments):
    """Run a command. Give its exit code, its output and its errors."""
    result = CliRunner().invoke(getattr(commands, name), arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("cp850", GERMAN), ("iso-8859-2", HUNGARIAN), ("windows-1252", GERMAN), ("Shift_JIS", JAPANESE), ("hz", "中文。")],
)
@pytest.mark.parametrize("name", ["a.txt", "a.html"])
def test_an_encoding_that_is_named_is_used_instead_of_a_guess(name, encoding, text):
    codec = "cp932" if encoding == "Shift_JIS" else encoding  # as browsers read it
    Path(name).write_bytes(text.encode(codec))
    expected = text if encoding != "hz" else text.encode("hz").decode()  # it is ASCII, and so UTF-8
    assert read(name, encoding) == ([expected], [])


def test_utf_8_marks_and_declarations_win():
    Path("a.txt").write_text(GERMAN, encoding="utf-8")
    Path("b.txt").write_text(GERMAN, encoding="utf-16")
    Path("c.html").write_bytes(b"<meta charset=koi8-r>" + RUSSIAN.encode("koi8-r"))
    for name, text in [("a.txt", GERMAN), ("b.txt", GERMAN), ("c.html", RUSSIAN)]:
        assert read(name, "Shift_JIS") == ([text], [])


def test_what_does_not_decode_is_a_failure():
    Path("a.txt").write_bytes(b"Stra\xdfe \xe4 \xd5")
    assert read("a.txt", "Shift_JIS")[0] == ["is not Shift_JIS text: it has bytes that are no characters there"]
    assert read("a.txt", "cp857")[0] == ["is not cp857 text: it has bytes that are no characters there"]
    Path("a.html").write_bytes(b"Stra\xdfe \xe4 ")
    assert read("a.html", "Shift_JIS")[0] == ["is not Shift_JIS text: it has bytes that are no characters there"]


def test_guesses_are_told_for_texts_and_pages():
    Path("a.txt").write_bytes(RUSSIAN.encode("koi8-r"))
    Path("b.html").write_bytes(f"<p>{GERMAN}".encode("windows-1252"))
    Path("c.html").write_text("<p>ASCII")
    Path("d.txt").write_bytes(HUNGARIAN.encode("iso8859-2"))
    assert read("a.txt") == ([RUSSIAN], [(Path("a.txt"), "KOI8-U")])
    assert read("b.html") == ([GERMAN], [(Path("b.html"), "windows-1252")])
    assert read("c.html") == (["ASCII"], [])
    reasons, guesses = read("d.txt")
    assert "name its encoding by --encoding" in reasons[0]
    assert guesses == []


def test_the_summary_counts_guesses_by_encoding_with_an_example(folder):
    for name in ("a.txt", "b.txt", "c.txt"):
        Path(name).write_bytes((GERMAN + name).encode("windows-1252"))
    Path("d.txt").write_bytes(RUSSIAN.encode("koi8-r"))
    names = ["a.txt", "b.txt", "c.txt", "d.txt"]
    code, out, _ = run("index", *names)
    assert (code, out.splitlines()[-2:]) == (
        0,
        [
            "read as windows-1252: 3 files, such as a.txt (another: --encoding NAME)",
            "read as KOI8-U: 1 file, d.txt (another: --encoding NAME)",
        ],
    )
    assert json.loads(run("index", *names, "--json")[1])["files"]["guessed"] == {
        "windows-1252": {"files": 3, "example": f"{folder}/a.txt"},
        "KOI8-U": {"files": 1, "example": f"{folder}/d.txt"},
    }
    assert "read as" not in run("index", *names[:3], "--encoding", "windows-1252")[1]


@pytest.mark.parametrize("name", ["klingon", "hex", "rot13", ""])
@pytest.mark.parametrize("command", [("index", "a.txt"), ("reindex", "--model", "x")])
def test_an_unknown_encoding_is_refused(command, name):
    code, _, err = run(*command, "--encoding", name)
    assert code == 2
    assert f"Invalid value for '--encoding': {name!r} is no encoding; name it as in windows-1252, ISO-8859-2" in err


def test_documents_are_read_again_in_their_encoding():
    Path("a.txt").write_bytes(GERMAN.encode("cp850"))
    assert run("index", "a.txt", "--late-chunking", "--encoding", "cp850")[0] == 0
    assert run("reindex", "--model", "x", "--truncate-dim", "8")[0] == 1
    code, out, _ = run("reindex", "--model", "x", "--truncate-dim", "8", "--encoding", "cp850")
    assert (code, out.splitlines()[-1].split()) == (0, ["total", "1", "0", "0", "0"])
