"""How a browser shows the elements of an HTML page, as far as its text depends on it."""

import re
from collections.abc import Mapping

from turbohtml import Element, Node
from turbohtml.cssom import StyleDeclaration, StyleSheet

Style = dict[str, str]  # values by CSS properties

INITIAL = {"display": "inline", "font-size": "medium", "visibility": "visible", "white-space": "normal"}

_STANDARD = """
address, article, aside, blockquote, body, br, caption, center, dd, details, dialog, dir, div, dl, dt, fieldset,
figcaption, figure, footer, form, frameset, h1, h2, h3, h4, h5, h6, header, hgroup, hr, html, legend, li, listing, main,
menu, nav, ol, p, plaintext, pre, search, section, summary, tbody, text, textarea, tfoot, thead, ul, xmp
{ display: block }
table, mtable { display: table }
tr, mtr, mlabeledtr { display: table-row }
td, th, mtd { display: table-cell }
listing, plaintext, pre, textarea, xmp { white-space: pre }
.katex-html { display: none }
"""  # of the HTML Standard, "Rendering", SVG and MathML; KaTeX writes each formula twice
_NEVER_SHOWN = {
    "annotation", "annotation-xml", "audio", "canvas", "datalist", "defs", "desc", "head", "iframe", "metadata",
    "noembed", "noframes", "noscript", "rp", "rt", "rtc", "script", "style", "template", "title", "video",
}  # fmt: skip
_BLOCK = ("block", "flex", "flow-root", "grid", "list-item", "table")  # what the values of `display` begin with
_ZERO = re.compile(r"0*\.?0+[a-z%]*")
_SIMPLE_SELECTOR = re.compile(r"(?:[a-z][\w-]*)?[.#]?[\w-]+", re.IGNORECASE)


def tag_of(node: Node | None) -> str:
    """Return the tag of an element; empty for other nodes."""
    return node.tag if isinstance(node, Element) else ""


def is_visible(style: Mapping[str, str]) -> bool:
    """True if the text of the element itself can be seen. `display` is another matter: it also hides what is inside."""
    return style["visibility"] == "visible" and not _ZERO.fullmatch(style["font-size"])


def is_block(style: Mapping[str, str]) -> bool:
    """True if the text of the element stands on lines of its own."""
    return style["display"].startswith(_BLOCK)


def is_verbatim(style: Mapping[str, str]) -> bool:
    """True if spaces are shown as they are."""
    return style["white-space"].startswith(("pre", "break-spaces")) and style["white-space"] != "pre-line"


class Styles:
    """The styles of a page: of the standard, of its `<style>` elements, and of its `style` attributes.

    Rules count if their selector is a tag, a class, an id, or a tag with one of these.
    """

    def __init__(self, document: Node) -> None:
        media = ("", "all", "screen")
        sheets = [sheet.text for sheet in document.select("style") if (sheet.attr("media") or "").lower() in media]
        self._rules: dict[str, Style] = {}
        for sheet in (_STANDARD, *sheets):
            for rule in StyleSheet(sheet.replace("<!--", "").replace("-->", "")).rules:
                for selector in map(str.strip, rule.selector_text.split(",")):
                    if _SIMPLE_SELECTOR.fullmatch(selector):
                        self._rules.setdefault(selector, {}).update(_declared(rule.style))

    def style(self, element: Element, outer: Mapping[str, str]) -> Style:
        """Return the style of an element inside one of the style `outer`."""
        tag, attributes = element.tag, dict(element.attrs)
        if tag in _NEVER_SHOWN and not (tag == "title" and tag_of(element.parent) == "svg"):  # the name of a picture
            return {"display": "none"}
        if tag in ("html", "body"):  # hidden, if at all, only until a script has run
            return {**outer, "display": "block"}
        style = {**outer, "display": "inline"} | self._rules.get(tag, {})
        is_closed = "popover" in attributes or (tag == "dialog" and "open" not in attributes)
        if is_closed or attributes.get("hidden", "until-found") != "until-found":
            style["display"] = "none"
        names = [f".{name}" for name in (element.attr("class") or "").split()] + [f"#{attributes.get('id')}"]
        for selector in (*names, *(tag + name for name in names)):
            style |= self._rules.get(selector, {})
        if "style" in attributes:
            style |= _declared(StyleDeclaration.parse(element.attr("style") or ""))
        return style


def _declared(declaration: StyleDeclaration) -> Style:
    values = {name: (declaration.get(name) or "").strip().lower() for name in INITIAL}
    return {name: value for name, value in values.items() if value not in ("", "inherit", "revert", "unset")}
