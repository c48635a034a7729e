"""The images of an article, with what is written about each: alt text, caption, and the paragraphs around."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from polyvec.data.building.web.articles import Article, parsed
from polyvec.data.building.web.texts import ancestors, cleaned, kind_of, language_at

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

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
    images = tree.css("img")
    mentions = _mentions(tree) if images else {}
    n_images = Counter(around.mem_id for image in images for around in islice(ancestors(image), _COUNTED_LEVELS))
    for image in images:
        addresses = tuple(_addresses(image))
        words = {spoken.text: spoken for spoken in reversed([*_words(image, mentions, n_images)]) if spoken.text}
        if addresses:
            yield Figure(addresses, tuple(reversed(words.values())), language_at(image, article.language))


def _prune(tree: "LexborHTMLParser") -> None:
    """Remove what no reader sees, and the links of headings to themselves."""
    hidden = "script, style, template, [hidden], [aria-hidden='true' i], a.headerlink, a.anchor:empty"
    for node in [
        *tree.css(hidden),
        *(n for n in tree.css("[style]") if _INVISIBLE.search(n.attributes["style"] or "")),
    ]:
        node.decompose()


def _addresses(image: "LexborNode") -> Iterator[str]:
    sources = []
    if image.parent is not None and image.parent.tag == "picture":
        sources = [source.attributes.get("srcset") or "" for source in image.parent.css("source")]
    largest = [_largest(srcset) for srcset in (image.attributes.get("srcset") or "", *sources)]
    src = (image.attributes.get("src") or "").strip()
    yield from dict.fromkeys(filter(None, (*largest, src)))


def _largest(srcset: str) -> str:
    """Return the widest or densest candidate of a `srcset` (HTML standard, 4.8.4.3.10)."""
    candidates = [(float(size or 1), url) for url, size in re.findall(r"([^\s,]\S*[^\s,])(?:\s+([\d.]+)[wx])?", srcset)]
    return max(candidates, key=lambda candidate: candidate[0], default=(0.0, ""))[1]


def _words(image: "LexborNode", mentions: dict[str, list[str]], n_images: Counter[int]) -> Iterator[Words]:
    if image.attributes.get("role") in ("presentation", "none"):
        return
    for name, origin in (("aria-label", "label"), ("alt", "alt text"), ("title", "title")):
        text = cleaned(image.attributes.get(name) or "")
        yield Words(text, kind_of(text), origin)
    close = list(_close(image, n_images))
    caption = _caption(image, close)
    label = _LABEL.match(caption)
    says = caption[label.end() :].lstrip(" .:–—-") if label else caption
    yield Words(says, "description", "caption")
    keys = [f"#{identity}" for node in (image, *close) if (identity := node.attributes.get("id"))]
    named = [text for key in [*([_label(label)] if label else []), *keys] for text in mentions.get(key, ())]
    for text in named or filter(None, [_paragraph_beside(image, caption)]):
        yield Words(text, "statement", "paragraph that names it" if named else "paragraph beside it")


def _caption(image: "LexborNode", close: Sequence["LexborNode"]) -> str:
    for around in close:
        if caption := around.css_first(_CAPTION):
            return cleaned(caption.text())
        if around.tag in ("figure", *_OUTERMOST):
            return ""
        if around.tag == "p":  # in Markdown, a line in italics below an image
            lines = [node for node in _beside(image) if node.tag not in ("br", "img")]
            following = lines or [node for node in [_element_after(around)] if node is not None and node.tag == "p"]
            text = cleaned(following[0].text()) if len(following) == 1 else ""
            emphasis = following[0] if lines else (following[0].css_first("em") if text else None)
            if text and emphasis is not None and emphasis.tag == "em" and cleaned(emphasis.text()) == text:
                return text
    return ""


def _close(image: "LexborNode", n_images: Counter[int]) -> Iterator["LexborNode"]:
    """Yield the elements around an image that hold no other image, or are a figure of several."""
    for around in islice(ancestors(image), _CAPTION_LEVELS):
        most = _MOST_IMAGES_OF_FIGURE if around.tag == "figure" else 1
        if around.tag in _OUTERMOST or n_images[around.mem_id] > most:
            return
        yield around


def _paragraph_beside(image: "LexborNode", caption: str) -> str:
    """Return the text of the paragraph that holds an image, or stands right before or after it."""
    block = image
    for around in ancestors(image):
        if around.tag in _OUTERMOST or (around.tag != "figure" and _has_text(_beside(block), caption)):
            break
        block = around
    if block.parent is not None and block.parent.tag == "p":
        text = cleaned(block.parent.text())
        return text if _says_something(text) and text != caption else ""
    for step in (_element_before, _element_after):
        node = step(block)
        if node is not None and node.tag == "p" and node.css_first("img") is None:
            text = cleaned(node.text())
            if _says_something(text) and text != caption:
                return text
    return ""


def _beside(node: "LexborNode") -> Iterator["LexborNode"]:
    first = node.parent.child if node.parent is not None else None
    for _ in range(_MOST_SIBLINGS):
        if first is None:
            return
        if first.mem_id != node.mem_id and not (first.is_text_node and _BLANK.fullmatch(first.text())):
            yield first
        first = first.next


def _has_text(nodes: Iterator["LexborNode"], caption: str) -> bool:
    return any((text := cleaned(node.text())) and text != caption for node in nodes if not node.is_comment_node)


def _element_before(node: "LexborNode") -> "LexborNode | None":
    before = node.prev
    while before is not None and not before.is_element_node:
        before = before.prev
    return before


def _element_after(node: "LexborNode") -> "LexborNode | None":
    after = node.next
    while after is not None and not after.is_element_node:
        after = after.next
    return after


def _mentions(tree: "LexborHTMLParser") -> dict[str, list[str]]:
    """Return the paragraphs by the figures that they name, such as `figure 3`, or link to, such as `#sales`."""
    paragraphs: dict[str, list[str]] = {}
    for paragraph in tree.css("p"):
        text = cleaned(paragraph.text())
        if not _says_something(text) or any(
            _is_caption(node) for node in islice((paragraph, *ancestors(paragraph)), 4)
        ):
            continue
        keys = [_label(match) for match in _LABEL.finditer(text) if match.start() or match.end() < len(text)]
        links = [link.attributes.get("href") or "" for link in paragraph.css("a[href^='#']")]
        for key in dict.fromkeys([*keys, *links]):
            paragraphs.setdefault(key, []).append(text)
    return paragraphs


def _is_caption(node: "LexborNode") -> bool:
    return node.tag in ("figcaption", "figure") or "caption" in (node.attributes.get("class") or "")


def _label(match: re.Match[str]) -> str:
    """Return one spelling for `Figure 3`, `Fig. 3` and `fig 3`."""
    word = (match["word"] or "图").lower()
    return f"{word[:3]} {match['number'] or match['sign']}"


def _says_something(text: str) -> bool:
    return len(text.split()) >= _FEWEST_WORDS or len(text) >= 4 * _FEWEST_WORDS
