"""The figures of the analyses, as PNG and SVG: a column per model, a row per mode, the definition below."""

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polyvec.analyze.histograms import EDGES, Histogram
from polyvec.analyze.panel import Panel
from polyvec.paths import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "CONE_CAPTION",
    "GAP_CAPTION",
    "MAP_CAPTION",
    "check_matplotlib",
    "cone_figure",
    "gap_figure",
    "map_figure",
    "save",
    "seeds",
    "svg",
]

_IMAGE, _TEXT, _OTHER = "#0072B2", "#D55E00", "#999999"  # told apart with any kind of colour vision
_WIDTH, _HEIGHT = 4.4, 3.2  # inches per panel, with its labels
_LINE = 0.15  # inches per line of a caption
_MOST_POINTS = 5000  # of either modality in the scatter plot
_LETTERS_PER_INCH = 15
_HEADROOM = 1.3
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

GAP_CAPTION = (
    "Modality gap (arXiv 2506.18902, Fig. 2). Scores of matched pairs of an image and its text, and of two texts "
    "of one image (each text with the next); share of pairs per bin of 0.02, dashed lines at the means. Δ mean: "
    "text–text minus image–text. Overlap: sum over bins of the smaller share. L2M: distance of the centres of "
    "images and texts. RMG: relative gap; 0 pairs coincide, ½ pairs are no nearer than two items of one kind. "
)
CONE_CAPTION = (
    "Cone effect (arXiv 2506.18902, Fig. 3). Scores of texts with their own images (matched) and with other images "
    "(unmatched; all of them, or a sample of about a million); share of pairs per bin of 0.02, dashed lines at the "
    "means. AUC: chance that a matched pair scores above an unmatched one. d′: difference of the means over the "
    "root of the mean variance. Cos of two images, of two texts: mean cosine of different items of one kind; near "
    "1 is a narrow cone. "
)
MAP_CAPTION = (
    "Map of images and texts. Above: principal component analysis of the unit vectors of both together (late: of "
    "the means of an item's tokens). Below: coordinate along the gap vector; 0 is half-way between the centres. "
    "Both are linear projections: distances can be compared within a panel. Non-linear maps such as UMAP "
    "exaggerate the separation. "
)


def check_matplotlib() -> None:
    """Refuse to go on without matplotlib.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import matplotlib as _  # noqa: F401 — only whether it is there
    except ImportError as error:
        raise ImportError("figures need matplotlib: pip install 'polyvec[evaluate]'") from error


def gap_figure(panels: Sequence[Panel], caption: str = GAP_CAPTION) -> "Figure":
    """Draw the paper's Figure 2: matched image–text against matched text–text scores."""
    with _grid(panels, caption) as (figure, cells):
        for axes, panel in cells:
            matched = panel.matched
            axes.set_xlim(_limits([scores for panel in panels for scores in _matched(panel)]))
            _draw(axes, matched.image_text, f"image–text, n = {matched.image_text.n:,}", _IMAGE)
            if matched.text_text:
                _draw(axes, matched.text_text, f"text–text, n = {matched.text_text.n:,}", _TEXT)
                note = f"Δ mean {matched.difference:.3f}, overlap {matched.overlap:.3f}"
            else:
                note = "no image has two texts"
            _finish(axes, panel, f"{note}, L2M {panel.gap.l2m:.3f}, RMG {panel.gap.rmg:.3f}")
    return figure


def cone_figure(panels: Sequence[Panel], caption: str = CONE_CAPTION) -> "Figure":
    """Draw the paper's Figure 3: matched against unmatched image–text scores."""
    with _grid(panels, caption) as (figure, cells):
        for axes, panel in cells:
            cone, spread = panel.cone, panel.spread
            axes.set_xlim(
                _limits([scores for panel in panels for scores in (panel.cone.matched, panel.cone.unmatched)])
            )
            _draw(axes, cone.unmatched, f"unmatched, n = {cone.unmatched.n:,}", _OTHER)
            _draw(axes, cone.matched, f"matched, n = {cone.matched.n:,}", _IMAGE)
            note = f"AUC {cone.auc:.4f}, d′ {cone.d_prime:.2f}, cos of two images {spread.image_cosine:.2f}"
            _finish(axes, panel, f"{note}, of two texts {spread.text_cosine:.2f}")
    return figure


def map_figure(panels: Sequence[Panel], caption: str = MAP_CAPTION) -> "Figure":
    """Draw for each panel the two principal components of images and texts together, and the axis along the gap."""
    with _grid(panels, caption, rows_per_panel=2) as (figure, cells):
        for axes, panel in cells[::2]:
            _scatter(axes, panel)
        for axes, panel in cells[1::2]:
            _draw_delta(axes, panel)
    return figure


