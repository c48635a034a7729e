"""What each part of the training is worth: small variants that read texts of the demo world, with several seeds."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from unittest import mock

import torch

from polyvec import Embedder
from polyvec.evaluate.metrics import ndcg
from polyvec.retrieval import encode_dataset, scores
from polyvec.synthetic.datasets import TASK_BY_KIND, dataset
from polyvec.train.loss.objective import Losses, Weights
from polyvec.types import TASKS, Task
from polyvec.whole_files import write_text
from recipes.demo.card import TEXTS, Table, spearman
from recipes.demo.network import blank
from recipes.demo.stages import Stage
from recipes.demo.training import LOSSES, run

logger = logging.getLogger(__name__)

PAIRS, TASK = 120, 40  # steps of phase 1, and of each task in phase 2
_BATCH = 64
_KINDS: Mapping[Task, str] = {"retrieval": "passage", "text-matching": "graded", "code": "function"}
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to train.

    Attributes:
        losses: of all steps.
        prefixes: whether "Query: " and "Passage: " stand before the texts, in training and after it.
        gold: whether text-matching has gold scores. Without them it has pairs that state the same, and nothing between.
        pairs_first: whether all tasks begin with what phase 1 learned. Without it, each trains a whole network on its
            own pairs alone, for as many steps as both phases have.
    """

    losses: Losses = LOSSES
    prefixes: bool = True
    gold: bool = True
    pairs_first: bool = True


def _weighted(dense: float, late: float, kl: float) -> Losses:
    weights = Weights(dense, late, kl)
    return replace(LOSSES, text=weights, images=weights)


WHOLE = "all parts"
VARIANTS: Mapping[str, Variant] = {
    WHOLE: Variant(),
    "without KL": Variant(_weighted(1, 1, 0)),
    "without prefixes": Variant(prefixes=False),
    "without gold scores": Variant(gold=False),
    "without Matryoshka": Variant(replace(LOSSES, matryoshka_weights={"32": 0, "64": 0, "128": 0, "256": 1})),
    "without phase 1": Variant(pairs_first=False),
    "dense alone": Variant(_weighted(1, 0, 0)),
    "late alone": Variant(_weighted(0, 1, 0)),
}


def ablate(directory: Path, seeds: Sequence[int], variants: Mapping[str, Variant] = VARIANTS) -> Table:
    """Train and measure all variants with each seed. What `directory` holds already is not done again."""
    figures: dict[str, list[Figures]] = {name: [] for name in variants}
    for seed in seeds:
        for name, variant in variants.items():
            figures[name].append(_figures(directory / f"seed-{seed}", name, variant, seed))
            logger.info("%s, seed %d: %s", name, seed, figures[name][-1])
    return differences(figures)


def differences(figures: Mapping[str, Sequence[Figures]]) -> Table:
    """Return the figures with all parts, and what the others differ by: means over seeds, and standard deviations."""
    rows: dict[str, dict[str, float | str]] = {}
    for name, by_seed in figures.items():
        rows[name] = {}
        for column in by_seed[0]:
            whole = [one[column] for one in figures[WHOLE]]
            values = [one[column] for one in by_seed]
            if name == WHOLE:
                rows[name][column] = f"{mean(values):.3f} ± {stdev(values):.3f}"
            else:
                changes = [value - base for value, base in zip(values, whole, strict=True)]
                rows[name][column] = f"{mean(changes):+.3f} ± {stdev(changes):.3f}"
    return Table("change, over seeds", rows)


def _figures(folder: Path, name: str, variant: Variant, seed: int) -> Figures:
    file = folder / f"{name}.json"
    if not file.exists():
        with _prefixes(variant):
            by_task = dict(_trained(folder, name, variant, seed))
            write_text(file, json.dumps(_measured(by_task)))
    figures: Figures = json.loads(file.read_text(encoding="utf-8"))
    return figures


def _prefixes(variant: Variant) -> AbstractContextManager[object]:
    # The prefixes belong to the checkpoint's convention, so the library has no setting that takes them away.
    return nullcontext() if variant.prefixes else mock.patch("polyvec.prompts._PREFIXES", {"query": "", "document": ""})


def _trained(folder: Path, name: str, variant: Variant, seed: int) -> Iterator[tuple[Task, Path]]:
    """Train a variant; yield the checkpoint of each task."""
    start = folder / "blank"
    blank(start, [], seed)
    if variant.pairs_first:
        stage = Stage("pairs", PAIRS, 2e-3, _BATCH, {"world": 1}, zero_after=PAIRS)
        begun = folder / f"{WHOLE if replace(variant, gold=True) == Variant() else name}, pairs"
        run(stage, start, begun, None, losses=variant.losses, seed=seed)
    for task in TASKS:
        kind = "same facts" if task == "text-matching" and not variant.gold else _KINDS[task]
        target = folder / f"{name}, {task}"
        if variant.pairs_first:
            stage = Stage(task, TASK, 1e-3, _BATCH, {kind: 1}, task=task, zero_after=TASK)
            run(stage, begun, target, None, losses=variant.losses, seed=seed)
        else:
            stage = Stage(task, PAIRS + TASK, 2e-3, _BATCH, {kind: 1}, zero_after=PAIRS + TASK)
            run(stage, start, target, None, losses=variant.losses, seed=seed)
        yield task, target


def _measured(by_task: Mapping[Task, Path]) -> Figures:
    encoders = {task: Embedder.from_pretrained(path, dtype=torch.float32) for task, path in by_task.items()}
    figures: Figures = {}
    for kind in ("text passages", "functions"):
        task = TASK_BY_KIND[kind]
        encoded = encode_dataset(encoders[task], dataset(kind, TEXTS), task=task)
        figures[f"{kind}, late"] = ndcg(scores(encoded, mode="late"), encoded.relevant, k=5)
        for size in (256, 32):
            ranked = scores(encoded, mode="dense", truncate_dim=size)
            figures[f"{kind}, dense {size}"] = ndcg(ranked, encoded.relevant, k=5)
    figures["sentences, Spearman"] = spearman(encoders["text-matching"], "text-matching", TEXTS, screenshots=False)
    return figures
