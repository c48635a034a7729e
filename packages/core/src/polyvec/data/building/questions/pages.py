"""A dataset from pages: a model writes queries for each page, and only those that pass every check are kept."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from polyvec.data.building.material import CorpusItem, Material, Query, Rejection
from polyvec.data.building.questions.answer_cache import AnswerCache
from polyvec.data.building.questions.calls import CallFailedError, Calls, Usage
from polyvec.data.building.questions.checks import Reason, checks_for
from polyvec.data.building.questions.cost import Cost, cost_of_page
from polyvec.data.building.questions.drafts import Drafts, Kept
from polyvec.data.building.questions.generic import fits, page_vectors
from polyvec.data.building.questions.models import asked, model_name
from polyvec.data.building.questions.page_files import PageFile, files, pages_in
from polyvec.data.building.questions.page_queries import Draft, Fault, Interview, drafts_of_page
from polyvec.data.building.questions.prompts import ANSWERABLE, KINDS, PROMPTS
from polyvec.data.building.questions.reading import PageFacts, PageReader
from polyvec.data.languages import Languages
from polyvec.encoder import Encoder

__all__ = ["MAX_PIXELS", "PageMaterial", "pages"]

MAX_PIXELS = 2_200_000  # an A4 page at 150 dpi has 2.18 million
_AHEAD = 2  # pages in work per worker, so that none waits for a slow page before it
_ENOUGH_TEXT = 40  # characters that tell the language of a page


def pages(
    paths: Iterable[str | Path],
    *,
    ask: Any,  # of frameworks that may not be installed
    name: str | None = None,
    kinds: Sequence[str] = KINDS,
    language: str = "en",
    n: int = 1,
    prompts: Mapping[str, str] = PROMPTS,
    verify: bool = True,
    encoder: Encoder | None = None,
    max_other_pages: int = 10,
    page_language: str | None = None,
    dpi: float = 150,
    max_pixels: int = MAX_PIXELS,
    cache: str | Path | None = None,
    workers: int = 1,
    timeout: float | None = 120,
    retries: int = 2,
    max_failures: int = 10,
    show_progress: bool = False,
) -> "PageMaterial":
    """Let a model write queries for the pages of PDF and image files.

    Each page takes a call for each kind of query, and one for each query that passes the checks of its words: whether
    the page answers it. Documents and rejections come in the order of the pages, queries at the end.

    Args:
        paths: PDF files, image files, and folders of them.
        ask: a function of an image (`PIL.Image.Image`) and a prompt that returns a text; a chat model of LangChain, or
            an LLM of LlamaIndex. Its errors cost a query, not the run.
        name: of the model, for the cache and the queries' `origin`; needed when the model's own name does not change
            although its answers would.
        kinds: `question`, `key phrase`, `description`, `statement`, or others that have a prompt.
        language: of queries, an ISO 639 code; the pages may have others.
        n: queries of each kind and page.
        prompts: see `polyvec.data.building.questions.prompts`.
        verify: make the second calls.
        encoder: compares each query with all pages, so that queries which fit many pages are rejected.
        max_other_pages: so many other pages may fit a query as well as its own, as the encoder sees it; and for so
            many others the model may have written the same query.
        page_language: of the pages; otherwise told by their text layer, where they have one.
        dpi: resolution of PDF pages.
        max_pixels: of the picture that the model gets; larger ones are shrunk.
        cache: file that keeps all answers, so that a run that was stopped goes on, and the next one is free.
        workers: calls at a time. With more than one, threads share `ask`.
        timeout: seconds for a call, which then runs in a thread of its own; see `Calls`. None for no limit.
        retries: more tries if the model is busy (HTTP 429, 5xx, a broken connection), after pauses.
        max_failures: calls in a row that may fail; then the run stops.
        show_progress: show pages per second.

    Raises:
        ValueError: a path does not exist, there are no pages, or an option is impossible.
        TypeError: `ask` cannot be asked.
        ImportError: pypdfium2 or py3langid is not installed.
    """
    for option, value, least in (
        ("n", n, 1),
        ("workers", workers, 1),
        ("max_failures", max_failures, 1),
        ("retries", retries, 0),
        ("max_other_pages", max_other_pages, 0),
        ("max_pixels", max_pixels, 10_000),
    ):
        if value < least:
            raise ValueError(f"`{option}` is {value}; it must be at least {least}.")
    if timeout is not None and not timeout > 0:
        raise ValueError(f"`timeout` is {timeout}; give seconds, or None for no limit.")
    if unknown := [kind for kind in kinds if kind not in prompts or kind == ANSWERABLE] or not kinds:
        known = ", ".join(repr(kind) for kind in prompts if kind != ANSWERABLE)
        raise ValueError(f"`kinds` has {unknown if kinds else 'nothing'}; there are prompts for {known}.")
    answers = AnswerCache(cache)
    name = name or model_name(ask)
    return PageMaterial(
        list(files([paths] if isinstance(paths, str | Path) else paths)),
        interview=Interview(tuple(dict.fromkeys(kinds)), language, n, prompts, checks_for(language), verify),
        calls=Calls(asked(ask), answers, name=name, timeout=timeout, retries=retries, max_failures=max_failures),
        reader=PageReader(answers, dpi=dpi, max_pixels=max_pixels),
        encoder=encoder,
        max_other_pages=max_other_pages,
        name=name,
        page_language=page_language,
        workers=workers,
        show_progress=show_progress,
    )


class PageMaterial:
    """What `pages` returns: a source of a dataset, with its cost.

    Attributes:
        rejections: number by reason, of the last iteration.
    """

    def __init__(
        self,
        paths: Sequence[tuple[Path, str]],
        *,
        interview: Interview,
        calls: Calls,
        reader: PageReader,
        encoder: Encoder | None,
        max_other_pages: int,
        name: str,
        page_language: str | None,
        workers: int,
        show_progress: bool,
    ) -> None:
        self._paths, self._interview, self._calls, self._reader = paths, interview, calls, reader
        self._encoder, self._max_other_pages, self._name = encoder, max_other_pages, name
        self._page_language, self._workers, self._show_progress = page_language, workers, show_progress
        self._languages = Languages([interview.language])
        self.rejections: Counter[Reason] = Counter()

    @property
    def usage(self) -> Usage:
        """What was taken from the model so far."""
        return self._calls.usage

    @property
    def notes(self) -> tuple[str, ...]:
        """How the queries are made, for a dataset's card."""
        second = " A second call confirmed that the page answers each query." if self._interview.verify else ""
        generic = f" No query fits more than {self._max_other_pages} other pages, as an encoder sees it."
        return (
            f"The queries ({', '.join(self._interview.kinds)}) were written by {self._name} from pictures of the pages "
            f"and checked.{second}{generic if self._encoder else ''} The licence of a model's answers is that of its "
            "provider.",
        )

    def cost(self) -> Cost:
        """Return how many calls the next iteration takes, with what is in the cache; nothing is called."""
        total = Cost(n_files=len(self._paths))
        seen: set[str] = set()
        for page in self._found:
            if isinstance(page, PageFile):
                facts = self._reader.known(page)
                if facts is not None and (facts.is_blank or facts.pixels in seen):
                    total += Cost(n_pages=1)
                else:
                    total += cost_of_page(self._interview, partial(self._calls.cached, self._reader.key(page)))
                if facts is not None:
                    seen.add(facts.pixels)
        return total

    def __iter__(self) -> Iterator[Material]:
        self.rejections = Counter()
        self._calls.start()
        drafts = Drafts()
        documents: list[PageFile] = []
        try:
            for item in self._asked(drafts, documents):
                yield self._counted(item)
            for item in self._compared(drafts, documents):
                yield self._counted(item)
        finally:
            self._calls.stop()
            drafts.close()

    @cached_property
    def _found(self) -> list[PageFile | Rejection]:
        """All pages, and files that cannot be read."""
        found: list[PageFile | Rejection] = []
        for path, name in self._paths:
            try:
                found.extend(pages_in(path, name))
            except ValueError as error:
                found.append(_rejection("unreadable", name, detail=str(error)))
        return found

    def _counted(self, item: Material) -> Material:
        if isinstance(item, Rejection):
            self.rejections[item.reason] += 1  # type: ignore[index]  # all come from `_rejection`
        return item

    def _asked(self, drafts: Drafts, documents: list[PageFile]) -> Iterator[Material]:
        """Ask about all pages, some at a time; yield what became of them in their order."""
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="polyvec-ask")
        pending: deque[Rejection | tuple[PageFile, PageFacts, Future[list[Draft | Fault]]]] = deque()
        try:
            with tqdm(total=len(self._found), desc="Asking", unit=" pages", disable=not self._show_progress) as bar:
                for item in self._to_ask():
                    if isinstance(item, Rejection):
                        pending.append(item)
                    else:
                        page, facts, image = item
                        pending.append((page, facts, pool.submit(self._drafts_of, page, image)))
                    while len(pending) > _AHEAD * self._workers:
                        yield from self._outcome(pending.popleft(), drafts, documents)
                        bar.update()
                while pending:
                    yield from self._outcome(pending.popleft(), drafts, documents)
                    bar.update()
        finally:
            self._calls.stop()  # no thread waits for an answer that nobody wants
            pool.shutdown(cancel_futures=True)

    def _to_ask(self) -> Iterator[Rejection | tuple[PageFile, PageFacts, Image.Image | None]]:
        """Yield the pages that are worth a call, with their pictures if these were drawn, and the others."""
        first_by_pixels: dict[str, str] = {}
        for page in self._found:
            if isinstance(page, Rejection):
                yield page
                continue
            try:
                facts, image = self._reader.facts(page)
            except ValueError as error:
                yield _rejection("unreadable", page.source, detail=str(error))
                continue
            original = first_by_pixels.setdefault(facts.pixels, page.id)
            if facts.is_blank:
                yield _rejection("blank page", page.source)
            elif original != page.id:
                yield _rejection("duplicate page", page.source, detail=original)
            else:
                yield page, facts, image

    def _drafts_of(self, page: PageFile, image: Image.Image | None) -> list[Draft | Fault]:
        def picture() -> Image.Image:
            try:
                return self._reader.picture(page) if image is None else image
            except ValueError as error:  # it could be read before
                raise CallFailedError(str(error)) from error

        ask = partial(self._calls.answer, self._reader.key(page), cache(picture))
        return list(drafts_of_page(ask, self._interview))

    def _outcome(
        self,
        item: Rejection | tuple[PageFile, PageFacts, Future[list[Draft | Fault]]],
        drafts: Drafts,
        documents: list[PageFile],
    ) -> Iterator[Material]:
        if isinstance(item, Rejection):
            yield item
            return
        page, facts, future = item
        outcomes = future.result()
        documents.append(page)
        group = page.file_id if page.n_pages > 1 else ""
        language = self._page_language or self._language_of(facts.text)
        yield CorpusItem(page.id, page.content, facts.text, language, "page", group, page.source)
        for outcome in outcomes:
            if isinstance(outcome, Fault):
                yield _rejection(outcome.reason, outcome.what, document=page.id, detail=outcome.detail)
                continue
            identity = f"{page.id}-{outcome.kind.replace(' ', '-')}-{outcome.number}"
            same = drafts.add(id=identity, text=outcome.text, kind=outcome.kind, page=page.id)
            if same is not None:
                yield _rejection("duplicate", outcome.text, document=page.id, detail=f"same words as {same.id}")

    def _compared(self, drafts: Drafts, documents: Sequence[PageFile]) -> Iterator[Material]:
        """Yield the queries that differ from each other and fit few pages, and the others as rejections."""
        near = drafts.near_duplicates()

        def fault(query: Kept) -> tuple[Reason, str] | None:
            if query.row in near:
                return "duplicate", f"nearly the words of {near[query.row]}"
            n_others = len(query.pages) - 1
            return ("too generic", f"written for {n_others} other pages") if n_others > self._max_other_pages else None

        for query in drafts:
            found = fault(query)
            if found is not None:
                yield _rejection(found[0], query.text, document=query.pages[0], detail=found[1])
        kept = (query for query in drafts if fault(query) is None)
        for query, n_others in self._fitting(kept, documents):
            if n_others > self._max_other_pages:
                detail = f"fits {n_others} other pages"
                yield _rejection("too generic", query.text, document=query.pages[0], detail=detail)
            else:
                yield self._query(query)

    def _fitting(self, queries: Iterable[Kept], documents: Sequence[PageFile]) -> Iterator[tuple[Kept, int]]:
        """Yield queries with the number of other pages that fit them: 0 without an encoder."""
        if self._encoder is None:
            yield from ((query, 0) for query in queries)
            return
        shown = tqdm(documents, "Encoding", unit=" pages", disable=not self._show_progress)
        with page_vectors(self._encoder, shown, self._reader.picture, len(documents)) as vectors:
            yield from fits(self._encoder, queries, vectors)

    def _query(self, query: Kept) -> Query:
        relevant = dict.fromkeys(query.pages, 1)
        return Query(query.id, query.text, relevant, self._interview.language, query.kind, self._name)

    def _language_of(self, text: str) -> str:
        if len(text.strip()) < _ENOUGH_TEXT:
            return ""
        verdict, likeliest = self._languages.judge(text)
        return "" if verdict == "unknown" else likeliest


def _rejection(reason: Reason, what: str, *, document: str = "", detail: str = "") -> Rejection:
    return Rejection(reason, what, document, detail)
