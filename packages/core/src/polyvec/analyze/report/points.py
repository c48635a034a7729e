"""The points of maps as the report's script reads them, of bounded size; all panels share texts and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from polyvec.analyze.captions import Captioned
from polyvec.analyze.paired import Paired
from polyvec.analyze.panel import Panel
from polyvec.analyze.projection import bare_points, thumbnail
from polyvec.html.page import jpeg_uri
from polyvec.paths import printable

__all__ = ["MOST_POINTS", "PICTURE_BYTES", "Points"]

MOST_POINTS = 20_000  # of a panel
PICTURE_BYTES = 4 << 20  # of all pictures, as they stand in the file
_LETTERS = 160
_BINS = 60


@dataclass(slots=True)
class Points:
    """The points of several panels.

    Attributes:
        most_points: of a panel; of more, a sample is drawn by the panel's seed.
        picture_bytes: what pictures may take; images beyond that have none.
        panels: the points of each panel.
        items: what the points are: kind, id and text, and the id of the image that is shown.
        pictures: by the id of the image.
    """

    most_points: int = MOST_POINTS
    picture_bytes: int = PICTURE_BYTES
    panels: list[dict[str, Any]] = field(default_factory=list)
    items: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)
    _positions: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, panel: Panel, paired: Paired, captioned: Captioned) -> None:
        """Add the map of a panel."""
        order = np.random.default_rng(panel.seed).permutation(panel.n_images + panel.n_texts)
        chosen = set(order[: self.most_points].tolist())
        images = list(captioned.images.items())
        every = enumerate(bare_points(panel.map, paired, captioned))
        points = [pair for row, pair in every if row in chosen]
        rows = []
        for point, image in points:
            item = point.kind, point.id
            shown = printable(images[image][0])
            text = point.text if len(point.text) <= _LETTERS else f"{point.text[:_LETTERS]}…"
            self.items.setdefault(item, (text, shown))
            place = self._positions.setdefault(item, len(self._positions))
            rows.append([place, *(round(value, 4) for value in (point.x, point.y, point.score))])
        for image in dict.fromkeys(image for _, image in sorted(points, key=lambda pair: pair[0].kind)):
            self._add_picture(printable(images[image][0]), images[image][1])
        self.panels.append(
            {
                "name": f"{panel.model}, {panel.mode}",
                "n": [panel.n_images, panel.n_texts],
                "explained": list(panel.map.explained),
                "points": rows,
                "gap": _gap_bins(panel.map.images_delta, panel.map.texts_delta),
            }
        )

    def data(self) -> dict[str, Any]:
        """Return what the script reads."""
        items = [[kind, name, *content] for (kind, name), content in self.items.items()]
        return {"panels": self.panels, "items": items, "pictures": self.pictures}

    def _add_picture(self, name: str, image: Any) -> None:  # Any: whatever `thumbnail` opens
        if name in self.pictures or self.picture_bytes <= 0:
            return
        uri = jpeg_uri(thumbnail(image))
        self.picture_bytes -= len(uri)
        if self.picture_bytes >= 0:
            self.pictures[name] = uri


def _gap_bins(*sides: Sequence[float] | np.ndarray) -> dict[str, Any]:
    both = np.concatenate([np.asarray(values) for values in sides])
    edges = np.linspace(float(both.min()) - 1e-6, float(both.max()) + 1e-6, _BINS + 1)
    shares = [np.histogram(values, edges)[0] / len(values) for values in sides]
    return {"edges": edges.round(5).tolist(), "shares": [share.round(5).tolist() for share in shares]}
