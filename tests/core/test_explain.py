import sys

import numpy as np
import pytest
from PIL import Image

from polyvec import Grid
from polyvec.compression import binary, int8
from polyvec.explain import overlay, similarity_map, word_maps
from polyvec.vectors import unit

PATCHES = np.array([[9, 9], [1, 0], [0, 1], [1, 1], [0, 0], [-1, 0], [0, 2], [9, 9]], np.float32)  # 2×3 from token 1
GRID = Grid(rows=2, columns=3, start=1)


def test_a_map_holds_the_similarity_of_a_token_with_each_patch_in_reading_order():
    maps = similarity_map(np.array([[1, 0], [0, 1]], np.float32), PATCHES, GRID)
    np.testing.assert_array_equal(maps, [[[1, 0, 1], [0, -1, 0]], [[0, 1, 1], [0, 0, 2]]])


def test_a_grid_that_does_not_fit_is_refused():
    for grid in (Grid(rows=3, columns=3, start=1), Grid(rows=2, columns=3, start=-1)):
        with pytest.raises(ValueError, match=f"{grid.rows}×3 patches from token {grid.start}"):
            similarity_map(PATCHES, PATCHES, grid)


def test_the_most_similar_region_is_the_reddest():
    maps = np.array([[[0, 0], [0, 1]]], np.float32)
    sheet = np.asarray(overlay(Image.new("RGB", (300, 300), "white"), maps, ["word"]), np.int32)
    page = sheet[342 + 22 : 342 + 22 + 300, 10:310]  # below the map of all words
    green = page[:, :, 1]
    assert green[:70, :70].min() == 255, "a region that does not match stays as it is"
    assert green[200:, 200:].mean() < 160


def test_equal_similarities_tint_nothing():
    sheet = overlay(Image.new("RGB", (300, 300), "white"), np.ones((1, 2, 2), np.float32), ["word"])
    assert np.asarray(sheet)[40:300, 20:300].min() == 255


def test_a_page_is_drawn_large_for_all_words_together():
    page = Image.new("RGB", (1240, 1754), "white")
    page.paste("black", (0, 0, 620, 1754))
    sheet = overlay(page, np.zeros((1, 2, 2), np.float32), ["word"])
    assert (sheet.width, sheet.height > 1740 + 424) == (1250, True)
    assert [sheet.getpixel((x, 1700)) for x in (600, 640)] == [(0, 0, 0), (255, 255, 255)]


QUERY = ["Query", ":", " the", " tax", "es", " of", " Tokyo", "?"]


def test_maps_of_tokens_become_maps_of_words_and_the_strongest_is_first():
    maps = np.arange(8, dtype=np.float32)[:, None, None] * np.array([[1, -1]], np.float32)
    merged, words = word_maps(maps, QUERY, prefix="Query: ", is_left_out={"the", "of"}.__contains__)
    assert words == ["Tokyo?", "taxes"]
    np.testing.assert_array_equal(merged, [[[7, -6]], [[4, -3]]])
    assert word_maps(maps, QUERY)[1] == ["Tokyo?", "of", "taxes", "the", "Query:"]


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["Query", ":", " of", " the", "?"], ["of", "the?"]),
        (["Query", ":", " ", "東", "京都", " x"], ["東", "京都", "x"]),
        (["Query", ":", " caf", "é (1/2)", "é (2/2)", " 日 (1/2)", " 日 (2/2)"], ["café", "日"]),
        (["Query", ":", " a", " —", " 7"], ["a", "7"]),
    ],
)
def test_words_are_whole_in_every_script(tokens, words):
    maps = -np.arange(len(tokens), dtype=np.float32)[:, None, None]
    assert word_maps(maps, tokens, prefix="Query: ", is_left_out={"of", "the"}.__contains__)[1] == words


def test_a_query_without_words_is_refused():
    with pytest.raises(ValueError, match=r"the tokens 'Query: \?' have no word"):
        word_maps(np.zeros((3, 1, 1), np.float32), ["Query", ":", " ?"], prefix="Query: ")


