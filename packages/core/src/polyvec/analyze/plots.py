"""The figures of the analyses, as PNG and SVG: a column per model, a row per mode, the definition below."""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polyvec.analyze.histograms import EDGES, Histogram
from polyvec.analyze.panel import Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_matplotlib", "cone_figure", "gap_figure", "map_figure", "save"]

_IMAGE, _TEXT, _OTHER = "#0072B2", "#D55E00", "#999999"  # told apart with any kind of colour vision
_WIDTH, _HEIGHT = 4.4, 3.0  # inches per panel
_MOST_POINTS = 5000  # of either modality in the scatter plot
_LETTERS_PER_INCH = 15
_SETTINGS: dict[str, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "polyvec",  # equal data give equal files
    "svg.fonttype": "none",
}


def check_matplotlib() -> None:
    """Refuse to go on without matplotlib.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import matplotlib as _  # noqa: F401 — only whether it is there
    except ImportError as error:
        raise ImportError("figures need matplotlib: pip install 'polyvec[evaluate]'") from error


def gap_figure(panels: Sequence[Panel]) -> "Figure":
    """Draw the paper's Figure 2: matched image–text against matched text–text scores."""
    with _grid(panels, "modality gap") as (figure, cells):
        for axes, panel in cells:
            matched = panel.matched
            _draw(axes, matched.image_text, f"image–text, n = {matched.image_text.n:,}", _IMAGE)
            if matched.text_text:
                _draw(axes, matched.text_text, f"text–text, n = {matched.text_text.n:,}", _TEXT)
                note = f"Δ mean {matched.difference:.3f}\noverlap {matched.overlap:.3f}"
            else:
                note = "no image has two texts"
            _finish(axes, panel, f"{note}\nL2M {panel.gap.l2m:.3f}\nRMG {panel.gap.rmg:.3f}")
        seeds = _seeds(panels)
        _caption(
            figure,
            "Modality gap (arXiv 2506.18902, Fig. 2). Scores of matched pairs of an image and its text, and of two texts "
            "of one image (each text with the next); share of pairs per bin of 0.02, dashed lines at the means. Δ mean: "
            "text–text minus image–text. Overlap: sum over bins of the smaller share. L2M: distance of the centres of "
            f"images and texts. RMG: relative gap; 0 pairs coincide, ½ no nearer than two items of one kind. {seeds}",
            panels,
        )
    return figure


def cone_figure(panels: Sequence[Panel]) -> "Figure":
    """Draw the paper's Figure 3: matched against unmatched image–text scores."""
    with _grid(panels, "cone effect") as (figure, cells):
        for axes, panel in cells:
            cone = panel.cone
            _draw(axes, cone.unmatched, f"unmatched, n = {cone.unmatched.n:,}", _OTHER)
            _draw(axes, cone.matched, f"matched, n = {cone.matched.n:,}", _IMAGE)
            spread = panel.spread
            note = f"AUC {cone.auc:.4f}\nd′ {cone.d_prime:.2f}\ncos of two images {spread.image_cosine:.2f}\n"
            _finish(axes, panel, f"{note}cos of two texts {spread.text_cosine:.2f}")
        _caption(
            figure,
            "Cone effect (arXiv 2506.18902, Fig. 3). Scores of texts with their own images (matched) and with other "
            "images (unmatched; all of them, or a sample of about a million); share of pairs per bin of 0.02, dashed "
            "lines at the means. AUC: chance that a matched pair scores above an unmatched one. d′: difference of the "
            "means over the root of the mean variance. Cos of two images, of two texts: mean cosine of different items "
            f"of one kind; near 1 is a narrow cone. {_seeds(panels)}",
            panels,
        )
    return figure


