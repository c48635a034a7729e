"""Read what models answer: JSON, as models write it."""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from polyvec.data.building.questions.phrases import is_refusal

__all__ = ["AnswerError", "Entry", "Verdict", "read_queries", "read_verdict"]

_SHOWN = 120  # characters of an answer in messages
# Atomic, and a string may lack its end: else the time for an answer that is cut off grows with its length squared.
_STRING = r'"(?>(?:[^"\\]|\\.)*)"?'
_TRAILING_COMMA = re.compile(rf"({_STRING})|,(?=\s*[\]}}])", re.S)
_START = re.compile(r"[\[{](?=\s*[\[{\"“”„«\]}])")  # of a list or object, not of a remark in brackets
# A quotation mark of typography that stands where JSON has one: beside a bracket, a colon or a comma.
_OPENING = re.compile(r"(?<=[\[{:,])(\s*)[“”„«]")
_CLOSING = re.compile(r"[“”»](?=\s*[\]}:,])")
_QUERY_KEYS = (
    "query",
    "question",
    "text",
    "key phrase",
    "key_phrase",
    "keyphrase",
    "phrase",
    "description",
    "statement",
)
_YES, _NO = ("true", "yes"), ("false", "no")


class AnswerError(Exception):
    """An answer that has no queries.

    Attributes:
        reason: why.
        detail: what is wrong with it.
    """

    def __init__(self, reason: Literal["empty", "refused", "broken JSON"], detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Entry:
    """A query that a model wrote, and its short answer if it is a question. The text is empty if there was none."""

    text: str
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a page answers a query, and the short answer if it is a question."""

    answerable: bool
    answer: str = ""


def read_queries(text: str) -> list[Entry]:
    """Return the queries of an answer: a list of objects or texts, or one object, with or without text around it.

    Raises:
        AnswerError: there are none.
    """
    value = _json(text)
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list)]
        value = [value] if any(key in value for key in _QUERY_KEYS) or not lists else lists[0]
    if not isinstance(value, list):
        raise AnswerError("broken JSON", f"it is no list of objects, but {_shown(json.dumps(value))}")
    if not value:
        raise AnswerError("empty", "the model found nothing to ask")
    entries = [_entry(item) for item in value]
    if not any(entry.text for entry in entries):
        raise AnswerError(
            "broken JSON", f'no entry has a text "query": {_shown(json.dumps(value, ensure_ascii=False))}'
        )
    return entries


def read_verdict(text: str) -> Verdict:
    """Return the answer of the second call.

    Raises:
        AnswerError: there is none.
    """
    value = _json(text)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    verdict = value.get("answerable") if isinstance(value, dict) else value
    word = str(verdict).strip().lower()
    if word not in (*_YES, *_NO):
        raise AnswerError("broken JSON", f'it has no "answerable" that is true or false, but {_shown(text)}')
    return Verdict(word in _YES, _short_answer(value) if isinstance(value, dict) else "")


def _entry(item: Any) -> Entry:  # Any: of JSON
    if isinstance(item, str):
        return Entry(_line(item))
    if not isinstance(item, dict):
        return Entry("")
    query = next((item[key] for key in _QUERY_KEYS if isinstance(item.get(key), str)), "")
    return Entry(_line(query), _short_answer(item))


def _short_answer(item: dict[str, Any]) -> str:  # Any: as above
    answer = item.get("answer")
    return _line(str(answer)) if isinstance(answer, str | int | float) else ""


def _line(text: str) -> str:
    """Return a text on one line, without what cannot be stored as UTF-8."""
    return " ".join(text.encode("utf-8", "ignore").decode().replace("\0", "").split())


def _json(text: str) -> Any:  # Any: of JSON
    """Return the JSON of an answer: the whole, or the longest part of it that is a list or an object."""
    text = text.strip().lstrip("\ufeff")
    if not text:
        raise AnswerError("empty", "the model answered nothing")
    whole = text.removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    if whole.lower() in (*_YES, *_NO):
        return whole.lower()
    faults = []
    for repaired in dict.fromkeys((text, _repaired(text))):
        parts, fault = _parts(repaired)
        if parts:
            return max(parts, key=lambda part: part[0])[1]
        faults.append(fault)
    if is_refusal(text):
        raise AnswerError("refused", _shown(text))
    raise AnswerError("broken JSON", faults[0] or f"there is no JSON in {_shown(text)}")


def _parts(text: str) -> tuple[list[tuple[int, Any]], str]:  # Any: as above
    """Return the lists and objects that stand in a text, with their lengths; or none, and what is wrong with one."""
    decoder = json.JSONDecoder(strict=False, parse_int=_number)  # line ends may stand in strings
    parts: list[tuple[int, Any]] = []
    position = 0
    while (match := _START.search(text, position)) is not None:
        start = match.start()
        try:
            value, position = decoder.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError) as error:
            # Not what stands within it: the parts of an answer that is cut off are not the answer.
            return [], f"{getattr(error, 'msg', 'it is nested too deep')} in {_shown(text[start:])}"
        parts.append((position - start, value))
    return parts, ""


def _number(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:  # more digits than Python converts
        return digits


def _repaired(text: str) -> str:
    straight = _CLOSING.sub('"', _OPENING.sub(r'\1"', text))
    return _TRAILING_COMMA.sub(lambda match: match[1] or "", straight)


def _shown(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
