import os
from pathlib import Path

import pytest

from polyvec import Failure
from polyvec.paths import absolute, check_name, normal, path_of, printable


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with `docs/deep` and a symbolic link `docs/link` to `other/place`."""
    for folder in ("docs/deep", "other/place"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "docs/link").symlink_to("../other/place")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("written", "inside"),
    [
        ("a.png", "a.png"),
        ("./a.png", "a.png"),
        ("docs/../a.png", "a.png"),
        ("gone/../a.png", "a.png"),
        ("docs//deep/./../a.png", "docs/a.png"),
        ("docs/link/a.png", "docs/link/a.png"),  # a symbolic link keeps its name
        ("docs/link/../a.png", "other/a.png"),  # and `..` leads out of the folder that it names
        ("docs/link/deep/../a.png", "docs/link/a.png"),
        ("docs/link/../../a.png", "a.png"),
    ],
)
def test_one_file_has_one_spelling(here, written, inside):
    for spelling in (written, Path(written), here / written, f"/{here / written}", f"file://{here}/{written}"):
        assert absolute(spelling) == here / inside
    assert os.path.realpath(written) == os.path.realpath(here / inside)  # it is the same file


def test_a_path_above_the_working_folder(here, monkeypatch):
    monkeypatch.chdir("docs/deep")
    assert absolute("../../a.png") == here / "a.png"
    assert absolute("/../a.png") == Path("/a.png")


@pytest.mark.parametrize(
    ("written", "shown"),
    [("./docs//a", "docs/a"), ("docs/deep/..", "docs"), ("docs/..", "."), ("../a", "../a"), ("docs/../../a", "../a"),
     ("docs/link/../a", "docs/link/../a"), ("", "."), ("/", "/"), ("/..", "/"), ("..", "..")],
)  # fmt: skip
def test_a_normal_path_begins_as_it_was_written(here, written, shown):
    assert normal(written).as_posix() == shown


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("file:///a%20b%23.png", "/a b#.png"),
        ("file://localhost/a.png", "/a.png"),
        ("FILE:/a.png", "/a.png"),
        ("file:///é.png", "/é.png"),
        ("file:///m%E9.png", "/m\udce9.png"),
        ("a%20b.png", "a%20b.png"),
        ("C:\\a.png", "C:\\a.png"),
        ("c://a.png", "c:/a.png"),
        ("notes on http://a", "notes on http:/a"),
    ],
)
def test_a_string_is_a_path_or_a_file_uri(name, path):
    assert path_of(name) == Path(path)
    assert path_of(Path(name)) == Path(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("https://example.com/a.png", r"'https://example.com/a.png' is not fetched: .* `polyvec.images.fetch\(url\)`"),
        ("s3://bucket/a.png", "is not fetched"),
        ("file://server/a.png", "is on the host 'server': three slashes begin"),
        ("file:///a#b.png", "# is written %23"),
        ("file:///a?b.png", "is written %3F"),
    ],
)
def test_other_uris_name_no_local_file(name, message):
    for call in (path_of, absolute):
        with pytest.raises(ValueError, match=message):
            call(name)


def test_names_that_are_not_unicode_are_printable():
    assert printable("m\udce9.txt") == r"m\udce9.txt"
    assert printable("é 中.txt") == "é 中.txt"
    assert str(Failure(0, "m\udce9.txt", "is gone: \udce9")) == r"m\udce9.txt: is gone: \udce9"
    check_name("é 中.txt")
    with pytest.raises(ValueError, match="not Unicode, so no index can keep it; rename it"):
        check_name("m\udce9.txt")
