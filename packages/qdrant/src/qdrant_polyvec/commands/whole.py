"""Print items whole, and save the picture of one."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from polyvec.cli import UserError, print_json
from polyvec.images import open_image
from polyvec.terminal import echo
from qdrant_polyvec import files
from qdrant_polyvec.commands import tables
from qdrant_polyvec.files import Reading
from qdrant_polyvec.hits import Stored


def show(items: Sequence[Stored], *, save: str | None, reading: Reading, as_json: bool) -> int:
    """Print items whole, and save the picture of one of them."""
    if save is not None:
        pictures = {(item.source, item.unit): item for item in items if item.kind == "image"}
        if len(pictures) != 1:
            found = f"{len(pictures)} pictures; name one of them" if pictures else "no picture, and texts are printed"
            raise UserError(f"--save writes one picture; this is {found}")
        picture_of(next(iter(pictures.values())), reading).save(Path(save))
    if as_json:
        print_json({"items": [asdict(item) for item in items]})
    else:
        for number, item in enumerate(items):
            echo(*([""] if number else []), *tables.item(item))
    if save is not None:
        echo(f"saved: {save}", err=as_json)
    return 0


def picture_of(item: Stored, reading: Reading) -> Image.Image:
    """Return the picture of an image or page; a ValueError if it is lost."""
    kept = item.picture if item.picture and item.picture.uri else None
    if kept is None:
        return open_image(files.load_image(item.source, item.unit, reading=reading))
    with reading.naming_options(repr(item.source)):
        return open_image(kept.open(password=reading.password))
