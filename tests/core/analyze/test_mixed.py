from dataclasses import replace

import numpy as np
import pytest

from polyvec.analyze import paired as paired_module
from polyvec.analyze.mixed import Corpus, corpus_of_pairs, mixed_ranking
from polyvec.analyze.paired import Paired

NOTHING = np.array([], np.int64), np.array([], np.int64)


def at(*angles):
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_ndcg_and_shares_by_hand():
    # the order for the query at 0: text 0, image 0, text 1, image 1; images 0 and 1 are relevant
    corpus = Corpus(at(0), np.array([0]), at(0.2, 0.4), at(0.1, 0.3), (np.array([0, 0]), np.array([0, 1])), NOTHING)
    ranked = mixed_ranking(corpus, k=3, seed=0)
    assert ranked.ndcg == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))
    assert (ranked.relevant_images, ranked.top_images, ranked.n_queries) == (1, pytest.approx(1 / 3), 1)
    assert mixed_ranking(corpus, k=10, seed=0).top_images == 0.5  # of the four that there are


def test_the_gap_hides_images_until_the_means_are_removed():
    """Images lie far from all texts, but about their own mean as texts lie about theirs."""
    rng = np.random.default_rng(0)
    content = rng.standard_normal((20, 8))
    gap = np.zeros(8)
    gap[0] = 10
    content[:, 0] = 0
    paired = Paired(content + gap, content - gap, np.stack([np.arange(20)] * 2, axis=1))
    ranked = mixed_ranking(corpus_of_pairs(paired, seed=0), k=5, seed=0)
    assert (ranked.relevant_images, ranked.top_images, ranked.ndcg) == (1, 0, 0)
    assert ranked.ndcg_centred == 1
    assert 0.3 < ranked.top_images_centred < 0.7
    assert (ranked.change_low, ranked.change_high) == (1, 1)  # of every query


def test_the_means_of_multivectors_are_removed_token_by_token():
    rng = np.random.default_rng(0)
    content = rng.standard_normal((20, 2, 8))
    content[:, :, 0] = 0
    gap = np.zeros(8)
    gap[0] = 10
    images, texts = (
        [side / np.linalg.norm(side, axis=1, keepdims=True) for side in content + shift] for shift in (gap, -gap)
    )
    images, texts = ([side.astype(np.float32) for side in sides] for sides in (images, texts))
    ranked = mixed_ranking(
        corpus_of_pairs(Paired(images, texts, np.stack([np.arange(20)] * 2, axis=1)), seed=0), k=5, seed=0
    )
    assert (ranked.ndcg, ranked.ndcg_centred) == (0, 1)


def test_of_equal_scores_a_relevant_document_is_last():
    corpus = Corpus(at(0), np.array([0]), at(0.2), at(0.2, 0.2, 0.9), (np.array([0]), np.array([0])), NOTHING)
    assert mixed_ranking(corpus, k=2, seed=0).ndcg == 0
    assert mixed_ranking(corpus, k=3, seed=0).ndcg == pytest.approx(0.5)


def test_a_text_finds_its_images_and_their_other_texts_but_not_itself():
    paired = Paired(at(0, 1, 2), at(0, 0.1, 1.1), np.array([[0, 0], [0, 1], [1, 2], [2, 2]]))
    corpus = corpus_of_pairs(paired, seed=0)
    judged = sorted(zip(*(side.tolist() for side in corpus.relevant), strict=True))
    assert judged == [(0, 0), (0, 4), (1, 0), (1, 3), (2, 1), (2, 2)]
    assert list(zip(*(side.tolist() for side in corpus.hidden), strict=True)) == [(0, 3), (1, 4), (2, 5)]
    assert corpus.texts is paired.texts
    as_documents = replace(paired, text_documents=at(0, 1, 2))
    assert corpus_of_pairs(as_documents, seed=0).texts is as_documents.text_documents


def test_blocks_do_not_change_the_ranking(monkeypatch):
    rng = np.random.default_rng(0)
    images, texts = (rng.standard_normal((50, 6)).astype(np.float32) for _ in range(2))
    paired = Paired(images, texts, np.stack([rng.integers(50, size=50), np.arange(50)], axis=1))
    whole = mixed_ranking(corpus_of_pairs(paired, seed=0), k=4, seed=0)
    monkeypatch.setattr(paired_module, "_BLOCK_ROWS", 7)
    assert mixed_ranking(corpus_of_pairs(paired, seed=0), k=4, seed=0) == whole
    units = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (images, texts)]
    scores = units[1] @ np.concatenate(units).T
    scores[np.arange(50), 50 + np.arange(50)] = -np.inf
    top = np.argsort(-scores, axis=1)[:, :4]
    assert whole.top_images == (top < 50).mean()


def test_what_cannot_be_ranked_is_refused():
    corpus = Corpus(at(0), np.array([0]), at(0.2), at(0.3), NOTHING, NOTHING)
    with pytest.raises(ValueError, match="no query has a relevant document"):
        mixed_ranking(corpus, seed=0)
    with pytest.raises(ValueError, match="`k` is 0"):
        mixed_ranking(corpus, k=0, seed=0)


def test_the_interval_of_the_change_is_that_of_a_mean():
    """Removing the means helps half of the queries by 1 and leaves the others: the error of the mean is 1 / (2 √n)."""
    n = 64
    corpus = _half_helped(n)
    ranked = mixed_ranking(corpus, k=1, seed=0)
    assert (ranked.ndcg, ranked.ndcg_centred) == (0.5, 1)
    assert ranked.change_low == pytest.approx(0.5 - 1.96 / (2 * np.sqrt(n)), abs=0.03)
    assert ranked.change_high == pytest.approx(0.5 + 1.96 / (2 * np.sqrt(n)), abs=0.03)


def _half_helped(n):
    """Queries at east and west; a text and an image lie there, too, and the image is relevant to the half at west.

    Images are moved north by their mean, so that they lose to texts until it is removed.
    """
    east, west, north = np.eye(3)[0], -np.eye(3)[0], np.eye(3)[2]
    images, texts = np.stack([north * 9 + east, north * 9 + west]), np.stack([east, 0.9 * west + 0.1 * np.eye(3)[1]])
    queries = np.stack([east, west] * (n // 2))
    relevant = np.arange(n), np.where(np.arange(n) % 2, 1, 2)
    return Corpus(queries, np.arange(n), images, texts, relevant, NOTHING)
