"""What the modality gap does to ranking where images and texts are in one corpus, with and without their means."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int

from polyvec.analyze.paired import Paired, Vectors, score_blocks, token_mean
from polyvec.analyze.sampling import MOST_TEXTS, related_images, related_texts, sample

__all__ = ["Corpus", "MixedRanking", "corpus_of_pairs", "mixed_ranking"]

_RESAMPLES = 1000

_Block = tuple[int, Float32[np.ndarray, "queries block"]]


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Images and texts in one corpus, and queries for it. Documents are numbered: images first, then texts.

    Attributes:
        rows: rows of `queries` that are asked.
        relevant: positions in `rows`, and documents that are relevant to them, each once.
        hidden: positions in `rows`, and documents that these queries must not find, such as the query itself.
    """

    queries: Vectors
    rows: Int[np.ndarray, " queries"]
    images: Vectors
    texts: Vectors
    relevant: tuple[Int[np.ndarray, " judged"], Int[np.ndarray, " judged"]]
    hidden: tuple[Int[np.ndarray, " hidden"], Int[np.ndarray, " hidden"]]


@dataclass(frozen=True, slots=True)
class MixedRanking:
    """Ranking in a mixed corpus (after arXiv 2507.19054).

    Attributes:
        k: how many results count.
        n_queries: queries with a relevant document.
        relevant_images: share of images among the relevant documents.
        top_images: share of images among the first k results; far above or below `relevant_images` is a bias.
        ndcg: mean nDCG@k over the queries, binary grades; of equal scores a relevant document is ranked last.
        top_images_centred, ndcg_centred: the same after the mean of the images is subtracted from the images and the
            mean of the text documents from texts and queries, and all have unit length again (late: token by token).
        change_low, change_high: the middle 95 % of `ndcg_centred` − `ndcg` over 1,000 bootstrap resamples of queries.
    """

    k: int
    n_queries: int
    relevant_images: float
    top_images: float
    ndcg: float
    top_images_centred: float
    ndcg_centred: float
    change_low: float
    change_high: float


def corpus_of_pairs(paired: Paired, *, seed: int, most: int = MOST_TEXTS) -> Corpus:
    """Make a corpus of all images and all texts, whose queries are texts of it, drawn by the seed.

    Relevant to a text are its images and the other texts of these images. It is hidden from its own search.
    """
    texts = np.unique(paired.pairs[:, 1])
    texts = texts[sample(len(texts), most, seed=seed)]
    n_images = len(paired.images)
    positions = np.arange(len(texts))
    images, others = related_images(paired, texts), related_texts(paired, texts)
    judged = np.unique(
        np.stack([np.concatenate([images[0], others[0]]), np.concatenate([images[1], others[1] + n_images])]), axis=1
    )
    judged = judged[:, judged[1] != texts[judged[0]] + n_images]
    documents = paired.texts if paired.text_documents is None else paired.text_documents
    hidden = (positions, texts + n_images)
    return Corpus(paired.texts, texts, paired.images, documents, (judged[0], judged[1]), hidden)


def mixed_ranking(corpus: Corpus, *, k: int = 10, seed: int) -> MixedRanking:
    """Rank the corpus for its queries, with the modalities' means and without.

    Raises:
        ValueError: no query has a relevant document, or `k` is less than 1.
    """
    if k < 1:
        raise ValueError(f"`k` is {k}; it may be 1 or more.")
    positions, documents = corpus.relevant
    if not len(positions):
        raise ValueError("no query has a relevant document.")
    judged = np.unique(positions)
    text_mean, image_mean = token_mean(corpus.texts), token_mean(corpus.images)
    top, ndcg = _measure(corpus, judged, k, None, None)
    top_centred, ndcg_centred = _measure(corpus, judged, k, (text_mean, image_mean), (text_mean, text_mean))
    rng = np.random.default_rng(seed)
    changes = [rng.choice(ndcg_centred - ndcg, len(judged)).mean() for _ in range(_RESAMPLES)]
    return MixedRanking(
        k=k,
        n_queries=len(judged),
        relevant_images=float((documents < len(corpus.images)).mean()),
        top_images=top,
        ndcg=float(ndcg.mean()),
        top_images_centred=top_centred,
        ndcg_centred=float(ndcg_centred.mean()),
        change_low=float(np.percentile(changes, 2.5)),
        change_high=float(np.percentile(changes, 97.5)),
    )


_Means = tuple[Float64[np.ndarray, " dim"], Float64[np.ndarray, " dim"]] | None


def _measure(
    corpus: Corpus, judged: np.ndarray, k: int, image_means: _Means, text_means: _Means
) -> tuple[float, Float64[np.ndarray, " judged"]]:
    """Return the share of images among the first k results, and nDCG@k of each query."""
    n_images, n_documents = len(corpus.images), len(corpus.images) + len(corpus.texts)
    top = _top(_blocks(corpus, image_means, text_means), corpus, min(k, n_documents))[judged]
    relevant = np.sort(corpus.relevant[0] * n_documents + corpus.relevant[1])
    keys = judged[:, None] * n_documents + top
    gains = (relevant[np.searchsorted(relevant, keys).clip(max=len(relevant) - 1)] == keys) & (top >= 0)
    weights = 1 / np.log2(np.arange(2, k + 2))
    n_relevant = np.bincount(corpus.relevant[0])[judged].clip(max=k)
    scores = gains @ weights[: top.shape[1]] / np.cumsum(weights)[n_relevant - 1]
    return float((top[top >= 0] < n_images).mean()), scores


def _blocks(corpus: Corpus, image_means: _Means, text_means: _Means) -> Iterable[_Block]:
    yield from score_blocks(corpus.queries, corpus.rows, corpus.images, means=image_means)
    for start, scores in score_blocks(corpus.queries, corpus.rows, corpus.texts, means=text_means):
        yield len(corpus.images) + start, scores


def _top(blocks: Iterable[_Block], corpus: Corpus, k: int) -> Int[np.ndarray, "queries k"]:
    """Return the k best documents of each query, best first; -1 where there are fewer."""
    best = np.full((len(corpus.rows), k), -np.inf, np.float32)
    top = np.full(best.shape, -1)
    relevant, hidden = (_by_document(*judgements) for judgements in (corpus.relevant, corpus.hidden))
    for start, scores in blocks:
        end = start + scores.shape[1]
        rows, columns = _within(relevant, start, end)
        scores[rows, columns] = np.nextafter(scores[rows, columns], np.float32(-np.inf))  # behind equal scores
        scores[_within(hidden, start, end)] = -np.inf
        changed = np.flatnonzero((scores > best[:, -1:]).any(axis=1))
        both = np.concatenate([best[changed], scores[changed]], axis=1)
        ids = np.concatenate([top[changed], np.broadcast_to(np.arange(start, end), scores[changed].shape)], axis=1)
        if both.shape[1] > 4 * k:  # sorts a few instead of all
            near = np.argpartition(-both, k, axis=1)[:, :k]
            both, ids = np.take_along_axis(both, near, 1), np.take_along_axis(ids, near, 1)
        order = np.argsort(-both, axis=1, kind="stable")[:, :k]
        best[changed], top[changed] = np.take_along_axis(both, order, 1), np.take_along_axis(ids, order, 1)
    top[best == -np.inf] = -1  # hidden documents
    return top


def _by_document(positions: np.ndarray, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(documents, kind="stable")
    return positions[order], documents[order]


def _within(judgements: tuple[np.ndarray, np.ndarray], start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    positions, documents = judgements
    first, last = np.searchsorted(documents, (start, end))
    return positions[first:last], documents[first:last] - start
