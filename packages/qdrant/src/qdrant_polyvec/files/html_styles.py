"""How a browser shows the elements of an HTML page, as far as its text depends on it."""

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from turbohtml import Element, Namespace, Node
from turbohtml.cssom import StyleDeclaration, StyleRule, StyleSheet

Style = dict[str, str]  # values by CSS properties

_INHERITED = {"font-size": "medium", "text-indent": "0", "visibility": "visible", "white-space": "normal"}
INITIAL = {"display": "inline", **_INHERITED}
_PLACES = {
    "clip", "clip-path", "content-visibility", "height", "left", "margin-left", "margin-top", "max-height", "max-width",
    "opacity", "overflow", "overflow-x", "overflow-y", "position", "top", "transform", "width",
}  # fmt: skip

_STANDARD = """
address, article, aside, blockquote, body, br, caption, center, dd, details, dialog, dir, div, dl, dt, fieldset,
figcaption, figure, footer, form, frameset, h1, h2, h3, h4, h5, h6, header, hgroup, hr, html, legend, li, listing, main,
menu, nav, ol, p, plaintext, pre, search, section, summary, tbody, text, textarea, tfoot, thead, ul, xmp
{ display: block }
table, mtable { display: table }
tr, mtr, mlabeledtr { display: table-row }
td, th, mtd { display: table-cell }
listing, plaintext, pre, textarea, xmp { white-space: pre }
"""  # of the HTML Standard, "Rendering", SVG and MathML
_KATEX = "katex-html"  # the class of what says a formula again
_NEVER_SHOWN = {
    "audio", "canvas", "datalist", "head", "iframe", "noembed", "noframes", "noscript", "rp", "rt", "rtc", "script",
    "style", "template", "title", "video",
}  # fmt: skip
_NEVER_DRAWN = {  # in SVG and MathML; elsewhere these are unknown elements, which are shown
    "annotation", "annotation-xml", "clipPath", "defs", "desc", "marker", "mask", "metadata", "pattern", "symbol",
}  # fmt: skip
_BLOCK = ("block", "flex", "flow-root", "grid", "list-item", "table")  # what the values of `display` begin with
_LENGTH = re.compile(r"([-+]?\d*\.?\d+)([a-z%]*)")
_PIXELS = {"": 1.0, "px": 1.0, "pt": 4 / 3, "em": 16.0, "rem": 16.0}  # by unit, if the size of letters is the usual one
_SMALLEST = 2.0  # letters that can be read
_DRAWN_ATTRIBUTES = {"display", "font-size", "opacity", "transform", "visibility"}  # of SVG, which are styles, too
_FAR = -900.0  # pixels to the left or above: no screen shows it
_NOTHING = re.compile(  # values of `clip`, `clip-path` and `transform` that leave at most a pixel
    r"rect\((?:[\s,]*[01](?:px)?){4}\s*\)|inset\(\s*(?:[5-9]\d|100)%[\s\d%]*\)|circle\(0(?![.\d]).*"
    r"|.*\bscale(?:[xy]|3d)?\(\s*0\s*[,)].*"
)
_FONT_SIZE = re.compile(r"(?:^|\s)(\d*\.?\d+(?:[a-z]+|%)?)(?=[\s/])")  # in the shorthand `font`
_SELECTOR = re.compile(r"([a-z][\w-]*)?((?:[.#][\w-]+)*)", re.IGNORECASE)
_ESCAPE = re.compile(r"\\([0-9a-fA-F]{1,5})\s?|\\")
_MOST_RULES_PER_NAME = 100  # so that the time is linear


def tag_of(node: Node | None) -> str:
    """Return the tag of an element; empty for other nodes."""
    return node.tag if isinstance(node, Element) else ""


def is_visible(style: Mapping[str, str]) -> bool:
    """True if the text of the element itself can be seen. `display` is another matter: it also hides what is inside."""
    return style["visibility"] == "visible" and not _is_small(style) and not _is_far(_pixels(style["text-indent"]))


def is_block(style: Mapping[str, str]) -> bool:
    """True if the text of the element stands on lines of its own."""
    return style["display"].startswith(_BLOCK)


def is_verbatim(style: Mapping[str, str]) -> bool:
    """True if spaces are shown as they are."""
    return style["white-space"].startswith(("pre", "break-spaces")) and style["white-space"] != "pre-line"


class _Rule(NamedTuple):
    """A rule of a style sheet. Rules are applied in ascending order: the last wins."""

    specificity: tuple[int, int, int]
    number: int
    names: frozenset[str]  # that an element must have: its tag, `.class` and `#id`
    normal: Style
    important: Style


