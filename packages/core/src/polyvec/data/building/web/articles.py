"""Articles: HTML and Markdown files, with their title, description and language."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from polyvec import markdown
from polyvec.data.building.material import Rejection
from polyvec.data.building.web.texts import cleaned, language_of
from polyvec.html.encoding import decode
from polyvec.html.page import escaped
from polyvec.images import check_regular
from polyvec.paths import printable

if TYPE_CHECKING:
    from turbohtml import Document

__all__ = ["ORIGIN", "Article", "file_of", "parsed", "read_articles", "resolved"]

ORIGIN = "http://article.invalid"  # RFC 6761: no such host exists. The folder of an article is the root of this site.

_HTML, _MARKDOWN = (".html", ".htm", ".xhtml"), (".md", ".markdown")
_MOST_BYTES = 50_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Article:
    """An article as HTML.

    Attributes:
        id: of the file's name and content, wherever its folder is.
        folder: what its links may reach.
        name: its path in that folder.
        description: what it says of itself; it does not show that text.
        is_markdown: the HTML comes from Markdown and has no style.
    """

    id: str
    folder: Path
    name: str
    html: str
    title: str = ""
    description: str = ""
    language: str = ""
    is_markdown: bool = False

    @property
    def source(self) -> str:
        """The path of the file, for people."""
        return printable(str(self.folder / self.name))

    @property
    def url(self) -> str:
        """Where it stands on the site of its folder."""
        return f"{ORIGIN}/{quote(self.name.encode('utf-8', 'surrogateescape'))}"


def read_articles(paths: Sequence[Path]) -> Iterator[Article | Rejection]:
    """Read files, and all HTML and Markdown files in folders, in the order of their names.

    Hidden files and folders are passed over. A file that repeats another one, byte by byte, is rejected.

    Raises:
        ValueError: a path does not exist, or its suffix is unknown.
        ImportError: a library of the extra `build` is missing.
    """
    for path in paths:
        if not path.exists():
            raise ValueError(
                f"there is no file or folder {str(path)!r}; give HTML or Markdown files, or folders of them."
            )
        if path.is_file() and path.suffix.lower() not in _HTML + _MARKDOWN:
            raise ValueError(f"{str(path)!r} is no article; known suffixes: {', '.join(_HTML + _MARKDOWN)}.")
    names_by_digest: dict[bytes, str] = {}
    for path in paths:
        folder = path if path.is_dir() else path.parent
        for file in _files(path):
            name = file.relative_to(folder).as_posix()
            content = _content(folder, file)
            if isinstance(content, bytes):
                digest = hashlib.sha256(content).digest()[:16]
                first = names_by_digest.setdefault(digest, printable(str(file)))
                if first == printable(str(file)):
                    yield _article(folder, name, content)
                else:
                    yield Rejection("duplicate article", printable(str(file)), detail=f"the same as {first}")
            else:
                yield content


def parsed(html: str) -> "Document":
    """Parse HTML as browsers do."""
    try:
        import turbohtml
    except ImportError as error:
        raise ImportError("HTML is read by turbohtml; install it with `pip install 'polyvec[build]'`.") from error
    return turbohtml.parse(html)


def resolved(article: Article, address: str) -> str:
    """Return the absolute URL of what an article links to; empty if it is no URL."""
    try:
        return urljoin(article.url, address.strip())
    except ValueError:
        return ""


def file_of(folder: Path, url: str) -> Path | None:
    """Return the file that a URL of the site of a folder names, or None if it lies outside.

    Symbolic links are followed, and must stay in the folder, too.

    Raises:
        ValueError: no file can have this name, or there is none.
    """
    parts = urlsplit(url)
    if f"{parts.scheme}://{parts.netloc}" != ORIGIN:
        return None
    path = folder / os.fsdecode(unquote(parts.path, errors="surrogateescape").lstrip("/"))
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            return None
        check_regular(path, repr(printable(parts.path)))
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        raise ValueError(str(error)) from error
    return path


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name.lower().endswith(_HTML + _MARKDOWN):
                yield Path(folder, name)


def _content(folder: Path, file: Path) -> bytes | Rejection:
    what = printable(str(file))
    try:
        if not file.resolve().is_relative_to(folder.resolve()):
            return Rejection("outside the folder", what, detail=f"it is a link to {printable(str(file.resolve()))}")
        check_regular(file)
        if file.stat().st_size > _MOST_BYTES:
            return Rejection("too large", what, detail=f"more than {_MOST_BYTES:,} bytes")
        return file.read_bytes()
    except (OSError, RuntimeError, ValueError) as error:
        return Rejection("unreadable file", what, detail=printable(str(error)))


def _article(folder: Path, name: str, content: bytes) -> Article | Rejection:
    try:
        text = decode(content)
    except ValueError as error:
        return Rejection("unreadable file", printable(str(folder / name)), detail=str(error))
    if "\0" in text:
        return Rejection("no text file", printable(str(folder / name)), detail="it has null bytes")
    is_markdown = name.lower().endswith(_MARKDOWN)
    facts: Mapping[str, Any] = {}
    if is_markdown:
        facts, text = markdown.split_front_matter(text)
        text = f"<body>{markdown.parser().enable('strikethrough').render(text)}"
    tree = parsed(text)
    body = tree.select_one("body")
    if not cleaned(body.text if body else "") and not tree.select_one("img"):
        return Rejection("no text", printable(str(folder / name)))
    described = tree.select_one('meta[name="description" i], meta[property="og:description" i]')
    heading = tree.select_one("title:not(svg *)") if not is_markdown else tree.select_one("h1")
    root = tree.root
    language = _fact(facts, "lang", "language") or str((root.attr("lang") if root else "") or "")
    title = _fact(facts, "title") or (heading.text if heading else "")
    description = _fact(facts, "description", "summary") or str((described.attr("content") if described else "") or "")
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape") + b"\0" + content).hexdigest()[:12]
    stem = re.sub(r"[^a-z0-9]+", "-", Path(name).stem.lower()).strip("-")[:40]
    return Article(
        "-".join(filter(None, (stem, digest))),
        folder,
        name,
        f"<!doctype html><title>{escaped(cleaned(title))}</title>{text}" if is_markdown else text,
        cleaned(title),
        cleaned(description),
        language_of(language, tree),
        is_markdown,
    )


def _fact(facts: Mapping[str, Any], *names: str) -> str:
    return next((value for name in names if isinstance(value := facts.get(name), str)), "")
