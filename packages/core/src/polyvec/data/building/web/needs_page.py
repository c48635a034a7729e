"""Questions that make no sense without the page that they were asked about."""

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

__all__ = ["needs_page"]

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_SIGNS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")  # Japanese and Chinese, which put no spaces between words


def needs_page(question: str) -> str:
    """Return why a question makes no sense without its page; empty if it does.

    A question needs its page if no word is left when function words, words for pages and their parts, and words for
    what all pages have are taken away: `What is the title of this document?` One word must be left, or two if the
    question points at its page: `What does this chart show about sales?` The lists of words are in
    `needs_page.json`, by language; the language is the one with the most function words in the question.
    """
    words = [word.casefold() for word in _WORD.findall(question)]
    lists = _lists()
    if len(_SIGNS.findall(question)) > len("".join(words)) / 3:
        return _of_signs(question)
    language = max(lists, key=lambda code: sum(word in lists[code]["function"] for word in words))
    known = lists[language]
    function, pages, parts = known["function"], known["page"], known["part"]
    content = [word for word in words if not (word.isdigit() or word in function or word in pages or word in parts)]
    pointing = any(
        word in known["pointing"] and any(following in pages for following in words[index + 1 : index + 4])
        for index, word in enumerate(words)
    )
    if not content:
        return "it has no word about a subject"
    if pointing and len(content) < 2:
        return f"it points at its page, and {content[0]!r} is its only word about a subject"
    return ""


def _of_signs(question: str) -> str:
    content = question
    for sign in _signs():
        content = content.replace(sign, " ")
    return "" if sum(map(str.isalpha, content)) > 1 else "it has no word about a subject"


@cache
def _lists() -> Mapping[str, Mapping[str, frozenset[str]]]:
    """Return the kinds of words by language."""
    return {
        language: {kind: frozenset(words.split()) for kind, words in kinds.items()}
        for language, kinds in _file().items()
        if "signs" not in kinds
    }


@cache
def _signs() -> list[str]:
    """Return what carries no subject in Chinese and Japanese, the longest first."""
    signs = {sign for kinds in _file().values() for sign in kinds.get("signs", "").split()}
    return sorted(signs, key=lambda sign: (-len(sign), sign))


@cache
def _file() -> dict[str, dict[str, str]]:
    text = resources.files("polyvec.data.building.web").joinpath("needs_page.json").read_text("utf-8")
    lists: dict[str, dict[str, str]] = json.loads(text)
    return lists
