"""Articles as page images; their descriptions, titles and headings are the queries."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from polyvec.data.building.material import CorpusItem, Material, Rejection
from polyvec.data.building.web.articles import Article, parsed, read_articles
from polyvec.data.building.web.browser import Browser, NotRenderedError
from polyvec.data.building.web.queries import Queries
from polyvec.data.building.web.row_files import read_table
from polyvec.data.building.web.texts import ancestors, cleaned, why_no_query
from polyvec.html.page import escaped
from polyvec.images import open_image

if TYPE_CHECKING:
    from turbohtml import Document, Element

__all__ = ["read_descriptions", "rendered_articles"]

_MOST_CHARACTERS = 5_000_000  # of HTML: layout has no time limit
_FEWEST_CHARACTERS = 40  # of a first paragraph that describes
_FIRST_NODES = 20  # paragraphs and headings among which it is looked for
_APART = ("nav", "header", "footer", "aside", "blockquote", "table", "li", "dd", "figure")
_ENDS = (".", ":", "!", "?", "…", "。", "！", "？", "।", "؟")
_NUMBERING = re.compile(r"^\d+(?:\.\d+)*\.?\s+(?=\S)")  # of a heading


def rendered_articles(
    paths: Sequence[Path],
    browser: Browser,
    *,
    descriptions: Mapping[str, Sequence[tuple[str, str]]] | None = None,
    max_pages: int = 10,
    max_relevant: int = 1,
) -> Iterator[Material]:
    """Yield the pages of HTML and Markdown files as images.

    The queries of an article are its description, for its first page, or else its first paragraph, which the page then
    does not show; its title, for the first page; and its headings, for the pages that show them. Queries come after
    all documents, because a text may stand for several pages.

    Args:
        paths: files, and folders of files.
        browser: renders the articles.
        descriptions: texts and their languages by the names of files in their folders. They replace what the article
            says of itself.
        max_pages: pages of an article that are rendered.
        max_relevant: a text that stands for more pages is no query.

    Raises:
        ValueError: a path does not exist or is no article, or `max_pages` is less than 1.
        ImportError: a library of the extra `build` is missing.
    """
    if max_pages < 1:
        raise ValueError(f"`max_pages` is {max_pages}; it must be at least 1.")
    queries = Queries(max_relevant=max_relevant)
    for article in read_articles(paths):
        if isinstance(article, Rejection):
            yield article
            continue
        known = (descriptions or {}).get(article.name, ())
        own = [(article.description, article.language)] if article.description else []
        told = [(text, language, "description") for text, language in known or own]
        html, paragraph = _page(article, cut_paragraph=not told)
        if paragraph:
            told = [(paragraph, article.language, "first paragraph")]
        if article.title:
            told.append((article.title, article.language, "title"))
        yield from _pages(article, html, browser, max_pages, told, queries)
    yield from queries.finish("stands for many pages")


def read_descriptions(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Read descriptions and their languages by the names of files.

    The file is a table with the columns `file` and `description`, and perhaps `language`.

    Raises:
        ValueError: the table cannot be read, or a column is missing; the message names the row.
    """
    texts: dict[str, list[tuple[str, str]]] = {}
    for row in read_table(path):
        if isinstance(row, Rejection):
            raise ValueError(f"{row.what}: {row.detail}")  # noqa: TRY004 — a malformed file
        name, text = (row.fields.get(column) for column in ("file", "description"))
        if not (isinstance(name, str) and isinstance(text, str)):
            known = ", ".join(row.fields)
            raise ValueError(f"{row.place} has the columns {known}; `file` and `description` must be there.")  # noqa: TRY004 — data
        texts.setdefault(name.removeprefix("./"), []).append((cleaned(text), str(row.fields.get("language") or "")))
    return texts


def _page(article: Article, *, cut_paragraph: bool) -> tuple[str, str]:
    """Return an article's HTML for the browser, and its first paragraph if that was cut out."""
    tree = parsed(article.html)
    body = tree.select_one("body")
    for node in tree.select("base, meta[http-equiv='refresh' i]"):
        node.decompose()
    for image in tree.select("img[loading]"):
        del image.attrs["loading"]  # lazy images would not load, because nobody scrolls
    paragraph = ""
    if cut_paragraph and (first := _first_paragraph(tree)):
        text = cleaned(first.text)
        if cleaned(body.text if body else "") != text:  # a page of this paragraph alone would be blank
            paragraph = text
            first.decompose()
    if not article.is_markdown or body is None:
        return tree.html, paragraph
    head = f'<meta charset="utf-8"><title>{escaped(article.title)}</title><style>{_style()}</style>'
    return f'<!doctype html><html lang="{article.language}"><head>{head}</head>{body.html}</html>', paragraph


def _first_paragraph(tree: "Document") -> "Element | None":
    """Return the paragraph that tells what an article is about; it stands before the first heading of level 2."""
    for node in islice(tree.select("p, h2"), _FIRST_NODES):
        text = cleaned(node.text)
        if node.tag == "h2":
            return None
        is_apart = any(around.tag in _APART for around in ancestors(node))
        if len(text) >= _FEWEST_CHARACTERS and text[-1] in _ENDS and not is_apart and not node.select_one("img"):
            return node
    return None


def _pages(
    article: Article,
    html: str,
    browser: Browser,
    max_pages: int,
    told: Sequence[tuple[str, str, str]],
    queries: Queries,
) -> Iterator[Material]:
    if len(html) > _MOST_CHARACTERS:
        yield Rejection("too large", article.source, detail=f"more than {_MOST_CHARACTERS:,} characters of HTML")
        return
    number = 0
    try:
        for number, page in enumerate(browser.pages(article, html), start=1):
            if number > max_pages:
                yield Rejection("beyond the page limit", article.source, detail=f"it has more than {max_pages} pages")
                break
            identity = f"{article.id}-{number}"
            if page.missing:
                detail = f"page {number} shows {page.missing[:100]}"
                yield Rejection(f"no font for {_scripts(page.missing)}", article.source, detail=detail)
                continue
            yield CorpusItem(
                identity,
                partial(open_image, page.png),
                page.text,
                article.language,
                kind="article",
                group=article.id,
                source=article.source,
            )
            headings = [(_NUMBERING.sub("", heading), article.language, "heading") for heading in page.headings]
            for text, language, origin in [*(told if number == 1 else ()), *headings]:
                if reason := why_no_query(text, origin):
                    yield Rejection(reason, text, identity, f"{origin} of {article.source}")
                else:
                    kind = "key phrase" if origin in ("title", "heading") else "description"
                    queries.add(text, identity, language=language, kind=kind, origin=origin)
    except NotRenderedError as error:
        yield Rejection("not rendered", article.source, detail=str(error))
    else:
        if not number:
            yield Rejection("no text", article.source)


def _scripts(characters: str) -> str:
    """Name the scripts of characters, as Unicode's names of the characters begin with them."""
    scripts = {
        "symbols"
        if unicodedata.category(character).startswith("S")
        else unicodedata.name(character, "unknown").split()[0]
        for character in characters
    }
    return ", ".join(script if script in ("CJK", "symbols") else script.capitalize() for script in sorted(scripts))


@cache
def _style() -> str:
    return resources.files("polyvec.data.building.web").joinpath("page.css").read_text("utf-8")
