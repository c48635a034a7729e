"""Time and memory of the analyses: `python benchmarks/analyze.py [--n 1000000]`.

Random unit vectors in float32, as many images as texts, on one thread. Peak memory is `ru_maxrss` beyond the arrays
themselves. The limits are minutes for a million pairs, and memory that does not grow with the square of the number.
"""

import argparse
import os
import resource
import sys
import time

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy

import numpy as np

from polyvec.analyze.paired import Paired
from polyvec.analyze.panel import analyze

MOST_SECONDS = 600


def peak() -> float:
    """GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "linux" else 30))


def main() -> int:
    """Print seconds and GiB; 1 if it takes more than ten minutes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    images = rng.standard_normal((options.n, options.dim), np.float32)
    texts = rng.standard_normal((options.n, options.dim), np.float32)
    texts += images
    texts[:, 0] += 4
    paired = Paired(images, texts, np.arange(options.n)[:, None].repeat(2, axis=1))
    before, start, busy = peak(), time.perf_counter(), time.process_time()
    panel = analyze(paired)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    print(f"{options.n:,} pairs of {options.dim} numbers: {seconds:.0f} s ({busy:.0f} s of one core)", end=", ")
    print(f"{peak() - before:.2f} GiB beyond", end=" ")
    print(f"{2 * images.nbytes / (1 << 30):.2f} GiB of vectors; AUC {panel.cone.auc:.4f}, RMG {panel.gap.rmg:.3f}")
    return int(seconds > MOST_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
