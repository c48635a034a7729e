"""The cone effect: do matched pairs score above unmatched ones, and how narrow is the cone of each modality?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from polyvec.analyze.histograms import Histogram, auc, d_prime, histogram
from polyvec.analyze.paired import Paired, best_scores
from polyvec.analyze.sampling import MOST_TEXTS, related_images, sample

__all__ = ["Cone", "Margin", "cone", "margin"]


@dataclass(frozen=True, slots=True)
class Cone:
    """The paper's Figure 3 (arXiv 2506.18902, section 8.3).

    Attributes:
        matched, unmatched: scores of texts with their own images and with others; see `sampling.unmatched`.
        auc: how often a matched pair scores above an unmatched one; exact over the pairs counted in the histograms.
        d_prime: (μ₊ − μ₋) / √((σ₊² + σ₋²) / 2). Two normal distributions of one width have AUC = Φ(d′ / √2).
    """

    matched: Histogram
    unmatched: Histogram
    auc: float
    d_prime: float


def cone(matched: Float64[np.ndarray, " matched"], unmatched: Float64[np.ndarray, " unmatched"]) -> Cone:
    """Compare the scores of matched and of unmatched pairs."""
    histograms = histogram(matched), histogram(unmatched)
    return Cone(*histograms, auc(matched, unmatched), d_prime(*histograms))


@dataclass(frozen=True, slots=True)
class Margin:
    """A text's best score with an image of its own, minus its best score with any other image (the hardest negative).

    Attributes:
        mean: over `n` texts drawn by the seed. It falls as `n_images` grows, so compare equal numbers.
        positive: share of texts whose margin is above 0: their own image is the nearest.
    """

    mean: float
    positive: float
    n: int
    n_images: int


def margin(paired: Paired, *, seed: int, most: int = MOST_TEXTS) -> Margin | None:
    """Measure the margin over the hardest of all images. Return None if every text belongs to every image."""
    texts = np.unique(paired.pairs[:, 1])
    texts = texts[sample(len(texts), most, seed=seed)]
    own, other = best_scores(paired.texts, texts, paired.images, related_images(paired, texts))
    margins = (own - other)[np.isfinite(other)].astype(np.float64)
    if not len(margins):
        return None
    return Margin(float(margins.mean()), float((margins > 0).mean()), len(margins), len(paired.images))
