"""What a checkpoint scores on documents, texts and code of the demo world that it never saw."""

from collections.abc import Callable

import numpy as np

from polyvec.demo import pages, world
from polyvec.embedder import Embedder
from polyvec.scoring import cosine, maxsim, ndcg
from polyvec.types import Input, Task

_SEED = 7_000_001  # training draws from other streams

Draw = Callable[[np.random.Generator], tuple[str, Input]]


def scores(embedder: Embedder, *, n: int = 500, show_progress: bool = False) -> dict[str, dict[str, float]]:
    """nDCG@5 of `n` queries over their `n` documents, per kind of document: late interaction and each dense size."""
    return {
        name: _ndcg_by_output(embedder, _distinct(draw, n), task, show_progress=show_progress)
        for name, task, draw in _KINDS
    }


def unseen(task: Task, n: int) -> tuple[str, list[tuple[str, Input]]]:
    """What the first kind of documents of a task is called, and `n` distinct queries with their documents."""
    name, draw = next((name, draw) for name, of, draw in _KINDS if of == task)
    return name, _distinct(draw, n)


def markdown(found: dict[str, dict[str, float]]) -> str:
    """The scores as a Markdown table."""
    columns = list(next(iter(found.values())))
    lines = [f"| nDCG@5 | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    lines += [f"| {name} | {' | '.join(f'{row[column]:.3f}' for column in columns)} |" for name, row in found.items()]
    return "\n".join(lines)


def _ndcg_by_output(
    embedder: Embedder, pairs: list[tuple[str, Input]], task: Task, *, show_progress: bool
) -> dict[str, float]:
    queries = embedder.encode_query([query for query, _ in pairs], task=task, multivector=True)
    documents = embedder.encode_document(
        [document for _, document in pairs], task=task, multivector=True, show_progress=show_progress
    )
    assert queries.multivector is not None
    assert documents.multivector is not None
    own = [{index} for index in range(len(pairs))]
    found = {"late interaction": ndcg(maxsim(queries.multivector, documents.multivector), own, k=5)}
    for size in sorted(embedder.config.matryoshka_dims, reverse=True):
        found[f"dense {size}"] = ndcg(cosine(queries.dense[:, :size], documents.dense[:, :size]), own, k=5)
    return found


def _distinct(draw: Draw, n: int) -> list[tuple[str, Input]]:
    rng = np.random.default_rng(_SEED)
    pairs: dict[str, tuple[str, Input]] = {}
    while len(pairs) < n:
        query, document = draw(rng)
        pairs.setdefault(query, (query, document))
    return list(pairs.values())


def _page(rng: np.random.Generator) -> tuple[str, Input]:
    document = world.document(rng)
    return world.one(world.queries(document, rng), rng), pages.page_image(document, rng)


_KINDS: tuple[tuple[str, Task, Draw], ...] = (
    ("page images", "retrieval", _page),
    ("text passages", "retrieval", world.text_pair),
    ("paraphrases", "text-matching", world.paraphrase_pair),
    ("functions", "code", world.code_pair),
)
