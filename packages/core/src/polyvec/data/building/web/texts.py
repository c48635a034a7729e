"""Texts that people wrote: clean ones, their language, and which of them are no queries."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, cast

from polyvec.data.languages import Languages

if TYPE_CHECKING:
    from turbohtml import Document, Element, Node

__all__ = [
    "ancestors",
    "cleaned",
    "kind_of",
    "language_at",
    "language_of",
    "n_words",
    "tag_of",
    "told_language",
    "why_no_query",
]

_DEEPEST = 512  # levels, as browsers nest elements
_MOST_CHARACTERS = 600
_FEWEST_LETTERS = 6
_ONE_LONG_WORD = 12  # letters: compounds say as much as two words
_LOGO = re.compile(
    r"\b(logos?|badges?|icons?|avatars?|favicon|emblem|build status|shields?\.io)\b|-badge\b", re.IGNORECASE
)
_MOST_WORDS_OF_LOGO = 5  # longer texts say more than that
_FILE_NAME = re.compile(
    r"(?:https?://\S+|\S*[/\\]\S+\.\w{2,5}|\S+\.(?:png|jpe?g|gif|svgz?|webp|avif|bmp|tiff?|ico|pdf)"
    r"|(?:img|dsc[fn]?|image|screenshot|screen shot|photo|pic)[-_ ]?[\d_.: -]+(?:at [\d.:]+)?)",
    re.IGNORECASE,
)
_GENERIC = re.compile(
    r"(?:an? |the )?(?:alt(?:ernative)? text|images?|img|pictures?|photos?|screen ?shots?|figures?|fig\.?|diagrams?"
    r"|charts?|graphs?|plots?|maps?|illustrations?|banner|header|cover|thumbnail|preview|demo|example|untitled|placeholder|spacer"
    r"|(?:table of )?contents|introduction|overview|documentation|installation|getting started|requirements|references"
    r"|contributing|acknowledge?ments|licen[sc]es?|see also|further reading|next steps|previous topic|next topic"
    r"|abbildung|bild|foto|grafik|bildschirmfoto|imagen|captura de pantalla|figura|immagine|afbeelding|imagem"
    r"|изображение|рисунок|скриншот|図|画像|スクリーンショット|图片|截图|图)[\s\d.,:;!()#_-]*",
    re.IGNORECASE,
)
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


def cleaned(text: str) -> str:
    """Return a text on one line, without lone surrogates and pilcrows of links to headings."""
    return " ".join(text.encode("utf-8", "replace").decode().replace("¶", " ").split())


def n_words(text: str) -> int:
    """Count words. Two letters of a script that does not write spaces, such as Chinese, count as one."""
    return len(re.findall(r"\w+", _UNSPACED.sub(" ", text))) + len(_UNSPACED.findall(text)) // 2


def kind_of(text: str) -> str:
    """Return whether a short text is a `key phrase` or a `description`."""
    return "key phrase" if n_words(text) < 5 else "description"


def why_no_query(text: str, origin: str) -> str:
    """Return the reason why a text asks for no particular image; empty if it may be a query.

    Args:
        text: a `cleaned` text.
        origin: what the text is, such as `alt text`.
    """
    words, letters = n_words(text), sum(character.isalpha() for character in text)
    unspaced = len(_UNSPACED.findall(text))
    if _FILE_NAME.fullmatch(text):
        return f"file name as {origin}"
    if words <= _MOST_WORDS_OF_LOGO and _LOGO.search(text):
        return "logo or badge"
    if _GENERIC.fullmatch(text):
        return "generic text"
    if unspaced < 4 and (letters < _FEWEST_LETTERS or (words < 2 and letters < _ONE_LONG_WORD)):
        return "too short"
    return "too long" if len(text) > _MOST_CHARACTERS else ""


def tag_of(node: "Node | None") -> str:
    """Return the tag of an element; empty for other nodes."""
    return getattr(node, "tag", "")


def ancestors(node: "Element") -> Iterator["Element"]:
    """Yield the elements around an element, the nearest first."""
    return (cast("Element", around) for around in islice(node.ancestors, _DEEPEST) if tag_of(around))


def language_at(node: "Element", default: str) -> str:
    """Return the language that an element or one around it declares."""
    return next((code for around in (node, *ancestors(node)) if (code := _declared(around))), default)


def language_of(declared: str, tree: "Document") -> str:
    """Return the language of an article: what it declares, or what its paragraphs tell."""
    return _primary(declared) or told_language(" ".join(cleaned(p.text) for p in islice(tree.select("p"), 20)))


def told_language(text: str) -> str:
    """Return the language of a text; empty if that is not sure."""
    text = re.sub(r"https?://\S+|[^\w\s]|\d", " ", text)
    if n_words(text) < 4:
        return ""
    verdict, code = _any_language().judge(" ".join(text.split()))
    return "" if verdict == "unknown" else code


@cache
def _any_language() -> Languages:
    return Languages(())


def _declared(node: "Element") -> str:
    return _primary(node.attr("lang") or node.attr("xml:lang") or "")


def _primary(tag: str) -> str:
    """Return the language of a tag such as `pt-BR` (BCP 47)."""
    code = re.split(r"[-_]", tag.strip().lower())[0]
    return code if re.fullmatch(r"[a-z]{2,3}", code) else ""
