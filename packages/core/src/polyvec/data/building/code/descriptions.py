"""What a docstring or a comment says of its function, in plain words."""

import inspect
import re

__all__ = [
    "describes",
    "description",
    "explanation",
    "is_alias",
    "is_remark",
    "of_comment",
    "says_only_the_name",
    "words",
]

_LONGEST = 50  # words of a description, except where its first sentence has more
_SECTIONS = (
    "args|arguments|attributes|example|examples|keyword args|keyword arguments|methods|note|notes|other parameters|"
    "parameters|params|raises|references|return|returns|see also|todo|usage|warning|warnings|warns|yield|yields"
)
_SECTION = re.compile(rf"\s*(?:{_SECTIONS})\s*:?\s*$|\s*(?:args|raises|returns|yields|note|example|usage)\s*:\s", re.I)
_FIELD = re.compile(r"\s*[:@](?:param|parameter|arg|type|return|returns|rtype|raise|raises|yields?|keyword)\b")
_STOP = re.compile(r"\s*(?:>>>|\.\. |[-=~^*#]{3,}\s*$|```|\$ )")
_SIGNATURE = re.compile(
    r"(?:[\w.]+\s*=\s*)?[A-Za-z_][\w.]*\([^()]*(?:\([^()]*\)[^()]*)*\)\s*(?:(?:->|=>|-->)\s*[^\n.]{1,60})?\s*(?:$|\n|--+\s|:\s)"
)
_MARKUP = (
    (re.compile(r":[\w:+.-]+:`~[\w.]*?(\w+)`"), r"\1"),  # roles of reST
    (re.compile(r":[\w:+.-]+:`([^`<>]*?)\s*(?:<[^>]*>)?`"), r"\1"),
    (re.compile(r"`([^`<>]+?)\s*<[^>]*>`__?"), r"\1"),  # links of reST
    (re.compile(r"!?\[([^\[\]]*)\]\((?:[^()\s]|\([^()]*\))*\)"), r"\1"),  # links of Markdown
    (re.compile(r"``(.+?)``|`([^`]+)`_{0,2}"), lambda match: match[1] or match[2]),
    (re.compile(r"(?<![\w*])(\*\*?)(?=\S)([^*\n]*?[^\s*])\1(?![\w*])"), r"\2"),
    (re.compile(r"\b[A-Z]<([^<>]*)>"), r"\1"),  # Epydoc
)
_SENTENCE = re.compile(r"(?<![.\s]\w)(?<!\be\.g)(?<!\bi\.e)(?<!\betc)(?<!\bvs)(?<!\bcf)[.!?](?=\s+[A-Z\"'(`])")
_ALIAS = re.compile(
    r"(?:an? )?(?:deprecated|alias|synonym|same as|equivalent to|shortcut for|shorthand for|see |obsolete|removed in|"
    r"not implemented|overrid|overload|inherit|implements? [\w.]+\.?$|backwards?.compat)|"
    r".*\bis deprecated\b|.*\bdeprecated (?:since|in favou?r)",
    re.I | re.S,
)
_REMARK = re.compile(r"\b(?:todo|fixme|xxx|hack|copyright|licen[cs]ed?|spdx|all rights reserved)\b", re.I)
_PRAGMA = re.compile(
    r"#\s*(?:!|type:|noqa|pylint|fmt:|pragma|mypy:|pyright:|ruff:|isort:|nosec|-\*-|region|endregion)", re.I
)
_WORD = re.compile(r"[^\W\d_]+")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_FILLER_TEXT = """
a an and are as at be by do does for from function get given gets has if in is it its method of on or return
returned returns self set sets that the this to value whether which with
"""
_FILLERS = frozenset(_FILLER_TEXT.split())


