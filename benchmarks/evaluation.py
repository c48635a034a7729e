"""What evaluation costs beside what it needs: `python benchmarks/evaluation.py`. It fails above its limits.

Ranking 1,000 queries × 10,000 pages late, from multi-vectors in memory, beside the bare matrix products of the same
tokens, and beside mteb's own route (`MultiVectorWrapper`) on a twenty-fifth of the same arrays; the working memory for
100 and for 1,000 queries; and runs of a task through mteb beside the time inside the encoder. Pages have fewer tokens
than real pages (`--tokens`), so that the products end in minutes. Runs through mteb have two sizes, which tell what
mteb takes for any task from what each item takes.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Unpack

import numpy as np
import torch
from made import medium, texts
from sentence_transformers.util import maxsim as padded_maxsim

from polyvec import Embedder, Embeddings
from polyvec.encoder import EncodeOptions, Encoder
from polyvec.evaluate.benchmarks import RETRIEVAL
from polyvec.evaluate.mteb_models import DenseModel, LateModel
from polyvec.retrieval import late_ranking
from polyvec.types import Input, Side

DIM, N_BEST = 128, 100
QUERY_TOKENS = 12
ROUNDS = 3
PART = 256  # pages that are in memory together in an evaluation
BLOCK = 256, 2048  # tokens of queries and pages per bare product, the fastest shape here
RATIO_LIMIT, OVERHEAD_LIMIT, MEMORY_LIMIT = 1.3, 0.05, 1.2
SIZES = 150, 600  # texts of the runs through mteb


def multivectors(n: int, mean: int, seed: int) -> list[np.ndarray]:
    """Unit vectors; lengths differ by up to 40 % from the mean."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(int(0.6 * mean), int(1.4 * mean) + 1, n)
    rows = rng.standard_normal((int(lengths.sum()), DIM), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.split(rows, np.cumsum(lengths)[:-1])


def parts(pages: Sequence[np.ndarray]) -> Iterator[Sequence[np.ndarray]]:
    return (pages[start : start + PART] for start in range(0, len(pages), PART))


def products(queries: np.ndarray, pages: np.ndarray) -> None:
    """Every product of a token of a query and a token of a page, nothing kept."""
    rows, columns = BLOCK
    for start in range(0, len(pages), columns):
        some = pages[start : start + columns].T
        for first in range(0, len(queries), rows):
            queries[first : first + rows] @ some


def mteb_route(queries: Sequence[np.ndarray], pages: Sequence[np.ndarray]) -> np.ndarray:
    """Score as mteb does for models of sentence-transformers, on the CPU, and take the best."""
    from mteb.models.sentence_transformer_wrapper import MultiVectorWrapper

    wrapper = MultiVectorWrapper.__new__(MultiVectorWrapper)
    wrapper.model = SimpleNamespace(device=torch.device("cpu"), similarity=lambda a, b, **_: padded_maxsim(a, b))
    as_tensors = [[torch.from_numpy(rows) for rows in side] for side in (queries, pages)]
    scores = wrapper.similarity(*as_tensors)
    return torch.topk(scores, N_BEST, dim=1).values.numpy()


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ranking(n_queries: int, n_pages: int, tokens: int) -> bool:
    queries, pages = multivectors(n_queries, QUERY_TOKENS, 0), multivectors(n_pages, tokens, 1)
    all_queries, all_pages = np.concatenate(queries), np.concatenate(pages)
    few_queries, few_pages = queries[: n_queries // 5], pages[: n_pages // 5]

    def ours(queries: Sequence[np.ndarray], pages: Sequence[np.ndarray]) -> np.ndarray:
        return late_ranking(queries, parts(pages), n=N_BEST)[1]

    np.testing.assert_allclose(ours(few_queries, few_pages), mteb_route(few_queries, few_pages), rtol=1e-4)
    beside_products, beside_mteb = [], []
    for _ in range(ROUNDS):
        bare = seconds(lambda: products(all_queries, all_pages))
        took = seconds(lambda: ours(queries, pages))
        beside_products.append(took / bare)
        theirs = seconds(lambda: mteb_route(few_queries, few_pages))
        beside_mteb.append(seconds(lambda: ours(few_queries, few_pages)) / theirs)
        print(f"  bare products {bare:.1f} s, ranking {took:.1f} s; mteb's route on a part {theirs:.2f} s", flush=True)
    print(f"{n_queries:,} queries of {QUERY_TOKENS} tokens × {n_pages:,} pages of {tokens}:")
    good = report("ranking / bare matrix products", beside_products, RATIO_LIMIT)
    return report("ranking / mteb's multi-vector route", beside_mteb, 1.0) and good


def report(what: str, ratios: Sequence[float], limit: float) -> bool:
    median = statistics.median(ratios)
    print(f"  {what:40}{median:6.2f}×  ({min(ratios):.2f} – {max(ratios):.2f}), limit {limit:.2f}×")
    return median <= limit


def memory(n_pages: int, tokens: int) -> bool:
    """Compare the working memory, beyond vectors and result, of 100 and of 1,000 queries."""
    pages = multivectors(n_pages, tokens, 1)
    peaks = []
    for n_queries in (100, 1000):
        queries = multivectors(n_queries, QUERY_TOKENS, 0)
        tracemalloc.start()
        result = late_ranking(queries, parts(pages), n=N_BEST)
        peaks.append((tracemalloc.get_traced_memory()[1] - sum(array.nbytes for array in result)) / 1e6)
        tracemalloc.stop()
    print(f"  working memory: {peaks[0]:.1f} MB for 100 queries, {peaks[1]:.1f} MB for 1,000")
    ratio = peaks[1] / peaks[0]
    print(f"  working memory, 1,000 / 100 queries     {ratio:6.2f}×, limit {MEMORY_LIMIT:.2f}×")
    return ratio <= MEMORY_LIMIT


class Timed(Encoder):
    """Counts the seconds inside the encoder."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.seconds = encoder, 0.0
        for name in ("fingerprint", "dim", "multivector_dim", "tasks", "sizes", "license"):
            setattr(self, name, getattr(encoder, name))

    def encode(self, inputs: Any, *, side: Side, task: Any, **options: Unpack[EncodeOptions]) -> Embeddings:
        items: list[Input] = list(inputs)
        start = time.perf_counter()
        result = self.encoder.encode(items, side=side, task=task, **options)
        self.seconds += time.perf_counter() - start
        return result


def overhead() -> bool:
    """Compare runs of a search through mteb with the time that their encoder takes.

    What a run takes beside the encoder is a fixed time and a time per item; two sizes tell them apart.
    """
    import datasets
    import mteb
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    datasets.disable_progress_bars()
    every_text = texts(max(SIZES))

    class Search(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="Search",
            description="",
            dataset={"path": "memory", "revision": "1"},
            type="Retrieval",
            category="t2t",
            modalities=["text"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

        n_documents = 0

        def load_data(self, **_: Any) -> None:
            documents = every_text[: self.n_documents]
            ids = [str(number) for number in range(len(documents))]
            corpus = datasets.Dataset.from_dict({"id": ids, "text": documents})
            n = len(documents) // 10
            queries = datasets.Dataset.from_dict({"id": ids[:n], "text": [text[:60] for text in documents[:n]]})
            judged = {number: {number: 1} for number in ids[:n]}
            split = {"corpus": corpus, "queries": queries, "relevant_docs": judged, "top_ranked": None}
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    good = True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        medium(path)
        embedder = Embedder.from_pretrained(path, device="cpu", dtype=torch.float32)
        embedder.encode_query(["warm up"], task="retrieval")
        warm_up = DenseModel(Timed(embedder), RETRIEVAL, label="medium")
        options = {"batch_size": 8, "show_progress_bar": False}

        def run(model: DenseModel | LateModel, n_documents: int) -> float:
            task = Search()
            task.n_documents = n_documents
            switches = {"co2_tracker": False, "show_progress_bar": False}
            return seconds(lambda: mteb.evaluate(model, task, cache=None, encode_kwargs=options, **switches))

        run(warm_up, 20)
        for kind in (DenseModel, LateModel):
            inside, beside = [], []
            for n_documents in SIZES:
                encoder = Timed(embedder)
                took = run(kind(encoder, RETRIEVAL, label="medium"), n_documents)
                inside.append(encoder.seconds)
                beside.append(took - encoder.seconds)
                share = f"beside it {beside[-1]:.2f} s, {beside[-1] / inside[-1]:+.1%}"
                print(f"  {kind.mode:5} {n_documents:4} texts: encoder {inside[-1]:6.1f} s, {share}", flush=True)
            grown = (beside[1] - beside[0]) / (inside[1] - inside[0])
            fixed = beside[0] - grown * inside[0]
            print(
                f"  {kind.mode:5} any task {fixed:.2f} s, each item {grown:+.1%}, limit {OVERHEAD_LIMIT:.0%}",
                flush=True,
            )
            good = good and grown <= OVERHEAD_LIMIT
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--pages", type=int, default=10_000)
    parser.add_argument("--tokens", type=int, default=100, help="tokens per page on average")
    parser.add_argument("--mteb-only", action="store_true", help="measure only the runs through mteb")
    arguments = parser.parse_args()
    print(f"CPU, float32, {torch.get_num_threads()} threads, load average {os.getloadavg()[0]:.1f}; {ROUNDS} rounds\n")
    good = True
    if not arguments.mteb_only:
        good = ranking(arguments.queries, arguments.pages, arguments.tokens)
        good = memory(arguments.pages // 4, arguments.tokens) and good
    print("a search of texts through mteb, medium weights, a tenth as many queries:")
    good = overhead() and good
    sys.exit(None if good else "a figure is above its limit")


if __name__ == "__main__":
    main()
