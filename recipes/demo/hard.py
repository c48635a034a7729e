"""Pairs with hard negatives, which the checkpoint of phase 1 finds: the data of the tasks `retrieval` and `code`."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from polyvec import Embedder
from polyvec.search import Identity
from polyvec.synthetic import pages, world
from polyvec.train.data.examples import Document, Example
from polyvec.train.data.steps import Steps
from polyvec.train.selection.mining import mine_negatives
from polyvec.train.selection.negatives import Selection
from polyvec.train.selection.searching import EncoderSearch
from polyvec.types import Task
from recipes.demo.real import Real, Texts
from recipes.demo.stages import Stage

_PAGES, _TEXTS = 320, 1200
_RANKS = (0, 30)
_PER_QUERY = 3


def hard_steps(stage: Stage, checkpoint: Path, real: Real | None, seed: int) -> Steps:
    """Mine with a checkpoint, and plan the steps of a stage."""
    assert stage.task is not None
    assert real is not None
    rng = np.random.default_rng((seed, *stage.name.encode()))
    if stage.task == "code":
        functions = [world.code_pair(rng) for _ in range(_TEXTS)]
        sources = [_by_text(real.pairs["description-to-code"]), _by_text(functions)]
    else:
        texts = [world.text_pair(rng) for _ in range(_TEXTS)]
        sources = [_by_text(real.pairs["question-to-answer"]), _by_text(texts), _by_page(rng)]
    encoder = Embedder.from_pretrained(checkpoint, dtype=torch.float32)
    return Steps(
        [_with_negatives(encoder, source, stage.task) for source in sources],
        n_texts=stage.n_texts,
        n_images=sum(number for _, number in stage.pictures.values()),
        seed=seed,
        n_steps=stage.steps,
        n_negatives=1,
    )


def _by_text(pairs: Iterable[Texts]) -> list[Example]:
    return [Example(query, [document]) for query, document in pairs]


def _by_page(rng: np.random.Generator) -> list[Example]:
    examples = []
    for _ in range(_PAGES):
        document = world.document(rng)
        picture = pages.page_image(document, rng)
        examples += [Example(query, [picture]) for query in world.queries(document, rng)[:2]]
    return examples


def _with_negatives(encoder: Embedder, examples: list[Example], task: Task) -> list[Example]:
    documents: dict[Identity, Document] = {str(id(document)): document for e in examples for document in e.positives}
    search = EncoderSearch(encoder, documents, task=task, multivector=False, show_progress=True)
    selection = Selection(per_query=_PER_QUERY)
    mined = mine_negatives(examples, search, task=task, ranks=_RANKS, selection=selection, show_progress=True)
    return [found.applied(example) for example, found in zip(examples, mined, strict=True)]
