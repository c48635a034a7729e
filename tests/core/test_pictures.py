import base64
import hashlib
from pathlib import Path

import pytest
from PIL import Image

from polyvec.images import open_image
from polyvec.pictures import NOT_KEPT, Picture, absolute, encoded, opened, page_of, page_uri, thumbnail


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
