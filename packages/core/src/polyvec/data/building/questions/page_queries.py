"""Ask about one page: a call for each kind of query, checks of what comes back, and a second call for each query."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from polyvec.data.building.questions.answers import AnswerError, Entry, read_queries, read_verdict
from polyvec.data.building.questions.calls import CallFailedError
from polyvec.data.building.questions.checks import Check, Reason, first_fault, normal, same_answer
from polyvec.data.building.questions.prompts import ANSWERABLE, answerable_prompt, query_prompt, second_prompt

__all__ = ["Draft", "Fault", "Interview", "calls_after", "drafts_of_page"]

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Draft:
    """A query that passed the checks of its page. `number` counts the queries of a kind and page, from 1."""

    text: str
    kind: str
    number: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Why there is no query: the reason, the text that was rejected or else the kind of query, and details."""

    reason: Reason
    what: str
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class Interview:
    """What is asked about each page.

    Attributes:
        kinds: of queries; a call for each.
        language: of queries, an ISO 639 code.
        n: queries of each kind; more are left out.
        prompts: by kind, and that of the second call.
        checks: of a query's words.
        verify: make a second call for each query: does the page answer it?
    """

    kinds: Sequence[str]
    language: str
    n: int
    prompts: Mapping[str, str]
    checks: Sequence[Check]
    verify: bool


def drafts_of_page(ask: Callable[[str], str], interview: Interview) -> Iterator[Draft | Fault]:
    """Ask for queries about a page, and yield those that pass the checks, and what is wrong with the others.

    `ask` takes a prompt; a `CallFailedError` of it loses nothing but what it was asked for.
    """
    seen: set[str] = set()
    for kind in interview.kinds:
        prompt = query_prompt(interview.prompts[kind], language=interview.language, n=interview.n)
        try:
            entries = _read(ask, prompt, read_queries)
        except AnswerError as error:
            yield Fault(error.reason, kind, error.detail)
            continue
        except CallFailedError as error:
            yield Fault("call failed", kind, str(error))
            continue
        for number, entry in enumerate(entries[: interview.n], start=1):
            fault = first_fault(interview.checks, entry.text, kind)
            key = normal(entry.text)
            if fault is None and key in seen:
                fault = "duplicate", "of another query for the same page"
            seen.add(key)
            if fault is None and interview.verify:
                fault = _unanswerable(ask, entry, interview)
            yield Draft(entry.text, kind, number) if fault is None else Fault(fault[0], entry.text or kind, fault[1])


def calls_after(interview: Interview, prompt: str) -> int:
    """Return the number of calls that may follow the first call of a prompt, but for those that repeat a failed one."""
    first = {
        query_prompt(interview.prompts[kind], language=interview.language, n=interview.n) for kind in interview.kinds
    }
    second_calls = 2 * interview.n * interview.verify
    if prompt in first:
        return 1 + second_calls
    return second_calls if any(prompt.startswith(start) for start in first) else 1


def _unanswerable(ask: Callable[[str], str], entry: Entry, interview: Interview) -> tuple[Reason, str] | None:
    prompt = answerable_prompt(interview.prompts[ANSWERABLE], entry.text, language=interview.language)
    try:
        verdict = _read(ask, prompt, read_verdict)
    except AnswerError as error:
        return error.reason, f"second call: {error.detail}"
    except CallFailedError as error:
        return "call failed", f"second call: {error}"
    if not verdict.answerable:
        return "not answerable", "by the second call"
    if not same_answer(entry.answer, verdict.answer):
        return "not answerable", f"its answer was {entry.answer!r}, that of the second call {verdict.answer!r}"
    return None


def _read(ask: Callable[[str], str], prompt: str, read: Callable[[str], _Result]) -> _Result:
    """Ask and read the answer; an answer that cannot be read is requested once more."""
    try:
        return read(ask(prompt))
    except AnswerError as error:
        if error.reason != "broken JSON":
            raise
        return read(ask(second_prompt(prompt, error.detail)))
