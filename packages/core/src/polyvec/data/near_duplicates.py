"""Near duplicates, by MinHash and locality-sensitive hashing (Leskovec et al., Mining of Massive Datasets, ch. 3).

An item is a set of features. The features of a text are the sequences of six bytes of its normal form: six Latin
letters, two or three Chinese characters. The features of an image are edges of a thumbnail. Two items are near
duplicates if their sets agree (Jaccard similarity). Hashes only propose pairs; each pair is compared exactly.
"""

import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, UInt32, UInt64
from PIL import Image

from polyvec.images import open_image
from polyvec.types import ImageText, Input

__all__ = ["Features", "Sketches", "are_near", "features"]

_SHINGLE = 6  # bytes of UTF-8
_GRID = 16  # cells on each side of the thumbnail
_EDGE = 2  # of 255: smaller differences of shade are noise
_COLOUR = 25.0  # of 255: largest difference between the mean colours of one picture
_SAME_PICTURE = 0.7  # similarity of edges; copies at other sizes and qualities have more, other pages less than 0.4

_N_HASHES = 128
_RECALL = 0.99  # share of pairs at the threshold that the hashes propose
_MOST_CANDIDATES = 64  # that a row is compared with, so that millions of rows of one template take no square of time
_CHUNK = 2048  # features hashed at a time
_CACHED = 4096  # rows whose features are kept for the next comparisons
_RNG = np.random.default_rng(6_180_339)
_FACTORS = _RNG.integers(2**64, size=_N_HASHES, dtype=np.uint64) | np.uint64(1)
_STRIDES, _SHIFTS = (_RNG.integers(2**32, size=_N_HASHES, dtype=np.uint32) | np.uint32(1) for _ in range(2))


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What is compared of an item: a set of numbers, some of them repeated, and the mean colour of an image."""

    numbers: UInt64[np.ndarray, " features"]
    colour: Float32[np.ndarray, "3"] | None = None


def features(item: Input) -> Features:
    """Return the features of a text or an image.

    Texts are compared without regard to case, kinds of spaces, and forms that Unicode calls compatible (NFKC).

    Raises:
        ValueError: the image cannot be read, or the item has an image and a text.
    """
    if isinstance(item, ImageText):
        reason = "an item of image and text (ImageText) is not compared; give its image or its text."
        raise ValueError(reason)  # noqa: TRY004 — as an image that cannot be read
    if not isinstance(item, str):
        return _edges(open_image(item))
    text = " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", item).casefold()).split())
    letters = np.frombuffer(text.encode("utf-8", "surrogatepass").ljust(_SHINGLE, b"\0"), np.uint8).astype(np.uint64)
    numbers = np.zeros(len(letters) - _SHINGLE + 1, np.uint64)
    for place in range(_SHINGLE):
        numbers = (numbers << np.uint64(8)) | letters[place : place + len(numbers)]
    return Features(numbers)


def are_near(first: Features, second: Features, threshold: float) -> bool:
    """Return whether two items are near duplicates: texts from `threshold` on, images from a similarity of 0.7."""
    if first.colour is not None and second.colour is not None:
        same_colour = np.abs(first.colour - second.colour).max() <= _COLOUR
        return bool(same_colour) and _jaccard(first.numbers, second.numbers) >= _SAME_PICTURE
    return first.colour is second.colour and _jaccard(first.numbers, second.numbers) >= threshold


class Sketches:
    """Finds the rows whose items are all near duplicates of the items of an earlier row.

    A row is a query and its documents. It takes 150 to 300 bytes. Pairs at the threshold are found with a probability
    of 99 % for rows of a query and one document, similar pairs more surely; no other pair is ever found.
    """

    def __init__(self, threshold: float) -> None:
        """Choose from which Jaccard similarity on texts are near duplicates.

        Raises:
            ValueError: the threshold is below 0.5 or above 1.
        """
        if not 0.5 <= threshold <= 1:
            raise ValueError(f"`near_duplicates` is {threshold}; it may be 0.5 to 1, and 0.9 suits most texts.")
        self._threshold = threshold
        self._rows: dict[int, list[int]] = {}  # by the width of a band
        self._bands: dict[int, list[UInt64[np.ndarray, " bands"]]] = {}

    def add(self, row: int, items: Sequence[Features]) -> None:
        """Add a row. Rows are added in ascending order."""
        signature = np.zeros(_N_HASHES, np.uint64)  # two rows agree in a hash if all of their items do
        for item in items:
            signature = signature * _FACTORS + _minhash(item.numbers)
        has_images = any(item.colour is not None for item in items)
        width = _band_width(self._threshold * (_SAME_PICTURE if has_images else self._threshold))
        used = _N_HASHES // width * width
        bands: np.ndarray = (_mixed(signature[:used]) * _FACTORS[:used]).reshape(-1, width).sum(axis=1)
        self._rows.setdefault(width, []).append(row)
        self._bands.setdefault(width, []).append(bands)

    def duplicates(self, items: Callable[[int], Sequence[Features]]) -> dict[int, int]:
        """Return, by row, an earlier row that it is a near duplicate of, which is itself no duplicate.

        `items` gives the features of a row again.
        """
        cached = lru_cache(_CACHED)(items)
        originals: dict[int, int] = {}
        for width, rows in self._rows.items():
            originals |= self._duplicates(rows, np.stack(self._bands[width]), cached)
        return originals

    def _duplicates(
        self, rows: Sequence[int], bands: UInt64[np.ndarray, "rows bands"], items: Callable[[int], Sequence[Features]]
    ) -> dict[int, int]:
        shared = np.zeros(bands.shape, bool)
        for band in range(bands.shape[1]):
            _, inverse, counts = np.unique(bands[:, band], return_inverse=True, return_counts=True)
            shared[:, band] = counts[inverse] > 1
        originals: dict[int, int] = {}
        buckets: dict[tuple[int, int], deque[int]] = {}
        for position in np.flatnonzero(shared.any(axis=1)).tolist():
            row = rows[position]
            keys = [(int(band), int(bands[position, band])) for band in np.flatnonzero(shared[position])]
            candidates = Counter(other for key in keys for other in buckets.get(key, ()))
            for other, _ in candidates.most_common(_MOST_CANDIDATES):
                if self._are_near(items(row), items(other)):
                    originals[row] = other
                    break
            else:
                for key in keys:
                    buckets.setdefault(key, deque(maxlen=_MOST_CANDIDATES)).append(row)
        return originals

    def _are_near(self, row: Sequence[Features], other: Sequence[Features]) -> bool:
        pairs = zip(row, other, strict=False)
        return len(row) == len(other) and all(are_near(*pair, self._threshold) for pair in pairs)


def _edges(image: Image.Image) -> Features:
    """Return where an image becomes brighter or darker from left to right."""
    shades = np.asarray(image.convert("L").resize((_GRID + 1, _GRID), Image.Resampling.BOX)).astype(np.int16)
    steps = np.diff(shades, axis=1).ravel()
    numbers = np.concatenate([np.flatnonzero(steps > _EDGE), np.flatnonzero(steps < -_EDGE) + steps.size])
    colour = np.asarray(image.resize((1, 1), Image.Resampling.BOX), np.float32)[0, 0]
    return Features(numbers.astype(np.uint64), colour)


def _jaccard(first: UInt64[np.ndarray, " a"], second: UInt64[np.ndarray, " b"]) -> float:
    if not len(first) and not len(second):
        return 1.0
    first, second = np.unique(first), np.unique(second)
    n_common = len(np.intersect1d(first, second, assume_unique=True))
    return n_common / (len(first) + len(second) - n_common)


def _minhash(numbers: UInt64[np.ndarray, " features"]) -> UInt32[np.ndarray, "128"]:
    smallest = np.full(_N_HASHES, 2**32 - 1, np.uint32)
    mixed = (_mixed(numbers) >> np.uint64(32)).astype(np.uint32)
    for start in range(0, len(mixed), _CHUNK):
        hashes = mixed[start : start + _CHUNK, None] * _STRIDES + _SHIFTS
        np.minimum(smallest, hashes.min(axis=0), out=smallest)
    return smallest


def _mixed(numbers: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Spread each number over all 64 bits (the finalizer of SplitMix64)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = numbers ^ (numbers >> np.uint64(31))
    return mixed


@lru_cache
def _band_width(similarity: float) -> int:
    """Return the largest number of hashes per band that proposes enough of the rows of this similarity."""
    widths = [width for width in range(1, _N_HASHES + 1) if _found(similarity, width) >= _RECALL]
    return max(widths, default=1)


def _found(similarity: float, width: int) -> float:
    chance: float = 1 - (1 - similarity**width) ** (_N_HASHES // width)
    return chance
