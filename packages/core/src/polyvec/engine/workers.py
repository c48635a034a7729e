"""One call spread over several devices: a process each, with a replica of its own."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

import torch

from polyvec.engine.chunking import Span
from polyvec.engine.encoding import Engine
from polyvec.engine.requests import Request
from polyvec.model.adapter_files import UserAdapter
from polyvec.outcomes import Encoding, Outcome

_PARTS = 4  # per worker: enough for all to end at about the same time, few enough to fill batches
_IMAGE_COST = 3_000  # of one image in characters of text, roughly

_Result = TypeVar("_Result")

Load = Callable[..., Engine]  # (device, *, adapters)

_engine: Engine | None = None  # of this worker process


class Workers:
    """Runs requests in processes, one per device.

    Args:
        load: makes the engine of a device with these user adapters, in a worker. It is pickled, so it must be a
            function of a module, or a bound method of an object that pickles.
        devices: one worker each. Workers on the CPU share its cores.
        token_budget: tokens per forward pass of one worker.

    The processes are started on first use, by spawning: a script that uses this keeps its own doings under
    `if __name__ == "__main__":`. They end with `close`, with the interpreter, or when it is killed.
    """

    def __init__(self, load: Load, devices: Sequence[str], token_budget: int) -> None:
        self._load, self._devices, self.token_budget = load, list(devices), token_budget
        self._adapters: tuple[UserAdapter, ...] = ()
        self._pool: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()

    def run(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """See `Runner`.

        Raises:
            RuntimeError: a worker died, or could not load the model.
        """
        if not requests:
            return
        parts = _parts(requests, len(self._devices) * _PARTS)
        calls = [(part, [requests[i] for i in part]) for part in parts]
        with self._submitted(_run, calls) as futures:
            for future in as_completed(futures):
                futures.remove(future)  # and with it the result, once it has been handed on
                yield from future.result()

    def chunks(self, request: Request, spans: Sequence[Span], overlap: int | None) -> list[Encoding]:
        """See `Runner`. One worker reads the whole text."""
        with self._submitted(_chunks, [(request, spans, overlap)]) as (future,):
            return future.result()

    def close(self) -> None:
        """End the processes once the calls under way are done; the next call starts new ones."""
        with self._lock:
            self._end()

    def use(self, adapters: Sequence[UserAdapter]) -> None:
        """See `Runner`. Workers load adapters when they start, so the next call starts new ones."""
        if tuple(adapters) == self._adapters:
            return
        self._adapters = tuple(adapters)  # first: a call that comes in between may start processes
        self.close()

    @contextmanager
    def _submitted(
        self, function: Callable[..., _Result], calls: Sequence[tuple[Any, ...]]
    ) -> Iterator[set[Future[_Result]]]:
        """The calls' futures; what has not begun on leaving is cancelled, less what was taken out of the set."""
        pool: ProcessPoolExecutor | None = None
        futures: set[Future[_Result]] = set()
        try:
            with self._lock:  # over both: a pool that is closed in between would take no calls
                pool = self._pool = self._pool or self._started()
                futures |= {pool.submit(function, *call) for call in calls}
            yield futures
        except BrokenProcessPool as error:
            with self._lock:
                if self._pool is pool:  # and no other caller has replaced it
                    self._end()
            raise RuntimeError(
                "A worker process ended: it could not load the model (its message is above), ran out of memory, or "
                "this script lacks `if __name__ == '__main__':` around what it does."
            ) from error
        finally:
            for future in futures:
                future.cancel()

    def _end(self) -> None:
        """End the processes; the caller holds the lock, so that no new process shares a device with an old one.

        The processes finish their current calls even if nobody reads the results, so this cannot deadlock.
        """
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()  # to cancel futures here would not wake who waits for them

    def _started(self) -> ProcessPoolExecutor:
        context = get_context("spawn")
        devices: Any = context.SimpleQueue()  # typed only in newer stubs
        for device in self._devices:
            devices.put(device)
        on_cpu = sum(torch.device(device).type == "cpu" for device in self._devices)
        threads = max(1, (os.cpu_count() or 1) // on_cpu) if on_cpu else None
        return ProcessPoolExecutor(
            len(self._devices),
            context,
            initializer=_start,
            initargs=(partial(self._load, adapters=self._adapters), devices, threads),
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
    threading.Thread(target=_end_with_parent, daemon=True).start()
    name = devices.get()
    device = torch.device(name)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # else what asks for no device in particular lands on the first
    if threads is not None and device.type == "cpu":
        torch.set_num_threads(threads)
    _engine = load(name)


def _end_with_parent() -> None:
    """A parent that is killed cannot say so, and its workers would wait for its next call."""
    parent = parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)


def _run(part: Sequence[int], requests: Sequence[Request]) -> list[tuple[int, Outcome]]:
    assert _engine is not None, "workers start with an engine"
    return [(part[place], outcome) for place, outcome in _engine.run(requests)]


def _chunks(request: Request, spans: Sequence[Span], overlap: int | None) -> list[Encoding]:
    assert _engine is not None, "workers start with an engine"
    return _engine.chunks(request, spans, overlap)
