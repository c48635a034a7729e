"""Warnings that point at the user's own line."""

import re
import sys
import warnings

__all__ = ["warn"]

_OURS = re.compile(r"(?:^|[._])polyvec(?:\.|$)")


def warn(message: str) -> None:
    """Warn at the nearest caller outside of polyvec's packages."""
    level = 1
    while _OURS.search(sys._getframe(level).f_globals.get("__name__", "")):  # noqa: SLF001 — nothing else walks frames
        level += 1
    warnings.warn(message, stacklevel=level + 1)
