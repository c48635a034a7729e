"""The visible text of an HTML page, in sections."""

import re
from html.parser import HTMLParser

_HIDDEN = {"script", "style", "template", "noscript", "svg", "math"}
_HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
_INLINE = {
    "a", "abbr", "b", "bdi", "bdo", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins", "kbd", "label",
    "mark", "q", "s", "samp", "small", "span", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr", "img",
}  # fmt: skip


def sections(page: str) -> list[str]:
    """Return the visible text, cut before each heading. A heading without text joins the next. The title comes first.

    Raises:
        ValueError: the page cannot be read as HTML.
    """
    if "\0" in page:
        raise ValueError("is binary: it holds null bytes")
    reader = _Reader()
    try:
        reader.feed(page)
        reader.close()
    except AssertionError as error:  # raised by the standard library's parser for some broken declarations
        raise ValueError(f"cannot be read as HTML: {error}") from error
    texts: list[str] = []
    headings = ""  # without text so far
    for is_heading, text in reader.parts():
        joined = f"{headings}\n{text}".strip()
        if is_heading and "\n" not in text:
            headings = joined
        else:
            texts.append(joined)
            headings = ""
    return [*texts, headings] if headings else texts


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._pieces: list[str] = []
        self._begins: list[int] = [0]  # indices of the pieces that begin a section
        self._hidden: list[str] = []  # open elements that are not displayed
        self._in_title = False
        self._verbatim = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title" and "svg" not in self._hidden:
            self._in_title = True
        if tag in _HIDDEN:
            self._hidden.append(tag)
        if self._hidden:
            return
        if tag in _HEADINGS:
            self._begins.append(len(self._pieces))
        if tag == "pre":
            self._verbatim += 1
        if tag == "img" and (alt := dict(attrs).get("alt")):
            self._pieces.append(f" {alt} ")
        if tag not in _INLINE:
            self._pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
            self._pieces.append("\n")
        if tag in self._hidden:
            while self._hidden.pop() != tag:
                pass
            return
        if tag == "pre":
            self._verbatim = max(0, self._verbatim - 1)
        if tag in {"td", "th"}:
            self._pieces.append("\t")
        elif tag not in _INLINE and not self._hidden:
            self._pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if self._in_title or not self._hidden:
            self._pieces.append(data if self._verbatim else re.sub(r"\s+", " ", data))

    def parts(self) -> list[tuple[bool, str]]:
        """For each section: True if it begins with a heading, and its text."""
        ends = [*self._begins[1:], len(self._pieces)]
        parts = []
        for number, (begin, end) in enumerate(zip(self._begins, ends, strict=True)):
            lines = [" ".join(line.split()) for line in "".join(self._pieces[begin:end]).split("\n")]
            text = re.sub(r"\n{2,}", "\n", "\n".join(lines)).strip()
            if text:
                parts.append((number > 0, text))
        return parts
