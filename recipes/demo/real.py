"""Real English and real Python: the standard library's part for training, and this repository's documents."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from polyvec.data.building.code.real import Kind, python_material
from polyvec.data.building.material import CorpusItem, Query

KINDS: tuple[Kind, ...] = ("description-to-code", "code-to-description", "code-to-code", "question-to-answer")
_ROOT = Path(__file__).parents[2]
Texts = tuple[str, str]


def real_pairs(directory: Path, kind: Kind) -> list[Texts]:
    """Return queries and their documents of the part for training; they are drawn once and kept in a file."""
    file = directory / f"{kind}.json"
    if not file.exists():
        documents: dict[str, str] = {}
        relevant: list[tuple[str, str]] = []
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
    yield from sections()


def sections() -> Sequence[str]:
    """Return the paragraphs of this repository's guides."""
    files = sorted([*_ROOT.glob("*.md"), *_ROOT.glob("docs/*.md"), *_ROOT.glob("packages/*/README.md")])
    return [part for file in files for part in file.read_text(encoding="utf-8").split("\n\n") if len(part) > 60]
