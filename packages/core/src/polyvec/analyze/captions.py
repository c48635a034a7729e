"""Images with their captions: read from a file or a folder, or drawn from the demo world."""

import csv
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from polyvec.data.documents import loaded
from polyvec.data.folders import read_folder
from polyvec.data.rows import read_rows, text_field
from polyvec.types import ImageInput, ImageText

__all__ = ["Captioned", "demo_captions", "read_captions", "with_template"]

_SEED = 7_000_002  # training and the datasets of evaluations draw from other streams
_Row = tuple[str, ImageInput, str]  # id of an image, the image, a text


@dataclass(frozen=True, slots=True)
class Captioned:
    """Images and texts by id, and the positions of an image and of a text that belong together.

    Equal texts are one text, which may belong to several images.
    """

    title: str
    images: Mapping[str, ImageInput]
    texts: Mapping[str, str]
    pairs: Sequence[tuple[int, int]]
    notes: Sequence[str] = ()

    def choose(self, pairs: Sequence[tuple[int, int]]) -> "Captioned":
        """Keep some of the pairs, and the images and texts that are in them, in order."""
        images, texts = (sorted(set(side)) for side in zip(*pairs, strict=True))
        new_images, new_texts = ({old: new for new, old in enumerate(side)} for side in (images, texts))
        all_images, all_texts = list(self.images.items()), list(self.texts.items())
        return replace(
            self,
            images=dict(all_images[index] for index in images),
            texts=dict(all_texts[index] for index in texts),
            pairs=[(new_images[image], new_texts[text]) for image, text in pairs],
        )


def read_captions(path: Path, *, limit: int | None = None) -> Captioned:
    """Read images and their texts.

    A folder has the layout of BEIR: the texts are queries, and each belongs to the images among its relevant documents.
    A `.csv` file has the header `image,caption` or `image,caption,caption,…`, a `.jsonl` file lines like
    `{"image": "cat.png", "caption": "a cat"}`, where `caption` may be a list. Paths of images are relative to the file.
    An image may be in several lines; an empty cell is no caption.

    `limit` takes at most this many images of a file, or queries of a folder.

    Raises:
        ValueError: malformed content; the message names the line. No image has a text.
    """
    if path.is_dir():
        return _of_folder(path, limit)
    rows = {".csv": _csv_rows, ".jsonl": _json_rows}.get(path.suffix.lower())
    if rows is None or not path.is_file():
        raise ValueError(
            f"{str(path)!r} is no folder and no .csv or .jsonl file; give a folder with corpus.jsonl, queries.jsonl "
            "and qrels, a CSV with the header image,caption, or JSON Lines with `image` and `caption`."
        )
    return _captioned(path.name, rows(path), limit)


def demo_captions(n: int) -> Captioned:
    """Draw `n` pages of the demo world, each with three to five queries that ask for it; needs the extra `evaluate`."""
    from polyvec.synthetic import pages, world

    rng = np.random.default_rng(_SEED)

    def rows() -> Iterator[_Row]:
        for index in range(n):
            document = world.document(rng)
            page = pages.page_image(document, rng)
            yield from ((f"page {index}", page, query) for query in world.queries(document, rng))

    return _captioned("demo world", rows(), n)


def with_template(captioned: Captioned, template: str) -> Captioned:
    """Put each text into a template such as `a photo of a {}`, as label sets need it.

    Raises:
        ValueError: the template has not exactly one `{}`.
    """
    if template.count("{}") != 1:
        raise ValueError(f"`template` is {template!r}; it must have one {{}}, where the text goes.")
    texts = {identity: template.replace("{}", text) for identity, text in captioned.texts.items()}
    return replace(captioned, texts=texts, title=f"{captioned.title}; texts as {template!r}")


def _captioned(name: str, rows: Iterable[_Row], limit: int | None) -> Captioned:
    images: dict[str, ImageInput] = {}
    positions: dict[str, int] = {}
    rows_by_text: dict[str, int] = {}
    pairs: dict[tuple[int, int], None] = {}
    n_again = 0
    for identity, image, text in rows:
        if identity not in images:
            if len(images) == limit:
                continue
            positions[identity] = len(images)
            images[identity] = image
        pair = positions[identity], rows_by_text.setdefault(text, len(rows_by_text))
        n_again += pair in pairs
        pairs[pair] = None
    if not pairs:
        raise ValueError(f"{name} has no image with a text; an analysis compares the two.")
    notes = [f"{n_again} pairs were there before and count once"] if n_again else []
    texts = {f"text {row}": text for text, row in rows_by_text.items()}
    title = f"{name}: {len(images)} images, {len(texts)} texts, {len(pairs)} pairs"
    return Captioned(title, images, texts, list(pairs), notes)


def _of_folder(folder: Path, limit: int | None) -> Captioned:
    dataset = read_folder(folder, limit=limit)
    documents = list(dataset.documents.items())
    n_without = 0

    def rows() -> Iterator[_Row]:
        nonlocal n_without
        for text, grades in zip(dataset.queries.values(), dataset.relevant, strict=True):
            relevant = [documents[index] for index, grade in grades.items() if grade > 0]
            read = [(identity, loaded(document)) for identity, document in relevant]
            images = [(identity, image) for identity, image in read if not isinstance(image, str | ImageText)]
            n_without += not images
            yield from ((identity, image, text) for identity, image in images)

    captioned = _captioned(repr(folder.resolve().name), rows(), None)
    if not n_without:
        return captioned
    note = f"{n_without} queries have no image among their relevant documents and are left out"
    return replace(captioned, notes=[*captioned.notes, note])


def _csv_rows(path: Path) -> Iterator[_Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        try:
            header = next(lines, [])
            if len(header) < 2 or header[0] != "image" or set(header[1:]) != {"caption"}:
                raise ValueError(f"the header is {header}; it must be image,caption or image,caption,caption,…")  # noqa: TRY301 — as any other line
            for cells in lines:
                if len(cells) > len(header):
                    raise ValueError(  # noqa: TRY301
                        f"there are {len(cells)} cells and {len(header)} in the header; put a caption that has a comma "
                        "in quotation marks"
                    )
                captions = [cell for cell in cells[1:] if cell.strip()]
                if cells and not captions:
                    raise ValueError(f"image {cells[0]!r} has no caption")  # noqa: TRY301
                yield from ((cells[0], path.parent / cells[0], caption) for caption in captions)
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path}:{lines.line_num}: {error}") from error


def _json_rows(path: Path) -> Iterator[_Row]:
    def parse(row: dict[str, Any]) -> list[_Row]:
        image, captions = text_field(row, "image"), row.get("caption")
        texts: list[Any] = captions if isinstance(captions, list) else [captions]
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise TypeError(f"`caption` is {reprlib.repr(captions)}; it must be a text or a list of texts")
        return [(image, path.parent / image, text) for text in texts]

    return (row for rows in read_rows(path, parse) for row in rows)
