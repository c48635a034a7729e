"""Sections of Markdown and reST: a heading, and the text below it up to the next heading that is as high."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from polyvec.markdown import outline

__all__ = ["Section", "markdown_sections", "rest_sections"]

_ADORNMENT = re.compile(r"([=\-~^\"'*+#`:._])\1{2,}\s*$")
_DIRECTIVE = re.compile(r"\s*\.\. (?!code|literal|note|warning|tip|important)")


@dataclass(frozen=True, slots=True)
class Section:
    """A section. The headings of sections inside it are lines of its text."""

    heading: str
    level: int
    text: str


def markdown_sections(text: str) -> Iterator[Section]:
    """Yield the sections of Markdown (CommonMark), with links as their texts and without images and HTML.

    Raises:
        ImportError: markdown-it-py is not installed.
    """
    lines = re.sub(r"\r\n?", "\n", text).split("\n")
    headings = [(heading.first, heading.end, heading.level, heading.text) for heading in outline(text).headings]
    for section in _sections(headings, lines):
        yield Section(section.heading, section.level, _without_markdown(section.text))


def rest_sections(text: str) -> Iterator[Section]:
    """Yield the sections of reST: titles under a line, or between two lines, of punctuation."""
    lines = text.splitlines()
    headings: list[tuple[int, int, int, str]] = []
    styles: list[str] = []
    place = 0
    while place + 1 < len(lines):
        over = 1 if _ADORNMENT.match(lines[place]) and place + 2 < len(lines) else 0
        title, under = lines[place + over], lines[place + over + 1]
        match = _ADORNMENT.match(under)
        long_enough = len(under.rstrip()) >= len(title.strip()) > 0
        after_blank = place == 0 or not lines[place - 1].strip()
        if (
            match
            and long_enough
            and after_blank
            and not _ADORNMENT.match(title)
            and not title.startswith(" " * (1 + 3 * over))
        ):
            style = f"{over}{match[1]}"
            if style not in styles:
                styles.append(style)
            headings.append((place, place + over + 2, 1 + styles.index(style), _plain_title(title)))
            place += over + 2
        else:
            place += 1
    for section in _sections(headings, lines):
        kept = [line for line in section.text.split("\n") if not _DIRECTIVE.match(line)]
        yield Section(section.heading, section.level, re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip())


def _sections(headings: list[tuple[int, int, int, str]], lines: list[str]) -> Iterator[Section]:
    for index, (_, start, level, heading) in enumerate(headings):
        end = next((first for first, _, other, _ in headings[index + 1 :] if other <= level), len(lines))
        yield Section(heading, level, "\n".join(lines[start:end]).strip())


def _without_markdown(text: str) -> str:
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"!\[[^\[\]]*\]\([^()]*\)", "", text)
    text = re.sub(r"\[([^\[\]]*)\]\([^()\s]*(?:\s[^()]*)?\)", r"\1", text)
    text = re.sub(r"</?[a-zA-Z][^<>]*>", "", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _plain_title(title: str) -> str:
    return re.sub(r":[\w:]+:`~?([^`<]*)(?:<[^>]*>)?`|``?([^`]*)`?`", lambda match: match[1] or match[2], title).strip()
