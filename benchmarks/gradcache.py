"""Peak memory of a training step with and without GradCache: `python benchmarks/gradcache.py`.

Pairs of short texts, the joint loss over both heads, one adapter and the projector free, float32, medium weights. Each
batch is a process of its own; its peak is `ru_maxrss` beyond that of the loaded network, so what is counted is the
step: activations, vectors and gradients. The script fails if the peak with GradCache grows by more than the limit.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from made import medium, texts

from polyvec.model.checkpoint import Checkpoint
from polyvec.model.processing import Processor
from polyvec.train.data.batches import Labels, PairBatch, Vectors
from polyvec.train.loop.gradcache import cached_loss
from polyvec.train.loss.objective import Losses, terms

BATCHES = (32, 128, 512)
CHUNK_TOKENS = 512
N_TOKENS = 24  # of each text
LIMIT = 200  # MiB between the smallest and the largest batch: vectors of both heads, their gradients, their scores


def pairs(processor: Processor, n: int) -> PairBatch:
    ids = [row[:N_TOKENS] for row in processor.texts(texts(2 * n), "Query: ")]
    items = [processor.text(row) for row in ids]
    numbers = torch.arange(n)
    labels = Labels(
        targets=numbers,
        query_keys=numbers,
        document_keys=-1 - numbers,
        groups=torch.zeros_like(numbers),
        in_batch=numbers >= 0,
        scores=torch.full((n,), torch.nan),
        scales=torch.zeros_like(numbers),
    )
    masks = [np.ones(len(item.input_ids), bool) for item in items[n:]]
    return PairBatch(items[:n], items[n:], masks, labels, [f"pair {number}" for number in range(n)])


def step(path: Path, n: int, chunk_tokens: int | None) -> None:
    """Take one step, and print by how many MiB it raised the peak, and the seconds."""
    checkpoint = Checkpoint(path)
    network = checkpoint.load(torch.float32, torch.device("cpu"))
    network.base_model.set_adapter("retrieval")
    for name, parameter in network.named_parameters():
        parameter.requires_grad = ".retrieval." in name or "projector.base_layer" in name
    network.train()
    losses, sizes = Losses(), checkpoint.config.matryoshka_dims

    def compute(kind: str, queries: Vectors, documents: Vectors, labels: Labels) -> dict[str, torch.Tensor]:
        del kind
        return terms(queries, documents, labels, losses, losses.text, sizes=sizes)

    batch = pairs(Processor(checkpoint.path, checkpoint.config), n)
    before, start = peak(), time.perf_counter()
    loss, _ = cached_loss(network, {"text": batch}, compute, chunk_tokens=chunk_tokens)
    loss.backward()
    print(peak() - before, time.perf_counter() - start)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # MiB on Linux


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        path, n, chunk_tokens = arguments.step
        step(Path(path), int(n), int(chunk_tokens) or None)
        return
    print(f"CPU, load average {os.getloadavg()[0]:.1f}; chunks of {CHUNK_TOKENS} tokens; MiB beyond the loaded network")
    print(f"\n{'pairs':>6}{'without':>10}{'with':>8}{'ratio':>8}{'seconds':>10}{'with':>8}{'ratio':>8}")
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        medium(Path(folder))
        for n in BATCHES:
            results = []
            for chunk_tokens in (0, CHUNK_TOKENS):
                command = [sys.executable, __file__, "--step", folder, str(n), str(chunk_tokens)]
                child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 — this very file
                results.append([float(number) for number in child.stdout.split()])
            (plain, plain_seconds), (cached, seconds) = results
            peaks[n] = cached
            print(
                f"{n:6}{plain:10.0f}{cached:8.0f}{plain / cached:7.1f}×"
                f"{plain_seconds:10.1f}{seconds:8.1f}{seconds / plain_seconds:7.2f}×",
                flush=True,
            )
    growth = peaks[BATCHES[-1]] - peaks[BATCHES[0]]
    if growth > LIMIT:
        sys.exit(f"with GradCache the peak grows by {growth:.0f} MiB; at most {LIMIT} are allowed.")


if __name__ == "__main__":
    main()
