"""Real English and real Python: the standard library's part for training, and this repository's guides."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from polyvec.data.building.code.real import Kind, python_material
from polyvec.data.building.material import CorpusItem, Query
from polyvec.synthetic.world import pick

KINDS: tuple[Kind, ...] = ("description-to-code", "code-to-description", "code-to-code", "question-to-answer")
Texts = tuple[str, str]  # a query and its document

_ROOT = Path(__file__).parents[2]
_DEFINED = re.compile(r"(?:async )?(?:def|class) (\w+)")
_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_SHORT = 20  # characters: a sentence or a line with fewer is no query


def real_pairs(directory: Path, kind: Kind) -> list[Texts]:
    """Return queries and their documents of the part for training; they are drawn once and kept in `directory`."""
    file = directory / f"{kind}.json"
    if not file.exists():
        documents: dict[str, str] = {}
        relevant: list[Texts] = []
        for item in python_material("train", kind=kind):
            if isinstance(item, CorpusItem):
                documents[item.id] = str(item.content)
            elif isinstance(item, Query):
                relevant += [(item.text, document) for document in item.relevant]
        directory.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(json.dumps([(query, documents[document]) for query, document in relevant]), encoding="utf-8")
        part.rename(file)
    return [(query, document) for query, document in json.loads(file.read_text(encoding="utf-8"))]


def real_texts(directory: Path) -> Iterator[str]:
    """Yield all texts for training."""
    yield from chain.from_iterable(chain.from_iterable(real_pairs(directory, kind) for kind in KINDS))
    yield from _guides()


class Real:
    """Draws pairs of real texts, each kind of pair by its name.

    Beside the four kinds of `polyvec data python` there are three that need no author: `name` asks for a function by
    the words of its name, which is not in the document; `lines` asks for the function that some lines come from; and
    `sentence` asks for the paragraph that a sentence comes from (the inverse cloze task, arXiv 1906.00300).
    """

    def __init__(self, directory: Path) -> None:
        """Read the texts, or draw and keep them in `directory`."""
        self.pairs: dict[str, list[Texts]] = {kind: real_pairs(directory, kind) for kind in KINDS}
        functions = sorted({document for _, document in self.pairs["description-to-code"]})
        answers = {document for _, document in self.pairs["question-to-answer"]}
        self._derived: Mapping[str, tuple[Sequence[str], Callable[[str, np.random.Generator], Texts | None]]] = {
            "name": (functions, _named),
            "lines": (functions, _lines),
            "sentence": (sorted(answers | set(_guides())), _sentence),
        }

    def draw(self, kind: str, rng: np.random.Generator) -> Texts:
        """Draw a pair."""
        if kind in self.pairs:
            return pick(self.pairs[kind], rng)
        texts, derive = self._derived[kind]
        while True:
            pair = derive(pick(texts, rng), rng)
            if pair is not None:
                return pair


def _named(function: str, _: np.random.Generator) -> Texts | None:
    found = _DEFINED.match(function)
    if found is None:
        return None
    words = _WORD_START.sub(" ", found[1]).replace("_", " ").strip()
    return words, re.sub(rf"\b{found[1]}\b", "f", function)


def _lines(function: str, rng: np.random.Generator) -> Texts | None:
    lines = function.split("\n")
    chosen = [index for index, line in enumerate(lines) if index and len(line.strip()) > _SHORT]
    if len(chosen) < 3:
        return None
    first = pick(chosen, rng)
    last = first + 1 + int(rng.integers(2))
    return "\n".join(lines[first:last]), "\n".join([*lines[:first], *lines[last:]])


def _sentence(text: str, rng: np.random.Generator) -> Texts | None:
    sentences = _SENTENCE_END.split(text)
    chosen = [index for index, sentence in enumerate(sentences) if len(sentence) > _SHORT]
    if len(chosen) < 2:
        return None
    index = pick(chosen, rng)
    return sentences[index], " ".join([*sentences[:index], *sentences[index + 1 :]])


def _guides() -> list[str]:
    """Return the paragraphs of this repository's guides."""
    files = sorted([*_ROOT.glob("*.md"), *_ROOT.glob("docs/*.md"), *_ROOT.glob("packages/*/README.md")])
    return [part for file in files for part in file.read_text(encoding="utf-8").split("\n\n") if len(part) > 3 * _SHORT]
