"""What became of the items of one call."""

from dataclasses import dataclass, field

from qdrant_polyvec.items import Failure, Identity


@dataclass(frozen=True, slots=True)
class Report:
    """What became of each item that was added.

    Attributes:
        ok: ids of the items that were stored, or whose metadata was.
        skipped: ids of the items that were there already, unchanged.
        failed: the others.
        removed: ids of the items of replaced sources that are no more.
    """

    ok: list[Identity] = field(default_factory=list)
    skipped: list[Identity] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    removed: list[Identity] = field(default_factory=list)
