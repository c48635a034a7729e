"""What became of the items of one call."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from qdrant_polyvec.items import Failure, Identity


class UnstoredItems(ValueError):  # noqa: N818 — it names the items, and callers read them
    """Some items of a call were not stored; every other one was.

    Attributes:
        failed: which, and why.
        ids: of the others, in their order.
    """

    def __init__(self, failed: Sequence[Failure], ids: Sequence[Identity]) -> None:
        self.failed, self.ids = list(failed), list(ids)
        shown = "; ".join(f"{_name(one)}: {one.error.rstrip('.')}" for one in self.failed[:5])
        more = f"; and {len(self.failed) - 5} more" if len(self.failed) > 5 else ""
        super().__init__(
            f"{len(self.failed)} of {len(self.failed) + len(self.ids)} items were not stored. {shown}{more}."
            + (" The others were: see `.ids` of this error." if self.ids else "")
        )

    def __reduce__(self) -> tuple[type["UnstoredItems"], tuple[object, ...]]:
        return type(self), (self.failed, self.ids)


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

    def check(self, ids: Iterable[Identity]) -> None:
        """Raise if some items failed.

        Args:
            ids: of all items, in their order.

        Raises:
            UnstoredItems: naming them, with the ids of those that are stored.
        """
        if self.failed:
            stored = {*self.ok, *self.skipped}
            raise UnstoredItems(self.failed, [identity for identity in dict.fromkeys(ids) if identity in stored])


def _name(failure: Failure) -> str:
    """What a user calls an item."""
    derived = not failure.source or failure.source.startswith("sha256:")
    return str(failure.id) if derived and failure.id is not None else failure.source
