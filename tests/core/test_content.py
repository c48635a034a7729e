import io

import numpy as np
import pytest
from PIL import Image

from polyvec.content import equality_keys


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


def groups(items):
    """Which items are equal, by the first of each."""
    keys = equality_keys(items)
    return [keys.index(key) for key in keys]


def test_equal_content_has_equal_keys(noise, tmp_path):
    for name in ("a.png", "b.png"):
        Image.fromarray(noise).save(tmp_path / name)
    file = (tmp_path / "a.png").read_bytes()
    items = ["a", "b", "a", tmp_path / "a.png", tmp_path / "b.png", file, bytes(bytearray(file))]
    assert groups(items) == [0, 1, 0, 3, 3, 3, 3]
    assert groups([noise, noise.copy(), Image.fromarray(noise), Image.fromarray(noise)]) == [0, 0, 2, 2]


def test_a_single_changed_pixel_makes_another_key(noise):
    other = noise.copy()
    other[17, 23, 1] ^= 1
    assert groups([noise, other, noise]) == [0, 1, 0]
    assert groups([Image.fromarray(noise), Image.fromarray(other), Image.fromarray(noise)]) == [0, 1, 0]
    assert groups([noise, noise.astype(np.uint16), noise.transpose(1, 0, 2)]) == [0, 1, 2]
    assert groups([noise.tobytes(), other.tobytes()]) == [0, 1]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])  # Pillow's images of WebP files have no tiles
def test_an_image_that_is_not_loaded_equals_itself_and_stays_so(noise, kind, monkeypatch):
    file = io.BytesIO()
    Image.fromarray(noise).save(file, kind)
    one, other = Image.open(file), Image.open(io.BytesIO(file.getvalue()))
    monkeypatch.setattr(type(one), "load", lambda _: pytest.fail("it was decoded"))
    assert groups([one, other, one]) == [0, 1, 0]


def test_unreadable_items_equal_only_themselves(tmp_path):
    closed = [Image.new("L", (2, 2)), Image.new("L", (2, 2))]
    for image in closed:
        image.close()
    missing = tmp_path / "none.png"
    odd = [np.zeros(()), np.zeros(3), np.array(["a"])]
    assert groups([*closed, missing, tmp_path, missing, "\ud83d", *odd]) == [0, 1, 2, 3, 2, 5, 6, 7, 8]


def test_files_of_different_sizes_are_not_read(tmp_path, monkeypatch):
    for number in range(3):
        (tmp_path / str(number)).write_bytes(b"x" * number)
    monkeypatch.setattr("polyvec.content.content_key", None)
    assert groups([tmp_path / str(number) for number in range(3)]) == [0, 1, 2]
