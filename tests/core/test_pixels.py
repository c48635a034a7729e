import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from polyvec.images import open_image


def file_of(array, kind="TIFF", **options):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def greys(image):
    found = np.asarray(open_image(image))
    assert (found == found[..., :1]).all()
    return found[..., 0].tolist()


def png(array, colours):
    """A PNG of sixteen bits per channel, which Pillow does not write."""
    height, width, _ = array.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colours, 0, 0, 0)), (b"IDAT", zlib.compress(rows))]
    chunks = (
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in [*parts, (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
@pytest.mark.parametrize(
    ("highest", "bits"),
    [
        (1, 8),
        (255, 8),
        (256, 10),
        (1023, 10),
        (1024, 12),
        (4095, 12),
        (4096, 14),
        (16_383, 14),
        (16_384, 16),
        (65_535, 16),
    ],
)
def test_sixteen_bits_that_use_fewer_keep_the_upper_eight_of_those(kind, highest, bits):
    file = file_of(np.array([[0, highest // 2, highest]], np.uint16), kind)
    assert greys(file) == [[0, highest // 2 >> (bits - 8), highest >> (bits - 8)]]


def test_a_pil_image_of_sixteen_bits_is_read_as_a_file():
    assert greys(Image.fromarray(np.array([[0, 2048, 4095]], np.uint16))) == [[0, 128, 255]]


def test_black_is_black_in_a_file_and_in_an_array():
    black = np.zeros((2, 2), np.uint16)
    assert greys(file_of(black)) == greys(black) == [[0, 0], [0, 0]]


@pytest.mark.parametrize(("declared", "expected"), [(4095, 16), (65_535, 1), (100, 64)])
def test_a_tiff_may_declare_a_larger_shade_than_it_has(declared, expected):
    dark = file_of(np.array([[0, 256]], np.uint16), tiffinfo={281: declared})  # it has more than 100
    assert greys(dark) == [[0, expected]]


def test_a_tiff_may_have_twelve_bits_per_shade():
    wide = np.array([[0x010, 0x020]], np.uint16)
    file = file_of(wide).replace(struct.pack("<HHII", 258, 3, 1, 16), struct.pack("<HHII", 258, 3, 1, 12))
    packed = bytes([0x01, 0x00, 0x20])  # 0x010 and 0x020
    assert greys(file.replace(wide.astype("<u2").tobytes(), packed + b"\0")) == [[1, 2]]


@pytest.mark.parametrize("kind", ["PPM", "JPEG2000"])
def test_formats_whose_shades_pillow_scales_are_read_as_they_are(kind):
    assert greys(file_of(np.array([[0, 4095]], np.uint16), kind)) == [[0, 15]]


def test_a_tiff_may_run_from_white_to_black():
    file = file_of(np.array([[0, 1000, 4095]], np.uint16))
    turned = file.replace(struct.pack("<HHII", 262, 3, 1, 1), struct.pack("<HHII", 262, 3, 1, 0))
    assert turned != file
    assert greys(turned) == [[255, (4095 - 1000) >> 4, 0]]


@pytest.mark.parametrize("shape", [(1, 2), (1, 2, 1), (1, 2, 3)])
def test_an_array_of_sixteen_bits_that_uses_eight_is_refused(shape):
    eight = np.broadcast_to(np.array([7, 255], np.uint16).reshape(1, 2, *[1] * (len(shape) - 2)), shape)
    with pytest.raises(
        ValueError, match=r"has no number above 255, and white is 65535: .*`array.astype\(numpy.uint8\)`"
    ):
        open_image(eight)
    assert np.asarray(open_image(eight + np.uint16(1))).max() == 1  # 256 of 65535


@pytest.mark.parametrize("n_channels", [3, 4])
def test_a_coloured_file_of_sixteen_bits_that_uses_twelve_is_refused(n_channels):
    colours = {3: 2, 4: 6}[n_channels]
    bright = np.full((1, 2, n_channels), 4096, np.uint16)
    assert open_image(png(bright, colours)).mode == "RGB"
    with pytest.raises(ValueError, match=r"sixteen bits per channel and uses twelve or fewer, .*; scale its numbers"):
        open_image(png(bright - 1, colours))


def test_black_on_nothing_is_an_image_of_sixteen_bits():
    layer = np.array([[[0, 0, 0, 65_535], [0, 0, 0, 0]]], np.uint16)
    assert greys(png(layer, 6)) == [[0, 255]]


def test_a_closed_image_is_told_as_closed(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        pass
    with pytest.raises(ValueError, match=r"^PIL image of mode RGB and size 2×2 is closed; encode it while it is open"):
        open_image(image)
    with Image.open(tmp_path / "a.png") as image:
        image.load()
    assert open_image(image).size == (2, 2)
    image.close()
    with pytest.raises(ValueError, match="cannot be decoded: Operation on closed image"):
        open_image(image)


def test_part_of_an_image_of_sixteen_bits_is_told_how_to_be_given():
    with Image.open(io.BytesIO(file_of(np.array([[0, 65_535]], np.uint16), "PPM"))) as whole:
        part = whole.crop((0, 0, 2, 1))
    with pytest.raises(ValueError, match=r"give `numpy.asarray\(image\).astype\(numpy.uint16\)`"):
        open_image(part)
    assert greys(np.asarray(part).astype(np.uint16)) == [[0, 255]]


def test_sixteen_bits_may_stand_in_either_byte_order():
    for order in "<>":
        assert greys(np.array([[0, 0x40FF, 0xFF00]], f"{order}u2")) == [[0, 0x40, 0xFF]]
        with pytest.raises(ValueError, match="no number above 200"):
            open_image(np.array([[0, 200]], f"{order}u2"))


def test_an_opaque_layer_of_sixteen_bits_may_not_have_colours_of_eight():
    with pytest.raises(ValueError, match="no number above 200"):
        open_image(np.array([[[0, 100, 200, 65_535]]], np.uint16))
