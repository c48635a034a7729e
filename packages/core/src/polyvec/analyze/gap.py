"""The modality gap: how far apart images and texts lie, by their centres, by their shapes, and pair by pair.

Late variant: `l2m`, `residual`, `rmg`'s means within a modality and `separability` use one vector per item, the mean of
its tokens; so does `l2i`. The cosines of Figure 2 are MaxSim per query token, see `paired`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int, Real

from polyvec.analyze.histograms import Histogram, histogram, overlap
from polyvec.analyze.moments import Moments, frechet_residual
from polyvec.analyze.paired import Paired, best_scores, pair_scores, unit_rows
from polyvec.analyze.sampling import MOST_TEXTS, related_images, related_texts, sample, text_pairs

__all__ = ["Gap", "MatchedCosines", "gap", "matched_cosines", "separability"]

_MOST_ROWS = 10_000  # of either modality that the linear classifier sees
_FOLDS = 5
_SHRINKAGE = 0.01


@dataclass(frozen=True, slots=True)
class Gap:
    """Distances between the images X and the texts Y, as unit rows.

    Attributes:
        l2m: ‖mean(X) − mean(Y)‖, the length of the gap vector (arXiv 2203.02053).
        l2i: mean ‖x − y‖ of the pairs.
        rmg: relative modality gap (arXiv 2404.07983): with d = (1 − cos) / 2, mean d(x, y) of the pairs divided by
            itself plus the mean of d within X and within Y, different rows. 0: pairs coincide; ½: pairs are as far
            apart as two items of one modality; 1: two collapsed clusters. 0 as well if everything is one point.
        centroid: l2m², the part of the squared Fréchet distance of X and Y that the means make.
        residual: its other part, Tr(A + B − 2 (A^½ B A^½)^½) of the covariances: what removing the means leaves
            (arXiv 2604.00279).
        residual_floor: the residual part between two random halves of one modality, mean of both. It is the residual
            that mere sampling makes, for half as many items. It is large if there are fewer items than dimensions.
        separability: see `separability`. None if a fold would lack a modality.
    """

    l2m: float
    l2i: float
    rmg: float
    centroid: float
    residual: float
    residual_floor: float
    separability: float | None


def gap(
    images: tuple[Moments, Moments],
    texts: tuple[Moments, Moments],
    cosines: Float64[np.ndarray, " pairs"],
    separability: float | None,
) -> Gap:
    """Put the gap together from moments of random halves and the cosines of the pairs, all of unit rows."""
    image, text = images[0] + images[1], texts[0] + texts[1]
    l2m = float(np.linalg.norm(image.mean - text.mean))
    apart = float((1 - cosines).mean() / 2)
    within = (2 - image.mean_cosine - text.mean_cosine) / 4
    return Gap(
        l2m=l2m,
        l2i=float(np.sqrt((2 - 2 * cosines).clip(0)).mean()),
        rmg=apart / (apart + within) if apart > _ROUNDING else 0.0,
        centroid=l2m**2,
        residual=frechet_residual(image, text),
        residual_floor=(frechet_residual(*images) + frechet_residual(*texts)) / 2,
        separability=separability,
    )


_ROUNDING = 1e-12  # of a mean of cosines


def separability(
    images: Real[np.ndarray, "images dim"],
    texts: Real[np.ndarray, "texts dim"],
    pairs: Int[np.ndarray, "pairs 2"],
    *,
    seed: int,
) -> float | None:
    """Return how well a line tells images from texts that it has not seen: ½ if not at all, 1 if always.

    It is the mean of the shares of images and of texts that are told right (balanced accuracy), cross-validated in five
    folds, by linear discriminant analysis of unit rows: w = (S + 0.01 tr(S)/dim)⁻¹ (mean(X) − mean(Y)), S the pooled
    covariance, cut half-way between the means. An image and its texts are in one fold. At most 10,000 items of either
    modality take part.
    """
    rng = np.random.default_rng(seed)
    n_folds = min(_FOLDS, len(images))
    image_folds = rng.permutation(len(images)) % n_folds
    text_folds = rng.integers(n_folds, size=len(texts))
    text_folds[pairs[:, 1]] = image_folds[pairs[:, 0]]
    rows = [sample(len(side), _MOST_ROWS, seed=seed) for side in (images, texts)]
    x, y = unit_rows(images[rows[0]]), unit_rows(texts[rows[1]])
    x_folds, y_folds = image_folds[rows[0]], text_folds[rows[1]]
    right = np.zeros(2)
    for fold in range(n_folds):
        x_held, y_held = x_folds == fold, y_folds == fold
        if x_held.all() or y_held.all():
            return None
        direction, cut = _discriminant(x[~x_held], y[~y_held])
        right += _n_right(x[x_held] @ direction - cut), _n_right(cut - y[y_held] @ direction)
    return float((right / (len(x), len(y))).mean())


def _discriminant(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    x_centred, y_centred = x - x_mean, y - y_mean
    pooled = x_centred.T @ x_centred / len(x) + y_centred.T @ y_centred / len(y)
    shrinkage = _SHRINKAGE * np.trace(pooled) / len(pooled) + np.finfo(float).tiny
    direction = np.linalg.lstsq(pooled + shrinkage * np.eye(len(pooled)), x_mean - y_mean, rcond=None)[0]
    return direction, float(direction @ (x_mean + y_mean) / 2)


def _n_right(margins: np.ndarray) -> float:
    return float((margins > 0).sum() + (margins == 0).sum() / 2)


@dataclass(frozen=True, slots=True)
class MatchedCosines:
    """The paper's Figure 2 (arXiv 2506.18902, section 8.1).

    Attributes:
        image_text: scores of all pairs of an image and its text.
        text_text: scores of pairs of texts of one image, each text with the next one; None if no image has two texts.
        difference: mean of `text_text` minus mean of `image_text`.
        overlap: Σ min over bins of the two histograms at unit mass.
        n_texts: texts, drawn by the seed, that were compared with all other texts.
        nearer_unrelated: share of these texts that score higher with an unrelated text, one that shares no image with
            them, than with any image of their own.
    """

    image_text: Histogram
    text_text: Histogram | None
    difference: float | None
    overlap: float | None
    n_texts: int
    nearer_unrelated: float


def matched_cosines(
    paired: Paired, scores: Float64[np.ndarray, " pairs"], *, seed: int, most: int = MOST_TEXTS
) -> MatchedCosines:
    """Compare matched image–text scores, `scores` of the pairs, with matched text–text scores."""
    image_text = histogram(scores)
    firsts, seconds = text_pairs(paired)
    text_text = histogram(pair_scores(paired.texts, paired.texts, firsts, seconds)) if len(firsts) else None
    texts = np.unique(paired.pairs[:, 1])
    texts = texts[sample(len(texts), most, seed=seed)]
    own, _ = best_scores(paired.texts, texts, paired.images, related_images(paired, texts))
    _, unrelated = best_scores(paired.texts, texts, paired.texts, related_texts(paired, texts))
    nearer: Bool[np.ndarray, " texts"] = unrelated > own
    return MatchedCosines(
        image_text,
        text_text,
        None if text_text is None else text_text.mean - image_text.mean,
        None if text_text is None else overlap(image_text, text_text),
        len(texts),
        float(nearer.mean()),
    )