def test_each_map_needs_its_token():
    with pytest.raises(ValueError, match="1 tokens and 2 maps"):
        word_maps(np.zeros((2, 1, 1), np.float32), ["a"])
    with pytest.raises(ValueError, match="2 tokens and 1 maps"):
        overlay(Image.new("RGB", (28, 28)), np.zeros((1, 2, 2), np.float32), ["a", "b"])


def captions(*tokens):
    """The captions of these tokens, each as an array of its ink."""
    sheet = overlay(Image.new("RGB", (300, 28)), np.zeros((len(tokens), 1, 1), np.float32), tokens)
    pixels = 255 - np.asarray(sheet.convert("L"))
    places = [(10 + number % 4 * 310, 70 + number // 4 * 60) for number in range(len(tokens))]
    return [pixels[top : top + 22, left : left + 300] for left, top in places]


def test_captions_are_drawn_in_every_script_that_a_font_has():
    tokens = ["a", "α", " β", "مر", "رم", "中", "文", "ไ", "หิ", "हि", "हन", "😀", "é (1/2)", "e\u0301", "😁\u200d"]
    drawn = captions(*tokens)
    assert len({caption.tobytes() for caption in drawn}) == len(tokens)
    assert all(caption[:, :30].any() for caption in drawn)


def test_arabic_is_joined_and_runs_from_right_to_left():
    joined, apart, tall_first = captions("بب", "ب\u200cب", "اب")
    assert not np.array_equal(joined, apart)
    upper = tall_first[:6, :20].any(axis=0)
    assert (upper[:8].any(), upper[8:].any()) == (False, True)  # the second letter is the left one


@pytest.mark.parametrize(
    ("token", "label"),
    [
        ("\n", r"'\n'"),
        ("\x1b[2J", r"'\x1b[2J'"),
        ("\u202eα", r"'\u202e\u03b1'"),
        ("\u3164", r"'\u3164'"),
        ("\ufe0f", r"'\ufe0f'"),
    ],
)
def test_what_is_invisible_is_spelled_out(token, label):
    one, other = captions(token, label)
    np.testing.assert_array_equal(one, other)


def test_a_long_token_leaves_room_for_its_similarity():
    latin, greek = captions("x" * 80, "α" * 80)
    assert greek[:, 220:].any()
    np.testing.assert_array_equal(latin[:, 220:], greek[:, 220:])


@pytest.mark.parametrize("token", ["\U00013000", "α\U00013000", "\ufffd"])
def test_a_letter_without_a_font_has_a_number_and_a_warning(token):
    with pytest.warns(UserWarning, match=r"numbers: 2 is '.*'\. `pip install 'polyvec\[build,fonts\]'"):
        _, numbered = captions("a", token)
    np.testing.assert_array_equal(numbered, captions("a", "token 2")[1])


def test_without_matplotlib_other_letters_have_numbers(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.warns(UserWarning, match="1 is 'α', 3 is 'β'"):
        captions("α", "a", "β")


def test_a_map_of_stored_codes_is_that_of_the_vectors_they_stand_for():
    document = np.eye(8, dtype=np.float32)[:6] * 2 - 0.25
    query = np.eye(8, dtype=np.float32)[:1]
    maps = similarity_map(query, unit(int8(document)), Grid(2, 3, 0))
    np.testing.assert_allclose(similarity_map(query, int8(document), Grid(2, 3, 0)), maps, rtol=1e-6)
    bits = similarity_map(query, binary(document), Grid(2, 3, 0))
    np.testing.assert_allclose(bits.ravel() * np.sqrt(8), [1, -1, -1, -1, -1, -1], rtol=1e-6)


def test_multivectors_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="query's vectors have 3 numbers, and the document's 2"):
        similarity_map(np.ones((1, 3), np.float32), PATCHES, GRID)
