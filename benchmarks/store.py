"""What keeping pages in a folder costs: `python benchmarks/store.py`.

The pages are synthetic: each has tokens of 12 of 512 topics, in runs, and a query is 24 noisy tokens of one page.
Nothing is encoded. Measured are adding, searching (beside qdrant-client's local mode on the same request, and beside
exact MaxSim over arrays), opening again in a new process, and what each precision of the multi-vectors takes on disk.

Local mode's points are put in past the checks of its `upsert`, which turns arrays into lists first; its searches, which
are what is timed, run unchanged. The dense vector is a projection of the mean token, a poor guide to candidates that no
training has improved: recall compares storages here, and says nothing about a model.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polyvec import TASKS, Embeddings, Encoder, Grid, Input
from polyvec.scoring import maxsim, unit
from qdrant_polyvec import Collection, Item, Mode, Schema, points
from qdrant_polyvec.checks import Checks, Entry
from qdrant_polyvec.fingerprint import Fingerprint
from qdrant_polyvec.schema import PRECISIONS

N_TOPICS, TOPICS_PER_PAGE = 512, 12
DIM, LATE_DIM = 2048, 128
QUERY_TOKENS, K, CANDIDATES = 24, 10, 100
N_LOCAL_QUERIES = 7
BLOCK = 250  # pages in memory at a time
NAME = "pages"


class Made(Encoder):
    """Pages and queries that depend on nothing but their numbers; stands in for an embedder."""

    fingerprint, license = "made-2048-128", ""
    dim, multivector_dim, tasks, sizes = DIM, LATE_DIM, TASKS, (DIM,)

    def __init__(self, n_tokens: int) -> None:
        self.n_tokens = n_tokens
        rng = np.random.default_rng(0)
        self._topics = unit(rng.standard_normal((N_TOPICS, LATE_DIM), dtype=np.float32))
        self._projection = rng.standard_normal((LATE_DIM, DIM), dtype=np.float32)
        self._queries: dict[str, Embeddings] = {}

    def page(self, number: int) -> Embeddings:
        rng = np.random.default_rng([1, number])
        run = -(-self.n_tokens // TOPICS_PER_PAGE)
        topics = np.repeat(rng.choice(N_TOPICS, TOPICS_PER_PAGE, replace=False), run)[: self.n_tokens]
        return self._embeddings(_noisy(self._topics[topics], 0.7, rng), Grid(self.n_tokens // 16, 16, 0))

    def items(self, numbers: range) -> list[Item]:
        return [Item(f"page {number}", id=number, embedding=self.page(number)) for number in numbers]

    def queries(self, n: int, n_pages: int) -> dict[str, np.ndarray]:
        """The tokens of queries for some pages; their keys are what `encode_query` takes."""
        rng = np.random.default_rng(2)
        for index in range(n):
            tokens = _rows(self.page(int(rng.integers(n_pages))))
            chosen = tokens[np.sort(rng.choice(self.n_tokens, QUERY_TOKENS))]
            self._queries[f"query {index}"] = self._embeddings(_noisy(chosen, 1.0, rng), None)
        return {name: _rows(embeddings) for name, embeddings in self._queries.items()}

    def encode(self, inputs: Iterable[Input], **_: Any) -> Embeddings:
        (query,) = inputs
        return self._queries[str(query)]

    def _embeddings(self, tokens: np.ndarray, grid: Grid | None) -> Embeddings:
        return Embeddings(unit((tokens.sum(0) @ self._projection)[None]), (tokens,), (grid,))


def _noisy(vectors: np.ndarray, how: float, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors with noise of this length."""
    noise = rng.standard_normal(vectors.shape, dtype=np.float32)
    return unit(vectors + noise * np.float32(how / LATE_DIM**0.5))


def _rows(embeddings: Embeddings) -> np.ndarray:
    assert embeddings.multivector is not None
    return embeddings.multivector[0]


def fill(docs: Collection, made: Made, n_pages: int) -> float:
    """Add pages, some at a time, made before the clock runs. Returns the seconds of adding."""
    seconds = 0.0
    for first in range(0, n_pages, BLOCK):
        block = made.items(range(first, min(first + BLOCK, n_pages)))
        start = time.perf_counter()
        report = docs.add(block)
        seconds += time.perf_counter() - start
        assert not report.failed, report.failed[0]
    return seconds


