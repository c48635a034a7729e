"""A browser without network and scripts, which renders articles to page images."""

import shutil
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Self

from PIL import Image

from polyvec.data.building.web.articles import ORIGIN, Article, file_of
from polyvec.data.building.web.paging import page_breaks
from polyvec.data.building.web.texts import cleaned
from polyvec.images import fetch, open_image

if TYPE_CHECKING:
    from playwright.sync_api import Browser as ChromiumBrowser
    from playwright.sync_api import BrowserContext, FloatRect, Page, Playwright, Route

__all__ = ["Browser", "NotRenderedError", "PageSize", "RenderedPage", "find_browser"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_MILLISECONDS = 30_000.0
_MOST_SIDE = 1600  # pixels of CSS of a drawn SVG
_DRAWING = f'<body style="margin:0"><img src="/drawing.svg" style="max-width:{_MOST_SIDE}px;max-height:{_MOST_SIDE}px">'
_NO_GLYPH = (
    "Cc",
    "Cf",
    "Co",
    "Cs",
    "Mc",
    "Me",
    "Mn",
    "Zl",
    "Zp",
    "Zs",
)  # categories: controls, private use, marks, spaces


class NotRenderedError(ValueError):
    """The browser did not render a page; the message is its own."""


@dataclass(frozen=True, slots=True)
class PageSize:
    """How large pages are.

    Attributes:
        width: in pixels of CSS, of which 96 are an inch. The defaults are those of A4.
        scale: pixels of the image for each pixel of CSS.
    """

    width: int = 794
    height: int = 1123
    scale: float = 1.5

    def __post_init__(self) -> None:
        if not (200 <= self.width <= 4000 and 200 <= self.height <= 4000 and 0.25 <= self.scale <= 4):
            raise ValueError(
                f"pages of {self.width}×{self.height} at scale {self.scale:g}; width and height may be 200 to 4000 "
                "pixels, and the scale 0.25 to 4."
            )


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """A page of an article.

    Attributes:
        text: what it shows.
        headings: those on it, in their order.
        missing: its characters for which the browser has no font.
    """

    png: bytes
    text: str
    headings: Sequence[str]
    missing: str


def find_browser(path: Path | None = None) -> Path:
    """Return the browser at a path, or the system's Chromium or Chrome.

    Raises:
        ValueError: there is none.
    """
    if path is not None:
        if shutil.which(path) is None:
            raise ValueError(f"there is no program {str(path)!r}; give the path of Chromium or Chrome.")
        return path
    for name in _NAMES:
        if program := shutil.which(name):
            return Path(program)
    raise ValueError(
        f"there is no browser: none of {', '.join(_NAMES)} is installed. On Debian and Ubuntu: `apt install chromium`."
    )


class Browser:
    """A browser that reads files of an article's folder and nothing else: no network, no scripts.

    It is a context manager: it starts on entry, stays for all pages, and starts again if it crashes. Playwright's
    synchronous interface allows one at a time in a thread, and none in a thread that runs an event loop.
    """

    def __init__(self, program: Path, *, size: PageSize | None = None, remote: bool = False) -> None:
        """Choose a program, as `find_browser` finds it, the size of pages, and whether remote images are fetched.

        Raises:
            ImportError: Playwright is not installed.
        """
        self._program, self._size, self._remote = program, size or PageSize(), remote
        self._start = _playwright()
        self._playwright: Playwright | None = None
        self._browser: ChromiumBrowser | None = None
        self._context: BrowserContext | None = None
        self._has_glyph: dict[str, bool] = {}

    def __enter__(self) -> Self:
        """Start the browser.

        Raises:
            ValueError: it does not start.
        """
        self._context = self._launch()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the browser."""
        if self._playwright is not None:
            self._playwright.stop()
        self._playwright = self._browser = self._context = None

    def pages(self, article: Article, html: str) -> Iterator[RenderedPage]:
        """Render an article, whose HTML may differ from its own, and yield its pages in order.

        Raises:
            NotRenderedError: the browser crashed, or took more than 30 seconds for a step.
        """

        def answer(route: "Route") -> None:
            kind = route.request.resource_type
            if kind == "document" and route.request.url == article.url:
                route.fulfill(body=html, content_type="text/html; charset=utf-8")
            elif kind in ("image", "stylesheet", "font"):
                _answer_with_file(route, article.folder, remote=self._remote and kind == "image")
            else:
                route.abort("aborted")  # a page that leads elsewhere stays where it is

        height = self._size.height
        with self._page(answer) as page:
            page.goto(article.url)
            layout = page.evaluate(_script("layout.js"), height)
            breaks = page_breaks(layout["boxes"], height)
            texts = page.evaluate(_script("texts.js"), breaks)
            for (top, bottom), shown in zip(breaks, texts, strict=True):
                page.evaluate("top => scrollTo({ top, behavior: 'instant' })", top)
                clip: FloatRect = {"x": 0, "y": 0, "width": self._size.width, "height": bottom - top}
                png = page.screenshot(clip=clip, animations="disabled", timeout=_MILLISECONDS)
                headings = [cleaned(text) for text, place in layout["headings"] if top <= place < bottom]
                lines = "\n".join(filter(None, map(cleaned, shown.split("\n"))))
                yield RenderedPage(png, lines, headings, self._missing(lines))

    def drawing(self, svg: bytes) -> Image.Image:
        """Draw an SVG file on white, in its own size and the scale of the pages.

        Raises:
            NotRenderedError: it is no SVG file that the browser knows to draw.
        """

        def answer(route: "Route") -> None:
            if route.request.resource_type == "image":
                route.fulfill(body=svg, content_type="image/svg+xml")
            else:
                route.fulfill(body=_DRAWING, content_type="text/html; charset=utf-8")

        with self._page(answer) as page:
            page.set_viewport_size({"width": _MOST_SIDE, "height": _MOST_SIDE})
            page.goto(f"{ORIGIN}/")
            if not page.evaluate("() => document.images[0].complete && document.images[0].naturalWidth > 0"):
                raise NotRenderedError("the browser cannot draw this SVG file")
            png = page.locator("img").screenshot(animations="disabled", timeout=_MILLISECONDS)
        return open_image(png)

    @contextmanager
    def _page(self, answer: Callable[["Route"], None]) -> Iterator["Page"]:
        from playwright.sync_api import Error

        try:
            if self._context is None or not self._is_running():
                self._context = self._launch()
            page = self._context.new_page()
            try:
                page.set_default_timeout(_MILLISECONDS)
                page.route("**/*", answer)
                yield page
            finally:
                if self._is_running():
                    page.close()
        except Error as error:
            raise NotRenderedError(error.message.split("\n")[0]) from error

    def _launch(self) -> "BrowserContext":
        from playwright.sync_api import Error

        try:
            if self._playwright is None:
                self._playwright = self._start()
            self._browser = self._playwright.chromium.launch(
                executable_path=self._program, args=["--font-render-hinting=none", "--force-color-profile=srgb"]
            )
        except Error as error:
            self.__exit__()
            reason = error.message.split("\n")[0]
            raise ValueError(f"the browser {str(self._program)!r} does not start: {reason}") from error
        return self._browser.new_context(
            viewport={"width": self._size.width, "height": self._size.height},
            device_scale_factor=self._size.scale,
            java_script_enabled=False,
            offline=True,
            service_workers="block",
            accept_downloads=False,
            locale="en-US",
            timezone_id="UTC",
        )

    def _is_running(self) -> bool:
        return self._browser is not None and self._browser.is_connected()

    def _missing(self, text: str) -> str:
        """Return the characters of a text for which there is no font."""
        shown = [c for c in dict.fromkeys(text) if not c.isascii() and unicodedata.category(c) not in _NO_GLYPH]
        if unknown := [character for character in shown if character not in self._has_glyph]:
            with self._page(lambda route: route.abort()) as page:
                missing = set(page.evaluate(_script("glyphs.js"), unknown))
            self._has_glyph |= {character: character not in missing for character in unknown}
        return "".join(character for character in shown if not self._has_glyph[character])


def _answer_with_file(route: "Route", folder: Path, *, remote: bool) -> None:
    url = route.request.url
    try:
        if path := file_of(folder, url):
            route.fulfill(path=path)
        elif remote and not url.startswith(ORIGIN):
            route.fulfill(body=fetch(url), content_type="image/*")
        else:
            route.abort()
    except (OSError, ValueError):
        route.abort()


@cache
def _script(name: str) -> str:
    return resources.files("polyvec.data.building.web").joinpath(name).read_text("utf-8")


def _playwright() -> Callable[[], "Playwright"]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise ImportError("a browser is driven by Playwright: `pip install 'polyvec[build]'`.") from error
    return lambda: sync_playwright().start()
