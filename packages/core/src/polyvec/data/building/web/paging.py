"""Where a long document is cut into pages, so that no line is cut."""

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["Box", "page_breaks"]

Box = tuple[float, float, bool]  # top, bottom, and whether it is a heading, which stays with what follows

_MARGIN = 24  # pixels of CSS around the first and the last box of a page, if there is room
_OVERLAP = 1.0  # pixels that the boxes of neighbouring lines may share
_FULL_ENOUGH = 0.5  # share of the height that a page has before it is cut early


def page_breaks(boxes: Sequence[Box], height: int) -> list[tuple[int, int]]:
    """Return the top and bottom of each page in whole pixels; none is higher than `height`.

    A page ends in the gap between two boxes if there is one in its lower half. Otherwise, as in columns whose lines
    alternate, it ends where the fewest boxes are cut. Pages without any box are left out.
    """
    ordered = sorted(boxes)
    tops = np.array([top for top, _, _ in ordered])
    bottoms = np.array([bottom for _, bottom, _ in ordered])
    for index in reversed(range(len(ordered) - 1)):
        if ordered[index][2]:
            bottoms[index] = max(bottoms[index], min(bottoms[index + 1], tops[index] + height * _FULL_ENOUGH))
    last = bottoms.max(initial=0)
    ends = np.sort(bottoms)
    pages: list[tuple[int, int]] = []
    start = 0
    while start < last:
        if last + _MARGIN - start <= height:
            return [*pages, (start, math.ceil(last) + _MARGIN)]
        lowest = start + height
        below = tops[(tops > start + height * _FULL_ENOUGH) & (tops <= lowest)]
        above = np.append(ends, 0)[np.searchsorted(ends, below + _OVERLAP) - 1]  # where the box before each one ends
        cuts = np.unique([*np.floor(below - np.clip((below - above) / 2, 0, _MARGIN)), lowest])
        n_cut = np.searchsorted(tops, cuts - _OVERLAP) - np.searchsorted(ends, cuts + _OVERLAP, side="right")
        cut = int(cuts[n_cut == n_cut.min()][-1])
        pages.append((start, cut))
        left = tops[bottoms > cut + _OVERLAP]
        start = max(cut, int(left.min(initial=last)) - _MARGIN)
    return pages