def map_figure(panels: Sequence[Panel]) -> "Figure":
    """Draw for each panel the two principal components of images and texts together, and the axis along the gap."""
    with _grid(panels, "map", rows_per_panel=2) as (figure, cells):
        for axes, panel in cells[::2]:
            space = panel.map
            for name, places, color in (("texts", space.texts, _TEXT), ("images", space.images, _IMAGE)):
                kept = np.random.default_rng(panel.seed).permutation(len(places))[:_MOST_POINTS]
                shown = f"{len(kept):,} of {len(places):,}" if len(kept) < len(places) else f"{len(places):,}"
                axes.scatter(*places[kept].T, s=6, color=color, alpha=0.5, label=f"{name}, n = {shown}", linewidths=0)
            axes.set_xlabel(f"principal component 1 ({space.explained[0]:.0%} of variance)")
            axes.set_ylabel(f"component 2 ({space.explained[1]:.0%})")
            axes.set_title(_name(panel))
            axes.legend(loc="best", markerscale=2)
        for axes, panel in cells[1::2]:
            space = panel.map
            both = np.concatenate([space.texts_delta, space.images_delta])
            edges = np.linspace(both.min() - 1e-6, both.max() + 1e-6, 61)
            for name, values, color in (
                ("texts", space.texts_delta, _TEXT),
                ("images", space.images_delta, _IMAGE),
            ):
                counts, _ = np.histogram(values, edges)
                axes.stairs(counts / len(values), edges, fill=True, color=color, alpha=0.5, label=name)
            axes.set_xlabel("coordinate along mean(images) − mean(texts)")
            axes.set_ylabel("share of items")
            axes.legend(loc="best")
        _caption(
            figure,
            "Map of images and texts. Above: principal component analysis of the unit vectors of both together"
            + (" (late: the mean of an item's tokens)" if any(panel.mode == "late" for panel in panels) else "")
            + ". Below: coordinate along the gap vector; 0 is half-way between the centres. Both are linear projections, "
            "so distances can be compared within a panel; non-linear maps such as UMAP exaggerate the separation. "
            f"{_seeds(panels)}",
            panels,
        )
    return figure


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as `path` with the suffixes .png (150 dots per inch) and .svg."""
    import matplotlib as mpl

    with mpl.rc_context(_SETTINGS):
        figure.savefig(path.with_suffix(".png"), dpi=150)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


@contextmanager
def _grid(
    panels: Sequence[Panel], title: str, *, rows_per_panel: int = 1
) -> Iterator[tuple["Figure", list[tuple[Any, Panel]]]]:  # Any: matplotlib has no types here
    """Make a figure with a column per model and a row per mode; give the axes of each panel, row by row."""
    check_matplotlib()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    models = list(dict.fromkeys(panel.model for panel in panels))
    modes = list(dict.fromkeys(panel.mode for panel in panels))
    shape = len(modes) * rows_per_panel, len(models)
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(max(_WIDTH * shape[1], 6), _HEIGHT * shape[0] + 1.4), layout="constrained")
        grid = figure.subplots(*shape, squeeze=False, sharex=title != "map", sharey=False)
        taken = [
            (grid[modes.index(panel.mode) * rows_per_panel + row, models.index(panel.model)], panel)
            for panel in panels
            for row in range(rows_per_panel)
        ]
        for axes in {*grid.ravel()} - {axes for axes, _ in taken}:
            axes.set_axis_off()
        yield figure, taken


def _draw(axes: Any, scores: Histogram, label: str, color: str) -> None:  # Any: see `_grid`
    axes.stairs(scores.counts / scores.n, EDGES, fill=True, color=color, alpha=0.5, label=label)
    axes.axvline(scores.mean, color=color, linestyle="--", linewidth=1)


def _finish(axes: Any, panel: Panel, note: str) -> None:  # Any: see `_grid`
    axes.set_title(_name(panel))
    axes.set_xlabel("cosine" if panel.mode == "dense" else "MaxSim / query tokens")
    axes.set_ylabel("share of pairs per bin")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.35)
    axes.legend(loc="upper left", title=note, title_fontsize=8, alignment="left")
    histograms = (panel.matched.image_text, panel.matched.text_text, panel.cone.unmatched)
    used = sum(histogram.counts for histogram in histograms if histogram).nonzero()[0]
    axes.set_xlim(min(EDGES[used[0]], axes.get_xlim()[0]), max(EDGES[used[-1] + 1], axes.get_xlim()[1]))


def _name(panel: Panel) -> str:
    return f"{panel.model}, {panel.mode}"


def _seeds(panels: Sequence[Panel]) -> str:
    counts = dict.fromkeys(f"{panel.n_images:,} images, {panel.n_texts:,} texts" for panel in panels)
    seeds = dict.fromkeys(str(panel.seed) for panel in panels)
    return f"{'; '.join(counts)}; seed {', '.join(seeds)}."


def _caption(figure: "Figure", text: str, panels: Sequence[Panel]) -> None:
    width = figure.get_size_inches()[0]
    lines = textwrap.fill(text, int(width * _LETTERS_PER_INCH))
    figure.supxlabel(lines, fontsize=8, x=0.02, ha="left")
