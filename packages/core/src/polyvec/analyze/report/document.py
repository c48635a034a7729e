"""The HTML file of an analysis."""

from collections.abc import Mapping, Sequence

from polyvec.analyze import plots
from polyvec.analyze.panel import Panel, rows
from polyvec.analyze.report.points import Points
from polyvec.html.page import escaped, javascript, page, table

__all__ = ["analysis_report"]

_LISTED = 200
_MAPS = """<section><h2>Maps</h2><div class="controls" id="search"></div><div id="maps" class="charts"></div>
<p class="note">Principal component analysis of the unit vectors of images and texts together (late: of the means of an
item's tokens), and the coordinate along the gap, the difference of the two centres; 0 is half-way between them. Both
are linear projections: distances can be compared within a panel. There is no UMAP: it exaggerates the separation, and
its distances cannot be compared. {pictures}</p></section>
"""


def analysis_report(
    panels: Sequence[Panel],
    points: Points,
    *,
    title: str,
    notes: Sequence[str] = (),
    left_out: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """Return one HTML file with the tables, figures and maps of all panels. It needs no network.

    Args:
        panels: the analyses.
        points: the map of each panel, in the same order.
        title: says what was analyzed.
        notes: what a reader must know.
        left_out: for each model the items that are not in its panels, with reasons.

    Raises:
        ValueError: there are no panels, or not as many maps.
        ImportError: matplotlib is not installed.
    """
    if not panels or len(panels) != len(points.panels):
        raise ValueError(f"there are {len(panels)} panels and {len(points.panels)} maps; give one map for each panel.")
    n_images = len({image for _, image in points.items.values()})
    shown = sum(len(panel["points"]) for panel in points.panels)
    whole = sum(panel.n_images + panel.n_texts for panel in panels)
    sample = f" The maps have {shown:,} of {whole:,} points, drawn at random." if shown < whole else ""
    pictures = f"{len(points.pictures):,} of {n_images:,} images have pictures here.{sample}"
    body = "".join(
        [
            f"<h1><bdi>{escaped(title)}</bdi></h1>\n",
            *_tables(panels),
            "<section><h2>Figures</h2>",
            _figure(plots.svg(plots.gap_figure(panels, "")), f"{plots.GAP_CAPTION}{plots.seeds(panels)}"),
            _figure(plots.svg(plots.cone_figure(panels, "")), f"{plots.CONE_CAPTION}{plots.seeds(panels)}"),
            "</section>",
            _MAPS.format(pictures=escaped(pictures)),
            *_notes(notes, left_out or {}),
        ]
    )
    script = javascript("polyvec.analyze.report", "maps.js")
    return page(title, body, script=script, data=points.data())


def _tables(panels: Sequence[Panel]) -> list[str]:
    """Write a table for each heading, with a column for each panel."""
    columns = [rows(panel) for panel in panels]
    names = ["", *(f"{panel.model}, {panel.mode}" for panel in panels)]
    sections: dict[str, list[list[str]]] = {"ITEMS": []}
    for label in dict.fromkeys(label for column in columns for label in column):
        if label.isupper():
            sections[label] = []
        elif label not in ("", "mode"):
            line = [label.replace("  ", "\u2003", 1), *(column.get(label, "–") for column in columns)]
            sections[next(reversed(sections))].append(line)
    return [
        f"<section><h2>{escaped(head.capitalize())}</h2>{table(names, lines)}</section>"
        for head, lines in sections.items()
    ]


def _figure(svg: str, caption: str) -> str:
    return f'<figure><div class="drawn">{svg}</div><figcaption>{escaped(caption)}</figcaption></figure>'


def _notes(notes: Sequence[str], left_out: Mapping[str, Mapping[str, str]]) -> list[str]:
    parts = [f"<p class='note'><bdi>{escaped(note)}</bdi></p>" for note in notes]
    for model, reasons in left_out.items():
        if reasons:
            items = [f"<li><bdi>{escaped(f'{source}: {reason}')}</bdi></li>" for source, reason in reasons.items()]
            more = f"<li>… and {len(items) - _LISTED} more</li>" if len(items) > _LISTED else ""
            summary = f"<summary><bdi>{escaped(model)}</bdi>: {len(items)} left out</summary>"
            parts.append(f"<details>{summary}<ul>{''.join(items[:_LISTED])}{more}</ul></details>")
    return ["<section><h2>Notes</h2>", *parts, "</section>"] if parts else []
