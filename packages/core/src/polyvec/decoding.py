"""What the decoders of Pillow read and raise, and what they know about an image beside its pixels."""

import itertools
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from polyvec.alarms import pass_alarm

__all__ = [
    "ERRORS",
    "formats",
    "has_sixteen_bits",
    "is_upright_already",
    "largest_shade",
    "may_be_tiff",
    "orientation",
    "pages",
    "suffixes",
    "transparent_colour",
    "white_is_zero",
    "without_texts",
]

# The common formats. Pillow's other decoders are rare, fragile, or start a program (EPS). HEIF is read by plugins.
_FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# What decoders raise for damaged files: the types that half a million damaged files showed, and their relatives. A
# broad `except` would also catch what a signal handler of the caller raises.
ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_BYTE_ORDERS = (b"II", b"MM")  # a TIFF begins with one of them
_ORIENTATION = 0x0112  # EXIF
_SUBFILE, _REDUCED, _MASK = 254, 1, 4  # TIFF 6.0, NewSubfileType and two of its bits
_BITS, _PHOTOMETRIC, _LARGEST = 258, 262, 281  # TIFF 6.0: BitsPerSample and so on, MaxSampleValue
_GREY_STEPS = {"L;2": 85, "L;4": 17}  # Pillow widens these shades to eight bits, but not the transparent shade
_XMP, _EXIF = b"XML:com.adobe.xmp\0", b"Raw profile type exif\0"  # texts of a PNG that may hold its orientation
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"iCCP", b"iTXt", b"tEXt", b"zTXt")


def formats() -> tuple[str, ...]:
    """Return Pillow's names of the formats that can be read here. Some need a plugin, or a library within Pillow."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def suffixes() -> tuple[str, ...]:
    """Return the suffixes of image files that can be read here, such as `.png`, in lower case and sorted."""
    readable = {*formats(), "MPO"}  # a JPEG file that holds further pictures
    return tuple(sorted(suffix for suffix, name in Image.registered_extensions().items() if name in readable))


def is_upright_already(opened: Image.Image) -> bool:
    """True if Pillow applies the orientation itself, to the size as well: that of a TIFF tag."""
    return _ORIENTATION in getattr(opened, "tag_v2", ())


def orientation(opened: Image.Image) -> int:
    """The orientation in EXIF's numbers; 1, which is upright, if the metadata are damaged."""
    try:
        if isinstance(opened, PngImageFile) and not _has_late_metadata(opened):
            exif = Image.Image.getexif(opened)  # the PNG's own method would decode all pixels to look for late metadata
        else:
            exif = opened.getexif()
        return int(exif.get(_ORIENTATION, 1))
    except ERRORS as error:
        pass_alarm(error)
        return 1


def transparent_colour(opened: Image.Image) -> object:
    """The colour or palette entries that a file declares as transparent, in the numbers of its pixels; None if none.

    Pillow keeps this colour as it stands in a PNG, and the pixels with eight bits.
    """
    colour: object = opened.info.get("transparency")
    if isinstance(colour, tuple) and max(colour) > 255:
        return tuple(value >> 8 for value in colour)
    if isinstance(colour, int) and opened.mode == "L" and isinstance(opened, PngImageFile) and opened.tile:
        return colour * _GREY_STEPS.get(str(opened.tile[0][3]), 1)
    return colour


def largest_shade(opened: Image.Image) -> int:
    """The largest number that a grey file of more than eight bits may hold, as far as the file says so; else 0.

    Pillow scales the shades of PPM and JPEG 2000 to sixteen bits. A TIFF may have fewer bits per shade, or name the
    largest shade.
    """
    if opened.format in ("PPM", "JPEG2000"):
        return 65_535
    tags = getattr(opened, "tag_v2", {})
    (bits, *_), (largest, *_) = (_numbers(tags.get(tag)) for tag in (_BITS, _LARGEST))
    return max((1 << bits) - 1 if bits < 16 else 0, largest)


