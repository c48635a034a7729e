"""Print items whole, and show and save the picture of one."""

import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from polyvec.alarms import pass_alarm
from polyvec.cli import UserError, print_json
from polyvec.images import open_image
from polyvec.terminal import echo, picture_protocol, show_picture
from qdrant_polyvec import files
from qdrant_polyvec.commands import tables
from qdrant_polyvec.files import Reading
from qdrant_polyvec.hits import Stored

_MAX_SIDE = 640  # pixels of a picture in a terminal, which are some 80 columns


def show(items: Sequence[Stored], *, save: str | None, reading: Reading, as_json: bool) -> int:
    """Print items whole, and save the picture of one of them. A terminal that can show pictures shows a single one."""
    pictures = list({(item.source, item.unit): item for item in items if item.kind == "image"}.values())
    if save is not None:
        if len(pictures) != 1:
            found = f"{len(pictures)} pictures; name one of them" if pictures else "no picture, and texts are printed"
            raise UserError(f"--save writes one picture; this is {found}")
        picture_of(pictures[0], reading).save(Path(save))
    if as_json:
        print_json({"items": [asdict(item) for item in items]})
    else:
        for number, item in enumerate(items):
            echo(*([""] if number else []), *tables.item(item))
        if len(pictures) == 1:
            _draw(pictures[0], reading)
    if save is not None:
        echo(f"saved: {save}", err=as_json)
    return 0


def _draw(item: Stored, reading: Reading) -> None:
    """Show the picture of an item if the terminal can, and if the picture is still there."""
    if (protocol := picture_protocol()) is None:
        return
    try:
        picture = picture_of(item, reading)
    except (ImportError, OSError, ValueError) as error:
        pass_alarm(error)
        return
    picture.thumbnail((_MAX_SIDE, _MAX_SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG")
    show_picture(file.getvalue(), protocol)


def picture_of(item: Stored, reading: Reading) -> Image.Image:
    """Return the picture of an image or page; a ValueError if it is lost."""
    kept = item.picture if item.picture and item.picture.uri else None
    if kept is None:
        return open_image(files.load_image(item.source, item.unit, reading=reading))
    with reading.naming_options(repr(item.source)):
        return open_image(kept.open(password=reading.password))