def description(docstring: str) -> str:
    """Return the first paragraph of a docstring as plain text, without signatures, sections, doctests and markup.

    Of a paragraph of more than 50 words, the sentences that fit; at least the first. Empty if nothing is left.
    """
    text = _plain(_divided(_prose(docstring))[0])
    sentences = [sentence for sentence in _sentences(text) if sentence]
    kept: list[str] = []
    for sentence in sentences:
        if kept and len(" ".join([*kept, sentence]).split()) > _LONGEST:
            break
        kept.append(sentence)
    return " ".join(kept)


def explanation(docstring: str) -> str:
    """Return what a docstring says after its first paragraph, up to the first section: prose, lists and examples."""
    paragraphs = re.split(r"\n\s*\n", _divided(_prose(docstring))[1])
    return "\n\n".join(map(_without_markup, paragraphs)).strip()


def of_comment(lines: list[str]) -> str:
    """Return what the lines of a comment say, as `description` does. Rules, pragmas and code say nothing."""
    kept = [line.strip() for line in lines if not _PRAGMA.match(line.strip())]
    texts = [re.sub(r"^#+:?\s?", "", line).rstrip("# ") for line in kept]
    texts = ["" if re.fullmatch(r"[\W_]*", text) else text for text in texts]
    text = "\n".join(texts).strip("\n")
    return "" if _is_code(text) else description(text)


def is_alias(text: str) -> bool:
    """Return whether a description only points elsewhere, or says that its function is deprecated."""
    return _ALIAS.match(text) is not None


def is_remark(text: str) -> bool:
    """Return whether a comment is about work to be done or about a licence."""
    return _REMARK.search(text) is not None


def words(text: str) -> list[str]:
    """Return the words of a text in lower case; identifiers are split."""
    return [part.lower() for part in _PART.findall(text)] or [word.lower() for word in _WORD.findall(text)]


def says_only_the_name(text: str, qualname: str) -> bool:
    """Return whether every word of a description that means something stands in the qualified name of its function."""
    return {_stem(word) for word in words(text) if word not in _FILLERS} <= {_stem(word) for word in words(qualname)}


def describes(comment: str, text: str) -> bool:
    """Return whether a comment says what a text says: all of its words stand there in a row."""
    inner, outer = " ".join(words(comment)), " ".join(words(text))
    return bool(inner) and f" {inner} " in f" {outer} "


def _prose(docstring: str) -> str:
    """Return a docstring without the signature it begins with, up to its first section."""
    text = inspect.cleandoc(docstring).strip()
    if match := _SIGNATURE.match(text):
        text = text[match.end() :].lstrip(" \n-:")
    kept: list[str] = []
    for line in text.split("\n"):
        if _SECTION.match(line) or _FIELD.match(line):
            break
        kept.append(line)
    return inspect.cleandoc("\n".join(kept)).strip()


def _divided(text: str) -> tuple[str, str]:
    """Return the lines before the first empty line, doctest, directive or rule, and the text after them."""
    lines = text.split("\n")
    ends = [number for number, line in enumerate(lines) if _STOP.match(line) or not line.strip()]
    first = next((number for number in range(len(lines)) if number not in ends), len(lines))
    end = next((number for number in ends if number > first), len(lines))
    return "\n".join(lines[first:end]), "\n".join(lines[end:]).strip("\n")


def _plain(text: str) -> str:
    return " ".join(_without_markup(text).split()).strip()


def _without_markup(text: str) -> str:
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return re.sub(r"::(?=\s|$)", ":", text)


def _sentences(text: str) -> list[str]:
    starts = [0, *(match.end() for match in _SENTENCE.finditer(text))]
    return [text[start:end].strip() for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]


def _stem(word: str) -> str:
    return re.sub(r"(?:ing|ed|es|s|e)$", "", word) if len(word) > 3 else word


def _is_code(text: str) -> bool:
    """Return whether a comment is code that somebody switched off."""
    return bool(
        re.search(
            r"^\s*(?:def |class |import |from \w+ import|@\w|return\b|if .*:$|for .*:$|[\w.]+\s*=\s|\w[\w.]*\(.*\)$)",
            text,
            re.M,
        )
    )
