import base64
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyvec.images import open_image
from polyvec.pictures import (
    DPI,
    MAX_BYTES,
    MAX_PIXELS,
    NOT_KEPT,
    Picture,
    absolute,
    encoded,
    opened,
    page_of,
    page_uri,
    thumbnail,
)


def test_a_page_is_named_by_its_file_and_number(report, pictures):
    uri = page_uri(report.as_posix(), 2)
    assert uri == f"{report}#page=2"
    assert page_of(uri) == (str(report), 2)
    assert page_of(page_uri(str(report), 12, 72)) == (str(report), 12)
    assert page_of(str(report)) == (str(report), None)
    odd = report.with_name("a.pdf#page=1")  # a file of that very name
    odd.write_bytes(pictures[0].read_bytes())
    assert page_of(str(odd)) == (str(odd), None)
    assert opened(str(odd)) == odd


def test_a_page_is_drawn_again_at_its_resolution(report, monkeypatch):
    width = opened(f"{report}#page=1").width
    assert opened(f"{report}#page=1&dpi=75").width == pytest.approx(width / 2, abs=1)
    monkeypatch.chdir(report.parent)
    assert absolute("report.pdf#page=1&dpi=75") == f"{report}#page=1&dpi=75"
    with pytest.raises(ValueError, match="has no page 3 that can be read"):
        opened(f"{report}#page=3")
    with pytest.raises(ValueError, match="is a PDF: name a page"):
        opened(str(report))


def test_a_thumbnail_stands_in_for_a_picture_that_is_lost_or_has_changed(pictures):
    sha256 = hashlib.sha256(pictures[0].read_bytes()).hexdigest()
    picture = Picture(uri=str(pictures[0]), thumbnail=thumbnail(pictures[1]), sha256=sha256)
    wanted = open_image(opened(picture.thumbnail)).tobytes()
    assert picture.read(open_image).tobytes() == open_image(pictures[0]).tobytes()
    pictures[0].write_bytes(pictures[2].read_bytes())
    assert picture.read(open_image).tobytes() == wanted
    with pytest.warns(UserWarning, match="has changed since it was stored"):
        Picture(uri=picture.uri, sha256=sha256).read(open_image)
    pictures[0].unlink()
    assert picture.read(open_image).tobytes() == wanted
    assert picture.open() == pictures[0]  # never the thumbnail
    with pytest.raises(ValueError, match=NOT_KEPT):
        Picture(thumbnail=picture.thumbnail).open()


def test_data_are_read_and_urls_are_not(pictures):
    content = pictures[0].read_bytes()
    assert opened(f"data:image/png;base64,{base64.b64encode(content).decode()}") == content
    with pytest.raises(ValueError, match="is not fetched"):
        Picture(uri="https://example.org/a.png").open()
    with pytest.raises(ValueError, match="an image is not valid base64"):
        opened("data:image/png;base64,a")


def test_chat_models_get_formats_that_they_know(pictures, tmp_path):
    assert encoded(pictures[0]) == (base64.b64encode(pictures[0].read_bytes()).decode(), "image/png")
    Image.open(pictures[0]).save(tmp_path / "a.bmp")
    assert encoded(Path(tmp_path / "a.bmp"))[1] == "image/png"


def decoded_size(data):
    return Image.open(io.BytesIO(base64.b64decode(data))).size


def noise(width, height):
    """An image that hardly compresses."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_a_picture_above_the_pixels_is_shrunk_and_keeps_its_aspect_and_format(tmp_path):
    Image.new("RGB", (400, 100), "red").save(tmp_path / "a.png")
    Image.new("RGB", (400, 100), "red").save(tmp_path / "a.jpg")
    for name, kind in (("a.png", "image/png"), ("a.jpg", "image/jpeg")):
        data, mime = encoded(tmp_path / name, max_pixels=10_000)
        assert (decoded_size(data), mime) == ((200, 50), kind)
        same, _ = encoded(tmp_path / name, max_pixels=40_000)
        assert base64.b64decode(same) == (tmp_path / name).read_bytes()
    halves = Image.new("RGB", (400, 100), "red")
    halves.paste("blue", (200, 0, 400, 100))
    with Image.open(io.BytesIO(base64.b64decode(encoded(halves, max_pixels=10_000)[0]))) as image:
        assert image.size == (200, 50)
        assert [image.getpixel((x, 25)) for x in (50, 150)] == [(255, 0, 0), (0, 0, 255)]
    assert decoded_size(encoded(Image.new("L", (2000, 10)), max_pixels=1000)[0]) == (447, 2)


def test_a_picture_above_the_bytes_becomes_a_jpeg_and_then_smaller(tmp_path):
    noise(300, 200).save(tmp_path / "a.png")
    size = (tmp_path / "a.png").stat().st_size
    assert encoded(tmp_path / "a.png", max_bytes=size)[1] == "image/png"
    data, kind = encoded(tmp_path / "a.png", max_bytes=size - 1)
    assert (decoded_size(data), kind) == ((300, 200), "image/jpeg")
    for max_bytes, least in ((20_000, 16_000), (1000, 600)):
        data, kind = encoded(tmp_path / "a.png", max_bytes=max_bytes)
        width, height = decoded_size(data)
        assert kind == "image/jpeg"
        assert least < len(base64.b64decode(data)) <= max_bytes
        assert width / height == pytest.approx(1.5, rel=0.2)


def test_pictures_are_bounded_by_default_and_only_then():
    large = noise(2400, 1600)
    data, kind = encoded(large)
    assert kind == "image/jpeg"
    assert decoded_size(data)[0] * decoded_size(data)[1] <= MAX_PIXELS
    assert len(base64.b64encode(bytes(MAX_BYTES))) <= 5_000_000  # the smallest limit of the large providers
    data, kind = encoded(large, max_pixels=None, max_bytes=None)
    assert (decoded_size(data), kind) == ((2400, 1600), "image/png")
    assert all(round(width * DPI) * round(height * DPI) <= MAX_PIXELS for width, height in ((8.27, 11.69), (8.5, 11)))


@pytest.mark.parametrize("name", ["max_pixels", "max_bytes"])
def test_impossible_limits_are_refused(pictures, name):
    for value in (0, -1, 999):
        with pytest.raises(ValueError, match=rf"`{name}` is {value}; it must be at least 1000"):
            encoded(pictures[0], **{name: value})
    for value in (True, 2e6, "2000"):
        with pytest.raises(TypeError, match=rf"`{name}` is {value!r}; it must be a whole number"):
            encoded(pictures[0], **{name: value})
    with pytest.raises(TypeError, match=r"no limit 'max_pixel'; it may be max_pixels, max_bytes"):
        encoded(pictures[0], max_pixel=2000)
