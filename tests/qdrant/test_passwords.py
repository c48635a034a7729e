"""The password of encrypted PDFs on the command line."""

import json
import types
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

import polyvec
from polyvec.testing import HashEncoder
from qdrant_polyvec import commands
from qdrant_polyvec.files import Reading
from tests.core.pdfs import encrypted, sheets

SECRET = "s3same"
OPTIONS = "POLYVEC_PDF_PASSWORD or --password"
RED = (254, 0, 0)


class Explaining(HashEncoder):
    def tokens(self, text, *, task, side):
        return [f" {word}" for word in text.split()]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A working directory with an encrypted PDF of three pages and a plain one."""
    made = types.SimpleNamespace(from_pretrained=lambda model, **_: Explaining(dim=16, multivector_dim=8, name=model))
    monkeypatch.setitem(vars(polyvec), "Embedder", made)
    monkeypatch.chdir(tmp_path)
    Path("sealed.pdf").write_bytes(encrypted(SECRET.encode(), b"owner's", n_pages=3))
    Path("open.pdf").write_bytes(sheets(1))
    return tmp_path


def run(name, *arguments, password=None):
    """Run a command, with a password in its variable. Give its exit code, its output and its errors."""
    result = CliRunner().invoke(getattr(commands, name), arguments, env={"POLYVEC_PDF_PASSWORD": password})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert SECRET not in result.output
    return result.exit_code, result.stdout, result.stderr


def drawn(file):
    with Image.open(file) as picture:
        return picture.convert("RGB").getpixel((5, picture.height - 5))


def test_encrypted_pages_are_indexed_and_shown_with_their_password(home):
    code, out, err = run("index", "sealed.pdf", "open.pdf", password=SECRET)
    assert (code, out.splitlines()[-1].split()) == (0, ["total", "4", "0", "0", "0"])
    assert "4/4" in err  # the progress bar: all pages
    assert run("index", "sealed.pdf", "--password", SECRET)[1].splitlines()[-1].split()[2] == "3"
    assert run("show", "sealed.pdf:page 2", "--save", "page.png", password=SECRET)[0] == 0
    assert drawn("page.png") == (255, 0, 0)
    assert run("search", "red", "--show", "1", "--save", "hit.png", "--explain", "map.png", password=SECRET)[0] == 0
    assert {Path(name).exists() for name in ("hit.png", "map.png")} == {True}


def test_without_it_the_error_names_the_options_and_the_other_files_are_read(home):
    code, out, err = run("index", "sealed.pdf", "open.pdf")
    assert (code, out.splitlines()[-1].split()) == (1, ["total", "1", "0", "0", "1"])
    assert f"failed: sealed.pdf: it is encrypted: give its password by {OPTIONS}\n" in err
    run("index", "sealed.pdf", "--collection", "sealed", password=SECRET)
    expected = f"error: '{home}/sealed.pdf' is encrypted: give its password by {OPTIONS}\n"
    assert run("show", "sealed.pdf:page 2", "--collection", "sealed", "--save", "page.png") == (2, "", expected)
    assert run("search", "red", "--collection", "sealed", "--explain", "map.png")[2] == expected


def test_a_wrong_one_fails_for_its_file_alone(home):
    code, out, err = run("index", "sealed.pdf", "open.pdf", "--password", "wr0ng")
    assert (code, out.splitlines()[-1].split()) == (1, ["total", "1", "0", "0", "1"])
    assert f"failed: sealed.pdf: it is encrypted, and the password of {OPTIONS} does not open it\n" in err
    assert "wr0ng" not in out + err


def test_all_is_encoded_again_with_the_password_and_nothing_without(home):
    run("index", "sealed.pdf", "open.pdf", "--model", "first", password=SECRET)
    code, _, err = run("reindex", "--model", "second")
    assert (code, err.count(f"it is encrypted: give its password by {OPTIONS}")) == (1, 3)
    code, out, _ = run("reindex", "--model", "second", "--json", password=SECRET)
    assert (code, len(json.loads(out)["ok"] + json.loads(out)["skipped"])) == (0, 4)


def test_it_is_stored_and_shown_nowhere(home):
    run("index", "sealed.pdf", password=SECRET)
    files = [file for file in (home / "index").rglob("*") if file.is_file()]
    assert any(b"sealed.pdf" in file.read_bytes() for file in files)
    assert not any(SECRET.encode() in file.read_bytes() for file in files)
    assert SECRET not in repr(Reading(password=SECRET))
