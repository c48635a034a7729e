import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from polyvec import images
from polyvec.images import describe, image_size, open_image, smart_resize

RED, GREEN = (255, 0, 0), (0, 255, 0)


def file_of(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def picture(width=6, height=4, mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def png_that_claims(width, height):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")


def pixels(image):
    return np.asarray(open_image(image))


def test_path_bytes_and_pil_image_are_the_same_picture(tmp_path):
    image = picture()
    path = tmp_path / "a.png"
    path.write_bytes(file_of(image))
    for given_as in (path, path.read_bytes(), image):
        np.testing.assert_array_equal(pixels(given_as), np.asarray(image))
        assert image_size(given_as) == (6, 4)


def test_a_pil_image_is_not_changed():
    image = picture(mode="RGBA")
    image.getexif()[0x0112] = 6
    before = image.tobytes()
    assert open_image(image).size == (4, 6)
    assert (image.size, image.mode, image.tobytes(), image.getexif()[0x0112]) == ((6, 4), "RGBA", before, 6)


# Where the red corner of a 3×2 picture ends up, (row, column) in the upright one; EXIF 2.32, tag 0x0112.
@pytest.mark.parametrize(
    ("orientation", "size", "corner"),
    [
        (1, (3, 2), (0, 0)),
        (2, (3, 2), (0, 2)),
        (3, (3, 2), (1, 2)),
        (4, (3, 2), (1, 0)),
        (5, (2, 3), (0, 0)),
        (6, (2, 3), (0, 1)),
        (7, (2, 3), (2, 1)),
        (8, (2, 3), (2, 0)),
    ],
)
def test_exif_orientation_is_applied(orientation, size, corner):
    image = Image.new("RGB", (3, 2), GREEN)
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = file_of(image, exif=exif)
    assert open_image(turned).size == image_size(turned) == size
    assert [tuple(place) for place in np.argwhere(pixels(turned)[..., 0] == 255)] == [corner]


def test_an_orientation_that_does_not_exist_changes_nothing():
    exif = Image.Exif()
    exif[0x0112] = 9
    odd = file_of(picture(), exif=exif)
    assert open_image(odd).size == (6, 4)
    assert image_size(odd) == (6, 4)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"])
def test_every_mode_becomes_rgb_as_pillow_converts_it(mode):
    image = picture(mode="RGB").convert(mode) if mode != "LAB" else Image.new("LAB", (6, 4), (100, 20, 30))
    opened = open_image(image)
    assert opened.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(image.convert("RGB")))


def test_alpha_is_dropped_not_blended():
    image = Image.new("RGBA", (2, 2), (200, 100, 50, 0))
    np.testing.assert_array_equal(pixels(file_of(image))[0, 0], [200, 100, 50])


def test_a_palette_is_looked_up():
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    np.testing.assert_array_equal(pixels(file_of(image)), [[RED, GREEN]])


def test_a_cmyk_jpeg_is_read():
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # magenta and yellow make red
    np.testing.assert_allclose(pixels(file_of(image, "JPEG", quality=95))[4, 4], RED, atol=12)


def test_of_an_animation_the_first_frame_counts():
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN)]
    animation = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(pixels(animation)[0, 0], RED)


def test_sixteen_bit_grey_keeps_its_shades():
    image = Image.fromarray(np.array([[0, 0x4000, 0x8000, 0xFFFF]], np.uint16))
    np.testing.assert_allclose(pixels(file_of(image))[0, :, 0], [0, 64, 128, 255], atol=1)


def test_one_pixel_is_an_image():
    dot = Image.new("RGB", (1, 1), RED)
    assert open_image(dot).size == image_size(dot) == (1, 1)


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (b"", "image of 0 bytes cannot be read as an image"),
        (b"no image at all", "image of 15 bytes cannot be read"),
        (file_of(picture())[:20], "cannot be read"),
        (png_that_claims(40_000, 40_000), "image of 68 bytes is too large"),
        (png_that_claims(14_000, 14_500), "too large|pixels; at most"),  # 203 million
        (Image.new("RGB", (2010, 10)), "2010×10; no side may be 200 times the other"),
        (Image.new("L", (1, 201)), "1×201"),
        (Image.new("RGB", (0, 5)), "has no pixels"),
        (Path("/no/such/file.png"), "image file '/no/such/file.png' does not exist"),
    ],
)
def test_what_is_no_image_is_refused_by_its_header(broken, complaint):
    for read in (image_size, open_image):
        with pytest.raises(ValueError, match=complaint):
            read(broken)


