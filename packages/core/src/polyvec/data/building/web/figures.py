"""The images of an article, with what is written about each: alt text, caption, and the paragraphs around."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, cast

from polyvec.data.building.web.articles import Article, parsed
from polyvec.data.building.web.texts import ancestors, cleaned, kind_of, language_at, tag_of

if TYPE_CHECKING:
    from turbohtml import Document, Element, Node

__all__ = ["Figure", "Words", "figures"]

_INVISIBLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_LABEL = re.compile(  # "Figure 3", "Fig. 2.1", "Abb. 4", "図1"
    r"\b(?P<word>fig(?:ures?|s)?|abb(?:ildung)?|bild|figura|figuur|afbeelding|рис(?:унок|унке)?)\b\.?\s*(?P<number>\d+(?:[.-]\d+)*)"
    r"|[図图圖]\s*(?P<sign>\d+(?:[.-]\d+)*)",
    re.IGNORECASE,
)
_OUTERMOST = ("body", "html", "main", "article", "section")
_CAPTION = "figcaption, [class*='caption']"
_CAPTION_LEVELS = 4  # elements around an image that may hold its caption
_COUNTED_LEVELS = 16  # elements around an image that know how many images they hold
_MOST_IMAGES_OF_FIGURE = 20
_MOST_SIBLINGS = 50  # that are looked at for text
_FEWEST_WORDS = 5  # of a paragraph: fewer say nothing
_BLANK = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class Words:
    """What is written about an image.

    Attributes:
        kind: of the query that it becomes.
        origin: such as `alt text` or `caption`.
    """

    text: str
    kind: str
    origin: str


@dataclass(frozen=True, slots=True)
class Figure:
    """An image of an article.

    Attributes:
        addresses: of the same picture, the best first.
        words: what is written about it, the closest first.
    """

    addresses: tuple[str, ...]
    words: tuple[Words, ...]
    language: str


def figures(article: Article) -> Iterator[Figure]:
    """Yield the visible images of an article in their order."""
    tree = parsed(article.html)
    _prune(tree)
    images = tree.select("img")
    mentions = _mentions(tree) if images else {}
    n_images = Counter(around for image in images for around in islice(ancestors(image), _COUNTED_LEVELS))
    for image in images:
        addresses = tuple(_addresses(image))
        words = {spoken.text: spoken for spoken in reversed([*_words(image, mentions, n_images)]) if spoken.text}
        if addresses:
            yield Figure(addresses, tuple(reversed(words.values())), language_at(image, article.language))


def _prune(tree: "Document") -> None:
    """Remove what no reader sees, and the links of headings to themselves."""
    hidden = "script, style, template, [hidden], [aria-hidden='true' i], a.headerlink, a.anchor:empty"
    for node in [
        *tree.select(hidden),
        *(n for n in tree.select("[style]") if _INVISIBLE.search(n.attr("style") or "")),
    ]:
        node.decompose()


def _addresses(image: "Element") -> Iterator[str]:
    sources = []
    if image.parent is not None and tag_of(image.parent) == "picture":
        sources = [source.attr("srcset") or "" for source in image.parent.select("source")]
    largest = [_largest(srcset) for srcset in (image.attr("srcset") or "", *sources)]
    src = (image.attr("src") or "").strip()
    yield from dict.fromkeys(filter(None, (*largest, src)))


def _largest(srcset: str) -> str:
    """Return the widest or densest candidate of a `srcset` (HTML standard, 4.8.4.3.10)."""
    candidates = [(float(size or 1), url) for url, size in re.findall(r"([^\s,]\S*[^\s,])(?:\s+([\d.]+)[wx])?", srcset)]
    return max(candidates, key=lambda candidate: candidate[0], default=(0.0, ""))[1]


def _words(image: "Element", mentions: dict[str, list[str]], n_images: Counter["Element"]) -> Iterator[Words]:
    if image.attr("role") in ("presentation", "none"):
        return
    for name, origin in (("aria-label", "label"), ("alt", "alt text"), ("title", "title")):
        text = cleaned(image.attr(name) or "")
        yield Words(text, kind_of(text), origin)
    close = list(_close(image, n_images))
    caption = _caption(image, close)
    label = _LABEL.match(caption)
    says = caption[label.end() :].lstrip(" .:–—-") if label else caption
    yield Words(says, "description", "caption")
    keys = [f"#{identity}" for node in (image, *close) if (identity := node.attr("id"))]
    named = [text for key in [*([_label(label)] if label else []), *keys] for text in mentions.get(key, ())]
    for text in named or filter(None, [_paragraph_beside(image, caption)]):
        yield Words(text, "statement", "paragraph that names it" if named else "paragraph beside it")


def _caption(image: "Element", close: Sequence["Element"]) -> str:
    for around in close:
        if caption := around.select_one(_CAPTION):
            return cleaned(caption.text)
        if around.tag in ("figure", *_OUTERMOST):
            return ""
        if around.tag == "p":  # in Markdown, a line in italics below an image
            lines = [node for node in _beside(image) if tag_of(node) not in ("br", "img")]
            following = lines or [node for node in [_element_after(around)] if node is not None and node.tag == "p"]
            text = cleaned(following[0].text) if len(following) == 1 else ""
            emphasis = following[0] if lines else (following[0].select_one("em") if text else None)
            if text and emphasis is not None and tag_of(emphasis) == "em" and cleaned(emphasis.text) == text:
                return text
    return ""


def _close(image: "Element", n_images: Counter["Element"]) -> Iterator["Element"]:
    """Yield the elements around an image that hold no other image, or are a figure of several."""
    for around in islice(ancestors(image), _CAPTION_LEVELS):
        most = _MOST_IMAGES_OF_FIGURE if around.tag == "figure" else 1
        if around.tag in _OUTERMOST or n_images[around] > most:
            return
        yield around


def _paragraph_beside(image: "Element", caption: str) -> str:
    """Return the text of the paragraph that holds an image, or stands right before or after it."""
    block = image
    for around in ancestors(image):
        if around.tag in _OUTERMOST or (around.tag != "figure" and _has_text(_beside(block), caption)):
            break
        block = around
    if block.parent is not None and tag_of(block.parent) == "p":
        text = cleaned(block.parent.text)
        return text if _says_something(text) and text != caption else ""
    for step in (_element_before, _element_after):
        node = step(block)
        if node is not None and node.tag == "p" and node.select_one("img") is None:
            text = cleaned(node.text)
            if _says_something(text) and text != caption:
                return text
    return ""


def _beside(node: "Node") -> Iterator["Node"]:
    for beside in (*islice(node.previous_siblings, _MOST_SIBLINGS), *islice(node.next_siblings, _MOST_SIBLINGS)):
        if tag_of(beside) or not _BLANK.fullmatch(beside.text):
            yield beside


def _has_text(nodes: Iterable["Node"], caption: str) -> bool:
    return any((text := cleaned(node.text)) and text != caption for node in nodes)


def _element_before(node: "Node") -> "Element | None":
    return _first_element(node.previous_siblings)


def _element_after(node: "Node") -> "Element | None":
    return _first_element(node.next_siblings)


def _first_element(nodes: Iterable["Node"]) -> "Element | None":
    return next((cast("Element", node) for node in nodes if tag_of(node)), None)


def _mentions(tree: "Document") -> dict[str, list[str]]:
    """Return the paragraphs by the figures that they name, such as `figure 3`, or link to, such as `#sales`."""
    paragraphs: dict[str, list[str]] = {}
    for paragraph in tree.select("p"):
        text = cleaned(paragraph.text)
        if not _says_something(text) or any(
            _is_caption(node) for node in islice((paragraph, *ancestors(paragraph)), 4)
        ):
            continue
        keys = [_label(match) for match in _LABEL.finditer(text) if match.start() or match.end() < len(text)]
        links = [link.attr("href") or "" for link in paragraph.select("a[href^='#']")]
        for key in dict.fromkeys([*keys, *links]):
            paragraphs.setdefault(key, []).append(text)
    return paragraphs


def _is_caption(node: "Element") -> bool:
    return node.tag in ("figcaption", "figure") or "caption" in (node.attr("class") or "")


def _label(match: re.Match[str]) -> str:
    """Return one spelling for `Figure 3`, `Fig. 3` and `fig 3`."""
    word = (match["word"] or "图").lower()
    return f"{word[:3]} {match['number'] or match['sign']}"


def _says_something(text: str) -> bool:
    return len(text.split()) >= _FEWEST_WORDS or len(text) >= 4 * _FEWEST_WORDS
