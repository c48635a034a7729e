"""Room on the disk, checked before the engine writes.

The engine maps files with holes: a write into a hole of a full disk is no error but a signal (SIGBUS), which ends the
process. Nothing acknowledged is lost then, as its log is written first, but nobody is told.
"""

import shutil
from pathlib import Path

from qdrant_polyvec.errors import NoRoomError

OPENING = 8 * 2**20  # bytes; opening took up to 2.5 MiB, also after a crash with 115 MiB of the log to be read again
WRITING = 16 * 2**20  # what small changes, a flush and closing may take
PER_BYTE = 3  # the log keeps 1.25 bytes per byte of vectors, the vectors themselves up to 1, a quantized copy 0.25


def check(path: Path, n_bytes: int, purpose: str) -> None:
    """Raise a NoRoomError if the disk of a folder has less than `n_bytes` left."""
    free = shutil.disk_usage(path).free
    if free < n_bytes:
        raise no_room(path, f"{_mib(free)} MiB are left, and {purpose} takes up to {_mib(n_bytes)} MiB")


def no_room(path: Path, reason: str) -> NoRoomError:
    return NoRoomError(
        f"There is too little room on the disk of {str(path)!r}: {reason}. Make room and call again, or move the index "
        "to another disk; everything that was acknowledged is kept."
    )


def allocated(path: Path) -> int:
    """Return the bytes that the files below a folder take on the disk, without their holes."""
    stats = (file.stat() for file in path.rglob("*") if file.is_file())
    return sum(getattr(stat, "st_blocks", stat.st_size // 512) * 512 for stat in stats)


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.1f}"
