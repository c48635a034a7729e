import io
import itertools

import numpy as np
import pytest
from PIL import Image

from polyvec.data import near_duplicates
from polyvec.data.near_duplicates import Features, Sketches, are_near, features
from polyvec.synthetic.datasets import dataset


def numbers(*values):
    return Features(np.array(values, np.uint64))


def duplicates(rows, threshold=0.9):
    sketches = Sketches(threshold)
    for row, items in enumerate(rows):
        sketches.add(row, items)
    return sketches.duplicates(rows.__getitem__)


def test_texts_are_compared_without_case_spaces_and_compatible_forms():
    one, other = features("Ｆull-width  CAFE\u0301\n№ 5"), features("full-width café no 5")
    assert one.numbers.tolist() == other.numbers.tolist()
    assert are_near(features("aaaaaaaaa"), features("aaaaaaa"), 1), "sets count"


def test_features_of_a_text_are_its_sequences_of_six_bytes():
    assert features("abcdefg").numbers.tolist() == [0x616263646566, 0x626364656667]
    assert features("売上").numbers.tolist() == [int.from_bytes("売上".encode(), "big")]
    assert len(features("").numbers) == len(features("ab").numbers) == 1, "short texts have one feature, too"


def test_the_similarity_of_texts_is_that_of_their_sets():
    assert are_near(numbers(1, 2, 3, 4), numbers(2, 3, 4, 5), 0.6), "three of five agree"
    assert not are_near(numbers(1, 2, 3, 4), numbers(2, 3, 4, 5), 0.61)
    assert are_near(numbers(), numbers(), 1)


def test_a_text_is_never_near_an_image():
    image = Features(np.array([1, 2], np.uint64), np.zeros(3, np.float32))
    assert not are_near(image, numbers(1, 2), 0.5)


def saved(image, *, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def test_copies_of_a_page_are_near_and_other_pages_are_not():
    pages = list(dataset("page images", 6).documents.values())
    originals = [features(page) for page in pages]
    assert not any(are_near(*pair, 0.5) for pair in itertools.combinations(originals, 2))
    for page, original in zip(pages, originals, strict=True):
        picture = Image.fromarray(np.asarray(page)) if isinstance(page, np.ndarray) else page
        smaller = picture.resize((picture.width * 3 // 4, picture.height * 3 // 4))
        assert are_near(original, features(saved(picture, quality=60)), 0.9)
        assert are_near(original, features(saved(smaller, quality=80)), 0.9)


def test_plain_pictures_of_other_colours_are_not_near():
    red, dark_red, blue = (features(Image.new("RGB", (40, 40), colour)) for colour in ("red", "#f00808", "blue"))
    assert are_near(red, dark_red, 0.9)
    assert not are_near(red, blue, 0.9)


def test_a_row_repeats_an_earlier_row_only_if_all_of_its_items_do():
    a, b, c, d = (features(letter * 3 + "some words of their own " * 3 + letter * 9) for letter in "abcd")
    assert duplicates([[a, b], [a, c], [d, b], [a, b, c], [a, b]]) == {4: 0}
    assert duplicates([[a, b], [b, a]]) == {}, "the order counts"


def test_of_similar_rows_only_those_that_are_similar_to_a_row_that_stays_are_duplicates():
    rows = [[numbers(*range(start, start + 100))] for start in (0, 4, 8)]  # 92 % of neighbours, 85 % of the ends
    assert duplicates(rows) == {1: 0}


def test_nearly_all_pairs_at_the_threshold_are_found_and_no_pair_below_it():
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(150):  # two sets of 100 share 95 of their 105 numbers
        own = rng.integers(2**48, size=105, dtype=np.uint64)
        rows += [[Features(np.sort(own[:100]))] * 2, [Features(np.sort(own[5:]))] * 2]
    assert len(duplicates(rows)) >= 147
    assert duplicates(rows, 0.91) == {}


def test_hashes_agree_as_often_as_the_sets():
    shares = []
    for seed in range(100):
        drawn = np.random.default_rng(seed).integers(2**48, size=300, dtype=np.uint64)
        first, second = (near_duplicates._minhash(part) for part in (drawn[:200], drawn[100:]))
        shares.append((first == second).mean())
    assert np.mean(shares) == pytest.approx(1 / 3, abs=0.02)


def test_many_rows_of_one_template_take_no_square_of_time(monkeypatch):
    compared = []
    near = near_duplicates.are_near
    monkeypatch.setattr(near_duplicates, "are_near", lambda *pair: compared.append(pair) or near(*pair))
    monkeypatch.setattr(near_duplicates, "_MOST_CANDIDATES", 5)
    template = list(range(85))
    rows = [[numbers(*template, *range(1000 + 15 * row, 1015 + 15 * row))] for row in range(60)]
    assert duplicates(rows) == {}
    assert 60 < len(compared) <= 60 * 5


@pytest.mark.parametrize("threshold", [0.4, 1.1, float("nan")])
def test_an_impossible_threshold_is_refused(threshold):
    with pytest.raises(ValueError, match=f"`near_duplicates` is {threshold}; it may be 0.5 to 1"):
        Sketches(threshold)
