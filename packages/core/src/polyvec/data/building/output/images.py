"""The image files of a dataset that is being written. Images that a killed run has left are not drawn again."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from polyvec.alarms import pass_alarm
from polyvec.content import content_key
from polyvec.data.building.material import CorpusItem
from polyvec.data.building.output.spelling import file_name
from polyvec.data.documents import PdfPage, loaded
from polyvec.decoding import orientation
from polyvec.images import file_stamp, image_format, open_image

__all__ = ["ImageFile", "ImageFiles"]

_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png"}  # files that every reader shows alike; all others are written as PNG


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A line of the journal.

    Attributes:
        item: digest of what the document says of itself, so that another document's image is never taken.
        file: its name. Documents of equal pixels have the file of the first of them.
        content: digest of the pixels.
        n_bytes: size of the file.
    """

    item: str
    file: str
    content: str
    width: int
    height: int
    n_bytes: int


class ImageFiles:
    """Files in a folder, and a journal beside it that says what they are. Equal images share a file."""

    def __init__(self, folder: Path, journal: Path) -> None:
        """Read what an earlier run has left."""
        folder.mkdir(exist_ok=True)
        self._folder, self._journal = folder, journal
        self._known: dict[str, ImageFile] = {}
        self._content_by_file: dict[str, str] = {}  # what each file holds
        self._file_by_content: dict[str, str] = {}  # of this run
        for image in _entries(journal):
            self._known[image.item] = image
            self._content_by_file[image.file] = image.content
        self.n_left = len(self._known)

    def add(self, item: CorpusItem) -> ImageFile:
        """Return the file of a document's image, which is drawn or read unless it is there.

        Raises:
            ValueError: the image cannot be read or drawn.
            OSError: a file cannot be written.
        """
        key = _item_key(item)
        image = self._known.get(key)
        if image is None or not self._is_there(image):
            image = self._write(item, key)
            with self._journal.open("a", encoding="utf-8") as journal:  # the file itself is complete by now
                journal.write(json.dumps(asdict(image)) + "\n")
        self._file_by_content.setdefault(image.content, image.file)
        return image

    def remove_others(self) -> None:
        """Remove the files that no document of this run has."""
        used = set(self._file_by_content.values())
        for path in self._folder.iterdir():
            if path.name not in used:
                path.unlink()

    def _is_there(self, image: ImageFile) -> bool:
        path = self._folder / image.file
        is_first = self._file_by_content.get(image.content, image.file) == image.file
        same = self._content_by_file.get(image.file) == image.content
        return is_first and same and path.is_file() and path.stat().st_size == image.n_bytes

    def _write(self, item: CorpusItem, key: str) -> ImageFile:
        content = item.content
        assert not isinstance(content, str), "texts have no image"
        picture = _picture(content)
        digest = content_key(picture, "")
        assert digest is not None, "it is open"
        file = self._file_by_content.get(digest.hex())
        if file is None:
            file = self._store(item.id, picture, content if isinstance(content, Path) else None)
            self._content_by_file[file] = digest.hex()
        n_bytes = (self._folder / file).stat().st_size
        return ImageFile(key, file, digest.hex(), picture.width, picture.height, n_bytes)

    def _store(self, identity: str, picture: Image.Image, source: Path | None) -> str:
        """Write an image so that its file is complete or not there: a copy of a plain file, or a PNG."""
        suffix = "" if source is None else _plain_suffix(source)
        file = file_name(identity, suffix or ".png")
        partial = self._folder / f"{file}.partial"
        if source is not None and suffix:
            shutil.copyfile(source, partial)
        else:
            picture.save(partial, "PNG")
        partial.replace(self._folder / file)
        return file


def _picture(content: Path | PdfPage | Callable[[], Image.Image]) -> Image.Image:
    """Read or draw an image.

    Raises:
        ValueError: it fails, for whatever reason.
    """
    try:
        image = loaded(content) if isinstance(content, Path | PdfPage) else content()
        if isinstance(image, Path | Image.Image):
            return open_image(image)
    except (ValueError, OSError) as error:
        pass_alarm(error)
        raise ValueError(str(error)) from error
    except Exception as error:  # a function of a user may raise anything
        raise ValueError(f"{type(error).__name__}: {error}") from error
    raise ValueError(f"the function returned a {type(image).__name__}; it must return a PIL.Image.Image")


def _plain_suffix(path: Path) -> str:
    """Return the suffix of a file that needs no conversion; empty if it needs one."""
    suffix = _SUFFIXES.get(image_format(path, plain=True), "")
    if suffix:
        with Image.open(path) as image:
            if orientation(image) != 1 or getattr(image, "n_frames", 1) != 1:
                return ""
    return suffix


def _item_key(item: CorpusItem) -> str:
    """Return a digest of what is known of a document before its image is drawn. A file is known by size and time."""
    facts: list[object] = [item.id, item.text, item.language, item.kind, item.group, item.source]
    content = item.content
    if isinstance(content, PdfPage):
        facts += ["page", str(content.path), file_stamp(content.path), content.number]
    elif isinstance(content, Path):
        facts += ["file", str(content), file_stamp(content)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _entries(journal: Path) -> Iterator[ImageFile]:
    """Yield the lines of a journal. The last one is cut off if it was not written to its end."""
    if not journal.exists():
        return
    n_bytes = 0
    with journal.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                n_bytes += len(line)
                yield ImageFile(**json.loads(line))
    os.truncate(journal, n_bytes)
