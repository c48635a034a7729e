"""What training costs: `python benchmarks/training.py`.

The joint step of both heads, and beside it a step that trains the dense head and then one that trains late
interaction, on the same pairs: forward, loss, backward and optimizer, in turns.
"""

import os
import tempfile
import time
from pathlib import Path

import torch
from made import images, medium, texts

from polyvec.model.checkpoint import Checkpoint
from polyvec.model.processing import Processor
from polyvec.train.data.batches import StepCollator
from polyvec.train.data.examples import Pair, Step
from polyvec.train.loop.gradcache import cached_loss
from polyvec.train.loop.trainer import trainable
from polyvec.train.loss.objective import Losses, Weights, terms

N_TEXTS, N_IMAGES = 24, 4  # pairs of a step
ROUNDS = 7
HEADS = {"joint": Weights(), "dense": Weights(late=0.0, kl=0.0), "late": Weights(dense=0.0, kl=0.0)}


def steps() -> None:
    """Print how many pairs per second the joint step and two separate steps train on."""
    with tempfile.TemporaryDirectory() as folder:
        medium(Path(folder))
        checkpoint = Checkpoint(Path(folder))
        network = trainable(checkpoint, "retrieval", dtype=torch.float32)
        collator = StepCollator(Processor(checkpoint.path, checkpoint.config), task="retrieval")
        queries, documents, pages = texts(N_TEXTS + N_IMAGES), texts(2 * N_TEXTS)[N_TEXTS:], images(N_IMAGES)
        pairs = [Pair(*pair) for pair in zip(queries, documents + pages, strict=True)]
        batch = collator([Step(pairs[:N_TEXTS], pairs[N_TEXTS:])])
        batches = {kind: batch[kind] for kind in ("text", "image")}
        optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-5)

        def step(weights: Weights) -> float:
            start = time.perf_counter()
            of_kind = lambda _, *vectors_and_labels: terms(  # noqa: E731
                *vectors_and_labels, Losses(), weights, sizes=checkpoint.config.matryoshka_dims
            )
            cached_loss(network, batches, of_kind)[0].backward()
            optimizer.step()
            optimizer.zero_grad()
            return time.perf_counter() - start

        for weights in HEADS.values():
            step(weights)
        seconds = [{head: step(weights) for head, weights in HEADS.items()} for _ in range(ROUNDS)]
    joint, dense, late = (min(took[head] for took in seconds) for head in HEADS)
    n = len(pairs)
    print(f"\nA step of {N_TEXTS} text pairs and {N_IMAGES} image pairs, medium weights, float32, quickest of {ROUNDS}")
    print(f"both heads in one step: {n / joint:.1f} pairs/s; a step for each: {n / (dense + late):.1f} pairs/s")
    print(f"ratio {(dense + late) / joint:.2f}×", flush=True)


def main() -> None:
    print(f"CPU, {torch.get_num_threads()} threads, load average {os.getloadavg()[0]:.1f}")
    steps()


if __name__ == "__main__":
    main()
