"""What each thing costs beside the plainest call: `python benchmarks/features.py`.

On the medium random weights of `encode.py`: both outputs beside dense vectors alone, an unfolded adapter beside a
folded one, tasks mixed within batches beside one task for all, and encoding beside reading from the cache. On the demo
checkpoint: how far vectors depend on what shares the batch and on folding, and the memory of a stream of 100,000 short
texts beside that of 10,000.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from made import images, medium, mixed, texts

from polyvec import Embedder
from polyvec.model import adapters
from polyvec.types import TASKS

ROUNDS = 7
NEVER = 10**12

Call = Callable[[], object]


class Bench:
    """One embedder on which calls are timed in turns."""

    def __init__(self, path: Path, cache: Path) -> None:
        self.embedder = Embedder.from_pretrained(path, device="cpu", dtype=torch.float32)
        self.cached = Embedder.from_pretrained(path, device="cpu", dtype=torch.float32, vector_cache=cache)
        self.bags = {"text": texts(192), "images": images(12), "mixed": mixed(96, 8)}

    def fold(self, after: int) -> None:
        """Fold the retrieval adapter, or have it unfolded: neither is part of what is timed afterwards."""
        tasks = self.embedder._runner.replica.adapters  # noqa: SLF001 — folding happens by itself otherwise
        tasks.release()
        tasks._n_unfolded = 0  # noqa: SLF001
        adapters.FOLD_TOKENS = after
        self.embedder.encode_query(["a"], task="retrieval")

    def encode(self, bag: str, *, multivector: bool = False, mix: bool = False) -> Call:
        items = self.bags[bag]
        task = [TASKS[index % 3] for index in range(len(items))] if mix else "retrieval"
        return lambda: self.embedder.encode_document(items, task=task, multivector=multivector)

    def compare(self, what: str, one: Call, other: Call, aim: str, *, folds: tuple[int, int] = (0, 0)) -> None:
        """Print the time of `one` over that of `other`, in turns, the median of the rounds."""
        found = []
        for _ in range(ROUNDS + 1):
            times = []
            for call, after in zip((one, other), folds, strict=True):
                self.fold(after)
                start = time.perf_counter()
                call()
                times.append(time.perf_counter() - start)
            found.append(times[0] / times[1])
        found = found[1:]  # the first warms up
        print(f"{what:48}{statistics.median(found):8.2f}×{min(found):8.2f} – {max(found):.2f}   {aim}")

    def run(self) -> None:
        print(
            f"CPU, float32, {torch.get_num_threads()} threads, load average {os.getloadavg()[0]:.1f}; {ROUNDS} rounds"
        )
        print(f"\n{'':48}{'median':>9}{'range':>15}   aim")
        for bag in self.bags:
            both, dense = self.encode(bag, multivector=True), self.encode(bag)
            self.compare(f"{bag}: both outputs / dense alone", both, dense, "≤ 1.05×")
        text = self.encode("text")
        self.compare("text: unfolded adapter / folded", text, text, "> 1×", folds=(NEVER, 0))
        for bag in self.bags:
            three, one = self.encode(bag, mix=True), self.encode(bag)
            self.compare(f"{bag}: three tasks mixed / one task, folded", three, one, "≤ 1.3×")
        self.compare(
            "mixed: encoded / read from the cache",
            self.encode("mixed", multivector=True),
            lambda: self.cached.encode_document(self.bags["mixed"], task="retrieval", multivector=True),
            "",
        )


def differences(dtype: torch.dtype) -> str:
    """How far an item's vectors are from its own when it is encoded alone, and when the adapter is folded."""
    embedder = Embedder.from_pretrained("demo", device="cpu", dtype=dtype)
    items = mixed(96, 8)
    adapters.FOLD_TOKENS = NEVER
    together = embedder.encode_document(items, task="retrieval", multivector=True)
    alone = [embedder.encode_document([item], task="retrieval", multivector=True) for item in items]
    adapters.FOLD_TOKENS = 0
    folded = embedder.encode_document(items, task="retrieval", multivector=True)
    others = {
        "alone": (
            np.concatenate([one.dense for one in alone]),
            [rows for one in alone for rows in one.multivector or ()],
        ),
        "folded": (folded.dense, folded.multivector or ()),
    }
    found = []
    for name, (dense, tokens) in others.items():
        far = float((1 - (together.dense * dense).sum(1)).max())
        pairs = zip(together.multivector or (), tokens, strict=True)
        far_tokens = max(float((1 - (one * other).sum(1)).max()) for one, other in pairs)
        found.append(f"{name} {far:.0e} dense, {far_tokens:.0e} per token")
    return f"{str(dtype).removeprefix('torch.')}: {'; '.join(found)}"


def stream(n: int) -> str:
    """What a process that streams `n` short texts takes."""
    command = [sys.executable, __file__, "--stream", str(n)]
    child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 — this very file
    kibibytes, seconds = child.stdout.split()
    return f"{n:,} texts {int(kibibytes) / 1024:.0f} MiB, {float(seconds):.0f} s"


def run_stream(n: int) -> None:
    embedder = Embedder.from_pretrained("demo", device="cpu")
    start = time.perf_counter()
    inputs = (f"short text number {index}" for index in range(n))
    found = sum(len(part) for _, part in embedder.encode_iter(inputs, task="retrieval", multivector=True))
    assert found == n
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stream", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stream:
        run_stream(arguments.stream)
        return
    # Children first: on Linux they start with the resident size of their parent as their own peak.
    streams = [stream(n) for n in (10_000, 100_000)]
    with tempfile.TemporaryDirectory() as folder:
        medium(Path(folder) / "medium")
        Bench(Path(folder) / "medium", Path(folder) / "vectors.db").run()
    print("\nlargest 1 − cosine to the vectors of 104 mixed items, encoded together and unfolded, demo checkpoint:")
    for dtype in (torch.float32, torch.bfloat16):
        print(f"  {differences(dtype)}")
    print("\nencode_iter over short texts, both outputs, demo checkpoint, whole process: " + "; ".join(streams))


if __name__ == "__main__":
    main()
