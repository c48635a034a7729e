"""What callers gain who call at the same time: `python benchmarks/callers.py`.

On the medium random weights of `encode.py`: 32 single queries one after another, beside the same queries from 32
threads and from 32 asynchronous tasks, whose calls share batches. The quickest of fifteen rounds counts.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from made import medium, texts

from polyvec import Embedder

N_CALLERS = 32
ROUNDS = 15


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(N_CALLERS) as threads:
        medium(Path(folder))
        embedder = Embedder.from_pretrained(folder, device="cpu", dtype=torch.float32)
        queries = [text[:60] for text in texts(N_CALLERS)]

        def query(text: str) -> np.ndarray:
            return embedder.encode_query([text], task="retrieval").dense

        async def tasks() -> list[np.ndarray]:
            calls = [embedder.aencode_query([text], task="retrieval") for text in queries]
            return [embeddings.dense for embeddings in await asyncio.gather(*calls)]

        ways: dict[str, Callable[[], list[np.ndarray]]] = {
            "one after another": lambda: [query(text) for text in queries],
            "32 threads": lambda: list(threads.map(query, queries)),
            "32 asynchronous tasks": lambda: asyncio.run(tasks()),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(ROUNDS + 1):
            for way, run in ways.items():
                start = time.perf_counter()
                run()
                seconds[way].append(time.perf_counter() - start)
        print(f"CPU, float32, {torch.get_num_threads()} threads, load average {os.getloadavg()[0]:.1f}")
        quickest = {way: min(times[1:]) for way, times in seconds.items()}  # the first round warms up
        plain = quickest["one after another"]
        for way, best in quickest.items():
            print(f"{way:24}{best * 1000:8.1f} ms for {N_CALLERS} queries   {plain / best:5.2f}×")


if __name__ == "__main__":
    main()