def fill_local(docs: Collection, made: Made, n_pages: int) -> list[np.ndarray]:
    """Put the same points into local mode. Returns its arrays of the multi-vectors, not a copy."""
    backend = docs.client._client  # noqa: SLF001 — `upsert` would make lists of the arrays
    inner = backend.collections[backend.aliases[NAME]]
    for entry in _entries(made, n_pages):
        assert entry.embedding is not None
        point = points.point(
            entry, entry.embedding, schema=docs.schema, fingerprint=Fingerprint(made.fingerprint, DIM, LATE_DIM)
        )
        inner._add_point(point)  # noqa: SLF001
    found: list[np.ndarray] = inner.multivectors["late"]
    return found


def _entries(made: Made, n_pages: int) -> Iterator[Entry]:
    checks = Checks(task="retrieval", tasks=TASKS, tenant=None)
    for first in range(0, n_pages, BLOCK):
        for entry in checks.entries(made.items(range(first, min(first + BLOCK, n_pages)))):
            assert isinstance(entry, Entry)
            yield entry


def exact(queries: dict[str, np.ndarray], pages: Sequence[np.ndarray]) -> tuple[dict[str, list[int]], float]:
    """The best pages of each query by MaxSim over float32 arrays, and the median milliseconds of a query."""
    best, times = {}, []
    for name, tokens in queries.items():
        start = time.perf_counter()
        scores = maxsim([tokens], pages)[0]
        best[name] = np.argsort(-scores, kind="stable")[:K].tolist()
        times.append(time.perf_counter() - start)
    return best, 1000 * statistics.median(times)


def search(docs: Collection, queries: Iterable[str], mode: Mode) -> tuple[dict[str, list[int]], float]:
    """The pages that each query finds, and the median milliseconds of a search."""
    candidates = CANDIDATES if mode == "two-stage" else None
    found, times = {}, []
    for name in (*[*queries][:1], *queries):  # the first warms up
        start = time.perf_counter()
        hits = docs.search(name, limit=K, mode=mode, candidates=candidates)
        times.append(time.perf_counter() - start)
        found[name] = [int(hit.id) for hit in hits]
    return found, 1000 * statistics.median(times[1:])


def share(found: dict[str, list[int]], best: dict[str, list[int]]) -> float:
    """How many of the best pages were found: the recall, if these are the exact ones."""
    return statistics.mean(len({*pages} & {*best[name]}) / len(best[name]) for name, pages in found.items())


