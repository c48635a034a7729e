"""Markdown, read by a CommonMark parser: its headings and paragraphs, and the facts before the text."""

import re
import tomllib
from collections.abc import Mapping, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

__all__ = ["Heading", "Outline", "outline", "parser", "split_front_matter"]

_FRONT_MATTER = re.compile(r"\A\ufeff?(---|\+\+\+)[ \t]*\r?\n(.*?)^\1[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_MOST_DOTS = 1000  # in a line of TOML
_LINE_END = re.compile(r"\r\n?")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of the document, with `#` or underlined.

    Attributes:
        first: index of its first line, counted from 0.
        end: index after its last line.
        level: 1 to 6.
        text: without markup, on one line.
    """

    first: int
    end: int
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Outline:
    """The structure of a text. Lines end with CR, LF or both, and are counted from 0.

    Attributes:
        headings: in their order. Headings inside lists and quotations are content of those.
        joined: lines that continue the paragraph of the previous line.
    """

    headings: list[Heading]
    joined: Set[int]


def outline(text: str) -> Outline:
    """Find the headings and paragraphs of Markdown (CommonMark with tables). Front matter has none.

    Raises:
        ImportError: markdown-it-py or PyYAML is missing.
    """
    _, body = split_front_matter(text)
    begin = len(_LINE_END.sub("\n", text[: len(text) - len(body)]).split("\n")) - 1
    markdown, references, tokens = parser(), dict[str, Any](), list["Token"]()  # Any: of markdown-it
    markdown.block.parse(_LINE_END.sub("\n", body), markdown, references, tokens)
    headings: list[Heading] = []
    joined: set[int] = set()
    for opening, content in pairwise(tokens):
        if content.type != "inline" or content.map is None:
            continue
        joined.update(range(begin + content.map[0] + 1, begin + content.map[1]))
        if opening.type == "heading_open" and opening.level == 0 and opening.map is not None:
            (inline,) = markdown.parseInline(content.content, references)
            first, end = opening.map
            headings.append(Heading(begin + first, begin + end, int(opening.tag[1:]), _plain(inline)))
    return Outline(headings, joined)


def split_front_matter(text: str) -> tuple[Mapping[str, Any], str]:
    """Split Markdown into the facts before it (YAML between `---`, TOML between `+++`) and the text.

    Raises:
        ImportError: PyYAML is missing.
    """
    match = _FRONT_MATTER.match(text)
    if not match:
        return {}, text
    try:
        import yaml  # an optional extra
    except ImportError as error:
        raise ImportError("front matter is read by PyYAML; install it with `pip install 'polyvec[build]'`.") from error
    try:
        facts = _yaml(match[2]) if match[1] == "---" else _toml(_LINE_END.sub("\n", match[2]))
    except (yaml.YAMLError, ValueError, RecursionError, AttributeError, KeyError):
        facts = None  # a TOMLDecodeError is a ValueError; the last two are PyYAML's, as for `!!bool x`
    return (facts, text[match.end() :]) if isinstance(facts, Mapping) else ({}, text)


def _yaml(text: str) -> object:
    """Load YAML safely. `<<` is a key, as in YAML 1.2: to merge mappings can take exponential time."""
    import yaml

    loader = yaml.SafeLoader(text)
    loader.flatten_mapping = lambda _: None
    as_text = {"tag:yaml.org,2002:merge": yaml.SafeLoader.construct_yaml_str}
    loader.yaml_constructors = loader.yaml_constructors | as_text
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _toml(text: str) -> Mapping[str, Any]:
    if any(line.count(".") > _MOST_DOTS for line in text.split("\n")):
        raise ValueError("a key with very many parts takes quadratic time")
    return tomllib.loads(text)


def parser() -> "MarkdownIt":
    """Return a parser of CommonMark with HTML and tables.

    Raises:
        ImportError: markdown-it-py is missing.
    """
    try:
        from markdown_it import MarkdownIt  # an optional extra
    except ImportError as error:
        raise ImportError(
            "Markdown is read by markdown-it-py; install it with `pip install 'polyvec[build]'`."
        ) from error
    return MarkdownIt("commonmark").enable("table")


def _plain(inline: "Token") -> str:
    kinds = ("text", "code_inline", "image", "softbreak", "hardbreak")
    children = (child for child in inline.children or [] if child.type in kinds)
    return " ".join("".join(child.content or " " for child in children).split())
