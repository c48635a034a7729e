"""Datasets of the synthetic world that no training saw: documents, and a query for each."""

from collections.abc import Callable, Mapping

import numpy as np

from polyvec.data.folders import Dataset
from polyvec.synthetic import pages, world
from polyvec.types import Input, Task

__all__ = ["TASK_BY_KIND", "dataset"]

_SEED = 7_000_001  # training draws from other streams


def dataset(kind: str, n: int) -> Dataset:
    """Draw `n` distinct queries of a kind in `TASK_BY_KIND`, with one document each."""
    _, draw = _KINDS[kind]
    rng = np.random.default_rng(_SEED)
    document_by_query: dict[str, Input] = {}
    while len(document_by_query) < n:
        query, document = draw(rng)
        document_by_query.setdefault(query, document)
    return Dataset(
        title=f"demo world: {n} {kind} and a query for each",
        queries={str(index): query for index, query in enumerate(document_by_query)},
        documents={str(index): document for index, document in enumerate(document_by_query.values())},
        relevant=[{index: 1.0} for index in range(n)],
    )


def _page(rng: np.random.Generator) -> tuple[str, Input]:
    document = world.document(rng)
    return world.pick(world.queries(document, rng), rng), pages.page_image(document, rng)


_KINDS: Mapping[str, tuple[Task, Callable[[np.random.Generator], tuple[str, Input]]]] = {
    "page images": ("retrieval", _page),
    "text passages": ("retrieval", world.text_pair),
    "paraphrases": ("text-matching", world.paraphrase_pair),
    "functions": ("code", world.code_pair),
}
TASK_BY_KIND: Mapping[str, Task] = {kind: task for kind, (task, _) in _KINDS.items()}
