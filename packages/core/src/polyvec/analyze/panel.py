"""All analyses of one model in one mode, and their table."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from polyvec.analyze.alignment import Alignment, alignment, uniformity
from polyvec.analyze.calibration import RATES, Cutoff, cutoffs, supported
from polyvec.analyze.cone import Cone, Margin, cone, margin
from polyvec.analyze.gap import Gap, MatchedCosines, gap, matched_cosines, separability
from polyvec.analyze.mixed import MixedRanking, corpus_of_pairs, mixed_ranking
from polyvec.analyze.moments import half_moments
from polyvec.analyze.paired import Paired, item_vectors, pair_scores
from polyvec.analyze.projection import Map, project
from polyvec.analyze.sampling import unmatched

__all__ = ["Panel", "Spread", "analyze", "rows", "table", "to_json"]


@dataclass(frozen=True, slots=True)
class Spread:
    """How the unit rows of either modality lie on the sphere.

    Attributes:
        image_cosine, text_cosine: mean cosine of two different rows of a modality: far above 0 for a narrow cone, as
            random weights make it, too (arXiv 2203.02053). Exact, from sums.
        alignment: mean ‖x − y‖² of the pairs (arXiv 2005.10242).
        image_uniformity, text_uniformity: see `alignment.uniformity`.
    """

    image_cosine: float
    text_cosine: float
    alignment: float
    image_uniformity: float
    text_uniformity: float


@dataclass(frozen=True, slots=True)
class Panel:
    """The analyses of one model.

    Attributes:
        mode: dense scores are cosines, late scores MaxSim divided by the number of query tokens.
        seed: that of every sample.
        margin: None if every text belongs to every image.
        cutoffs: of the rates that the number of unmatched pairs supports.
    """

    model: str
    mode: Literal["dense", "late"]
    n_images: int
    n_texts: int
    n_pairs: int
    seed: int
    gap: Gap
    matched: MatchedCosines
    alignment: Alignment
    cone: Cone
    margin: Margin | None
    spread: Spread
    mixed: MixedRanking
    cutoffs: Sequence[Cutoff]
    map: Map


def analyze(
    paired: Paired,
    *,
    model: str = "",
    seed: int = 0,
    n_aligned: int = 1000,
    k: int = 10,
    rates: Sequence[float] | None = None,
) -> Panel:
    """Run every analysis. Memory grows with the number of items, and never with its square.

    `n_aligned` pairs are drawn for the alignment, `k` results count in the mixed corpus. Each of the `rates` of false
    positives gets a cut-off; by default those of `calibration.RATES` that there are enough pairs for.

    Raises:
        ValueError: every text belongs to every image; `n_aligned` is less than 2; a rate that the number of pairs does
            not support.
    """
    scores = pair_scores(paired.texts, paired.images, paired.pairs[:, 1], paired.pairs[:, 0])
    others = unmatched(paired, seed=seed)
    other_scores = pair_scores(paired.texts, paired.images, *others)
    images, texts = item_vectors(paired.images), item_vectors(paired.texts)
    cosines = pair_scores(texts, images, paired.pairs[:, 1], paired.pairs[:, 0]) if paired.late else scores
    halves = half_moments(images, seed=seed), half_moments(texts, seed=seed)
    image, text = (first + second for first, second in halves)
    if rates is None:
        rates = supported(RATES, len(other_scores))
    return Panel(
        model=model,
        mode="late" if paired.late else "dense",
        n_images=len(images),
        n_texts=len(texts),
        n_pairs=len(paired.pairs),
        seed=seed,
        gap=gap(*halves, cosines, separability(images, texts, paired.pairs, seed=seed)),
        matched=matched_cosines(paired, scores, seed=seed),
        alignment=alignment(scores, n=n_aligned, seed=seed),
        cone=cone(scores, other_scores),
        margin=margin(paired, seed=seed),
        spread=Spread(
            image.mean_cosine,
            text.mean_cosine,
            float(2 - 2 * cosines.mean()),
            uniformity(images, seed=seed),
            uniformity(texts, seed=seed),
        ),
        mixed=mixed_ranking(corpus_of_pairs(paired, seed=seed), k=k, seed=seed),
        cutoffs=cutoffs(scores, other_scores, others, rates=rates, seed=seed),
        map=project(images, texts, image, text),
    )


def to_json(panel: Panel) -> dict[str, Any]:
    """Return everything but the map's points as JSON knows it; an infinite number becomes None."""
    content = asdict(panel)
    content["map"] = {"explained": panel.map.explained}
    plain: dict[str, Any] = _plain(content)
    return plain


