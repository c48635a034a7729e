"""One call spread over several devices: a process each, with a replica of its own."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import torch

from polyvec.chunking import Span
from polyvec.encoding import Encoding, Engine, Options, Outcome, Request

_PARTS = 4  # per worker: enough for all to end at about the same time, few enough to fill batches
_IMAGE_COST = 3_000  # of one image in characters of text, roughly

_engine: Engine | None = None  # of this worker process


class Workers:
    """Runs requests in processes, one per device.

    Args:
        load: makes the engine in a worker; it is pickled, so it must be a function of a module, or a bound method of
            an object that pickles.
        devices: one worker each. Workers on the CPU share its cores.

    The processes are started on first use, by spawning: a script that uses this keeps its own doings under
    `if __name__ == "__main__":`. They end with `close`, or with the interpreter.
    """

    def __init__(self, load: Callable[[str], Engine], devices: Sequence[str]) -> None:
        self._load, self._devices = load, list(devices)
        self._pool: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()

    def run(self, requests: Sequence[Request], options: Options) -> Iterator[tuple[int, Outcome]]:
        """See `polyvec.encoding.Runner`.

        Raises:
            RuntimeError: a worker died, or could not load the model.
        """
        if not requests:
            return
        parts = _parts(requests, len(self._devices) * _PARTS)
        futures: dict[Future[list[tuple[int, Outcome]]], list[int]] = {}
        try:
            with self._pool_in_use() as pool:
                futures |= {pool.submit(_run, [requests[i] for i in part], options): part for part in parts}
                for future in as_completed(futures):
                    part = futures.pop(future)  # and with it the result, once it has been handed on
                    yield from ((part[place], outcome) for place, outcome in future.result())
        finally:
            for future in futures:
                future.cancel()

    def chunks(self, request: Request, spans: Sequence[Span], options: Options, overlap: int | None) -> list[Encoding]:
        """See `polyvec.encoding.Runner`; one text is one worker's."""
        with self._pool_in_use() as pool:
            return pool.submit(_chunks, request, spans, options, overlap).result()

    def close(self) -> None:
        """End the processes; the next call starts new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def restart(self, load: Callable[[str], Engine]) -> None:
        """Have the next call start processes that load another engine."""
        self.close()
        self._load = load

    @contextmanager
    def _pool_in_use(self) -> Iterator[ProcessPoolExecutor]:
        with self._lock:
            pool = self._pool = self._pool or self._started()
        try:
            yield pool
        except BrokenProcessPool as error:
            self.close()
            raise RuntimeError(
                "A worker process ended: it could not load the model (its message is above), ran out of memory, or "
                "this script lacks `if __name__ == '__main__':` around what it does."
            ) from error

    def _started(self) -> ProcessPoolExecutor:
        context = get_context("spawn")
        devices: Any = context.SimpleQueue()  # typed only in newer stubs
        for device in self._devices:
            devices.put(device)
        on_cpu = sum(torch.device(device).type == "cpu" for device in self._devices)
        threads = max(1, (os.cpu_count() or 1) // on_cpu) if on_cpu else None
        return ProcessPoolExecutor(
            len(self._devices), context, initializer=_start, initargs=(self._load, devices, threads)
        )


def _parts(requests: Sequence[Request], n: int) -> list[list[int]]:
    """Indices in at most `n` parts of like cost, items of like length together, longest first."""
    costs = [len(r.item) + 40 if isinstance(r.item, str) else _IMAGE_COST for r in requests]
    share = sum(costs) / n
    parts: list[list[int]] = []
    filled = share
    for index in sorted(range(len(requests)), key=lambda index: -costs[index]):
        if filled >= share:
            parts.append([])
            filled = 0.0
        parts[-1].append(index)
        filled += costs[index]
    return parts


def _start(load: Callable[[str], Engine], devices: Any, threads: int | None) -> None:
    global _engine
    device = devices.get()
    if threads is not None and torch.device(device).type == "cpu":
        torch.set_num_threads(threads)
    _engine = load(device)


def _run(requests: Sequence[Request], options: Options) -> list[tuple[int, Outcome]]:
    assert _engine is not None, "workers start with an engine"
    return list(_engine.run(requests, options))


def _chunks(request: Request, spans: Sequence[Span], options: Options, overlap: int | None) -> list[Encoding]:
    assert _engine is not None, "workers start with an engine"
    return _engine.chunks(request, spans, options, overlap)
