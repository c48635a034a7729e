"""What a run costs, before it runs."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Self

from polyvec.data.building.questions.calls import CallFailedError
from polyvec.data.building.questions.page_queries import Interview, calls_after, drafts_of_page

__all__ = ["Cost", "cost_of_page"]


@dataclass(frozen=True, slots=True)
class Cost:
    """How many calls a run takes.

    Attributes:
        n_files: PDF and image files.
        n_pages: their pages, with blank and repeated ones.
        cached: answers that are there already.
        least: calls, unless pages turn out blank or repeated: these take none.
        most: calls, if no answer can be read at first and every query is worth a second call. Calls that repeat one
            which failed are not counted.
    """

    n_files: int = 0
    n_pages: int = 0
    cached: int = 0
    least: int = 0
    most: int = 0

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))


def cost_of_page(interview: Interview, cached: Callable[[str], str | None]) -> Cost:
    """Return what a page costs, by asking about it with the answers that are in the cache, by prompt."""
    n_cached = 0
    missing: list[str] = []

    def ask(prompt: str) -> str:
        nonlocal n_cached
        answer = cached(prompt)
        if answer is None:
            missing.append(prompt)
            raise CallFailedError
        n_cached += 1
        return answer

    for _ in drafts_of_page(ask, interview):
        pass
    most = sum(1 + calls_after(interview, prompt) for prompt in missing)
    return Cost(n_pages=1, cached=n_cached, least=len(missing), most=most)
