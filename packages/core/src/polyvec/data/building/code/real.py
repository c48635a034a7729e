"""Datasets of what every Python has, in a part for training and a part that no training may see."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Literal, get_args

from polyvec.data.building.code.documentation import docstrings_of, explanations, questions
from polyvec.data.building.code.functions import Function, ModuleFile, functions_of
from polyvec.data.building.code.installed import Part, installed_articles, installed_modules, part_of
from polyvec.data.building.code.overlap import crossing
from polyvec.data.building.code.pairs import code_to_description, description_to_code
from polyvec.data.building.code.spools import Spool
from polyvec.data.building.code.text_pages import as_pages
from polyvec.data.building.code.variants import code_to_code
from polyvec.data.building.material import CorpusItem, Material, Query, Rejection

__all__ = ["KINDS", "Kind", "python_material"]

Kind = Literal["description-to-code", "code-to-description", "code-to-code", "question-to-answer", "pages"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_FROM_FUNCTIONS: dict[str, Callable[[Iterable[Function | Rejection]], Iterator[Material]]] = {
    "description-to-code": partial(description_to_code, language="en"),
    "code-to-description": partial(code_to_description, language="en"),
    "code-to-code": code_to_code,
}


def python_material(
    part: Part, *, kind: Kind = "description-to-code", packages: bool = False, only: Collection[str] = ()
) -> Iterator[Material]:
    """Yield one part of the functions, or of the explanations and questions, that every Python brings.

    The parts are split by `part_of`, so a module is in one of them. What the part for training shares with the held-out
    part all the same, or nearly shares, is rejected: a description, the code of a function under whatever names, a
    question, an answer.

    Args:
        part: `train` or `held-out`.
        kind: what is a query and what a document. `pages` are the answers of `question-to-answer` as images.
        packages: use the installed packages, too, not only the standard library. What there is then differs by machine.
        only: names of top-level modules. Default: all.

    Raises:
        ValueError: an unknown part or kind.
    """
    if part not in get_args(Part):
        raise ValueError(f"`part` is {part!r}; it may be 'train' or 'held-out'.")
    if kind not in KINDS:
        raise ValueError(f"`kind` is {kind!r}; it may be {', '.join(map(repr, KINDS))}.")
    if kind in _FROM_FUNCTIONS:
        return _FROM_FUNCTIONS[kind](_functions(part, packages=packages, only=only))
    answers = _answers(part, packages=packages, only=only)
    return as_pages(answers) if kind == "pages" else answers


def _modules(part: Part, *, packages: bool, only: Collection[str]) -> Iterator[ModuleFile]:
    return (file for file in installed_modules(packages=packages, only=only) if part_of(file.name) == part)


class _FunctionTexts(Spool):
    """Functions on disk; what must not cross is what they do and their code."""

    def texts(self, index: int) -> Sequence[str]:
        function = self[index]
        return function.description, function.code, function.normal_form


def _functions(part: Part, *, packages: bool, only: Collection[str]) -> Iterator[Function | Rejection]:
    read = partial(_modules, packages=packages, only=only)
    if part == "held-out":
        yield from functions_of(read(part))
        return
    held_out, training = _FunctionTexts(), _FunctionTexts()
    for function in functions_of(read("held-out")):
        if isinstance(function, Function):
            held_out.append(function)
    for function in functions_of(read("train")):
        if isinstance(function, Function):
            training.append(function)
        else:
            yield function
    reasons = crossing(held_out, training)
    for index, function in enumerate(training):
        yield Rejection(reasons[index], function.id, detail=function.description) if index in reasons else function


class _AnswerTexts:
    """Queries with one answer each; neither must cross."""

    def __init__(self, material: Iterable[Material]) -> None:
        self.rejections: list[Rejection] = []
        self.documents: dict[str, CorpusItem] = {}
        self.queries: list[Query] = []
        for item in material:
            match item:
                case CorpusItem():
                    self.documents[item.id] = item
                case Query():
                    self.queries.append(item)
                case Rejection():
                    self.rejections.append(item)

    def __len__(self) -> int:
        return len(self.queries)

    def texts(self, index: int) -> Sequence[str]:
        query = self.queries[index]
        return query.text, str(self.documents[next(iter(query.relevant))].content)


def _answers(part: Part, *, packages: bool, only: Collection[str]) -> Iterator[Material]:
    def of(which: Part) -> Iterator[Material]:
        docstrings = docstrings_of(_modules(which, packages=packages, only=only))
        yield from explanations(docstrings, language="en")
        if packages:
            articles = (article for module, article in installed_articles(only=only) if part_of(module) == which)
            yield from questions(articles)

    if part == "held-out":
        yield from of(part)
        return
    training = _AnswerTexts(of("train"))
    reasons = crossing(_AnswerTexts(of("held-out")), training)
    used: dict[str, None] = {}
    kept: list[Query] = []
    for index, query in enumerate(training.queries):
        if index in reasons:
            yield Rejection(reasons[index], query.text, next(iter(query.relevant)))
        else:
            kept.append(query)
            used |= dict.fromkeys(query.relevant)
    yield from chain(training.rejections, (training.documents[identity] for identity in used), kept)
