import numpy as np
import pytest
from PIL import Image

from polyvec import Grid
from polyvec.compression import binary, int8
from polyvec.explain import overlay, similarity_map
from polyvec.vectors import unit

PATCHES = np.array([[9, 9], [1, 0], [0, 1], [1, 1], [0, 0], [-1, 0], [0, 2], [9, 9]], np.float32)  # 2×3 from token 1
GRID = Grid(rows=2, columns=3, start=1)


def test_a_map_holds_the_similarity_of_a_token_with_each_patch_in_reading_order():
    maps = similarity_map(np.array([[1, 0], [0, 1]], np.float32), PATCHES, GRID)
    np.testing.assert_array_equal(maps, [[[1, 0, 1], [0, -1, 0]], [[0, 1, 1], [0, 0, 2]]])


def test_a_grid_that_does_not_fit_is_refused():
    for grid in (Grid(rows=3, columns=3, start=1), Grid(rows=2, columns=3, start=-1)):
        with pytest.raises(ValueError, match=f"{grid.rows}×3 patches from token {grid.start}"):
            similarity_map(PATCHES, PATCHES, grid)


def test_the_most_similar_region_is_the_reddest():
    maps = np.array([[[0, 0], [0, 1]]], np.float32)
    sheet = np.asarray(overlay(Image.new("RGB", (300, 300), "white"), maps, ["word"]), np.int32)
    page = sheet[10 + 22 : 10 + 22 + 300, 310 + 10 : 310 + 310]  # the second panel
    green = page[:, :, 1]
    assert green[:70, :70].min() == 255, "a region that does not match stays as it is"
    assert green[200:, 200:].mean() < 160


def test_equal_similarities_tint_nothing():
    sheet = overlay(Image.new("RGB", (300, 300), "white"), np.ones((1, 2, 2), np.float32), ["word"])
    assert np.asarray(sheet)[40:300, 20:300].min() == 255


def test_each_map_needs_its_token():
    with pytest.raises(ValueError, match="2 tokens and 1 maps"):
        overlay(Image.new("RGB", (28, 28)), np.zeros((1, 2, 2), np.float32), ["a", "b"])


def test_a_map_of_stored_codes_is_that_of_the_vectors_they_stand_for():
    document = np.eye(8, dtype=np.float32)[:6] * 2 - 0.25
    query = np.eye(8, dtype=np.float32)[:1]
    maps = similarity_map(query, unit(int8(document)), Grid(2, 3, 0))
    np.testing.assert_allclose(similarity_map(query, int8(document), Grid(2, 3, 0)), maps, rtol=1e-6)
    bits = similarity_map(query, binary(document), Grid(2, 3, 0))
    np.testing.assert_allclose(bits.ravel() * np.sqrt(8), [1, -1, -1, -1, -1, -1], rtol=1e-6)


def test_multivectors_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="query's vectors have 3 numbers, and the document's 2"):
        similarity_map(np.ones((1, 3), np.float32), PATCHES, GRID)
