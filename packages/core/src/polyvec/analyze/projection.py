"""A 2-D map of images and texts, with pictures, as data: for a report, or as a Parquet file for embedding-atlas."""

import io
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Real

from polyvec.analyze.captions import Captioned
from polyvec.analyze.moments import Moments
from polyvec.analyze.paired import Paired, pair_scores, unit_rows
from polyvec.images import open_image
from polyvec.paths import printable
from polyvec.types import ImageInput

__all__ = [
    "Map",
    "MapPoint",
    "bare_points",
    "check_pyarrow",
    "map_points",
    "project",
    "thumbnail",
    "write_parquet",
]

_BLOCK_ROWS = 4096
_ROWS_PER_GROUP = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """Places of images and of texts on the two first principal components of both together, and along the gap.

    Attributes:
        images, texts: x and y; 0 is the mean of all.
        images_delta, texts_delta: coordinate along mean(images) − mean(texts); 0 is half-way between the means. All
            are 0 if the means are equal.
        explained: share of the variance along x and along y.
    """

    images: Float32[np.ndarray, "images 2"]
    texts: Float32[np.ndarray, "texts 2"]
    images_delta: Float32[np.ndarray, " images"]
    texts_delta: Float32[np.ndarray, " texts"]
    explained: tuple[float, float]


def project(
    images: Real[np.ndarray, "images dim"], texts: Real[np.ndarray, "texts dim"], image: Moments, text: Moments
) -> Map:
    """Project unit rows by principal component analysis of both sets together, from their moments.

    The sign of an axis is chosen so that its component of largest size is positive: equal vectors give equal maps.
    """
    joint = image + text
    values, vectors = np.linalg.eigh(joint.covariance)
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])])
    gap = image.mean - text.mean
    length = np.linalg.norm(gap)
    delta = gap / length if length > 1e-12 else np.zeros_like(gap)
    columns = np.column_stack([axes, np.zeros((len(axes), 2 - axes.shape[1])), delta])
    origin = np.append(joint.mean @ columns[:, :2], (image.mean + text.mean) @ delta / 2)
    placed = [_placed(rows, columns, origin) for rows in (images, texts)]
    shares = np.append(values[::-1].clip(0), 0)[:2] / max(values.clip(0).sum(), np.finfo(float).tiny)
    return Map(
        placed[0][:, :2], placed[1][:, :2], placed[0][:, 2], placed[1][:, 2], (float(shares[0]), float(shares[1]))
    )


def _placed(rows: np.ndarray, columns: np.ndarray, origin: np.ndarray) -> np.ndarray:
    blocks = (rows[start : start + _BLOCK_ROWS] for start in range(0, len(rows), _BLOCK_ROWS))
    return np.concatenate([unit_rows(block) @ columns - origin for block in blocks]).astype(np.float32)


@dataclass(frozen=True, slots=True)
class MapPoint:
    """One item on the map.

    Attributes:
        delta: coordinate along the gap.
        id: with escapes where the name of a file is no Unicode.
        text: the text itself, or the first text of an image.
        score: highest score with an item that belongs to it.
        image: a JPEG of at most 96 × 96 pixels of the image itself, or of the first image of a text.
    """

    x: float
    y: float
    delta: float
    kind: Literal["image", "text"]
    id: str
    text: str
    score: float
    image: bytes


def map_points(space: Map, paired: Paired, captioned: Captioned) -> Iterator[MapPoint]:
    """Yield each image and then each text as a point. Pictures are opened one at a time."""
    pictures = list(captioned.images.values())
    for point, image in bare_points(space, paired, captioned):
        yield replace(point, image=thumbnail(pictures[image]))


def bare_points(space: Map, paired: Paired, captioned: Captioned) -> Iterator[tuple[MapPoint, int]]:
    """Yield the points without pictures, each with the position of the image whose picture it has in `map_points`."""
    scores = pair_scores(paired.texts, paired.images, paired.pairs[:, 1], paired.pairs[:, 0])
    texts = list(captioned.texts.values())
    sides = (
        ("image", captioned.images, space.images, space.images_delta),
        ("text", captioned.texts, space.texts, space.texts_delta),
    )
    for side, (kind, names, places, deltas) in enumerate(sides):
        best = np.full(len(names), -np.inf)
        np.maximum.at(best, paired.pairs[:, side], scores)
        first = np.zeros(len(names), np.int64)  # position of the first pair
        first[paired.pairs[::-1, side]] = np.arange(len(scores))[::-1]
        for row, name in enumerate(names):
            image, text = paired.pairs[first[row]]
            point = MapPoint(
                float(places[row, 0]),
                float(places[row, 1]),
                float(deltas[row]),
                kind,  # type: ignore[arg-type]  # a literal in `sides`
                printable(name),
                texts[text if kind == "image" else row],
                float(best[row]),
                b"",
            )
            yield point, row if kind == "image" else int(image)


def thumbnail(image: ImageInput, *, size: int = 96) -> bytes:
    """Return a JPEG of the image, at most `size` pixels wide and high."""
    picture = open_image(image)
    picture.thumbnail((size, size))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return file.getvalue()


def check_pyarrow() -> None:
    """Refuse to go on without pyarrow.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import pyarrow as _  # noqa: F401 — only whether it is there
    except ImportError as error:
        raise ImportError("a Parquet file needs pyarrow: pip install 'polyvec[evaluate]'") from error


def write_parquet(path: Path, points: Iterator[MapPoint]) -> None:
    """Write points to a Parquet file, a thousand at a time.

    `embedding-atlas FILE --x x --y y --text text --image image` opens it. Its columns are
    the fields of `MapPoint`; pictures are in the layout of Hugging Face datasets.

    Raises:
        ImportError: as `check_pyarrow`.
    """
    check_pyarrow()
    import pyarrow as pa
    from pyarrow import parquet

    numbers = [(name, pa.float32()) for name in ("x", "y", "delta")]
    words = [(name, pa.string()) for name in ("kind", "id", "text")]
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([*numbers, *words, ("score", pa.float32()), ("image", picture)])
    with parquet.ParquetWriter(path, schema) as writer:
        while group := list(itertools.islice(points, _ROWS_PER_GROUP)):
            rows: list[dict[str, Any]] = [asdict(point) for point in group]
            for row in rows:
                row["image"] = {"bytes": row["image"], "path": None}
            writer.write_table(pa.Table.from_pylist(rows, schema))
