"""Whether memory stays flat over many calls: `python benchmarks/memory.py`.

On the demo checkpoint, page images of random sizes and texts of random lengths, each call with a few items, in float32
and in bfloat16; texts also with a task per item, and one text of five million characters of which 100 tokens are kept.
Each case is a process of its own. Peak memory is `ru_maxrss`, interpreter and libraries included: after a fifth of the
items, and after all of them. The growth between the two has a limit, above which the script fails.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image

from polyvec import Embedder
from polyvec.types import TASKS, Input

N_ITEMS = 3000
LARGEST_CALL = 8
LIMIT = 150  # MiB
CASES = ("images", "texts", "mixed tasks", "a long text")


def calls(case: str, n_items: int) -> Iterator[tuple[list[Input], list[str]]]:
    """Items and tasks of each call."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (700, 700, 3), np.uint8))
    words = [f"word{number}" for number in range(1000)]
    n_done = 0
    while n_done < n_items:
        size = min(int(rng.integers(1, LARGEST_CALL + 1)), n_items - n_done)
        items: list[Input] = []
        for _ in range(size):
            if case == "images":
                items.append(noise.crop((0, 0, *map(int, rng.integers(56, 700, 2)))))
            else:
                items.append(" ".join(rng.choice(words, rng.integers(1, 60))))
        yield items, [TASKS[index] for index in rng.integers(0, len(TASKS) if case == "mixed tasks" else 1, size)]
        n_done += size


def run(case: str, dtype: str, n_items: int) -> None:
    """Encode the items of a case, and print the peaks after a fifth and after all of them, and the seconds."""
    embedder = Embedder.from_pretrained("demo", device="cpu", dtype=dtype)  # type: ignore[arg-type]  # one of the names
    start = time.perf_counter()
    early = n_done = 0
    if case == "a long text":
        warnings.simplefilter("ignore")  # that it is cut
        embedder.encode_document(["word " * 20], task=TASKS[0])
        early = peak()
        embedder.encode_document(["Costs fell in 2020. " * 250_000], task=TASKS[0], max_length=100)
        n_done = n_items
    else:
        for items, tasks in calls(case, n_items):
            embedder.encode_document(items, task=tasks, multivector=True)
            n_done += len(items)
            if n_done <= n_items / 5:
                early = peak()
    print(early, peak(), time.perf_counter() - start)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # MiB on Linux


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the items")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        case, dtype, n_items = arguments.case
        run(case, dtype, int(n_items))
        return
    n_items = N_ITEMS // 10 if arguments.quick else N_ITEMS
    print(f"CPU, load average {os.getloadavg()[0]:.1f}; {n_items} items, peak memory in MiB, at most {LIMIT} more")
    print(f"\n{'case':14}{'dtype':>10}{'a fifth':>10}{'all':>8}{'more':>8}{'seconds':>10}")
    too_much = []
    for case in CASES:
        for dtype in ("float32", "bfloat16"):
            command = [sys.executable, __file__, "--case", case, dtype, str(n_items)]
            child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 — this very file
            early, late, seconds = map(float, child.stdout.split())
            print(f"{case:14}{dtype:>10}{early:10.0f}{late:8.0f}{late - early:8.0f}{seconds:10.0f}", flush=True)
            if late - early > LIMIT:
                too_much.append(f"{case} in {dtype}")
    if too_much:
        sys.exit(f"memory grows: {', '.join(too_much)}")


if __name__ == "__main__":
    main()
