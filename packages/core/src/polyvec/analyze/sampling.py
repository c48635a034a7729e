"""Which pairs an analysis looks at: matched, unmatched and related ones. All chance comes from a seed."""

import numpy as np
from jaxtyping import Int

from polyvec.analyze.paired import Paired

__all__ = [
    "MOST_PAIRS",
    "MOST_TEXTS",
    "off_diagonal",
    "related_images",
    "related_texts",
    "sample",
    "text_pairs",
    "unmatched",
]

MOST_PAIRS = 1_000_000  # pairs that do not match; the standard error of a share of them is 0.0005 or less
MOST_TEXTS = 1000  # texts that are compared with everything

_Rows = Int[np.ndarray, " _"]  # of any number


def sample(n: int, most: int, *, seed: int) -> _Rows:
    """Draw `most` of `n` rows without replacement, ascending; all rows if there are fewer."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def unmatched(paired: Paired, *, most: int = MOST_PAIRS, seed: int) -> tuple[_Rows, _Rows]:
    """Return texts and images that do not belong together: every such pair if there are at most `most`, else a sample.

    A sample is drawn with replacement, and pairs that match are left out of it.

    Raises:
        ValueError: every text belongs to every image.
    """
    n_texts, n_images = len(paired.texts), len(paired.images)
    matched = np.sort(paired.pairs[:, 1].astype(np.int64) * n_images + paired.pairs[:, 0])
    if len(matched) == n_texts * n_images:
        raise ValueError("every text belongs to every image, so no pair is unmatched.")
    if n_texts * n_images <= most:
        keys = np.delete(np.arange(n_texts * n_images), matched)
    else:
        keys = np.sort(np.random.default_rng(seed).integers(n_texts * n_images, size=most))
        places = np.searchsorted(matched, keys).clip(max=len(matched) - 1)
        keys = keys[matched[places] != keys]
    return keys // n_images, keys % n_images


def off_diagonal(n: int, *, most: int = MOST_PAIRS, seed: int) -> tuple[_Rows, _Rows]:
    """Return pairs of different rows among `n`: each pair once if there are at most `most`, else a sample."""
    if n * (n - 1) // 2 <= most:
        return np.triu_indices(n, 1)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.integers(n, size=most))
    return rows, (rows + rng.integers(1, n, size=most)) % n


def text_pairs(paired: Paired) -> tuple[_Rows, _Rows]:
    """Return pairs of texts of one image: each text and the next one, in the order of `pairs`."""
    images, texts = paired.pairs[np.argsort(paired.pairs[:, 0], kind="stable")].T
    same = images[1:] == images[:-1]
    return texts[:-1][same], texts[1:][same]


def related_images(paired: Paired, texts: _Rows) -> tuple[_Rows, _Rows]:
    """Return the images that belong to some texts: positions in `texts`, and rows of images."""
    images, rows = paired.pairs.T
    return _join(texts, rows, images)


def related_texts(paired: Paired, texts: _Rows) -> tuple[_Rows, _Rows]:
    """Return the texts that share an image with some texts, each text itself included: positions, and rows of texts.

    A text that shares several images is there several times.
    """
    images, rows = paired.pairs.T
    positions, own = related_images(paired, texts)
    places, others = _join(own, images, rows)
    return np.concatenate([positions[places], np.arange(len(texts))]), np.concatenate([others, texts])


def _join(wanted: np.ndarray, keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each wanted key the position of the key and each value that belongs to it."""
    order = np.argsort(keys, kind="stable")
    starts, ends = (np.searchsorted(keys[order], wanted, side=side) for side in ("left", "right"))
    counts = ends - starts
    positions = np.repeat(np.arange(len(wanted)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return positions, values[order[starts[positions] + within]]