def _scatter(axes: Any, panel: Panel) -> None:  # Any: see `_grid`
    space = panel.map
    for name, places, color in (("texts", space.texts, _TEXT), ("images", space.images, _IMAGE)):
        kept = np.random.default_rng(panel.seed).permutation(len(places))[:_MOST_POINTS]
        shown = f"{len(kept):,} of {len(places):,}" if len(kept) < len(places) else f"{len(places):,}"
        size = 6 if len(kept) > 500 else 14
        axes.scatter(*places[kept].T, s=size, color=color, alpha=0.5, label=f"{name}, n = {shown}", linewidths=0)
    axes.set_xlabel(f"principal component 1 ({space.explained[0]:.0%} of variance)")
    axes.set_ylabel(f"component 2 ({space.explained[1]:.0%})")
    axes.set_title(_name(panel))
    axes.legend(loc="best", markerscale=1.5)


def _draw_delta(axes: Any, panel: Panel) -> None:  # Any: see `_grid`
    sides = ("texts", panel.map.texts_delta, _TEXT), ("images", panel.map.images_delta, _IMAGE)
    both = np.concatenate([values for _, values, _ in sides])
    edges = np.linspace(both.min() - 1e-6, both.max() + 1e-6, 61)
    for name, values, color in sides:
        counts, _ = np.histogram(values, edges)
        axes.stairs(
            counts / len(values), edges, fill=True, color=color, alpha=0.5, label=f"{name}, n = {len(values):,}"
        )
    axes.set_xlabel("coordinate along mean(images) − mean(texts)")
    axes.set_ylabel("share of items")
    axes.legend(loc="best")


def svg(figure: "Figure") -> str:
    """Return a figure as an SVG element to stand in a page of HTML."""
    import matplotlib as mpl

    file = io.StringIO()
    with mpl.rc_context(_SETTINGS):
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as `path`.png, 150 dots per inch, and `path`.svg."""
    import matplotlib as mpl

    with mpl.rc_context(_SETTINGS):
        figure.savefig(path.with_name(f"{path.name}.png"), dpi=150)
        figure.savefig(path.with_name(f"{path.name}.svg"), metadata={"Date": None})


@contextmanager
def _grid(
    panels: Sequence[Panel], caption: str, *, rows_per_panel: int = 1
) -> Iterator[tuple["Figure", list[tuple[Any, Panel]]]]:  # Any: matplotlib has no types here
    """Make a figure with a column per model and a row per mode; give the axes of each panel, row by row."""
    check_matplotlib()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    models = list(dict.fromkeys(panel.model for panel in panels))
    modes = list(dict.fromkeys(panel.mode for panel in panels))
    shape = len(modes) * rows_per_panel, len(models)
    with mpl.rc_context(_SETTINGS):
        width = max(_WIDTH * shape[1], 6)
        lines = textwrap.wrap(f"{caption}{seeds(panels)}" if caption else "", int(width * _LETTERS_PER_INCH))
        below = _LINE * len(lines) + 0.2
        height = _HEIGHT * shape[0] + below
        figure = Figure(figsize=(width, height))
        grid = figure.subplots(*shape, squeeze=False)
        inside = _WIDTH - 0.85, _HEIGHT - 1.05  # axes without labels
        figure.subplots_adjust(
            left=0.7 / width,
            right=1 - 0.15 / width,
            bottom=(below + 0.5) / height,
            top=1 - 0.55 / height,
            wspace=0.85 / inside[0],
            hspace=1.05 / inside[1],
        )
        figure.text(0.15 / width, 0.1 / height, "\n".join(lines), fontsize=8, linespacing=1.25)
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
    axes.axvline(scores.mean, color=color, linestyle="--", linewidth=1, ymax=1 / _HEADROOM)


def _finish(axes: Any, panel: Panel, note: str) -> None:  # Any: see `_grid`
    axes.set_title(f"{_name(panel)}\n", fontsize=10)
    axes.text(0.5, 1.03, note, transform=axes.transAxes, ha="center", fontsize=8)
    axes.set_xlabel("cosine" if panel.mode == "dense" else "MaxSim / query tokens")
    axes.set_ylabel("share of pairs per bin")
    axes.tick_params(labelbottom=True)
    axes.set_ylim(0, axes.get_ylim()[1] * _HEADROOM)  # for the legend
    axes.legend(loc="best")


def _limits(histograms: Sequence[Histogram]) -> tuple[float, float]:
    """Return the range of the bins in use."""
    used = np.flatnonzero(np.sum([scores.counts for scores in histograms], axis=0))
    low, high = EDGES[used[0]], EDGES[used[-1] + 1]
    return float(low - 0.03), float(high + 0.03)


def _matched(panel: Panel) -> list[Histogram]:
    matched = panel.matched
    return [matched.image_text] if matched.text_text is None else [matched.image_text, matched.text_text]


def _name(panel: Panel) -> str:
    model = printable(panel.model).replace("$", r"\$")  # no formula
    return f"{model if len(model) < 40 else f'…{model[-38:]}'}, {panel.mode}"


def seeds(panels: Sequence[Panel]) -> str:
    """Return the end of every caption: what was drawn how often."""
    counts = dict.fromkeys(f"{panel.n_images:,} images, {panel.n_texts:,} texts" for panel in panels)
    seeds = dict.fromkeys(str(panel.seed) for panel in panels)
    return f"{'; '.join(counts)}; seed {', '.join(seeds)}."