def _plain(value: Any) -> Any:  # whatever a dataclass holds
    if isinstance(value, dict):
        return {name: _plain(field) for name, field in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return None if isinstance(value, float) and not math.isfinite(value) else value


_LABEL, _COLUMN, _PER_TABLE = 47, 17, 3


def table(panels: Sequence[Panel]) -> str:
    """Write the panels side by side as aligned text, at most 100 columns wide; more than three in several tables."""
    parts = []
    for start in range(0, len(panels), _PER_TABLE):
        columns = [rows(panel) for panel in panels[start : start + _PER_TABLE]]
        labels = dict.fromkeys(label for column in columns for label in column)
        lines = [
            label.ljust(_LABEL) + "".join(f"{column.get(label, '–'):>{_COLUMN}}" for column in columns)
            for label in labels
        ]
        parts.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(parts)


def rows(panel: Panel) -> dict[str, str]:
    """Return the cells of a panel's column by the labels of their rows. Labels in capitals are headings."""
    gap, matched, cone, spread, mixed = panel.gap, panel.matched, panel.cone, panel.spread, panel.mixed
    text_text = matched.text_text
    cells = {
        "": _cut(panel.model),
        "mode": panel.mode,
        "images": f"{panel.n_images:,}",
        "texts": f"{panel.n_texts:,}",
        "pairs": f"{panel.n_pairs:,}",
        "MODALITY GAP": "",
        "distance of the centres (L2M)": _number(gap.l2m),
        "mean distance of pairs (L2I)": _number(gap.l2i),
        "relative gap, 0 to 1 (RMG)": _number(gap.rmg),
        "Fréchet distance²: part of the centres": _number(gap.centroid),
        "  residual part": _number(gap.residual),
        "  residual of two halves of a modality": _number(gap.residual_floor),
        "linear separability, ½ to 1": _number(gap.separability),
        "matched image–text: mean": _number(matched.image_text.mean),
        "  standard deviation of image–text": _number(matched.image_text.sd),
        "matched text–text: mean": _number(None if text_text is None else text_text.mean),
        "  standard deviation of text–text": _number(None if text_text is None else text_text.sd),
        "  text–text pairs": f"{text_text.n:,}" if text_text else "–",
        "  mean above image–text": _number(matched.difference),
        "  overlap of the histograms": _number(matched.overlap),
        "nearer to an unrelated text than to own image": f"{matched.nearer_unrelated:.1%}",
        "  texts compared": f"{matched.n_texts:,}",
        "CROSS-MODAL ALIGNMENT": "",
        f"mean of matched pairs, seed {panel.seed}": f"{panel.alignment.mean:.3f} ± {panel.alignment.error:.3f}",
        "  pairs drawn": f"{panel.alignment.n:,}",
        "alignment, mean squared distance of pairs": _number(spread.alignment),
        "uniformity of images": _number(spread.image_uniformity),
        "uniformity of texts": _number(spread.text_uniformity),
        "CONE EFFECT": "",
        "unmatched pairs: mean": _number(cone.unmatched.mean),
        "  standard deviation of unmatched": _number(cone.unmatched.sd),
        "  unmatched pairs": f"{cone.unmatched.n:,}",
        "AUC, matched above unmatched": _number(cone.auc, 4),
        "d′": _number(cone.d_prime),
        "mean cosine of two images": _number(spread.image_cosine),
        "mean cosine of two texts": _number(spread.text_cosine),
        "margin over the hardest negative": _number(None if panel.margin is None else panel.margin.mean),
        "  above 0": "–" if panel.margin is None else f"{panel.margin.positive:.1%}",
        "MIXED CORPUS": "",
        f"nDCG@{mixed.k}": _number(mixed.ndcg),
        "  without the means": _number(mixed.ndcg_centred),
        "  95 % interval of the change": f"{mixed.change_low:+.3f} to {mixed.change_high:+.3f}",
        "images among relevant documents": f"{mixed.relevant_images:.1%}",
        f"  among the first {mixed.k}": f"{mixed.top_images:.1%}",
        f"  among the first {mixed.k} without the means": f"{mixed.top_images_centred:.1%}",
        "queries": f"{mixed.n_queries:,}",
        "CUT-OFFS": "",
    }
    for cutoff in panel.cutoffs:
        cells[f"at false-positive rate {cutoff.rate:g}"] = _number(cutoff.score)
        cells[f"  95 % interval at {cutoff.rate:g}"] = f"{cutoff.low:.3f} to {cutoff.high:.3f}"
        cells[f"  false positives at {cutoff.rate:g}"] = f"{cutoff.n_above:,}"
        cells[f"  matched pairs above at {cutoff.rate:g}"] = f"{cutoff.recall:.1%}"
    return cells


def _cut(name: str) -> str:
    return name if len(name) < _COLUMN else f"…{name[-_COLUMN + 2 :]}"


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
