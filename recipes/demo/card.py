"""The figures on the card of the demo checkpoint. All data are unseen: of the demo world, or real ones held out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from polyvec.analyze.paired import Paired
from polyvec.analyze.panel import analyze
from polyvec.data.building.code.real import Kind, python_material
from polyvec.data.building.material import CorpusItem, Query
from polyvec.data.datasets import Dataset
from polyvec.encoder import Encoder
from polyvec.evaluate.metrics import ndcg
from polyvec.evaluate.results import results
from polyvec.evaluate.searches import EvaluateMode, evaluate
from polyvec.retrieval import EncodedDataset, encode_dataset, scores
from polyvec.scoring import pairwise_cosine
from polyvec.synthetic import pages, world
from polyvec.synthetic.datasets import TASK_BY_KIND, dataset
from polyvec.types import TASKS, Input, Task

PAGES, TEXTS = 200, 500  # items of each kind of the demo world
_UNSEEN = 7_000_003
_MODES: Sequence[EvaluateMode] = ("late", "dense", "hybrid")
_NAMES: Mapping[Kind, str] = {
    "description-to-code": "description → function",
    "code-to-description": "function → description",
    "code-to-code": "function → function of the same logic",
    "question-to-answer": "summary → explanation",
}
_REAL_TASKS: Mapping[Kind, Task] = {
    "description-to-code": "code",
    "code-to-description": "code",
    "code-to-code": "code",
    "question-to-answer": "retrieval",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A table: a row of the card for each name. Figures have three decimals; a text stands as it is."""

    heading: str
    rows: Mapping[str, Mapping[str, float | str]]

    def markdown(self) -> str:
        """Write the table as Markdown."""
        columns = list(next(iter(self.rows.values())))
        lines = [f"| {self.heading} | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
        for name, row in self.rows.items():
            lines.append(f"| {name} | {' | '.join(_cell(row[column]) for column in columns)} |")
        return "\n".join(lines)


def _cell(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3f}"


def world_table(encoder: Encoder, kinds: Sequence[str] = tuple(TASK_BY_KIND)) -> Table:
    """Return nDCG@5 of queries over documents of the demo world, by kind of document and by output."""
    rows = {}
    for kind in kinds:
        encoded = _encoded(encoder, kind, TASK_BY_KIND[kind])
        by_output = {"late": scores(encoded, mode="late")}
        for size in sorted(encoder.sizes, reverse=True):
            by_output[f"dense {size}"] = scores(encoded, mode="dense", truncate_dim=size)
        rows[kind] = {name: ndcg(output, encoded.relevant, k=5) for name, output in by_output.items()}
    return Table("nDCG@5", rows)


def adapters_table(encoder: Encoder, held_out: Dataset) -> Table:
    """Return what each adapter makes of the data of each task; `held_out` are real descriptions and functions."""
    rows: dict[str, dict[str, float]] = {
        "page images, nDCG@5": {},
        "sentences, Spearman": {},
        "screenshots of them, Spearman": {},
        "real functions, nDCG@10": {},
    }
    for task in TASKS:
        encoded = _encoded(encoder, "page images", task)
        rows["page images, nDCG@5"][task] = ndcg(scores(encoded, mode="dense"), encoded.relevant, k=5)
        rows["sentences, Spearman"][task] = spearman(encoder, task, TEXTS, screenshots=False)
        rows["screenshots of them, Spearman"][task] = spearman(encoder, task, PAGES, screenshots=True)
        encoded = encode_dataset(encoder, held_out, task=task)
        rows["real functions, nDCG@10"][task] = ndcg(scores(encoded, mode="dense"), encoded.relevant, k=10)
    return Table("dense, with the adapter", rows)


def spearman(encoder: Encoder, task: Task, n: int, *, screenshots: bool) -> float:
    """Return the rank correlation of cosines and shares of common facts, between sentences or with their pictures."""
    rng = np.random.default_rng(_UNSEEN)
    firsts: list[str] = []
    seconds: list[Input] = []
    gold: list[float] = []
    for _ in range(n):
        first, second, share = world.graded_pair(rng)
        firsts.append(first)
        seconds.append(pages.statement_image(second, rng) if screenshots else second)
        gold.append(share)
    first_vectors = encoder.encode_query(firsts, task=task).dense
    second_vectors = encoder.encode_document(seconds, task=task).dense
    return float(spearmanr(pairwise_cosine(first_vectors, second_vectors), gold).statistic)


def real_table(encoder: Encoder, kinds: Sequence[Kind] = tuple(_NAMES)) -> Table:
    """Return nDCG@10 on the held-out part of the standard library, by kind of search; BM25 reads words in names."""
    rows = {}
    for kind in kinds:
        run = evaluate(
            encoder, held_out(kind), task=_REAL_TASKS[kind], modes=("late", "dense", "hybrid"), storage=False
        )
        by_search = {found.kind: found.values["ndcg@10"].mean for found in results(run, ks=(10,), n_resamples=1)}
        rows[_NAMES[kind]] = {mode: by_search[mode] for mode in _MODES} | {"BM25": by_search["text"]}
    return Table("nDCG@10", rows)


def held_out(kind: Kind) -> Dataset:
    """Return real data that no training saw."""
    documents: dict[str, Input] = {}
    queries: dict[str, Query] = {}
    for item in python_material("held-out", kind=kind):
        if isinstance(item, CorpusItem):
            documents[item.id] = str(item.content)
        elif isinstance(item, Query):
            queries[item.id] = item
    position = {identity: index for index, identity in enumerate(documents)}
    return Dataset(
        title=f"standard library, held out: {kind}",
        queries={identity: query.text for identity, query in queries.items()},
        documents=documents,
        relevant=[
            {position[document]: float(grade) for document, grade in query.relevant.items()}
            for query in queries.values()
        ],
    )


def gap_table(encoders: Mapping[str, Encoder]) -> Table:
    """Return measures of the modality gap between page images and their queries, for some checkpoints."""
    rows = {}
    for name, encoder in encoders.items():
        encoded = _encoded(encoder, "page images", "retrieval")
        pairs = np.array([(next(iter(judged)), row) for row, judged in enumerate(encoded.relevant)])
        panel = analyze(Paired(encoded.documents.dense, encoded.queries.dense, pairs))
        rows[name] = {
            "length of the gap": panel.gap.l2m,
            "relative gap": panel.gap.rmg,
            "matched cosine": panel.alignment.mean,
        }
    return Table("page images and their queries", rows)


def _encoded(encoder: Encoder, kind: str, task: Task) -> EncodedDataset:
    return encode_dataset(encoder, dataset(kind, PAGES if kind == "page images" else TEXTS), task=task)


def tables(encoder: Encoder) -> Iterator[Table]:
    """Yield all tables about one checkpoint."""
    yield world_table(encoder)
    yield real_table(encoder)
    yield adapters_table(encoder, held_out("description-to-code"))
