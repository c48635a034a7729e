"""What a query must not be: each check is a function that says what is wrong, or nothing."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from polyvec.data.building.questions.phrases import begins_as_refusal, mention_of_page
from polyvec.data.languages import Languages

__all__ = ["Check", "Reason", "checks_for", "first_fault", "normal", "same_answer"]

Reason = Literal[
    "unreadable",
    "blank page",
    "duplicate page",
    "call failed",
    "empty",
    "refused",
    "broken JSON",
    "too short",
    "too long",
    "mentions the page",
    "wrong language",
    "not answerable",
    "duplicate",
    "too generic",
]
"""Why there is no query, or no document: the reasons of all rejections, roughly in the order of the checks."""

# Letters that a query has at least and at most. A letter of Chinese, Japanese or Korean says as much as three.
_LENGTHS: Mapping[str, tuple[int, int]] = {
    "question": (10, 300),
    "key phrase": (4, 120),
    "description": (20, 900),
    "statement": (15, 400),
}
_ANY_LENGTH = (4, 900)  # of kinds that prompts of a user add
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
_NUMBER = re.compile(r"\d+(?:[.,\s’']\d+)*")
_SHARED = 0.1  # share of pairs of letters, below which two answers say different things


@dataclass(frozen=True, slots=True)
class Check:
    """A check and the reason that it rejects queries for.

    Attributes:
        fault: what is wrong with a query of a kind; empty if nothing is.
    """

    reason: Reason
    fault: Callable[[str, str], str]  # of the text and the kind


def checks_for(language: str) -> Sequence[Check]:
    """Return the checks of a query's words, in order.

    Raises:
        ValueError: an unknown language.
        ImportError: py3langid is not installed.
    """
    languages = Languages([language])

    def wrong_language(text: str, kind: str) -> str:  # noqa: ARG001 — all checks are called alike
        verdict, likeliest = languages.judge(text)
        return f"it is {likeliest}, not {language}" if verdict == "other" else ""

    return (
        Check("empty", lambda text, _: "" if re.search(r"\w", text) else "it has no words"),
        Check("refused", lambda text, _: "it begins as a refusal" if begins_as_refusal(text) else ""),
        Check("too short", _too_short),
        Check("too long", _too_long),
        Check("mentions the page", lambda text, _: mention_of_page(text)),
        Check("wrong language", wrong_language),
    )


def first_fault(checks: Sequence[Check], text: str, kind: str) -> tuple[Reason, str] | None:
    """Return the reason and the fault of the first check that rejects a query; None if all accept it."""
    return next(((check.reason, fault) for check in checks if (fault := check.fault(text, kind))), None)


def normal(text: str) -> str:
    """Return what two queries share that say the same with other case, spaces or punctuation."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def same_answer(first: str, second: str) -> bool:
    """Whether two short answers may say the same. Only what surely differs counts as different.

    Numbers differ if both answers have some and share none. Words differ if neither answer has a number and they have
    hardly a pair of letters in common. An empty answer agrees with every other.
    """
    numbers, others = (_numbers(answer) for answer in (first, second))
    if numbers and others:
        return bool(numbers & others)
    pairs, other_pairs = (_pairs(normal(answer)) for answer in (first, second))
    if numbers or others or not pairs or not other_pairs:
        return True
    return len(pairs & other_pairs) >= _SHARED * min(len(pairs), len(other_pairs))


def _length(text: str) -> int:
    return len(text) + 2 * len(_WIDE.findall(text))


def _too_short(text: str, kind: str) -> str:
    least, _ = _LENGTHS.get(kind, _ANY_LENGTH)
    return f"{len(text)} characters" if _length(text) < least else ""


def _too_long(text: str, kind: str) -> str:
    _, most = _LENGTHS.get(kind, _ANY_LENGTH)
    return f"{len(text)} characters" if _length(text) > most else ""


def _numbers(text: str) -> set[str]:
    """Return the digits of each number, without what separates thousands and decimals."""
    found = _NUMBER.findall(unicodedata.normalize("NFKC", text))
    return {"".join(str(unicodedata.digit(sign)) for sign in number if sign.isdigit()) for number in found}


def _pairs(text: str) -> set[str]:
    return {text[start : start + 2] for start in range(max(1, len(text) - 1))} if text else set()
