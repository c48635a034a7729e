import errno
import io
import os
import signal
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from polyvec import decoding, images
from polyvec.images import describe, image_size, open_image, smart_resize
from polyvec.types import UnreadablePages

RED, GREEN = (255, 0, 0), (0, 255, 0)


def file_of(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def picture(width=6, height=4, mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, rows, bits=8, before=b"", after=b"", colours=2):
    """An RGB file (or grey, if `colours` is 0) with chunks before and after its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", zlib.compress(rows)) + after + chunk(b"IEND", b"")


def png_that_claims(width, height):
    return png(width, height, b"\0" * 9)


def tiff_that_claims(width, height):
    file = file_of(picture(6, 4), "TIFF")
    for tag, honest, claimed in ((256, 6, width), (257, 4, height)):
        file = file.replace(struct.pack("<HHII", tag, 4, 1, honest), struct.pack("<HHII", tag, 4, 1, claimed))
    return file


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
    image.info["comment"] = "mine"
    image.getexif()[0x0112] = 6
    before = image.tobytes()
    assert open_image(image).size == (4, 6)
    assert (image.size, image.mode, image.tobytes(), image.getexif()[0x0112]) == ((6, 4), "RGBA", before, 6)
    assert image.info == {"comment": "mine"}
    unread = Image.open(io.BytesIO(file_of(image)))
    place = unread.fp.tell()
    assert image_size(unread) == (6, 4)
    assert (unread.fp.tell(), bool(unread.tile)) == (place, True)  # nor decoded


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def xmp_of(orientation):
    return f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()


def turned_png(orientation, *, kind, late):
    """With the metadata behind the pixels, as some programs write them, or before."""
    metadata = {
        "exif": chunk(b"eXIf", exif_of(orientation).tobytes()[6:]),
        "xmp": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp_of(orientation)),
        "profile": chunk(  # as ImageMagick writes it
            b"zTXt",
            b"Raw profile type exif\0\0"
            + zlib.compress(f"\nexif\n{0:8}\n{exif_of(orientation).tobytes().hex()}\n".encode()),
        ),
    }[kind]
    date = chunk(b"tEXt", b"date:create\x002024")
    rows = np.full((GRADED.height, 1 + 3 * GRADED.width), 0, np.uint8)
    rows[:, 1:] = np.asarray(GRADED).reshape(GRADED.height, -1)
    place = {"after": date + metadata} if late else {"before": date + metadata, "after": date}
    return png(*GRADED.size, rows.tobytes(), **place)


# Red grows to the right and green downwards; smooth and large, as JPEG and WEBP lose what is not.
GRADED = Image.fromarray(
    np.stack([*np.meshgrid(np.linspace(0, 250, 48), np.linspace(0, 250, 32)), np.zeros((32, 48))], -1).astype(np.uint8)
)
TURNED = {
    "JPEG": lambda n: file_of(GRADED, "JPEG", exif=exif_of(n), quality=95),
    "JPEG, XMP": lambda n: file_of(GRADED, "JPEG", xmp=xmp_of(n), quality=95),
    "WEBP": lambda n: file_of(GRADED, "WEBP", exif=exif_of(n), quality=95),
    "WEBP, XMP": lambda n: file_of(GRADED, "WEBP", xmp=xmp_of(n), quality=95),
    "TIFF": lambda n: file_of(GRADED, "TIFF", exif=exif_of(n)),
    "TIFF, compressed": lambda n: file_of(GRADED, "TIFF", exif=exif_of(n), compression="tiff_lzw"),
    "TIFF, XMP": lambda n: file_of(GRADED, "TIFF", tiffinfo={700: xmp_of(n)}),
    "PNG": lambda n: turned_png(n, kind="exif", late=False),
    "PNG, XMP": lambda n: turned_png(n, kind="xmp", late=False),
    "PNG, profile": lambda n: turned_png(n, kind="profile", late=False),
    "PNG, late": lambda n: turned_png(n, kind="exif", late=True),
    "PNG, late XMP": lambda n: turned_png(n, kind="xmp", late=True),
    "PNG, late profile": lambda n: turned_png(n, kind="profile", late=True),
}


# Pixels of each orientation put upright, worked out from EXIF 2.32, tag 0x0112.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


# Each orientation once, and each place of metadata with an orientation that swaps width and height and is not its own
# inverse.
@pytest.mark.parametrize(
    ("kind", "orientation"), [("JPEG", orientation) for orientation in UPRIGHT] + [(kind, 6) for kind in TURNED][1:]
)
def test_every_orientation_is_applied(kind, orientation):
    file = TURNED[kind](orientation)
    expected = UPRIGHT[orientation](np.asarray(GRADED))
    height, width, _ = expected.shape
    loaded = Image.open(io.BytesIO(file))
    loaded.load()
    for given_as in (file, Image.open(io.BytesIO(file)), loaded):
        assert image_size(given_as) == (width, height)
        np.testing.assert_allclose(pixels(given_as).astype(int), expected, atol=12)
        assert image_size(given_as) == (width, height)
    again = open_image(file)
    assert image_size(again) == (width, height)
    np.testing.assert_array_equal(pixels(again), np.asarray(again))


def test_an_orientation_that_does_not_exist_changes_nothing():
    odd = file_of(picture(), exif=exif_of(9))
    assert open_image(odd).size == (6, 4)
    assert image_size(odd) == (6, 4)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_every_opaque_mode_becomes_rgb_as_pillow_converts_it(mode):
    image = picture(mode="RGB").convert(mode) if mode != "LAB" else Image.new("LAB", (6, 4), (100, 20, 30))
    opened = open_image(image)
    assert opened.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(image.convert("RGB")))


# Black on nothing, red at 40 % (102 of 255) on nothing, and red: on white, red at 40 % is 255 - 0.4 * 255 = 153.
LAYER = np.array([[[0, 0, 0, 0], [255, 0, 0, 102], [255, 0, 0, 255]]], np.uint8)
ON_WHITE = [[[255, 255, 255], [255, 153, 153], [255, 0, 0]]]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG2000", "ICO", "AVIF"])
def test_white_is_behind_what_is_transparent_in_a_file(kind):
    options = {"WEBP": {"lossless": True}, "ICO": {"sizes": [(3, 1)]}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}
    file = file_of(Image.fromarray(LAYER), kind, **options.get(kind, {}))
    np.testing.assert_allclose(pixels(file).astype(int), ON_WHITE, atol=2)
    assert (images.image_format(file), images.image_format(file, plain=True)) == (kind, "")


@pytest.mark.parametrize("mode", ["RGBA", "RGBa"])
def test_white_is_behind_what_is_transparent_in_a_pil_image(mode):
    assert pixels(Image.fromarray(LAYER).convert(mode)).tolist() == ON_WHITE


@pytest.mark.parametrize("mode", ["LA", "La", "PA"])
def test_grey_and_palettes_with_alpha_are_on_white(mode):
    black = Image.new("P" if mode == "PA" else "L", (3, 1))
    alpha = Image.fromarray(np.array([[0, 102, 255]], np.uint8))
    assert pixels(Image.merge("PA" if mode == "PA" else "LA", (black, alpha)).convert(mode)).tolist() == [
        [[255] * 3, [153] * 3, [0] * 3]
    ]


@pytest.mark.parametrize("scale", [lambda a: a * np.uint16(257), lambda a: (a / 255).astype("f4"), lambda a: a])
def test_white_is_behind_what_is_transparent_in_an_array(scale):
    assert pixels(scale(LAYER)).tolist() == ON_WHITE
    assert pixels(LAYER[:, ::2] > 0).tolist() == [[[255] * 3, [255, 0, 0]]]


# Bits and shades of four pixels (two of one bit), and the transparent shade; the expected shades have eight bits.
@pytest.mark.parametrize(
    ("bits", "row", "transparent", "shades"),
    [
        (1, b"\x40", 0, [255, 255]),
        (2, b"\x1b", 1, [0, 255, 170, 255]),
        (4, b"\x03\x6f", 6, [0, 51, 255, 255]),
        (8, b"\0\3\6\x0f", 6, [0, 3, 255, 15]),
        (16, struct.pack(">4H", 0, 0x0200, 0x0258, 0x4000), 0x0258, [0, 2, 255, 64]),
    ],
)
def test_a_transparent_shade_is_white_and_no_other_shade(bits, row, transparent, shades):
    file = png(len(shades), 1, b"\0" + row, bits, before=chunk(b"tRNS", struct.pack(">H", transparent)), colours=0)
    assert pixels(file)[0].tolist() == [[shade] * 3 for shade in shades]


@pytest.mark.parametrize(("bits", "step"), [(8, 1), (16, 256)])
def test_a_transparent_colour_is_white_and_no_other_colour(bits, step):
    red, blue = ([255 * step, 0, 0], [0, 0, 255 * step])
    row = np.array([red, blue], ">u2" if bits == 16 else "u1").tobytes()
    file = png(2, 1, b"\0" + row, bits, before=chunk(b"tRNS", struct.pack(">3H", *red)))
    assert pixels(file).tolist() == [[[255] * 3, [0, 0, 255]]]


def test_a_transparent_colour_that_the_mode_cannot_have_changes_nothing():
    image = Image.new("L", (2, 2), 7)
    image.info["transparency"] = b"left behind"
    assert pixels(image)[0, 0].tolist() == [7] * 3


@pytest.mark.parametrize(("mode", "plain"), [("1", "TIFF"), ("L", "TIFF"), ("RGB", "TIFF"), ("CMYK", ""), ("F", "")])
def test_a_format_is_told_from_the_header(mode, plain):
    file = file_of(picture().convert(mode), "TIFF")
    assert (images.image_format(file), images.image_format(file, plain=True)) == ("TIFF", plain)


def test_a_palette_is_looked_up():
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    np.testing.assert_array_equal(pixels(file_of(image)), [[RED, GREEN]])


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
@pytest.mark.parametrize("transparent", [1, b"\xff\0"])
def test_a_transparent_colour_of_a_palette_is_white(kind, transparent):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    file = file_of(image, kind, transparency=transparent if kind == "PNG" else 1)
    assert pixels(file).tolist() == [[[*RED], [255] * 3]]
    loaded = Image.open(io.BytesIO(file))
    palette = loaded.convert("P").getpalette("RGBA")
    assert pixels(loaded).tolist() == [[[*RED], [255] * 3]]
    assert loaded.getpalette("RGBA") == palette  # the caller's image is as before


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_cmyk_file_is_read(kind):
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # magenta and yellow make red
    file = file_of(image, kind, quality=95)
    assert (b"Adobe" in file) == (kind == "JPEG")  # which keeps the inks inverted
    np.testing.assert_allclose(pixels(file)[4, 4], RED, atol=12)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_brightness_and_colour_in_a_file_become_rgb(kind):
    file = file_of(Image.new("RGB", (8, 8), RED).convert("YCbCr"), kind, quality=95)
    np.testing.assert_allclose(pixels(file)[4, 4], RED, atol=12)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit_is_black_or_white(kind):
    image = Image.fromarray(np.array([[True, False, True]]))
    assert pixels(file_of(image, kind)).tolist() == [[[255] * 3, [0] * 3, [255] * 3]]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_several_frames_the_first_counts(kind):
    frames = [Image.new("RGB", (4, 6), colour) for colour in (RED, GREEN)]
    file = file_of(frames[0], kind, save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(file)).n_frames == 2
    np.testing.assert_allclose(pixels(file)[0, 0], RED, atol=12)
    assert image_size(file) == open_image(file).size == (4, 6)


def colours(pages):
    return [page.image.getpixel((9, 9)) for page in pages]


def test_the_pages_of_a_tiff_are_read_one_by_one(scan):
    red, green, blue = RED, GREEN, (0, 0, 255)
    for given_as in (scan, str(scan), scan.read_bytes()):
        pages = list(images.image_pages(given_as))
        assert colours(pages) == [red, green, blue]
        assert [(page.number, page.text) for page in pages] == [(1, ""), (2, ""), (3, "")]
    assert images.n_image_pages(scan) == images.n_image_pages(scan.read_bytes()) == 3
    assert colours(images.image_pages(scan, first=3)) == [blue]
    assert colours(images.image_pages(scan, first=4)) == []
    np.testing.assert_array_equal(pixels(scan)[9, 9], red)


def test_a_page_that_cannot_be_read_loses_no_other(torn_scan):
    pages = []
    with pytest.raises(UnreadablePages, match=r"1 of 3 pages of image file '.*scan\.tif' .* page 2: it ") as caught:
        pages.extend(images.image_pages(torn_scan))
    assert (caught.value.reasons.keys(), colours(pages)) == ({2}, [RED, (0, 0, 255)])
    assert [page.number for page in images.image_pages(torn_scan, first=3)] == [3]


def test_a_tiff_that_begins_with_a_thumbnail_is_its_first_page(tmp_path):
    page, thumbnail = Image.new("L", (60, 80), 200), Image.new("L", (6, 8))
    page.encoderinfo = {"tiffinfo": {254: 0}}
    thumbnail.save(tmp_path / "a.tif", save_all=True, append_images=[page], tiffinfo={254: 1})
    assert image_size(tmp_path / "a.tif") == open_image(tmp_path / "a.tif").size == (60, 80)
    assert images.n_image_pages(tmp_path / "a.tif") == 1
    thumbnail.save(tmp_path / "b.tif", tiffinfo={254: 1})
    assert image_size(tmp_path / "b.tif") == (6, 8)  # there is nothing better


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "MPO", "AVIF"])
def test_animations_and_stereo_pictures_are_one_page(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN)]
    file = file_of(frames[0], kind, save_all=True, append_images=frames[1:])
    assert images.n_image_pages(file) == len(list(images.image_pages(file))) == 1


def test_what_is_no_image_counts_as_one_page(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for odd in (b"", b"II*\0", b"II" + bytes(99), tmp_path, tmp_path / "pipe", tmp_path / "gone", tmp_path / "a\0b"):
        assert images.n_image_pages(odd) == 1
        with pytest.raises(ValueError, match=r"."):
            list(images.image_pages(odd))


SIXTEEN_BITS = np.array([[0, 0x40FF, 0x8000, 0xFFFF]], np.uint16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000", "PPM"])
def test_sixteen_bit_grey_keeps_its_upper_eight(kind):
    file = file_of(Image.fromarray(SIXTEEN_BITS), kind)
    assert image_size(file) == (4, 1)
    assert pixels(file)[0].tolist() == [[shade] * 3 for shade in (0, 0x40, 0x80, 0xFF)]


def test_sixteen_bit_colours_keep_their_upper_eight():
    colours = np.array([0x12FF, 0x80FF, 0xFFFF], ">u2")
    assert pixels(png(1, 1, b"\0" + colours.tobytes(), bits=16)).tolist() == [[[0x12, 0x80, 0xFF]]]
    bits, place = struct.pack("<3H", 16, 16, 16), 8 + 2 + 8 * 12 + 4
    entries = [(256, 4, 1, 1), (257, 4, 1, 1), (258, 3, 3, place), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 1, place + 6), (277, 3, 1, 3), (279, 4, 1, 6)]
    directory = struct.pack("<H", 8) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    tiff = b"II*\0" + struct.pack("<I", 8) + directory + bits + colours.astype("<u2").tobytes()
    assert pixels(tiff).tolist() == [[[0x12, 0x80, 0xFF]]]


def test_floats_in_a_file_are_shades_from_0_to_1():
    file = file_of(Image.fromarray(np.array([[0, 0.5, 1]], np.float32)), "TIFF")
    assert image_size(file) == (3, 1)
    assert pixels(file)[0, :, 0].tolist() == [0, 128, 255]  # 127.5, half to even
    beyond = file_of(Image.fromarray(np.array([[0, 200]], np.float32)), "TIFF")
    with pytest.raises(ValueError, match=r"^image of \d+ bytes has floats from 0 to 200.*divide them by 255"):
        open_image(beyond)


@pytest.mark.parametrize("dtype", [np.int32, np.int16])
def test_integers_that_do_not_say_what_is_white_are_refused(dtype):
    image = Image.fromarray(np.array([[0, 300]], dtype))
    assert image.mode == "I"
    for read in (image_size, open_image):
        for given_as in (image, file_of(image, "TIFF")):
            with pytest.raises(ValueError, match=r"signed or 32-bit integers, .*; scale them"):
                read(given_as)


@pytest.mark.parametrize(
    ("shape", "dtype", "scale"),
    [
        *(((2, 3, 3), dtype, 257) for dtype in ("<u2", ">u2")),
        *(((2, 3, 3), dtype, 1 / 255) for dtype in ("f2", "f4", ">f8", "g")),
        *((shape, "u1", 1) for shape in [(2, 3), (2, 3, 1), (2, 3, 3)]),
        *((shape, "f4", 1 / 255) for shape in [(2, 3), (2, 3, 1)]),
    ],
)
def test_arrays_are_images(shape, dtype, scale):
    shades = np.random.default_rng(0).integers(0, 256, shape)
    array = (shades * scale).astype(dtype)
    before = array.copy()
    expected = np.broadcast_to(shades[..., None] if shades.ndim == 2 else shades, (2, 3, 3))
    np.testing.assert_array_equal(pixels(array), expected)
    np.testing.assert_array_equal(pixels(np.asfortranarray(array)), expected)
    np.testing.assert_array_equal(pixels(array[::-1, ::2]), expected[::-1, ::2])
    np.testing.assert_array_equal(array, before)
    assert image_size(array) == open_image(array).size == (3, 2)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_every_shade_survives_as_a_float(dtype):
    shades = np.arange(256).reshape(16, 16)
    np.testing.assert_array_equal(pixels((shades / 255).astype(dtype))[..., 0], shades)


def test_an_array_of_bools_is_black_and_white():
    assert pixels(np.array([[True, False]])).tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (
            np.zeros((3, 4, 6), np.uint8),
            r"shape \(3, 4, 6\) and dtype uint8.*; transpose it to \(height, width, channels",
        ),
        (np.zeros((4, 6, 2), np.uint8), r"shape \(4, 6, 2\).*with 1, 3 or 4 channels"),
        (np.zeros((2, 4, 6, 3), np.uint8), r"shape \(2, 4, 6, 3\).*one by one"),
        (np.zeros(6, np.uint8), r"shape \(6,\)"),
        (np.zeros((), np.uint8), r"shape \(\)"),
        (
            np.zeros((4, 6), np.int64),
            r"\(4, 6\) and dtype int64.*uint8, uint16, bool, or floats within 0 and 1.*astype",
        ),
        (np.zeros((4, 6), np.int8), "dtype int8"),
        (np.zeros((4, 6), np.uint32), "dtype uint32"),
        (np.zeros((4, 6), complex), "dtype complex128"),
        (np.full((4, 6), "a"), "dtype <U1"),
        (np.full((4, 6), None), "dtype object"),
        (np.zeros((0, 6), np.uint8), "has no pixels"),
        (np.zeros((1, 201), np.uint8), "201×1; no side may be 200 times"),
        (np.broadcast_to(np.uint8(0), (20_000, 20_000)), "20000×20000 pixels; at most"),
    ],
)
def test_an_array_that_is_no_image_is_refused(array, complaint):
    for read in (image_size, open_image):
        with pytest.raises(ValueError, match=complaint):
            read(array)


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (255, "divide them by 255"), (-0.1, "scale them"), (1e6, "scale"), (np.nan, ""), (np.inf, ""),
        (1.0000001, "clip them"), (-1e-9, "clip them"),
    ],
)  # fmt: skip
def test_floats_that_are_no_shades_are_refused(value, advice):
    array = np.array([[0.5, value]], np.float32)
    with pytest.raises(ValueError, match=rf"shape \(1, 2\) and dtype float32 has floats .* within 0 and 1.*{advice}"):
        open_image(array)
    assert image_size(array) == (2, 1)  # which looks at no pixel


def test_one_pixel_is_an_image():
    dot = Image.new("RGB", (1, 1), RED)
    assert open_image(dot).size == image_size(dot) == (1, 1)


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (b"", "image of 0 bytes cannot be read as an image"),
        (b"no image at all", "image of 15 bytes cannot be read"),
        (file_of(picture())[:20], "cannot be read"),
        (png_that_claims(30_000, 30_000), "image of 68 bytes is too large"),
        (file_of(picture(), "GIF").replace(struct.pack("<HH", 6, 4), b"\xff" * 4), "too large"),
        (tiff_that_claims(30_000, 30_000), "too large"),
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


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for odd in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), Path(os.devnull)):
        for read in (image_size, open_image):
            with pytest.raises(ValueError, match=rf"{odd}' is no regular file"):
                read(odd)


def test_a_path_that_cannot_be_opened_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(file_of(picture()))
    path.chmod(0)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "empty.png").touch()
    user = os.geteuid()
    try:
        os.seteuid(user or 65534)  # to root, nothing is forbidden
        for odd in (path, tmp_path / "loop", tmp_path / "empty.png", tmp_path / ("a" * 300), tmp_path / "a\0b"):
            for read in (image_size, open_image):
                with pytest.raises(ValueError, match=r"cannot be read as an image|does not exist"):
                    read(odd)
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("junk", [b"junk" * 9, b"MM\0*\0\0\0\x08\xff\xff\x01\x12", b"MM\0*\xff\xff\xff\xff"])
def test_damaged_metadata_do_not_spoil_a_picture(kind, junk):
    file = file_of(picture(), kind, exif=b"Exif\0\0" + junk, icc_profile=b"junk" * 99)
    assert image_size(file) == open_image(file).size == (6, 4)


LARGE = zlib.compress(bytes(2_000_000))  # Pillow reads one million of a text
TEXTS = {
    "zTXt": chunk(b"zTXt", b"a\0\0" + LARGE),
    "iTXt": chunk(b"iTXt", b"a\0\1\0\0\0" + LARGE),
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LARGE),
    "profile": chunk(b"iCCP", b"a\0\0" + LARGE),
    "many": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000))) * 68,  # and 64 times as much of all texts
}


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", TEXTS)
def test_large_texts_do_not_spoil_a_picture(kind, place):
    file = png(2, 1, b"\0" + bytes([*RED, *GREEN]), **{place: TEXTS[kind]})
    assert image_size(file) == (2, 1)
    assert pixels(file).tolist() == [[[*RED], [*GREEN]]]


def test_a_picture_with_large_texts_keeps_its_orientation_and_its_transparency(tmp_path):
    xmp = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp_of(6))
    transparent = chunk(b"tRNS", struct.pack(">3H", *RED))
    path = tmp_path / "a.png"
    path.write_bytes(png(2, 1, b"\0" + bytes([*RED, *GREEN]), before=TEXTS["zTXt"] + transparent + xmp))
    assert image_size(path) == (1, 2)
    assert pixels(path).tolist() == [[[255] * 3], [[*GREEN]]]


@pytest.mark.parametrize("kind", [name for name in decoding.formats() if name not in ("HEIF", "PPM")])
def test_damage_anywhere_raises_nothing_but_a_value_error(kind):
    whole = file_of(picture(16, 16), kind)
    rng = np.random.default_rng(0)
    for n in range(60):
        damaged = bytearray(whole[: rng.integers(len(whole))] if n % 2 else whole)
        for place in rng.integers(max(len(damaged), 1), size=3):
            damaged[place : place + 1] = bytes([rng.integers(256)])
        for read in (image_size, open_image):
            try:
                read(bytes(damaged))
            except ValueError as error:
                assert str(error).startswith("image of")  # noqa: PT017 — most damage is found, some does not matter


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


class SoftTimeLimit(Exception):
    """As the signal handlers of Celery and others raise it."""


class AssertedTimeLimit(AssertionError):
    """As that of timeout-decorator raises it."""


class RuntimeLimit(RuntimeError):
    """As that of a user may raise it."""


@pytest.mark.parametrize("error", [SoftTimeLimit, TimeoutError, AssertedTimeLimit, RuntimeLimit])
@pytest.mark.parametrize("place", ["load", "seek", "getexif"])
def test_an_error_of_the_callers_signal_handler_is_no_fault_of_the_image(monkeypatch, scan, error, place):
    def handler(*_):
        raise error("the time is over")

    def interrupted(*_):
        signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr(Image.Image if place == "getexif" else TiffImageFile, place, interrupted)
    before = signal.signal(signal.SIGALRM, handler)
    reads = [open_image] if place == "load" else [image_size, open_image]
    try:
        for read in [*reads, lambda file: list(images.image_pages(file))]:
            with pytest.raises(error, match="the time is over"):
                read(scan)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_timeout_of_the_system_is_a_fault_of_the_file(monkeypatch):
    def fails(*_):
        raise TimeoutError(errno.ETIMEDOUT, "the file server does not answer")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fails)
    with pytest.raises(ValueError, match="the file server does not answer"):
        open_image(file_of(picture()))


ODD_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"
REMARKABLE = {  # each makes Pillow warn
    "large": png_that_claims(13_000, 13_600),
    "EXIF, PNG": file_of(picture(), exif=ODD_EXIF),
    "EXIF, JPEG": file_of(picture(), "JPEG", exif=ODD_EXIF),
    "TIFF": file_of(picture(), "TIFF", tiffinfo={270: "x" * 500}).replace(
        struct.pack("<HHI", 270, 2, 501), struct.pack("<HHI", 270, 2, 5_000_000)
    ),
}


def read(name):
    image_size(REMARKABLE[name])
    if name != "large":  # whose pixels are not there
        open_image(REMARKABLE[name])


@pytest.mark.parametrize("name", REMARKABLE)
def test_remarks_of_pillow_are_its_own(name):
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        read(name)
    assert remarks
    assert {Path(remark.filename).parent.name for remark in remarks} == {"PIL"}
    read(name)  # nor is any an error here


def test_remarks_of_pillow_reach_nobody(tmp_path):
    paths = []
    for name, content in REMARKABLE.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(content)
    code = (
        "import sys; from pathlib import Path; from polyvec.images import image_size, open_image\n"
        "for path in map(Path, sys.argv[1:]): image_size(path); path.name == 'large' or open_image(path)"
    )
    for option in ("error", "always"):
        done = subprocess.run(
            [sys.executable, "-W", option, "-c", code, *paths], check=False, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_threads_leave_the_filters_of_warnings_alone():
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(read, [name for name in REMARKABLE if name != "large"] * 100))
    assert warnings.filters == before


@pytest.mark.parametrize("in_one_file", [False, True])
def test_threads_may_share_images_that_are_not_decoded_yet(in_one_file):
    content = file_of(picture(400, 300), "JPEG")
    expected = pixels(content)
    barrier = threading.Barrier(4)

    def look(image):
        barrier.wait()
        return image_size(image), pixels(image)

    with ThreadPoolExecutor(4) as threads:
        for _ in range(10):
            file = io.BytesIO(content)
            shared = [Image.open(file), Image.open(file)] * 2 if in_one_file else [Image.open(file)] * 4
            for size, found in threads.map(look, shared):
                assert size == (400, 300)
                np.testing.assert_array_equal(found, expected)


def test_an_error_names_the_image():
    assert describe(Path("a/b.png")) == "image file 'a/b.png'"
    assert describe(b"abc") == "image of 3 bytes"
    assert describe(np.zeros((2, 3), np.uint8)) == "array of shape (2, 3) and dtype uint8"
    assert describe(Image.new("L", (3, 2))) == "PIL image of mode L and size 3×2"


# height × width → height × width at the released checkpoint's limit and at the benchmarks' (section 5 of the spec).
@pytest.mark.parametrize(
    ("size", "released", "bounded"),
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
def test_smart_resize_of_the_specification(size, released, bounded):
    for limit, (height, width) in ((602_112, released), (37_788_800, bounded)):
        found = smart_resize(size[1], size[0], factor=28, min_pixels=3136, max_pixels=limit)
        assert found == (width, height)


@given(width=st.integers(1, 5000), height=st.integers(1, 5000), limit=st.sampled_from([200_704, 602_112, 37_788_800]))
def test_resized_sides_are_multiples_within_the_limits(width, height, limit):
    if max(width, height) > 200 * min(width, height):
        return
    new_width, new_height = smart_resize(width, height, factor=28, min_pixels=3136, max_pixels=limit)
    assert new_width % 28 == new_height % 28 == 0
    assert 3136 <= new_width * new_height <= limit


class Heif(ImageFile.ImageFile):
    """As a plugin for HEIF registers it."""

    format = "HEIF"

    def _open(self):
        self._mode, self._size = "RGB", (6, 4)
        self.tile = [("raw", (0, 0, 6, 4), 12, ("RGB", 0, 1))]


def test_heif_is_read_if_a_plugin_reads_it(monkeypatch):
    file = b"\0\0\0\x0cftypheic" + np.asarray(picture(6, 4)).tobytes()
    with pytest.raises(ValueError, match="its format is unknown"):
        open_image(file)
    assert ".heic" not in images.suffixes()
    monkeypatch.setitem(Image.OPEN, "HEIF", (Heif, lambda start: start[4:12] == b"ftypheic"))
    monkeypatch.setitem(Image.EXTENSION, ".heic", "HEIF")
    np.testing.assert_array_equal(pixels(file), np.asarray(picture(6, 4)))
    assert ".heic" in images.suffixes()


def test_a_format_that_starts_a_program_is_not_read():
    with pytest.raises(ValueError, match="its format is unknown"):
        open_image(file_of(picture(), "EPS"))
    assert not {".eps", ".ps", ".pdf", ".psd"} & set(images.suffixes())