def test_a_directory_is_refused(tmp_path):
    for read in (image_size, open_image):
        with pytest.raises(ValueError, match="cannot be read as an image"):
            read(tmp_path)


def test_the_largest_aspect_ratio_is_allowed():
    assert image_size(Image.new("L", (200, 1))) == (200, 1)


def test_a_pil_image_above_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr(images, "MAX_IMAGE_PIXELS", 24)
    assert image_size(picture(6, 4)) == (6, 4)
    with pytest.raises(ValueError, match=r"7×4 pixels; at most 24 are decoded"):
        open_image(picture(7, 4))


def test_a_file_up_to_the_limit_is_not_refused():
    assert image_size(png_that_claims(13_000, 13_600)) == (13_000, 13_600)  # 176.8 million


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP"])
def test_a_truncated_file_is_refused(kind):
    whole = file_of(picture(64, 64), kind)
    with pytest.raises(ValueError, match="cannot be"):
        open_image(whole[: len(whole) // 2])


def damaged_png():
    """A header in order, and pixels that cannot be decompressed."""
    content = bytearray(file_of(picture(64, 64)))
    start = content.index(b"IDAT") + 4
    content[start + 2 : start + 40] = bytes(38)
    return bytes(content)


def test_damaged_pixels_are_refused():
    with pytest.raises(ValueError, match="cannot be decoded"):
        open_image(damaged_png())


def test_a_size_is_read_from_the_header_alone():
    assert image_size(damaged_png()) == (64, 64)


@pytest.mark.parametrize("error", [NotImplementedError, RuntimeError])  # damaged DDS and AVIF files do this
def test_whatever_a_decoder_raises_becomes_a_value_error(monkeypatch, error):
    def fails(*_):
        raise error("damaged")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fails)
    with pytest.raises(ValueError, match="damaged"):
        open_image(file_of(picture()))


def test_an_error_names_the_image():
    assert describe(Path("a/b.png")) == "image file 'a/b.png'"
    assert describe(b"abc") == "image of 3 bytes"
    assert describe(Image.new("L", (3, 2))) == "PIL image of mode L and size 3×2"


# height × width → height × width at the released checkpoint's limit and at the benchmarks' (section 5 of the spec).
@pytest.mark.parametrize(
    ("size", "released", "benchmark"),
    [
        ((10, 10), (56, 56), (56, 56)),
        ((1, 150), (28, 700), (28, 700)),
        ((2000, 2000), (756, 756), (1988, 1988)),
        ((2200, 1700), (868, 672), (2212, 1708)),
        ((3508, 2480), (896, 644), (3500, 2492)),
        ((70, 56), (56, 56), (56, 56)),  # half to even
        ((98, 56), (112, 56), (112, 56)),
    ],
)
def test_smart_resize_of_the_specification(size, released, benchmark):
    for limit, (height, width) in ((602_112, released), (37_788_800, benchmark)):
        found = smart_resize(size[1], size[0], factor=28, min_pixels=3136, max_pixels=limit)
        assert found == (width, height)


@given(width=st.integers(1, 5000), height=st.integers(1, 5000), limit=st.sampled_from([200_704, 602_112, 37_788_800]))
def test_resized_sides_are_multiples_within_the_limits(width, height, limit):
    if max(width, height) > 200 * min(width, height):
        return
    new_width, new_height = smart_resize(width, height, factor=28, min_pixels=3136, max_pixels=limit)
    assert new_width % 28 == new_height % 28 == 0
    assert 3136 <= new_width * new_height <= limit
