"""Pages with what is known of them from earlier runs: a page whose answers are cached is not rendered again."""

import hashlib
from dataclasses import asdict, dataclass

from PIL import Image

from polyvec.data.building.questions.answer_cache import AnswerCache, key_of
from polyvec.data.building.questions.page_files import PageFile, bounded, is_blank, read_page

__all__ = ["PageFacts", "PageReader"]

_DRAWING = "1"  # to be raised when the same page becomes another picture


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What is known of a page.

    Attributes:
        pixels: the same for pages that look the same.
        text: its text layer.
    """

    pixels: str
    is_blank: bool
    text: str


class PageReader:
    """Draws pages as a model gets them."""

    def __init__(self, cache: AnswerCache, *, dpi: float, max_pixels: int) -> None:
        self._cache, self._dpi, self._max_pixels = cache, dpi, max_pixels

    def key(self, page: PageFile) -> str:
        """Return what tells the picture of a page from all others: its file's content, its number, how it is drawn."""
        return f"{page.digest} {page.number} {self._dpi:g} {self._max_pixels} {_DRAWING}"

    def known(self, page: PageFile) -> PageFacts | None:
        """Return what an earlier run knows of a page."""
        value = self._cache.get(key_of("page", self.key(page)))
        return None if value is None else PageFacts(**value)

    def facts(self, page: PageFile) -> tuple[PageFacts, Image.Image | None]:
        """Return what is known of a page, and its picture if that had to be drawn.

        Raises:
            ValueError: the page cannot be read.
        """
        known = self.known(page)
        if known is not None:
            return known, None
        read = read_page(page, dpi=self._dpi)
        image = bounded(read.image.convert("RGB"), self._max_pixels)
        pixels = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
        facts = PageFacts(pixels, is_blank(read), read.text)
        self._cache.put(key_of("page", self.key(page)), asdict(facts))
        return facts, image

    def picture(self, page: PageFile) -> Image.Image:
        """Draw a page.

        Raises:
            ValueError: it cannot be read any more.
        """
        return bounded(read_page(page, dpi=self._dpi).image.convert("RGB"), self._max_pixels)