class Styles:
    """The styles of a page: of the standard, of its `<style>` elements, and of its `style` attributes.

    Rules count if their selector is a tag, classes, ids, or a tag with these. The cascade decides between them.
    """

    def __init__(self, document: Node) -> None:
        media = ("", "all", "screen")
        sheets = [sheet.text for sheet in document.select("style") if (sheet.attr("media") or "").lower() in media]
        self._rules = dict[str, list[_Rule]]()
        number = 0
        for sheet in sheets:
            for rule in StyleSheet(sheet.replace("<!--", "").replace("-->", "")).rules:
                normal, important = _declared(rule.style)
                for selector in _selectors(rule) if normal or important else ():
                    number += 1
                    self._add(selector, number, normal, important)

    def _add(self, selector: str, number: int, normal: Style, important: Style) -> None:
        match = _SELECTOR.fullmatch(selector)
        if not (match and selector):
            return
        tag, more = (match[1] or "").lower(), re.findall(r"[.#][^.#]+", match[2])
        n_ids = sum(name.startswith("#") for name in more)
        specificity = (n_ids, len(more) - n_ids, bool(tag))
        rules = self._rules.setdefault((more or [tag])[-1], [])
        if len(rules) < _MOST_RULES_PER_NAME:
            rules.append(_Rule(specificity, number, frozenset(filter(None, [tag, *more])), normal, important))

    def style(self, element: Element, outer: Mapping[str, str]) -> Style:
        """Return the style of an element inside one of the style `outer`."""
        tag, attributes = element.tag, dict(element.attrs)
        if tag in _NEVER_SHOWN and not (tag == "title" and tag_of(element.parent) == "svg"):  # the name of a picture
            return {"display": "none"}
        if tag in _NEVER_DRAWN and _is_drawn(element):
            return {"display": "none"}
        inherited = {name: outer[name] for name in _INHERITED}
        if tag in ("html", "body"):  # hidden, if at all, only until a script has run
            return {**inherited, "display": "block"}
        style = {**inherited, "display": "inline", **_STANDARD_STYLES.get(tag, {})}
        classes = (element.attr("class") or "").split()
        is_closed = "popover" in attributes or (tag == "dialog" and "open" not in attributes)
        if is_closed or _KATEX in classes or attributes.get("hidden", "until-found") != "until-found":
            style["display"] = "none"
        if element.namespace is Namespace.SVG:
            style |= _kept({name: str(attributes[name]) for name in _DRAWN_ATTRIBUTES & attributes.keys()})
        names = {tag.lower(), f"#{attributes.get('id')}", *(f".{name}" for name in classes)}
        rules = sorted(rule for name in names for rule in self._rules.get(name, ()) if rule.names <= names)
        own = element.attr("style")
        normal, important = _declared(StyleDeclaration.parse(own)) if own else ({}, {})
        for values in (*(rule.normal for rule in rules), normal, *(rule.important for rule in rules), important):
            style |= values
        if _is_small(style) and _pixels(style["font-size"]) != 0 and _is_drawn(element):
            style["font-size"] = "medium"  # drawings are scaled
        if not _PLACES.isdisjoint(style) and _is_out_of_sight(style):
            style["display"] = "none"
        elif style["display"].startswith("inline") and outer["display"].endswith(("flex", "grid")):
            style["display"] = "block"
        return style


@lru_cache(maxsize=1000)
def _pixels(value: str) -> float | None:
    match = _LENGTH.fullmatch(value)
    if not match:
        return None
    number = float(match[1])
    return 0.0 if number == 0 else number * _PIXELS[match[2]] if match[2] in _PIXELS else None


def _declared(declaration: StyleDeclaration) -> tuple[Style, Style]:
    """Return the values that matter: without and with `!important`."""
    values: tuple[Style, Style] = {}, {}
    for name in declaration.properties():
        values[declaration.important(name)][_unescaped(name)] = _unescaped(declaration[name])
    return _kept(values[0]), _kept(values[1])


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else "", text) if "\\" in text else text


def _selectors(rule: StyleRule) -> list[str]:
    return [selector.strip() for selector in rule.selector_text.split(",")]


def _kept(values: Mapping[str, str]) -> Style:
    style = {name: value.strip().lower() for name, value in values.items()}
    if "font" in style and (size := _FONT_SIZE.search(style["font"])):
        style.setdefault("font-size", size[1])
    return {
        name: value
        for name, value in style.items()
        if (name in INITIAL or name in _PLACES) and value not in ("", "inherit", "revert", "unset")
    }


def _is_small(style: Mapping[str, str]) -> bool:
    size = _pixels(style["font-size"])
    return size is not None and size < _SMALLEST


def _is_far(pixels: float | None) -> bool:
    return pixels is not None and pixels <= _FAR


def _is_out_of_sight(style: Mapping[str, str]) -> bool:
    """True if an element and all inside have no place on the screen, or are transparent."""
    lengths = {name: _pixels(style[name]) for name in _PLACES & style.keys()}
    is_moved = style.get("position") in ("absolute", "fixed")
    opacity = lengths.get("opacity")
    edges = ("left", "top", "margin-left", "margin-top") if is_moved else ("margin-left", "margin-top")
    cuts = any(style.get(name, "").startswith(("hidden", "clip")) for name in ("overflow", "overflow-x", "overflow-y"))
    sizes = [lengths.get(name) for name in ("height", "max-height", "max-width", "width")]
    return (
        (opacity is not None and opacity < 0.02)
        or any(_is_far(lengths.get(edge)) for edge in edges)
        or (cuts and any(size is not None and size <= 1 for size in sizes))
        or (is_moved and bool(_NOTHING.fullmatch(style.get("clip", ""))))
        or style.get("content-visibility") == "hidden"
        or any(_NOTHING.fullmatch(style.get(name, "")) for name in ("clip-path", "transform"))
    )


def _is_drawn(element: Element) -> bool:
    """True for SVG and MathML. In XML pages, only the elements around tell."""
    around = (tag_of(node) for node in islice(element.ancestors, 20))
    return element.namespace is not Namespace.HTML or not {"svg", "math"}.isdisjoint(around)


_STANDARD_STYLES: dict[str, Style] = {}
for _rule in StyleSheet(_STANDARD).rules:
    for _tag in _selectors(_rule):
        _STANDARD_STYLES.setdefault(_tag, {}).update(_declared(_rule.style)[0])