def white_is_zero(opened: Image.Image) -> bool:
    """True if the shades of a TIFF run from white to black. Pillow turns those of eight bits, not those of sixteen."""
    return bool(getattr(opened, "tag_v2", {}).get(_PHOTOMETRIC) == 0)


def has_sixteen_bits(opened: Image.Image) -> bool:
    """True if the file has sixteen bits per channel; False if its pixels are read already."""
    return any(";16" in str(tile[3]) for tile in getattr(opened, "tile", None) or ())


def _numbers(value: object) -> tuple[int, ...]:
    values = value if isinstance(value, tuple) else (value,)
    return tuple(int(number) if isinstance(number, int) and number > 0 else 0 for number in values) or (0,)


def may_be_tiff(file: Path | bytes) -> bool:
    """True if a file begins as a TIFF does. Nothing but two bytes are read of a file on disk."""
    if isinstance(file, bytes):
        return file[:2] in _BYTE_ORDERS
    try:
        if not file.is_file():  # to open a pipe may take forever
            return False
        with file.open("rb") as stream:
            return stream.read(2) in _BYTE_ORDERS
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        pass_alarm(error)
        return False


def pages(tiff: Image.Image) -> Iterator[tuple[int, Exception | None]]:
    """Yield the frames of a TIFF that are pages: neither thumbnails of pages nor masks.

    The file is then at that frame. If the frame is damaged, its error comes with it. A file without any page yields its
    first frame.
    """
    assert isinstance(tiff, TiffImageFile), "other formats have no pages"
    n_pages = 0
    for frame in itertools.count():
        flaw = None
        try:
            tiff.seek(frame)
        except EOFError:
            break
        except ERRORS as error:
            pass_alarm(error)
            flaw = error
        kind = tiff.tag_v2.get(_SUBFILE, 0)
        if flaw or not (isinstance(kind, int) and kind & (_REDUCED | _MASK)):
            n_pages += 1
            yield frame, flaw
        if tiff.tell() != frame:  # the list of frames itself is damaged
            return
    if not n_pages:
        tiff.seek(0)
        yield 0, None


def without_texts(image: Path | bytes) -> Iterator[bytes]:
    """Yield a PNG file again without its texts and colour profile: first with the texts that may tell its orientation.

    Pillow refuses files whose texts are large, and we need no others. Files of other formats yield nothing.
    """
    if isinstance(image, Path) and not image.is_file():
        return
    content = image if isinstance(image, bytes) else image.read_bytes()
    if not content.startswith(_SIGNATURE):
        return
    chunks = list(_chunks(content))
    if any(chunk[4:8] in _TEXTS for chunk in chunks):
        for kept in ((_XMP, _EXIF), ()):
            rest = [chunk for chunk in chunks if chunk[4:8] not in _TEXTS or chunk[8:].startswith(kept)]
            yield _SIGNATURE + b"".join(rest)


def _chunks(png: bytes) -> Iterator[bytes]:
    position = len(_SIGNATURE)
    while position < len(png):
        end = position + 12 + int.from_bytes(png[position : position + 4], "big")
        yield png[position:end]
        position = end


def _has_late_metadata(png: PngImageFile) -> bool:
    """True if a PNG that is not decoded yet has EXIF behind its pixels, as some programs write it."""
    if not png.tile or png.fp is None:
        return False
    here = png.fp.tell()
    try:
        position = png.tile[0][2] - 8  # of the first chunk of pixels
        while True:
            png.fp.seek(position)
            chunk = png.fp.read(32)
            kind, content = chunk[4:8], chunk[8:]
            if kind == b"eXIf" or content.startswith((_XMP, _EXIF)):
                return True
            if not kind.isalpha() or kind == b"IEND":
                return False
            position += 12 + int.from_bytes(chunk[:4], "big")
    finally:
        png.fp.seek(here)
