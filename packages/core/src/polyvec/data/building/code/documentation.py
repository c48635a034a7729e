"""Questions of technical documentation and the sections that answer them."""

import ast
import inspect
import re
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from polyvec.data.building.code.descriptions import describes, description, explanation, is_alias
from polyvec.data.building.code.functions import ModuleFile
from polyvec.data.building.code.pairs import key_of
from polyvec.data.building.code.sections import markdown_sections, rest_sections
from polyvec.data.building.material import CorpusItem, Material, Query, Rejection

__all__ = ["Article", "Docstring", "articles_in", "docstrings_of", "explanations", "questions"]

_QUESTION = re.compile(
    r"(?:how (?:do|does|can|to|should|is|are|would)|what|why|when (?:should|do|is|to)|where (?:do|can|is|are)|which|"
    r"who|can (?:i|we|you)|do i|does|is (?:it|there)|should i)\b",
    re.I,
)
_MARKUP_BY_SUFFIX: dict[str, Literal["markdown", "rest"]] = {".md": "markdown", ".markdown": "markdown", ".rst": "rest"}
_FEWEST_WORDS = 12  # of an answer
_LONGEST = 4_000  # characters of an answer; it ends with a paragraph


@dataclass(frozen=True, slots=True)
class Article:
    """A text with headings. `name` begins its ids."""

    name: str
    text: str
    markup: Literal["markdown", "rest"]
    source: str


@dataclass(frozen=True, slots=True)
class Docstring:
    """The docstring of a module, class or function."""

    id: str
    text: str
    source: str


def articles_in(folders: Iterable[Path]) -> Iterator[Article | Rejection]:
    """Yield the Markdown and reST files of folders, and files that are given themselves."""
    for folder in folders:
        if not folder.exists():
            raise ValueError(f"{str(folder)!r} is no file or folder.")
        paths = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
        for path in paths:
            markup = _MARKUP_BY_SUFFIX.get(path.suffix.lower())
            name = path.name if folder.is_file() else path.relative_to(folder.parent).as_posix()
            if markup is None or "/." in f"/{name}":
                continue
            try:
                yield Article(name, path.read_text("utf-8"), markup, str(path))
            except (OSError, UnicodeDecodeError) as error:
                yield Rejection("unreadable file", name, detail=f"{path}: {error}")


def questions(
    articles: Iterable[Article | Rejection], *, headings: bool = False, language: str = ""
) -> Iterator[Material]:
    """Yield sections whose heading is a question as documents, and the headings as queries.

    A heading is a question if it ends with a question mark, or begins as a question does ("How to …"). With `headings`,
    other headings of two words or more are queries, too. A heading that several different sections have is none.
    """
    places: dict[bytes, list[Query]] = {}
    answers: dict[bytes, str] = {}
    for article in articles:
        if isinstance(article, Rejection):
            yield article
            continue
        read = markdown_sections if article.markup == "markdown" else rest_sections
        for number, section in enumerate(read(article.text), 1):
            identity = f"{article.name}#{number}"
            heading = section.heading.strip()
            is_question = heading.endswith("?") or _QUESTION.match(heading) is not None
            n_words = len(heading.split())
            if not is_question and (not headings or n_words < 2):
                yield Rejection("no question", heading, document=identity)
            elif n_words < 2 + is_question:
                yield Rejection("too short", heading, document=identity, detail="the question")
            elif len(re.findall(r"\w+", section.text)) < _FEWEST_WORDS:
                yield Rejection("too short", heading, document=identity, detail=f"the answer: {section.text}")
            else:
                text = _cut(section.text)
                if (key := key_of(text)) not in answers:
                    answers[key] = identity
                    yield CorpusItem(
                        identity, text, language=language, kind="section", group=article.name, source=article.source
                    )
                kind, origin = ("question", "question") if is_question else ("key phrase", "heading")
                query = Query(identity, heading, {answers[key]: 1}, language, kind, origin)
                places.setdefault(key_of(heading), []).append(query)
    for queries in places.values():
        yield from _unambiguous(queries)


def docstrings_of(files: Iterable[ModuleFile]) -> Iterator[Docstring | Rejection]:
    """Yield the docstrings of modules, and of their classes, functions and methods."""
    for file in files:
        try:
            with tokenize.open(file.path) as stream, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(stream.read())
        except (SyntaxError, ValueError, OSError, RecursionError, MemoryError) as error:
            yield Rejection("unreadable Python", file.name, detail=f"{file.path}: {error}")
            continue
        seen: dict[str, int] = {}
        for qualname, node in _documented(tree, ""):
            text = ast.get_docstring(node, clean=False)
            name = f"{file.name}:{qualname}".removesuffix(":")
            seen[name] = seen.get(name, 0) + 1
            if text:
                yield Docstring(name if seen[name] == 1 else f"{name}#{seen[name]}", text, str(file.path))


def explanations(docstrings: Iterable[Docstring | Rejection], *, language: str = "") -> Iterator[Material]:
    """Yield what docstrings explain as documents, and the sentences that they begin with as queries."""
    places: dict[bytes, list[Query]] = {}
    answers: dict[bytes, str] = {}
    for docstring in docstrings:
        if isinstance(docstring, Rejection):
            yield docstring
            continue
        summary, text = description(docstring.text), _cut(explanation(docstring.text))
        if len(summary.split()) < 4 or is_alias(summary):
            yield Rejection("too short", summary or docstring.id, document=docstring.id, detail="the summary")
        elif len(re.findall(r"[^\W\d_]{2,}", text)) < 2 * _FEWEST_WORDS:
            yield Rejection("too short", summary, document=docstring.id, detail="the explanation")
        elif describes(summary, text):
            yield Rejection("repeated in its answer", summary, document=docstring.id)
        else:
            if (key := key_of(text)) not in answers:
                answers[key] = docstring.id
                yield CorpusItem(docstring.id, text, language=language, kind="explanation", source=docstring.source)
            query = Query(docstring.id, summary, {answers[key]: 1}, language, "statement", "docstring")
            places.setdefault(key_of(summary), []).append(query)
    for queries in places.values():
        yield from _unambiguous(queries)


def _unambiguous(queries: list[Query]) -> Iterator[Query | Rejection]:
    """Yield the first of equal queries if they have one answer."""
    first, *others = queries
    answers = {identity for query in queries for identity in query.relevant}
    if len(answers) == 1:
        yield first
    else:
        detail = f"{len(answers)} different answers"
        yield from (Rejection("duplicate question", query.text, query.id, detail) for query in (first, *others))


def _documented(
    scope: ast.Module | ast.ClassDef, prefix: str
) -> Iterator[tuple[str, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    yield prefix.removesuffix("."), scope
    for node in scope.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _documented(node, f"{prefix}{node.name}.")


def _cut(text: str) -> str:
    """Return a text up to the last paragraph that ends within 4,000 characters; at least as much of the first."""
    text = inspect.cleandoc(text).strip()
    if len(text) <= _LONGEST:
        return text
    end = text.rfind("\n\n", 0, _LONGEST)
    return text[: end if end > 0 else _LONGEST].rstrip()
