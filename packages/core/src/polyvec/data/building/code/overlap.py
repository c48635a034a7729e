"""What two parts of a dataset have in common, so that training does not see what is held out."""

from collections.abc import Sequence
from typing import Protocol

from polyvec.data.building.code.pairs import key_of
from polyvec.data.near_duplicates import Features, Sketches, features

__all__ = ["Texts", "crossing"]

_NEAR = 0.8  # Jaccard similarity of sequences of six bytes


class Texts(Protocol):
    """Items whose texts can be read again, in any order."""

    def __len__(self) -> int: ...
    def texts(self, index: int) -> Sequence[str]:
        """Return the texts of an item, as many for each item."""


def crossing(held_out: Texts, training: Texts) -> dict[int, str]:
    """Return, by index, why items of `training` must go: a text of theirs is one of `held_out`, or nearly one.

    Near duplicates inside `training` go as well: through them, it could keep what resembles the held-out part.
    """
    reasons: dict[int, str] = {}
    n_held = len(held_out)

    def texts(row: int) -> Sequence[str]:
        return held_out.texts(row) if row < n_held else training.texts(row - n_held)

    if not n_held or not len(training):
        return reasons
    for place in range(len(texts(0))):
        known = {key_of(held_out.texts(row)[place]) for row in range(n_held)}
        sketches = Sketches(_NEAR)
        for row in range(n_held + len(training)):
            if row >= n_held and key_of(texts(row)[place]) in known:
                reasons[row - n_held] = "in the held-out part"
            elif row - n_held not in reasons:
                sketches.add(row, [features(texts(row)[place])])

        def again(row: int, place: int = place) -> Sequence[Features]:
            return [features(texts(row)[place])]

        for row, original in sketches.duplicates(again).items():
            if row >= n_held:
                near = "near duplicate of the held-out part" if original < n_held else "near duplicate"
                reasons.setdefault(row - n_held, near)
    return reasons
