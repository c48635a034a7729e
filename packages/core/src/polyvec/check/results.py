"""The result of a check."""

from dataclasses import dataclass

__all__ = ["Result"]


@dataclass(frozen=True, slots=True)
class Result:
    """Whether something holds.

    Attributes:
        name: what was checked.
        holds: False if the checkpoint cannot be right.
        detail: what was measured, or what is wrong.
    """

    name: str
    holds: bool
    detail: str