def reopen(folder: Path, n_tokens: int) -> str:
    """The seconds until a new process, its imports done, has opened a folder, and until it has found something."""
    command = [sys.executable, __file__, "--reopen", str(folder), "--tokens", str(n_tokens)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()  # noqa: S603


def run_reopen(folder: Path, n_tokens: int) -> None:
    made = Made(n_tokens)
    query = next(iter(made.queries(1, 1)))
    start = time.perf_counter()
    with Collection.open(folder, NAME, embedder=made) as docs:
        opened = time.perf_counter() - start
        assert docs.search(query, candidates=CANDIDATES)
        print(f"{opened:.2f} s, first result after {time.perf_counter() - start:.2f} s")


def on_disk(folder: Path) -> int:
    """The bytes of a folder; holes in files take none."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def line(what: str, found: str, aim: str = "") -> None:
    print(f"{what:47}{found:34}{aim}", flush=True)


def main_run(folder: Path, made: Made, n_pages: int, n_local: int, n_queries: int) -> None:
    """Adding, searching and opening again, at full size."""
    print(f"\n{n_pages:,} pages of {made.n_tokens} tokens, float16; medians of {n_queries} queries, top {K}")
    line("", "", "aim at 5,000 × 768")
    docs = Collection.open(folder, NAME, embedder=made)
    seconds = fill(docs, made, n_pages)
    line("adding", f"{n_pages / seconds:.0f} pages/s", "≥ 150/s")
    memory = Collection.open(":memory:", NAME, embedder=made)
    start = time.perf_counter()
    arrays = fill_local(memory, made, n_local)
    line(f"(local mode filled with {n_local:,} pages", f"in {time.perf_counter() - start:.0f} s, making them included)")
    every = arrays if n_local == n_pages else [_rows(made.page(number)) for number in range(n_pages)]
    queries = made.queries(n_queries, n_pages)
    truth, numpy_ms = exact(queries, every)
    local_found, local_ms = search(memory, [*truth][:N_LOCAL_QUERIES], "two-stage")
    line("exact MaxSim over arrays", f"{numpy_ms:.1f} ms")
    line(f"two-stage, local mode, {n_local:,} pages, {len(local_found)} queries", f"{local_ms:.0f} ms")
    memory.close()
    del memory, arrays, every
    for state in ("as added", "optimized"):
        if state == "optimized":
            start = time.perf_counter()
            docs.optimize()
            line("optimize()", f"{time.perf_counter() - start:.1f} s")
        found, ms = search(docs, truth, "two-stage")
        line(f"two-stage, {state}", f"{ms:.1f} ms, recall {share(found, truth):.2f}", "≤ 30 ms")
        if n_local == n_pages:
            line("  results that local mode also has", f"{share(local_found, found):.2f}")
        line("  local mode / this", f"{local_ms / ms:.0f}×", "≥ 30×")
        line("  exact MaxSim over arrays / this", f"{numpy_ms / ms:.1f}×")
        found, ms = search(docs, truth, "late")
        line(f"late (every page), {state}", f"{ms:.0f} ms, recall {share(found, truth):.2f}")
    docs.close()
    line("opening again, new process", reopen(folder, made.n_tokens), "≤ 2 s")
    line("  and once more", reopen(folder, made.n_tokens))


def storages(folder: Path, made: Made, n_pages: int, n_queries: int) -> None:
    """What each precision takes, and what it finds."""
    every = [_rows(made.page(number)) for number in range(n_pages)]
    truth, _ = exact(made.queries(n_queries, n_pages), every)
    print(f"\n{n_pages:,} pages of {made.n_tokens} tokens, optimized and opened again; recall of the exact top {K}")
    print(f"{'schema':30}{'on disk':>14}{'late':>12}{'recall':>8}{'two-stage':>12}{'recall':>8}{'adding':>12}")
    schemas = [Schema(late=precision) for precision in PRECISIONS]
    for index, schema in enumerate([*schemas, Schema(pooled=True)]):
        where = folder / f"storage {index}"
        with Collection.open(where, NAME, embedder=made, schema=schema) as docs:
            seconds = fill(docs, made, n_pages)
            docs.optimize()
        with Collection.open(where, NAME, embedder=made) as docs:
            late, late_ms = search(docs, truth, "late")
            two_stage, two_stage_ms = search(docs, truth, "two-stage")
        size = on_disk(where) / n_pages / 1024
        name = f"late={schema.late}" + ", pooled" * schema.pooled
        print(
            f"{name:30}{size:6.0f} KiB/page{late_ms:9.0f} ms{share(late, truth):8.2f}"
            f"{two_stage_ms:9.1f} ms{share(two_stage, truth):8.2f}{n_pages / seconds:10.0f}/s",
            flush=True,
        )
        shutil.rmtree(where)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=5000)
    parser.add_argument("--tokens", type=int, default=768, help="of each page")
    parser.add_argument("--local-pages", type=int, help="that local mode gets, if fewer")
    parser.add_argument("--storage-pages", type=int, default=1000, help="for the table of precisions")
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="300 pages of 256 tokens: whether it runs, not how fast")
    parser.add_argument("--reopen", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.reopen:
        run_reopen(arguments.reopen, arguments.tokens)
        return
    n_pages, n_tokens, n_storage, n_queries = (
        (300, 256, 200, 10)
        if arguments.quick
        else (arguments.pages, arguments.tokens, arguments.storage_pages, arguments.queries)
    )
    print(f"CPU, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    made = Made(n_tokens)
    with tempfile.TemporaryDirectory(prefix="polyvec-store-") as folder:
        needed = 4 * n_pages * n_tokens * LATE_DIM * 2  # float16; twice while segments are merged, and the log
        if (free := shutil.disk_usage(folder).free) < needed:
            sys.exit(f"{folder} has {free / 2**30:.1f} GiB; {needed / 2**30:.1f} are needed. Set TMPDIR, or --pages.")
        main_run(Path(folder) / "main", made, n_pages, min(n_pages, arguments.local_pages or n_pages), n_queries)
        shutil.rmtree(Path(folder) / "main")
        storages(Path(folder), made, n_storage, n_queries)
    print(f"\nload average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
