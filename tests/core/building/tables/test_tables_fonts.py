import importlib.util

import numpy as np
import pytest

from polyvec.data.building.tables import fonts
from polyvec.data.building.tables.fonts import Fonts, chain, installed_fonts
from polyvec.data.building.tables.typesetting import Face, bitmap, width, wrapped


@pytest.fixture(scope="module")
def installed():
    return installed_fonts()


def test_a_letter_that_no_font_has_is_an_error_that_names_its_script(installed):
    only = Fonts(installed.bases[:1], installed.bases[:1])
    with pytest.raises(ValueError, match=r"no font has 'क' \(U\+0915, Devanagari\) in t.csv:3; .*--font FILE"):
        chain(only, 0, frozenset("aक"), where=" in t.csv:3")


def test_without_the_packages_of_fonts_they_are_what_to_install(monkeypatch):
    monkeypatch.setattr(fonts, "find_spec", lambda name: None)
    bare = Fonts(installed_fonts().bases, installed_fonts().bases)
    with pytest.raises(ValueError, match=r"pip install 'polyvec\[fonts\]'"):
        chain(bare, 0, frozenset("京"))


def test_only_the_fonts_that_are_needed_are_taken(installed):
    assert len(chain(installed, 0, frozenset("abc é"))) == 1
    assert len(chain(installed, 0, frozenset("abc क 京 ไ"))) == 4
    assert importlib.util.find_spec("notojp_matplotlib") is not None


def test_a_users_font_is_the_base_and_a_file_that_is_none_is_refused(installed, tmp_path):
    serif = next(file for file in installed.bases if "Serif" in file)
    assert installed_fonts([serif]).bases == (serif,)
    (tmp_path / "no.ttf").write_text("no font")
    with pytest.raises(ValueError, match="no font that FreeType reads"):
        installed_fonts([tmp_path / "no.ttf"])


def test_devanagari_and_arabic_are_shaped(installed):
    """A conjunct is narrower than its letters apart, and joined letters look unlike letters apart."""
    face = Face(chain(installed, 0, frozenset("क्षसलم")), 40, "hi")
    assert width("क्ष", face) < width("क\u200c्\u200cष", face)
    joined, apart = bitmap("سلم", face)[0], bitmap("س\u200cل\u200cم", face)[0]
    assert joined.shape != apart.shape


def test_chinese_and_japanese_have_their_own_shapes_of_one_letter(installed):
    files = chain(installed, 0, frozenset("骨直"))
    chinese, japanese = (bitmap("骨", Face(files, 60, language))[0] for language in ("zh", "ja"))
    assert chinese.shape != japanese.shape or not np.array_equal(chinese, japanese)


def test_lines_break_at_spaces_and_inside_words_that_are_too_wide(installed):
    face = Face(installed.bases[:1], 20)
    room = width("one two", face) + 1
    assert wrapped("one two three", face, room) == ["one two", "three"]
    pieces = wrapped("w" * 30, face, room)
    assert "".join(pieces) == "w" * 30
    assert all(width(piece, face) <= room for piece in pieces)
