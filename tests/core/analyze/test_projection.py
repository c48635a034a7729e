import io

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from polyvec.analyze import projection as module
from polyvec.analyze.captions import read_captions
from polyvec.analyze.encoding import encode_captions
from polyvec.analyze.moments import half_moments
from polyvec.analyze.paired import item_vectors
from polyvec.analyze.projection import map_points, project, thumbnail, write_parquet
from polyvec.testing import HashEncoder


def of(images, texts):
    images, texts = np.asarray(images, float), np.asarray(texts, float)
    moments = [np.add(*half_moments(side, seed=0)) for side in (images, texts)]
    return project(images, texts, *moments)


def test_the_axes_of_a_small_set(monkeypatch):
    """Images at (1, 0, 0) and texts at (0, 1, 0): all variance lies between them, √2 apart."""
    monkeypatch.setattr(module, "_BLOCK_ROWS", 1)
    space = of([[2, 0, 0], [1, 0, 0]], [[0, 3, 0], [0, 1, 0]])
    assert space.explained == pytest.approx((1, 0))
    assert np.abs(space.images[:, 0]) == pytest.approx([np.sqrt(0.5)] * 2)
    assert space.texts[:, 0] == pytest.approx(-space.images[:, 0])
    assert space.images_delta == pytest.approx([np.sqrt(0.5)] * 2)
    assert space.texts_delta == pytest.approx([-np.sqrt(0.5)] * 2)


def test_equal_vectors_give_equal_maps_and_no_gap():
    rows = np.random.default_rng(0).standard_normal((20, 5))
    space, again = of(rows, rows), of(rows, rows)
    assert np.array_equal(space.images, again.images)
    assert not space.images_delta.any()
    variances = space.images.var(axis=0)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert variances == pytest.approx(np.linalg.eigvalsh(np.cov(units.T, bias=True))[::-1][:2], rel=1e-5)


def test_one_dimension_has_no_second_axis():
    assert not of([[1], [-1]], [[2], [1]]).images[:, 1].any()


@pytest.fixture
def points(captions_file):
    encoded = encode_captions(HashEncoder(), read_captions(captions_file), task="retrieval")
    images, texts = item_vectors(encoded.dense.images), item_vectors(encoded.dense.texts)
    return list(map_points(of(images, texts), encoded.dense, encoded.captioned))


def test_points_have_texts_pictures_and_scores(points):
    assert [point.kind for point in points] == ["image"] * 5 + ["text"] * 9
    green, text = points[1], points[8]
    assert (green.id, green.text) == ("green.png", "something green")
    assert (text.id, text.text) == ("text 3", "green")
    assert text.image == green.image != points[0].image
    assert green.score >= text.score
    with Image.open(io.BytesIO(green.image)) as picture:
        assert picture.format == "JPEG"
        assert picture.getpixel((5, 5)) == pytest.approx((0, 128, 0), abs=3)


def test_the_parquet_file_has_a_column_per_field(points, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_ROWS_PER_GROUP", 4)
    write_parquet(tmp_path / "map.parquet", iter(points))
    table = parquet.read_table(tmp_path / "map.parquet")
    assert table.column_names == ["x", "y", "delta", "kind", "id", "text", "score", "image"]
    rows = table.to_pylist()
    assert [row["text"] for row in rows] == [point.text for point in points]
    assert rows[8]["image"] == {"bytes": points[8].image, "path": None}
    assert rows[8]["x"] == pytest.approx(points[8].x)
    assert parquet.ParquetFile(tmp_path / "map.parquet").num_row_groups == 4


def test_a_thumbnail_is_small(pictures):
    with Image.open(io.BytesIO(thumbnail(pictures[0], size=30))) as picture:
        assert picture.size == (30, 20)


def test_a_name_that_is_no_unicode_is_escaped(captions_file):
    captioned = read_captions(captions_file)
    captioned.images["\udcff.png"] = captioned.images.pop("black.png")
    encoded = encode_captions(HashEncoder(), captioned, task="retrieval")
    space = of(encoded.dense.images, encoded.dense.texts)
    assert [point.id for point in map_points(space, encoded.dense, captioned)][4] == "\\udcff.png"
