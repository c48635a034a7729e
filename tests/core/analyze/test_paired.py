import numpy as np
import pytest

from polyvec.analyze import paired as module
from polyvec.analyze.paired import Paired, best_scores, item_vectors, pair_scores, score_blocks, token_mean

ROWS = np.array([0, 1])
TWO = np.array([[0, 0], [1, 1]])
DENSE = np.array([[3, 4], [0, 2]], np.float32)
OTHERS = np.array([[4, 3], [0, 1], [-1, 0]], np.float32)
QUERIES = [np.eye(2, dtype=np.float32), np.array([[0.6, 0.8]], np.float32)]
PAGES = [np.array([[1, 0], [0.6, 0.8]], np.float32), np.array([[0, 1]], np.float32)]


def test_the_score_of_dense_vectors_is_their_cosine():
    assert pair_scores(DENSE, OTHERS, ROWS, ROWS).tolist() == pytest.approx([24 / 25, 1])


def test_equal_rows_have_cosine_1_to_the_last_digits_of_float64():
    rows = np.random.default_rng(0).standard_normal((5000, 7)).astype(np.float32)
    every = np.arange(5000)
    assert np.abs(pair_scores(rows, rows, every, every) - 1).max() < 1e-15


def test_the_score_of_multivectors_is_the_mean_of_the_best_cosines():
    assert pair_scores(QUERIES, PAGES, ROWS, ROWS).tolist() == pytest.approx([(1 + 0.8) / 2, 0.8])


@pytest.mark.parametrize(("queries", "documents"), [(DENSE, OTHERS), (QUERIES, PAGES)], ids=["dense", "late"])
def test_blocks_have_the_scores_of_pairs(queries, documents, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_ROWS", 2)
    monkeypatch.setattr(module, "_LATE_ROWS", 1)
    starts, blocks = zip(*score_blocks(queries, ROWS, documents), strict=True)
    step = 2 if queries is DENSE else 1
    assert starts == tuple(range(0, len(documents), step))
    for row, scores in enumerate(np.concatenate(blocks, axis=1)):
        expected = pair_scores(queries, documents, np.full(len(scores), row), np.arange(len(scores)))
        assert scores.tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_means_are_removed_from_either_side():
    means = np.array([0.6, 0]), np.array([0, 0.6])
    ((_, scores),) = score_blocks(DENSE, ROWS, OTHERS, means=means)
    # (0.6, 0.8) becomes (0, 1), (0.8, 0.6) becomes (1, 0), and (-1, 0) becomes (-1, -0.6)
    assert scores[0].tolist() == pytest.approx([0, 1, -0.6 / np.sqrt(1.36)])


def test_means_are_removed_from_tokens():
    ((_, scores),) = score_blocks(QUERIES, np.array([1]), PAGES, means=(np.array([0.6, 0]), np.array([0.6, 0])))
    assert scores[0].tolist() == pytest.approx([1, 1 / np.sqrt(1.36)])


def test_a_row_that_is_the_mean_scores_0():
    ((_, scores),) = score_blocks(DENSE, np.array([1]), OTHERS, means=(np.array([0, 1.0]), np.zeros(2)))
    assert scores.tolist() == [[0, 0, 0]]


def test_the_mean_of_rows_and_of_tokens():
    assert token_mean(DENSE).tolist() == pytest.approx([0.3, 0.9])
    assert token_mean(PAGES).tolist() == pytest.approx([1.6 / 3, 1.8 / 3])
    assert item_vectors(PAGES)[0].tolist() == pytest.approx([0.8, 0.4])
    assert item_vectors(DENSE) is DENSE


def test_best_scores_of_related_and_of_other_documents(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_ROWS", 1)
    own, other = best_scores(DENSE, ROWS, OTHERS, (np.array([0, 0, 1]), np.array([2, 0, 1])))
    assert own.tolist() == pytest.approx([24 / 25, 1])
    assert other.tolist() == pytest.approx([0.8, 0.6])


def test_without_another_document_the_best_score_is_minus_infinity():
    every = np.array([0, 0, 0]), np.arange(3)
    assert best_scores(DENSE, np.array([0]), OTHERS, every)[1].tolist() == [-np.inf]


@pytest.mark.parametrize(
    ("images", "texts", "pairs", "message"),
    [
        (DENSE, DENSE, TWO[:1], "there are 1 pairs"),
        (DENSE, DENSE.astype(np.uint8), TWO, "`texts` holds packed bits"),
        (DENSE, DENSE[:1], TWO, "`texts` has 1 items"),
        (DENSE[:0], DENSE, TWO, "`images` has 0 items"),
        (DENSE, DENSE, np.array([[0, 0], [1, 1], [0, 0]]), "a pair is there twice"),
        (DENSE, DENSE, np.array([[0, 0], [1, 2]]), "a row beyond 2 images or 2 texts"),
        (DENSE, DENSE, np.array([[0, 0], [-1, 1]]), "a row beyond"),
        (DENSE, np.eye(2, 3, dtype=np.float32), TWO, r"the vectors have \[2, 3\] numbers"),
        (np.array([[1, 1], [0, 0]], np.float32), DENSE, TWO, "row 1 of `images` is a zero vector"),
        (DENSE, np.array([[1, 1], [0, np.nan]], np.float32), TWO, "row 1 of `texts` has a number that is not finite"),
        (PAGES, [PAGES[0], PAGES[0][:0]], TWO, "row 1 of `texts` is a zero vector"),
        (
            PAGES,
            [np.full((1, 2), np.inf, np.float32), PAGES[1]],
            TWO,
            "row 0 of `texts` has a number that is not finite",
        ),
        (PAGES, [PAGES[0], 3 * PAGES[1]], TWO, "row 1 of `texts` has a token vector whose length is not 1"),
        (PAGES, DENSE, TWO, "`texts` are dense vectors and `images` are multi-vectors"),
    ],
)
def test_what_cannot_be_compared_is_refused(images, texts, pairs, message):
    with pytest.raises(ValueError, match=message):
        Paired(images, texts, pairs)


def test_a_flawed_row_is_named_by_its_number_among_all():
    images = np.ones((5000, 2), np.float32)
    images[4999] = 0
    with pytest.raises(ValueError, match="row 4999 of `images`"):
        Paired(images, DENSE, TWO)


def test_texts_as_documents_are_as_many_as_texts():
    with pytest.raises(ValueError, match="`text_documents` has 3 items; there are 2 texts"):
        Paired(DENSE, DENSE, TWO, OTHERS)
