"""Queries from templates, with the documents that answer them: all of them, and no others."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from polyvec.data.building.material import Query, Rejection
from polyvec.data.building.tables.facts import Fact, Question, facts, questions, tells_apart
from polyvec.data.building.tables.sheets import Sheet
from polyvec.data.building.tables.style import generator
from polyvec.data.building.tables.templates import KINDS, Wordings

__all__ = ["Draft", "answered", "drafts"]

_VOWELS = "aeiou"
_ELISION = re.compile(r"\bde (\{(\w+)\})")
_ARTICLE = re.compile(r"([Aa])\(z\)( „?)(\{(\w+)\})")


@dataclass(frozen=True, slots=True)
class Draft:
    """A query before its answers are known: what a document must say, and the document that it was made for."""

    language: str
    text: str
    kind: str
    document: str
    facts: tuple[Fact, ...]
    is_comparison: bool = False


def drafts(
    sheet: Sheet, words: Mapping[str, Wordings], *, n: int, kinds: Sequence[str] = (), seed: int = 0
) -> Iterator[Draft]:
    """Yield up to `n` queries about a document in each language, of as many kinds as there are.

    `kinds` are those that are accepted; without any, all are.
    """
    by_template: dict[str, list[Question]] = {}
    for question in questions(sheet):
        if not kinds or KINDS[question.template] in kinds:
            by_template.setdefault(question.template, []).append(question)
    for language, wording in words.items():
        rng = generator(seed, "queries", sheet.id, language)
        order = [list(by_template)[int(i)] for i in rng.permutation(len(by_template))]
        seen: dict[str, int] = {}
        ranks = [seen.setdefault(KINDS[name], 0) for name in order]
        for position, name in enumerate(order):  # the first template of each kind, then the second of each
            ranks[position] = seen[KINDS[name]]
            seen[KINDS[name]] += 1
        for _, name in sorted(zip(ranks, order, strict=True), key=lambda pair: pair[0])[:n]:
            choices = by_template[name]
            question = choices[int(rng.integers(len(choices)))]
            texts = wording.templates[name]
            text = _filled(texts[int(rng.integers(len(texts)))], question.words, language)
            yield Draft(language, text, KINDS[name], sheet.id, question.facts, question.is_comparison)


def answered(made: Iterable[Draft], sheets: Iterable[Sheet], *, max_answers: int) -> Iterator[Query | Rejection]:
    """Yield each query with all documents that answer it, or reject it if these are more than `max_answers`.

    Drafts of one text are one query; it is answered by what answers any of them.
    """
    by_text: dict[tuple[str, str], dict[tuple[Fact, ...], Draft]] = {}
    documents: dict[Fact, dict[str, Sheet]] = {}
    for draft in made:
        by_text.setdefault((draft.language, draft.text), {}).setdefault(draft.facts, draft)
        documents.update((fact, {}) for fact in draft.facts)
    for sheet in sheets:
        for fact in facts(sheet):
            if (answers := documents.get(fact)) is not None:
                answers[sheet.id] = sheet
    for (language, text), meanings in by_text.items():
        relevant: dict[str, int] = {}
        for needs, draft in meanings.items():
            say_all = set[str].intersection(*(set(documents[fact]) for fact in needs))
            for document, sheet in documents[needs[0]].items():
                if document in say_all and (not draft.is_comparison or tells_apart(sheet, needs[0], needs[1])):
                    relevant[document] = 1
        first = next(iter(meanings.values()))
        if len(relevant) > max_answers:
            yield Rejection("too many answers", text, first.document, f"{len(relevant)} documents answer it")
        else:
            digest = hashlib.sha256(f"{language}\0{text}".encode()).hexdigest()[:16]
            yield Query(f"{language}-{digest}", text, relevant, language, first.kind, "template")


def _filled(template: str, words: Mapping[str, str], language: str) -> str:
    if language == "en":
        names = ("measure", "point_name", "name_a", "name_b")
        words = {slot: _lowered(word) if slot in names else word for slot, word in words.items()}
    elif language == "fr":
        template = _ELISION.sub(
            lambda match: "d’" + match[1] if _begins(words[match[2]], _VOWELS) else match[0], template
        )
    elif language == "hu":
        template = _ARTICLE.sub(lambda match: _article(match, words[match[4]]), template)
    text = template.format(**words)
    if text.endswith("..") and not template.endswith(".."):
        text = text[:-1]  # a cell that ends with a full stop
    return text if template.startswith("{subject}") else text[0].upper() + text[1:]


def _article(match: re.Match[str], word: str) -> str:
    """Return the Hungarian article by how the word behind it begins, as it is spoken."""
    number = re.match(r"\d+", word)
    spoken = number and (word[0] == "5" or (word[0] == "1" and len(number[0]) % 3 == 1))  # öt, egy, ezer, egymillió
    vowel = spoken or _begins(word, _VOWELS)
    return f"{match[1]}{'z' if vowel else ''}{match[2]}{match[3]}"


def _begins(word: str, letters: str) -> bool:
    return unicodedata.normalize("NFD", word)[:1].lower() in letters


def _lowered(name: str) -> str:
    """Return a header as it stands inside an English sentence: `Closing Price` in small letters, `GDP` as it is."""
    return " ".join(word.lower() if word[1:].islower() else word for word in name.split(" "))
