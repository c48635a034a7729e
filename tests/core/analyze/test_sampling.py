import numpy as np
import pytest

from polyvec.analyze.paired import Paired
from polyvec.analyze.sampling import off_diagonal, related_images, related_texts, sample, text_pairs, unmatched

# image 0 has texts 0 and 2; text 1 belongs to images 1 and 2; image 2 has text 3, too
PAIRS = np.array([[0, 0], [1, 1], [0, 2], [2, 1], [2, 3]])


def paired(pairs=PAIRS, n_images=3, n_texts=4):
    return Paired(np.ones((n_images, 2), np.float32), np.ones((n_texts, 2), np.float32), pairs)


def by_position(related):
    return {(int(position), int(row)) for position, row in zip(*related, strict=True)}


def test_all_pairs_that_do_not_match():
    texts, images = unmatched(paired(), seed=0)
    assert list(zip(texts, images, strict=True)) == [(0, 1), (0, 2), (1, 0), (2, 1), (2, 2), (3, 0), (3, 1)]


def test_a_sample_of_pairs_that_do_not_match():
    many = np.arange(50)
    one_each = paired(np.stack([many, many], axis=1), 50, 50)
    texts, images = unmatched(one_each, most=2000, seed=0)
    assert 1900 < len(texts) < 2000  # one in fifty is drawn in vain
    assert (texts != images).all()
    assert set(texts) == set(images) == set(range(50))
    again, other = unmatched(one_each, most=2000, seed=0), unmatched(one_each, most=2000, seed=1)
    assert np.array_equal(texts, again[0])
    assert not np.array_equal(images[:1900], other[1][:1900])


def test_texts_that_belong_to_all_images_are_refused():
    with pytest.raises(ValueError, match="every text belongs to every image"):
        unmatched(paired(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), 2, 2), seed=0)


def test_pairs_of_different_rows():
    assert list(zip(*off_diagonal(3, seed=0), strict=True)) == [(0, 1), (0, 2), (1, 2)]
    firsts, seconds = off_diagonal(1000, most=5000, seed=0)
    assert len(firsts) == 5000
    assert (firsts != seconds).all()
    assert 490 < seconds.mean() < 510


def test_a_sample_is_ascending_and_without_repetition():
    assert sample(3, 5, seed=0).tolist() == [0, 1, 2]
    drawn = sample(100, 50, seed=0)
    assert len(drawn) == 50
    assert (np.diff(drawn) > 0).all()


def test_each_text_is_paired_with_the_next_of_its_image():
    assert list(zip(*text_pairs(paired()), strict=True)) == [(0, 2), (1, 3)]


def test_related_images_and_texts():
    assert by_position(related_images(paired(), np.array([1, 2]))) == {(0, 1), (0, 2), (1, 0)}
    assert by_position(related_texts(paired(), np.array([1, 2]))) == {(0, 1), (0, 3), (1, 0), (1, 2)}


def test_a_text_without_image_is_related_to_itself_only():
    assert by_position(related_texts(paired(PAIRS[:4]), np.array([3]))) == {(0, 3)}
