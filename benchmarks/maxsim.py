"""The memory of MaxSim in training: `python benchmarks/maxsim.py`.

MaxSim of queries and pages, forward and backward, beside the plain formula, which keeps the similarities of all query
tokens to all page tokens. Each case is a process of its own, and its peak is `ru_maxrss` beyond that before the first
score. It fails above a limit.
"""

import argparse
import os
import resource
import subprocess
import sys
import time

import torch
from torch import Tensor

from polyvec.train.loss.maxsim import late_scores

QUERY_TOKENS, PAGE_TOKENS, DIM = 20, 779, 128  # of jina-embeddings-v4; a page of 602,112 pixels
LARGEST_PLAIN = 128  # pages: the plain formula takes four times as much for twice as many
LIMIT = 400  # MiB for 256 × 256 pages


def plain_scores(queries: Tensor, query_mask: Tensor, pages: Tensor, page_mask: Tensor) -> Tensor:
    similarities = torch.einsum("qid,pjd->qpij", queries, pages)
    best = similarities.masked_fill(~page_mask[None, :, None, :], -torch.inf).amax(-1)
    return best.masked_fill(~query_mask[:, None, :], 0.0).sum(-1) / query_mask.sum(-1)[:, None]


def score(formula: str, n: int) -> None:
    """Score `n` queries and `n` pages, and print the MiB that scores and gradients took, and the seconds."""
    torch.manual_seed(0)
    queries = torch.randn(n, QUERY_TOKENS, DIM, requires_grad=True)
    pages = torch.randn(n, PAGE_TOKENS, DIM, requires_grad=True)
    masks = [torch.ones(side.shape[:2], dtype=torch.bool) for side in (queries, pages)]
    (queries[:1, 0] @ pages[0].T).sum().backward()  # the gradients of both sides, and what torch loads on first use
    before, start = peak(), time.perf_counter()
    scores = {"chunked": late_scores, "plain": plain_scores}[formula](queries, masks[0], pages, masks[1])
    torch.nn.functional.cross_entropy(scores / 0.02, torch.arange(n)).backward()
    print(peak() - before, time.perf_counter() - start)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB on Linux


def child(*arguments: str) -> list[float]:
    """Run a case in a process of its own, and return the numbers that it prints."""
    command = [sys.executable, __file__, "--case", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 — this very file
    return [float(number) for number in done.stdout.split()]


def maxsim() -> bool:
    """Print what MaxSim takes; True if that is too much."""
    print(f"\nMaxSim, {QUERY_TOKENS} query tokens, {PAGE_TOKENS} page tokens, float32, forward and backward")
    print(f"{'pages':>12}{'plain':>12}{'chunked':>12}{'ratio':>8}{'plain':>10}{'chunked':>10}{'ratio':>8}")
    for n in (64, 128, 256):
        mib, seconds = child("chunked", str(n))
        line = f"{f'{n} × {n}':>12}"
        if n <= LARGEST_PLAIN:
            plain_mib, plain_seconds = child("plain", str(n))
            line += f"{plain_mib:8.0f} MiB{mib:8.0f} MiB{plain_mib / mib:7.0f}×"
            line += f"{plain_seconds:8.1f} s{seconds:8.1f} s{plain_seconds / seconds:7.1f}×"
        else:
            line += f"{'':12}{mib:8.0f} MiB{'':18}{seconds:8.1f} s"
        print(line, flush=True)
    return mib > LIMIT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        formula, n = arguments.case
        score(formula, int(n))
        return
    print(f"CPU, {torch.get_num_threads()} threads, load average {os.getloadavg()[0]:.1f}")
    if maxsim():
        sys.exit(f"MaxSim of 256 × 256 pages takes more than {LIMIT} MiB")


if __name__ == "__main__":
    main()
