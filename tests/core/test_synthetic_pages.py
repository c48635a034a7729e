from itertools import combinations
from typing import get_args

import numpy as np
import pytest

from polyvec.synthetic import pages, words, world


def _rng(seed=0):
    return np.random.default_rng(seed)


def _document(kind):
    rng = _rng()
    return next(document for _ in range(200) if (document := world.document(rng)).kind == kind)


def _printed(page):
    return {word for drawn in page.words for word in words.words(drawn.text)}


@pytest.fixture(scope="module")
def corpus():
    rng = _rng(1)
    documents = [world.document(rng) for _ in range(500)]
    return [(pages.layout(document, rng), world.queries(document, rng)) for document in documents]


def test_the_same_seed_gives_the_same_pixels():
    def picture(seed):
        rng = _rng(seed)
        return pages.page_image(world.document(rng), rng)

    assert picture(3).tobytes() == picture(3).tobytes()
    assert picture(3).tobytes() != picture(4).tobytes()


def test_every_printed_word_is_in_the_vocabulary(corpus):
    printed = set().union(*(_printed(page) for page, _ in corpus))
    assert printed <= set(words.VOCABULARY)


def test_the_facts_of_a_query_are_printed_on_its_page(corpus):
    for page, queries in corpus:
        for query in queries:
            assert set(words.content_words(query)) <= _printed(page), query


def test_hardly_a_query_fits_two_pages(corpus):
    facts = [(n, set(words.content_words(query))) for n, (_, queries) in enumerate(corpus) for query in queries]
    printed = [_printed(page) for page, _ in corpus]
    ambiguous = [n for n, asked in facts if any(asked <= other for i, other in enumerate(printed) if i != n)]
    assert len(ambiguous) <= 0.01 * len(facts)


def test_no_word_is_cut_or_covers_another(corpus):
    for page, _ in corpus:
        for word in page.words:
            left, top, right, bottom = word.box
            assert 0 <= left < right <= page.size[0]
            assert 0 <= top < bottom <= page.size[1]
        for first, second in combinations((word.box for word in page.words), 2):
            apart = first[2] <= second[0] or second[2] <= first[0] or first[3] <= second[1] or second[3] <= first[1]
            assert apart, page.words


def test_the_box_of_a_word_holds_its_ink():
    document = _document("report")
    page = pages.layout(document, _rng(5))
    pixels = np.asarray(pages.page_image(document, _rng(5)), dtype=int)
    word = next(word for word in page.words if word.text == document.person.split()[1])
    left, top, right, bottom = word.box
    around = pixels[top - 1 : bottom + 1, left - 1 : right + 1]
    inked = np.argwhere(np.abs(around - page.paper).sum(-1) > 200)
    assert inked.min(0).tolist() >= [1, 1]
    assert inked.max(0)[0] < bottom - top + 1
    assert inked.max(0)[1] < right - left + 1


def test_letters_are_never_tiny(corpus):
    assert min(word.font.size for page, _ in corpus for word in page.words) == 15


def test_pages_are_whole_tiles_and_within_the_limits(corpus):
    for page, _ in corpus:
        width, height = page.size
        assert width % 28 == height % 28 == 0
        assert 336 <= width <= 392
        assert 392 <= height <= 504


@pytest.mark.parametrize("kind", get_args(world.Kind))
def test_the_smallest_page_still_shows_every_fact(kind):
    rng = _rng()
    documents = [document for _ in range(300) if (document := world.document(rng)).kind == kind]
    for document in documents:
        page = pages.layout(document, rng, size=(336, 392))
        for query in world.queries(document, rng):
            assert set(words.content_words(query)) <= _printed(page)


def test_a_size_that_is_not_whole_tiles_is_refused():
    with pytest.raises(ValueError, match=r"`size` is 340×392; both sides must be multiples of 28"):
        pages.layout(_document("table"), _rng(), size=(340, 392))


def test_a_size_without_room_for_the_facts_is_refused():
    with pytest.raises(ValueError, match=r"`size` is 112×112; too small for this table"):
        pages.layout(_document("table"), _rng(), size=(112, 112))


@pytest.mark.parametrize("height", [28, 56])
def test_a_word_image_is_whole_tiles_and_never_blank(height):
    rng = _rng()
    for _ in range(300):
        image = pages.word_image(pages.pick(words.VOCABULARY, rng), rng, height=height)
        assert image.height == height
        assert image.width % 28 == 0
        assert len(image.getcolors(image.width * image.height)) > 1


def test_a_word_is_drawn_at_every_offset_in_its_tile():
    rng = _rng()
    starts, tops = set(), set()
    for _ in range(500):
        pixels = np.asarray(pages.word_image("oslo", rng, height=56), dtype=int)
        paper = pixels[0, -1] if (pixels[0, -1] == pixels[-1, -1]).all() else pixels[-1, -1]
        rows, columns = np.nonzero(np.abs(pixels - paper).sum(-1) > 60)
        starts.add(int(columns.min()))
        tops.add(int(rows.min()))
    assert starts >= set(range(2, 26))
    assert tops >= set(range(2, 30))


def test_a_line_leaves_no_word_out():
    rng = _rng(2)
    for n in range(2, 7):
        for _ in range(30):
            line = [pages.pick(words.VOCABULARY, rng) for _ in range(n)]
            image = pages.line_image(line, rng)
            assert image.width % 28 == 0
            assert image.height in (28, 56)
    assert pages.line_image(["engineering"] * 6, rng).width > 392
    assert pages.line_image(["oslo"] * 6, rng).width <= 392


@pytest.mark.parametrize("n_lines", [2, 3, 4])
def test_a_block_has_one_row_of_tiles_per_line(n_lines):
    image = pages.block_image([["amber", "harbor", "bank"]] * n_lines, _rng())
    assert image.height == 28 * n_lines
    assert image.width % 28 == 0
