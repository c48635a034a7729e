"""Pixels of any depth become RGB of eight bits."""

from typing import Any

import numpy as np
from PIL import Image

from polyvec import decoding

__all__ = ["RefusedError", "array_size", "check_depth", "of_array", "of_deep_shades", "on_white"]

_DEPTHS = (8, 10, 12, 14, 16)  # bits of what scanners, cameras and microscopes store in sixteen
_COLOURED = ("RGB", "RGBA", "RGBa")


class RefusedError(ValueError):
    """An error about an image whose message is complete."""


def array_size(array: np.ndarray, name: str) -> tuple[int, int]:
    """Return width and height of an image as an array; refuse an array of another shape or dtype."""
    shape, kind = array.shape, array.dtype.type
    if len(shape) != 2 and (len(shape) != 3 or shape[2] not in (1, 3, 4)):
        advice = "reshape it"
        if len(shape) == 3 and shape[0] in (1, 3, 4):
            advice = "transpose it to (height, width, channels)"
        elif len(shape) == 4:
            advice = "give its images one by one"
        raise RefusedError(
            f"{name} is no image: it may be (height, width), or (height, width, channels) with 1, 3 or 4 "
            f"channels; {advice}"
        )
    if not issubclass(kind, np.floating) and kind not in (np.uint8, np.uint16, np.bool_):
        raise RefusedError(
            f"{name} is no image: it may be of uint8, uint16, bool, or floats within 0 and 1; if its values "
            "are within 0 and 255, write `array.astype(numpy.uint8)`"
        )
    return shape[1], shape[0]


def of_array(array: np.ndarray, name: str) -> Image.Image:
    """Convert an array to RGB.

    Raises:
        RefusedError: floats are not within 0 and 1, or no number of sixteen bits needs more than eight.
    """
    shades = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if shades.dtype.type is np.uint16:  # in either byte order
        highest = int((shades[..., :3] if shades.ndim == 3 else shades).max())  # without the alpha channel
        if 0 < highest <= 255:
            raise RefusedError(
                f"{name} has no number above {highest}, and white is 65535: if its values are of eight bits, write "
                "`array.astype(numpy.uint8)`"
            )
        return _rgb(shades >> 8)
    return _rgb(_eight_bits(shades, name))


def of_deep_shades(opened: Image.Image, name: str) -> Image.Image:
    """Convert a grey image of floats, or of more than eight bits, to RGB.

    The white of integers is the largest number of the fewest bits that hold all shades, and all that its file declares.

    Raises:
        RefusedError: floats are not within 0 and 1.
    """
    declared = decoding.largest_shade(opened)
    shades = np.asarray(opened)
    if np.issubdtype(shades.dtype, np.floating):
        return _rgb(_eight_bits(shades, name))
    highest = max(int(shades.max()), declared)
    depth = next((bits for bits in _DEPTHS if highest < 1 << bits), 16)
    if decoding.white_is_zero(opened):
        shades = (1 << depth) - 1 - shades.astype(np.int32)
    return _rgb(shades >> (depth - 8))


def check_depth(opened: Image.Image, name: str) -> None:
    """Refuse a coloured file of sixteen bits per channel that uses twelve or fewer: Pillow reads only the upper eight.

    Raises:
        RefusedError: no channel has a number of 4096 or more.
    """
    if opened.mode in _COLOURED and decoding.has_sixteen_bits(opened):
        extrema: Any = opened.getextrema()  # Any: one pair if there is one band
        if all(highest < 16 for _, highest in extrema):  # transparency, too: black on nothing is an image
            raise RefusedError(
                f"{name} has sixteen bits per channel and uses twelve or fewer, of which Pillow reads four or fewer; "
                "scale its numbers to 8 or 16 bits"
            )


def _eight_bits(shades: np.ndarray, name: str) -> np.ndarray:
    if shades.dtype == np.bool_:
        return shades * np.uint8(255)
    if not np.issubdtype(shades.dtype, np.floating):
        return shades
    lowest, highest = float(shades.min()), float(shades.max())
    if not (lowest >= 0 and highest <= 1):  # also true if any of them is NaN
        advice = "divide them by 255" if lowest >= 0 and 1 < highest <= 255 else "scale them"
        if lowest > -0.01 and highest < 1.01:  # rounding, or what resizing leaves
            advice = "clip them with `numpy.clip`"
        limits = f"{lowest:.9g} to {highest:.9g}"
        raise RefusedError(f"{name} has floats from {limits}; they must be within 0 and 1: {advice}")
    rounded: np.ndarray = np.rint(shades * 255)
    return rounded


def _rgb(shades: np.ndarray) -> Image.Image:
    return on_white(Image.fromarray(np.ascontiguousarray(shades, np.uint8)))


def on_white(picture: Image.Image, transparent: object = None) -> Image.Image:
    """Convert to RGB, with white behind what is transparent: an alpha channel, or the `transparent` colour."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture.load()
    layer = picture.convert("LA") if picture.mode == "La" else picture
    if transparent is not None:
        layer = picture.copy()  # Pillow's conversion changes the palette of its argument
        layer.info["transparency"] = transparent
    try:
        layer = layer.convert("RGBA")
    except (TypeError, ValueError):  # the mode has no such transparent colour: it was left behind by a conversion
        return picture.convert("RGB")
    page = Image.new("RGB", layer.size, "white")
    page.paste(layer, mask=layer)
    return page
